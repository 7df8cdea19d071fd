"""Where the real data is; without it these tests say so and skip."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.carding import convert, suites
from bench.carding.convert import Record, records

from .server import Server, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real records: `REAL_DATA`, which must then exist, or `../shared/data` beside the repository."""
    named = os.environ.get("REAL_DATA")
    folder = Path(named or ROOT.parent / "shared" / "data")
    if not (folder / "MAPPING.md").is_file():
        if named:
            pytest.fail(f"REAL_DATA names {folder}, which holds no MAPPING.md")
        pytest.skip(f"no real data in {folder}; set REAL_DATA to the folder that holds MAPPING.md")
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


@pytest.fixture(scope="session")
def retail(data: Path) -> list[Record]:
    return records(data / "tau2_retail_paired")


@pytest.fixture(scope="session")
def begin(data: Path) -> list[Record]:
    return records(data / "begin")


@pytest.fixture(scope="session")
def wice(data: Path) -> list[Record]:
    return records(data / "wice")


@pytest.fixture(scope="session")
def expertqa(data: Path) -> list[Record]:
    return records(data / "expertqa")


@pytest.fixture(scope="session")
def rjudge(data: Path) -> list[Record]:
    return records(data / "rjudge")


@pytest.fixture(scope="session")
def server(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests here."""
    with serving(tmp_path_factory.mktemp("realdata")) as running:
        yield running


@pytest.fixture(scope="session")
def airline_ids(server: Server, airline: list[Record], airline_tools: list[Any]) -> list[str]:
    """All tau-bench conversations in the store, graded against their suite."""
    server.add_suite(suites.airline(airline))
    return server.receive([convert.tau(record, airline_tools) for record in airline])


PIPELINES = (
    *("claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20241022"),
    *("gpt-4o-2024-05-13-repeat_user_prompt", "gpt-4o-2024-05-13-transformers_pi_detector"),
    *("command-r", "gemini-1.5-flash-001"),
)
"""Four that are compared, and two whose call ids are empty or repeated."""


@pytest.fixture(scope="session")
def agentdojo_sent(agentdojo: list[Record]) -> list[Record]:
    """The runs of the pipelines the tests need."""
    return [record for record in agentdojo if record["pipeline"] in PIPELINES]


@pytest.fixture(scope="session")
def agentdojo_ids(server: Server, data: Path, agentdojo_sent: list[Record]) -> list[str]:
    """Those runs in the store, graded against their suite."""
    server.add_suite(suites.agentdojo(data / "agentdojo", (record["case"] for record in agentdojo_sent)))
    return server.receive([convert.agentdojo(record) for record in agentdojo_sent])


SETTINGS = ("haiku_base_solo", "haiku_run", "sonnet_run")


@pytest.fixture(scope="session")
def retail_ids(server: Server, retail: list[Record]) -> list[str]:
    """All retail sessions in the store, ticket by ticket and in the order of `SETTINGS`."""
    server.add_suite(suites.retail(retail))
    return server.receive([convert.retail(record, setting) for record in retail for setting in SETTINGS])
