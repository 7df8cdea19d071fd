"""Peers to be measured against, each in an environment of its own below the user's cache; never in the product's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROTEL = "rotel==0.0.1a15"
PHOENIX = "arize-phoenix"
EVALUATORS = {"agentevals-cli": "agentevals", "deepeval": "deepeval"}
"""Requirement to module."""
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracegrade-bench"


class Unavailable(Exception):
    """A peer that cannot be measured here, and why."""


@dataclass(frozen=True, slots=True)
class Peer:
    process: subprocess.Popen[bytes]
    port: int
    """OTLP/gRPC."""
    http_port: int
    """OTLP/HTTP."""


def install(requirement: str, seconds: float) -> tuple[Path, str]:
    """The bin folder of an environment with the peer in it, and the version found; raises `Unavailable`."""
    name = requirement.partition("==")[0]
    home = _CACHE / name
    python = home / "bin" / "python"
    show = [python, "-c", f"from importlib.metadata import version; print(version({name!r}))"]
    try:
        if not python.exists() or subprocess.run(show, capture_output=True, check=False).returncode:
            print(f"installing {requirement} into {home} ...", file=sys.stderr)
            venv.create(home, with_pip=True)
            pip = [python, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--prefer-binary", requirement]
            subprocess.run(pip, check=True, timeout=seconds, capture_output=True)
        return home / "bin", subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{requirement} was not installed within {seconds:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        raise Unavailable(f"{requirement} cannot be installed: {said.strip().splitlines()[-1:]}") from error


@contextmanager
def rotel(bin_: Path, clickhouse_port: int, database: str, folder: Path) -> Iterator[Peer]:
    """rotel's OTLP receiver in front of its ClickHouse exporter, synchronous inserts, without compression.

    Compression is off: on one machine it would only cost rotel and ClickHouse time, and ours is sent without as well.
    """
    agent = next(bin_.parent.glob("lib/python*/site-packages/rotel/rotel-agent"))
    port, http = _free(), _free()
    command = [
        *(agent, "start", "--otlp-grpc-endpoint", f"127.0.0.1:{port}", "--otlp-http-endpoint", f"127.0.0.1:{http}"),
        *("--exporter", "clickhouse", "--clickhouse-exporter-endpoint", f"http://127.0.0.1:{clickhouse_port}"),
        *("--clickhouse-exporter-database", database, "--clickhouse-exporter-compression", "none"),
        *("--clickhouse-exporter-async-insert", "false"),
    ]
    with _started(command, {}, folder / "rotel.log") as process:
        _wait_for(port, process, 20)
        yield Peer(process, port, http)


def otelcol_binary() -> Path:
    """The OpenTelemetry Collector that `make integration` builds; raises `Unavailable`."""
    built = sorted(
        (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracegrade" / "bin").glob("otelcol-*")
    )
    if not built:
        raise Unavailable("no OpenTelemetry Collector; `make integration` builds one, with Go")
    return built[-1]


@contextmanager
def otelcol(binary: Path, clickhouse_port: int, database: str, folder: Path) -> Iterator[Peer]:
    """The Collector's OTLP receiver and batch processor in front of its ClickHouse exporter."""
    port, http = _free(), _free()
    configuration = f"""
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
processors: {{batch: {{send_batch_size: 8192}}}}
exporters:
  clickhouse:
    {{endpoint: "http://127.0.0.1:{clickhouse_port}", database: {database}, create_schema: false, async_insert: false}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [clickhouse]}}}}
"""
    (folder / "otelcol.yaml").write_text(configuration)
    with _started([binary, "--config", folder / "otelcol.yaml"], {}, folder / "otelcol.log") as process:
        _wait_for(port, process, 20)
        yield Peer(process, port, http)


@contextmanager
def phoenix(bin_: Path, folder: Path) -> Iterator[Peer]:
    """Phoenix with its default store, SQLite."""
    port, http = _free(), _free()
    environment = {"PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(http),
                   "PHOENIX_GRPC_PORT": str(port), "PHOENIX_TELEMETRY_ENABLED": "false"}  # fmt: skip
    with _started([bin_ / "phoenix", "serve"], environment, folder / "phoenix.log") as process:
        _wait_for(port, process, 120)
        _wait_for(http, process, 120)
        yield Peer(process, port, http)


def _free() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _started(command: list[object], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **environment}, stdout=out, stderr=out
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable(f"{process.args} ended with {process.returncode} before it listened")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise Unavailable(f"{process.args} did not listen within {seconds:.0f} s")
