"""Every problem of a YAML file is found, placed and explained; nothing hostile gets through."""

import contextlib
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from store.yamlfile import MAX_BYTES, MAX_DEPTH, ConfigError, load_yaml, parse_yaml


class Tool(BaseModel, extra="forbid", frozen=True):
    name: str
    effect: Literal["read", "write"] = "read"


class Config(BaseModel, extra="forbid", frozen=True):
    version: int
    tools: tuple[Tool, ...] = ()
    by_name: dict[str, Tool] = {}
    words: tuple[str, ...] = ()
    limit: float | None = None


def test_reads_the_core_schema() -> None:
    config = parse_yaml(
        "version: 0x10\nlimit: 1e3\nwords: [yes, no, on, 2026-01-01, '1', \"true\"]\nby_name: {x: {name: y}}\n", Config
    )
    assert config.version == 16
    assert config.limit == 1000.0
    assert config.words == ("yes", "no", "on", "2026-01-01", "1", "true")
    assert config.by_name["x"].name == "y"


PROBLEMS = {
    "everything at once": (
        "version: x\ntools:\n  - nam: a\n  - name: 3\n    effect: wrte\nby_name:\n  q: {name: a, efect: 1}\nfoo: 1\n",
        [
            "f.yaml:1: version: input should be a valid integer, unable to parse string as an integer, got 'x'",
            "f.yaml:3: tools[0].name: is required",
            "f.yaml:3: tools[0].nam: unknown key; did you mean name? known: effect, name",
            "f.yaml:4: tools[1].name: input should be a valid string, got 3; put it in quotes",
            "f.yaml:5: tools[1].effect: input should be 'read' or 'write', got 'wrte'",
            "f.yaml:7: by_name.q.efect: unknown key; did you mean effect? known: effect, name",
            "f.yaml:8: foo: unknown key; known: by_name, limit, tools, version, words",
        ],
    ),
    "duplicate key beside a wrong one": (
        "version: 1\nwords: []\nversion: 2\nwrds: []\n",
        [
            "f.yaml:3: version: is given twice (first on line 1); keep one",
            "f.yaml:4: wrds: unknown key; did you mean words? known: by_name, limit, tools, version, words",
        ],
    ),
    "empty": ("", ["f.yaml:1: version: is required"]),
    "anchor": ("version: &x 1", ["f.yaml:1: version: anchor &x: anchors are not supported; write the value out"]),
    "alias": ("version: *x", ["f.yaml:1: version: alias *x: aliases are not supported; write the value out"]),
    "tag": (
        "version: !!python/object/apply:os.system [id]",
        ["f.yaml:1: version: tag 'tag:yaml.org,2002:python/object/apply:os.system': tags are not supported; remove it"],
    ),
    "two documents": ("version: 1\n---\nversion: 2\n", ["f.yaml:2: holds several documents; keep one"]),
    "list as key": ("? [a]\n: 1", ["f.yaml:1: has a key that is not plain text"]),
    "syntax": ("version: 1\nwords: [", ["f.yaml:3: is not YAML: did not find expected node content"]),
    "not utf-8": (b"version: \xff", ["f.yaml: is not UTF-8 text: invalid start byte"]),
    "too deep": ("[" * (MAX_DEPTH + 2), [f"f.yaml:1: [0][0][0]: is nested more than {MAX_DEPTH} levels deep"]),
    "too large": (b" " * (MAX_BYTES + 1), ["f.yaml: is larger than 16 MiB; split it"]),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(name: str) -> None:
    content, expected = PROBLEMS[name]
    with pytest.raises(ConfigError) as caught:
        parse_yaml(content, Config, "f.yaml")
    assert sorted(map(str, caught.value.problems)) == sorted(expected)


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_yaml(tmp_path / "none.yaml", Config)


@given(st.one_of(st.binary(max_size=200), st.text(alphabet="ab:-[]{}\n \"'&*!|>#?,1.", max_size=80)))
def test_never_raises_anything_else(content: bytes | str) -> None:
    with contextlib.suppress(ConfigError):
        parse_yaml(content, Config)
