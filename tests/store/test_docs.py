"""The queries in the documentation run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from store.client import Store

DOCS = Path(__file__).parents[2]
QUERIES = [
    pytest.param(query, id=f"{page.stem}-{number}")
    for page in [DOCS / "README.md", *sorted((DOCS / "docs").glob("*.md"))]
    for number, query in enumerate(re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL), start=1)
]


def test_there_are_queries() -> None:
    assert len(QUERIES) >= 5


@pytest.mark.parametrize("query", QUERIES)
def test_a_documented_query_runs(store: Store, query: str) -> None:
    store.query(query.replace("…", "0"))
