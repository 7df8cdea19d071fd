"""Reads a decision document back into a `Decision`: the inverse of `Decision.to_json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from gate.decision import Decision, camel


def read_decision(document: Mapping[str, Any]) -> Decision:
    """The decision a document holds; keys that are no part of it are ignored. Raises KeyError, TypeError or ValueError."""
    decision: Decision = _read(Decision, document)
    return decision


def _read(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: _read(hints[f.name], value[camel(f.name)]) for f in fields(kind)})  # type: ignore[operator]
    if get_origin(kind) is UnionType:
        return None if value is None else _read(next(k for k in get_args(kind) if k is not type(None)), value)
    if get_origin(kind) is tuple:
        items = get_args(kind)
        return tuple(_read(items[0] if items[-1] is ... else items[i], v) for i, v in enumerate(value))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return value
