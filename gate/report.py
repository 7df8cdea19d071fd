"""A decision for people at a terminal.

Promises that nothing from telemetry can move the cursor, colour the screen or be read as markup: every text goes through
`printable` and is printed as plain text. Order: the verdict, the criteria, new failures with their spans, budgets,
health, digests. Machines read `Decision.to_json`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gate.decision import BudgetResult, CriterionResult, Decision, GraderChanges, Status

MAX_FAILURES = 5
"""Failures shown per grader; the rest is counted."""

_STYLES = {
    Status.PASS: "green",
    Status.PASS_WITHIN_MARGIN: "yellow",
    Status.FAIL: "bold red",
    Status.INCONCLUSIVE: "yellow",
    Status.NO_DATA: "magenta",
    Status.ERROR: "magenta",
    Status.NOT_APPLICABLE: "magenta",
}
_VERDICT = {"promote": "bold green", "hold": "bold yellow", "rollback": "bold red"}


def render(decision: Decision, console: Console) -> None:
    """Print the decision."""
    style = "bold red" if decision.exit_code == 1 else _VERDICT[decision.decision]
    _line(console, decision.summary, style)
    names = f"{decision.candidate} against {decision.baseline}, suite {decision.suite.name} ({decision.cases} cases)"
    _line(console, names, "dim")
    console.print(_criteria("Blockers", decision.criteria))
    for change in decision.changes:
        if change.new_failures or change.fixes or change.flaky:
            _changes(console, change)
    if decision.budgets:
        console.print(_budgets(decision.budgets))
    if decision.advisories:
        console.print(_criteria("Advisories (never decide)", decision.advisories))
    for note in decision.health:
        _line(console, f"{'broken' if note.broken else 'note'}: {note.message}", "bold red" if note.broken else "dim")
    policy, suite = decision.policy, decision.suite
    made_from = f"policy {policy.name} {policy.version} {_short(policy.digest)}, suite {_short(suite.digest)}"
    result = f"evidence {_short(decision.evidence_digest)}, decision {_short(decision.digest)}"
    _line(console, f"{made_from}, {result}", "dim")


def superseded(found: Mapping[str, Any] | None, console: Console) -> None:
    """Print what became of a stored decision's evidence."""
    if found is None:
        _line(console, "evidence: which gradings it used was not recorded", "dim")
    elif found["count"]:
        some = ", ".join(printable(trace["traceId"]) for trace in found["traces"][:MAX_FAILURES])
        more = ", …" if found["count"] > MAX_FAILURES else ""
        _line(
            console,
            f"superseded evidence: {found['count']} traces were graded again since: {some}{more}",
            "bold yellow",
        )
    else:
        _line(console, "evidence: none of it was graded again since", "dim")


def printable(text: str, limit: int = 300) -> str:
    """`text` on one line, without anything a terminal would obey."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else "�" for c in cut.replace("\n", " "))


def _line(console: Console, text: str, style: str) -> None:
    console.print(Text(printable(text, 2000), style=style), soft_wrap=True)


def plain_table(title: str, columns: Iterable[str]) -> Table:
    """An empty table whose texts are no markup."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(Text(name), overflow="fold")
    return table


def _criteria(title: str, results: Iterable[CriterionResult]) -> Table:
    table = plain_table(title, ("criterion", "status", "figures"))
    for r in results:
        asked = r.grader + (f" on {r.bucket}" if r.bucket != "all" else "")
        left_out = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in r.counts.items())
        said = [_figures(r), "" if r.status is Status.PASS else r.reason.split(": Δ")[0], left_out]
        table.add_row(
            Text(printable(r.id)),
            Text(r.status.replace("_", " "), style=_STYLES[r.status]),
            Text(printable(asked), style="dim") + Text("".join(f"\n{printable(text)}" for text in said if text)),
        )
    return table


def _figures(r: CriterionResult) -> str:
    """The arithmetic in one line."""
    if r.estimate is None:
        return ""
    interval = f" [{_points(r.ci[0])}, {_points(r.ci[1])}]" if r.ci else ""
    if r.mode in ("floor", "ceiling", "zero_tolerance", "must_pass"):
        limit = "" if r.threshold is None else f", threshold {_points(r.threshold)} %"
        return f"{_points(r.estimate)} %{interval} of {r.n} cases{limit}"
    arms = "" if r.baseline is None or r.candidate is None else f"{_points(r.baseline)} % → {_points(r.candidate)} %, "
    margin = "" if r.margin is None else f", margin {_points(r.margin)}"
    changed = f"{r.regressions} worse, {r.fixes} better of {r.n} cases"
    return f"{arms}Δ {_points(r.estimate)} pts{interval}{margin}; {changed}"


def _budgets(results: Iterable[BudgetResult]) -> Table:
    table = plain_table("Budgets", ("budget", "status", "figures"))
    for r in results:
        asked = f"{r.metric}, {r.stat.replace('_', ' ')}" + ("" if r.enforce else ", not enforced")
        figures = f"\n{printable(r.reason)}; {r.n} cases"
        status = Text(r.status.replace("_", " "), style=_STYLES[r.status])
        table.add_row(Text(printable(r.id)), status, Text(printable(asked), style="dim") + Text(figures))
    return table


def _changes(console: Console, change: GraderChanges) -> None:
    chance = (
        "" if change.expected_by_chance is None else f" (by chance in one run a case: {change.expected_by_chance:.1f})"
    )
    counts = f"{change.new_failures} new failures{chance}, {change.fixes} fixes, {change.flaky} flaky"
    _line(console, f"{change.grader}: {counts}", "bold" if change.new_failures else "")
    for case in change.failures[:MAX_FAILURES]:
        before = "no verdict" if case.baseline is None else f"{case.baseline:.2g}"
        what = "" if case.why == "fail" else f", {case.why}"
        head = f"  {case.case_id} [{case.bucket}, {case.risk}] {before} → {case.candidate:.2g}{what}, {case.strength}"
        _line(console, head, "red")
        for offence in case.offences:
            place = f"trace {offence.trace_id} span {offence.span_id}"
            _line(console, f"    {place}: {offence.reason or offence.label}", "")
        if not case.offences and case.traces:
            _line(console, f"    trace {', '.join(case.traces[:3])}", "")
    hidden = len(change.failures) - MAX_FAILURES
    if hidden > 0:
        _line(console, f"  and {hidden} more; --json lists them", "dim")


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _points(share: float) -> str:
    return f"{100 * share + 0.0:.1f}".replace("-0.0", "0.0")
