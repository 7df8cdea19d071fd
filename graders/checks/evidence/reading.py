"""One text of a trace, read for comparing: once, however many messages, traces and graders have the same text.

Tool results, documents and prompts repeat within a trace and between traces. What was read last is kept, by its content, up to
a fixed size; what a text says hangs on nothing else, so nothing has to be thrown away but for room.
"""

from __future__ import annotations

import threading
from functools import cached_property

from graders.checks.evidence import values
from graders.checks.evidence.text import Folded, block_end, fold, start_of, stems, words_in

_KEPT = 16_000_000
"""Bytes of what is kept, about."""
_BYTES = 12
"""Bytes a character takes, with its share of the words: less in most texts."""


class Reading:
    """A text. Each part is made when it is first asked for."""

    def __init__(self, text: str) -> None:
        self.folded: Folded = fold(text)
        """The text for comparing."""
        self._blocks: list[tuple[int, int]] = []

    @cached_property
    def stems(self) -> list[str]:
        """Its words, in order."""
        return stems(self.folded.text)

    @cached_property
    def numbers(self) -> set[float]:
        """Every number in it."""
        return values.numbers_in(self.folded.text)

    @cached_property
    def dates(self) -> set[values.Date]:
        """Every date in it, in every reading."""
        return values.every_date(self.folded.text)

    def start_of(self, word: int) -> int:
        """Where one of its words begins in the folded text."""
        text = self.folded.text
        start = before = 0
        for end, count in self._blocks:
            if before + count > word:
                return start_of(text, start, end, word - before)
            start, before = end, before + count
        blocks = list(self._blocks)
        while True:
            end = block_end(text, start)
            count = len(words_in(text[start:end]))
            blocks.append((end, count))
            if before + count > word or end >= len(text):
                self._blocks = blocks
                return start_of(text, start, end, word - before)
            start, before = end, before + count


class _Kept:
    """The readings of late, in two generations: when the younger is full, the elder goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._young: dict[str, Reading] = {}
            self._old: dict[str, Reading] = {}
            self._room = _KEPT // 2

    def get(self, text: str) -> Reading:
        found = self._young.get(text)
        if found is None:
            found = self._old.get(text) or Reading(text)
            size = len(text) * _BYTES
            if size <= _KEPT // 8:
                with self._lock:
                    if size > self._room:
                        self._old, self._young, self._room = self._young, {}, _KEPT // 2
                    self._young[text] = found
                    self._room -= size
        return found


_kept = _Kept()
read = _kept.get
"""The reading of a text."""
forget = _kept.clear
"""Throws away what is kept: who measures time reads every text anew."""
