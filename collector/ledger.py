"""Where every span and log record is: one set of books for the whole collector.

Promises that at any moment, for each signal,

    received + recovered = stored + rejected + buffered + quarantined

counted in spans or log records. `recovered` is what an earlier process left on disk; it is 0 on a fresh directory.
Requests whose contents never became countable (garbage, oversize) are counted as requests, by outcome, beside it.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from threading import Lock
from typing import Final

from collector.otlp import SIGNALS, Signal


@dataclass(frozen=True, slots=True)
class Counts:
    """Spans or log records of one signal, by where they are."""

    received: int = 0
    """Arrived in a readable request; one that is refused and sent again arrives twice."""
    recovered: int = 0
    """Found on disk at start."""
    stored: int = 0
    """Loaded into the store."""
    rejected: int = 0
    """Refused after being read: with a retryable answer, or for good as one bad item among others."""
    buffered: int = 0
    """On disk, or on the way there."""
    quarantined: int = 0
    """Set aside with a reason."""


_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took, each time."""

    within: tuple[tuple[float, int], ...]
    """For some lengths in seconds, how often it took no longer; the last is infinite."""
    seconds: float
    """Altogether."""


class Stopwatch:
    """Collects durations; used from one thread, read from any."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure a block that does not raise."""
        start = time.perf_counter()
        yield
        took = time.perf_counter() - start
        self._counts[bisect_left(_BOUNDS, took)] += 1
        self._seconds += took

    def durations(self) -> Durations:
        """What was measured so far."""
        return Durations(tuple(zip((*_BOUNDS, math.inf), accumulate(self._counts), strict=True)), self._seconds)


@dataclass(frozen=True, slots=True)
class Stats:
    """A consistent snapshot."""

    signals: Mapping[Signal, Counts]
    answers: Mapping[tuple[str, str, str], int]
    """Answers given, by transport, endpoint and outcome."""
    torn_bytes: int
    """Unacknowledged remains of records that a crash interrupted, cut at start."""
    damaged_records: int
    """Pieces of segments found corrupt at start and quarantined; their spans may be uncountable."""
    load_retries: int
    """Loads the store failed retryably."""
    buffer_bytes: int
    """Disk used by segments and quarantine."""
    last_load_error: str
    """Why the latest load failed; empty once a load succeeds again."""
    write_error: str
    """Why the buffer could not be written last time; empty once it can be again."""
    commits: Durations
    """Writing a group of requests, fsync included."""
    loads: Durations
    """Bringing a segment into the store."""

    @property
    def requests(self) -> Mapping[str, int]:
        """Answers given, by outcome."""
        totals: Counter[str] = Counter()
        for (_, _, outcome), count in self.answers.items():
            totals[outcome] += count
        return dict(totals)


@dataclass(slots=True)
class Ledger:
    """Written by the server, the committer and the loader, each from its own thread."""

    _signals: dict[Signal, Counts] = field(default_factory=lambda: {signal: Counts() for signal in SIGNALS})
    _answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)
    torn_bytes: int = 0
    damaged_records: int = 0
    load_retries: int = 0
    last_load_error: str = ""
    write_error: str = ""
    commits: Stopwatch = field(default_factory=Stopwatch)
    loads: Stopwatch = field(default_factory=Stopwatch)

    def answered(self, outcome: str, transport: str, endpoint: str) -> None:
        """A request was answered."""
        with self._lock:
            self._answers[transport, endpoint, outcome] += 1

    def received(self, signal: Signal, count: int) -> None:
        """A readable request arrived and is now being buffered."""
        self._add(signal, received=count, buffered=count)

    def refused(self, signal: Signal, count: int) -> None:
        """What was being buffered could not be."""
        self._add(signal, buffered=-count, rejected=count)

    def rejected(self, signal: Signal, count: int) -> None:
        """Arrived, and was refused for good, beside others that were not."""
        self._add(signal, received=count, rejected=count)

    def recovered(self, signal: Signal, count: int) -> None:
        """Found on disk at start."""
        self._add(signal, recovered=count, buffered=count)

    def stored(self, signal: Signal, count: int) -> None:
        """The store has it."""
        self._add(signal, buffered=-count, stored=count)

    def quarantined(self, signal: Signal, count: int) -> None:
        """Set aside."""
        self._add(signal, buffered=-count, quarantined=count)

    def snapshot(self, buffer_bytes: int) -> Stats:
        """Everything as of one moment."""
        with self._lock:
            return Stats(
                signals=dict(self._signals),
                answers=dict(self._answers),
                torn_bytes=self.torn_bytes,
                damaged_records=self.damaged_records,
                load_retries=self.load_retries,
                buffer_bytes=buffer_bytes,
                last_load_error=self.last_load_error,
                write_error=self.write_error,
                commits=self.commits.durations(),
                loads=self.loads.durations(),
            )

    def _add(self, signal: Signal, **changes: int) -> None:
        with self._lock:
            now = self._signals[signal]
            self._signals[signal] = replace(now, **{name: getattr(now, name) + by for name, by in changes.items()})
