"""Loading: each record once, whatever the store says and whenever the process dies."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import loader as loader_module
from collector.ledger import Ledger
from collector.loader import Loader
from collector.segments import Record, SegmentLog
from store import OutOfMemory, Permanent, Retryable
from store.client import Dsn, connect


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(loader_module, "_LAST_DELAY_SECONDS", 0.01)


class Books:
    """A log, its loader and its ledger on one directory."""

    def __init__(self, directory: Path) -> None:
        self.sealed = threading.Event()
        self.log = SegmentLog(
            directory,
            disk_budget_bytes=10**9,
            segment_bytes=10**9,
            segment_age_seconds=10**6,
            segment_records=10**6,
            on_sealed=self.sealed.set,
        )
        self.ledger = Ledger()
        self.ledger.recovered("traces", self.log.recovery.kept["traces"])

    def add(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.ledger.received("traces", len(payload))
            self.log.reserve(len(payload))
        self.log.write("traces", [Record(payload, len(payload)) for payload in payloads])
        self.log.seal_all()

    def load_all(self, sink: Any, patience: float = 5.0) -> None:
        loader = Loader(self.log, sink, self.ledger, self.sealed)
        loader.start()
        loader.stop(time.monotonic() + patience)

    @property
    def counts(self) -> Any:
        return self.ledger.snapshot(0).signals["traces"]


@contextmanager
def opened(directory: Path) -> Iterator[Books]:
    books = Books(directory)
    try:
        yield books
    finally:
        books.log.close()


def test_segments_are_loaded_oldest_first_and_deleted(tmp_path: Path, sink: Any) -> None:
    with opened(tmp_path) as books:
        for payload in (b"\x0a\x00", b"\x12\x00", b"\x1a\x00"):
            books.add(payload)
        ids = [segment.id for segment in books.log.sealed()]
        books.load_all(sink)
        assert sink.calls == ids
        assert sink.records() == [b"\x0a\x00", b"\x12\x00", b"\x1a\x00"]
        assert books.counts.stored == 6
        assert not list(tmp_path.glob("*.traces.*"))


def test_a_segment_survives_until_load_has_returned(tmp_path: Path, sink: Any) -> None:
    seen: list[bool] = []
    sink.refuse = lambda segment_id, records: seen.append((tmp_path / f"{segment_id}.traces.pb").exists())
    with opened(tmp_path) as books:
        books.add(b"\x0a\x00")
        books.load_all(sink)
    assert seen == [True]


@pytest.mark.parametrize("error", [Retryable("down"), OSError("reset"), RuntimeError("odd")], ids=repr)
def test_a_store_that_is_down_delays_and_loses_nothing(tmp_path: Path, sink: Any, error: Exception) -> None:
    failures = iter([error] * 3)

    def refuse(segment_id: str, records: list[bytes]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    sink.refuse = refuse
    with opened(tmp_path) as books:
        books.add(b"\x0a\x00")
        books.load_all(sink)
        assert sink.records() == [b"\x0a\x00"]
        assert len(set(sink.calls)) == 1
        assert books.ledger.load_retries == 3
        assert books.ledger.last_load_error == ""


def test_one_segment_that_cannot_be_loaded_does_not_hold_up_the_rest(tmp_path: Path, sink: Any) -> None:
    with opened(tmp_path) as books:
        for number in range(4):
            books.add(bytes([0x0A, number]))
        stuck = books.log.sealed()[1].id

        def refuse(segment_id: str, records: list[bytes]) -> None:
            if segment_id == stuck:
                raise Retryable("not this one")

        sink.refuse = refuse
        books.load_all(sink, patience=0.5)
        assert len(sink.loaded) == 3
        assert [segment.id for segment in books.log.sealed()] == [stuck]
        assert books.ledger.last_load_error == "Retryable: not this one"


def refuse_poison(segment_id: str, records: list[bytes]) -> None:
    if any(record.startswith(b"poison") for record in records):
        raise Permanent("cannot parse poison")


@given(poison=st.sets(st.integers(0, 11)), count=st.integers(1, 12))
@settings(max_examples=15)
def test_poison_is_set_aside_and_the_rest_is_stored(
    tmp_path_factory: pytest.TempPathFactory, make_sink: Any, poison: set[int], count: int
) -> None:
    directory = tmp_path_factory.mktemp("poison")
    sink = make_sink()
    sink.refuse = refuse_poison
    payloads = [b"%s %d" % (b"poison" if number in poison else b"sound", number) for number in range(count)]
    bad = [payload for payload in payloads if payload.startswith(b"poison")]
    with opened(directory) as books:
        books.add(*payloads)
        [segment] = books.log.sealed()
        books.load_all(sink)
        assert sorted(sink.records()) == sorted(set(payloads) - set(bad))
        notes = [json.loads(path.read_text()) for path in directory.glob("quarantine/*.json")]
        assert sorted(note["part"] for note in notes) == sorted(str(payloads.index(payload)) for payload in bad)
        for note in notes:
            assert note["segment"] == segment.id
            assert note["reason"] == "cannot parse poison"
            assert note["items"] == len(payloads[int(note["part"])])
        assert books.counts.quarantined == sum(map(len, bad))
        assert books.counts.stored == sum(map(len, payloads)) - books.counts.quarantined
        assert books.counts.buffered == 0
        assert not list(directory.glob("*.traces.*"))
        files = [path for path in directory.rglob("*") if path.is_file()]
        assert books.log.used_bytes <= sum(path.stat().st_size for path in files)


def test_a_store_short_of_memory_gets_less_at_a_time_until_the_one_request_that_is_too_much_is_set_aside(
    tmp_path: Path, make_sink: Any
) -> None:
    """Records of a byte each but one of 50, into a store with room for 20."""

    def refuse(segment_id: str, records: list[bytes]) -> None:
        if sum(map(len, records)) > 20:
            raise OutOfMemory("would use 21")

    sink = make_sink()
    sink.refuse = refuse
    with opened(tmp_path) as books:
        books.add(*[b"%c" % number for number in range(65, 95)], b"x" * 50, b"y")
        books.load_all(sink)
        assert sorted(sink.records()) == [*(b"%c" % number for number in range(65, 95)), b"y"]
        assert (books.counts.stored, books.counts.quarantined, books.counts.buffered) == (31, 50, 0)
        assert len(set(sink.calls)) < 16, "halves, not one by one"
        [note] = [json.loads(path.read_text()) for path in tmp_path.glob("quarantine/*.json")]
        assert note["reason"] == "would use 21"


def test_a_store_short_of_memory_for_a_moment_splits_nothing(tmp_path: Path, sink: Any) -> None:
    failures = iter([OutOfMemory("busy")] * (loader_module._TRIES - 1))

    def refuse(segment_id: str, records: list[bytes]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    sink.refuse = refuse
    with opened(tmp_path) as books:
        books.add(b"one", b"two")
        [segment] = books.log.sealed()
        books.load_all(sink)
        assert set(sink.calls) == {segment.id}
        assert books.counts.stored == 6


def test_a_request_too_large_for_the_engines_memory_is_set_aside_and_blocks_nothing(
    tmp_path: Path, engine_path: Path, trace_request: Any
) -> None:
    """The real engine with 24 MiB for an insert: a request of many wide spans needs more, its neighbours do not."""
    with connect(Dsn(embedded=True, path=str(engine_path), database="memory")) as store:
        store.apply_schema()

        class Small:
            def load(self, signal: Any, segment_id: str, path: Path, /) -> None:
                store._client().set_client_setting("max_memory_usage", 24 << 20)
                store.load(signal, segment_id, path)

        with opened(tmp_path) as books:
            books.add(trace_request("a"), trace_request(*["huge"] * 400, padding=40_000), trace_request("b"))
            books.add(trace_request("c"))
            books.load_all(Small(), patience=30)
            assert books.counts.buffered == 0
            [note] = [json.loads(path.read_text()) for path in tmp_path.glob("quarantine/*.json")]
        assert "MEMORY_LIMIT_EXCEEDED" in note["reason"]
        assert note["part"] == "1"
        names = store.query("SELECT SpanName FROM otel_traces ORDER BY SpanName")
        assert [row["SpanName"] for row in names] == ["a", "b", "c"]


def test_a_segment_full_of_poison_lets_the_others_pass(
    tmp_path: Path, make_sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "_SLICE_SECONDS", 0.0)
    sink = make_sink()
    sink.refuse = refuse_poison
    with opened(tmp_path) as books:
        books.add(*[b"poison %d" % number for number in range(16)])
        poisoned = books.log.sealed()[0].id
        for number in range(3):
            books.add(b"sound %d" % number)
        books.load_all(sink)
        assert books.counts.buffered == 0
        last_poison = max(at for at, call in enumerate(sink.calls) if call.startswith(poisoned))
        assert all(sink.calls.index(name) < last_poison for name in sink.loaded)
        assert len(sink.calls) == len(set(sink.calls)), "what was answered is not asked again"


class Killed(BaseException):
    """Stands for SIGKILL at an exact place."""


class Dying:
    """A sink whose process dies at its nth call, before or after the store has done its work."""

    def __init__(self, sink: Any, moment: int, when: str) -> None:
        self.sink, self.left, self.when = sink, moment, when

    def load(self, signal: Any, segment_id: str, path: Path, /) -> None:
        self.left -= 1
        if self.left == -1 and self.when == "before":
            raise Killed
        self.sink.load(signal, segment_id, path)
        if self.left == -1:
            raise Killed


@pytest.mark.parametrize("poison", [0, 5])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_moment_of_a_split_doubles_nothing(
    tmp_path: Path, make_sink: Any, poison: int, when: str
) -> None:
    """Die before or after each call to the store, then start again with a store that has learnt to take poison."""
    payloads = [b"%s %d" % (b"poison" if number == poison else b"sound", number) for number in range(8)]
    for moment in range(40):
        directory = tmp_path / str(moment)
        directory.mkdir()
        sink = make_sink()
        sink.refuse = refuse_poison
        dying = Dying(sink, moment, when)
        with opened(directory) as books:
            books.add(*payloads)
            [segment] = books.log.sealed()
            loader = Loader(books.log, dying, books.ledger, books.sealed)
            try:
                loader._load(segment)
            except Killed:
                died = True
            else:
                died = False
        sink.refuse = lambda segment_id, records: None
        with opened(directory) as books:
            assert books.counts.recovered == (sum(map(len, payloads)) if died else 0)
            books.load_all(sink)
            assert books.counts.buffered == 0
        kept = [path.read_bytes()[1:] for path in directory.glob("quarantine/*.pb")]
        everything = sink.records() + [record for record in kept if record not in sink.records()]
        assert sorted(everything) == sorted(payloads)
        if not died:
            return
    pytest.fail("the split never finished")


def test_after_a_crash_in_a_split_a_damaged_record_is_found_by_its_checksum(tmp_path: Path, sink: Any) -> None:
    payloads = [b"sound 0", b"poison 1", b"sound 2", b"sound 3"]
    sink.refuse = refuse_poison
    with opened(tmp_path) as books:
        books.add(*payloads)
        [segment] = books.log.sealed()
        loader_module._append_journal(segment.split, 0, 4, "cannot parse poison")
    data = bytearray(segment.path.read_bytes())
    data[data.index(b"sound 3")] ^= 1
    segment.path.write_bytes(data)
    with opened(tmp_path) as books:
        books.load_all(sink)
        assert sorted(sink.records()) == [b"sound 0", b"sound 2"]
        assert books.counts.quarantined == len(b"poison 1") + len(b"sound 3")
    reasons = {json.loads(path.read_text())["reason"] for path in tmp_path.glob("quarantine/*.json")}
    assert reasons == {"cannot parse poison", "the checksum does not match"}


def test_a_split_begun_by_0_1_goes_on(tmp_path: Path, sink: Any) -> None:
    """A store that takes the whole now would have what is stored of it twice."""
    with opened(tmp_path) as books:
        books.add(b"one", b"two")
        [segment] = books.log.sealed()
        segment.split.write_text('\n[0, 2, "no"]\n[1, 2, "never"]\n[0, 1, "torn')
    with opened(tmp_path) as books:
        books.load_all(sink)
        assert books.counts.quarantined == len(b"two")
    assert sink.calls == [f"{segment.id}:0"]


def test_a_split_without_its_index_is_set_aside_whole(tmp_path: Path, sink: Any) -> None:
    with opened(tmp_path) as books:
        books.add(b"one", b"two")
        [segment] = books.log.sealed()
        loader_module._append_journal(segment.split, 0, 2, "no")
        size = segment.path.stat().st_size
    os.truncate(segment.index, 28)
    with opened(tmp_path) as books:
        assert books.log.sealed() == ()
        assert books.log.recovery.damaged_records == 1
    [path] = tmp_path.glob("quarantine/*.pb")
    assert path.stat().st_size == size
    assert not list(tmp_path.glob("*.traces.*"))


def test_a_load_that_never_returns_does_not_hold_up_stopping(tmp_path: Path, sink: Any) -> None:
    release = threading.Event()
    sink.refuse = lambda segment_id, records: (release.wait(10), None)[1]
    with opened(tmp_path) as books:
        books.add(b"\x0a\x00")
        before = time.monotonic()
        books.load_all(sink, patience=0.2)
        assert time.monotonic() - before < 2
        books.log.close()
        release.set()
        time.sleep(0.1)
        assert list(tmp_path.glob("*.pb"))
        assert books.counts.stored == 0


def test_delays_grow_and_end() -> None:
    delays: Callable[[int], float] = loader_module._delay
    assert all(0 < delays(failures) <= 0.01 for failures in (1, 2, 5, 50, 10**6))
