"""What both transports do with a body: validate it, say whose it is, make it durable, and say what became of it.

Accepting and marking comes before refusing, since senders look at refusals little and drop what was refused. A part of a
request is refused in one case only: a span or record of a JSON body with a value that its field cannot hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, ParamSpec, TypeVar

from collector.auth import Caller
from collector.commit import GroupCommit, ShuttingDown
from collector.ledger import Ledger
from collector.memory import Memory, on_thread
from collector.mend import mended, mended_json
from collector.metrics import MESSAGE, data_points
from collector.otlp import Accepted, Encoding, Reject, RejectReason, Signal, accept
from collector.outcomes import Kind, Outcome, Refusal, Taken
from collector.redaction import Redactor
from collector.segments import BufferFull
from collector.stamp import claims, stamped
from store import Retryable

_INLINE_BYTES: Final = 2**20
"""Larger bodies, and JSON, are validated on a thread so that other requests keep moving."""

_INLINE_REDACTED: Final = 2**14
"""Larger bodies in which redaction found something are rewritten on a thread."""

_AT_ONCE: Final = 2
"""Bodies on such threads at a time: JSON takes a multiple of its size in memory while it is translated."""

_log = logging.getLogger(__name__)

P = ParamSpec("P")
Made = TypeVar("Made")


class Intake:
    """The one way into the buffer."""

    def __init__(self, commit: GroupCommit, ledger: Ledger, memory: Memory, redactor: Redactor | None = None) -> None:
        self._commit = commit
        self._ledger = ledger
        self._redactor = redactor
        self._threads = asyncio.Semaphore(_AT_ONCE)
        self._metrics_seen = False
        self.memory = memory
        """What the bodies of all requests may take together."""

    async def take(self, kind: Kind, encoding: Encoding, body: bytes, caller: Caller) -> Taken:
        """Return once everything in `body` survives a crash; raises `Refusal`."""
        try:
            if kind == "metrics":
                return await self._count(encoding, body)
            accepted = await self._admitted(kind, encoding, body, caller)
            if accepted.rejected:
                self._ledger.rejected(kind, accepted.rejected)
            if self._redactor is not None:
                accepted = await self._redacted(self._redactor, kind, accepted)
            if accepted.count:
                await self._commit.append(kind, accepted)
            return _taken(accepted)
        except Refusal:
            raise
        except Reject as error:
            outcome = Outcome.TOO_LARGE if error.reason is RejectReason.TOO_LARGE else Outcome.MALFORMED
            raise Refusal(outcome, error.message) from None
        except BufferFull as error:
            raise Refusal(Outcome.BUFFER_FULL, str(error)) from None
        except ShuttingDown as error:
            raise Refusal(Outcome.SHUTTING_DOWN, str(error)) from None
        except Retryable as error:
            raise Refusal(Outcome.BUSY, str(error)) from None
        except Exception as error:
            _log.exception("a defect of the collector; the sender is told to try again")
            raise Refusal(Outcome.FAILED, f"{type(error).__name__}; see the log of the collector") from error

    async def _admitted(self, signal: Signal, encoding: Encoding, body: bytes, caller: Caller) -> Accepted:
        large = len(body) > _INLINE_BYTES
        try:
            accepted = await self._work(large or encoding is Encoding.JSON, accept, signal, encoding, body)
        except Reject as reject:
            if reject.reason not in (RejectReason.MALFORMED_PROTOBUF, RejectReason.MALFORMED_JSON):
                raise
            # On a thread whatever its size: it goes through every field in Python.
            fixed = await self._work(True, _accept_mended, signal, encoding, body)
            if fixed is None:
                raise
            accepted = fixed
        if caller.stamp or claims(accepted.resources):
            payload = await self._work(large, stamped, accepted.payload, caller.stamp)
            accepted = replace(accepted, payload=payload)
        return accepted

    async def _work(self, aside: bool, work: Callable[P, Made], *arguments: P.args, **named: P.kwargs) -> Made:
        """Do `work` here, or on a thread so that other requests keep moving."""
        if not aside:
            return work(*arguments, **named)
        async with self._threads:
            return await on_thread(work, *arguments, **named)

    async def _redacted(self, redactor: Redactor, signal: Signal, accepted: Accepted) -> Accepted:
        payload = accepted.payload
        found = await self._work(len(payload) > _INLINE_BYTES, redactor.screen, payload)
        if found is None:
            return accepted
        aside = redactor.patient or len(payload) > _INLINE_REDACTED
        payload = await self._work(aside, redactor.rewrite, signal, payload, found)
        return replace(accepted, payload=payload)

    def answered(self, transport: str, kind: Kind | None, outcome: Outcome) -> None:
        """Count an answer; `kind` is None where there was no endpoint."""
        self._ledger.answered(outcome, transport, kind or "none")

    async def _count(self, encoding: Encoding, body: bytes) -> Taken:
        points = await self._work(True, data_points, encoding, body)
        if not points:
            return Taken(Outcome.EMPTY)
        if not self._metrics_seen:
            self._metrics_seen = True
            _log.warning("%s; said once", MESSAGE)
        return Taken(Outcome.NOT_STORED, points, MESSAGE)


def _accept_mended(signal: Signal, encoding: Encoding, body: bytes) -> Accepted | None:
    """What is left of a malformed body once its text is Unicode; None if that is not what was wrong."""
    fixed = mended(signal, body) if encoding is Encoding.PROTOBUF else mended_json(body)
    if fixed is None:
        return None
    accepted = accept(signal, encoding, fixed[0])
    note = f"{fixed[1]} texts were not UTF-8; each byte that could not be read was stored as U+FFFD"
    return accepted if accepted.rejected else replace(accepted, message=note)


def _taken(accepted: Accepted) -> Taken:
    if accepted.rejected:
        others = f" (and {accepted.rejected - 1} more)" if accepted.rejected > 1 else ""
        return Taken(Outcome.PARTIAL, accepted.rejected, f"{accepted.message}{others}")
    if accepted.message:
        return Taken(Outcome.MARKED, 0, accepted.message)
    return Taken(Outcome.ACCEPTED if accepted.count else Outcome.EMPTY)
