"""The labelled list: everything in it is found, nothing that only looks like it is, and the screen misses none of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.redaction.redactor import Redactor
from collector.redaction.rules import Group, Ruleset, built_in
from collector.redaction.text import Texts, Work, keyed

from .corpus import COUNTRIES, Case, load

FOUND, NEAR = load()
KEY = b"k" * 32


@pytest.fixture(scope="module")
def rules() -> Ruleset:
    return Ruleset(list(Group), countries=COUNTRIES)


@pytest.fixture(scope="module")
def texts(rules: Ruleset) -> Texts:
    return Texts(rules, keyed(KEY))


def test_everything_is_found(texts: Texts) -> None:
    missed = []
    for case in FOUND:
        work = Work()
        after = texts.redact(case.text, (), work)
        whole = not case.value and sorted(work.replaced.elements()) != sorted(case.rules)
        if after == case.text or whole or (case.value and case.value in after):
            missed.append((case.rules, case.text, after))
    assert not missed


def test_what_only_looks_like_it_stays(texts: Texts) -> None:
    changed = []
    for case in NEAR:
        work = Work()
        if texts.redact(case.text, (), work) != case.text:
            changed.append((case.text, dict(work.replaced)))
    assert not changed


def test_every_rule_has_an_example() -> None:
    named = {rule for case in FOUND for rule in case.rules}
    assert {rule.name for rule in built_in().rules} - named == set()


def test_numeric_rules_need_a_checksum_or_a_context() -> None:
    """A rule that a bare number satisfies would take order numbers away."""
    loose = [
        rule.name
        for rule in built_in().rules
        if rule.group not in (Group.SECRETS, Group.NETWORK) and not rule.check and not rule.context
    ]
    assert not loose


def test_once_is_enough(texts: Texts) -> None:
    for case in FOUND:
        after = texts.redact(case.text, (), Work())
        assert texts.redact(after, (), Work()) == after


def _spans(cases: list[Case]) -> bytes:
    """Each text at a place of its own, between neighbours and lengths that look like text themselves."""
    random_ = random.Random(3)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    scope = resource.scope_spans.add()
    for number, case in enumerate(cases):
        span = scope.spans.add(trace_id=random_.randbytes(16), span_id=random_.randbytes(8), name="chat")
        span.attributes.add(key="before").value.string_value = "x" * random_.randrange(48, 123)
        value = span.attributes.add(key="text").value
        match number % 6:
            case 0:
                value.string_value = case.text
            case 1:
                value.kvlist_value.values.add(key="inner").value.array_value.values.add().string_value = case.text
            case 2:
                value.bytes_value = case.text.encode()
            case 3:
                span.events.add(name="event").attributes.add(key="text").value.string_value = case.text
            case 4:
                span.status.message = case.text
            case 5:
                span.name = case.text
        span.attributes.add(key="after").value.int_value = number
    return request.SerializeToString()


def _found_texts(request: Any) -> Iterator[str]:
    for number, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
        value = span.attributes[1].value
        match number % 6:
            case 0:
                yield value.string_value
            case 1:
                yield value.kvlist_value.values[0].value.array_value.values[0].string_value
            case 2:
                yield value.bytes_value.decode()
            case 3:
                yield span.events[0].attributes[0].value.string_value
            case 4:
                yield span.status.message
            case 5:
                yield span.name


def test_the_screen_of_raw_bytes_misses_nothing(rules: Ruleset, texts: Texts) -> None:
    """Requests are read only where the screen hits; that must come to the same as reading every text."""
    redactor = Redactor(rules, keyed(KEY))
    for start in range(0, len(FOUND), 24):
        for cases in (FOUND[start : start + 24], [*NEAR[start : start + 24], FOUND[start], *NEAR[start : start + 3]]):
            payload = _spans(cases)
            hit = redactor.screen(payload)
            assert hit is not None
            after = ExportTraceServiceRequest.FromString(redactor.rewrite("traces", payload, hit))
            assert list(_found_texts(after)) == [texts.redact(case.text, (), Work()) for case in cases]


def test_the_screen_finds_each_text_alone(rules: Ruleset) -> None:
    """No text is found only because another one stands in the same request."""
    redactor = Redactor(rules, keyed(KEY))
    missed = []
    for number, case in enumerate(FOUND):
        request = ExportLogsServiceRequest()
        record = request.resource_logs.add().scope_logs.add().log_records.add()
        # Every length byte and every following tag at one time or another.
        record.body.string_value = case.text + " " * (number % 64)
        record.severity_text = "JRZbj"[number % 5]
        payload = request.SerializeToString()
        hit = redactor.screen(payload)
        if hit is None or redactor.rewrite("logs", payload, hit) == payload:
            missed.append(case.text)
    assert not missed
