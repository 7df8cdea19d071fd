"""What a trace counts as: what its sender's token says, and without one what it says of itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from store.client import Store

SAYS_SHADOW = {"deployment.environment.name": "shadow"}
SAYS_PRODUCTION = {"deployment.environment.name": "production"}


@pytest.mark.parametrize(
    ("resource", "state", "arm"),
    [
        ({}, "", "production"),
        (SAYS_PRODUCTION, "", "production"),
        (SAYS_SHADOW, "", "shadow"),
        ({}, "a=b,tracegrade=shadow", "shadow"),
        (SAYS_SHADOW | {"tracegrade.arm": "production"}, "tracegrade=shadow", "production"),
        (SAYS_PRODUCTION | {"tracegrade.arm": "shadow"}, "", "shadow"),
        ({"tracegrade.arm": "canary"}, "", "production"),
        (SAYS_SHADOW | {"tracegrade.arm": ""}, "", "shadow"),
    ],
)
def test_the_token_decides_and_then_the_telemetry(
    store: Store, tmp_path: Path, resource: dict[str, str], state: str, arm: str
) -> None:
    request = ExportTraceServiceRequest()
    block = request.resource_spans.add()
    for key, value in resource.items():
        block.resource.attributes.add(key=key).value.string_value = value
    now = time.time_ns()
    span = block.scope_spans.add().spans.add(
        trace_id=b"\x07" * 16, span_id=b"\x01" * 8, trace_state=state, start_time_unix_nano=now, end_time_unix_nano=now
    )
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "invoke_agent"
    body = request.SerializeToString()
    path = tmp_path / "segment"
    path.write_bytes(_VarintBytes(len(body)) + body)
    store.load("traces", "one", path)
    assert store.query("SELECT Arm FROM agent_spans") == [{"Arm": arm}]
    assert store.query("SELECT max(Arm) AS Arm FROM traces") == [{"Arm": arm}]
