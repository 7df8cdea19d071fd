"""trail: errors that people marked on spans of captured traces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from bench.carding.card import REGISTERED, Measured, Registered, Unit, card, verdicts
from bench.carding.convert import Record, nested
from bench.carding.measures.truth import truth
from bench.carding.runs import Run
from graders import grader_types
from store.types import Outcome

_KIND = "openinference.span.kind"
_END = re.compile(r"\s+(errors?|failures?|issues?)$")


def clean(category: str) -> str:
    """A category as people meant it: the source writes some of them in several ways."""
    return _END.sub("", category.strip().casefold())


def steps(record: Record) -> dict[str, str]:
    """For every span the model call that it belongs to: itself, the one whose tool it is, or the last one inside it.

    A tool belongs to the model call that started last before it under the same parent, else in the trace.
    """
    spans = sorted(nested(record["spans"]), key=lambda s: (s["timestamp"], s["span_id"]))
    parent = {s["span_id"]: s["parent_span_id"] for s in spans}
    models = [s for s in spans if s["span_attributes"].get(_KIND) == "LLM"]
    inside: dict[str, str] = {}
    for model in models:
        above = model["parent_span_id"]
        while above and above in parent:
            inside[above] = model["span_id"]
            above = parent[above]
    found: dict[str, str] = {}
    for span in spans:
        span_id = span["span_id"]
        if span["span_attributes"].get(_KIND) == "LLM":
            found[span_id] = span_id
        elif span_id in inside:
            found[span_id] = inside[span_id]
        else:
            before = [m for m in models if m["timestamp"] <= span["timestamp"]]
            beside = [m for m in before if m["parent_span_id"] == span["parent_span_id"]]
            if last := (beside or before)[-1:]:
                found[span_id] = last[0]["span_id"]
    return found


def _units(runs: Sequence[Run], graders: Iterable[str], categories: Iterable[str], *, tools: bool = False) -> Measured:
    names, wanted = list(graders), {clean(category) for category in categories}
    units = []
    for run in runs:
        step = steps(run.record)
        labels = run.record["labels"]["errors"]
        marked = {e["location"] for e in labels if clean(e["category"]) in wanted}
        bad = {step.get(location, location) for location in marked} if tools else marked
        said: dict[str, str] = {}
        whole: set[str] = set()
        for grade in (g for name in names for g in run.of(name)):
            # What a finding points at comes before where it hangs: a finding about the whole trace hangs on the root.
            places = {step.get(grade.span_id, "")}
            if grade.span_id == run.root_id:
                whole.add(str(grade.outcome))
                places = {step.get(e.span_id, "") for e in grade.evidence} or places
            for place in places if grade.outcome == Outcome.FAIL else ():
                said[place] = str(grade.outcome)
            if grade.outcome != Outcome.FAIL and grade.span_id != run.root_id:
                said.setdefault(step.get(grade.span_id, ""), str(grade.outcome))
        # A model call no finding names was looked at if the trace was.
        rest = str(Outcome.PASS if whole & {Outcome.PASS, Outcome.FAIL} or said else Outcome.SKIP)
        units += [
            Unit(run.cluster, said.get(call, rest), call in bad, run.record["benchmark"])
            for call in sorted(set(step.values()))
        ]
    return verdicts(units)


def _named() -> list[str]:
    return [n for n in grader_types() if any(fnmatchcase(n, pattern) for pattern in truth().trail.graders)]


@card("trail", "evidence/* and tools/*", "model calls", bars={"precision": ">= .65", "recall": ">= .50"})
def grounds(runs: Sequence[Run]) -> Measured:
    """A model call is bad when people marked it with an error about evidence or goal: fabricated tool results, unsupported
    claims, a misread result, poor retrieval, a missed goal. Flagged when any of the graders that `truth.yaml` names fails at it
    or at a tool call it asked for. Readers of such traces rarely agree on the place of an error; the best model of the source's
    authors finds one in nine together with its place."""
    measured = _units(runs, _named(), truth().trail.categories)
    measured.notes.append("taken together: " + ", ".join(_named()))
    return measured


@card("trail", "evidence/* and tools/*", "model calls", informative=True)
def grounds_with_tools(runs: Sequence[Run]) -> Measured:
    """The same, but an error that people marked on a tool call counts as one of the model call that asked for it."""
    return _units(runs, _named(), truth().trail.categories, tools=True)


def register_single() -> None:
    """One measure for each grader that the file names and that exists."""
    known: Mapping[str, Sequence[str]] = truth().trail.by_grader
    for name in grader_types():
        if any(fnmatchcase(name, pattern) for pattern in truth().trail.graders):
            categories = known.get(name, truth().trail.categories)

            def single(runs: Sequence[Run], name: str = name, categories: Sequence[str] = categories) -> Measured:
                return _units(runs, [name], categories, tools=True)

            single.__doc__ = (
                "A model call is bad when people marked it, or a tool call it asked for, with one of: "
                + ", ".join(categories)
                + ". Most such errors are of a kind this grader does not look for: recall is of all of them."
            )
            single.__name__ = f"single_{name.replace('/', '_')}"
            REGISTERED.append(Registered("trail", name, "model calls", single, {}, True))


register_single()
