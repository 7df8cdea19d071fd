"""Moves sealed segments into the store, oldest first, each exactly once.

Exactly once rests on three facts: a segment is deleted only after `Sink.load` returned; until then every attempt,
across crashes and restarts, presents the same bytes under the same id; and the sink stores one id once.

A retryable failure delays and never loses: exponential back-off with jitter, and the next attempt goes to the next
segment, so that one segment that cannot be loaded does not hold up the rest.

A permanent failure means something in the segment is poison. The segment is halved until the poison stands alone; that
record goes to quarantine with the store's reason, everything else is stored. Halves are loaded under ids of their own
(`<segment>:<first>-<last>`, `<segment>:<n>`), so the store would no longer recognise the whole: before a half is loaded, the
refusal of the whole is written to the segment's `.split` journal and synced, and whoever finds the journal starts from there.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from collector.ledger import Ledger
from collector.otlp import Signal
from collector.segments import Entry, Segment, SegmentLog, read_index, sync_directory
from store import Permanent, Retryable

_FIRST_DELAY_SECONDS: Final = 0.1
_LAST_DELAY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where segments go."""

    def load(self, signal: Signal, segment_id: str, path: Path, /) -> None:
        """Store the run of length-delimited requests in `path`; a second call with the same id stores nothing more.

        Raises `store.Permanent` if these bytes can never be stored, in which case none of them were; anything else it
        raises is taken as retryable.
        """


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
            sealed = self._log.sealed()
            if not sealed:
                self._wake.wait()
                self._wake.clear()
                continue
            turn %= len(sealed)
            try:
                self._load(sealed[turn])
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

    def _load(self, segment: Segment) -> None:
        if not segment.split.exists():
            try:
                self._sink.load(segment.signal, segment.id, segment.path)
            except Permanent as error:
                _log.warning("the store refuses segment %s, looking for the records at fault: %s", segment.id, error)
                _append_journal(segment.split, 0, len(read_index(segment.index)[0]), str(error))
            else:
                if self._log.delete(segment):
                    self._ledger.stored(segment.signal, segment.count)
                return
        stored, quarantined = self._load_parts(segment)
        # The books move only now: a crash before this leaves the whole segment to the next start.
        if self._log.delete(segment):
            self._ledger.stored(segment.signal, stored)
            self._ledger.quarantined(segment.signal, quarantined)

    def _load_parts(self, segment: Segment) -> tuple[int, int]:
        """Store everything but the poison; how many spans or records were stored, and how many set aside."""
        entries, _ = read_index(segment.index)
        data = segment.path.read_bytes()
        refused = _read_journal(segment.split)
        stored = quarantined = 0
        pending = [(0, len(entries))]
        while pending:
            first, end = pending.pop()
            sound: list[Entry] = []
            damaged: list[int] = []
            for number, entry in enumerate(entries[first:end], first):
                if zlib.crc32(data[entry.offset : entry.end]) == entry.crc:
                    sound.append(entry)
                else:
                    damaged.append(number)
            if (first, end) not in refused:
                name = f"{first}" if end - first == 1 else f"{first}-{end - 1}"
                reason = self._refusal(segment, name, [data[entry.offset : entry.end] for entry in sound])
                if reason is None:
                    stored += sum(entry.count for entry in sound)
                    for number in damaged:
                        self._set_aside(segment, data, entries[number], number, "the checksum does not match")
                        quarantined += entries[number].count
                    continue
                _append_journal(segment.split, first, end, reason)
                refused[first, end] = reason
            if end - first > 1:
                middle = (first + end) // 2
                pending += [(middle, end), (first, middle)]
            else:
                self._set_aside(segment, data, entries[first], first, refused[first, end])
                quarantined += entries[first].count
        return stored, quarantined

    def _refusal(self, segment: Segment, name: str, records: list[bytes]) -> str | None:
        """Load some records of a segment under their own id; why the store will not have them, or None if it has."""
        if not records:
            return None
        part = segment.path.with_suffix(".part.tmp")
        part.write_bytes(b"".join(records))
        try:
            self._sink.load(segment.signal, f"{segment.id}:{name}", part)
        except Permanent as error:
            return str(error)
        finally:
            part.unlink()
        return None

    def _set_aside(self, segment: Segment, data: bytes, entry: Entry, number: int, reason: str) -> None:
        _log.warning("record %d of segment %s goes to quarantine: %s", number, segment.id, reason)
        record = data[entry.offset : entry.end]
        self._log.quarantine(segment.id, segment.signal, str(number), record, count=entry.count, reason=reason)


def _read_journal(path: Path) -> dict[tuple[int, int], str]:
    """Ranges of records the store has refused, with its reasons. A line cut short by a crash counts for nothing."""
    refused: dict[tuple[int, int], str] = {}
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            first, end, reason = json.loads(line)
            refused[first, end] = reason
    return refused


def _append_journal(path: Path, first: int, end: int, reason: str) -> None:
    with path.open("ab") as file:
        file.write(b"\n" + json.dumps([first, end, reason]).encode())
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def _delay(failures: int) -> float:
    longest = min(_LAST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 20))
    return longest * random.uniform(0.5, 1.0)
