"""Captured request bodies of the example agent, for whoever reads what pydantic-ai really sends.

They are checked against a fresh run, so they cannot go stale. `UPDATE_GOLDEN=1 pytest tests/examples/test_golden.py`
records them anew.
"""

import os
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

GOLDEN = Path(__file__).with_name("golden")
CASES = {"baseline": {"refund-01", "refund-denied-01"}, "reckless": {"refund-01", "policy-06"}}


def only(cases: set[str], traces: ExportTraceServiceRequest, logs: ExportLogsServiceRequest) -> tuple:
    """Copies of the requests with the spans and log records of some cases."""
    kept_traces, kept_logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    kept_traces.CopyFrom(traces)
    kept_logs.CopyFrom(logs)
    wanted = {
        span.trace_id
        for resource in traces.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if any(a.key == "tracegrade.case.id" and a.value.string_value in cases for a in span.attributes)
    }
    for resource in kept_traces.resource_spans:
        for scope in resource.scope_spans:
            keep(scope.spans, wanted)
    for resource in kept_logs.resource_logs:
        for scope in resource.scope_logs:
            keep(scope.log_records, wanted)
    return kept_traces, kept_logs


def keep(records, trace_ids: set[bytes]) -> None:
    kept = [record for record in records if record.trace_id in trace_ids]
    del records[:]
    records.extend(kept)


def shape(traces: ExportTraceServiceRequest, logs: ExportLogsServiceRequest) -> set[tuple]:
    """Names and attribute types of every kind of span and log record, without values."""
    spans = {
        (scope.scope.name, span.name, span.kind, span.status.code, *types(span.attributes))
        for resource in traces.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    records = {
        (scope.scope.name, record.event_name, *types(record.attributes))
        for resource in logs.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    }
    return spans | records


def types(attributes) -> list[tuple[str, str]]:
    return sorted((a.key, a.value.WhichOneof("value")) for a in attributes)


@pytest.mark.parametrize("version", CASES)
def test_the_captured_requests_are_what_the_agent_sends(version: str, runs) -> None:
    traces, logs = only(CASES[version], runs[version].traces, runs[version].logs)
    files = GOLDEN / f"{version}.traces.pb", GOLDEN / f"{version}.logs.pb"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for file, message in zip(files, (traces, logs), strict=True):
            file.write_bytes(message.SerializeToString(deterministic=True))
    recorded = (
        ExportTraceServiceRequest.FromString(files[0].read_bytes()),
        ExportLogsServiceRequest.FromString(files[1].read_bytes()),
    )
    assert shape(*recorded) == shape(traces, logs)
    assert len({span for span in shape(*recorded) if span[0] == "pydantic-ai"}) >= 3
