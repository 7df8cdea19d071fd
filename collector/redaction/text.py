"""Replaces what the rules find in one text, and in JSON that stands in a text.

Pure but for the detectors. Promises: everything else in the text stays as it was, byte for byte; the same value becomes the
same placeholder; and what was replaced once is not touched again.
"""

from __future__ import annotations

import hmac
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, Protocol, TypeVar

import orjson
import re2

from collector.redaction.rules import DeniedKeys, Matcher, Ruleset, pattern_set

CONTEXT: Final = 40
"""Characters on either side in which a word of context counts."""
MAX_JSON: Final = 2**20
"""Longer JSON is read as plain text."""
MAX_NESTED: Final = 8
"""JSON in JSON in …"""
MAX_FINDINGS: Final = 200_000
"""In one request; more is not telemetry."""
_PASSES: Final = 8


class Exhausted(Exception):
    """A request asks for more work than any request may; says nothing of its content."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A part of a text that a detector wants replaced."""

    start: int
    end: int
    type: str
    """Upper case, e.g. `PERSON`."""


class Detector(Protocol):
    """Finds what patterns cannot: names, addresses. Must be safe to call from any thread."""

    def detect(self, text: str, /) -> Iterable[Finding]:
        """What to replace; offsets count characters."""


Placeholders = Callable[[str, str], str]
"""From type and canonical value to what stands in its place."""

_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def keyed(key: bytes) -> Placeholders:
    """`<EMAIL:…>` by HMAC-SHA256. Letters only, so that no rule and no grader takes it for a number."""

    def placeholder(type_: str, value: str) -> str:
        digest = hmac.digest(key, f"{type_}\0{value}".encode("utf-8", "surrogatepass"), "sha256")
        return f"<{type_}:{digest[:8].hex().translate(_LETTERS)}>"

    return placeholder


def typed(type_: str, value: str) -> str:
    """`<EMAIL>`."""
    return f"<{type_}>"


_PLACEHOLDER: Final = re2.compile(r"<[A-Z][A-Z0-9_]{0,31}(?::[a-p]{16})?>")
_OTHER_DIGITS: Final = re.compile(r"(?![0-9])\d")
_JSON_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*|[\[\]{}:,]|[a-z]+', re.DOTALL)
_SCHEMA: Final = re.compile(
    r'\{\s*"(?:type|\$ref|\$id|\$schema|description|title|anyOf|allOf|oneOf|enum|const|default|format|properties|items|examples'
    r'|nullable|minLength|maxLength|pattern)"'
)
"""The beginning of a JSON schema: a parameter named `password` is no password."""
_OF_A_CALL: Final = frozenset(
    ("arguments", "args", "function", "input", "response", "result", "tool_call", "tool_call_id")
)
"""Beside one of these, `id` is that of a tool call."""


def _words(key: str) -> tuple[str, ...]:
    """`user.dbPassword.0` is ("user", "db", "password")."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", key)
    return tuple(word for word in re.split(r"[^\w]|_", spaced.lower()) if word and not word.isdecimal())


def _phrase(keys: tuple[str, ...]) -> str:
    """The words of all keys, as context of what stands below them."""
    return " ".join((*(word for key in keys for word in _words(key)), ""))


_MAX_REMEMBERED: Final = 512
"""Characters of a key; who sends longer ones does not get our memory for them."""

_K = TypeVar("_K", str, tuple[str, ...])
_V = TypeVar("_V")


def _remembered(judge: Callable[[_K], _V]) -> Callable[[_K], _V]:
    cached = lru_cache(maxsize=4096)(judge)
    return lambda key: cached(key) if sum(map(len, key)) <= _MAX_REMEMBERED else judge(key)


@dataclass(slots=True)
class Work:
    """What was done for one request."""

    replaced: Counter[str] = field(default_factory=Counter)
    """By rule."""
    findings: int = 0


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    rank: int
    type: str
    value: str
    rule: str


class Texts:
    """Applies a rule set."""

    def __init__(
        self, rules: Ruleset, placeholder: Placeholders, detectors: Sequence[tuple[str, Detector]] = ()
    ) -> None:
        self._rules = rules
        self._placeholder = placeholder
        self._detectors = detectors
        # The same few keys come again and again.
        self._key = _remembered(self._judged)
        self._context = _remembered(self._searched)
        # Of screens, not of patterns: an automaton of all patterns with their counts has more states than can be kept.
        self._screen = pattern_set(rules.screens) if rules.screens else None

    def _judged(self, key: str) -> _Key:
        if self._rules.deny(key):
            return _Key(kept=False, denied=(DeniedKeys("DENIED", "denied", frozenset(), ()),))
        words = _words(key)
        ends = {words[-size:] for size in range(1, len(words) + 1)}
        denied = tuple(rule for rule in self._rules.denied_keys if not ends.isdisjoint(rule.names))
        return _Key(self._rules.keep(key), denied)

    def _denied(self, key: str, value: str, work: Work) -> str | None:
        """What replaces the whole value because of its key; None if nothing does."""
        for rule in self._key(key).denied:
            if value and all(check(value) for check in rule.checks) and not _PLACEHOLDER.fullmatch(value):
                return self._replace(work, rule.name, rule.type, value)
        return None

    def redact(self, text: str, keys: tuple[str, ...], work: Work, depth: int = 0) -> str:
        """`text`, found under `keys` (attribute first), with everything replaced that must be."""
        key = keys[-1] if keys else ""
        if self._key(key).kept:
            return text
        if (whole := self._denied(key, text, work)) is not None:
            return whole
        if depth == 0 and not self._may_hold(text, keys):
            return text
        if depth < MAX_NESTED and len(text) <= MAX_JSON and _is_json(text):
            return self._json(text, keys, work, depth)
        return self._plain(text, keys, work)

    def _may_hold(self, text: str, keys: tuple[str, ...]) -> bool:
        """Whether it is worth reading; what the screen of whole requests does, for one text and the keys above it."""
        if self._detectors or self._context(keys):
            return True
        return self._screen is not None and self._screen.Match(text.encode("utf-8", "surrogatepass")) is not None

    def _searched(self, keys: tuple[str, ...]) -> frozenset[int]:
        """The rules for which the keys above a value are context."""
        phrase = _phrase(keys)
        return frozenset(
            number
            for number, matcher in enumerate(self._rules.matchers)
            if matcher.context is not None and matcher.context.search(phrase)
        )

    def number(self, text: str, keys: tuple[str, ...], work: Work) -> str:
        """A number as it is written, or its placeholder."""
        key = keys[-1] if keys else ""
        if self._key(key).kept:
            return text
        whole = self._denied(key, text, work)
        return whole if whole is not None else self._plain(text, keys, work)

    # --- plain text

    def _plain(self, text: str, keys: tuple[str, ...], work: Work) -> str:
        said = tuple(self._detected(text, work)) if self._detectors else ()
        for _ in range(_PASSES):
            # What was replaced moves words of context nearer: only when nothing is left to find is the result stable.
            after = self._once(text, keys, work, said)
            if after == text:
                break
            text, said = after, ()
        return text

    def _once(self, text: str, keys: tuple[str, ...], work: Work, said: Sequence[_Span]) -> str:
        plain = text
        if not text.isascii() and _OTHER_DIGITS.search(text):
            plain = _OTHER_DIGITS.sub(lambda digit: str(int(digit.group())), text)
        raw = _without_escapes(plain.encode("utf-8", "surrogatepass"))
        near = self._context(keys)
        hits = self._screen.Match(raw) if self._screen is not None else None
        numbers = near.union(number for number in hits or () if number < len(self._rules.matchers))
        if not numbers and not said:
            return text
        taken = [match.span() for match in _PLACEHOLDER.finditer(raw)]
        spans = [span for number in numbers for span in self._spans(number, raw, taken, number in near, work)]
        if said:
            offsets = [0, *accumulate(len(char.encode("utf-8", "surrogatepass")) for char in plain)]
            moved = (_Span(offsets[s.start], offsets[s.end], s.rank, s.type, s.value, s.rule) for s in said)
            spans += [span for span in moved if not _overlaps(taken, span.start, span.end)]
        if not spans:
            return text
        pieces, at, chars = [], 0, 0
        for span in _joined(spans, raw):
            before = len(_text(raw[at : span.start]))
            pieces.append(text[chars : chars + before])
            pieces.append(self._replace(work, span.rule, span.type, span.value))
            chars += before + len(_text(raw[span.start : span.end]))
            at = span.end
        pieces.append(text[chars:])
        return "".join(pieces)

    def _spans(
        self, number: int, raw: bytes, taken: Sequence[tuple[int, int]], in_context: bool, work: Work
    ) -> Iterator[_Span]:
        matcher = self._rules.matchers[number]
        context = None if in_context else matcher.context
        if context is not None and not context.search(_PLACEHOLDER.sub(b"~", raw)):
            return
        for match in matcher.regex.finditer(raw):
            work.findings += 1
            if work.findings > MAX_FINDINGS:
                raise Exhausted(f"more than {MAX_FINDINGS} findings in one request")
            start, end = match.span(matcher.part)
            value = _text(raw[start:end])
            for check in matcher.checks:
                value = value[: check(value)]
            if not value:
                continue
            end = start + len(value.encode("utf-8", "surrogatepass"))
            if _overlaps(taken, start, end) or _touched(raw, start, end, matcher):
                continue
            if context is not None and not _near(context, raw, start, end):
                continue
            canonical = matcher.canonical(value, self._rules.countries)
            yield _Span(start, end, number, matcher.rule.type, canonical, matcher.rule.name)

    def _detected(self, text: str, work: Work) -> Iterator[_Span]:
        for rank, (name, detector) in enumerate(self._detectors, 1000):
            for found in detector.detect(text):
                if not 0 <= found.start < found.end <= len(text) or not _TYPE.fullmatch(found.type):
                    raise ValueError(f"detector {name} answered with a span or type that cannot be")
                value = text[found.start : found.end]
                yield _Span(found.start, found.end, rank, found.type, value, name)

    def _replace(self, work: Work, rule: str, type_: str, value: str) -> str:
        work.findings += 1
        if work.findings > MAX_FINDINGS:
            raise Exhausted(f"more than {MAX_FINDINGS} findings in one request")
        work.replaced[rule] += 1
        return self._placeholder(type_, value)

    # --- JSON

    def _json(self, text: str, keys: tuple[str, ...], work: Work, depth: int) -> str:
        """Token by token, so that what is not replaced keeps its spelling: spaces, order, the digits of numbers."""
        pieces: list[str] = []
        done = 0
        frames = [_Frame(is_object=False, keys=keys, denied="", piece=0)]
        for token in _JSON_TOKEN.finditer(text):
            part, frame = token.group(), frames[-1]
            if part in "[{":
                here = frame.value_keys()
                denied = frame.denied or self._names_secret(here[-1] if here else "")
                if denied and part == "{" and _SCHEMA.match(text, token.start()):
                    denied = ""
                frames.append(_Frame(is_object=part == "{", keys=here, denied=denied, piece=len(pieces)))
                continue
            if part in "]}":
                frames.pop()
                continue
            if part == ",":
                frame.expects_key = frame.is_object
                continue
            if part == ":":
                continue
            if frame.is_object and frame.expects_key:
                name = orjson.loads(part)
                frame.expects_key, frame.key = False, name
                if name in _OF_A_CALL and not frame.of_a_call:
                    frame.of_a_call = True
                    if frame.id_edit is not None:
                        pieces[frame.id_edit] = frame.id_text
                new = self._plain(name, (), work)
                after = part if new == name else json.dumps(new, ensure_ascii=part.isascii())
            else:
                after = self._scalar(part, frame, work, depth)
            if after != part:
                pieces += [text[done : token.start()], after]
                done = token.end()
                if frame.is_object and frame.key == "id" and not frame.expects_key:
                    frame.id_edit, frame.id_text = len(pieces) - 1, part
        pieces.append(text[done:])
        return "".join(pieces)

    def _names_secret(self, key: str) -> str:
        """The key, if whatever stands below it is to be replaced."""
        return key if any(not rule.checks for rule in self._key(key).denied) else ""

    def _scalar(self, part: str, frame: _Frame, work: Work, depth: int) -> str:
        if part[0].isalpha():
            return part
        keys = (*frame.value_keys(), frame.denied) if frame.denied else frame.value_keys()
        if part[0] == '"':
            if frame.of_a_call and frame.key == "id" and not self._key("id").denied:
                return part
            value = orjson.loads(part)
            new = self.redact(value, keys, work, depth + 1)
            return part if new == value else json.dumps(new, ensure_ascii=part.isascii())
        new = self.number(part, keys, work)
        return part if new == part else f'"{new}"'


@dataclass(frozen=True, slots=True)
class _Key:
    """What a key says about its value."""

    kept: bool
    denied: tuple[DeniedKeys, ...]


@dataclass(slots=True)
class _Frame:
    """An object or array that has begun."""

    is_object: bool
    keys: tuple[str, ...]
    denied: str
    piece: int
    key: str = ""
    expects_key: bool = False
    of_a_call: bool = False
    id_edit: int | None = None
    id_text: str = ""

    def __post_init__(self) -> None:
        self.expects_key = self.is_object

    def value_keys(self) -> tuple[str, ...]:
        """The keys above a value that stands here; the nearest few say what it is."""
        return (*self.keys[-2:], self.key) if self.is_object else self.keys


_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,31}")


def _is_json(text: str) -> bool:
    start = text.lstrip()[:1]
    if start not in ("{", "[", '"'):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _without_escapes(raw: bytes) -> bytes:
    r"""Spaces for the `\n` of JSON that could not be read as JSON, because it was cut off or stands in other text."""
    if b"\\" in raw:
        for escape in (b"\\n", b"\\r", b"\\t"):
            raw = raw.replace(escape, b"  ")
    return raw


def _overlaps(taken: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    at = bisect_right(taken, (start, end))
    return any(low < end and start < high for low, high in taken[max(0, at - 1) : at + 1])


_WORD: Final = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS: Final = frozenset(b"0123456789")
_JOINTS: Final = frozenset(b".,:/-")


def _touched(raw: bytes, start: int, end: int, matcher: Matcher) -> bool:
    """Whether what stands beside a value makes it part of something else."""
    edges = matcher.rule.edges
    if edges == "none":
        return False
    if edges == "code":
        return raw[end : end + 1] in (b"(", b"[", b"{")
    before, after = raw[max(0, start - 2) : start], raw[end : end + 2]
    if before and before[-1] in _WORD:
        return True
    if after and after[0] in _WORD:
        return True
    if edges == "number":
        if len(before) == 2 and before[1] in _JOINTS and before[0] in _DIGITS:
            return True
        return len(after) == 2 and after[0] in _JOINTS and after[1] in _DIGITS
    return False


def _near(context: Any, raw: bytes, start: int, end: int) -> bool:
    before = raw[max(0, start - 4 * CONTEXT - 64) : start].decode(errors="ignore")
    after = raw[end : end + 4 * CONTEXT + 64].decode(errors="ignore")
    around = (_PLACEHOLDER.sub("~", before)[-CONTEXT:], _PLACEHOLDER.sub("~", after)[:CONTEXT])
    return any(context.search(side) for side in around)


def _joined(spans: list[_Span], raw: bytes) -> Iterator[_Span]:
    """In order and apart: where several claim the same text, all of it goes, as what the first rule calls it."""
    spans.sort(key=lambda span: (span.start, -span.end, span.rank))
    current = spans[0]
    for span in spans[1:]:
        if span.start >= current.end:
            yield current
            current = span
        elif span.start == current.start:  # two names for one thing: the first rule knows better where it ends
            current = min(span, current, key=lambda s: s.rank)
        elif span.end <= current.end:
            continue
        else:
            first = min(span, current, key=lambda s: s.rank)
            whole = _text(raw[current.start : span.end])
            current = _Span(current.start, span.end, first.rank, first.type, whole, first.rule)
    yield current
