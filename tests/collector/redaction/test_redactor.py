"""Whole requests: only what was found changes, failure keeps no content, and nothing says what was found."""

from __future__ import annotations

import json
import logging
import stat
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.redaction import Finding, Redactor, make_redactor, redactor
from collector.redaction.rules import Group
from collector.redaction.settings import RedactionSettings
from store import StoreError
from store.yamlfile import ConfigError

EMAIL, CARD = "jane.doe@example.com", "4111 1111 1111 1111"


def build(tmp_path: Path, **settings: Any) -> Redactor:
    made = make_redactor(RedactionSettings(**{"groups": list(Group), **settings}), tmp_path / "redaction.key")
    assert made is not None
    return made


def traces(fill: Callable[[Any], None], spans: int = 3) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "support"
    scope = resource.scope_spans.add()
    for number in range(spans):
        span = scope.spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8), name="execute_tool send")
        span.attributes.add(key="gen_ai.tool.name").value.string_value = "send"
        span.attributes.add(key="gen_ai.tool.call.id").value.string_value = "call_1"
        if number == 1:
            fill(span)
    return request.SerializeToString()


def run(by: Redactor, payload: bytes, signal: Any = "traces") -> bytes:
    found = by.screen(payload)
    return payload if found is None else by.rewrite(signal, payload, found)


PLACES: dict[str, Callable[[Any, str], None]] = {
    "attribute": lambda span, text: setattr(span.attributes.add(key="a").value, "string_value", text),
    "json": lambda span, text: setattr(span.attributes.add(key="a").value, "string_value", json.dumps({"b": [text]})),
    "map": lambda span, text: setattr(
        span.attributes.add(key="a").value.kvlist_value.values.add(key="b").value, "string_value", text
    ),
    "array": lambda span, text: setattr(
        span.attributes.add(key="a").value.array_value.values.add(), "string_value", text
    ),
    "bytes": lambda span, text: setattr(span.attributes.add(key="a").value, "bytes_value", b"\xff" + text.encode()),
    "key": lambda span, text: setattr(span.attributes.add(key=text).value, "int_value", 1),
    "name": lambda span, text: setattr(span, "name", text),
    "status": lambda span, text: setattr(span.status, "message", text),
    "tracestate": lambda span, text: setattr(span, "trace_state", text),
    "event name": lambda span, text: setattr(span.events.add(), "name", text),
    "event": lambda span, text: setattr(span.events.add().attributes.add(key="a").value, "string_value", text),
    "link": lambda span, text: setattr(span.links.add().attributes.add(key="a").value, "string_value", text),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_place_is_read(tmp_path: Path, place: Callable[[Any, str], None]) -> None:
    by = build(tmp_path)
    before = traces(lambda span: place(span, f"mail {EMAIL}!"))
    after = run(by, before)
    assert EMAIL.encode() not in after
    assert after.count(b"<EMAIL:") == 1
    parsed, original = (ExportTraceServiceRequest.FromString(p) for p in (after, before))
    for one, two in zip(
        parsed.resource_spans[0].scope_spans[0].spans, original.resource_spans[0].scope_spans[0].spans, strict=True
    ):
        assert (one.trace_id, one.span_id, one.attributes[:2]) == (two.trace_id, two.span_id, two.attributes[:2])
    assert run(by, after) == after


def test_resource_scope_and_logs_are_read(tmp_path: Path) -> None:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="owner").value.string_value = EMAIL
    scope = resource.scope_logs.add()
    scope.scope.attributes.add(key="owner").value.string_value = EMAIL
    scope.scope.name = EMAIL
    scope.log_records.add(event_name=EMAIL).body.string_value = EMAIL
    scope.log_records.add().body.kvlist_value.values.add(key="content").value.string_value = EMAIL
    scope.log_records.add().attributes.add(key="content").value.string_value = EMAIL
    after = run(build(tmp_path), request.SerializeToString(), "logs")
    assert EMAIL.encode() not in after
    assert after.count(b"<EMAIL:") == 7


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("card.number", 4111111111111111, False),
        ("card.number", 4111111111111112, True),
        ("user.phone", 14155552671, False),
        ("user.password", 12345, False),
        ("gen_ai.usage.input_tokens", 4111111111111111, True),
        ("customer.phone", 4155552671.0, False),
    ],
)
def test_numbers_are_read_where_the_key_asks_for_it(tmp_path: Path, key: str, value: float, kept: bool) -> None:
    kind = "int_value" if isinstance(value, int) else "double_value"
    before = traces(lambda span: setattr(span.attributes.add(key=key).value, kind, value))
    assert (run(build(tmp_path), before) == before) is kept


def test_what_holds_nothing_is_not_touched(tmp_path: Path) -> None:
    by = build(tmp_path)
    before = traces(lambda span: setattr(span.attributes.add(key="a").value, "string_value", "order A-100 for 42.50"))
    assert by.screen(before) is None
    near = traces(lambda span: setattr(span.attributes.add(key="a").value, "string_value", "order 4111 1111 1111 1112"))
    assert run(by, near) is near
    counts = by.counts()
    assert (counts.requests, counts.read, counts.changed, counts.dropped) == (2, 1, 0, 0)


def test_fields_nobody_knows_go_where_something_is_found_in_them(tmp_path: Path) -> None:
    known = traces(lambda span: None)
    unknown = f"mail {EMAIL}".encode()
    field = bytes([99 << 3 & 0x7F | 2 | 0x80, 99 >> 4, len(unknown)]) + unknown
    assert run(build(tmp_path), known + field) == known
    harmless = field.replace(b"@", b"#")
    assert run(build(tmp_path), known + harmless) == known + harmless


@pytest.mark.parametrize(
    "value",
    [b"\x12\x16\x0a\x14%b\x12\x02\x18\x05" % EMAIL.encode(), b"\x12\x1b\x7a\x14%b\x0a\x03abc" % EMAIL.encode()],
    ids=["behind a later value", "in an unknown field"],
)
def test_what_protobuf_does_not_show_of_an_attribute_goes(tmp_path: Path, value: bytes) -> None:
    attribute = b"\x0a\x01k" + value
    span = b"\x4a" + bytes([len(attribute)]) + attribute
    scope = b"\x12" + bytes([len(span)]) + span
    block = b"\x12" + bytes([len(scope)]) + scope
    payload = b"\x0a" + bytes([len(block)]) + block
    after = run(build(tmp_path), payload)
    assert EMAIL.encode() not in after
    assert ExportTraceServiceRequest.FromString(after).ByteSize() == len(after) < len(payload)


def test_counts_name_rules_and_no_values(tmp_path: Path) -> None:
    by = build(tmp_path)
    run(by, traces(lambda span: setattr(span.attributes.add(key="a").value, "string_value", f"{EMAIL} {EMAIL} {CARD}")))
    counts = by.counts()
    assert counts.replaced == {"email": 2, "card": 1}
    assert EMAIL not in repr(counts)
    assert len(by.digest) == 16


# --- failing closed


class Broken:
    def detect(self, text: str, /) -> list[Finding]:
        raise ValueError(f"cannot read {text}")


class Slow:
    def detect(self, text: str, /) -> list[Finding]:
        time.sleep(0.2)
        return []


class Lying:
    def detect(self, text: str, /) -> list[Finding]:
        return [Finding(0, len(text) + 5, "PERSON")]


def with_detector(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    point = EntryPoint(name, f"{__name__}:{name}", redactor.DETECTORS)
    kinds = {"Broken": Broken, "Slow": Slow, "Lying": Lying}
    monkeypatch.setattr(EntryPoint, "load", lambda self: kinds[self.name])
    monkeypatch.setattr(redactor, "entry_points", lambda group: [point])


@pytest.mark.parametrize("name", ["Broken", "Slow", "Lying"])
def test_a_failure_keeps_the_structure_and_no_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with_detector(monkeypatch, name)
    by = build(tmp_path, detectors=[name], detector_seconds=0.05)

    def fill(span: Any) -> None:
        span.attributes.add(key="gen_ai.tool.call.arguments").value.string_value = "private words"
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 7
        span.events.add(name="private words").attributes.add(key="a").value.string_value = "private words"
        span.status.message = "private words"
        span.trace_state = "private=words,tracegrade=shadow"
        span.links.add(trace_id=b"l" * 16, trace_state="private=words")

    sent = ExportTraceServiceRequest.FromString(traces(fill))
    sent.resource_spans[0].schema_url = sent.resource_spans[0].scope_spans[0].schema_url = "private words"
    sent.resource_spans[0].resource.entity_refs.add(type="private words")
    origin = {"tracegrade.arm": "shadow", "tracegrade.tenant": "acme", "deployment.environment.name": "shadow"}
    for key, value in origin.items():
        sent.resource_spans[0].resource.attributes.add(key=key).value.string_value = value
    with caplog.at_level(logging.DEBUG):
        after = run(by, sent.SerializeToString())
    by.close()
    assert b"private" not in after
    assert "private" not in caplog.text
    (block,) = ExportTraceServiceRequest.FromString(after).resource_spans
    assert {pair.key: pair.value.string_value for pair in block.resource.attributes} == origin | {
        "service.name": "support"
    }
    spans = block.scope_spans[0].spans
    assert [span.trace_state for span in spans] == ["", "tracegrade=shadow", ""]
    assert [span.span_id for span in spans] == [number.to_bytes(8) for number in range(3)]
    attributes = {pair.key: pair.value for pair in spans[1].attributes}
    assert attributes["gen_ai.tool.name"].string_value == "send"
    assert attributes["gen_ai.tool.call.id"].string_value == "call_1"
    assert attributes["gen_ai.usage.input_tokens"].int_value == 7
    assert spans[1].links[0].trace_id == b"l" * 16
    assert all(
        any(pair.key == redactor.DROPPED and pair.value.bool_value for pair in span.attributes) for span in spans
    )
    assert (by.counts().dropped, sum(by.counts().replaced.values())) == (1, 0)


def test_a_failure_keeps_no_content_of_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_detector(monkeypatch, "Broken")
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(trace_id=b"t" * 16, event_name="private")
    record.body.string_value = "private"
    after = ExportLogsServiceRequest.FromString(
        run(build(tmp_path, detectors=["Broken"]), request.SerializeToString(), "logs")
    )
    (kept,) = after.resource_logs[0].scope_logs[0].log_records
    assert (kept.trace_id, [pair.key for pair in kept.attributes]) == (b"t" * 16, [redactor.DROPPED])
    assert not kept.HasField("body")


def test_too_much_to_find_is_a_failure_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.redaction.text.MAX_FINDINGS", 1000)
    by = build(tmp_path)
    after = run(
        by, traces(lambda span: setattr(span.attributes.add(key="a").value, "string_value", f"{EMAIL} " * 1001))
    )
    assert b"jane" not in after
    assert by.counts().dropped == 1


# --- configuration


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "below" / "key"
    first, second = (make_redactor(RedactionSettings(key_file=path), tmp_path / "unused") for _ in range(2))
    assert first is not None
    assert second is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]
    payload = traces(lambda span: setattr(span.attributes.add(key="password").value, "string_value", "x"))
    assert run(first, payload) == run(second, payload)
    given = make_redactor(RedactionSettings(key="another key of some length"), tmp_path / "unused")
    assert given is not None
    assert run(given, payload) != run(first, payload)
    assert not (tmp_path / "unused").exists()


def test_a_key_is_not_shown() -> None:
    assert "sesame" not in repr(RedactionSettings(key="open sesame, open sesame"))


@pytest.mark.parametrize(("content", "says"), [(b"", "holds 0 bytes"), (b"short\n", "holds 5 bytes")])
def test_a_bad_key_file_is_an_error(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "redaction.key").write_bytes(content)
    with pytest.raises(StoreError, match=says):
        build(tmp_path)


def test_a_key_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="key_file"):
        build(tmp_path, key_file=tmp_path / "file" / "key")


def test_nothing_to_redact_is_no_redactor(tmp_path: Path) -> None:
    assert make_redactor(RedactionSettings(groups=[]), tmp_path / "key") is None
    assert not (tmp_path / "key").exists()
    assert make_redactor(RedactionSettings(groups=[], deny=["a"]), tmp_path / "key") is not None


def test_a_country_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="no country is called UK, XX; write ISO 3166 codes"):
        RedactionSettings(countries=["GB", "UK", "XX"])


def test_an_unknown_detector_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"'nobody'; known"):
        build(tmp_path, detectors=["nobody"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: [{name: a, type: A, pattern: '('}]", r"rules\[0\].pattern: is not a pattern RE2 understands"),
        ("rules: [{name: a, type: A, pattern: '(?=a)b'}]", "not a pattern RE2 understands"),
        ("rules: [{name: a, type: A, pattern: 'a*'}]", "matches nothing at all"),
        ("rules: [{name: a, type: A, pattern: '^abc'}]", "give it a `screen`"),
        ("rules: [{name: a, type: a, pattern: 'abc'}]", r"rules\[0\].type"),
        ("rules: [{name: A-1, type: A, pattern: 'abc'}]", r"rules\[0\].name"),
        ("rules: [{name: a, type: A, pattern: 'abc', check: [lun]}]", "no check is called 'lun'; known: luhn"),
        ("rules: [{name: a, type: A, pattern: 'abc', check: ['stdnum:xx.yy']}]", "python-stdnum knows no xx.yy"),
        ("rules: [{name: a, type: A, pattern: 'abc', group: secret}]", "secrets"),
        ("rules: [{name: a, type: A, patern: 'abc'}]", "did you mean pattern"),
        ("rules: [{name: a, type: A, pattern: abc}, {name: a, type: A, pattern: abd}]", "several rules are called a"),
        ("keys: [{type: A, names: [Db-Password]}]", r"keys\[0\].names\[0\]"),
        ("rules: 3", "rules"),
    ],
)
def test_a_bad_rule_file_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        build(tmp_path, rules=path)


def test_rules_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n- {name: customer, type: CUSTOMER, pattern: '\\bC-[0-9]{6}\\b'}\n"
        "- {name: badge, type: BADGE, pattern: '\\b[0-9]{5}\\b', context: [badge], edges: number}\n"
        "keys:\n- {type: NAME, names: [first name, last name]}\n"
    )
    by = build(tmp_path, groups=[], rules=path)
    before = traces(
        lambda span: setattr(
            span.attributes.add(key="a").value,
            "string_value",
            '{"id": "C-123456", "firstName": "Ann", "note": "badge 12345", "room": "12346"}',
        )
    )
    after = run(by, before)
    assert by.counts().replaced == {"customer": 1, "key": 1, "badge": 1}
    assert b"Ann" not in after
    assert b"<CUSTOMER:" in after
    assert b"12345" not in after
    assert b"12346" in after


def test_a_missing_rule_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        build(tmp_path, rules=tmp_path / "none.yaml")
