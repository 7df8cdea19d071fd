"""Runs the example agent as a user would, against a receiver that only records what real exporters send."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_agent"


@dataclass
class Received:
    """Everything that arrived, as the protobuf messages on the wire."""

    port: int = 0
    status: int = 200
    traces: ExportTraceServiceRequest = field(default_factory=ExportTraceServiceRequest)
    logs: ExportLogsServiceRequest = field(default_factory=ExportLogsServiceRequest)


@pytest.fixture(scope="session")
def example() -> Path:
    return EXAMPLE


@pytest.fixture(scope="session")
def receivers() -> Iterator[list[ThreadingHTTPServer]]:
    servers: list[ThreadingHTTPServer] = []
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def receive(receivers: list[ThreadingHTTPServer]):
    """A function that starts an OTLP/HTTP receiver which answers every request with one status."""

    def start(status: int = 200) -> Received:
        received = Received(status=status)
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    {"/v1/traces": received.traces, "/v1/logs": received.logs}[self.path].MergeFromString(body)
                self.send_response(received.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        receivers.append(server)
        received.port = server.server_port
        return received

    return start


@pytest.fixture(scope="session")
def run_agent():
    """A function that starts `run.py` with the given arguments."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(EXAMPLE / "run.py"), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="session")
def runs(receive, run_agent) -> dict[str, Received]:
    """What each release sent over the whole suite."""
    received = {version: receive() for version in ("baseline", "harmless", "reckless")}
    processes = [
        run_agent("--version", version, "--run-id", f"run-{version}", "--endpoint", f"http://127.0.0.1:{box.port}")
        for version, box in received.items()
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    return received
