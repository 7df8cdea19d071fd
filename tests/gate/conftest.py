"""A small language for evidence: one letter a run.

    p pass · f fail · u unknown · s skip · e error · x died of its surroundings · . no run (alone)

`lab(base, cand)` takes one word a case and arm: `["p", "pf", "."]` is a pass, two replays, and a missing case.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gate.evidence import Evidence, Traces, Verdicts, build
from gate.policy import GatePolicy
from gate.suite import Suite, suite_digest
from store.types import Case

OUTCOMES = {"p": "pass", "f": "fail", "u": "unknown", "s": "skip", "e": "error", "x": "error"}
GRADER = "tools/expected"


@dataclass
class Lab:
    """Evidence and the policy it was built for."""

    suite: Suite
    policy: GatePolicy
    evidence: Evidence


def policy_of(**changes: Any) -> GatePolicy:
    criterion = {"id": "ok", "grader": GRADER} | changes.pop("criterion", {})
    return GatePolicy.model_validate({"name": "test", "blockers": [criterion]} | changes)


def suite_of(count: int, cases: Sequence[dict[str, Any]] = ()) -> Suite:
    extra = list(cases) + [{}] * (count - len(cases))
    made = tuple(Case(**({"id": f"c{i:04}", "bucket": "b", "digest": f"d{i}"} | extra[i])) for i in range(count))
    return Suite("suite", "1", "trusted", made, suite_digest("suite", "1", "trusted", made), "{}")


def arm_of(suite: Suite, name: str, words: Sequence[str], **verdict: Any) -> tuple[str, Traces, dict[str, Verdicts]]:
    rows = [
        (f"{name}{i:04}{k:02}".ljust(32, "0"), case, letter)
        for i, (case, word) in enumerate(zip(suite.cases, words, strict=True))
        for k, letter in enumerate(word.replace(".", ""))
    ]
    traces = Traces(
        [t for t, _, _ in rows],
        [c.id for _, c, _ in rows],
        latency_ms=[verdict.get("latency", 100.0)] * len(rows),
        input_tokens=[10.0] * len(rows),
        output_tokens=[verdict.get("tokens", 5.0)] * len(rows),
        errors=["RateLimitError: 429 Too Many Requests" if letter == "x" else "" for _, _, letter in rows],
    )
    graded = [row for row in rows if row[2] != "x"]
    verdicts = Verdicts(
        [t for t, _, _ in graded],
        [OUTCOMES[letter] for _, _, letter in graded],
        scores=verdict.get("scores", ()),
        case_digests=verdict.get("case_digests", [c.digest for _, c, _ in graded]),
        versions=frozenset(verdict.get("versions", {"1"})),
        configs=frozenset(verdict.get("configs", {"cfg"})),
    )
    return f"version {name}", traces, {verdict.get("grader", GRADER): verdicts}


@pytest.fixture
def lab() -> Callable[..., Lab]:
    def make(
        base: Sequence[str],
        cand: Sequence[str],
        *,
        cases: Sequence[dict[str, Any]] = (),
        base_options: dict[str, Any] | None = None,
        cand_options: dict[str, Any] | None = None,
        **policy: Any,
    ) -> Lab:
        suite, made = suite_of(len(base), cases), policy_of(**policy)
        first = arm_of(suite, "a", base, **(base_options or {}))
        second = arm_of(suite, "b", cand, **(cand_options or {}))
        return Lab(suite, made, build(suite, made, first, second))

    return make
