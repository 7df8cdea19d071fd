"""The chart, and the two ways to look at it: its committed files, and Helm's own binary."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CHART = Path(__file__).parents[2] / "helm" / "tracegrade"
KUBERNETES = "1.30.0"

Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def chart() -> Path:
    return CHART


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs Helm. `make integration` builds it and says where (TRACEGRADE_HELM); without it these tests are skipped."""
    binary = os.environ.get("TRACEGRADE_HELM") or shutil.which("helm")
    if binary is None:
        pytest.skip("there is no helm here; `make integration` builds one and runs these tests")

    def run(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        version = ["--kube-version", KUBERNETES]
        return subprocess.run(
            [binary, command, *map(str, arguments), *version], capture_output=True, text=True, timeout=60, check=False
        )

    return run
