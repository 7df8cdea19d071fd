"""A decision for people at a terminal.

Promises that nothing from telemetry can move the cursor, colour the screen or be read as markup: every text goes through
`printable` and is printed as plain text. Order: the verdict, the criteria, new failures with their spans, budgets,
health, digests. Machines read `Decision.to_json`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gate.decision import BudgetResult, CriterionResult, Decision, GraderChanges, Status

MAX_FAILURES = 20
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


def printable(text: str, limit: int = 300) -> str:
    """`text` on one line, without anything a terminal would obey."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else "�" for c in cut.replace("\n", " "))


def _line(console: Console, text: str, style: str) -> None:
    console.print(Text(printable(text, 2000), style=style), soft_wrap=True)


def _table(title: str, columns: Iterable[tuple[str, bool]]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, right in columns:
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    return table


def _criteria(title: str, results: Iterable[CriterionResult]) -> Table:
    columns = ("criterion", "status", "Δ", "interval", "margin", "n", "worse", "better", "why")
    table = _table(title, ((name, name in {"Δ", "margin", "n", "worse", "better"}) for name in columns))
    for r in results:
        left_out = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in r.counts.items())
        table.add_row(
            Text(printable(f"{r.id} · {r.grader}" + (f" · {r.bucket}" if r.bucket != "all" else ""))),
            Text(r.status, style=_STYLES[r.status]),
            Text(_share(r.estimate)),
            Text(f"{_share(r.ci[0])} … {_share(r.ci[1])}" if r.ci else ""),
            Text(_share(r.margin if r.margin is not None else r.threshold).lstrip("+")),
            Text(str(r.n)),
            Text(str(r.regressions)),
            Text(str(r.fixes)),
            Text(printable(r.reason.split(": Δ")[0] + (f" ({left_out})" if left_out else ""))),
        )
    return table


def _budgets(results: Iterable[BudgetResult]) -> Table:
    table = _table("Budgets", (("budget", False), ("status", False), ("n", True), ("figures", False)))
    for r in results:
        name = f"{r.id} · {r.metric} {r.stat.replace('_', ' ')}" + ("" if r.enforce else " (not enforced)")
        table.add_row(
            Text(printable(name)), Text(r.status, style=_STYLES[r.status]), Text(str(r.n)), Text(printable(r.reason))
        )
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


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f} %".replace("+0.0 %", "0.0 %")
