"""What a call was given, value by value, and where a text holds one of them.

A value is compared the way a reader would see it: upper and lower case, marks nobody sees, look-alike letters and the spacing
of numbers make no difference. Offsets are those of the text as it is. Linear in the length of the text; nothing raises on any
input.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from itertools import accumulate, islice
from typing import Any, Literal, NamedTuple

import yaml

Kind = Literal["email", "url", "account", "handle", "text"]

_MAX_VALUES = 40
"""Of one call."""
_MAX_LENGTH = 400
"""A longer argument is text the agent wrote, not a value it was given."""
_MAX_PLACES = 200
"""Places of one value that are looked at."""

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_MAILBOX = re.compile(r"(?:mailto:|[^@<>]{0,80}<)?([\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})>?")
_URL = re.compile(
    r"(?:[a-z][a-z0-9+.-]{0,15}://|www\.)[^\s\"'<>]{1,2000}|(?:[\w-]{1,63}\.){1,8}[a-z]{2,18}/[^\s\"'<>]{0,2000}"
)
_PREFIX = re.compile(r"(?:[a-z][a-z0-9+.-]{0,15}://)?(?:www\.)?")
_ACCOUNT = re.compile(r"\+?[a-z0-9][a-z0-9 ().-]{6,60}|0x[0-9a-f]{40}|(?=[a-z]*\d)[a-z0-9]{25,64}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[t ][\d:.+-]*z?)?|\d{8}t?\d{0,6}z?")
_HANDLE = re.compile(r"@[a-z0-9_.-]{2,40}")
_PERHAPS = re.compile(r"\d\D{0,3}\d")
"""Stands in every account."""
_ENDS = " _.,;:!?#*'\"()[]{}<>-"
"""Marks at the ends of a value that a person who says it leaves out."""
_BETWEEN = "\n\0\n"
"""No value goes over it."""
_DIGIT = re.compile(r"\d")
_NOT_HOST = re.compile(r"[/?#:]")
_LISTED = re.compile(r"\s*[,;]\s*")
_SEPARATORS = dict.fromkeys(map(ord, " ().-"))


class Value(NamedTuple):
    """Something a call was given."""

    text: str
    kind: Kind
    needle: str
    """As it is looked for."""

    @property
    def site(self) -> str:
        """Whose address it is: the last parts of a host's name that are somebody's; empty for what is no address."""
        if self.kind not in ("email", "url"):
            return ""
        parts = self.host.split(".")
        shared = len(parts) > 2 and len(parts[-1]) == 2 and len(parts[-2]) <= 3  # such as co.uk
        return ".".join(parts[-3 if shared else -2 :])

    @property
    def host(self) -> str:
        return self.needle.rpartition("@")[2] if self.kind == "email" else _NOT_HOST.split(self.needle, maxsplit=1)[0]


class _Folding(dict[int, str]):
    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char) in ("Cf", "Mn", "Me"):
            found = ""
        else:
            small = unicodedata.normalize("NFKC", char).casefold()
            found = _lookalikes().get(char) or "".join(_lookalikes().get(c, c) for c in small)
        self[code] = found
        return found


_FOLDING = _Folding()


@cache
def _lookalikes() -> Mapping[str, str]:
    found: dict[str, str] = yaml.safe_load(files("graders").joinpath("lookalikes.yaml").read_text("utf-8"))
    return found


@lru_cache(maxsize=256)
def fold(text: str) -> str:
    """A text as it is compared."""
    return text.lower() if text.isascii() else text.translate(_FOLDING)


@lru_cache(maxsize=64)
def _squeezed(folded: str) -> str:
    """With every run of white space, also as an escape, as one blank."""
    return " ".join(folded.replace("\\n", " ").replace("\\", " ").split())


@lru_cache(maxsize=64)
def _joined(folded: str) -> str:
    """Without what separates the groups of a number."""
    return folded.translate(_SEPARATORS)


@lru_cache(maxsize=16)
def _origins(text: str) -> list[int]:
    return list(accumulate((len(_FOLDING[ord(c)]) for c in text), initial=0))


def _unfolded(text: str, start: int, end: int) -> tuple[int, int]:
    """Where a part of the folded text stands in the text."""
    if text.isascii():
        return start, end
    origins = _origins(text)
    return bisect_right(origins, start) - 1, bisect_right(origins, end - 1)


@lru_cache(maxsize=8192)
def value_of(text: str) -> Value:
    """A value and what kind it is."""
    folded = fold(text)
    if "@" in folded:
        if mailbox := _MAILBOX.fullmatch(folded):
            return Value(text, "email", mailbox[1])
        if _HANDLE.fullmatch(folded):
            return Value(text, "handle", folded)
    if "." in folded and _URL.fullmatch(folded):
        prefix = _PREFIX.match(folded)
        address = folded[prefix.end() if prefix else 0 :].rstrip("/")
        if address:
            return Value(text, "url", address)
    if _PERHAPS.search(folded) and _ACCOUNT.fullmatch(folded) and not _MOMENT.fullmatch(folded):
        number = _joined(folded)
        digits = len(_DIGIT.findall(number))
        if (digits >= 7 and digits * 2 >= len(number)) or (len(number) >= 25 and " " not in folded):
            return Value(text, "account", number)
    return Value(text, "text", _squeezed(folded).strip(_ENDS))


def values(arguments: object) -> list[Value]:
    """The values of a call's arguments, of a list each member."""
    found: dict[str, Value] = {}
    todo = [arguments]
    while todo and len(found) < _MAX_VALUES:
        value: Any = todo.pop()
        if isinstance(value, str):
            if len(value) > _MAX_LENGTH * 5:
                continue
            text = value.strip().strip("[]'\" ")
            parts = [p.strip("'\" ") for p in _LISTED.split(text)] if "@" in text else [text]
            for part in parts if all("@" in p for p in parts) else [text]:
                if 2 < len(part) <= _MAX_LENGTH or (len(part) == 2 and part.isdigit()):
                    known = value_of(part)
                    if len(known.needle) > 1:
                        found.setdefault(known.needle, known)
        elif isinstance(value, Mapping):
            todo += list(value.values())[:_MAX_VALUES]
        elif isinstance(value, list | tuple):
            todo += value[:_MAX_VALUES]
        elif isinstance(value, int) and not isinstance(value, bool) and 9 < value < 10**18:
            found.setdefault(str(value), Value(str(value), "text", str(value)))
    return list(found.values())


class Texts:
    """Several texts that values are looked up in, all at once."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        folded = [fold(text) for text in texts]
        self._folded = _BETWEEN.join(folded)
        self._starts = list(accumulate((len(text) + len(_BETWEEN) for text in folded), initial=0))

    def places(self, value: Value) -> list[tuple[int, int, int]]:
        """Where they hold a value that is no part of a longer one: the number of the text, start and end in it."""
        found = []
        for start, end in islice(_folded_places(value, self._folded), _MAX_PLACES):
            index = bisect_right(self._starts, start) - 1
            begin = self._starts[index]
            found.append((index, *_unfolded(self._texts[index], start - begin, end - begin)))
        return sorted(found)


def _wrapped(needle: str, folded: str) -> bool:
    """Whether a text holds words with other white space between them."""
    words = needle.split()
    return len(words) > 1 and all(word in folded for word in words) and needle in _squeezed(folded)


def holds(text: str, value: Value) -> bool:
    """Whether a text holds a value."""
    return next(_folded_places(value, fold(text)), None) is not None


def _folded_places(value: Value, folded: str) -> Iterator[tuple[int, int]]:
    needle = value.needle
    address = "." in needle  # or the name of a file
    direct, at, left = 0, folded.find(needle), _MAX_PLACES * 2
    while at >= 0 and left:
        direct, left = direct + 1, left - 1
        start, end = at, at + len(needle)
        if value.kind == "url":
            for prefix in ("www.", "https://", "http://"):
                if folded.endswith(prefix, 0, start):
                    start -= len(prefix)
        if not _part(folded[start - 1 : start], folded[end : end + 2], address):
            yield start, end
        at = folded.find(needle, end)
    if value.kind == "account" and left and _joined(folded).count(needle) > direct:
        pattern = r"[ ().-]{0,2}".join(re.escape(c) for c in needle)
    elif value.kind == "text" and not direct and _wrapped(needle, folded):
        pattern = r"(?:\\n|[\s\\]){1,40}".join(re.escape(w) for w in needle.split())
    else:
        return
    for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", folded):
        if match.end() - match.start() > len(needle) or not direct:
            yield match.span()


def _part(before: str, after: str, address: bool) -> bool:
    """Whether what stands around a value belongs to it."""
    if before.isalnum() or after[:1].isalnum():
        return True
    if not address:
        return False
    goes_on = after[:1] == "." and after[1:].isalnum()
    return goes_on or (before != "" and before in "@.-+_") or (after != "" and after[0] in "@-_")
