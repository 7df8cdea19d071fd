"""Where the real data is; without it these tests say so and skip."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .convert import Record, records

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real records, `TRACEGRADE_DATA` or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("TRACEGRADE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "MAPPING.md").is_file():
        pytest.skip(f"no real data in {folder}; set TRACEGRADE_DATA to the folder that holds MAPPING.md")
    return folder


@pytest.fixture(scope="session")
def trail(data: Path) -> list[Record]:
    return records(data / "trail")


@pytest.fixture(scope="session")
def airline(data: Path) -> list[Record]:
    return records(data / "tau_bench_airline")


@pytest.fixture(scope="session")
def airline_tools(data: Path) -> list[Any]:
    return json.loads((data / "tau_bench_airline" / "tools.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def agentdojo(data: Path) -> list[Record]:
    return records(data / "agentdojo")


@pytest.fixture(scope="session")
def bfcl(data: Path) -> list[Record]:
    return records(data / "bfcl_v1")
