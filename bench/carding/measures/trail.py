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


RESEARCH = "GAIA"
"""The part of the set that has agents that look things up and then answer through a tool."""


@card("trail", truth().trail.ungrounded, "model calls", bars={"precision": ">= .65", "recall": ">= .50"})
def ungrounded(runs: Sequence[Run]) -> Measured:
    """All traces. A model call is bad when people marked it with an error about evidence or goal: fabricated tool results,
    unsupported claims, a misread result, poor retrieval, a missed goal. Readers of such traces rarely agree on the place of an
    error; the best model of the source's authors finds one in nine together with its place. The rule "a final answer with no
    tool before it" reaches .65 at a recall of .44 on both halves. Coding agents end in a patch and not in an answer, so what is
    marked there cannot be found by looking at answers."""
    return _units(runs, [truth().trail.ungrounded], truth().trail.categories)


@card("trail", truth().trail.ungrounded, "model calls", informative=True)
def ungrounded_research(runs: Sequence[Run]) -> Measured:
    """The same on the research traces (GAIA) alone."""
    research = [run for run in runs if run.record["benchmark"] == RESEARCH]
    return _units(research, [truth().trail.ungrounded], truth().trail.categories)


@card("trail", "evidence/* and tools/*", "model calls", informative=True)
def together(runs: Sequence[Run]) -> Measured:
    """A model call is bad when people marked it, or a tool call it asked for, with one of these errors about evidence or goal;
    flagged when any grader of the two families fails at either. Most of them look for other errors than these."""
    return _units(runs, _named(), truth().trail.categories, tools=True)


def register_single() -> None:
    """One measure for each grader that the file names and that exists."""
    known: Mapping[str, Sequence[str]] = truth().trail.by_grader
    for name in grader_types():
        if name != truth().trail.ungrounded and any(fnmatchcase(name, pattern) for pattern in truth().trail.graders):
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
