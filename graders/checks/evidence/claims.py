"""What an answer claims: its sentences, list items and table rows, each with its place.

Left out is what states nothing that evidence could bear out: questions, courtesies, offers, announcements, orders to the
reader, headings, code. The words that tell them are data (`words.yaml`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from graders.checks.evidence.text import fold, stems, stop_stems
from graders.checks.evidence.values import CODE, URL
from graders.checks.evidence.words import words

MAX_ANSWER = 200_000
MAX_CLAIMS = 300

MARK = re.compile(
    r"(?<![\w\])])\[\^?(\d{1,3}(?:\s*[,;]\s*\^?\d{1,3}){0,9})\](?!\()|【(\d{1,3})[^】]{0,40}】"
    r"|\[((?:doc|docs|source|ref|chunk|passage|cite)[-_ :#]?[\w.-]{1,60}"
    r"|[a-z]\w{0,40}[-_:#][\w.-]{0,40}\d)\](?!\()",
    re.IGNORECASE,
)
"""A citation: `[3]`, `[^3]`, `【3†source】`, `[doc-12]`, `[policy-7]`."""
LOOSE_MARK = re.compile(r"\[\^?\d{1,3}(?:\s*[,;]\s*\^?\d{1,3}){0,9}\](?!\()|【\d{1,3}[^】]{0,40}】")
"""Also one that follows a word at once: `moods[2]`."""

# Begins with one class of characters, so that the engine skips all others at once.
_END = re.compile(
    r"[.!?\n\u3002\uff01\uff1f]"
    r"(?:(?<=[.!?])[.!?]*[\"')\]*_]*(?=\s)|(?<=[\u3002\uff01\uff1f])[\u3002\uff01\uff1f]*|(?<=\n)\s*)"
)
_ITEM = re.compile(r"(?:[-*+\u2022][ \t]+|\(?\d{1,3}[.):][ \t]+)?[*_]{0,3}")
_RULE = re.compile(r"[ \t|:=-]+$")
_FIRST = re.compile(r"[^\W\d_]+")
_WORD_BEFORE = re.compile(r"[^\W_]+$")


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of an answer."""

    start: int
    end: int
    """In the folded answer."""
    stems: tuple[str, ...]
    weighty: tuple[str, ...]
    """The stems that carry meaning, each once, in their order."""
    content: frozenset[str]
    """The same as a set."""
    cites: tuple[str, ...]
    """What it cites, as written between the brackets."""


class Answer:
    """An answer for comparing. Its claims are read when they are first asked for."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self.folded = fold(raw)
        text = self.folded.text
        plain = CODE.sub(_blank, text) if "`" in text else text
        if "://" in plain:
            plain = URL.sub(_blank, plain)
        self._marks: list[tuple[int, str]] = []
        if "[" in plain or "【" in plain:
            for pattern in (MARK, LOOSE_MARK):
                self._marks += [(m.start(), m[0]) for m in pattern.finditer(plain)]
                plain = pattern.sub(_blank, plain)
            self._marks.sort()
        self.plain = plain
        """The folded text with code, addresses and citation marks blanked out; same length."""

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of the folded text stands in the raw one."""
        return self.folded.raw(start), self.folded.raw(end - 1) + 1 if end > start else self.folded.raw(end)

    def said(self, start: int, end: int) -> str:
        """The part as it was written."""
        first, last = self.place(start, end)
        return self.raw[first:last]

    @property
    def more(self) -> bool:
        """Whether there are more claims than are read."""
        return len(self._read) > MAX_CLAIMS

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """What the answer claims, in its order."""
        return self._read[:MAX_CLAIMS]

    @cached_property
    def _read(self) -> tuple[Claim, ...]:
        return tuple(islice(self._claims(), MAX_CLAIMS + 1))

    def _claims(self) -> Iterator[Claim]:
        plain, silent, stop = self.plain, words().silent, stop_stems()
        for start, end in _sentences(plain):
            found = stems(plain, start, end)
            weighty = tuple(dict.fromkeys([stem for stem in found if stem not in stop]))
            if not any(map(str.isalpha, weighty)):
                continue
            if plain[max(start, end - 4) : end].rstrip("\"')]*_ ").endswith(("?", "\uff1f", ":")):
                continue
            first = _FIRST.search(plain, start, end)
            if first and (pattern := silent.get(first[0])) and pattern.match(plain, first.start(), end):
                continue
            cites: tuple[str, ...] = ()
            if self._marks:
                last = _stretch(self.folded.text, end)
                cites = tuple(mark for at, mark in self._marks if start <= at < last)
            yield Claim(start, end, tuple(found), weighty, frozenset(weighty), cites)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _stretch(text: str, end: int) -> int:
    """Where the marks right behind a sentence end: `It is so. [1][2]`."""
    while found := _BEHIND.match(text, end):
        end = found.end()
    return end


_BEHIND = re.compile(r"[ \t]*(?:\[\^?\d{1,3}(?:\s*[,;]\s*\^?\d{1,3}){0,9}\](?!\()|【\d{1,3}[^】]{0,40}】)")


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, list item and table row."""
    line = start = len(text) - len(text.lstrip())
    for match in _END.finditer(text + "\n", start):
        end, after = match.span()
        ends_line = text[end : end + 1] in ("\n", "")
        if not ends_line:
            if text[end] == "." and after - end == 1 and _abbreviated(text, start, end):
                continue
            end = after
        if start < end:
            head = text[start]
            if start > line or head.isalpha():
                yield (start, end) if head != " " else (start + 1, end)
            elif head == "|":
                if ends_line and (row := _row(text, start, end)):
                    yield row
                elif not ends_line:
                    continue
            elif head != "#" and not _RULE.match(text, start, end):
                item = _ITEM.match(text, start, end)
                first = item.end() if item else start
                if not ends_line and first >= end - 1:  # the point behind a number
                    continue
                yield first, end
            elif not ends_line:
                continue
        start = after
        if ends_line:
            line = start


def _row(text: str, start: int, end: int) -> tuple[int, int] | None:
    """A row of a table; None for the names of the columns and the rule below them."""
    following = text.find("\n", end + 1)
    below = text[end + 1 : following if following > 0 else len(text)]
    return None if _RULE.match(text, start, end) or (below.strip() and _RULE.match(below)) else (start, end)


def _abbreviated(text: str, start: int, stop: int) -> bool:
    word = _WORD_BEFORE.search(text, max(start, stop - 12), stop)
    if word is None:
        return False
    if word[0].isdecimal():  # of a list
        return not text[start : word.start()].strip("(*_ ")
    if len(word[0]) == 1:
        return word[0].isalpha() and (stop + 2 < len(text) and text[word.start() - 1 : word.start()] in (" ", ".", ""))
    return word[0] in words().abbreviations
