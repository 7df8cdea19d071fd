"""The data sets: where their records are, which traces are made of them, what is expected, who labelled what.

Everything is read from what the folder holds: a smaller or another half, other models, tasks or pipelines need nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from bench.carding import convert, suites
from bench.carding.convert import Record

Made = Iterator[tuple[str, list[ReadableSpan]]]
"""For one record: the name of each run in it, and its spans."""


class Missing(Exception):
    """A file or a field that should be there is not; says which, and the way out."""


SHAPE = (KeyError, TypeError, IndexError, ValueError, AttributeError, AssertionError)
"""What code that reads a record of another shape runs into."""


@dataclass(frozen=True)
class DataSet:
    """One set."""

    name: str
    about: str
    """What it is, and whose labels they are."""
    cluster: Callable[[Record], str]
    """Records of one cluster are not independent."""
    traces: Callable[[Record, Mapping[str, Any]], Made]
    suite: Callable[[Path, Sequence[Record]], suites.Json] | None = None
    beside: tuple[str, ...] = ()
    """Files that must stand beside the records; JSON ones are given to `traces`."""

    def load(self, data: Path, split: str) -> Loaded | None:
        """The records and what stands beside them; None when the set is absent."""
        folder = data / self.name
        file = folder / f"{split}.jsonl.gz"
        if not file.is_file():
            return None
        for name in self.beside:
            if not (folder / name).is_file():
                raise Missing(f"{folder / name} is missing; it belongs beside {file.name} (or leave {self.name} out)")
        try:
            records = convert.records(folder, split)
        except (OSError, EOFError, ValueError) as error:
            raise Missing(f"{file} cannot be read: {error}; it should be gzipped JSON, one record a line") from error
        if not records or not all(isinstance(record, dict) for record in records):
            raise Missing(
                f"{file} holds no records, or other things than JSON objects; it should hold one object a line"
            )
        beside = {n: json.loads((folder / n).read_text("utf-8")) for n in self.beside if n.endswith(".json")}
        suite = self.suite(folder, records) if self.suite and records else None
        return Loaded(self, records, beside, suite)


@dataclass(frozen=True)
class Loaded:
    """A set at hand."""

    set: DataSet
    records: Sequence[Record]
    beside: Mapping[str, Any]
    suite: suites.Json | None


def _one(to_spans: Callable[[Record], list[ReadableSpan]]) -> Callable[[Record, Mapping[str, Any]], Made]:
    def made(record: Record, _: Mapping[str, Any]) -> Made:
        yield "", to_spans(record)

    return made


def _tau(record: Record, beside: Mapping[str, Any]) -> Made:
    yield "", convert.tau(record, beside["tools.json"])


def _runs(to_spans: Callable[[Record, str], list[ReadableSpan]]) -> Callable[[Record, Mapping[str, Any]], Made]:
    def made(record: Record, _: Mapping[str, Any]) -> Made:
        for name in record["runs"]:
            yield name, to_spans(record, name)

    return made


SETS: Mapping[str, DataSet] = {
    s.name: s
    for s in (
        DataSet(
            "bfcl_v1",
            "Berkeley Function-Calling Leaderboard, first version: questions put to models that may call functions; verdicts of"
            " its official checker",
            lambda r: json.dumps(r["question"]),
            _runs(convert.bfcl),
            lambda _, records: suites.bfcl(records),
        ),
        DataSet(
            "tau_bench_airline",
            "tau-bench airline: an agent, simulated users, several trials a task; reward computed by the benchmark from the"
            " final database",
            lambda r: f"task{r['task_id']}",
            _tau,
            lambda _, records: suites.airline(records),
            ("tools.json", "policy.md"),
        ),
        DataSet(
            "tau2_retail_paired",
            "tau2-bench retail tickets solved by coding agents, several settings a ticket; verdicts computed from the final"
            " database",
            lambda r: r["id"],
            _runs(convert.retail),
            lambda _, records: suites.retail(records),
        ),
        DataSet(
            "agentdojo",
            "AgentDojo: agents at work while a text in a tool's result asks for something else; which calls do the attacker's"
            " bidding is derived from tool and target value",
            lambda r: r["case"].rsplit("/", 1)[0],
            _one(convert.agentdojo),
            lambda folder, records: suites.agentdojo(folder, [r["case"] for r in records]),
            ("injection_tasks.json", "user_task_ground_truth.json"),
        ),
        DataSet(
            "trail",
            "TRAIL: traces of research and coding agents (OpenInference), errors marked on spans by people",
            lambda r: r["id"],
            _one(convert.trail),
        ),
        DataSet(
            "begin",
            "BEGIN: replies of dialogue systems to one passage; attribution labelled by people",
            lambda r: r["knowledge"],
            _one(convert.begin),
        ),
        DataSet(
            "wice",
            "WiCE: sentences of an encyclopedia and the page each cites; support labelled by people",
            lambda r: r["meta"]["claim_title"],
            _one(convert.wice),
        ),
        DataSet(
            "expertqa",
            "ExpertQA: answers with citations, claim by claim; support labelled by experts of the field",
            lambda r: r["question"],
            _one(convert.expertqa),
        ),
        DataSet(
            "rjudge",
            "R-Judge: short agent runs, safe or unsafe as people judged; most of its labels can be guessed from the number of"
            " calls, so it informs only",
            lambda r: r["id"],
            _one(convert.rjudge),
        ),
    )
}
"""In the order in which they are shown."""
