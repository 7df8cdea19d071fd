"""Text of unknown origin as words that can be compared, with the way back to where each stood.

`fold` makes two spellings of one text equal: case, quotation marks, dashes, blanks, full-width letters and native digits,
JSON escapes. `stems` cuts a text into
words that are equal when they differ in their endings only. Everything here takes time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

from graders.checks.evidence.words import words

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_UNSEEN = r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]"
_INVISIBLE = re.compile(_UNSEEN)
_ASCII = bytes(range(128))
_SIGMA = "\u03a3"
"""The only letter whose small form hangs on what stands beside it."""
_FEW_CHARS = 40
"""Different characters that are each looked for in the whole text; with more, the text is read character by character."""
_CODED = re.compile(rf"\\u[0-9a-fA-F]{{4}}|{_UNSEEN}")
_ESCAPES = {"n": "\n ", "r": "\n ", "t": "  ", '"': ' "', "/": " /"}
"""The sign behind a backslash in JSON, and what stands for both in as many characters."""
_MANY_POINTS = 20_000


class _Same(dict[int, int]):
    """Code point to the one it is compared as; filled as characters are met."""

    def __missing__(self, point: int) -> int:
        char = "i" if point == 0x130 else chr(point).lower()
        point, asked = ord(char), point
        if (digit := unicodedata.decimal(char, None)) is not None:
            same = 48 + digit
        elif char in "\u2018\u2019\u201a\u201b\u2032\u02bc":
            same = 39
        elif char in "\u201c\u201d\u201e\u201f\u00ab\u00bb\u300c\u300d\u2033":
            same = 34
        elif char in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212":
            same = 45
        elif char.isspace():
            same = 10 if char in "\u2028\u2029\x85" else 32
        else:
            plain = unicodedata.normalize("NFKC", char).lower()
            same = ord(plain) if len(plain) == 1 else point
            if 48 <= same <= 57:  # a power or a footnote is no digit of the number before it
                same = 32
        if len(self) > _MANY_POINTS:
            self.clear()
        self[asked] = same
        return same


_SAME = _Same()


class Folded(NamedTuple):
    """A text for comparing, and how far each part has moved."""

    text: str
    moved: tuple[tuple[int, int], ...] = ()
    """From this position on in the folded text, add so much to get the position in the raw one."""

    def raw(self, position: int) -> int:
        """Where a character of the folded text stood."""
        if not self.moved:
            return position
        at = bisect_right(self.moved, (position, 1 << 60)) - 1
        return position + (self.moved[at][1] if at >= 0 else 0)


def fold(text: str) -> Folded:
    """The text in lower case with one way to write each character; JSON escapes are resolved."""
    moved: tuple[tuple[int, int], ...] = ()
    if "\\u" in text:
        text, moved = _resolved(text, _CODED)
    elif not text.isascii() and _INVISIBLE.search(odd(text)):
        text, moved = _resolved(text, _INVISIBLE)
    if "\\" in text:
        text = _unescaped(text)
    return Folded(text.lower() if text.isascii() else _alike(text), moved)


def odd(text: str) -> str:
    """The characters of a text that are not ASCII, in order: few in most texts, and found without looking at the others."""
    return text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")


def _alike(text: str) -> str:
    """The text with one way to write each character."""
    coded = text.encode("utf-8", "surrogatepass")
    met = set(coded.translate(None, _ASCII).decode("utf-8", "surrogatepass"))
    other = {char: same for char in met if (same := chr(_SAME[ord(char)])) != char}
    if _SIGMA in met or len(other) > _FEW_CHARS or not other.keys().isdisjoint(other.values()):
        lower = text.replace("\u0130", "I").lower()
        return _NOT_ASCII.sub(lambda m: m[0].translate(_SAME), lower)
    text = coded.lower().decode("utf-8", "surrogatepass")  # bytes: ASCII letters only, and at once
    for char, same in other.items():
        text = text.replace(char, same)
    return text


def _unescaped(text: str) -> str:
    """The text without the escapes of JSON, as long as it was."""
    first, *rest = text.split("\\")
    parts, doubled = [first], False
    for part in rest:
        if doubled:
            parts.append(part)
            doubled = False
        elif not part:
            doubled = True
            parts.append("  ")
        elif plain := _ESCAPES.get(part[0]):
            parts += (plain, part[1:])
        else:
            parts += ("\\", part)
    if doubled:  # nothing follows the last
        parts[-1] = "\\"
    return "".join(parts)


def _resolved(text: str, odd: re.Pattern[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    parts: list[str] = []
    moved: list[tuple[int, int]] = []
    done = length = 0
    for match in odd.finditer(text):
        parts.append(text[done : match.start()])
        length += match.start() - done
        if match[0][0] == "\\":
            char = chr(int(match[0][2:], 16))
            parts.append(" " if "\ud800" <= char <= "\udfff" else char)
            length += 1
        done = match.end()
        moved.append((length, done - length))
    parts.append(text[done:])
    return "".join(parts), tuple(moved)


# --- words ----------------------------------------------------------------------------------------------------------


class _Stems(dict[str, str]):
    """Word to stem; filled as words are met."""

    def __missing__(self, word: str) -> str:
        if len(self) > 200_000:
            self.clear()
        found = self[word] = _stem(word)
        return found


def _stem(word: str) -> str:
    """The word without the commonest endings of English: measured as good as Snowball for finding evidence, and lighter."""
    if len(word) <= 3 or not word.isalpha() or len(word) > 40:
        return word[:64]
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes")):
        word = word[:-2]
    elif word[-1] == "s" and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("ing") and len(word) > 5:
        word = word[:-3]
    elif (word.endswith("ed") and len(word) > 4) or (word.endswith("ly") and len(word) > 5):
        word = word[:-2]
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    if len(word) > 5 and word.endswith("ll"):  # cancelled, cancels
        word = word[:-1]
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" else word


STEMS = _Stems()


@cache
def stop_stems() -> frozenset[str]:
    """The stems of words without weight."""
    return frozenset(STEMS[word] for word in words().stop)


_WORD = re.compile(r"[^\W_]+")
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")


def stems(folded: str, start: int = 0, end: int | None = None) -> list[str]:
    """The stems of a part of a folded text, in order."""
    part = folded if end is None else folded[start:end]
    return list(map(STEMS.__getitem__, words_in(part)))


def words_in(folded: str) -> list[str]:
    """The words of a folded text, in order; scripts without blanks in overlapping pairs of characters."""
    return [word for word, _ in spelled(folded, 0, len(folded))] if _pairs(folded) else runs_in(folded)


def runs_in(folded: str) -> list[str]:
    """The runs of letters and digits of a folded text, in order."""
    if folded.isascii():
        return folded.translate(_BLANKS).split()
    marks = [char for char in set(odd(folded)) if not char.isalnum()]
    if len(marks) > _FEW_CHARS:
        return _FAST_WORD.findall(folded.replace("_", " "))
    for char in marks:
        folded = folded.replace(char, " ")
    return folded.encode("utf-8", "surrogatepass").translate(_BLANK_BYTES).decode("utf-8", "surrogatepass").split()


_FAST_WORD = re.compile(r"\w+")
_BLANKS = "".join(chr(point) if chr(point).isalnum() else " " for point in range(128))
_BLANK_BYTES = _BLANKS.encode() + bytes(range(128, 256))


def spelled(folded: str, start: int, end: int) -> Iterator[tuple[str, int]]:
    """Each word of a part of a folded text, and where it begins."""
    for match in _SCRIPTS.finditer(folded, start, end):
        run = match[0]
        if not _HAS_UNSPACED.match(run) or len(run) == 1:
            yield run, match.start()
        else:
            for at in range(len(run) - 1):
                yield run[at : at + 2], match.start() + at


_SCRIPTS = re.compile(f"[{_UNSPACED}]+|[^\\W_{_UNSPACED}]+")
"""Scripts without blanks are read in overlapping pairs of characters."""


_BLOCK = 1000
"""Characters that are read again to find where a word stands."""


def block_end(folded: str, start: int) -> int:
    """The next place where a text may be cut without cutting a word, about so many characters further."""
    blank = _GAP.search(folded, start + _BLOCK)
    return blank.end() if blank else len(folded)


_GAP = re.compile(r"[\s,.;:]+")


def start_of(folded: str, start: int, end: int, number: int) -> int:
    """Where a word begins, counted from the beginning of a block."""
    if folded.isascii():
        return end - len(folded[start:end].translate(_BLANKS).split(None, number)[-1])
    if not _pairs(folded[start:end]):
        return next(islice(_WORD.finditer(folded, start, end), number, None)).start()
    return next(islice(spelled(folded, start, end), number, None))[1]


def _pairs(folded: str) -> bool:
    return not folded.isascii() and _HAS_UNSPACED.search(odd(folded)) is not None


BREAK = re.compile(r"[.!?]\s|[\n{}\u3002\uff01\uff1f]")
"""The end of a sentence, a line or a JSON object."""


def sentences(folded: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of a part of a folded text."""
    for match in BREAK.finditer(folded, start, end):
        yield start, match.end()
        start = match.end()
    if start < end:
        yield start, end


def language(found: Sequence[str]) -> str:
    """The language most of whose frequent words occur, if it is clear; else empty. Takes words, not stems."""
    unlike = frozenset(found)
    counts = sorted(((len(one.stop & unlike), name) for name, one in words().languages.items()), reverse=True)
    (most, name), (next_most, _) = counts[0], counts[1]
    return name if most >= 3 and most >= 2 * next_most else ""
