"""Grades stored traces again, and those that never were: after a grader changed, or was added.

Promises: what is to be done follows from the store alone (which graders the newest grades of a trace are from), so it can be
ended at any moment and goes on where it was when it is started again; what is done already is not done twice. Several may
share the work by shards. Fresh traces are graded by their worker meanwhile; should both meet on one trace, nothing breaks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graders.base import GraderSets
from graders.worker import Worker
from store.client import Store
from store.yamlfile import ConfigError, Problem

PAGE = 2_000
"""Traces that are looked up at a time; finding them reads all marks behind the last one."""
_EVER = 2**62


class Selection(BaseModel):
    """Which traces, and which graders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: datetime
    """Traces whose last span or event arrived at that time or later."""
    until: datetime | None = None
    """And before that one."""
    graders: tuple[str, ...] = ()
    """Only these; the grades of all others stay as they are. Empty for all."""
    service: str = ""
    """Only traces of this service."""
    shard: int = Field(default=1, ge=1)
    shards: int = Field(default=1, ge=1, le=10_000)
    """The `shard`-th of `shards` parts."""
    graded_before: datetime | None = None
    """Also what the same graders graded before that time."""

    @model_validator(mode="after")
    def _shard_is_one_of_them(self) -> Selection:
        if self.shard > self.shards:
            raise ValueError(f"there is no shard {self.shard} of {self.shards}")
        return self

    @model_validator(mode="after")
    def _holds_time(self) -> Selection:
        if self.until is not None and _ms(self.until) <= _ms(self.since):
            raise ValueError("nothing arrived since `since` and before `until`: give a later `until`")
        return self


@dataclass(slots=True)
class Regraded:
    """How far it is."""

    total: int = 0
    """Traces there were to grade when it started."""
    graded: int = 0
    failed: int = 0
    """Of those graded, the ones that got no more than an error grade."""
    seconds: float = 0.0
    finished: bool = False


class Regrade:
    """One run over a selection of traces."""

    def __init__(
        self, store: Store, graders: GraderSets, worker: Worker, selection: Selection, *, grace_ms: int, idle_ms: int
    ) -> None:
        """Raises `ConfigError` for a grader that is not there."""
        known = {grader.grader_name for grader in graders.every()}
        if unknown := sorted(set(selection.graders) - known):
            message = f"no such grader; known: {', '.join(sorted(known))}"
            raise ConfigError([Problem("regrade", 0, name, message) for name in unknown])
        self._store = store
        self._worker = worker
        self._only = frozenset(selection.graders)
        self._found: dict[str, Any] = {
            "since_ms": _ms(selection.since),
            "until_ms": _ms(selection.until) if selection.until else _EVER,
            "before_ms": _ms(selection.graded_before) if selection.graded_before else -_EVER,
            "service": selection.service,
            "shard": selection.shard - 1,
            "shards": selection.shards,
            "grader_set": graders.digest,
            "graders": sorted(
                {
                    f"{grader.grader_name} {grader.grader_version} {grader.config_digest}"
                    for grader in graders.every()
                    if grader.grader_name in self._only
                }
            ),
            "number": len(self._only),
            "grace_ms": grace_ms,
            "idle_ms": idle_ms,
        }
        self.progress = Regraded()

    def run(self, stopped: Callable[[], bool] = lambda: False, report: Callable[[], object] = lambda: None) -> None:
        """Grade until nothing is left, or until `stopped`; `report` is called after every step. Raises `StoreError`."""
        started, done = time.monotonic(), self.progress
        done.total = self._store.count_regradable(self._found)
        report()
        after = ""
        failed = self._worker.progress.failed
        while not stopped():
            rows = self._store.regradable(self._found, after, PAGE)
            for first in range(0, len(rows), _STEP):
                if stopped():
                    return
                step = rows[first : first + _STEP]
                self._worker.grade([row for row in step if row["Grown"] or not self._only])
                self._worker.grade([row for row in step if not row["Grown"] and self._only], self._only)
                done.graded += len(step)
                done.failed = self._worker.progress.failed - failed
                done.seconds = time.monotonic() - started
                report()
            if len(rows) < PAGE:
                done.finished = True
                report()
                return
            after = rows[-1]["TraceId"]


_STEP = 200


def _ms(moment: datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
