"""What did the run cost in time, tokens, calls, money and errors?

The score is the number. Without a limit the outcome is `pass`; with one, more than the limit is `fail`. What is not captured
is `unknown`, never zero; a limit that is passed by what is captured alone is passed all the same. Tokens are counted over model
calls only, each once (`graders.usage`): agent and workflow spans repeat their children.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.messages import hides_calls
from graders.prices import Prices, builtin, trace_cost
from graders.usage import model_calls, usage_of
from store.types import Completeness, Severity, Span, Trace

_REASONS = 3


def _judge(value: float, limit: float | None, unit: str, span_id: str = "") -> Score:
    shown = f"{value:,.0f} {unit}" if value >= 10 or float(value).is_integer() else f"{value:.3g} {unit}"
    if limit is not None and value > limit:
        reason = f"{shown}, more than {limit:,g}"
        return failed(reason, severity=Severity.LOW, score=value, label="over_limit", span_id=span_id)
    return passed(shown, score=value, span_id=span_id)


def _sum(counts: Sequence[int | None], limit: float | None, unit: str) -> Score:
    """The sum over the model calls, if all tell, or if those that do are more than allowed."""
    if not counts:
        return skip("no model calls")
    told = [c for c in counts if c is not None]
    total = float(sum(told))
    if len(told) == len(counts) or (limit is not None and total > limit):
        return _judge(total, limit, unit)
    return unknown(f"{len(counts) - len(told)} of {len(counts)} model calls do not tell their {unit}")


class Cost(Grader, name="efficiency/cost", version="1"):
    """US dollars for the tokens of all model calls, at the list prices in force when each began.

    `prices` is a YAML file whose entries come before the prices that ship (graders/prices.yaml): discounts, deployments of your
    own, models bought from a cloud provider. `unknown` when a call does not tell its tokens or its model has no price; skipped
    without model calls.
    """

    limit_usd: float | None = Field(default=None, ge=0)
    prices: Prices = Field(default_factory=builtin)

    def grade(self, trace: Trace) -> Score:
        cost = trace_cost(trace, self.prices)
        if not cost.calls:
            return skip("no model calls")
        if self.limit_usd is not None and cost.usd > self.limit_usd:
            reason = f"{cost.usd:.6f} USD, more than {self.limit_usd:g}"
            return failed(reason, severity=Severity.LOW, score=cost.usd, label="over_limit")
        if not cost.unpriced:
            return passed(f"{cost.usd:.6f} USD", score=cost.usd)
        more = "; ..." if len(cost.reasons) > _REASONS else ""
        why = "; ".join(cost.reasons[:_REASONS]) + more
        rest = f" The others cost {cost.usd:.6f} USD." if cost.unpriced < cost.calls else ""
        return unknown(f"{cost.unpriced} of {cost.calls} model calls: {why}.{rest}")


class FirstToken(Grader, name="efficiency/first_token", version="2"):
    """Time to the first token of the slowest model call, in milliseconds.

    `unknown` when no model call says it (most do so only when streaming); skipped without model calls.
    """

    limit_ms: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        models = model_calls(trace)
        if not models:
            return skip("no model calls")
        times = [(s.ttft_ms, s.span_id) for s in models if s.ttft_ms is not None]
        if not times:
            return unknown("no model call tells its time to first token")
        value, span_id = max(times)
        return _judge(value, self.limit_ms, "ms", span_id)


class Latency(Grader, name="efficiency/latency", version="1"):
    """Duration of the root span in milliseconds. `unknown` when the root has not arrived."""

    limit_ms: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        root = trace.root
        if root is None:
            return skip("no spans")
        if trace.completeness is Completeness.ROOT_MISSING:
            return unknown("the root span is missing")
        return _judge(max(0, root.end_ns - root.start_ns) / 1e6, self.limit_ms, "ms", root.span_id)


class TokensIn(Grader, name="efficiency/tokens_in", version="2"):
    """Input tokens over all model calls, from a cache or not.

    `unknown` when a model call does not tell; skipped without model calls.
    """

    limit: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        return _sum([t.input for t in usage_of(trace).tokens], self.limit, "input tokens")


class TokensOut(Grader, name="efficiency/tokens_out", version="2"):
    """Output tokens over all model calls, reasoning included.

    `unknown` when a model call does not tell; skipped without model calls.
    """

    limit: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        return _sum([t.output for t in usage_of(trace).tokens], self.limit, "output tokens")


class TokensReasoning(Grader, name="efficiency/tokens_reasoning", version="1"):
    """Output tokens the models spent on reasoning.

    `unknown` when a model call does not tell; skipped without model calls, and, if there is no limit, when none of them tells:
    most models do not reason.
    """

    limit: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        used = usage_of(trace).tokens
        if self.limit is None and used and all(t.reasoning is None for t in used):
            return skip("no model call tells of reasoning")
        return _sum([t.reasoning for t in used], self.limit, "reasoning tokens")


class TokensCached(Grader, name="efficiency/tokens_cached", version="1"):
    """Share of the input tokens that came from the provider's cache, from 0 to 1; less than `at_least` is `fail`.

    `unknown` when a model call does not tell; skipped without model calls that had input, and, if nothing is asked of the
    share, when none of them tells: most telemetry does not.
    """

    at_least: float | None = Field(default=None, ge=0, le=1)

    def grade(self, trace: Trace) -> Score:
        used = usage_of(trace).tokens
        if not used:
            return skip("no model calls")
        told = [(u.cache_read, u.input) for u in used if u.cache_read is not None and u.input is not None]
        if not told and self.at_least is None:
            return skip("no model call tells of cached tokens")
        if len(told) < len(used):
            return unknown(f"{len(used) - len(told)} of {len(used)} model calls do not tell their cached tokens")
        read, total = sum(r for r, _ in told), sum(i for _, i in told)
        if not total:
            return skip("no input tokens")
        share = read / total
        reason = f"{read:,} of {total:,} input tokens came from a cache"
        if self.at_least is not None and share < self.at_least:
            reason += f", less than {self.at_least:.0%}"
            return failed(reason, severity=Severity.LOW, score=share, label="under_limit")
        return passed(reason, score=share)


class ModelCalls(Grader, name="efficiency/model_calls", version="1"):
    """Number of model calls. Skipped without spans."""

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        if not trace.spans:
            return skip("no spans")
        return _judge(float(len(model_calls(trace))), self.limit, "model calls")


class ToolCalls(Grader, name="efficiency/tool_calls", version="1"):
    """Number of tool calls. `unknown` when the trace shows neither tool spans nor what a model call said."""

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        if hides_calls(trace):
            hidden = "neither tool spans nor the messages of a model call are captured"
            return unknown(hidden) if trace.spans else skip("no spans")
        return _judge(float(len(trace.tool_calls)), self.limit, "tool calls")


class TraceLength(Grader, name="efficiency/trace_length", version="1"):
    """Number of steps: model calls and tool calls together.

    `unknown` when the trace shows neither tool spans nor what a model call said; skipped without spans.
    """

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        if not trace.spans:
            return skip("no spans")
        steps = float(len(model_calls(trace)) + len(trace.tool_calls))
        if hides_calls(trace) and (self.limit is None or steps <= self.limit):
            return unknown("neither tool spans nor the messages of a model call are captured")
        return _judge(steps, self.limit, "steps")


class Errors(Grader, name="efficiency/errors", version="2"):
    """Number of tool calls and model calls that failed. Denied calls are no errors. Skipped without either."""

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        models = model_calls(trace)
        if not models and not trace.tool_calls:
            return skip("no model or tool calls")
        tools = sum(1 for c in trace.tool_calls if c.error and c.executed is not False)
        return _judge(float(tools + sum(1 for s in models if s.status == "Error")), self.limit, "errors")


class Retries(Grader, name="efficiency/retries", version="2"):
    """Number of calls made again right after one failed: of the same tool, or of a model below the same span.

    Skipped without tool and model calls.
    """

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        models = model_calls(trace)
        if not models and not trace.tool_calls:
            return skip("no model or tool calls")
        retries = _model_retries(models)
        failing: set[str] = set()
        for call in trace.tool_calls:
            retries += call.name in failing
            if call.error:
                failing.add(call.name)
            elif failing:
                failing.discard(call.name)
        return _judge(float(retries), self.limit, "retries")


def _model_retries(models: Sequence[Span]) -> int:
    if not any(s.status == "Error" for s in models):
        return 0
    failed_below: dict[str, bool] = {}
    retries = 0
    for span in models:
        retries += failed_below.get(span.parent_span_id, False)
        failed_below[span.parent_span_id] = span.status == "Error"
    return retries
