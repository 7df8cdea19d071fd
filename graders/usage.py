"""What the model calls of a trace used: each call once, and its tokens by kind.

Where a dialect writes which count is data (`usage` in store/dialects.yaml). A count that is not told is None, never zero. What
is told is a stranger's word: a count that is no whole number from 0 is not told.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import orjson

from store.dialects import mapping
from store.types import Span, SpanKind, Trace


class Tokens(NamedTuple):
    """Tokens of one model call."""

    input: int | None
    """All that went in, from a cache or not."""
    output: int | None
    """All that came out, reasoning included."""
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None
    cache_write_1h: int | None = None
    """Of those written, how many for an hour rather than for minutes."""


class Usage(NamedTuple):
    """What a trace used."""

    calls: tuple[Span, ...]
    """Its model calls, each once, in time order."""
    tokens: tuple[Tokens, ...]
    """What each tells."""


_last: tuple[tuple[Span, ...], Usage] = ((), Usage((), ()))


def usage_of(trace: Trace) -> Usage:
    """What the model calls of a trace used."""
    global _last
    spans = trace.spans
    known, found = _last
    if known is not spans:  # a dozen graders ask about one trace, one after the other
        calls = tuple(_model_calls(spans))
        found = Usage(calls, tuple(map(tokens_of, calls)))
        _last = spans, found
    return found


def model_calls(trace: Trace) -> tuple[Span, ...]:
    """The model calls, each once, in time order.

    Some frameworks wrap one call in another and count both: the inner one stands. Two instrumentations at work describe one
    call in two spans beside each other: they overlap in time and tell one response id; the first that tells its tokens stands.
    An id that a later call repeats is another call's. A span that names no model and tells nothing, beside one that tells its
    tokens, is a piece of a call: some frameworks make one for each event of a stream.
    """
    return usage_of(trace).calls


def _model_calls(spans: tuple[Span, ...]) -> list[Span]:
    models = [s for s in spans if s.kind is SpanKind.LLM]
    if len(models) < 2:
        return models
    outer = {s.parent_span_id for s in models}
    keys = mapping().usage.response_id
    kept: list[Span] = []
    seen: dict[str, int] = {}
    for span in models:
        if span.span_id in outer:
            continue
        response = _first(span.attributes, keys)
        twin = seen.get(response) if response else None
        if twin is not None and span.start_ns <= kept[twin].end_ns and kept[twin].start_ns <= span.end_ns:
            if kept[twin].input_tokens is None and span.input_tokens is not None:
                kept[twin] = span
            continue
        if response:
            seen[response] = len(kept)
        kept.append(span)
    if all(s.model or s.input_tokens is not None for s in kept):
        return kept
    telling = {s.parent_span_id for s in kept if s.input_tokens is not None}
    return [
        s
        for s in kept
        if s.model or s.input_tokens is not None or s.status == "Error" or s.parent_span_id not in telling
    ]


def tokens_of(span: Span) -> Tokens:
    """What one model call tells of its tokens, counted the same way whatever the dialect."""
    keys, attributes = mapping().usage, span.attributes
    taken, given = _told(span.input_tokens), _told(span.output_tokens)
    if attributes.keys().isdisjoint(_told_by()):
        return Tokens(taken, given, None, None, None)
    read, write = _count(attributes, keys.cache_read), _count(attributes, keys.cache_write)
    reasoning = _count(attributes, keys.reasoning)
    # Counts that cannot be part of the whole stand beside it, whatever the dialect is said to do.
    cached = (read or 0) + (write or 0)
    if taken is not None and cached and (span.dialect in keys.apart.input or cached > taken):
        taken += cached
    if given is not None and reasoning and (span.dialect in keys.apart.output or reasoning > given):
        given += reasoning
    long = _count(attributes, keys.cache_write_1h) if write else None
    return Tokens(taken, given, read, write, reasoning, long and min(long, write or 0))


@cache
def _told_by() -> frozenset[str]:
    """The attributes that may hold counts of cached and reasoning tokens."""
    keys = mapping().usage
    return frozenset(key.partition("#")[0] for key in (*keys.cache_read, *keys.cache_write, *keys.reasoning))


def _told(count: int | None) -> int | None:
    return count if count is None or count >= 0 else None


def provider_of(span: Span) -> str:
    """Who was asked, as the span says; empty if it does not."""
    return _first(span.attributes, mapping().usage.provider)


def _first(attributes: Mapping[str, str], keys: tuple[str, ...]) -> str:
    for key in keys:
        if value := attributes.get(key):
            return value
    return ""


def _count(attributes: Mapping[str, str], keys: tuple[str, ...]) -> int | None:
    for key in keys:
        text = attributes.get(key)
        if text is None and "#" in key:
            text = _member(attributes, key)
        if text:
            return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
    return None


def _member(attributes: Mapping[str, str], key: str) -> str | None:
    attribute, _, member = key.partition("#")
    text = attributes.get(attribute)
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    value = found.get(member) if isinstance(found, dict) else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
