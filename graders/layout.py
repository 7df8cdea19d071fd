"""Where in a tool result a value stands: alone in a field of a record, or among the words of a text.

Results come as JSON, as Python writes objects, as YAML, or as plain text. Only their form is looked at, so a text inside a
field stays one text whatever it holds, and what has no such form throughout is plain text: one record without fields. Linear in
the length of the text; nothing raises on any input.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

_MAX_FIELDS = 20_000
"""Of one result; what stands after them counts as text."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|\'(?:[^\'\\]|\\.)*+\'|[\[\]{},:]|[^\s\[\]{},:"\']++', re.DOTALL)
_LINE = re.compile(r"[^\n]++")
_YAML = re.compile(r"( *+)((?:- +)*+)(?:(-)$|([\w .@/+()'\"-]{1,80}?):(?= |$))? *+")
_WRAPPED = re.compile(r"[\s<`]{0,20}")
"""Marks that some agents put around a result."""


class Layout(NamedTuple):
    """The fields of a text, in order, and where its records begin."""

    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    """Where each field's value begins and ends, without quotes."""
    records: tuple[int, ...] = (0,)
    """Where each record begins."""

    def field(self, at: int) -> tuple[int, int] | None:
        """The field that holds a position."""
        index = bisect_right(self.starts, at) - 1
        return (self.starts[index], self.ends[index]) if index >= 0 and at < self.ends[index] else None

    def record(self, at: int) -> int:
        """The number of the record that holds a position."""
        return max(bisect_right(self.records, at) - 1, 0)


@lru_cache(maxsize=256)
def layout(text: str) -> Layout:
    """The form of a result."""
    match = _WRAPPED.match(text)
    begin = match.end() if match else 0
    found = _nested(text, begin) if text[begin : begin + 1] in ("{", "[") else _lines(text, begin)
    return found or Layout()


def _nested(text: str, begin: int) -> Layout | None:
    """JSON, or what Python writes: each literal is a field, and the members of the outermost list of objects are records."""
    starts: list[int] = []
    ends: list[int] = []
    records: list[int] = []
    opened: list[str] = []
    level, expected = 0, begin
    for token in _TOKEN.finditer(text, begin):
        start, end = token.span()
        if start != expected and text[expected:start].strip():  # a quote that is not closed: no form from here on
            break
        head, expected = text[start], end
        if head in "[{":
            if head == "{" and opened[-1:] == ["["] and level in (0, len(opened)):
                level = len(opened)
                records.append(start)
            opened.append(head)
        elif head in "]}":
            if len(opened) < 2:
                break
            opened.pop()
        elif head not in ",:":
            quoted = head in "\"'"
            starts.append(start + quoted)
            ends.append(end - quoted)
            if len(starts) >= _MAX_FIELDS:
                break
    return Layout(tuple(starts), tuple(ends), tuple(records) or (0,))


def _lines(text: str, begin: int) -> Layout | None:
    """YAML: a line is a field, unless its value goes on in the next; the items of the outermost list are records."""
    starts: list[int] = []
    ends: list[int] = []
    records: list[int] = []
    quote, indent, block = "", -1, -1
    for line in _LINE.finditer(text, begin):
        start, end = line.span()
        content = line[0].rstrip()
        if not content:
            continue
        if quote:
            ends[-1] = end
            if _closes(content, quote):
                ends[-1] = start + len(content) - 1
                quote = ""
            continue
        lead = len(content) - len(content.lstrip(" "))
        if block >= 0:
            if lead > block:
                ends[-1] = end
                continue
            block = -1
        match = _YAML.match(content)
        dashes, bare, key = (match[2], match[3], match[4]) if match else ("", "", "")
        if not dashes and not bare and key is None:
            if not starts or lead <= indent:
                return None
            ends[-1] = end  # the value of the field above goes on
            continue
        if (dashes or bare) and lead == 0:
            records.append(start)
        if len(starts) >= _MAX_FIELDS:
            break
        indent = lead
        at = match.end() if match else 0
        value = content[at:]
        if not value:
            continue
        starts.append(start + at)
        ends.append(start + len(content))
        if value[0] in "\"'":
            starts[-1] += 1
            if len(value) > 1 and _closes(value[1:], value[0]):
                ends[-1] -= 1
            else:
                quote = value[0]
        elif value[0] in "|>" and len(value) <= 3:
            block = lead
    return Layout(tuple(starts), tuple(ends), tuple(records) or (0,)) if starts else None


def _closes(content: str, quote: str) -> bool:
    """Whether a line ends with the quote that closes a value, not with one that is written out."""
    rest = content.rstrip("\\") if quote == '"' and content.endswith("\\") else content
    if not rest.endswith(quote):
        return False
    if quote == "'":
        return (len(rest) - len(rest.rstrip("'"))) % 2 == 1
    before = rest[:-1]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 0
