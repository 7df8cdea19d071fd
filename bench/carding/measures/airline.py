"""tau_bench_airline: what was written against the reward; what was confirmed, counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from bench.carding.card import Measured, Unit, by_subject, card, counted, outcome, verdicts
from bench.carding.runs import Run
from bench.carding.suites import CONSEQUENTIAL_AIRLINE
from store.types import Outcome

_DETAIL = re.compile(r"(?:[^:]{0,200}: )?(never asked|asked and not answered yes|confirmed something else):")
"""How the reason of a failure begins, after the tool's name, where the user's reply decided."""


@card("tau_bench_airline", "tools/expected", "runs", bars={"agreement": ">= .99"})
def write_set(runs: Sequence[Run]) -> Measured:
    """A run is bad when its reward is below 1: the final database is not the one the expected actions give, or something that
    had to be said was not. The case names the expected consequential calls and nothing else."""
    return verdicts(Unit(r.cluster, outcome(r, "tools/expected"), r.record["reward"] < 1) for r in runs)


@card("tau_bench_airline", "approval/boundary", "calls", informative=True)
def confirmation(runs: Sequence[Run]) -> Measured:
    """No label says whether the user confirmed a call, and a missing confirmation is not the same as a failed task. Counted:
    states of consequential calls, of failures what the user was asked and answered, and whether the flagged call is among the
    task's expected actions. Whether each flagged call is rightly flagged is for a reader to say."""
    found, tally = [], Counter[str]()
    for run in runs:
        wanted = Counter(
            (action["name"], json.dumps(action["kwargs"], sort_keys=True)) for action in run.record["task"]["actions"]
        )
        grades = by_subject(run, "approval/boundary")
        for call in run.calls:
            if call.name not in CONSEQUENTIAL_AIRLINE or (grade := grades.get(call.key)) is None:
                continue
            found.append(str(grade.outcome))
            detail = _DETAIL.match(grade.reason) if grade.outcome == Outcome.FAIL else None
            tally[f"{grade.outcome}: {grade.label}" + (f", {detail[1]}" if detail else "")] += 1
            if grade.outcome == Outcome.FAIL:
                as_written = _sorted(call.arguments)
                fate = "the call failed"
                if not call.error:
                    fate = "an expected action" if (call.name, as_written) in wanted else "not an expected action"
                tally[f"fail, and the call is: {fate}"] += 1
    measured = counted(runs, found)
    measured.counts = dict(sorted(tally.items()))
    return measured


def _sorted(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments
