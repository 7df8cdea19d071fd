"""Where a running `tracegrade serve` can be reached.

An embedded database belongs to one process, so every other command on the machine goes through the server that has it open.
`serve` writes its addresses beside the database; a file left by a server that died is told apart by its lock.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a running server listens on, as `host:port`."""

    otlp_grpc: str
    otlp_http: str
    gate: str
    gate_grpc: str
    clickhouse: str = ""
    """Empty when the store is a ClickHouse server of its own."""
    admin: str = ""
    """Metrics, health and readiness."""


def _file(data_dir: Path) -> Path:
    return data_dir / "serve.json"


@contextmanager
def announced(data_dir: Path, addresses: Addresses) -> Iterator[None]:
    """Make `addresses` known for as long as the block runs."""
    with _file(data_dir).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        json.dump({"pid": os.getpid(), **asdict(addresses)}, file)
        file.flush()
        yield
        file.truncate(0)


def find(data_dir: Path) -> Addresses | None:
    """The addresses of the server that has `data_dir` open, or None."""
    try:
        with _file(data_dir).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                known = json.load(file)
                return Addresses(**{key: value for key, value in known.items() if key != "pid"})
            return None
    except (OSError, ValueError, TypeError):
        return None
