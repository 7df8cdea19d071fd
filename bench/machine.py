"""What the machine is, and what its processes cost: CPU time and peak memory, from /proc (Linux)."""

from __future__ import annotations

import os
import platform
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children it has waited for."""
    return sum(_stat(Path(f"/proc/{pid}/stat"))[11:15]) * _TICK


def peak_rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no VmHWM for process {pid}")


def collector_seconds() -> float:
    """Of this process: time of the threads that are the collector's, not the engine's.

    Python threads but the one that calls the engine, and gRPC's own. Everything else in the process is the engine.
    """
    python = {thread.native_id for thread in threading.enumerate() if not thread.name.startswith("collector-load")}
    total = 0.0
    for task in Path("/proc/self/task").iterdir():
        name = (task / "comm").read_text().strip()
        if int(task.name) in python or name.startswith(
            ("grpc", "event_engine", "timer_manager", "default-executo", "resolver")
        ):
            total += sum(_stat(task / "stat")[11:13]) * _TICK
    return total


def _stat(path: Path) -> list[int]:
    """The numeric fields after the name, from `ppid` on; utime, stime, cutime, cstime are 11 to 14."""
    fields = path.read_text().rpartition(")")[2].split()
    return [0, *(int(field) for field in fields[1:18])]


def describe() -> dict[str, str | int]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {"cpu": model, "cores": os.cpu_count() or 0, "kernel": platform.release(), "python": sys.version.split()[0]}


def versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
