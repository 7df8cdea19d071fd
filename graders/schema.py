"""Checks a value against a JSON Schema that came with telemetry, without letting the schema decide how long that takes.

Promises: nothing is fetched, patterns run in time linear in the text, and what would take more than `MAX_WORK` steps is not
begun. References that multiply (`anyOf` of two references to an `anyOf` of two …) double the work at each level, so the
schema is unfolded on paper first, as deep as the value is. What cannot be judged is `Unusable`, which is no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs

from graders.content import canonical

MAX_WORK: Final = 50_000_000
"""Schemas times characters."""
_MAX_EXPLAINED: Final = 500_000
"""Telling what is wrong takes far more than telling that something is."""
_MAX_SCHEMA: Final = 200_000
_MAX_ERRORS: Final = 3
_PATTERN_WORK: Final = 1_000
_PATTERN_BYTES: Final = 1 << 18
_INWARD: Final = frozenset(
    {
        "properties",
        "patternProperties",
        "additionalProperties",
        "items",
        "prefixItems",
        "additionalItems",
        "contains",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Keywords whose schemas are for what the value holds; those of all others are for the value itself."""
_BY_NAME: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
"""Keywords that hold schemas under names of the sender's choice."""
_APART: Final = frozenset({"$defs", "definitions", "examples", "default", "const"})
_ELSEWHERE: Final = ("$dynamicRef", "$recursiveRef")


class Unusable(Exception):
    """The schema cannot be used; the message says why."""


def problems(schema: Mapping[str, Any], value: object) -> list[str]:
    """What is wrong with `value`; empty when it is valid. Raises `Unusable`."""
    try:
        work = _Work(schema).of(schema, _depth(value)) * max(len(canonical(value)), 1)
    except RecursionError:
        raise Unusable("it is nested too deep") from None
    if work > MAX_WORK:
        raise Unusable("checking these arguments would take too long")
    validator = _validator(canonical(schema))
    if isinstance(validator, str):
        raise Unusable(validator)
    if validator.is_valid(value):
        return []
    if work > _MAX_EXPLAINED:
        return ["not valid; schema and arguments are too large to say where"]
    found = []
    for error in validator.iter_errors(value):
        path = ".".join(map(str, error.instance_path))
        found.append(f"{path}: {error.message}" if path else str(error.message))
        if len(found) == _MAX_ERRORS:
            break
    return found


@lru_cache(maxsize=2048)
def _validator(schema: str) -> Any:
    """A validator, or why there is none. Schemas repeat from trace to trace, so they are compiled once."""
    if not schema or len(schema) > _MAX_SCHEMA:
        return "it is too large or too deep"
    try:
        patterns = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
        return jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=patterns)
    except Exception as error:  # the library raises ValidationError, ReferencingError and ValueError
        return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is outside the schema")


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level := [
        inner
        for item in level
        if isinstance(item, dict | list)
        for inner in (item.values() if isinstance(item, dict) else item)
    ]:
        depth += 1
    return depth


class _Work:
    """How many schemas one value of a given depth may be held against."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[int, int], float] = {}

    def of(self, node: object, depth: int) -> float:
        if depth < 0 or not isinstance(node, dict | list):
            return 1
        place = id(node), depth
        if place not in self._known:
            self._known[place] = float(
                "inf"
            )  # until it is known: a schema that asks itself about the same value has no end
            work = self._list(node, depth) if isinstance(node, list) else self._object(node, depth)
            self._known[place] = min(work, 2.0 * MAX_WORK)
        return self._known[place]

    def _list(self, node: list[Any], depth: int) -> float:
        return 1 + sum(self.of(item, depth) for item in node)

    def _object(self, node: Mapping[str, Any], depth: int) -> float:
        work = 1.0
        for key, inner in node.items():
            if key in _APART:
                continue
            if key == "$ref" and isinstance(inner, str):
                work += self.of(self._target(inner), depth)
            elif key in _ELSEWHERE:
                return float("inf")
            elif key in _BY_NAME and isinstance(inner, dict):
                inside = depth - (key in _INWARD)
                work += sum(self.of(named, inside) for named in inner.values())
            elif key in _INWARD:
                work += self.of(inner, depth - 1)
            elif key != "enum":
                work += self.of(inner, depth)
            else:
                work += len(inner) if isinstance(inner, list) else 1
            if key in ("pattern", "patternProperties"):
                work += _PATTERN_WORK * (len(inner) if isinstance(inner, dict) else 1)
        # These look at the value once more to learn what the others have judged.
        return 2 * work if "unevaluatedProperties" in node or "unevaluatedItems" in node else work

    def _target(self, reference: str) -> object:
        """What a reference within the schema points at. Raises `Unusable` for any other."""
        node: Any = self._root
        if reference == "#":
            return node
        if not reference.startswith("#/"):
            raise Unusable(f"it refers to {reference[:100]}, which is not a place in the schema")
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            elif isinstance(node, dict) and name in node:
                node = node[name]
            else:
                raise Unusable(f"it refers to {reference[:100]}, which is not a place in the schema")
        return node
