"""A real `tracegrade serve` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from store.client import Store, connect
from tracegrade.running import Addresses, find


@dataclass
class Server:
    """A running server and where it keeps things."""

    config_file: Path
    data_dir: Path
    process: subprocess.Popen[bytes]

    @property
    def addresses(self) -> Addresses:
        found = find(self.data_dir)
        assert found is not None, (self.data_dir / "log").read_text()
        return found

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while find(self.data_dir) is None:
            assert self.process.poll() is None, (self.data_dir / "log").read_text()
            assert time.monotonic() < deadline, (self.data_dir / "log").read_text()
            time.sleep(0.02)

    def store(self) -> Store:
        """Its store, read-only."""
        return connect(f"clickhouse://{self.addresses.clickhouse}/tracegrade", create=False)

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def cli(*arguments: str | Path, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRACEGRADE_")}
    return subprocess.run(
        [sys.executable, "-m", "tracegrade", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=check,
        timeout=120,
        env={**environment, "COLUMNS": "160"},
    )


@pytest.fixture(scope="session")
def tracegrade() -> Callable[..., subprocess.CompletedProcess[str]]:
    return cli


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers; a data directory given again is opened again."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(data_dir: Path | None = None, *, wait: bool = True, **extra: object) -> Server:
        data_dir = data_dir or tmp_path_factory.mktemp("serve")
        data_dir.mkdir(exist_ok=True)
        config = {
            "data_dir": str(data_dir),
            "collector": {"grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.1},
            "clickhouse": {"port": 0},
            "gate": {"port": 0, "grpc_port": 0},
            "admin": {"port": 0},
            "grading": {"grace_seconds": 0.2},
            **extra,
        }
        config_file = data_dir / "tracegrade.yaml"
        config_file.write_text(yaml.safe_dump(config))
        log = (data_dir / "log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tracegrade", "serve", "--config", str(config_file)], stdout=log, stderr=log
            )
        running.append(process)
        server = Server(config_file, data_dir, process)
        if wait:
            server.wait_until_ready()
        return server

    yield begin
    for process in running:
        process.kill()
        process.wait()
