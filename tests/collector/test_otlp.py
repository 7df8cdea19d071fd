"""What is accepted, what it becomes, and what is refused with which words."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from collector.otlp import Encoding, Reject, RejectReason, accept, accept_logs, accept_traces, as_text

# --- building -----------------------------------------------------------------------------------------------------


def any_value(value: Any) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
        case dict():
            pairs = [KeyValue(key=key, value=any_value(item)) for key, item in value.items()]
            return AnyValue(kvlist_value=KeyValueList(values=pairs))
    raise TypeError(value)


def depth(value: AnyValue) -> int:
    if value.HasField("array_value"):
        return 1 + max(map(depth, value.array_value.values), default=0)
    if value.HasField("kvlist_value"):
        return 1 + max((depth(pair.value) for pair in value.kvlist_value.values), default=0)
    return 0


def span_places(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """Each holder of attributes of a one-span request."""
    [resource] = request.resource_spans
    [scope] = resource.scope_spans
    [span] = scope.spans
    return {
        "resource": resource.resource,
        "scope": scope.scope,
        "span": span,
        "event": span.events[0],
        "link": span.links[0],
    }


def one_span() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="s")
    span.events.add(name="e")
    span.links.add()
    return request


def log_places(request: ExportLogsServiceRequest) -> dict[str, Any]:
    [resource] = request.resource_logs
    [scope] = resource.scope_logs
    return {"resource": resource.resource, "scope": scope.scope, "record": scope.log_records[0]}


def one_log() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add()
    return request


# --- the fast lane ------------------------------------------------------------------------------------------------

SHALLOW = {
    "empty value": None,
    "text": "ünï\0",
    "bytes": b"\xff\x00",
    "smallest integer": -(2**63),
    "largest integer": 2**63 - 1,
    "not a number": math.nan,
    "infinity": -math.inf,
    "empty array": [],
    "empty map": {},
    "array of scalars": ["a", 1, 1.5, True, None, b"x"],
    "map of scalars": {"a": "b", "": None},
}


@pytest.mark.parametrize("value", SHALLOW.values(), ids=SHALLOW.keys())
def test_what_the_decoder_can_flatten_is_kept_byte_for_byte(value: Any) -> None:
    request = one_span()
    for holder in span_places(request).values():
        holder.attributes.add(key="k").value.CopyFrom(any_value(value))
    body = request.SerializeToString()
    accepted = accept_traces(body)
    assert accepted.payload is body
    assert accepted.count == 1


def test_equal_keys_in_a_map_are_kept() -> None:
    request = one_span()
    value = request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="k").value
    for number in (1, 2):
        value.kvlist_value.values.add(key="same").value.int_value = number
    body = request.SerializeToString()
    assert accept_traces(body).payload is body


def test_a_map_of_scalars_is_a_fine_log_body() -> None:
    request = one_log()
    log_places(request)["record"].body.CopyFrom(any_value({"a": 1}))
    body = request.SerializeToString()
    assert accept_logs(body).payload is body


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5)])
def test_items_are_counted_over_all_scopes_and_resources(shape: tuple[int, ...]) -> None:
    traces, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    for size in shape:
        for _ in range(2):
            spans, records = traces.resource_spans.add().scope_spans.add(), logs.resource_logs.add().scope_logs.add()
            for _ in range(size):
                spans.spans.add()
                records.log_records.add()
    assert accept_traces(traces.SerializeToString()).count == 2 * sum(shape)
    assert accept_logs(logs.SerializeToString()).count == 2 * sum(shape)


def test_odd_ids_unknown_enums_and_unknown_fields_pass() -> None:
    request = one_span()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.trace_id, span.span_id, span.kind = b"", b"\x01", 77
    body = request.SerializeToString() + b"\xfa\x7f\x03abc"  # field 2047, length-delimited
    assert accept_traces(body).payload is body


# --- deep values --------------------------------------------------------------------------------------------------

DEEP = {
    "array in array": ([["a", 1]], '[["a",1]]'),
    "empty array in array": ([[]], "[[]]"),
    "empty map in array": ([1, {}], "[1,{}]"),
    "array in map": ({"b": [1], "a": None}, '{"a":null,"b":[1]}'),
    "map in map": ({"é": {"z": 1, "a": 2}}, '{"é":{"a":2,"z":1}}'),
    "bytes": ([[b"\x00\xff"]], '[["AP8="]]'),
    "integers": ([[2**63 - 1, -(2**63)]], "[[9223372036854775807,-9223372036854775808]]"),
    "doubles": (
        [[1.0, 0.1, 1e20, 1e21, 1e-6, 1e-7, -0.0, 1.5e300]],
        "[[1,0.1,100000000000000000000,1e+21,0.000001,1e-7,-0,1.5e+300]]",
    ),
    "what JSON lacks": ([[math.nan, math.inf, -math.inf]], '[["NaN","Infinity","-Infinity"]]'),
    "text": ([['"<\n\u2028']], '[["\\"<\\n\u2028"]]'),
    "three levels": ({"a": [{"b": [True]}]}, '{"a":[{"b":[true]}]}'),
}


@pytest.mark.parametrize(("value", "text"), DEEP.values(), ids=DEEP.keys())
@pytest.mark.parametrize("place", ["resource", "scope", "span", "event", "link"])
def test_deep_values_of_traces_become_text(place: str, value: Any, text: str) -> None:
    request = one_span()
    attributes = span_places(request)[place].attributes
    attributes.add(key="before").value.array_value.values.add().int_value = 1
    attributes.add(key="deep").value.CopyFrom(any_value(value))
    expected = ExportTraceServiceRequest()
    expected.CopyFrom(request)
    span_places(expected)[place].attributes[1].value.string_value = text
    accepted = accept_traces(request.SerializeToString())
    assert ExportTraceServiceRequest.FromString(accepted.payload) == expected
    assert accepted.count == 1


@pytest.mark.parametrize(("value", "text"), DEEP.values(), ids=DEEP.keys())
@pytest.mark.parametrize("place", ["resource", "scope", "record", "body"])
def test_deep_values_of_logs_become_text(place: str, value: Any, text: str) -> None:
    request = one_log()
    places = log_places(request)
    target = places["record"].body if place == "body" else places[place].attributes.add(key="deep").value
    target.CopyFrom(any_value(value))
    expected = ExportLogsServiceRequest()
    expected.CopyFrom(request)
    places = log_places(expected)
    (places["record"].body if place == "body" else places[place].attributes[0].value).string_value = text
    assert ExportLogsServiceRequest.FromString(accept_logs(request.SerializeToString()).payload) == expected


def test_the_last_of_equal_keys_is_written() -> None:
    value = any_value({"m": {}})
    for number in (1, 2):
        value.kvlist_value.values[0].value.kvlist_value.values.add(key="same").value.int_value = number
    assert as_text(value) == '{"m":{"same":2}}'


def delimited(tag: bytes, content: bytes, long_length: bool = False) -> bytes:
    """A field of up to 127 bytes; its length in one byte or, just as valid, in two."""
    assert len(content) < 128
    return tag + (bytes([len(content) | 0x80, 0]) if long_length else bytes([len(content)])) + content


def in_span(value: bytes) -> bytes:
    attribute = delimited(b"\x0a", b"k") + value
    return delimited(b"\x0a", delimited(b"\x12", delimited(b"\x12", delimited(b"\x4a", attribute))))


HIDDEN = {
    "plain": delimited(b"\x12", delimited(b"\x2a", delimited(b"\x0a", b"\x2a\x00"))),
    "tag of two bytes": delimited(b"\x12", delimited(b"\xaa\x00", delimited(b"\x0a", b"\xaa\x00\x00"))),
    "length of two bytes": delimited(b"\x12", delimited(b"\x2a", delimited(b"\x0a", b"\x2a\x80\x00"), True), True),
    "behind an unknown field": delimited(b"\x12", delimited(b"\x2a", delimited(b"\x0a", b"\x78\x01\x2a\x00"))),
    "value sent in two pieces": b"\x12\x02\x2a\x00" + delimited(b"\x12", delimited(b"\x2a", b"\x0a\x02\x2a\x00")),
}


@pytest.mark.parametrize("value", HIDDEN.values(), ids=HIDDEN.keys())
def test_no_unusual_encoding_hides_a_deep_value(value: bytes) -> None:
    body = in_span(value)
    assert (
        depth(ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0].attributes[0].value)
        == 2
    )
    accepted = ExportTraceServiceRequest.FromString(accept_traces(body).payload)
    assert accepted.resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value == "[[]]"


def group(tag: int, content: bytes) -> bytes:
    return bytes([tag << 3 | 3]) + content + bytes([tag << 3 | 4])


def block(resource: bytes = b"", span: bytes = b"") -> bytes:
    return delimited(b"\x0a", resource + delimited(b"\x12", delimited(b"\x12", b"\x2a\x01s" + span)))


SHADOW = delimited(b"\x0a", b"tracegrade.arm") + delimited(b"\x12", delimited(b"\x0a", b"shadow"))

MISSPELT = {
    "resource as a group": block(group(1, delimited(b"\x0a", SHADOW))),
    "attribute as a group": block(delimited(b"\x0a", group(1, SHADOW))),
    "value as a group": block(span=delimited(b"\x4a", b"\x0a\x01k" + group(2, b"\x0a\x01v"))),
    "array in an array as a group": block(
        span=delimited(
            b"\x4a", b"\x0a\x01k" + delimited(b"\x12", delimited(b"\x2a", delimited(b"\x0a", group(5, b""))))
        )
    ),
    "unknown group": block(span=group(12, b"")),
    "name as a number": block(span=b"\x28\x07"),
    "time as a text": block(span=b"\x3a\x0812345678"),
}


@pytest.mark.parametrize("body", MISSPELT.values(), ids=MISSPELT.keys())
def test_fields_only_some_readers_see_are_left_out(body: bytes) -> None:
    """ClickHouse reads a group as the message, and a length-delimited number as a number; protobuf reads neither."""
    seen = ExportTraceServiceRequest.FromString(body)
    seen.DiscardUnknownFields()
    accepted = accept_traces(body)
    assert accepted.payload == seen.SerializeToString()
    assert accepted.count == 1


# --- garbage ------------------------------------------------------------------------------------------------------


def nested_value(levels: int) -> bytes:
    value = b""
    for _ in range(levels):
        for tag in (b"\x0a", b"\x2a"):
            size = len(value)
            prefix = bytearray()
            while size > 127:
                prefix.append(size & 127 | 128)
                size >>= 7
            value = tag + bytes([*prefix, size]) + value
    return value


def test_a_nesting_bomb_is_refused() -> None:
    request = one_span()
    request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="k")
    head = request.SerializeToString()
    bomb = nested_value(20_000)
    wrapped = bomb
    for tag in (b"\x12", b"\x4a", b"\x12", b"\x12", b"\x0a"):
        size, prefix = len(wrapped), bytearray()
        while size > 127:
            prefix.append(size & 127 | 128)
            size >>= 7
        wrapped = tag + bytes([*prefix, size]) + wrapped
    with pytest.raises(Reject, match="not a protobuf ExportTraceServiceRequest"):
        accept_traces(head + wrapped)


MALFORMED = {
    "noise": b"\xff\xff\xff\xff",
    "cut short": one_span().SerializeToString()[:-1],
    "groups without end": b"\x7b" * 10_000,
    "text that is not UTF-8": in_span(b"\x12\x03\x0a\x01\xff"),
    "JSON": b'{"resourceSpans":[]}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_protobuf_is_refused(body: bytes) -> None:
    with pytest.raises(Reject) as caught:
        accept_traces(body)
    assert caught.value.reason is RejectReason.MALFORMED_PROTOBUF
    assert "ExportTraceServiceRequest" in caught.value.message


@given(st.sampled_from(["traces", "logs"]), st.sampled_from(Encoding), st.binary(max_size=200))
def test_no_bytes_break_it(signal: Any, encoding: Encoding, body: bytes) -> None:
    try:
        accepted = accept(signal, encoding, body)
    except Reject:
        return
    real = ExportTraceServiceRequest if signal == "traces" else ExportLogsServiceRequest
    real.FromString(accepted.payload)


# --- properties over generated requests ---------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
).map(any_value)
pairs = st.lists(st.builds(KeyValue, key=st.text(max_size=5), value=values), max_size=3)


@st.composite
def trace_requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        resource = request.resource_spans.add(schema_url=draw(st.text(max_size=3)))
        resource.resource.attributes.extend(draw(pairs))
        for _ in range(draw(st.integers(0, 2))):
            scope = resource.scope_spans.add()
            scope.scope.name = draw(st.text(max_size=3))
            scope.scope.attributes.extend(draw(pairs))
            for _ in range(draw(st.integers(0, 2))):
                span = scope.spans.add(
                    trace_id=draw(st.binary(max_size=16)),
                    span_id=draw(st.binary(max_size=8)),
                    parent_span_id=draw(st.binary(max_size=8)),
                    name=draw(st.text(max_size=5)),
                    kind=draw(st.integers(0, 5)),
                    flags=draw(st.integers(0, 2**32 - 1)),
                    start_time_unix_nano=draw(st.integers(0, 2**64 - 1)),
                    attributes=draw(pairs),
                    dropped_attributes_count=draw(st.integers(0, 2**32 - 1)),
                )
                span.status.code = draw(st.integers(0, 2))
                for event in draw(st.lists(pairs, max_size=1)):
                    span.events.add(name="e", time_unix_nano=1, attributes=event)
                for link in draw(st.lists(pairs, max_size=1)):
                    span.links.add(trace_id=b"t", span_id=b"s", attributes=link)
    return request


@st.composite
def log_requests(draw: st.DrawFn) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        scope = request.resource_logs.add().scope_logs.add()
        for _ in range(draw(st.integers(0, 2))):
            record = scope.log_records.add(
                time_unix_nano=draw(st.integers(0, 2**64 - 1)),
                severity_number=draw(st.integers(0, 24)),
                attributes=draw(pairs),
                trace_id=draw(st.binary(max_size=16)),
            )
            if draw(st.booleans()):
                record.body.CopyFrom(draw(values))
    return request


def every_value(request: Any) -> list[AnyValue]:
    """All values that are not inside another value, found by reflection rather than by name."""
    found: list[AnyValue] = []

    def visit(message: Any) -> None:
        if isinstance(message, AnyValue):
            found.append(message)
            return
        for field, value in message.ListFields():
            if field.message_type is not None:
                for item in value if field.is_repeated else [value]:
                    visit(item)

    visit(request)
    return found


@given(st.one_of(trace_requests(), log_requests()))
def test_accepting_changes_deep_values_and_nothing_else(request: Any) -> None:
    body = request.SerializeToString()
    accepted = accept("traces" if isinstance(request, ExportTraceServiceRequest) else "logs", Encoding.PROTOBUF, body)
    for value in every_value(request):
        if depth(value) > 1:
            value.string_value = as_text(value)
    assert type(request).FromString(accepted.payload) == request
    assert (accepted.payload == body) == (request.SerializeToString() == body)


@given(trace_requests(), st.data())
def test_it_refuses_exactly_what_the_real_definitions_refuse(
    request: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    body = bytearray(request.SerializeToString() or b"\x0a\x00")
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        ExportTraceServiceRequest.FromString(bytes(body))
    except DecodeError:
        with pytest.raises(Reject):
            accept_traces(bytes(body))
    else:
        accept_traces(bytes(body))


@given(values)
def test_text_of_values_is_json_of_the_same_values(value: AnyValue) -> None:
    def plain(value: AnyValue) -> Any:
        kind = value.WhichOneof("value")
        if kind == "array_value":
            return [plain(item) for item in value.array_value.values]
        if kind == "kvlist_value":
            return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
        if kind == "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        if kind == "double_value" and math.isinf(value.double_value):
            return "Infinity" if value.double_value > 0 else "-Infinity"
        if kind == "int_value":
            return float(value.int_value)
        return getattr(value, kind) if kind else None

    assert json.loads(as_text(value), parse_int=float) == plain(value)


# --- JSON ---------------------------------------------------------------------------------------------------------


def otlp_json(request: Any) -> bytes:
    """OTLP/JSON of a request: protobuf's JSON, but ids in hex and enums as numbers."""

    def fix(node: Any) -> Any:
        if isinstance(node, list):
            return [fix(item) for item in node]
        if isinstance(node, dict):
            return {
                key: base64.b64decode(value).hex() if key in ("traceId", "spanId", "parentSpanId") else fix(value)
                for key, value in node.items()
            }
        return node

    return json.dumps(fix(json_format.MessageToDict(request, use_integers_for_enums=True))).encode()


@given(st.one_of(trace_requests(), log_requests()))
def test_json_becomes_what_protobuf_says(request: Any) -> None:
    signal = "traces" if isinstance(request, ExportTraceServiceRequest) else "logs"
    from_json = accept(signal, Encoding.JSON, otlp_json(request))
    from_protobuf = accept(signal, Encoding.PROTOBUF, request.SerializeToString())
    assert from_json.count == from_protobuf.count
    assert type(request).FromString(from_json.payload) == type(request).FromString(from_protobuf.payload)


def span_json(**fields: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}).encode()


def the_span(body: bytes) -> Any:
    payload = accept_traces(body, Encoding.JSON).payload
    return ExportTraceServiceRequest.FromString(payload).resource_spans[0].scope_spans[0].spans[0]


LENIENT: dict[str, tuple[dict[str, Any], Callable[[Any], Any], Any]] = {
    "ids in upper case": ({"traceId": "AB" * 16}, lambda s: s.trace_id, b"\xab" * 16),
    "empty parent": ({"parentSpanId": ""}, lambda s: s.parent_span_id, b""),
    "enum by name": ({"kind": "SPAN_KIND_SERVER"}, lambda s: s.kind, 2),
    "enum as digits": ({"kind": "3"}, lambda s: s.kind, 3),
    "nanoseconds as text": ({"startTimeUnixNano": "18446744073709551615"}, lambda s: s.start_time_unix_nano, 2**64 - 1),
    "nanoseconds as number": ({"startTimeUnixNano": 5}, lambda s: s.start_time_unix_nano, 5),
    "integral float": ({"startTimeUnixNano": 1.5e18}, lambda s: s.start_time_unix_nano, 1_500_000_000_000_000_000),
    "null is absent": ({"name": None, "attributes": None}, lambda s: (s.name, len(s.attributes)), ("", 0)),
    "unknown fields": ({"name": "n", "nope": {"a": [1]}}, lambda s: s.name, "n"),
    "snake case is unknown": ({"trace_id": "zz"}, lambda s: s.trace_id, b""),
    "integer value as number": (
        {"attributes": [{"key": "k", "value": {"intValue": -7}}]},
        lambda s: s.attributes[0].value.int_value,
        -7,
    ),
    "double as word": (
        {"attributes": [{"key": "k", "value": {"doubleValue": "-Infinity"}}]},
        lambda s: s.attributes[0].value.double_value,
        -math.inf,
    ),
    "base64 of the web": (
        {"attributes": [{"key": "k", "value": {"bytesValue": "_-8"}}]},
        lambda s: s.attributes[0].value.bytes_value,
        b"\xff\xef",
    ),
    "deep value": (
        {"attributes": [{"key": "k", "value": {"arrayValue": {"values": [{"arrayValue": {}}]}}}]},
        lambda s: s.attributes[0].value.string_value,
        "[[]]",
    ),
}


@pytest.mark.parametrize(("fields", "read", "expected"), LENIENT.values(), ids=LENIENT.keys())
def test_json_is_read_leniently(fields: dict[str, Any], read: Callable[[Any], Any], expected: Any) -> None:
    assert read(the_span(span_json(**fields))) == expected


@pytest.mark.parametrize(
    "document",
    [
        {"batches": [{"scopeSpans": [{"spans": [{"name": "n"}]}]}]},
        {
            "resourceSpans": [
                {"instrumentationLibrarySpans": [{"instrumentationLibrary": {}, "spans": [{"name": "n"}]}]}
            ]
        },
    ],
    ids=["Tempo", "before scopes"],
)
def test_older_names_are_understood(document: Any) -> None:
    assert the_span(json.dumps(document).encode()).name == "n"


REFUSED_JSON = {
    "not JSON": (b"{", "the body is not JSON"),
    "literal NaN": (b'{"resourceSpans": NaN}', "the body is not JSON"),
    "not UTF-8": (b'{"resourceSpans": "\xff"}', "the body is not JSON"),
    "lone surrogate": (b'{"a": "\\ud800"}', "the body is not JSON"),
    "empty": (b"", "the body is not JSON"),
    "array": (b"[]", "the document: expected an object, got an array"),
    "object for array": (b'{"resourceSpans": {}}', "resourceSpans: expected an array, got an object"),
    "id": (span_json(spanId="xyz"), "resourceSpans[0].scopeSpans[0].spans[0].spanId: expected hex digits, got 'xyz'"),
    "odd id": (span_json(spanId="abc"), "spans[0].spanId: expected hex digits"),
    "non-ASCII id": (span_json(spanId="éé"), "spans[0].spanId: expected hex digits"),
    "id as number": (span_json(spanId=5), "spanId: expected a string, got 5"),
    "negative time": (
        span_json(startTimeUnixNano=-1),
        "startTimeUnixNano: expected an integer from 0 to 18446744073709551615",
    ),
    "huge time": (span_json(startTimeUnixNano="9" * 5000), "startTimeUnixNano: expected an integer"),
    "fraction": (span_json(startTimeUnixNano=0.5), "startTimeUnixNano: expected an integer"),
    "boolean time": (span_json(startTimeUnixNano=True), "startTimeUnixNano: expected an integer"),
    "enum": (span_json(kind="SERVER"), "kind: expected a number or one of SPAN_KIND_UNSPECIFIED, SPAN_KIND_INTERNAL"),
    "enum range": (span_json(kind=2**31), "kind: expected an integer from -2147483648 to 2147483647"),
    "name": (span_json(name=["a"]), "name: expected a string, got an array"),
    "two values": (
        span_json(attributes=[{"key": "k", "value": {"intValue": 1, "stringValue": "a"}}]),
        "attributes[0].value: one value expected, got int_value, string_value",
    ),
    "boolean": (span_json(attributes=[{"value": {"boolValue": "yes"}}]), "value.boolValue: expected true or false"),
    "double": (
        span_json(attributes=[{"value": {"doubleValue": "inf"}}]),
        "value.doubleValue: expected a number, got 'inf'",
    ),
    "base64": (span_json(attributes=[{"value": {"bytesValue": "*"}}]), "value.bytesValue: expected base64"),
    "shown shortly": (span_json(spanId="x" * 10_000), "expected hex digits, got 'xxxx"),
}


@pytest.mark.parametrize(("body", "message"), REFUSED_JSON.values(), ids=REFUSED_JSON.keys())
def test_bad_json_is_refused_with_the_place(body: bytes, message: str) -> None:
    with pytest.raises(Reject) as caught:
        accept_traces(body, Encoding.JSON)
    assert message in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("levels", [60, 400, 100_000])
def test_a_nesting_bomb_in_json_is_refused(levels: int) -> None:
    value = '{"arrayValue":{"values":[' * levels + "]}}" * levels
    body = '{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":' + value + "}]}}]}"
    with pytest.raises(Reject) as caught:
        accept_traces(body.encode(), Encoding.JSON)
    assert len(caught.value.message) < 300


JSON_NAMES = [
    *("resourceSpans", "resource", "scopeSpans", "scope", "spans", "attributes", "key"),
    *("value", "traceId", "kind", "status", "code", "flags", "events"),
    *("links", "arrayValue", "values", "kvlistValue", "intValue", "doubleValue", "bytesValue"),
]

json_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(JSON_NAMES),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(json_documents)
def test_any_json_is_accepted_or_refused(document: Any) -> None:
    try:
        accepted = accept_traces(json.dumps(document).encode(), Encoding.JSON)
    except Reject:
        return
    ExportTraceServiceRequest.FromString(accepted.payload)


# --- growth -------------------------------------------------------------------------------------------------------


def resources(count: int, size: int, spans: int, name: str = "name of a span") -> bytes:
    request = ExportTraceServiceRequest()
    for _ in range(count):
        block = request.resource_spans.add()
        block.resource.attributes.add(key="big").value.string_value = "z" * size
        scope = block.scope_spans.add()
        for number in range(spans):
            scope.spans.add(name=name, trace_id=b"t" * 16, span_id=number.to_bytes(8), start_time_unix_nano=1)
    return request.SerializeToString()


def long_scope(spans: int) -> bytes:
    request = ExportTraceServiceRequest.FromString(resources(1, 0, spans))
    request.resource_spans[0].scope_spans[0].schema_url = "u" * 100_000
    return request.SerializeToString()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(resources(1, 100_000, 2000), id="a large resource over many spans"),
        pytest.param(resources(1, 20_000_000, 100), id="a very large resource over some spans"),
        pytest.param(resources(20, 5_000, 5) + resources(1, 100_000, 2000), id="hidden among others"),
        pytest.param(long_scope(2000), id="a long address of a scope's schema"),
        pytest.param(b"\x0a\x84\x80\x40\x12\x80\x80\x40" + b"\x12\x00" * 2**19, id="empty spans"),
    ],
)
def test_what_would_grow_out_of_proportion_is_refused(body: bytes) -> None:
    with pytest.raises(Reject, match="send fewer together") as raised:
        accept_traces(body)
    assert raised.value.reason is RejectReason.TOO_LARGE


@pytest.mark.parametrize(
    "shape", [(1, 5_000, 4000), (1, 100_000, 1), (300, 4_000, 10), (1, 20_000_000, 10), (1, 0, 10_000)]
)
def test_large_resources_in_proportion_pass(shape: tuple[int, int, int]) -> None:
    assert accept_traces(resources(*shape)).count == shape[0] * shape[2]


def test_json_of_too_many_objects_is_refused_before_it_is_read() -> None:
    body = b'{"resourceSpans":[' + b"{}," * 2_000_000 + b"{}]}"
    started = time.process_time()
    with pytest.raises(Reject, match="2000002 objects") as raised:
        accept_traces(body, Encoding.JSON)
    assert raised.value.reason is RejectReason.TOO_LARGE
    assert time.process_time() - started < 1


# --- speed --------------------------------------------------------------------------------------------------------


def test_accepting_costs_little_more_than_parsing(trace_request: Callable[..., bytes]) -> None:
    """A loose bound that holds on a busy machine: a Python loop over the spans would be far above it."""
    body = trace_request(*(f"span {number}" for number in range(512)), padding=600)

    def best(work: Callable[[bytes], object]) -> float:
        def once() -> float:
            before = time.process_time_ns()
            for _ in range(5):
                work(body)
            return (time.process_time_ns() - before) / 5 / 512 / 1000

        return min(once() for _ in range(10))

    parsing, accepting = best(ExportTraceServiceRequest.FromString), best(accept_traces)
    print(f"{accepting:.2f} µs a span to accept, {parsing:.2f} µs to parse")
    assert accepting < 4 * parsing + 0.5
