"""How long a decision over many paired cases takes, once the evidence is in columns, and what making the columns costs.

The limit it is held against is one pass over the same values in the same process: summing them with `math.fsum`, which any
decision must at least do. CPU time of this thread.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time

import machine

from gate.decide import decide
from gate.evidence import Evidence, Traces, Verdicts, build
from gate.policy import GatePolicy
from gate.suite import Suite, suite_digest
from store.types import Case

GRADER = "tools/expected"
POLICY = GatePolicy.model_validate(
    {"name": "bench", "blockers": [{"id": "tools", "grader": GRADER, "mode": "non_inferiority"}]}
)


def _suite(cases: int, clustered: bool) -> Suite:
    made = tuple(
        Case(id=f"case-{i:07}", bucket="all", cluster=f"user-{i // 10}" if clustered else "", digest=f"digest-{i}")
        for i in range(cases)
    )
    return Suite("bench", "1", "trusted", made, suite_digest("bench", "1", "trusted", made), "{}")


def _arm(suite: Suite, name: str, failing: float, seed: int) -> tuple[str, Traces, dict[str, Verdicts]]:
    rng = random.Random(seed)
    ids = [f"{name}{i:031}" for i in range(len(suite.cases))]
    outcomes = ["fail" if rng.random() < failing else "pass" for _ in ids]
    verdicts = Verdicts(
        ids, outcomes, case_digests=[c.digest for c in suite.cases], versions=frozenset({"1"}), configs=frozenset({"c"})
    )
    return f"version {name}", Traces(ids, [c.id for c in suite.cases]), {GRADER: verdicts}


def _evidence(cases: int, clustered: bool) -> tuple[Evidence, float]:
    suite = _suite(cases, clustered)
    arms = _arm(suite, "a", 0.10, 1), _arm(suite, "b", 0.10, 2)
    started = time.thread_time()
    evidence = build(suite, POLICY, *arms)
    return evidence, time.thread_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    results = []
    for cases in args.cases:
        for clustered in (False, True):
            evidence, folding = _evidence(cases, clustered)
            values = evidence.baseline.columns[GRADER, "outcome"].values
            times = []
            for _ in range(args.runs):
                started = time.thread_time()
                decision = decide(POLICY, evidence, "2026-01-01")
                times.append(time.thread_time() - started)
            started = time.thread_time()
            math.fsum(values)
            limit = 2 * (time.thread_time() - started)
            row = {
                "cases": cases,
                "clustered": clustered,
                "decision": decision.decision,
                "decide_s": round(min(times), 3),
                "columns_s": round(folding, 3),
                "ratio_to_one_pass": round(min(times) / limit, 1),
            }
            print(row)
            results.append(row)
    print(json.dumps({"machine": machine.describe(), "gate": results}))


if __name__ == "__main__":
    main()
