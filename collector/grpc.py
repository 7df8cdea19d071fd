"""OTLP/gRPC: `TraceService/Export` and `LogsService/Export` on raw bytes.

gRPC frames, unpacks and bounds the message; parsing it is left to the intake, so a malformed one is answered like any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import grpc.aio

from collector.intake import Intake, Refusal
from collector.otlp import Encoding, Signal
from collector.outcomes import ANSWERS, Outcome, grpc_metadata

_SERVICES: Final[Mapping[str, Signal | None]] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": None,
}

Context = grpc.aio.ServicerContext[bytes, bytes]


def grpc_server(intake: Intake, *, max_request_bytes: int) -> grpc.aio.Server:
    """A server without a port."""
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", max_request_bytes),
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(
                service, {"Export": grpc.unary_unary_rpc_method_handler(_export(intake, service, signal))}
            )
            for service, signal in _SERVICES.items()
        )
    )
    return server


def _export(intake: Intake, service: str, signal: Signal | None) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def export(body: bytes, context: Context) -> bytes:
        try:
            if signal is None:
                raise Refusal(Outcome.UNIMPLEMENTED, f"{service} is not served; traces and logs are")
            await intake.take(signal, Encoding.PROTOBUF, body)
        except Refusal as refusal:
            intake.refused(refusal)
            await context.abort(
                ANSWERS[refusal.outcome].grpc, refusal.message, grpc_metadata(refusal.outcome, refusal.message)
            )
        return b""

    return export
