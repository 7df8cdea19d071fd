"""Reads one YAML file into one pydantic model, and reports everything that is wrong with it at once.

Every problem names the file, the line, the key and the way out. The dialect is YAML's 1.2 core schema: only `true` and
`false` are booleans (`yes`, `no`, `on` stay text) and dates stay text. What configuration does not need is refused:
anchors and aliases (which can expand without bound), tags, several documents, duplicate keys, non-text keys, deep
nesting and large files. Meaning is the model's business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64

_INT = re.compile(r"[-+]?[0-9]{1,18}|0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip

_SECRET = frozenset(("tokens", "key", "password", "headers"))
"""What stands under these keys is not shown in messages."""

_Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file."""

    file: str
    line: int
    """From 1; 0 when the file as a whole is meant."""
    key: str
    """Dotted path of the key, e.g. `tools[2].effect`; empty for the whole file."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """A file cannot be used. `problems` holds all reasons."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def load_yaml(path: Path | str, model: type[M]) -> M:
    """Read `path` as `model`; raises `ConfigError` with every problem."""
    name = str(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(name, 0, "", f"cannot be read: {error.strerror or error}")]) from error
    return parse_yaml(content, model, name)


def parse_yaml(content: bytes | str, model: type[M], name: str = "<text>") -> M:
    """Like `load_yaml`, for text at hand; `name` stands for the file in messages."""
    data, lines, problems = _read(content, name)
    try:
        value = model.model_validate({} if data is None else data)
    except ValidationError as error:
        problems += problems_of(error, model, name, lines)
    if problems:
        raise ConfigError(sorted(problems, key=lambda p: p.line))
    return value


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    name: str,
    lines: Mapping[_Path, int] | None = None,
    key: _Path = (),
) -> list[Problem]:
    """What `error` says about data meant as `model`; `lines` maps its keys to lines, `key` is where it stands."""
    schema = model.model_json_schema()
    return [_explain(e, schema, lines, name, key) for e in error.errors(include_url=False)]


# --- YAML to plain values -------------------------------------------------------------------------------------------


class _Refused(Exception):
    def __init__(self, line: int, key: _Path, message: str) -> None:
        super().__init__(message)
        self.line, self.key, self.message = line, key, message


def _read(content: bytes | str, name: str) -> tuple[object, dict[_Path, int], list[Problem]]:
    try:
        raw = content if isinstance(content, bytes) else content.encode()
        if len(raw) > MAX_BYTES:
            raise _Refused(0, (), f"is larger than {MAX_BYTES >> 20} MiB; split it")
        text = raw.decode("utf-8-sig")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ConfigError([Problem(name, 0, "", f"is not UTF-8 text: {error.reason}")]) from None
    except _Refused as refused:
        raise ConfigError([Problem(name, 0, "", refused.message)]) from None
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"is not YAML: {error.problem or error.context}"
        raise ConfigError([*builder.problems(name), Problem(name, mark.line + 1 if mark else 0, "", message)]) from None
    except yaml.YAMLError as error:
        message = f"is not YAML: {str(error).splitlines()[0]}"
        raise ConfigError([*builder.problems(name), Problem(name, 0, "", message)]) from None
    except _Refused as refused:
        builder.refused.append(refused)
        raise ConfigError(list(builder.problems(name))) from None
    return builder.value, builder.lines, list(builder.problems(name))


class _Builder:
    """Turns parser events into values without recursion, remembering the line of every key."""

    def __init__(self) -> None:
        self.value: object = None
        self.lines: dict[_Path, int] = {}
        self.refused: list[_Refused] = []
        self._stack: list[tuple[_Path, dict[str, Any] | list[Any]]] = []
        self._key: str | None = None
        self._keys: list[str | None] = []
        self._documents = 0

    def problems(self, name: str) -> Iterator[Problem]:
        return (Problem(name, r.line, _dotted(r.key), r.message) for r in self.refused)

    def feed(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(line, self._here(), f"alias *{event.anchor}: aliases are not supported; write the value out")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _Refused(line, (), "holds several documents; keep one")
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
            self._key = self._keys.pop()

    def _here(self) -> _Path:
        if not self._stack:
            return ()
        path, container = self._stack[-1]
        if isinstance(container, list):
            return (*path, len(container))
        return path if self._key is None else (*path, self._key)

    def _node(self, event: yaml.NodeEvent, line: int) -> None:
        path = self._here()
        if event.anchor is not None:
            raise _Refused(line, path, f"anchor &{event.anchor}: anchors are not supported; write the value out")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise _Refused(line, path, f"tag {_quote(tag)}: tags are not supported; remove it")
        container = self._stack[-1][1] if self._stack else None
        if isinstance(container, dict) and self._key is None:
            self._take_key(event, container, path, line)
            return
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event.value) if event.implicit[0] else event.value
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.lines.setdefault(path, line)
        if container is None:
            self.value = value
        elif isinstance(container, list):
            container.append(value)
        else:
            container.setdefault(self._key or "", value)
            self._key = None
        if not isinstance(event, yaml.ScalarEvent):
            if len(self._stack) >= MAX_DEPTH:
                raise _Refused(line, path[:3], f"is nested more than {MAX_DEPTH} levels deep")
            self._stack.append((path, value))
            self._keys.append(self._key)
            self._key = None

    def _take_key(self, event: yaml.NodeEvent, container: dict[str, Any], path: _Path, line: int) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise _Refused(line, path, "has a key that is not plain text")
        self._key = event.value
        here = (*path, event.value)
        if event.value in container:
            self.refused.append(_Refused(line, here, f"is given twice (first on line {self.lines[here]}); keep one"))
        self.lines.setdefault(here, line)


def _scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


# --- pydantic's errors to problems ----------------------------------------------------------------------------------


def _explain(
    error: Any, schema: Mapping[str, Any], lines: Mapping[_Path, int] | None, name: str, key: _Path
) -> Problem:
    kind, loc = error["type"], error["loc"]
    path: _Path = loc[:-1] if kind == "missing" else loc
    if lines is not None:  # pydantic also puts union members and models into loc; only what stands in the file counts
        path = ()
        for part in loc:
            if (*path, part) in lines:
                path = (*path, part)
    line = lines.get(path, 1) if lines is not None else 0
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind == "extra_forbidden":
        known = sorted(_known_keys(schema, path[:-1]))
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        message = f"unknown key; {hint}known: {', '.join(known) or 'none'}"
    elif kind == "missing":
        path, message = (*path, loc[-1]), "is required"
    elif _SECRET.intersection(loc):
        pass
    elif kind == "string_type" and isinstance(error["input"], int | float):
        message = f"{message}, got {_quote(error['input'])}; put it in quotes"
    elif not isinstance(error["input"], dict | list | BaseModel):
        message = f"{message}, got {_quote(error['input'])}"
    return Problem(name, line, _dotted((*key, *path)), message)


def _known_keys(schema: Mapping[str, Any], path: _Path) -> set[str]:
    nodes = list(_members(schema, schema))
    for part in path:
        nodes = [m for node in nodes for child in _children(node, part) for m in _members(child, schema)]
    return {key for node in nodes for key in node.get("properties", {})}


def _members(node: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
    yield node
    for union in ("anyOf", "oneOf", "allOf"):
        for member in node.get(union, ()):
            yield from _members(member, root)


def _children(node: Mapping[str, Any], part: str | int) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        candidates = [node.get("items")]
    else:
        candidates = [node.get("properties", {}).get(part), node.get("additionalProperties")]
    yield from (c for c in candidates if isinstance(c, dict))


def _dotted(path: _Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _quote(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
