"""Fixtures every part shares: one embedded engine for the whole run, a fresh database for each test that asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.client import Dsn, Store, connect

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def engine_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the one engine this process may open."""
    return tmp_path_factory.mktemp("engine")


@pytest.fixture
def store(engine_path: Path) -> Iterator[Store]:
    """An empty store with its schema applied, in a database of its own."""
    name = f"test_{next(_numbers)}"
    with connect(Dsn(embedded=True, path=str(engine_path), database=name)) as opened:
        opened.apply_schema()
        yield opened
        opened.command(f"DROP DATABASE {name}")
