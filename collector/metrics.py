"""Metrics: answered, counted, not stored.

An SDK pointed here with `OTEL_EXPORTER_OTLP_ENDPOINT` alone sends its metrics too. OTLP lets a server that does not do a
signal say 404 or UNIMPLEMENTED; exporters then log an error every minute for ever, although nothing is wrong with the traces
their users care about. So a well-formed request is answered as what it is: a success of which every data point was
rejected, with the way to stop sending in the message. That too is OTLP to the letter (the sender must not retry, and is told
how much was not kept), and quiet. It is never counted as received.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector.otlp import Encoding
from collector.outcomes import Outcome, Refusal

MESSAGE: Final = "metrics are not stored, traces and logs are; set OTEL_METRICS_EXPORTER=none to stop sending them"


def data_points(encoding: Encoding, body: bytes) -> int:
    """How many data points a request holds; raises `Refusal` if it is none."""
    try:
        if encoding is Encoding.JSON:
            return sum(_points_in(orjson.loads(body)))
        request = ExportMetricsServiceRequest.FromString(body)
    except (DecodeError, orjson.JSONDecodeError) as error:
        raise Refusal(Outcome.MALFORMED, f"the body is not an ExportMetricsServiceRequest: {error}") from None
    return sum(
        len(getattr(metric, kind).data_points)
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if (kind := metric.WhichOneof("data"))
    )


def _points_in(document: Any) -> Iterator[int]:
    waiting = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            points = found.get("dataPoints")
            if isinstance(points, list):
                yield len(points)
            else:
                waiting += found.values()
