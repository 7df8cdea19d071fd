"""OTLP beyond the table of outcomes: what is taken in part, mended, counted and not stored; what browsers ask."""

from __future__ import annotations

import json
import logging
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from collector.mend import _LOOSE, mended, mended_json
from collector.otlp import Encoding, accept_traces
from collector.outcomes import Outcome

LOOSE = _LOOSE["traces"]
"""Requests whose text is bytes."""
PROTOBUF, JSON = "application/x-protobuf", "application/json"
SERVICE = "/opentelemetry.proto.collector.{0}.v1.{1}Service/Export"
EXPORT = {name: SERVICE.format(name, name.capitalize()) for name in ("trace", "logs", "metrics")}


def spans(*spans: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def records(*records: dict[str, Any]) -> bytes:
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}).encode()


def over_grpc(running: Any, method: str, body: bytes) -> bytes:
    with grpc.insecure_channel(running.grpc) as channel:
        answer: bytes = channel.unary_unary(EXPORT[method])(body, timeout=20)
    return answer


# --- one bad item costs only itself -------------------------------------------------------------------------------

BAD_SPANS: dict[str, tuple[dict[str, Any], str]] = {
    "id that is not hex": ({"traceId": "xyz"}, "spans[1].traceId: expected hex digits, got 'xyz'"),
    "impossible time": ({"startTimeUnixNano": "soon"}, "spans[1].startTimeUnixNano: expected an integer"),
    "unknown kind": ({"kind": "SPAN_KIND_UNHEARD_OF"}, "spans[1].kind: expected a number or one of SPAN_KIND_"),
    "two values in one": (
        {"attributes": [{"key": "k", "value": {"stringValue": "a", "intValue": 1}}]},
        "one value expected, got int_value, string_value",
    ),
    "no object at all": (7, "spans[1]: expected an object, got 7"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("bad", "says"), BAD_SPANS.values(), ids=BAD_SPANS.keys())
def test_a_bad_span_costs_only_itself(start: Any, sink: Any, bad: dict[str, Any], says: str) -> None:
    running = start(sink)
    answer = running.post("/v1/traces", spans({"name": "a"}, bad, {"name": "b"}), JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    told = answer.json()["partialSuccess"]
    assert told["rejectedSpans"] == "1"
    assert says in told["errorMessage"]
    running.stop()
    assert sink.span_names() == ["a", "b"]
    counts = running.collector.stats().signals["traces"]
    assert (counts.received, counts.stored, counts.rejected) == (3, 2, 1)
    assert running.collector.stats().requests == {Outcome.PARTIAL: 1}
    running.assert_books_balance()


def test_bad_records_are_counted_and_the_first_is_shown(start: Any, sink: Any) -> None:
    running = start(sink)
    answer = running.post("/v1/logs", records({"spanId": "1"}, {"body": {"stringValue": "kept"}}, {"traceId": 5}), JSON)
    told = answer.json()["partialSuccess"]
    assert told["rejectedLogRecords"] == "2"
    assert told["errorMessage"].endswith("logRecords[0].spanId: expected hex digits, got '1' (and 1 more)")


def test_when_nothing_is_left_the_request_is_refused(start: Any) -> None:
    running = start()
    answer = running.post("/v1/traces", spans({"traceId": "xyz"}), JSON)
    assert answer.status_code == 400
    assert "expected hex digits" in answer.json()["message"]
    assert running.collector.stats().signals["traces"].received == 0


# --- text that is not UTF-8 ---------------------------------------------------------------------------------------


def spoiled_trace() -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="caf@", trace_id=b"\xff\xfe" * 8)
    span.attributes.add(key="prompt").value.string_value = "cut in the middle @"
    return request.SerializeToString().replace(b"@", b"\xe4")


def spoiled_log() -> bytes:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "@"
    return request.SerializeToString().replace(b"@", b"\xff")


def test_text_that_is_not_utf8_is_mended_and_said(start: Any, sink: Any) -> None:
    running = start(sink)
    answers = [
        ExportTraceServiceResponse.FromString(running.post("/v1/traces", spoiled_trace()).content),
        ExportTraceServiceResponse.FromString(over_grpc(running, "trace", spoiled_trace())),
        ExportLogsServiceResponse.FromString(running.post("/v1/logs", spoiled_log()).content),
    ]
    for answer, count in zip(answers, (2, 2, 1), strict=True):
        assert answer.HasField("partial_success")
        assert f"{count} texts were not UTF-8" in answer.partial_success.error_message
        assert [value for field, value in answer.partial_success.ListFields() if field.name != "error_message"] == []
    running.stop()
    assert sink.span_names() == ["caf\ufffd"] * 2
    span = ExportTraceServiceRequest.FromString(sink.records()[0]).resource_spans[0].scope_spans[0].spans[0]
    assert span.trace_id == b"\xff\xfe" * 8
    assert span.attributes[0].value.string_value == "cut in the middle \ufffd"
    assert running.collector.stats().requests == {Outcome.MARKED: 3}


@given(st.lists(st.sampled_from(["a", "\\", "\ud83d", "\ude00", '"', "ud83d", "\n", "\ufffd"])).map("".join))
def test_half_characters_in_json_are_mended(text: str) -> None:
    """JavaScript cuts texts between the halves of a character, and writes each as an escape of its own."""
    body = spans({"name": text})
    read = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    found = mended_json(body)
    assert (found is None) == (read.count("\ufffd") == text.count("\ufffd"))
    taken = ExportTraceServiceRequest.FromString(accept_traces(found[0] if found else body, Encoding.JSON).payload)
    assert taken.resource_spans[0].scope_spans[0].spans[0].name == read


@pytest.mark.parametrize(
    ("sent", "stored"), [(rb"cut \ud83d", "cut \ufffd"), (b"caf\xe9", "caf\ufffd")], ids=["half a character", "Latin-1"]
)
def test_json_that_is_not_unicode_is_mended_and_said(start: Any, sink: Any, sent: bytes, stored: str) -> None:
    running = start(sink)
    answer = running.post("/v1/traces", spans({"name": "@"}).replace(b"@", sent), JSON).json()["partialSuccess"]
    assert answer["rejectedSpans"] == "0"
    assert answer["errorMessage"].startswith("1 texts were not UTF-8")
    assert running.post("/v1/traces", spans({"name": "@"}).replace(b"@", sent) + b"}", JSON).status_code == 400
    running.stop()
    assert sink.span_names() == [stored]


def test_a_deep_value_in_a_mended_request_is_flattened_like_any_other(start: Any, sink: Any) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="@")
    inner = span.attributes.add(key="k").value.kvlist_value.values.add(key="a").value.kvlist_value
    inner.values.add(key="b").value.string_value = "@"
    running = start(sink)
    body = request.SerializeToString().replace(b"@", b"\x80")
    assert running.post("/v1/traces", body).status_code == 200
    running.stop()
    span = ExportTraceServiceRequest.FromString(sink.records()[0]).resource_spans[0].scope_spans[0].spans[0]
    assert json.loads(span.attributes[0].value.string_value) == {"a": {"b": "\ufffd"}}


@given(st.binary(max_size=80))
def test_mending_never_raises_and_what_is_mended_parses(body: bytes) -> None:
    found = mended("traces", body)
    if found is not None:
        ExportTraceServiceRequest.FromString(found[0])
        assert found[1] > 0


@given(st.lists(st.binary(max_size=6), max_size=4))
def test_mending_touches_text_and_nothing_else(names: list[bytes]) -> None:
    request = LOOSE()
    scope = request.resource_spans.add().scope_spans.add()
    for number, name in enumerate(names):
        scope.spans.add(name=name, trace_id=name, start_time_unix_nano=number, flags=256)
    found = mended("traces", request.SerializeToString())
    texts = [name.decode("utf-8", "replace") for name in names]
    broken = sum(text.encode() != name for text, name in zip(texts, names, strict=True))
    assert (found[1] if found else 0) == broken
    if found:
        for span, text in zip(scope.spans, texts, strict=True):
            span.name = text.encode()
        assert LOOSE.FromString(found[0]) == request


# --- JSON as it is met --------------------------------------------------------------------------------------------


def test_json_lines_of_requests_are_one_request(start: Any, sink: Any) -> None:
    running = start(sink)
    lines = b"\n".join((spans({"name": "a"}), b"", spans({"name": "b"}, {"traceId": "x"}), b" ", b"{}")) + b"\r\n"
    told = running.post("/v1/traces", lines, JSON).json()["partialSuccess"]
    assert told["rejectedSpans"] == "1"
    assert told["errorMessage"].startswith("line 3.resourceSpans[0].scopeSpans[0].spans[1].traceId")
    running.stop()
    assert sink.span_names() == ["a", "b"]


def test_a_bad_line_is_named(shared: Any) -> None:
    answer = shared.post("/v1/traces", spans({"name": "a"}) + b"\n{oops", JSON)
    assert answer.status_code == 400
    assert "nor is its line 2" in answer.json()["message"]


LENIENT: dict[str, dict[str, Any]] = {
    "ids in either case": {"traceId": "ABCDEF0123456789abcdef0123456789", "spanId": "AbCdEf0123456789"},
    "64 bits as text": {"startTimeUnixNano": "1700000000000000001"},
    "64 bits as a number": {"startTimeUnixNano": 1700000000000000001},
    "enum by name": {"kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR"}},
    "enum by number": {"kind": 2, "status": {"code": 2}},
    "unknown fields": {"futureField": {"a": [1, {"b": None}]}, "status": {"later": True}},
    "null for absent": {"parentSpanId": None, "attributes": None},
    "snake case is unknown": {"trace_id": "not hex, and not looked at"},
}


@pytest.mark.parametrize("span", LENIENT.values(), ids=LENIENT.keys())
@pytest.mark.parametrize("wrap", [("resourceSpans", "scopeSpans"), ("batches", "instrumentationLibrarySpans")])
def test_json_is_read_leniently(shared: Any, span: dict[str, Any], wrap: tuple[str, str]) -> None:
    outer, inner = wrap
    answer = shared.post("/v1/traces", json.dumps({outer: [{inner: [{"spans": [span]}]}]}).encode(), JSON)
    assert (answer.status_code, answer.json()) == (200, {})


# --- metrics ------------------------------------------------------------------------------------------------------


def metrics_request() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        getattr(scope.metrics.add(name=kind), kind).data_points.add()
    scope.metrics.add(name="none of them")
    scope.metrics[0].gauge.data_points.add()
    return request


def test_metrics_are_answered_counted_and_not_stored(start: Any, sink: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = start(sink)
    body = metrics_request().SerializeToString()
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"dataPoints": [{}, {"asInt": "1"}]}}]}]}]}
    with caplog.at_level(logging.WARNING):
        told = ExportMetricsServiceResponse.FromString(running.post("/v1/metrics", body).content).partial_success
        assert told == ExportMetricsServiceResponse.FromString(over_grpc(running, "metrics", body)).partial_success
        shown = running.post("/v1/metrics", json.dumps(document).encode(), JSON).json()["partialSuccess"]
    assert (told.rejected_data_points, shown["rejectedDataPoints"]) == (6, "2")
    assert told.error_message == shown["errorMessage"]
    assert "OTEL_METRICS_EXPORTER=none" in told.error_message
    assert caplog.text.count("metrics are not stored") == 1
    assert running.post("/v1/metrics", b"").content == b""
    running.stop()
    assert sink.loaded == {}
    assert running.collector.stats().requests == {Outcome.NOT_STORED: 3, Outcome.EMPTY: 1}


@pytest.mark.parametrize(("body", "kind"), [(b"\xff", PROTOBUF), (b"{", JSON), (b'"\\ud800"', JSON)])
def test_metrics_that_are_none_are_malformed(shared: Any, body: bytes, kind: str) -> None:
    assert shared.post("/v1/metrics", body, kind).status_code == 400


@given(st.recursive(st.none() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from("ab"), x)))
@settings(max_examples=30)
def test_any_json_can_be_counted(shared: Any, document: Any) -> None:
    body = json.dumps({"dataPoints": document}).encode()
    expected = len(document) if isinstance(document, list) else 0
    told = shared.post("/v1/metrics", body, JSON).json().get("partialSuccess", {"rejectedDataPoints": "0"})
    assert told["rejectedDataPoints"] == str(expected)


def test_the_real_metric_exporters_have_nothing_to_complain_of(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = start()
    exporters = [
        GrpcMetrics(endpoint=running.grpc, insecure=True),
        HttpMetrics(endpoint=running.http + "/v1/metrics"),
    ]
    with caplog.at_level(logging.WARNING, logger="opentelemetry"):
        for exporter in exporters:
            provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
            provider.get_meter("agent").create_counter("tokens").add(1)
            provider.shutdown()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert running.collector.stats().requests == {Outcome.NOT_STORED: 2}


# --- web pages ----------------------------------------------------------------------------------------------------

ORIGINS = ["https://app.example.com", "https://*.preview.example.com"]
ASK = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-team"}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://pr-7.preview.example.com", True),
        ("https://app.example.com.evil.example", False),
        ("http://app.example.com", False),
        ("https://evil.example/.preview.example.com", False),
        ("https://appXexample.com", False),
        ("null", False),
    ],
)
def test_pages_of_named_origins_may_send(start: Any, trace_request: Any, origin: str, allowed: bool) -> None:
    running = start(cors_allowed_origins=ORIGINS)
    asked = running.request("OPTIONS", "/v1/traces", None, {"origin": origin, **ASK})
    sent = running.post("/v1/traces", trace_request("s"), origin=origin)
    refused = running.post("/v1/traces", b"\xff", origin=origin)
    assert asked.status_code == (204 if allowed else 405)
    assert (sent.status_code, refused.status_code) == (200, 400)
    for answer in (asked, sent, refused):
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        assert answer.headers.get("vary") == ("Origin" if allowed else None)
    if allowed:
        assert asked.headers["access-control-allow-methods"] == "POST"
        assert asked.headers["access-control-allow-headers"] == "content-type,x-team"
        assert asked.content == b""


def test_no_page_may_send_unless_it_was_named(shared: Any) -> None:
    asked = shared.request("OPTIONS", "/v1/traces", None, {"origin": "https://app.example.com", **ASK})
    assert (asked.status_code, asked.headers.get("access-control-allow-origin")) == (405, None)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):  # what needs no asking
        assert shared.post("/v1/traces", spans({"name": "forged"}), kind).status_code == 415


def test_every_origin_may_be_allowed_and_headers_are_no_way_in(start: Any) -> None:
    running = start(cors_allowed_origins=["*"])
    wanted = {"origin": "https://any.example", **ASK, "access-control-request-headers": "x" * 3000}
    asked = running.request("OPTIONS", "/v1/logs", None, wanted)
    assert asked.headers["access-control-allow-origin"] == "https://any.example"
    assert asked.headers["access-control-allow-headers"] == "content-type"
    assert running.request("OPTIONS", "/elsewhere", None, wanted).status_code == 404
