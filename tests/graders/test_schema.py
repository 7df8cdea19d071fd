"""Schemas out of telemetry: what they say of a value, and that no schema keeps the checker busy."""

import time
from typing import Any

import pytest

from graders.schema import Unusable, problems


def _doubling(keyword: str, levels: int) -> dict[str, Any]:
    steps: dict[str, Any] = {
        f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(levels)
    }
    return {"$ref": "#/$defs/a0", "$defs": steps | {f"a{levels}": {"type": "string"}}}


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


_TWICE = {"required": ["a"], "properties": {"a": {"$ref": "#"}}}
_TREE = {"type": "object", "properties": {"a": {"$ref": "#"}, "n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        ({"properties": {"n": {"type": "integer"}}}, {"n": 1}, ""),
        ({"properties": {"n": {"type": "integer"}}}, {"n": "x"}, 'n: "x" is not of type "integer"'),
        ({"properties": {"n": {"pattern": "^a+$"}}}, {"n": "b"}, "does not match"),
        ({"properties": {"n": {"$ref": "#/$defs/x~1y"}}, "$defs": {"x/y": {"enum": [1, 2]}}}, {"n": 3}, "1 or 2"),
        (_TREE, {"a": {"a": {"n": 1}}}, ""),
        (_TREE, {"a": {"a": {"n": "x"}}}, "a.a.n"),
        (_doubling("anyOf", 4), {}, "not valid"),
    ],
)
def test_what_is_wrong_is_said(schema: dict[str, Any], value: Any, says: str) -> None:
    found = problems(schema, value)
    assert (says in found[0]) if says else found == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (_doubling("anyOf", 60), {}),
        (_doubling("oneOf", 25), {}),
        (_doubling("allOf", 200), {}),
        (_doubling("allOf", 3000), {}),
        ({"properties": {"const": _doubling("anyOf", 30)["$defs"]["a0"]}, **_doubling("anyOf", 30)}, {"const": 1}),
        ({"anyOf": [_TWICE, _TWICE]}, _nested(60)),
        ({"unevaluatedProperties": False, "allOf": [_TWICE]} | _TWICE, _nested(60)),
        ({"items": {"anyOf": [{"const": n} for n in range(5000)]}, "not": {}}, {"a": list(range(50_000))}),
        ({"properties": {"a": {"pattern": "(?:a{0,200}){0,200}(?=b)"}}}, {"a": "a" * 1000}),
        ({"properties": {"a": {"pattern": "(?:a{0,200}){0,200}b"}}}, {"a": "a" * 1000}),
        ({"properties": {"a": {"pattern": "^(a|a?)+(?<=b)$"}}}, {"a": "a" * 1000}),
        ({"$ref": "#"}, {}),
        ({"allOf": [{"$ref": "#"}], "required": ["a"]}, {}),
        ({"$dynamicRef": "#x", "$dynamicAnchor": "x"}, {}),
        ({"$ref": "http://127.0.0.1:9/schema"}, {}),
        ({"$ref": "file:///etc/passwd"}, {}),
        ({"$ref": "#/$defs/none"}, {}),
        ({"type": "nonsense"}, {}),
    ],
)
def test_no_schema_decides_how_long_it_takes(schema: dict[str, Any], value: Any) -> None:
    started = time.process_time()
    with pytest.raises(Unusable):
        problems(schema, value)
    assert time.process_time() - started < 3


def test_a_large_failure_is_told_without_its_place() -> None:
    schema = {"properties": {"a": {"items": {"anyOf": [{"const": -n} for n in range(1, 500)]}}}}
    started = time.process_time()
    assert problems(schema, {"a": list(range(1000))}) == ["not valid; schema and arguments are too large to say where"]
    assert time.process_time() - started < 3
