"""Processes of others beside ours: started, waited for, ended; skipped, with the way to get them, where absent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from store.client import Store, connect
from tracegrade.running import find

GET = "run `make integration`, which gets it"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], object], what: str, seconds: float = 60) -> Any:
    """What `holds` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)
    return found


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(
    command: list[str | Path], log: Path, cwd: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block; what it says is in `log`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRACEGRADE_", "OTEL_"))}
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(c) for c in command], stdout=out, stderr=out, cwd=cwd, env={**kept, **environment}
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def neighbour(variable: str, what: str) -> Path:
    """Where the environment says it is."""
    path = Path(os.environ.get(variable, ""))
    if not os.environ.get(variable) or not path.exists():
        pytest.skip(f"{what} is not here: {GET}, or name it in {variable}")
    return path


@dataclass(frozen=True)
class Served:
    """A running `tracegrade serve`."""

    data_dir: Path
    process: subprocess.Popen[bytes]

    @property
    def grpc(self) -> str:
        return self._addresses.otlp_grpc

    @property
    def http(self) -> str:
        return f"http://{self._addresses.otlp_http}"

    @property
    def gate(self) -> str:
        return f"http://{self._addresses.gate}"

    @property
    def _addresses(self) -> Any:
        return until(lambda: find(self.data_dir), "tracegrade serve")

    def store(self) -> Store:
        """Its store, read-only."""
        return connect(f"clickhouse://{self._addresses.clickhouse}/tracegrade", create=False)
