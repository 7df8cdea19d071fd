"""What is set aside: shown, driven into the store again once, dropped; beside a running collector and hostile hands."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector import loader as loader_module
from collector.ledger import Ledger
from collector.loader import Loader
from collector.quarantine import Quarantine, UnknownPiece
from collector.segments import Record, SegmentLog, varint
from store import OutOfMemory, Permanent, Retryable
from store.client import Dsn, connect

ID = "18c0ffee00000000deadbeefdeadbeef-3"
Keep = Callable[..., None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_ASKED_SECONDS", 0.01)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    log = SegmentLog(
        tmp_path, disk_budget_bytes=10**9, segment_bytes=10**9, segment_age_seconds=10**6, segment_records=10**6
    )
    yield log
    log.close()


@pytest.fixture
def kept(log: SegmentLog) -> Quarantine:
    return Quarantine(log.directory)


def framed(payload: bytes) -> bytes:
    return varint(len(payload)) + payload


@pytest.fixture
def keep(log: SegmentLog) -> Keep:
    """Set bytes aside: `keep(data, part="3", signal="traces")`."""

    def put(data: bytes, part: str = "3", signal: Any = "traces", count: int | None = 1) -> None:
        log.quarantine(ID.partition("-")[0], signal, part, data, count=count, reason="refused once")

    return put


def test_what_is_set_aside_is_listed_with_its_facts(keep: Keep, kept: Quarantine, trace_request: Any) -> None:
    keep(framed(trace_request("a")))
    keep(b"\xff", part="damaged-17", count=None)
    first, second = kept.pieces()
    assert (first.id, second.id) == (ID, ID[:-1] + "damaged-17")
    assert first.facts() == {
        "id": ID,
        "signal": "traces",
        "segment": ID[:-2],
        "part": "3",
        "bytes": len(framed(trace_request("a"))),
        "items": 1,
        "quarantined_at": first.note and first.note.quarantined_at,
        "retried_at": None,
        "reason": "refused once",
    }
    assert second.facts()["items"] is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "?",
        ".",
        "..",
        "../lock",
        "../quarantine/" + ID,
        ID + "x",
        ID + ".traces",
        ID[:-1] + "*",
        "a-\0",
        "-" * 9,
    ],
)
def test_no_name_leads_anywhere_but_to_a_piece(keep: Keep, kept: Quarantine, name: str) -> None:
    keep(b"x")
    with pytest.raises(UnknownPiece, match="nothing is in quarantine under"):
        kept.piece(name)


def test_links_and_strangers_are_no_pieces(keep: Keep, kept: Quarantine, tmp_path: Path) -> None:
    keep(b"x")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    directory = tmp_path / "quarantine"
    (directory / "0a-0.traces.pb").symlink_to(secret)
    (directory / "0a-1.metrics.pb").write_bytes(b"x")
    (directory / "no name.traces.pb").write_bytes(b"x")
    (directory / "0a-2.traces.pb").mkdir()
    assert [piece.id for piece in kept.pieces()] == [ID]


@pytest.mark.parametrize(
    "note",
    [None, b"", b"{", b"[]", b'{"reason": "x"}', b"\xff\xfe", b"[" * 100_000, "link"],
    ids=["missing", "empty", "cut", "list", "incomplete", "not text", "deep", "link"],
)
def test_a_damaged_note_hides_nothing(
    keep: Keep, kept: Quarantine, tmp_path: Path, sink: Any, trace_request: Any, note: bytes | str | None
) -> None:
    keep(framed(trace_request("a")))
    path = tmp_path / "quarantine" / f"{ID}.traces.json"
    good = path.read_bytes()
    path.unlink()
    if note == "link":
        (tmp_path / "elsewhere").write_bytes(good)
        path.symlink_to(tmp_path / "elsewhere")
    elif isinstance(note, bytes):
        path.write_bytes(note)
    [piece] = kept.pieces()
    assert (piece.id, piece.signal, piece.reason) == (ID, "traces", "its note is missing or damaged")
    assert kept.retry(piece, sink).refusal is None
    assert sink.span_names() == ["a"]


def test_a_payload_is_shown_as_text_that_can_do_no_harm(keep: Keep, kept: Quarantine, trace_request: Any) -> None:
    keep(framed(trace_request("naïve\x1b[2J")) + b"\xff\x1b]0;x\x07")
    text = kept.text(kept.piece(ID))
    assert "naïve" in text
    assert r"\xff\x1b]0;x\x07" in text
    assert "\x1b" not in text


def test_a_retry_stores_it_and_leaves_nothing(
    keep: Keep, kept: Quarantine, sink: Any, trace_request: Any, tmp_path: Path
) -> None:
    keep(framed(trace_request("a", "b")))
    assert kept.retry(kept.piece(ID), sink).count == 2
    assert sink.span_names() == ["a", "b"]
    assert list((tmp_path / "quarantine").iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x05ab"], ids=["empty", "noise", "torn"])
def test_what_cannot_be_read_is_not_sent_and_stays(keep: Keep, kept: Quarantine, sink: Any, data: bytes) -> None:
    keep(data)
    assert kept.retry(kept.piece(ID), sink).refusal
    assert sink.calls == []
    assert kept.read(kept.piece(ID)) == data


def test_what_is_refused_again_stays_with_the_new_reason(
    keep: Keep, kept: Quarantine, sink: Any, trace_request: Any
) -> None:
    def refuse(segment_id: str, records: list[bytes]) -> None:
        raise Permanent("still no")

    sink.refuse = refuse
    keep(framed(trace_request("a")))
    assert kept.retry(kept.piece(ID), sink).refusal == "still no"
    piece = kept.piece(ID)
    assert piece.reason == "still no"
    assert piece.note is not None
    assert piece.note.retried_at
    assert piece.note.items == 1


def test_a_retry_cut_short_after_the_store_took_it_doubles_nothing(
    keep: Keep, kept: Quarantine, engine_path: Path, tmp_path: Path, trace_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(framed(trace_request("a")))
    with connect(Dsn(embedded=True, path=str(engine_path), database="quarantine")) as store:
        store.apply_schema()
        with monkeypatch.context() as killed:
            killed.setattr(Quarantine, "drop", lambda *_: (_ for _ in ()).throw(SystemExit))
            with pytest.raises(SystemExit):
                kept.retry(kept.piece(ID), store)
        assert kept.retry(kept.piece(ID), store).refusal is None
        assert store.query("SELECT count() AS n FROM otel_traces") == [{"n": 1}]
        keep(framed(trace_request("another payload under the same name")))
        kept.retry(kept.piece(ID), store)
        assert store.query("SELECT count() AS n FROM otel_traces") == [{"n": 2}]


def test_files_deleted_by_hand_are_no_accident(keep: Keep, kept: Quarantine, sink: Any, tmp_path: Path) -> None:
    keep(b"x")
    piece = kept.piece(ID)
    piece.path.unlink()
    for use in (kept.read, kept.text, lambda gone: kept.retry(gone, sink)):
        with pytest.raises(UnknownPiece, match="cannot be read any more"):
            use(piece)
    kept.drop(piece)
    kept.drop(piece)
    assert list((tmp_path / "quarantine").iterdir()) == []


def test_a_note_whose_piece_is_gone_is_swept_away_at_the_next_start(
    keep: Keep, log: SegmentLog, tmp_path: Path
) -> None:
    keep(b"x")
    log.close()
    [path] = (tmp_path / "quarantine").glob("*.pb")
    path.unlink()
    SegmentLog(tmp_path, disk_budget_bytes=1, segment_bytes=1, segment_age_seconds=1, segment_records=1).close()
    assert list((tmp_path / "quarantine").iterdir()) == []


# --- beside a running collector -----------------------------------------------------------------------------------


class Running:
    """A loader on the log, and its books."""

    def __init__(self, log: SegmentLog, sink: Any) -> None:
        self.ledger = Ledger()
        self.loader = Loader(log, sink, self.ledger, threading.Event())
        self.loader.start()

    def assert_books_balance(self) -> None:
        for c in self.ledger.snapshot(0).signals.values():
            assert c.received + c.recovered == c.stored + c.rejected + c.buffered + c.quarantined

    @property
    def counts(self) -> Any:
        return self.ledger.snapshot(0).signals["traces"]


@pytest.fixture
def running(log: SegmentLog, sink: Any) -> Iterator[Running]:
    running = Running(log, sink)
    yield running
    running.loader.stop(time.monotonic() + 5)


def test_a_running_collector_retries_what_it_is_asked_to_and_its_books_balance(
    running: Running, keep: Keep, kept: Quarantine, sink: Any, trace_request: Any
) -> None:
    def refuse(segment_id: str, records: list[bytes]) -> None:
        if any(b"bad" in record for record in records):
            raise Permanent("still bad")

    sink.refuse = refuse
    keep(framed(trace_request("good", "better")), part="1")
    keep(framed(trace_request("bad")), part="2")
    pieces = kept.pieces()
    for piece in pieces:
        kept.ask(piece)
    assert all(kept.wait_until_answered(piece.id, 20) for piece in pieces)
    assert [piece.reason for piece in kept.pieces()] == ["still bad"]
    assert sink.span_names() == ["good", "better"]
    running.assert_books_balance()
    assert (running.counts.recovered, running.counts.stored, running.counts.quarantined) == (3, 2, 1)


@pytest.mark.parametrize("error", [Retryable("away"), OutOfMemory("little"), OSError("reset")], ids=repr)
def test_a_store_that_is_away_is_asked_again_and_again(
    running: Running, keep: Keep, kept: Quarantine, sink: Any, trace_request: Any, error: Exception
) -> None:
    failures = iter([error] * 3)

    def refuse(segment_id: str, records: list[bytes]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    sink.refuse = refuse
    keep(framed(trace_request("a")))
    kept.ask(kept.piece(ID))
    assert kept.wait_until_answered(ID, 20)
    assert sink.span_names() == ["a"]
    assert kept.pieces() == []
    running.assert_books_balance()


def test_a_piece_the_store_never_has_memory_for_is_refused_in_the_end(
    running: Running, keep: Keep, kept: Quarantine, sink: Any, trace_request: Any
) -> None:
    def refuse(segment_id: str, records: list[bytes]) -> None:
        raise OutOfMemory("would use more")

    sink.refuse = refuse
    keep(framed(trace_request("a")))
    kept.ask(kept.piece(ID))
    assert kept.wait_until_answered(ID, 20)
    assert kept.piece(ID).reason == "would use more"


def test_odd_marks_are_cleared_and_stop_nobody(
    running: Running, keep: Keep, kept: Quarantine, sink: Any, trace_request: Any, tmp_path: Path
) -> None:
    (tmp_path / "retry").mkdir()
    (tmp_path / "retry" / "0-directory").mkdir()
    for name in ("*", "..x", "0a-0", "gone-1"):
        (tmp_path / "retry" / name).touch()
    keep(framed(trace_request("a")))
    kept.ask(kept.piece(ID))
    assert kept.wait_until_answered(ID, 20)
    assert sink.span_names() == ["a"]
    assert os.listdir(tmp_path / "retry") == ["0-directory"]


def test_dropping_while_it_runs_frees_the_disk_and_leaves_the_books_alone(
    tmp_path: Path, make_sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set aside stays counted as set aside: what people do with it afterwards is theirs."""

    def refuse(segment_id: str, records: list[bytes]) -> None:
        raise Permanent("no")

    sink = make_sink()
    sink.refuse = refuse
    log = SegmentLog(tmp_path, disk_budget_bytes=3000, segment_bytes=1, segment_age_seconds=1, segment_records=1)
    running = Running(log, sink)
    log.reserve(500)
    running.ledger.received("traces", 7)
    log.write("traces", [Record(b"x" * 500, 7)])
    log.seal_all()
    deadline = time.monotonic() + 5
    while not running.counts.quarantined and time.monotonic() < deadline:
        time.sleep(0.01)
    kept = Quarantine(tmp_path)
    before = log.used_bytes
    kept.drop(kept.pieces()[0])
    running.assert_books_balance()
    assert running.counts.quarantined == 7
    monkeypatch.setattr("collector.segments._RECOUNT_SECONDS", 0.0)
    log.reserve(2900)
    assert log.used_bytes < before + 2900
    running.loader.stop(time.monotonic() + 5)
    log.close()
