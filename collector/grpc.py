"""OTLP/gRPC: `Export` of traces, logs and metrics, plain, gzip or deflate.

The methods are unary. They are served as if the request were a stream of one message, which is the same on the wire, because
then the message is read by us and not before us: a sender is known before anything it sends is taken in, only so many messages
are on their way at a time and none for ever, and decompression is ours, bounded as over HTTP. gRPC is told not to unpack;
packed messages are known by their first bytes, with which no request begins. Parsing is left to the intake, so a malformed
message is answered like any other. Compressions gRPC has no name for, zstd and snappy, end in gRPC itself, as INTERNAL.

Beside them: the standard health service, which answers as readiness does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc

from collector.auth import ANYONE, Doorkeeper
from collector.intake import Intake
from collector.memory import HELD_BYTES, Lease, on_thread
from collector.otlp import Encoding
from collector.outcomes import ANSWERS, Kind, Outcome, Refusal, export_response, grpc_metadata
from collector.unpack import STEP, is_gzip, is_zlib, too_large, unpack

SERVICES: Final[Mapping[str, Kind]] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}
_MESSAGE_SECONDS: Final = 30.0
"""How long a message may take to arrive, waiting for others included."""
_MESSAGES_AT_LEAST: Final = 16
"""Messages that may be on their way at a time however large they may be; gRPC says nothing of their size in advance."""
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.per_message_decompression", 0),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
    # The Collector's exporters and load balancers ping every ten seconds, also between exports.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Peers that are gone without a word are found within two minutes.
    ("grpc.keepalive_time_ms", 100_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)

Context = grpc.aio.ServicerContext[bytes, bytes]


def grpc_server(
    intake: Intake, doorkeeper: Doorkeeper, checkup: health.aio.HealthServicer, *, max_request_bytes: int
) -> grpc.aio.Server:
    """A server without a port."""
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", max_request_bytes), *_OPTIONS))
    health_pb2_grpc.add_HealthServicer_to_server(checkup, server)
    door = _Door(intake, doorkeeper, max_request_bytes)
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(
                service, {"Export": grpc.stream_unary_rpc_method_handler(door.method(kind))}
            )
            for service, kind in SERVICES.items()
        )
    )
    return server


class _Door:
    def __init__(self, intake: Intake, doorkeeper: Doorkeeper, limit: int) -> None:
        self._intake = intake
        self._doorkeeper = doorkeeper
        self._limit = limit
        self._arriving = asyncio.Semaphore(max(_MESSAGES_AT_LEAST, HELD_BYTES // limit))

    def method(self, kind: Kind) -> Callable[[Any, Any], Awaitable[bytes]]:
        async def export(_: Any, context: Context) -> bytes:
            try:
                with self._intake.memory.lease() as lease:
                    caller = ANYONE if self._doorkeeper.open else self._doorkeeper.admit(_texts(context))
                    body = await self._message(context, lease)
                    taken = await self._intake.take(kind, Encoding.PROTOBUF, body, caller)
            except Refusal as refusal:
                self._intake.answered("grpc", kind, refusal.outcome)
                await context.abort(
                    ANSWERS[refusal.outcome].grpc, refusal.message, grpc_metadata(refusal.outcome, refusal.message)
                )
            self._intake.answered("grpc", kind, taken.outcome)
            return export_response(kind, taken, Encoding.PROTOBUF)

        return export

    async def _message(self, context: Context, lease: Lease) -> bytes:
        try:
            async with asyncio.timeout(_MESSAGE_SECONDS), self._arriving:
                raw: Any = await context.read()
        except TimeoutError:
            raise Refusal(Outcome.BUSY, f"the message did not arrive within {_MESSAGE_SECONDS:g} seconds") from None
        if raw is grpc.aio.EOF:  # gRPC stops reading a message at the limit, and says no more
            raise Refusal(Outcome.TOO_LARGE, f"no message, or {too_large('it', self._limit)}")
        lease.take(len(raw))
        compression = "gzip" if is_gzip(raw) else "deflate" if is_zlib(raw) else ""
        if not compression:
            return bytes(raw)
        if len(raw) <= STEP:
            body = unpack(raw, compression, self._limit)
        else:
            body = await on_thread(unpack, raw, compression, self._limit)
        lease.take(len(body))
        return body


def _texts(context: Context) -> list[tuple[str, str]]:
    return [(key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str)]
