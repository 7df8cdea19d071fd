"""Fixtures every part shares: one embedded engine for the whole run, its tables empty for each test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graders import base
from store.client import Dsn, Store, connect


@pytest.fixture(scope="session")
def engine_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the one engine this process may open."""
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="session")
def _shared_store(engine_path: Path) -> Iterator[Store]:
    with connect(Dsn(embedded=True, path=str(engine_path), database="tests")) as opened:
        opened.apply_schema()
        yield opened


@pytest.fixture
def store(_shared_store: Store) -> Store:
    """A store with its schema applied and nothing in it."""
    tables = _shared_store.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND total_rows > 0 AND name != 'schema_migrations'"
    )
    for table in tables:
        _shared_store.command(f"TRUNCATE TABLE {table['name']}")
    return _shared_store


@pytest.fixture(autouse=True)
def _graders_of_other_tests_are_unknown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, grader in list(base._registry.items()):
        if name.startswith("test/") and grader.__module__ != request.module.__name__:
            monkeypatch.delitem(base._registry, name)
