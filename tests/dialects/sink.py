"""Records what an OTLP exporter sends, byte for byte.

`python sink.py --out DIR` listens on loopback for OTLP/HTTP (any content type and encoding) and OTLP/gRPC, prints the two
addresses as JSON and serves until interrupted. Each body becomes `DIR/NNN.<traces|logs>.<pb|json>[.gz]`; `DIR/requests.json`
keeps the headers that say how to read it. Metrics are accepted and dropped: an exporter must not be told to retry them. What
the bytes mean is left to the tests.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc

SERVICES = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where an exporter may send to."""

    http: str
    grpc: str


@dataclass(slots=True)
class Recording:
    """The bodies in the order they came."""

    out: Path
    requests: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, signal_name: str, body: bytes, transport: str, headers: dict[str, str]) -> None:
        """Write one request; nothing is written for metrics."""
        if signal_name == "metrics":
            return
        kind = "json" if "json" in headers.get("content-type", "") else "pb"
        gzipped = ".gz" if headers.get("content-encoding") == "gzip" and transport == "http" else ""
        with self.lock:
            name = f"{len(self.requests):03d}.{signal_name}.{kind}{gzipped}"
            (self.out / name).write_bytes(body)
            told = {key: headers[key] for key in ("content-type", "content-encoding", "user-agent") if key in headers}
            self.requests.append({"file": name, "transport": transport, **told})
            (self.out / "requests.json").write_text(json.dumps(self.requests, indent=1) + "\n")


class Handler(BaseHTTPRequestHandler):
    """OTLP/HTTP on `/v1/<signal>`, under any prefix."""

    protocol_version = "HTTP/1.1"
    recording: Recording

    def do_POST(self) -> None:
        """Keep the body and answer with full success."""
        body = self._chunks() if "chunked" in self.headers.get("transfer-encoding", "") else self._sized()
        signal_name = self.path.rstrip("/").rpartition("/v1/")[2]
        headers = {key.lower(): value for key, value in self.headers.items()}
        known = signal_name in SERVICES
        if known:
            self.recording.keep(signal_name, body, "http", headers)
        kind = headers.get("content-type", "application/x-protobuf")
        answer = b"{}" if "json" in kind else b""
        self.send_response(200 if known else 404)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _sized(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stdout is for the ports."""


def _rpc(signal_name: str, recording: Recording) -> grpc.GenericRpcHandler:
    def export(body: bytes, context: grpc.ServicerContext) -> bytes:
        headers = {key: str(value) for key, value in context.invocation_metadata() if not isinstance(value, bytes)}
        recording.keep(signal_name, body, "grpc", headers)
        return b""

    return grpc.method_handlers_generic_handler(
        SERVICES[signal_name], {"Export": grpc.unary_unary_rpc_method_handler(export)}
    )


@contextmanager
def listen(out: Path) -> Iterator[Ports]:
    """Record into `out` until the block is left."""
    out.mkdir(parents=True, exist_ok=True)
    recording = Recording(out)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("RecordingHandler", (Handler,), {"recording": recording}))
    http.daemon_threads = True
    rpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    rpc.add_generic_rpc_handlers([_rpc(name, recording) for name in SERVICES])
    rpc_port = rpc.add_insecure_port("127.0.0.1:0")
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    rpc.start()
    try:
        yield Ports(f"http://127.0.0.1:{http.server_port}", f"http://127.0.0.1:{rpc_port}")
    finally:
        http.shutdown()
        http.server_close()
        rpc.stop(grace=1).wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory for the bodies")
    with listen(parser.parse_args().out) as ports:
        print(json.dumps({"http": ports.http, "grpc": ports.grpc}), flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
