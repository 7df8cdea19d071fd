"""Does the answer rest on a value that was superseded, or hide that sources disagree?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.evidence import values
from graders.checks.evidence.claims import MAX_ANSWER
from graders.checks.evidence.report import Report, report, words_of
from graders.checks.evidence.sources import Kind, Source
from graders.checks.evidence.state import no_answer
from graders.checks.evidence.text import fold
from graders.checks.evidence.words import words
from graders.content import canonical, decode
from store.types import Trace

_MAX_LEAVES = 2000
_MAX_DEPTH = 20
_MIN_TEXT = 3


class _Leaf(NamedTuple):
    path: tuple[str, ...]
    value: object


class Stale(Grader, name="evidence/stale", version="1"):
    """The answer gives the last value that was read, and owns up to sources that disagree.

    `fail` (`stale_value_used`): the same tool with the same arguments returned another value later, the answer gives the
    earlier one and not the later, the earlier stands in nothing that was read at the same time or after, and no word such as
    "previously" says that it is old. `unknown` (`conflict_unacknowledged`): two documents of one retrieval are JSON objects of
    the same id and differ in a value of which the answer gives one only, without a word such as "however". Only JSON results
    are compared, value by value. Skipped when the same thing was not read twice with different values.
    """

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return no_answer(trace)
        if len(trace.answer) > MAX_ANSWER:
            return unknown("the answer is longer than is read", label="budget_exceeded", span_id=trace.answer_span_id)
        repeated = _repeated(trace)
        several = sum(document.text[:1] in ("{", "[") for document in trace.documents) > 1
        if not repeated and not several:
            return skip("nothing was read twice")
        seen = report(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        differing = 0
        owns_up = not words().conflict.isdisjoint(words_of(seen.answer.folded.text))
        for earlier, later in _superseded(seen, repeated):
            differing += 1
            if owns_up or not _given(seen, earlier) or _given(seen, later) or _stands_later(seen, earlier):
                continue
            shown = f"{_name(earlier)}: {_text(earlier.leaf.value)[:80]}, later {_text(later.leaf.value)[:80]}"
            where = [_point(seen, earlier), _point(seen, later)]
            if seen.given.gap:
                return unknown(f"{shown}, but {seen.given.gap}", label="stale_value_used", evidence=where, **place)
            return failed(f"superseded: {shown}", label="stale_value_used", evidence=where, **place)
        for one, other in _conflicting(seen):
            differing += 1
            if owns_up or _given(seen, one) == _given(seen, other):
                continue
            shown = f"{_name(one)}: {_text(one.leaf.value)[:80]} and {_text(other.leaf.value)[:80]}"
            where = [_point(seen, one), _point(seen, other)]
            return unknown(f"sources differ in {shown}", label="conflict_unacknowledged", evidence=where, **place)
        if not differing:
            return skip("what was read twice was the same")
        return passed(f"{differing} values differ between readings; the answer is right about them", **place)


class _Read(NamedTuple):
    source: Source
    leaf: _Leaf


def _repeated(trace: Trace) -> list[list[int]]:
    """Positions of calls of the same tool with the same arguments, in time order, when there are several."""
    groups: dict[tuple[str, str], list[int]] = {}
    if len(trace.tool_calls) < 2:
        return []
    names = [call.name for call in trace.tool_calls]
    if len(set(names)) == len(names):
        return []
    for position, call in enumerate(trace.tool_calls):
        if call.result[:1] in ("{", "[") and call.executed is not False:
            arguments = canonical(call.arguments) if call.arguments is not None else call.arguments_text
            groups.setdefault((call.name, arguments), []).append(position)
    return [group for group in groups.values() if len({trace.tool_calls[i].result for i in group}) > 1]


def _superseded(seen: Report, repeated: list[list[int]]) -> Iterator[tuple[_Read, _Read]]:
    sources = {id(s.call): s for s in seen.given.sources if s.call is not None}
    for group in repeated:
        read = [sources[id(c)] for c in (seen.trace.tool_calls[i] for i in group) if id(c) in sources]
        if len(read) < 2:
            continue
        last = {leaf.path: leaf for leaf in _leaves(read[-1].text)}
        for source in read[:-1]:
            for leaf in _leaves(source.text):
                now = last.get(leaf.path)
                if now is not None and now.value != leaf.value:
                    yield _Read(source, leaf), _Read(read[-1], now)


def _conflicting(seen: Report) -> Iterator[tuple[_Read, _Read]]:
    """Values that two documents of one retrieval give for the same key of the same object."""
    known: dict[tuple[str, str, str], _Read] = {}
    for source in seen.given.sources:
        if source.kind is not Kind.DOCUMENT or source.text[:1] not in ("{", "["):
            continue
        value = decode(source.text)
        if not isinstance(value, dict):
            continue
        entity = next((f"{k}={v}" for k, v in value.items() if _is_key(k) and isinstance(v, str | int)), "")
        if not entity:
            continue
        for leaf in _leaves(source.text):
            place = (source.span_id, entity, ".".join(leaf.path))
            other = known.setdefault(place, _Read(source, leaf))
            if other.leaf.value != leaf.value:
                yield other, _Read(source, leaf)


def _is_key(name: str) -> bool:
    folded = name.casefold()
    return folded in ("id", "sku", "key", "code") or folded.endswith(("_id", "id_number", "_code"))


def _leaves(text: str) -> list[_Leaf]:
    """The values of a JSON text with their paths."""
    found: list[_Leaf] = []
    stack: list[tuple[tuple[str, ...], object]] = [((), decode(text))]
    while stack and len(found) < _MAX_LEAVES:
        path, value = stack.pop()
        if isinstance(value, Mapping):
            if len(path) < _MAX_DEPTH:
                stack += [((*path, str(k)), v) for k, v in value.items()]
        elif isinstance(value, list):
            if len(path) < _MAX_DEPTH:
                stack += [((*path, str(i)), v) for i, v in enumerate(value)]
        elif path and value is not None and not isinstance(value, bool):
            found.append(_Leaf(path, value))
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else canonical(value)


def _name(read: _Read) -> str:
    return ".".join(read.leaf.path)[:80]


def _given(seen: Report, read: _Read) -> bool:
    """Whether the answer gives a value."""
    value = read.leaf.value
    if isinstance(value, int | float):
        stated = seen.stated.numbers
        return any(values.near([float(value)], v, p) for number in stated for v, p in number.readings)
    text = fold(_text(value)).text
    return len(text) >= _MIN_TEXT and values.stands(seen.answer.folded.text, text)


def _stands_later(seen: Report, earlier: _Read) -> bool:
    """Whether another reading at the same time or later, or somebody, gives the earlier value."""
    call = earlier.source.call
    text = fold(_text(earlier.leaf.value)).text
    for source in seen.given.sources:
        if source is earlier.source:
            continue
        if source.call is not None and call is not None and source.call.index < call.index:
            continue
        if values.stands(source.folded.text, text):
            return True
    return False


def _point(seen: Report, read: _Read) -> Any:
    folded = read.source.folded.text
    key, value = fold(read.leaf.path[-1]).text, fold(_text(read.leaf.value)).text
    at = folded.find(f'"{key}"')
    at = folded.find(value, max(0, at))
    if at < 0:
        return seen.there(read.source, 0, min(100, len(folded)))
    return seen.there(read.source, at, at + len(value))
