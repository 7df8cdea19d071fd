"""What the integration tests start: `tracegrade serve`, `tracegrade clickhouse`, the OpenTelemetry Collector."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # the tests share modules, which have no package

from neighbours import Served, free_port, listens, neighbour, running, until

from tracegrade.running import find


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """A context manager that runs `tracegrade serve`."""

    @contextmanager
    def begin(**extra: Any) -> Iterator[Served]:
        data_dir = tmp_path / "serve"
        data_dir.mkdir(exist_ok=True)
        collector = {"grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.1, **extra.pop("collector", {})}
        config = {
            "data_dir": str(data_dir), "collector": collector, "clickhouse": {"port": 0},
            "gate": {"port": 0, "grpc_port": 0}, "admin": {"port": 0},
            "grading": {"grace_seconds": 0.2, "idle_seconds": 2}, **extra,
        }  # fmt: skip
        (data_dir / "tracegrade.yaml").write_text(yaml.safe_dump(config))
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "tracegrade",
            "serve",
            "--config",
            data_dir / "tracegrade.yaml",
        ]
        with running(command, data_dir / "log") as process:
            until(lambda: find(data_dir) or process.poll() is not None, "tracegrade serve")
            assert process.poll() is None, (data_dir / "log").read_text()
            yield Served(data_dir, process)

    return begin


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[int]:
    """The port of a `tracegrade clickhouse`: the engine as a server, writes allowed."""
    port = free_port()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "tracegrade",
        "clickhouse",
        "--path",
        tmp_path / "db",
        "--port",
        str(port),
    ]
    with running(command, tmp_path / "clickhouse.log"):
        until(lambda: listens(port), "tracegrade clickhouse")
        yield port


@dataclass(frozen=True)
class Otelcol:
    """A running OpenTelemetry Collector."""

    http: str
    log: Path


@pytest.fixture
def otelcol(tmp_path: Path) -> Callable[..., Any]:
    """A context manager that runs a Collector: OTLP in, one exporter out."""
    binary = neighbour("TRACEGRADE_OTELCOL", "the OpenTelemetry Collector")

    @contextmanager
    def begin(exporter: str, settings: Mapping[str, Any], batch: bool = True) -> Iterator[Otelcol]:
        port = free_port()
        pipeline = {"receivers": ["otlp"], "exporters": [exporter], "processors": ["batch"] if batch else []}
        config = {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
            "processors": {"batch": {"timeout": "200ms"}} if batch else {},
            "exporters": {exporter: dict(settings)},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": pipeline, "logs": pipeline},
            },
        }
        file, log = tmp_path / "otelcol.yaml", tmp_path / "otelcol.log"
        file.write_text(json.dumps(config))
        with running([binary, "--config", f"file:{file}"], log) as process:
            until(lambda: listens(port) or process.poll() is not None, "the Collector")
            assert process.poll() is None, log.read_text()
            yield Otelcol(f"http://127.0.0.1:{port}", log)

    return begin
