"""What became of a request, and how each transport says so: one table for both.

Retryable outcomes carry a short `Retry-After` / `RetryInfo`: exporters give up about ten seconds after the first try. No
outcome is a 500, which would tell the sender to drop the data. What was taken in part, or not quite as it was sent, is a
success whose `partial_success` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import StatusCode
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.otlp import Encoding

RETRY_SECONDS: Final = 1

Kind = Literal["traces", "logs", "metrics"]
"""What the endpoints are for. Metrics are answered and not stored."""


class Outcome(StrEnum):
    """Every way a request can end. Values are the names counted in `Stats.requests`."""

    ACCEPTED = "accepted"
    MARKED = "marked"
    """Everything was accepted, not all of it as it was sent; the answer carries a warning."""
    PARTIAL = "partial"
    """Some items were refused for good; the rest was accepted."""
    EMPTY = "empty"
    """Valid, with nothing in it: success."""
    NOT_STORED = "not_stored"
    """Metrics; see `collector.metrics`."""
    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNIMPLEMENTED = "unimplemented"
    """No such endpoint."""
    BUSY = "busy"
    BUFFER_FULL = "buffer_full"
    SHUTTING_DOWN = "shutting_down"
    FAILED = "failed"
    """A defect of the collector. Retryable: the sender should not lose data to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an outcome is expressed."""

    http: int
    grpc: StatusCode
    retry: bool = False


ANSWERS: Final[dict[Outcome, Answer]] = {
    Outcome.ACCEPTED: Answer(200, StatusCode.OK),
    Outcome.MARKED: Answer(200, StatusCode.OK),
    Outcome.PARTIAL: Answer(200, StatusCode.OK),
    Outcome.EMPTY: Answer(200, StatusCode.OK),
    Outcome.NOT_STORED: Answer(200, StatusCode.OK),
    Outcome.MALFORMED: Answer(400, StatusCode.INVALID_ARGUMENT),
    Outcome.UNAUTHENTICATED: Answer(401, StatusCode.UNAUTHENTICATED),
    Outcome.TOO_LARGE: Answer(413, StatusCode.RESOURCE_EXHAUSTED),
    Outcome.UNSUPPORTED_MEDIA_TYPE: Answer(415, StatusCode.INVALID_ARGUMENT),
    Outcome.METHOD_NOT_ALLOWED: Answer(405, StatusCode.UNIMPLEMENTED),
    Outcome.UNIMPLEMENTED: Answer(404, StatusCode.UNIMPLEMENTED),
    Outcome.BUSY: Answer(503, StatusCode.UNAVAILABLE, retry=True),
    Outcome.BUFFER_FULL: Answer(503, StatusCode.UNAVAILABLE, retry=True),
    Outcome.SHUTTING_DOWN: Answer(503, StatusCode.UNAVAILABLE, retry=True),
    Outcome.FAILED: Answer(503, StatusCode.UNAVAILABLE, retry=True),
}


class Refusal(Exception):
    """The request ends here, with this outcome."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message


@dataclass(frozen=True, slots=True)
class Taken:
    """The request was taken; `message` is empty if everything in it was, as it was sent."""

    outcome: Outcome
    rejected: int = 0
    """Spans, log records or data points refused for good."""
    message: str = ""


_RETRY_INFO: Final = RetryInfo(retry_delay=Duration(seconds=RETRY_SECONDS))

_RESPONSES: Final[Mapping[Kind, tuple[Any, str, str]]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}


def export_response(kind: Kind, taken: Taken, encoding: Encoding) -> bytes:
    """The body of a success; `partial_success` is unset when there is nothing to say."""
    message, field, name = _RESPONSES[kind]
    if encoding is Encoding.JSON:
        told = {name: str(taken.rejected), "errorMessage": taken.message}
        return orjson.dumps({"partialSuccess": told} if taken.message else {})
    if not taken.message:
        return b""
    answer = message(partial_success={field: taken.rejected, "error_message": taken.message})
    return bytes(answer.SerializeToString())


def status(outcome: Outcome, message: str) -> Status:
    """The error as `google.rpc.Status`, with `RetryInfo` where retrying makes sense."""
    answer = ANSWERS[outcome]
    result = Status(code=answer.grpc.value[0], message=message)
    if answer.retry:
        packed = AnyMessage()
        packed.Pack(_RETRY_INFO)
        result.details.append(packed)
    return result


def grpc_metadata(outcome: Outcome, message: str) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata of an error. Exporters read one key or the other: Python's the first, Go's the second."""
    details = ("grpc-status-details-bin", status(outcome, message).SerializeToString())
    if ANSWERS[outcome].retry:
        return (("google.rpc.retryinfo-bin", _RETRY_INFO.SerializeToString()), details)
    return (details,)


def http_body(outcome: Outcome, message: str, encoding: Encoding | None) -> tuple[bytes, bytes]:
    """Content type and body of an error, in the encoding of the request, or as text if that was neither or no POST."""
    if encoding is None or outcome is Outcome.METHOD_NOT_ALLOWED:
        return b"text/plain; charset=utf-8", f"{message}\n".encode()
    if encoding is Encoding.PROTOBUF:
        return encoding.encode(), status(outcome, message).SerializeToString()
    facts: dict[str, object] = {"code": ANSWERS[outcome].grpc.value[0], "message": message}
    if ANSWERS[outcome].retry:
        kind = f"type.googleapis.com/{RetryInfo.DESCRIPTOR.full_name}"
        facts["details"] = [{"@type": kind, "retryDelay": f"{RETRY_SECONDS}s"}]
    return encoding.encode(), orjson.dumps(facts)
