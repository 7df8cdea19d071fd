"""The program's own traces: loads, graded batches and decisions, sent elsewhere if an endpoint is given.

Off by default. An endpoint that is one of this process's own OTLP ports is refused: each load would then make a span, that
span a segment, and that segment a load, for ever. Spans carry counts, sizes and ids, nothing of what telemetry says.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from store import StoreError


def start_tracing(endpoint: str, own_ports: Collection[int]) -> Callable[[], None]:
    """Send spans to `endpoint` from now on; what it returns sends the last of them. Raises `StoreError`."""
    refuse_own(endpoint, "traces_endpoint", own_ports, "it would trace itself without end")
    provider = TracerProvider(resource=Resource.create({"service.name": "tracegrade"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def refuse_own(endpoint: str, key: str, own_ports: Collection[int], why: str) -> None:
    """Raise `StoreError` if what the configuration names under `key` is one of this process's own OTLP ports."""
    try:
        url = urlsplit(endpoint)
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        raise StoreError(
            f"`{key}` {endpoint}: {error}; it reads like http://host:4318/..., a port up to 65535"
        ) from None
    if port in own_ports and is_here(url.hostname or ""):
        raise StoreError(
            f"`{key}` {endpoint} is this collector's own port: {why}; name another collector, or leave it out"
        )


def is_here(host: str) -> bool:
    """Whether `host` is this machine: only an address of its own can be bound."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False
