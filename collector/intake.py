"""What both transports do with a body: validate it, make it durable, and say what became of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from collector.commit import GroupCommit, ShuttingDown
from collector.ledger import Ledger
from collector.otlp import Encoding, Reject, RejectReason, Signal, accept
from collector.outcomes import Outcome
from collector.segments import BufferFull
from store import Retryable

_INLINE_BYTES: Final = 2**20
"""Larger bodies, and JSON, are validated on a thread so that other requests keep moving."""

_AT_ONCE: Final = 2
"""Bodies on such threads at a time: JSON takes a multiple of its size in memory while it is translated."""

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """The request ends here, with this outcome."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message


class Intake:
    """The one way into the buffer."""

    def __init__(self, commit: GroupCommit, ledger: Ledger) -> None:
        self._commit = commit
        self._ledger = ledger
        self._threads = asyncio.Semaphore(_AT_ONCE)

    async def take(self, signal: Signal, encoding: Encoding, body: bytes) -> None:
        """Return once everything in `body` survives a crash; raises `Refusal`."""
        try:
            if encoding is Encoding.JSON or len(body) > _INLINE_BYTES:
                async with self._threads:
                    accepted = await asyncio.to_thread(accept, signal, encoding, body)
            else:
                accepted = accept(signal, encoding, body)
            if accepted.count:
                await self._commit.append(signal, accepted)
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
        self._ledger.answered(Outcome.ACCEPTED if accepted.count else Outcome.EMPTY)

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal."""
        self._ledger.answered(refusal.outcome)
