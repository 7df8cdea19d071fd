"""What the agent did in the end, against our own labels (`bench/labels`)."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from bench.carding import stats
from bench.carding.card import Measured, card, only
from bench.carding.convert import Record
from bench.carding.runs import Run
from store.types import Outcome

FILE = Path(__file__).parents[2] / "labels" / "actions.tsv"
SET = "labels"
"""Not a folder of data: runs of other sets that were read and labelled here."""
CALLED = {"tau": "tau_bench_airline", "retail": "tau2_retail_paired", "bfcl": "bfcl_v1"}
"""Sets that the labels call otherwise."""


@cache
def rows(file: Path = FILE) -> Mapping[tuple[str, str], Mapping[str, str]]:
    """Labels by set and run; none if there is no file."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        read = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {(CALLED.get(row["set"], row["set"]), row["id"]): row for row in read}


def run_id(set_name: str, record: Record, name: str) -> str:
    """How the labels name a run."""
    if set_name == "bfcl_v1":
        return f"{name}/{record['id']}"
    return f"{record['id']}/{name}" if name else str(record["id"])


def labelled(set_name: str, record: Record, name: str) -> bool:
    """Whether a run has a label."""
    return (set_name, run_id(set_name, record, name)) in rows()


def moves(set_name: str, records: Iterable[Record]) -> Iterator[Record]:
    """Earlier moves that have labels of their own, as runs that end there: `ID@n` is the conversation `ID` up to the n-th
    message of the agent, counted from 0."""
    wanted: dict[str, list[str]] = {}
    for of, row_id in rows():
        if of == set_name and "@" in row_id:
            wanted.setdefault(row_id.rpartition("@")[0], []).append(row_id)
    for record in records:
        if record["id"] not in wanted:
            continue
        replies = [i for i, message in enumerate(record["traj"]) if message["role"] == "assistant"]
        for row_id in wanted[record["id"]]:
            number = int(row_id.rpartition("@")[2])
            if number < len(replies):
                yield {**record, "id": row_id, "traj": record["traj"][: replies[number] + 1]}


def _label(row: Mapping[str, str]) -> str:
    return row.get("label") or row.get("agreed") or ""


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[Run, str, str, Mapping[str, str]]]:
    for run in runs:
        if row := rows().get((run.set, run_id(run.set, run.record, run.name))):
            grade = only(run, "action/class")
            yield run, grade.label if grade else "", _label(row), row


@card(SET, "action/class", "final answers", bars={"kappa": ">= .80"})
def classes(runs: Sequence[Run]) -> Measured:
    """The class that two readings of the run agreed on (`bench/labels`, where the classes and the sample are described). The
    random draw took more of what looked rare; `weighted agreement` counts each of its runs as often as the draw left its like
    out, and so is about ordinary traffic. The rest was looked for, because refusals were rare. `skip` here is a class that was
    found and that no case asked for."""
    pairs = list(_pairs(runs))
    measured = Measured(
        Counter(str(Outcome.SKIP if said else Outcome.UNKNOWN) for _, said, _, _ in pairs),
        len({f"{run.set}/{run.cluster}" for run, _, _, _ in pairs}),
    )
    units = [(f"{run.set}/{run.cluster}", said, true) for run, said, true, _ in pairs]
    drawn = [(unit, float(row["weight"])) for unit, (_, _, _, row) in zip(units, pairs, strict=True) if row["weight"]]
    right = sum(weight for (_, said, true), weight in drawn if said == true)
    readers = [
        (c, row["pass_a"], row["pass_b"])
        for (c, _, _), (_, _, _, row) in zip(units, pairs, strict=True)
        if row["pass_b"]  # some runs were read once
    ]
    measured.figures = {
        "kappa": stats.bootstrap(units, stats.kappa),
        "kappa of the random draw": stats.bootstrap((unit for unit, _ in drawn), stats.kappa),
        "agreement": stats.share((c, said == true) for c, said, true in units),
        "weighted agreement": stats.Figure(right / sum(w for _, w in drawn) if drawn else None, n=len(drawn)),
        "kappa of the two readings": stats.bootstrap(readers, stats.kappa),
    }
    for name in sorted({true for _, _, true in units}):
        measured.slices[name] = {
            "base rate": stats.share((c, true == name) for c, _, true in units),
            "precision": stats.share((c, true == name) for c, said, true in units if said == name),
            "recall": stats.share((c, said == name) for c, said, true in units if true == name),
        }
    measured.counts = {
        f"found {said or 'nothing'}, is {true}": count
        for (said, true), count in Counter((s, t) for _, s, t in units if s != t).most_common()
    }
    return measured
