"""Writes docs/dialects.md from the dialect mapping and the recorded fixtures: `python tests/dialects/docs.py`.

What is read from where and what telemetry shows comes from store/dialects.yaml; which recordings prove it, with what
packages and where they deviate, from each fixture's about.yaml and bodies. `page` is pure but for reading those files.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.otlp import Encoding, accept_traces
from store.dialects import FACTS, Dialect, Recognition, Shown, mapping

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "docs" / "dialects.md"
_SIGNS = {"yes": "●", "opt_in": "◐", "no": "–"}
_INTRO = """# Dialects

<!-- Written by `make docs` from store/dialects.yaml and the recordings in tests/dialects/fixtures; edit those. -->

Agents say the same things in many ways. This page says which of them tracegrade reads, where it looks for each piece, in
which order, and what the telemetry of each cannot show, whatever is done with it. A grader that needs what a dialect cannot
show answers `unknown`, never `pass` or `fail`.

Every recording under `tests/dialects/fixtures` is what a real exporter sent for one scripted conversation, byte for byte,
unless it says `documented`. The tests send each of them through the front door and compare what comes out with what happened.

Only what is inside a trace is joined: an approval given in another trace of the same conversation is not seen yet.
"""


def page() -> str:
    """The whole document."""
    fixtures = _fixtures()
    parts = [_INTRO, _table(), _sources()]
    for name, dialect in mapping().dialects.items():
        parts.append(_section(name, dialect, [f for f in fixtures if f["dialect"] == name]))
    return "\n".join(parts)


def _fixtures() -> list[dict[str, Any]]:
    return [
        {
            **yaml.safe_load(path.read_text("utf-8")),
            "name": path.parent.parent.name,
            "scenario": path.parent.name,
            "path": path.parent,
        }
        for path in sorted((HERE / "fixtures").glob("*/*/about.yaml"))
    ]


def _table() -> str:
    lines = [
        "## What each can show",
        "",
        "● yes · ◐ only while content capture is on · – never. A row below a dialect is a sender that shows more or less;",
        "a denial may be told by a text alone, which explains why a call did not run and never grants anything.",
        "",
        "| | " + " | ".join(fact.replace("_", " ") for fact in FACTS) + " |",
        "|---|" + "---|" * len(FACTS),
    ]
    for dialect in mapping().dialects.values():
        rows: list[tuple[str, Shown]] = [(f"**{dialect.title}**", dialect)]
        rows += [(f"… {variant.title}", variant) for variant in dialect.variants]
        for title, shown in rows:
            table = {**dialect.capabilities(), **shown.capabilities()}
            lines.append(f"| {title} | " + " | ".join(_SIGNS[table[fact]] for fact in FACTS) + " |")
    return "\n".join(lines) + "\n"


def _sources() -> str:
    rules = mapping()
    lines = [
        "## Where it looks",
        "",
        "The first that has a value wins. A name that ends in a dot is an indexed family.",
        "",
    ]
    for name, field in rules.fields.items():
        last = [f"`{key}` ({kind} spans)" for kind, keys in field.last.items() for key in keys]
        names = ["the span's name"] if field.from_name else []
        lines.append(f"- **{name.replace('_', ' ')}**: " + ", ".join([*(f"`{k}`" for k in field.keys), *last, *names]))
    for name, keys in rules.content.items():
        lines.append(f"- **{name.replace('_', ' ')}**: " + ", ".join(f"`{key}`" for key in keys))
    reasons = ", ".join(f"`{key}`" for key in rules.finish_reasons.keys)
    lines.append(f"- **finish reason**: {reasons}")
    return "\n".join(lines) + "\n"


def _section(name: str, dialect: Dialect, fixtures: list[dict[str, Any]]) -> str:
    hidden = [fact.replace("_", " ") for fact in dialect.hides]
    lines = [
        f"## {dialect.title}",
        "",
        f"`{name}`. Recognised by {'; or '.join(_recognised(r) for r in mapping().recognise if r.dialect == name)}.",
        f"Content capture: {dialect.content}. Cannot show: {', '.join(hidden) or 'nothing is missing'}.",
        "",
    ]
    read = _read(fixtures)
    if read:
        lines += ["Read from its recordings:", "", *read, ""]
    if not fixtures:
        return "\n".join([*lines, "No recording: what is said here is from its documentation and source.", ""])
    lines += ["| recording | made with | differs | does not show |", "|---|---|---|---|"]
    for f in fixtures:
        packages = ", ".join(f"{package} {version}" for package, version in f["packages"].items())
        made = packages if f["made"] == "captured" else f"{f['made']}: {packages}"
        differs = "; ".join(_cell(text) for text in f["deviations"])
        lines.append(f"| {f['name']}/{f['scenario']} | {_cell(made)} | {differs} | {', '.join(f['invisible'])} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _recognised(rule: Recognition) -> str:
    said = [f"attribute `{a}`" for a in rule.attributes]
    said += [f"attributes `{p}*`" for p in rule.prefixes]
    said += [f"scope `{s}*`" for s in rule.scopes]
    said += [f"span name `{n}*`" for n in rule.names]
    said += [f"`{key}` = {' or '.join(values)}" for key, values in rule.values.items()]
    return ", ".join(said)


def _read(fixtures: list[dict[str, Any]]) -> list[str]:
    """Which of the sources occur in the recordings, in the order in which they are looked at."""
    keys = {key for fixture in fixtures for key in _attributes(fixture["path"])}
    rules = mapping()
    sources = {name: [*f.keys, *(k for ks in f.last.values() for k in ks)] for name, f in rules.fields.items()}
    lines = []
    for name, looked in {**sources, **rules.content}.items():
        found = [
            s for s in looked if s.partition("#")[0] in keys or (s.endswith(".") and any(k.startswith(s) for k in keys))
        ]
        if found:
            lines.append(f"- {name.replace('_', ' ')}: " + ", ".join(f"`{source}`" for source in found))
    return lines


def _attributes(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("[0-9]*.traces.*")):
        body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        encoding = Encoding.JSON if ".json" in path.suffixes else Encoding.PROTOBUF
        request = ExportTraceServiceRequest.FromString(accept_traces(body, encoding).payload)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    yield from (attribute.key for attribute in span.attributes)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
