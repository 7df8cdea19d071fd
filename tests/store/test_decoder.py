"""ClickHouse's decoding of OTLP against the same request read in Python."""

from __future__ import annotations

import base64
import json
import math
import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from store.client import Store
from store.errors import Permanent

NOW = 1_790_000_000_000_000_000


def write(path: Path, *requests: ExportTraceServiceRequest | ExportLogsServiceRequest) -> Path:
    bodies = [r.SerializeToString() for r in requests]
    path.write_bytes(b"".join(_VarintBytes(len(b)) + b for b in bodies))
    return path


def one_span(**fields: object) -> tuple[ExportTraceServiceRequest, object]:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    span = scope.spans.add(
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        name="chat",
        start_time_unix_nano=NOW,
        end_time_unix_nano=NOW,
    )
    for name, value in fields.items():
        setattr(span, name, value)
    return request, span


# --- the reference: what the Collector's exporter writes -----------------------------------------------------------------


def scalar_json(value: AnyValue) -> str:
    match value.WhichOneof("value"):
        case "string_value":
            return json.dumps(value.string_value, ensure_ascii=False)
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "bytes_value":
            return json.dumps(base64.b64encode(value.bytes_value).decode())
        case _:
            return "null"


def text(value: AnyValue) -> str:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value":
            return "[" + ",".join(scalar_json(v) for v in value.array_value.values) + "]"
        case "kvlist_value":
            pairs = sorted(value.kvlist_value.values, key=lambda p: p.key.encode())
            return (
                "{" + ",".join(json.dumps(p.key, ensure_ascii=False) + ":" + scalar_json(p.value) for p in pairs) + "}"
            )
        case _:
            return ""


scalars = st.one_of(
    st.builds(lambda s: AnyValue(string_value=s), st.text(st.characters(exclude_categories=["Cs"]))),
    st.builds(lambda b: AnyValue(bool_value=b), st.booleans()),
    st.builds(lambda i: AnyValue(int_value=i), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda b: AnyValue(bytes_value=b), st.binary()),
    st.just(AnyValue()),
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def values(draw: st.DrawFn) -> AnyValue:
    kind = draw(st.sampled_from(["scalar", "array", "map"]))
    if kind == "scalar":
        return draw(scalars)
    value = AnyValue()
    if kind == "array":
        value.array_value.values.extend(draw(st.lists(scalars, max_size=4)))
        value.array_value.SetInParent()
    else:
        for key, item in draw(st.dictionaries(keys, scalars, max_size=4)).items():
            value.kvlist_value.values.add(key=key, value=item)
        value.kvlist_value.SetInParent()
    return value


def same_json(left: str, right: str) -> bool:
    try:
        return json.loads(left) == json.loads(right)
    except ValueError:
        return False


def test_attribute_values_arrive_as_the_exporter_writes_them(store: Store, tmp_path: Path) -> None:
    count = 0

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(keys, values(), max_size=8))
    def check(attributes: dict[str, AnyValue]) -> None:
        nonlocal count
        count += 1
        trace_id = struct.pack(">QQ", 7, count)
        request, span = one_span(trace_id=trace_id)
        for key, value in attributes.items():
            span.attributes.add(key=key, value=value)  # type: ignore[attr-defined]
        store.load("traces", f"values-{count}", write(tmp_path / "segment", request))
        [row] = store.query(
            "SELECT SpanAttributes FROM otel_traces WHERE TraceId = {id:String}", {"id": trace_id.hex()}
        )
        assert row["SpanAttributes"].keys() == attributes.keys()
        for key, value in attributes.items():
            stored, expected = row["SpanAttributes"][key], text(value)
            # JSON text may escape differently and mean the same.
            assert stored == expected or (stored[:1] in '[{"' and same_json(stored, expected))

    check()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, "0.1"),
        (3.0, "3"),
        (1e300, "1e300"),
        (-0.0, "-0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_doubles_as_text(store: Store, tmp_path: Path, value: float, expected: str) -> None:
    request, span = one_span()
    span.attributes.add(key="x").value.double_value = value  # type: ignore[attr-defined]
    span.attributes.add(key="xs").value.array_value.values.add(double_value=value)  # type: ignore[attr-defined]
    store.load("traces", "doubles", write(tmp_path / "segment", request))
    [row] = store.query("SELECT SpanAttributes FROM otel_traces")
    assert row["SpanAttributes"]["x"] == expected
    inside = expected if math.isfinite(value) else f'"{expected}"'
    assert row["SpanAttributes"]["xs"] == f"[{inside}]"


def test_every_column_of_the_exporter_is_filled(store: Store, tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "lib", "1.2"
    span = scope.spans.add(
        trace_id=b"\xab" * 16,
        span_id=b"\xcd" * 8,
        parent_span_id=b"\xef" * 8,
        trace_state="a=b",
        name="chat gpt",
        kind=3,
        start_time_unix_nano=NOW + 1,
        end_time_unix_nano=NOW + 8,
        dropped_attributes_count=5,
    )
    span.status.code, span.status.message = 2, "boom"
    event = span.events.add(name="e", time_unix_nano=NOW + 2)
    event.attributes.add(key="k").value.int_value = 1
    link = span.links.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8, trace_state="s")
    link.attributes.add(key="l").value.bool_value = False
    store.load("traces", "columns", write(tmp_path / "segment", request))
    [row] = store.query("SELECT *, toUnixTimestamp64Nano(Timestamp) AS Nanos FROM otel_traces")
    expected = {
        "TraceId": "ab" * 16,
        "SpanId": "cd" * 8,
        "ParentSpanId": "ef" * 8,
        "TraceState": "a=b",
        "SpanName": "chat gpt",
        "SpanKind": "Client",
        "ServiceName": "shop",
        "ResourceAttributes": {"service.name": "shop"},
        "ScopeName": "lib",
        "ScopeVersion": "1.2",
        "SpanAttributes": {},
        "Duration": 7,
        "StatusCode": "Error",
        "StatusMessage": "boom",
        "Events.Name": ["e"],
        "Events.Attributes": [{"k": "1"}],
        "Links.TraceId": ["01" * 16],
        "Links.SpanId": ["02" * 8],
        "Links.TraceState": ["s"],
        "Links.Attributes": [{"l": "false"}],
        "DroppedAttributes": 5,
        "Nanos": NOW + 1,
    }
    assert {key: row[key] for key in expected} == expected
    assert len(row["Events.Timestamp"]) == 1


@pytest.mark.parametrize("start", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_no_clock_is_too_wild_to_store(store: Store, tmp_path: Path, start: int) -> None:
    request, _ = one_span(start_time_unix_nano=start, end_time_unix_nano=0)
    store.load("traces", "clock", write(tmp_path / "segment", request))
    assert store.query("SELECT Duration FROM otel_traces") == [{"Duration": 0}]
    assert store.query("SELECT DurationNs, SpanCount FROM traces_v") == [{"DurationNs": 0, "SpanCount": 1}]
    [spans] = store.spans([bytes(range(16)).hex()]).values()
    assert spans[0].start_ns == min(start, 2**63 - 1)


@pytest.mark.parametrize("start", [0, NOW, 2**63 - 1, 2**64 - 2])
def test_no_duration_is_too_wild_to_store(store: Store, tmp_path: Path, start: int) -> None:
    request, _ = one_span(start_time_unix_nano=start, end_time_unix_nano=2**64 - 1)
    store.load("traces", "clock", write(tmp_path / "segment", request))
    longest = 2**63 - 1 - min(start, 2**63 - 1)
    assert store.query("SELECT DurationNs, SpanCount FROM traces_v") == [{"DurationNs": longest, "SpanCount": 1}]


def test_spans_of_many_months_fit_in_one_segment(store: Store, tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for month in range(150):
        start = month * 31 * 86_400 * 10**9
        spans.add(trace_id=struct.pack(">QQ", 0, month), span_id=b"\x01" * 8, start_time_unix_nano=start)
    store.load("traces", "months", write(tmp_path / "segment", request))
    assert store.query("SELECT count() AS n FROM otel_traces") == [{"n": 150}]


def test_logs_keep_their_event_name_wherever_it_was_written(store: Store, tmp_path: Path) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    trace = {"trace_id": b"\x01" * 16, "span_id": b"\x02" * 8}
    records.add(event_name="gen_ai.tool.call.decision", time_unix_nano=NOW, **trace)
    old = records.add(observed_time_unix_nano=NOW + 1, **trace)
    old.attributes.add(key="event.name").value.string_value = "tool_decision"
    old.body.string_value = "text"
    records.add(event_name="no.trace", time_unix_nano=NOW)
    store.load("logs", "logs", write(tmp_path / "segment", request))
    assert store.query("SELECT count() AS n FROM otel_logs") == [{"n": 3}]
    [events] = store.logs(["01" * 16]).values()
    assert [(e.name, e.time_ns, e.body) for e in events] == [
        ("gen_ai.tool.call.decision", NOW, ""),
        ("tool_decision", NOW + 1, "text"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff\xff\xff\xff",
        # A value that is a text and a number, in the resource: the engine calls that an argument.
        b"\x0a\x0f\x0a\x0d\x0a\x0b\x0a\x01k\x12\x06\x0a\x02ab\x18\x05",
    ],
)
def test_bytes_that_cannot_be_stored_are_refused_for_good(store: Store, tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "segment"
    path.write_bytes(_VarintBytes(len(body)) + body)
    with pytest.raises(Permanent):
        store.load("traces", "garbage", path)
    assert store.query("SELECT count() AS n FROM otel_traces") == [{"n": 0}]


def test_a_repeated_segment_adds_nothing_anywhere(store: Store, tmp_path: Path) -> None:
    request, span = one_span()
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"  # type: ignore[attr-defined]
    path = write(tmp_path / "segment", request)
    for _ in range(3):
        store.load("traces", "again", path)
    store.load("traces", "another", path)
    for table, rows in {"otel_traces": 2, "agent_spans": 2}.items():
        assert store.query(f"SELECT count() AS n FROM {table}") == [{"n": rows}]
    assert store.query("SELECT SpanCount FROM traces_v") == [{"SpanCount": 2}]
    # The client repeated it, so it is there twice; nobody is shown it twice.
    assert [len(spans) for spans in store.spans([bytes(range(16)).hex()]).values()] == [1]


def test_a_span_from_long_ago_is_kept_as_long_as_one_from_today(store: Store, tmp_path: Path) -> None:
    request, _ = one_span(start_time_unix_nano=int(datetime(2001, 1, 1, tzinfo=UTC).timestamp()) * 10**9)
    store.load("traces", "old", write(tmp_path / "segment", request))
    for table in ("otel_traces", "agent_spans", "traces"):
        store.command(f"OPTIMIZE TABLE {table} FINAL")
        assert store.query(f"SELECT count() AS n FROM {table}") == [{"n": 1}]


def test_the_lookup_dashboards_make_finds_a_trace(store: Store, tmp_path: Path) -> None:
    request, _ = one_span(end_time_unix_nano=NOW + 5 * 10**9)
    store.load("traces", "lookup", write(tmp_path / "segment", request))
    trace_id = bytes(range(16)).hex()
    rows = store.query(
        "WITH {id:String} AS trace_id, "
        "(SELECT min(Start) FROM otel_traces_trace_id_ts WHERE TraceId = trace_id) AS start, "
        "(SELECT max(End) + 1 FROM otel_traces_trace_id_ts WHERE TraceId = trace_id) AS end "
        "SELECT SpanName FROM otel_traces WHERE TraceId = trace_id AND Timestamp >= start AND Timestamp <= end",
        {"id": trace_id},
    )
    assert rows == [{"SpanName": "chat"}]
