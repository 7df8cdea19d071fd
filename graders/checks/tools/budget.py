"""Did the run keep to the limits its agent's policy sets?"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.tools.common import HIDDEN
from graders.messages import hides_calls
from graders.policy import AgentPolicy
from graders.prices import Prices, builtin, trace_cost
from graders.usage import model_calls, usage_of
from store.types import Completeness, Evidence, Severity, Trace


class Budget(Grader, name="tools/budget", version="2"):
    """What the run used stays within `budgets` of the policy.

    One grade a limit that is set, the limit's name as subject (`calls:PATTERN` for a tool), the amount as score; skipped when
    the policy sets none. Denied calls are not counted. Tokens and cost are those of model calls, each counted once; `unknown`
    where a model call does not tell them or its model has no price and the others do not already exceed the limit, where the
    root is missing, and where the trace cannot show calls. Errors are failed tool and model calls. `prices` are as in
    `efficiency/cost`.
    """

    policy: AgentPolicy = AgentPolicy()
    prices: Prices = Field(default_factory=builtin)

    def grade(self, trace: Trace) -> Iterator[Score]:
        budgets = self.policy.budgets
        found = False
        hidden = (budgets.tool_calls is not None or budgets.calls or budgets.errors is not None) and hides_calls(trace)
        made = [c for c in trace.tool_calls if c.executed is not False]
        models = model_calls(trace)
        if budgets.tool_calls is not None:
            found = True
            yield _within("tool_calls", len(made), budgets.tool_calls, HIDDEN if hidden else "")
        for pattern, limit in budgets.calls.items():
            found = True
            matching = [c for c in made if c.name == pattern or fnmatchcase(c.name, pattern)]
            evidence = [Evidence(c.anchor, c.key, c.arguments_text[:100]) for c in matching[limit : limit + 5]]
            yield _within(f"calls:{pattern}", len(matching), limit, HIDDEN if hidden else "", evidence)
        if budgets.model_calls is not None:
            found = True
            yield _within("model_calls", len(models), budgets.model_calls, "" if trace.spans else "no spans")
        for name, limit_tokens in (
            ("input_tokens", budgets.input_tokens),
            ("output_tokens", budgets.output_tokens),
        ):
            if limit_tokens is not None:
                found = True
                yield _tokens(name, trace, limit_tokens)
        if budgets.cost_usd is not None:
            found = True
            cost = trace_cost(trace, self.prices)
            silent = f"{cost.unpriced} of {cost.calls} model calls: {cost.reasons[0]}" if cost.reasons else ""
            yield _within("cost_usd", cost.usd, budgets.cost_usd, silent)
        if budgets.seconds is not None:
            found = True
            root = trace.root
            missing = root is None or trace.completeness is Completeness.ROOT_MISSING
            spent = 0.0 if root is None else max(0, root.end_ns - root.start_ns) / 1e9
            yield _within("seconds", spent, budgets.seconds, "the root span is missing" if missing else "")
        if budgets.errors is not None:
            found = True
            errors = [c for c in made if c.error]
            count = len(errors) + sum(1 for s in models if s.status == "Error")
            evidence = [Evidence(c.anchor, c.key, c.error[:100]) for c in errors[:5]]
            yield _within("errors", count, budgets.errors, HIDDEN if hidden else "", evidence)
        if not found:
            yield skip("the policy sets no limits")


def _within(subject: str, used: float, limit: float, gap: str, evidence: list[Evidence] | None = None) -> Score:
    if used > limit:
        return failed(
            f"{used:,g}, more than {limit:,g}",
            severity=Severity.MEDIUM,
            score=float(used),
            label="over_budget",
            subject=subject,
            evidence=evidence or (),
        )
    if gap:
        return unknown(gap, subject=subject)
    return passed(f"{used:,g} of {limit:,g}", score=float(used), subject=subject)


def _tokens(name: str, trace: Trace, limit: int) -> Score:
    counts = [used.input if name == "input_tokens" else used.output for used in usage_of(trace).tokens]
    told = [count for count in counts if count is not None]
    silent = len(counts) - len(told)
    return _within(name, sum(told), limit, f"{silent} of {len(counts)} model calls do not tell" if silent else "")
