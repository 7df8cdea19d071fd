"""Graded runs: traces made of records, and what the shipped graders say of them.

`direct` turns spans into rows as the store would give them, assembles and grades in this process; `bench.carding.served` takes
the way telemetry takes. Both give the same grades.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace.status import StatusCode

from bench.carding.convert import Record, as_hex
from bench.carding.sets import SHAPE, Loaded, Missing
from gate.suite import parse_suite
from graders import GraderSets, assemble, grader_types, load_graders, load_policy, run_graders
from graders.testing import scalars
from store.types import Case, Grade, Span, SpanEvent

POLICIES = sorted((Path(__file__).parent / "policies").glob("*.yaml"))
"""What the agents of the sets may do, as an operator would write it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call as the assembler found it."""

    key: str
    name: str
    arguments: str
    span_id: str
    executed: bool | None
    error: str


@dataclass(frozen=True, slots=True)
class Run:
    """One trace of one record, graded."""

    set: str
    record: Record
    name: str
    """Which of the record's runs."""
    cluster: str
    trace_id: str
    root_id: str
    grades: Mapping[str, Sequence[Grade]]
    """By grader."""
    calls: Sequence[Call]
    """In time order."""
    error: str = ""
    """What the root says went wrong, if it failed."""

    def of(self, grader: str) -> Sequence[Grade]:
        """What one grader found."""
        return self.grades.get(grader, ())


@dataclass(frozen=True, slots=True)
class Planned:
    """A run before it is graded."""

    set: str
    record: Record
    name: str
    cluster: str
    spans: Sequence[ReadableSpan]


def planned(loaded: Loaded, keep: Callable[[Record, str], bool] | None = None) -> Iterator[Planned]:
    """The runs of a set, in the order of its records."""
    for number, record in enumerate(loaded.records, start=1):
        try:
            cluster = loaded.set.cluster(record)
            made = [run for run in loaded.set.traces(record, loaded.beside) if keep is None or keep(record, run[0])]
        except SHAPE as error:
            what = f"{loaded.set.name}, record {number} ({str(record.get('id'))[:100]}) is not as it should be"
            raise Missing(f"{what}: {type(error).__name__}: {error}; see bench/carding/convert.py") from error
        for name, spans in made:
            yield Planned(loaded.set.name, record, name, cluster, spans)


def grader_sets(only: Sequence[str] = ()) -> GraderSets:
    """All graders as `tracegrade serve` runs them with the policies here; or only some of them."""
    spec = {name: None for name in grader_types() if not only or name in only}
    policies = [load_policy(file) for file in POLICIES]
    return GraderSets(load_graders(spec), [(policy, load_graders(spec, policy=policy)) for policy in policies])


def direct(loaded: Loaded, plan: Iterable[Planned], graders: GraderSets) -> Iterator[Run]:
    """Grade in this process."""
    cases: dict[str, Case] = {}
    if loaded.suite:
        cases = {case.id: case for case in parse_suite(json.dumps(loaded.suite)).cases}
    for item in plan:
        rows = sorted(map(row, item.spans), key=lambda s: (s.start_ns, s.span_id))
        case_id = next((r.case_id for r in rows if r.case_id), "")
        trace = assemble(rows, (), cases.get(case_id))
        calls = [
            Call(c.key, c.name, c.arguments_text, c.anchor, c.executed, c.error)
            for c in sorted(trace.tool_calls, key=lambda c: c.index)
        ]
        grades = run_graders(graders.of(trace), trace)
        yield graded(item, trace.trace_id, grades, calls)


def graded(item: Planned, trace_id: str, grades: Iterable[Grade], calls: Sequence[Call]) -> Run:
    """A run with its grades sorted by grader."""
    by_grader: dict[str, list[Grade]] = defaultdict(list)
    for grade in grades:
        by_grader[grade.grader].append(grade)
    root = next((span for span in item.spans if not span.parent), item.spans[0])
    failed = root.status.status_code is StatusCode.ERROR
    error = (root.status.description or "error") if failed else ""
    return Run(item.set, item.record, item.name, item.cluster, trace_id, as_hex(root)[1], dict(by_grader), calls, error)


def row(span: ReadableSpan) -> Span:
    """The row of `agent_spans` that the store would give for this span."""
    trace_id, span_id = as_hex(span)
    attributes, resource = _texts(span.attributes), _texts(span.resource.attributes)
    scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
    return Span(
        **{
            "trace_id": trace_id,
            "span_id": span_id,
            "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else "",
            "name": span.name,
            "start_ns": span.start_time or 0,
            "end_ns": span.end_time or 0,
            "status": span.status.status_code.name.capitalize(),
            "status_message": span.status.description or "",
            "service": resource.get("service.name", ""),
            "service_version": resource.get("service.version", ""),
            "scope": scope,
            "attributes": attributes,
            "resource": resource,
            "events": tuple(SpanEvent(e.name, e.timestamp, _texts(e.attributes)) for e in span.events),
            "run_id": resource.get("tracegrade.run.id", ""),
            "case_id": attributes.get("tracegrade.case.id", ""),
            **scalars(span.name, attributes, scope),
        }
    )


def _texts(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    """Attribute values as the OpenTelemetry exporter for ClickHouse writes them."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        for key, value in (attributes or {}).items()
    }
