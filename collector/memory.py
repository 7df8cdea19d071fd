"""The memory that the bodies of all requests may take together, on both transports.

It counts what is held, packed and unpacked, from the first byte read until the request is answered, or until the thread that
works on it is done if its sender left before. A request that would take more than is left is told to come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

from collector.outcomes import Outcome, Refusal

P = ParamSpec("P")
Made = TypeVar("Made")

HELD_BYTES: Final = 256 * 2**20


class Memory:
    """One for each collector, used from its event loop only."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """What one request takes; given back at the end."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.held -= lease.size


class Lease:
    """The share of one request."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def take(self, size: int) -> None:
        """Hold `size` bytes more; raises `Refusal`."""
        self.size += size
        self._memory.held += size
        if self._memory.held > self._memory.limit:
            raise Refusal(Outcome.BUSY, "the bodies of other requests fill the memory set aside for them")


async def on_thread(work: Callable[P, Made], *arguments: P.args, **named: P.kwargs) -> Made:
    """Do `work` on a thread. Who is cancelled meanwhile ends with it and not before: a thread cannot be stopped, and holds what
    it was given."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
