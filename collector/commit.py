"""Group commit: many requests, one fsync.

`append` returns only when the record is on disk. Records that arrive while the disk is busy, or within
`interval_seconds` of each other, share a write. All disk work happens on one thread; the event loop never waits for it.
Sealing by age happens here too, since this thread owns the open segments.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from collector.ledger import Ledger
from collector.otlp import SIGNALS, Accepted, Signal
from collector.segments import Record, SegmentLog
from store import Retryable

_PENDING_BYTES: Final = 64 * 2**20
"""Memory the records waiting for the disk may take; one record is always let in."""
_WRITE_BYTES: Final = 8 * 2**20
"""Records of one write; bounds how far a segment outgrows its limit."""
_DISK_RETRY_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.5
SWITCH_SECONDS: Final = 0.0005
"""For `sys.setswitchinterval` of a process that collects: how long a thread may keep the interpreter. At Python's 5 ms the one
that fsyncs waits as long for the event loop, or for graders, several times for each acknowledgement."""

_log = logging.getLogger(__name__)


class Busy(Retryable):
    """The disk does not keep up, or refuses."""


class ShuttingDown(Retryable):
    """Nothing more is taken."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    signal: Signal
    record: Record
    done: asyncio.Future[None]


class GroupCommit:
    """The front of a `SegmentLog`, for one event loop."""

    def __init__(self, log: SegmentLog, ledger: Ledger, *, interval_seconds: float) -> None:
        self._log = log
        self._ledger = ledger
        self._interval = interval_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="collector-commit", daemon=True)
        self._thread.start()

    async def append(self, signal: Signal, accepted: Accepted) -> None:
        """Return once `accepted` is fsynced; raises `Retryable` if it is not on disk.

        A cancelled caller changes nothing: the record is written all the same.
        """
        self._ledger.received(signal, accepted.count)
        size = len(accepted.payload)
        try:
            if self._stopping:
                raise ShuttingDown("the collector is shutting down")
            if self._waiting_bytes and self._waiting_bytes + size > _PENDING_BYTES:
                raise Busy(f"{self._waiting_bytes} bytes are already waiting for the disk")
            self._log.reserve(size)
        except Retryable:
            self._ledger.refused(signal, accepted.count)
            raise
        waiting = _Waiting(signal, Record(accepted.payload, accepted.count), self._loop.create_future())
        with self._wake:
            self._waiting_bytes += size
            self._waiting.append(waiting)
            self._wake.notify()
        await waiting.done

    async def stop(self) -> None:
        """Write what waits, seal everything, end the thread. Safe to call twice."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                self._commit(batch)
            stopping = self._stopping and not self._waiting
            try:
                self._log.seal_all() if stopping else self._log.seal_due(time.monotonic())
            except Exception as error:
                # Nothing is lost by waiting: the segment stays open and is sealed later, or recovered at the next start.
                _log.warning("cannot seal a segment, will retry: %r", error)
                if not stopping:
                    time.sleep(_DISK_RETRY_SECONDS)
            if stopping:
                return

    def _next_batch(self) -> list[_Waiting]:
        """What to write next; empty when a segment is due for sealing or when stopping."""
        with self._wake:
            while not self._waiting and not self._stopping:
                deadline = self._log.next_deadline()
                patience = None if deadline is None else deadline - time.monotonic()
                if patience is not None and patience <= 0:
                    return []
                # The deadline comes nearer as the store catches up.
                self._wake.wait(None if patience is None else min(patience, _LOOK_SECONDS))
            if not self._waiting:
                return []
        if self._interval and not self._stopping:
            time.sleep(self._interval)
        batch: list[_Waiting] = []
        size = 0
        with self._wake:
            while self._waiting and size < _WRITE_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].record.payload)
            self._waiting_bytes -= size
        return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        for signal in SIGNALS:
            group = [waiting for waiting in batch if waiting.signal is signal]
            if not group:
                continue
            failure: Retryable | None = None
            try:
                with self._ledger.commits.running():
                    self._log.write(signal, [waiting.record for waiting in group])
                self._ledger.write_error = ""
            except Exception as error:  # this thread must outlive whatever the disk does; the senders are told
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else repr(error)
                failure = Busy(f"the buffer cannot be written: {reason}")
                self._ledger.write_error = str(failure)
                for waiting in group:
                    self._ledger.refused(signal, waiting.record.count)
            self._loop.call_soon_threadsafe(_resolve, group, failure)


def _resolve(group: list[_Waiting], failure: Retryable | None) -> None:
    for waiting in group:
        if waiting.done.done():
            continue
        if failure is None:
            waiting.done.set_result(None)
        else:
            waiting.done.set_exception(failure)
