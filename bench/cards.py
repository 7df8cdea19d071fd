"""Grader cards: how right each grader is on other people's labelled data, with intervals.

    python -m bench.cards --data DIR --split dev                 the way telemetry takes: OTLP, store, worker, SQL
    python -m bench.cards --data DIR --split dev --direct        the same rows made in this process: minutes less
    python -m bench.cards --set begin --grader evidence/support --json

Data is not part of this repository: DIR holds one folder a set, as `DIR/<set>/<split>.jsonl.gz` with side files beside it.
Sets that are absent are left out with a line on stderr, unless they were named. Exit code 2 means a usage error or missing
data, 0 that there are cards, whatever they say.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.carding import measures, report, served
from bench.carding.card import REGISTERED, Registered
from bench.carding.measures import labels
from bench.carding.runs import Planned, Run, direct, grader_sets, planned
from bench.carding.sets import SETS, SHAPE, Loaded, Missing
from bench.carding.written import DOCS
from graders import grader_types

ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        document = measure(
            Path(options.data),
            options.split,
            names=options.set,
            graders=options.grader,
            straight=options.direct,
            every=options.every,
            quiet=False,
        )
    except (Missing, served.Broken) as error:
        print(f"bench.cards: {error}", file=sys.stderr)
        return 2
    if options.write_docs:
        DOCS.write_text(report.markdown(document, measures.weaknesses()), encoding="utf-8")
        print(f"wrote {DOCS.relative_to(ROOT)}", file=sys.stderr)
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
    elif not options.write_docs:
        print(report.table(document))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("REAL_DATA") or str(ROOT.parent / "shared" / "data")
    parser.add_argument("--data", default=default, help="folder of the sets (default: REAL_DATA, else ../shared/data)")
    parser.add_argument("--split", default="dev", help="which half: the name of the files (default dev)")
    known = ", ".join([*SETS, labels.SET])
    parser.add_argument("--set", action="append", default=[], metavar="S", help=f"only this set; may repeat: {known}")
    parser.add_argument(
        "--grader", action="append", default=[], metavar="G", help="only this grader, or pattern; may repeat"
    )
    parser.add_argument("--direct", action="store_true", help="assemble and grade in this process, without a store")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth record (default 1: all)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--write-docs", action="store_true", help="write docs/cards.md")
    return parser


Grading = Callable[[Loaded, Sequence[Planned]], Iterable[Run]]


def measure(
    data: Path,
    split: str,
    *,
    names: Sequence[str] = (),
    graders: Sequence[str] = (),
    straight: bool = True,
    every: int = 1,
    quiet: bool = True,
) -> report.Json:
    """All cards of these sets and graders as one document; raises `Missing` or `served.Broken`."""
    started = time.monotonic()
    wanted = _registered(names, graders)
    types = {
        name: kind for name, kind in grader_types().items() if kind.__module__.startswith("graders.")
    }  # those shipped
    single = {r.grader for r in wanted} <= types.keys()
    chosen = [g for g in types if not single or _matches(g, graders)]
    pool = any(r.set == labels.SET for r in wanted)
    answers: dict[str, dict[str, Counter[str]]] = {}
    sizes: dict[str, dict[str, int]] = {}
    cards: list[report.Json] = []
    pooled: list[Run] = []
    with _grading(straight, chosen) as grade, _progress(quiet) as progress:
        for item in _loaded(data, split, names, every, pool):
            name = item.set.name
            asked = not names or name in names
            plan = list(planned(item, None if asked else partial(labels.labelled, name)))
            moves = replace(item, records=list(labels.moves(name, item.records)) if pool else [])
            extra = list(planned(moves))
            task = progress.add_task(name, total=len(plan) + len(extra))
            runs: list[Run] = []
            for number, run in enumerate(grade(item, [*plan, *extra])):
                progress.advance(task)
                if pool and labels.labelled(name, run.record, run.name):
                    pooled.append(run)
                if asked and number < len(plan):
                    runs.append(run)
                    for grader, found in run.grades.items():
                        if grader in chosen:
                            answers.setdefault(grader, {}).setdefault(name, Counter()).update(
                                str(g.outcome) for g in found
                            )
            if asked:
                sizes[name] = {"records": len(item.records), "runs": len(runs)}
                cards += _cards(wanted, name, runs)
    if pool and not pooled:
        _say(f"no labels in {labels.FILE.relative_to(ROOT)} are of runs that are here: no card for {labels.SET}", quiet)
    cards += _cards(wanted, labels.SET, pooled)
    return {
        "split": split,
        "path": "direct" if straight else "served",
        "seconds": round(time.monotonic() - started, 1),
        "graders": {name: grader_types()[name].grader_version for name in chosen},
        "sets": sizes,
        "cards": cards,
        "answers": {
            grader: {s: dict(sorted(c.items())) for s, c in sets.items()} for grader, sets in sorted(answers.items())
        },
    }


def _cards(wanted: Iterable[Registered], name: str, runs: Sequence[Run]) -> Iterator[report.Json]:
    """The cards of one set; none of a grader to which nothing there was a question, and none that would only inform that
    nothing was flagged."""
    for registered in wanted if runs else ():
        if registered.set == name:
            try:
                measured = registered.measure(runs)
            except SHAPE as error:
                what = f"{name}: labels of {registered.grader} are not as they should be"
                raise Missing(f"{what}: {type(error).__name__}: {error}; see bench/carding/measures") from error
            if set(measured.answers) - {"skip"} or name == labels.SET:
                flagged = measured.figures.get("precision")
                if not (registered.informative and flagged and not flagged.n and not measured.counts):
                    yield report.as_json(registered, measured)


def _registered(names: Sequence[str], graders: Sequence[str]) -> list[Registered]:
    """The measures that were asked for."""
    known = [*SETS, labels.SET]
    for name in names:
        if name not in known:
            raise Missing(f"no set {name!r}; known: {', '.join(known)}")
    for pattern in graders:
        if not any(fnmatchcase(name, pattern) for name in (*grader_types(), *(r.grader for r in REGISTERED))):
            raise Missing(f"no grader {pattern!r}; known: {', '.join(grader_types())}")
    # A measure of a grader that is not installed measures nothing.
    patterns = ("*", "infrastructure")
    return [
        r
        for r in REGISTERED
        if (not names or r.set in names)
        and _matches(r.grader, graders)
        and (r.grader in grader_types() or r.grader in patterns or "*" in r.grader)
    ]


def _matches(grader: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(grader == p or fnmatchcase(grader, p) for p in patterns)


def _loaded(data: Path, split: str, names: Sequence[str], every: int, pool: bool) -> Iterator[Loaded]:
    """The sets that are asked for and there, one at a time."""
    if not data.is_dir():
        raise Missing(f"{data} is no folder; give --data, or set REAL_DATA, the folder that holds one folder a set")
    found = 0
    for name, data_set in SETS.items():
        asked = not names or name in names
        if not asked and not (pool and any(of == name for of, _ in labels.rows())):
            continue
        loaded = data_set.load(data, split)
        if loaded is not None:
            found += 1
            yield Loaded(loaded.set, loaded.records[::every], loaded.beside, loaded.suite)
        elif name in names:
            raise Missing(
                f"{data / name / f'{split}.jsonl.gz'} is missing; name another --split or --data, or leave out --set"
            )
        else:
            _say(f"skipped {name}: no {data / name / f'{split}.jsonl.gz'}", False)
    if not found:
        raise Missing(f"none of {', '.join(SETS)} has a {split}.jsonl.gz in {data}; name another --split or --data")


@contextmanager
def _grading(straight: bool, chosen: Sequence[str]) -> Iterator[Grading]:
    if straight:
        graders = grader_sets(chosen)
        yield lambda loaded, plan: direct(loaded, plan, graders)
    else:
        with served.serving() as server:
            yield server.grade


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        yield progress


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        print(f"bench.cards: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
