"""Moves sealed segments into the store, oldest first, each exactly once.

Exactly once rests on three facts: a segment is deleted only after `Sink.load` returned; until then every attempt,
across crashes and restarts, presents the same bytes under the same id; and the sink stores one id once.

A retryable failure delays and never loses: exponential back-off with jitter, and the next attempt goes to the next
segment, so that one segment that cannot be loaded does not hold up the rest.

A permanent failure means something in the segment is poison. The segment is halved until the poison stands alone; that
record goes to quarantine with the store's reason, everything else is stored. Running out of memory is poison too once it
has happened often enough: `_TRIES` times for the segment and for a record alone, once for a half.

Halves are loaded under ids of their own (`<segment>:<first>-<last>`, `<segment>:<n>`), so the store would no longer
recognise the whole: before a half is loaded, the refusal of the whole is written to the segment's `.split` journal and
synced, and whoever finds the journal starts from there. One JSON line an answer:

    [first, end, "why the store refused records first to end-1", []]
    [first, end, null, [records that were damaged on the disk and left out]]

Where other segments wait, a split gives way to them every `_SLICE_SECONDS`; what is in the journal is not sent again.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final, Protocol

from opentelemetry import trace
from zlib_ng import zlib_ng as zlib

from collector.ledger import Ledger
from collector.otlp import Signal
from collector.quarantine import Quarantine, UnknownPiece
from collector.segments import DAMAGED, Entry, Segment, SegmentLog, read_index, sync_directory
from store import OutOfMemory, Permanent, Retryable

_FIRST_DELAY_SECONDS: Final = 0.1
_LAST_DELAY_SECONDS: Final = 5.0
_TRIES: Final = 5
"""How often the store may run out of memory over the same bytes before they are taken for poison."""
_SLICE_SECONDS: Final = 1.0
_ASKED_SECONDS: Final = 0.5
"""How often the loader looks whether somebody asks for a piece of the quarantine to be loaded again."""

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)


class Sink(Protocol):
    """Where segments go."""

    def load(self, signal: Signal, segment_id: str, path: Path, /) -> None:
        """Store the run of length-delimited requests in `path`; a second call with the same id stores nothing more.

        Raises `store.Permanent` if these bytes can never be stored and `store.OutOfMemory` if they are too much, in both
        cases with none of them stored; anything else it raises is taken as retryable.
        """


def _span(segment: Segment) -> AbstractContextManager[object]:
    facts: dict[str, str | int] = {
        "segment": segment.id,
        "signal": segment.signal,
        "bytes": segment.size,
        "items": segment.count,
    }
    return _tracer.start_as_current_span("collector.load", attributes=facts)


class _GiveWay(Exception):
    """A split is not done, and others wait."""


class Loader:
    """One thread that loads until it is stopped."""

    def __init__(self, log: SegmentLog, sink: Sink, ledger: Ledger, sealed: threading.Event) -> None:
        """`sealed` is set by the log when there is something new."""
        self._log = log
        self._sink = sink
        self._ledger = ledger
        self._wake = sealed
        self._stop = threading.Event()
        self._drained = threading.Condition()
        self._quarantine = Quarantine(log.directory)
        self._looked = 0.0
        self._exhausted: Counter[str] = Counter()
        """How often the store ran out of memory, by insert id."""
        self._thread = threading.Thread(target=self._run, name="collector-load", daemon=True)

    def start(self) -> None:
        """Begin loading."""
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Load what is sealed until `deadline` (monotonic), then end. What is left is loaded after the next start."""
        if self._thread.ident is None:
            return
        with self._drained:
            while self._log.sealed() and (patience := deadline - time.monotonic()) > 0 and self._thread.is_alive():
                self._wake.set()
                self._drained.wait(min(patience, 0.1))
        self._stop.set()
        self._wake.set()
        # A load that never returns is left to the daemon thread: once the log is closed it can delete nothing.
        self._thread.join(max(0.0, deadline - time.monotonic()) + 0.05)

    def _run(self) -> None:
        turn = 0
        failures = 0
        while not self._stop.is_set():
            self._retry_what_is_asked()
            sealed = self._log.sealed()
            if not sealed:
                self._wake.wait(_ASKED_SECONDS)
                self._wake.clear()
                continue
            turn %= len(sealed)
            try:
                with self._ledger.loads.running(), _span(sealed[turn]):
                    self._load(sealed[turn])
            except _GiveWay:
                turn += 1
            except Exception as error:
                # Whatever the sink raises, the segment is still on disk and acknowledged: keep trying, and say why.
                failures += 1
                turn += 1
                self._ledger.load_retries += 1
                self._ledger.last_load_error = f"{type(error).__name__}: {error}"
                if failures == 1 or not isinstance(error, Retryable | OSError):
                    _log.warning(
                        "cannot load segment %s, will retry: %s", sealed[turn - 1].id, self._ledger.last_load_error
                    )
                self._stop.wait(_delay(failures))
            else:
                failures = 0
                self._ledger.last_load_error = ""
                with self._drained:
                    self._drained.notify_all()

    def _retry_what_is_asked(self) -> None:
        """Load again what `tracegrade quarantine retry` asks for. It comes back into the books as recovered."""
        if time.monotonic() - self._looked < _ASKED_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            for name in self._quarantine.asked():
                try:
                    piece = self._quarantine.piece(name)
                    retried = self._quarantine.retry(piece, self._sink, tries=_TRIES)
                except UnknownPiece:
                    self._quarantine.answered(name)
                    continue
                self._ledger.recovered(piece.signal, retried.count)
                if retried.refusal is None:
                    self._ledger.stored(piece.signal, retried.count)
                else:
                    self._ledger.quarantined(piece.signal, retried.count)
                    _log.warning("the store refuses %s of the quarantine again: %s", name, retried.refusal)
        except Exception as error:  # the mark stays; the next look tries again
            self._ledger.load_retries += 1
            self._ledger.last_load_error = f"{type(error).__name__}: {error}"

    def _load(self, segment: Segment) -> None:
        if not segment.split.exists():
            reason = self._refusal(segment, segment.id, segment.path, _TRIES)
            if reason is None:
                if self._log.delete(segment):
                    self._ledger.stored(segment.signal, segment.count)
                return
            _log.warning("the store refuses segment %s, looking for the records at fault: %s", segment.id, reason)
            _append_journal(segment.split, 0, len(read_index(segment.index)[0]), reason)
        quarantined = self._load_parts(segment)
        # The books move only now: a crash before this leaves the whole segment to the next start.
        if self._log.delete(segment):
            self._ledger.stored(segment.signal, segment.count - quarantined)
            self._ledger.quarantined(segment.signal, quarantined)

    def _load_parts(self, segment: Segment) -> int:
        """Store everything but the poison; how many spans or records were set aside. Raises `_GiveWay`."""
        entries, _ = read_index(segment.index)
        data = segment.path.read_bytes()
        verdicts = _read_journal(segment.split)
        slice_ends = time.monotonic() + _SLICE_SECONDS
        asked = False
        aside: dict[int, tuple[str, str]] = {}
        pending = [(0, len(entries))]
        while pending:
            first, end = pending.pop()
            alone = end - first == 1
            if (first, end) not in verdicts:
                others = asked and time.monotonic() > slice_ends and len(self._log.sealed()) > 1
                if others or self._stop.is_set():
                    raise _GiveWay
                asked = True
                sound: list[Entry] = []
                damaged: list[int] = []
                for number, entry in enumerate(entries[first:end], first):
                    if zlib.crc32(data[entry.offset : entry.end]) == entry.crc:
                        sound.append(entry)
                    else:
                        damaged.append(number)
                name = f"{segment.id}:{first}" if alone else f"{segment.id}:{first}-{end - 1}"
                refusal = self._refusal_of_part(segment, name, [data[entry.offset : entry.end] for entry in sound])
                _append_journal(segment.split, first, end, refusal, damaged)
                verdicts[first, end] = refusal, damaged
            reason, left_out = verdicts[first, end]
            if reason is None:
                aside |= {number: (f"{DAMAGED}-{number}", "the checksum does not match") for number in left_out}
            elif alone:
                aside[first] = str(first), reason
            else:
                middle = (first + end) // 2
                pending += [(middle, end), (first, middle)]
        # Not before all is decided: what people do with a piece must not be undone when a split is taken up again.
        for number, (part, reason) in aside.items():
            self._set_aside(segment, data, entries[number], part, reason)
        return sum(entries[number].count for number in aside)

    def _refusal_of_part(self, segment: Segment, name: str, records: list[bytes]) -> str | None:
        if not records:
            return None
        part = segment.path.with_suffix(".part.tmp")
        part.write_bytes(b"".join(records))
        try:
            return self._refusal(segment, name, part, _TRIES if len(records) == 1 else 1)
        finally:
            part.unlink()

    def _refusal(self, segment: Segment, name: str, path: Path, tries: int) -> str | None:
        """Load a file under the id `name`; why the store will not have it, or None if it has."""
        try:
            self._sink.load(segment.signal, name, path)
        except Permanent as error:
            reason = str(error)
        except OutOfMemory as error:
            self._exhausted[name] += 1
            if self._exhausted[name] < tries:
                raise
            reason = str(error)
        else:
            self._exhausted.pop(name, None)
            return None
        self._exhausted.pop(name, None)
        return reason

    def _set_aside(self, segment: Segment, data: bytes, entry: Entry, part: str, reason: str) -> None:
        _log.warning("record %s of segment %s goes to quarantine: %s", part, segment.id, reason)
        record = data[entry.offset : entry.end]
        self._log.quarantine(segment.id, segment.signal, part, record, count=entry.count, reason=reason)


def _read_journal(path: Path) -> dict[tuple[int, int], tuple[str | None, list[int]]]:
    """What the store said to ranges of records: why it refused, or None and the damaged ones it was not sent.

    A line cut short by a crash counts for nothing. 0.1 wrote refusals only, and nothing of damage.
    """
    verdicts: dict[tuple[int, int], tuple[str | None, list[int]]] = {}
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            first, end, reason, left_out = [*json.loads(line), []][:4]
            verdicts[first, end] = reason, left_out
    return verdicts


def _append_journal(path: Path, first: int, end: int, reason: str | None, left_out: Sequence[int] = ()) -> None:
    with path.open("ab") as file:
        file.write(b"\n" + json.dumps([first, end, reason, left_out]).encode())
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def _delay(failures: int) -> float:
    longest = min(_LAST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 20))
    return longest * random.uniform(0.5, 1.0)
