"""The write-ahead log, attacked by name and by model."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector import segments
from collector.segments import (
    BufferFull,
    BufferUnusable,
    Entry,
    Record,
    Segment,
    SegmentLog,
    examine,
    read_index,
    varint,
)

Build = Callable[..., bytes]


def open_log(directory: Path, **overrides: Any) -> SegmentLog:
    limits: dict[str, Any] = {
        "disk_budget_bytes": 10**9,
        "segment_bytes": 10**9,
        "segment_age_seconds": 10**6,
        "segment_records": 10**6,
    }
    return SegmentLog(directory, **(limits | overrides))


def request(name: str, spans: int = 1) -> bytes:
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for _ in range(spans):
        scope.spans.add(name=name)
    return message.SerializeToString()


def put(log: SegmentLog, *names: str, spans: int = 1) -> None:
    records = [Record(request(name, spans), spans) for name in names]
    for record in records:
        log.reserve(len(record.payload))
    log.write("traces", records)


def names_in(data: bytes) -> list[str]:
    names = []
    entries = examine("traces", data, (), may_be_torn=False)
    assert not entries.damaged
    for entry in entries.kept:
        payload = data[entry.offset + len(varint(entry.end - entry.offset - 1)) : entry.end]
        message = ExportTraceServiceRequest.FromString(payload)
        names.append(message.resource_spans[0].scope_spans[0].spans[0].name)
    return names


def stored(log: SegmentLog) -> list[str]:
    return [name for segment in log.sealed() for name in names_in(segment.path.read_bytes())]


def crash(log: SegmentLog) -> None:
    """What a killed process leaves: files as they are, the lock free, nothing sealed."""
    log.close()


def only(directory: Path, pattern: str) -> Path:
    [path] = directory.glob(pattern)
    return path


# --- the format ---------------------------------------------------------------------------------------------------


def test_a_sealed_segment_is_length_delimited_requests(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    put(log, "a", "b" * 200)
    log.seal_all()
    [segment] = log.sealed()
    first, second = request("a"), request("b" * 200)
    assert segment.path.read_bytes() == varint(len(first)) + first + varint(len(second)) + second
    assert (segment.signal, segment.count, segment.size) == ("traces", 2, segment.path.stat().st_size)
    entries, whole = read_index(segment.index)
    assert whole
    assert [entry.count for entry in entries] == [1, 1]
    log.close()


@pytest.mark.parametrize(
    ("limit", "puts"),
    [({"segment_bytes": 1}, 1), ({"segment_records": 2}, 2), ({"segment_age_seconds": 0.0}, 1)],
    ids=["size", "records", "age"],
)
def test_segments_are_sealed_when_due(tmp_path: Path, limit: dict[str, Any], puts: int) -> None:
    log = open_log(tmp_path, **limit)
    for number in range(puts):
        log.seal_due(time.monotonic())
        assert log.sealed() == ()
        put(log, str(number))
    log.seal_due(time.monotonic())
    assert stored(log) == [str(number) for number in range(puts)]
    log.close()


def test_while_segments_wait_for_the_store_the_next_ones_grow_older_and_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(segments.time, "monotonic", lambda: now)
    log = open_log(tmp_path, segment_age_seconds=1.0)
    while now < 600:
        put(log, "x")
        log.seal_due(now)
        now += 0.5
    assert 10 < len(log.sealed()) < 60, "one a second would be 600"
    put(log, "last")
    waiting = log.next_deadline()
    assert waiting is not None
    for segment in log.sealed():
        log.delete(segment)
    due = log.next_deadline()
    assert due is not None
    assert due < waiting, "once the store has caught up, the old age counts"
    log.close()


def test_signals_have_segments_of_their_own(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    put(log, "a")
    log.write("logs", [Record(b"\x0a\x00", 0)])
    log.seal_all()
    assert sorted(segment.signal for segment in log.sealed()) == ["logs", "traces"]
    log.close()


def test_ids_sort_by_age_and_never_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments.time, "time_ns", lambda: 1_700_000_000_000_000_000)
    ids: list[str] = []
    for _ in range(2):
        log = open_log(tmp_path)
        for _ in range(5):
            put(log, "a")
            log.seal_all()
        ids += [segment.id for segment in log.sealed() if segment.id not in ids]
        log.close()
    assert len(set(ids)) == 10
    assert ids[:5] == sorted(ids[:5])


def test_deleting_frees_disk_and_leaves_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    before = log.used_bytes
    put(log, "a", "b")
    log.seal_all()
    on_disk = sum(path.stat().st_size for path in tmp_path.glob("*.traces.*"))
    assert log.used_bytes - before == on_disk
    [segment] = log.sealed()
    assert log.delete(segment)
    assert log.used_bytes == before
    assert not list(tmp_path.glob("*.traces.*"))
    assert log.sealed() == ()
    log.close()


def test_nothing_is_deleted_once_the_log_is_closed(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    put(log, "a")
    log.seal_all()
    [segment] = log.sealed()
    log.close()
    assert not log.delete(segment)
    assert segment.path.exists()


# --- recovery -----------------------------------------------------------------------------------------------------


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A directory whose process died with records a, b and c, 3 spans each, in an open segment."""
    log = open_log(tmp_path)
    for name in "abc":
        put(log, name, spans=3)
    crash(log)
    return tmp_path


def reopened(directory: Path) -> tuple[SegmentLog, list[str]]:
    log = open_log(directory)
    return log, stored(log)


def quarantined(directory: Path) -> list[tuple[bytes, dict[str, Any]]]:
    return [
        (path.read_bytes(), json.loads(path.with_suffix(".json").read_text()))
        for path in sorted((directory / "quarantine").glob("*.pb"))
    ]


def test_an_open_segment_is_sealed_on_start(crashed: Path) -> None:
    log, names = reopened(crashed)
    assert names == ["a", "b", "c"]
    assert log.recovery.kept["traces"] == 9
    assert log.recovery.torn_bytes == 0
    assert not list(crashed.glob("*.open"))
    log.close()


@pytest.mark.parametrize("missing", [1, 5, 15])
def test_a_torn_tail_is_cut_and_counted(crashed: Path, missing: int) -> None:
    data = only(crashed, "*.open")
    size = data.stat().st_size
    record = size // 3
    os.truncate(data, size - missing)
    log, names = reopened(crashed)
    assert names == ["a", "b"]
    assert log.recovery.torn_bytes == record - missing
    assert log.recovery.kept["traces"] == 6
    assert quarantined(crashed) == []
    log.close()


def test_a_torn_tail_the_index_never_heard_of_is_cut(crashed: Path) -> None:
    with only(crashed, "*.open").open("ab") as file:
        file.write(varint(500) + request("d")[:4])
    log, names = reopened(crashed)
    assert names == ["a", "b", "c"]
    assert log.recovery.torn_bytes == 6
    log.close()


def test_blocks_that_were_never_filled_are_cut(crashed: Path) -> None:
    with only(crashed, "*.open").open("ab") as file:
        file.write(bytes(4096))
    log, names = reopened(crashed)
    assert names == ["a", "b", "c"]
    assert log.recovery.torn_bytes == 4096
    log.close()


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("state", ["open", "sealed"])
@pytest.mark.parametrize("record", [0, 1, 2])
@pytest.mark.parametrize("byte", ["header", "payload"])
def test_a_flipped_bit_costs_one_record_which_is_kept_aside(crashed: Path, state: str, record: int, byte: str) -> None:
    if state == "sealed":
        open_log(crashed).close()
    data = only(crashed, "*.pb" if state == "sealed" else "*.open")
    size = data.stat().st_size // 3
    flip(data, record * size + (0 if byte == "header" else size // 2))
    damaged = data.read_bytes()[record * size : (record + 1) * size]
    log, names = reopened(crashed)
    assert names == [name for number, name in enumerate("abc") if number != record]
    assert log.recovery.kept["traces"] == 6
    assert log.recovery.quarantined["traces"] == 3
    assert log.recovery.damaged_records == 1
    [(kept, note)] = quarantined(crashed)
    assert kept == damaged
    assert note["items"] == 3
    assert "checksum" in note["reason"]
    log.close()
    again, names = reopened(crashed)
    assert len(names) == 2
    assert again.recovery.damaged_records == 0
    again.close()


def test_a_missing_index_loses_nothing(crashed: Path) -> None:
    only(crashed, "*.index").unlink()
    log, names = reopened(crashed)
    assert names == ["a", "b", "c"]
    assert log.recovery.kept["traces"] == 9
    assert len(read_index(only(crashed, "*.index"))[0]) == 3
    log.close()


@pytest.mark.parametrize("left", [0, 1, 27, 28, 30, 56, 83])
def test_a_truncated_index_loses_nothing(crashed: Path, left: int) -> None:
    os.truncate(only(crashed, "*.index"), left)
    log, names = reopened(crashed)
    assert names == ["a", "b", "c"]
    assert log.recovery.kept["traces"] == 9
    log.close()


@pytest.mark.parametrize("position", range(0, 84, 6))
def test_a_flipped_bit_in_the_index_loses_nothing(crashed: Path, position: int) -> None:
    flip(only(crashed, "*.index"), position)
    log, names = reopened(crashed)
    assert names == ["a", "b", "c"]
    assert quarantined(crashed) == []
    log.close()


def test_without_an_index_a_broken_tail_is_kept_aside_because_it_may_be_acknowledged(crashed: Path) -> None:
    only(crashed, "*.index").unlink()
    data = only(crashed, "*.open")
    size = data.stat().st_size // 3
    flip(data, size)  # the length of b
    rest = data.read_bytes()[size:]
    log, names = reopened(crashed)
    assert names == ["a"]
    assert b"".join(kept for kept, _ in quarantined(crashed)) == rest
    log.close()


def test_a_truncated_sealed_segment_is_damage_not_a_torn_write(crashed: Path) -> None:
    open_log(crashed).close()
    data = only(crashed, "*.pb")
    os.truncate(data, data.stat().st_size - 2)
    log, names = reopened(crashed)
    assert names == ["a", "b"]
    assert log.recovery.torn_bytes == 0
    assert len(quarantined(crashed)) == 1
    log.close()


def test_a_segment_of_noise_goes_to_quarantine_whole(crashed: Path) -> None:
    data = only(crashed, "*.open")
    noise = b"\xff" * data.stat().st_size
    data.write_bytes(noise)
    log, names = reopened(crashed)
    assert names == []
    assert b"".join(kept for kept, _ in quarantined(crashed)) == noise
    assert not list(crashed.glob("*.traces.*"))
    log.close()


def test_an_empty_open_segment_disappears(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    put(log, "a")
    crash(log)
    for path in tmp_path.glob("*.traces.*"):
        os.truncate(path, 0)
    log, names = reopened(tmp_path)
    assert names == []
    assert not list(tmp_path.glob("*.traces.*"))
    log.close()


def test_a_segment_under_another_name_is_taken_too(tmp_path: Path) -> None:
    """Somebody brought it from elsewhere."""
    body = request("brought")
    (tmp_path / "copy of one.traces.pb").write_bytes(varint(len(body)) + body)
    log = open_log(tmp_path)
    assert log.oldest_seconds() == 0.0
    put(log, "own")
    log.seal_all()
    assert stored(log) == ["brought", "own"]
    assert log.oldest_seconds() > 0.0
    log.close()


def test_half_written_replacements_and_orphans_are_removed_and_strangers_left_alone(tmp_path: Path) -> None:
    for name in ("0a.traces.pb.tmp", "0a.traces.index", "0a.traces.split"):
        (tmp_path / name).write_bytes(b"x")
    stranger = tmp_path / "notes.txt"
    stranger.write_text("mine")
    log, names = reopened(tmp_path)
    assert names == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "notes.txt", "quarantine"]
    log.close()


@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=6),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4),
    listed=st.sampled_from(["all", "some", "none"]),
)
def test_no_byte_vanishes_and_no_sound_record_is_lost(
    sizes: list[int], flips: list[tuple[float, int]], listed: str
) -> None:
    data, entries = bytearray(), []
    for number, size in enumerate(sizes):
        payload = request(f"{number}" + "x" * size)
        framed = varint(len(payload)) + payload
        entries.append(Entry(len(data), len(data) + len(framed), 1, zlib.crc32(framed)))
        data += framed
    touched = set()
    for place, mask in flips:
        position = int(place * len(data))
        data[position] ^= mask
        touched |= {number for number, entry in enumerate(entries) if entry.offset <= position < entry.end}
    known = {"all": entries, "some": entries[::2], "none": []}[listed]
    found = examine("traces", bytes(data), known, may_be_torn=False)
    pieces = sorted([(entry.offset, entry.end) for entry in found.kept] + [(d.offset, d.end) for d in found.damaged])
    assert [start for start, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == len(data)
    assert found.torn == 0
    if listed == "all":
        sound = [e for e in entries if zlib.crc32(data[e.offset : e.end]) == e.crc]
        assert list(found.kept) == sound
        assert {number for number, entry in enumerate(entries) if entry not in sound} <= touched


# --- the directory ------------------------------------------------------------------------------------------------


def test_two_processes_cannot_share_a_directory(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    with pytest.raises(BufferUnusable, match=rf"is in use by process {os.getpid()}; stop it or give"):
        open_log(tmp_path)
    other = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from collector.segments import SegmentLog\n"
            "SegmentLog(Path(sys.argv[1]), disk_budget_bytes=1, segment_bytes=1, segment_age_seconds=1, segment_records=1)",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is in use by process" in other.stderr
    log.close()
    open_log(tmp_path).close()


def test_an_unusable_directory_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        BufferUnusable, match=r"`buffer_dir` .*file cannot be used: .*; make it writable or choose another"
    ):
        open_log(tmp_path / "file")


# --- disks that refuse --------------------------------------------------------------------------------------------


def test_the_disk_budget_holds_and_frees(tmp_path: Path) -> None:
    log = open_log(tmp_path, disk_budget_bytes=2_000)
    payload = request("x" * 500)
    for _ in range(3):
        log.reserve(len(payload))
        log.write("traces", [Record(payload, 1)])
    with pytest.raises(BufferFull, match=r"may hold 2000 \(`disk_budget_bytes`\)"):
        log.reserve(len(payload))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2_000
    log.seal_all()
    log.delete(log.sealed()[0])
    log.reserve(len(payload))
    log.close()


def test_clearing_the_quarantine_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path, disk_budget_bytes=2_000)
    log.quarantine("0a", "traces", "0", bytes(1_900), count=1, reason="test")
    with pytest.raises(BufferFull, match="as quarantine is cleared"):
        log.reserve(500)
    for path in (tmp_path / "quarantine").iterdir():
        path.unlink()
    monkeypatch.setattr(segments, "_RECOUNT_SECONDS", 0.0)
    log.reserve(500)
    log.close()


def test_the_budget_counts_what_was_found_at_start(crashed: Path) -> None:
    with pytest.raises(BufferFull):
        open_log_and_reserve(crashed, budget=100)


def open_log_and_reserve(directory: Path, budget: int) -> None:
    log = open_log(directory, disk_budget_bytes=budget)
    try:
        log.reserve(10)
    finally:
        log.close()


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """The kernel itself cuts writes short: no file may grow past `free` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("free", range(200, 1000, 90))
def test_what_a_full_disk_let_through_is_taken_back(tmp_path: Path, free: int) -> None:
    log = open_log(tmp_path)
    put(log, "before")
    data = only(tmp_path, "*.open")
    committed = data.read_bytes()
    with full_disk(free), pytest.raises(OSError, match=r"File too large"):
        put(log, "x" * 500, "y" * 500)
    assert data.read_bytes() == committed
    put(log, "after")
    log.seal_all()
    assert stored(log) == ["before", "after"]
    log.close()


@pytest.mark.parametrize("call", ["writev", "fdatasync"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failed_write_is_taken_back_even_if_taking_back_fails_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    log = open_log(tmp_path)
    put(log, "before")

    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as broken:
        broken.setattr(segments.os, call, refuse)
        broken.setattr(segments.os, "ftruncate", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match=os.strerror(error)):
                put(log, "lost")
        with pytest.raises(OSError, match=os.strerror(error)):
            log.seal_all()
    put(log, "after")
    log.seal_all()
    assert stored(log) == ["before", "after"]
    log.close()


def test_a_disk_full_at_recovery_does_not_let_damage_pass(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    put(log, "x" * 2000, "b", "y" * 2000)
    crash(log)
    data = only(tmp_path, "*.open")
    flip(data, data.read_bytes().index(b"b"))
    with full_disk(1500), pytest.raises(BufferUnusable, match="File too large"):
        open_log(tmp_path)
    log, names = reopened(tmp_path)
    assert names == ["x" * 2000, "y" * 2000]
    assert len(quarantined(tmp_path)) == 1
    log.close()


def test_a_segment_that_cannot_be_created_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)

    def refuse(directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(segments, "sync_directory", refuse)
        with pytest.raises(OSError, match="No space"):
            put(log, "a")
    assert not list(tmp_path.glob("*.traces.*"))
    put(log, "b")
    log.seal_all()
    assert stored(log) == ["b"]
    log.close()


@pytest.mark.parametrize("step", ["rename", "sync_directory"])
def test_sealing_that_fails_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    log = open_log(tmp_path)
    put(log, "a")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(segments.os if step == "rename" else segments, step, refuse)
        with suppress(OSError):
            log.seal_all()
    put(log, "b")
    log.seal_all()
    assert stored(log) == ["a", "b"]
    log.close()


# --- the model ----------------------------------------------------------------------------------------------------


class Log(RuleBasedStateMachine):
    """A list of acknowledged names against the real files, through crashes, torn writes and deletions."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.buffered: list[str] = []
        self.number = 0

    @initialize()
    def start(self) -> None:
        self.log = open_log(self.directory)

    def teardown(self) -> None:
        self.log.close()
        shutil.rmtree(self.directory)

    @rule(count=st.integers(1, 4), size=st.sampled_from([0, 100, 200_000]))
    def append(self, count: int, size: int) -> None:
        names = [f"{self.number + i}." + "x" * size for i in range(count)]
        self.number += count
        put(self.log, *names)
        self.buffered += names

    @rule(count=st.integers(1, 3), free=st.integers(0, 300))
    def append_to_a_full_disk(self, count: int, free: int) -> None:
        biggest = max((path.stat().st_size for path in self.directory.glob("*.open")), default=0)
        with full_disk(biggest + free), pytest.raises(OSError, match="File too large"):
            put(self.log, *["lost" + "x" * 400] * count)

    @rule()
    def seal(self) -> None:
        self.log.seal_all()

    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        sealed = self.log.sealed()
        if not sealed:
            return
        segment: Segment = data.draw(st.sampled_from(sealed))
        for name in names_in(segment.path.read_bytes()):
            self.buffered.remove(name)
        assert self.log.delete(segment)

    @rule(torn=st.binary(max_size=8), index=st.sampled_from(["kept", "cut", "gone"]))
    def crash_and_start(self, torn: bytes, index: str) -> None:
        crash(self.log)
        for path in self.directory.glob("*.open"):
            if index == "kept":
                with path.open("ab") as file:
                    file.write(varint(1000) + torn)
            elif index == "cut":
                os.truncate(path.with_suffix(".index"), path.with_suffix(".index").stat().st_size // 2)
            else:
                path.with_suffix(".index").unlink()
        self.log = open_log(self.directory)
        assert sorted(stored(self.log)) == sorted(self.buffered)

    @invariant()
    def the_books_of_the_disk_are_right(self) -> None:
        if hasattr(self, "log"):
            files = [path for path in self.directory.rglob("*") if path.is_file() and path.name != "lock"]
            assert abs(self.log.used_bytes - sum(path.stat().st_size for path in files)) <= 20

    @invariant()
    def nothing_was_set_aside(self) -> None:
        assert not list(self.directory.glob("quarantine/*"))


TestLog = Log.TestCase
TestLog.settings = settings(max_examples=30, stateful_step_count=20)
