"""What a person reads, and what telemetry cannot do to the terminal."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gate.decide import decide
from gate.decision import Decision
from gate.report import printable, render

GRADER = "tools/expected"


def _print(decision: Decision) -> str:
    out = io.StringIO()
    render(decision, Console(file=out, width=160, force_terminal=False, color_system=None))
    return out.getvalue()


def _blocked(lab: Any, reason: str) -> Decision:
    made = lab(
        ["p"] * 120, ["f"] * 20 + ["p"] * 100, budgets=[{"id": "cost", "metric": "total_tokens", "max_increase": 0.1}]
    )
    decision = decide(made.policy, made.evidence, "2026-11-21")
    traces = [case.traces[0] for case in decision.changes[0].failures]
    row = {"SpanId": "00f067aa0ba902b7", "Grader": GRADER, "Subject": "", "Severity": "high", "Label": ""}
    return decision.with_offences([row | {"TraceId": trace, "Reason": reason} for trace in traces])


def test_a_blocked_candidate_shows_its_spans(lab) -> None:
    decision = _blocked(lab, "refund without approval")
    text = _print(decision)
    assert text.startswith("HOLD regression: ok: shown worse: Δ -16.7 pts")
    trace_id = decision.changes[0].failures[0].traces[0]
    assert f"trace {trace_id} span 00f067aa0ba902b7: refund without approval" in text
    assert "20 new failures, 0 fixes, 0 flaky" in text
    for part in ("Blockers", "Budgets", "version b against version a", decision.digest.split(":")[1][:12]):
        assert part in text


def test_health_and_promotion_are_shown(lab) -> None:
    good = lab(["p"] * 120, ["p"] * 120)
    assert _print(decide(good.policy, good.evidence, "2026-11-21")).startswith("PROMOTE 1 of 1 blockers passed")
    broken = lab(["p"] * 120, ["p"] * 120, cand_options={"versions": {"2"}})
    text = _print(decide(broken.policy, broken.evidence, "2026-11-21"))
    assert text.startswith("HOLD health: tools/expected: graded with different versions (1, 2)")
    assert "broken: tools/expected" in text


MALICE = [
    "\x1b[2J\x1b[31mOK",
    "[bold red]promote[/]",
    "a\rPROMOTE",
    "a\nPROMOTE all",
    "\u202egnp.exe",
    "\x9b31m",
    "[/]",
    "a\x07",
]


@pytest.mark.parametrize("reason", MALICE)
def test_telemetry_cannot_drive_the_terminal(lab, reason: str) -> None:
    text = _print(_blocked(lab, reason))
    assert not any(line.startswith("PROMOTE") for line in text.splitlines())
    assert all(c == "\n" or c.isprintable() for c in text)
    if "[" in reason and "\x1b" not in reason:
        assert reason in text


@given(st.text(max_size=400))
def test_printable_is_one_harmless_line(text: str) -> None:
    out = printable(text)
    assert len(out) <= 300
    assert all(c.isprintable() for c in out)
    if text.isprintable() and len(text) <= 300:
        assert out == text
