"""What the base install may need, and what the command line may load before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"anthropic", "chdb", "pandas", "pyarrow", "numpy", "scipy"}


@pytest.mark.parametrize("module", ["tracegrade.cli", "tracegrade.serve", "collector.service", "gate.api", "graders"])
def test_nothing_heavy_is_imported_at_start(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(m for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY.isdisjoint(loaded), HEAVY.intersection(loaded)


def test_the_collector_alone_loads_no_grader() -> None:
    code = "import sys, collector.service; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"graders", "gate", "fastapi", "clickhouse_connect"}.isdisjoint(loaded)
