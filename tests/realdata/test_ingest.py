"""Real traces through the real exporters into the store: nothing is lost, changed or misread on the way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.carding.convert import Record, nested
from bench.carding.convert import trail as to_spans
from graders.assembler import assemble
from store.types import SpanKind

from . import wire
from .server import Server

KINDS = {"AGENT": "agent", "CHAIN": "wrapper", "LLM": "llm", "TOOL": "tool", None: "other"}
CONTENT_TYPES = {".pb": "application/x-protobuf", ".json": "application/json"}


@pytest.fixture(scope="module")
def trail_ids(server: Server, trail: list[Record]) -> list[str]:
    """All TRAIL traces, in the store."""
    return server.receive([to_spans(record) for record in trail])


def test_every_trail_span_is_stored_with_all_it_said(server: Server, trail: list[Record], trail_ids: list[str]) -> None:
    """Ids, parents, times, status, each attribute, event and link are in `otel_traces` as they were sent."""
    sent = sorted((wire.as_row(span) for record in trail for span in to_spans(record)), key=wire.identity)
    rows = server.rows(f"{wire.SELECT} WHERE TraceId IN {{traces:Array(String)}}", traces=trail_ids)
    stored = sorted(map(tuple, rows), key=wire.identity)
    assert len(stored) == len(sent) == 1498
    for row, wanted in zip(stored, sent, strict=True):
        assert dict(zip(wire.NAMES, row, strict=True)) == dict(zip(wire.NAMES, wanted, strict=True))


def test_every_trail_span_has_the_kind_its_instrumentation_gave_it(
    server: Server, trail: list[Record], trail_ids: list[str]
) -> None:
    """The OpenInference kinds of the data become kinds of `agent_spans`; plumbing without one is `other`."""
    said = {
        (record["id"], span["span_id"]): KINDS[span["span_attributes"].get("openinference.span.kind")]
        for record in trail
        for span in nested(record["spans"])
    }
    rows = server.rows(
        "SELECT TraceId, SpanId, Kind FROM agent_spans WHERE TraceId IN {traces:Array(String)}", traces=trail_ids
    )
    assert {(trace, span): kind for trace, span, kind in rows} == said
    assert set(said.values()) == set(KINDS.values())


def test_every_trail_trace_is_assembled_with_what_its_model_and_tool_spans_say(
    server: Server, trail: list[Record], trail_ids: list[str]
) -> None:
    """A conversation, an answer, and one executed call for each tool span that is not the final answer."""
    stored = server.store.spans(trail_ids)
    for record in trail:
        trace = assemble(stored[record["id"]])
        ids = {span["span_id"] for span in nested(record["spans"])}
        assert {span.span_id for span in trace.spans} == ids
        assert {message.role for message in trace.messages} >= {"system", "user", "assistant"}
        assert trace.answer, record["id"]
        tools = [s for s in trace.spans if s.kind is SpanKind.TOOL and "final" not in s.tool_name.casefold()]
        assert sorted(call.name for call in trace.tool_calls) == sorted(span.tool_name for span in tools)
        assert all(call.executed for call in trace.tool_calls)


def test_every_trail_trace_is_graded_without_a_grader_breaking(server: Server, trail_ids: list[str]) -> None:
    """The worker has something to say of each trace, and nowhere an `error`."""
    server.wait_graded(trail_ids)
    rows = server.rows(
        "SELECT TraceId, Grader, Outcome, Reason FROM grades_v WHERE TraceId IN {traces:Array(String)}",
        traces=trail_ids,
    )
    assert {row[0] for row in rows} == set(trail_ids)
    assert [row for row in rows if row[2] == "error"] == []


def test_approval_flows_of_six_frameworks_are_taken_as_protobuf_and_as_json_alike(server: Server, data: Path) -> None:
    """Each captured request, posted in both encodings, is stored as the same rows twice, assembled and graded."""
    spans: Counter[str] = Counter()
    files = sorted((data / "approval_captures").glob("*.pb"))
    assert len(files) == 44
    for file in files:
        request = ExportTraceServiceRequest.FromString(file.read_bytes())
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                spans.update(span.trace_id.hex() for span in scope.spans)
        for suffix, content_type in CONTENT_TYPES.items():
            post = Request(
                f"http://{server.at.otlp_http}/v1/traces",
                data=file.with_suffix(suffix).read_bytes(),
                headers={"Content-Type": content_type},
            )
            with urlopen(post) as response:
                assert response.status == 200, file.name
    traces = list(spans)
    server.wait_stored(traces, 2 * spans.total())
    rows = server.rows(f"{wire.SELECT} WHERE TraceId IN {{traces:Array(String)}}", traces=traces)
    copies = Counter(repr(row) for row in rows)
    assert len(rows) == 2 * spans.total()
    assert {row: n for row, n in copies.items() if n % 2} == {}
    stored = server.store.spans(traces)
    assert {trace: len(found) for trace, found in stored.items()} == spans
    for trace, found in stored.items():
        assembled = assemble(found)
        assert len(assembled.spans) == spans[trace]
        named = {span.tool_name for span in found if span.kind is SpanKind.TOOL}
        assert {call.name for call in assembled.tool_calls} >= named & {"rm"}
    server.wait_graded(traces)
    broken = "SELECT Grader, Reason FROM grades_v WHERE Outcome = 'error' AND TraceId IN {traces:Array(String)}"
    assert server.rows(broken, traces=traces) == []
