"""What did the run cost in time, tokens, calls and errors?

The score is the number. Without a limit the outcome is `pass`; with one, more than the limit is `fail`. What is not captured
is `unknown`, never zero. Token counts are taken from model calls only: agent and workflow spans repeat their children.
"""

from __future__ import annotations

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.messages import hides_calls
from store.types import Completeness, Severity, Span, SpanKind, Trace


def _judge(value: float, limit: float | None, unit: str, span_id: str = "") -> Score:
    shown = f"{value:,.0f} {unit}" if value >= 10 or float(value).is_integer() else f"{value:.3g} {unit}"
    if limit is not None and value > limit:
        reason = f"{shown}, more than {limit:,g}"
        return failed(reason, severity=Severity.LOW, score=value, label="over_limit", span_id=span_id)
    return passed(shown, score=value, span_id=span_id)


def _models(trace: Trace) -> list[Span]:
    """Model calls that hold no other model call: some frameworks wrap one in another and count both."""
    outer = {s.parent_span_id for s in trace.spans if s.kind is SpanKind.LLM}
    return [s for s in trace.spans if s.kind is SpanKind.LLM and s.span_id not in outer]


class FirstToken(Grader, name="efficiency/first_token", version="1"):
    """Time to the first token of the slowest model call, in milliseconds.

    `unknown` when no model call says it (most do so only when streaming); skipped without model calls.
    """

    limit_ms: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        models = _models(trace)
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


class TokensIn(Grader, name="efficiency/tokens_in", version="1"):
    """Input tokens over all model calls. `unknown` when a model call does not tell; skipped without model calls."""

    limit: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        return _tokens([s.input_tokens for s in _models(trace)], self.limit, "input tokens")


class TokensOut(Grader, name="efficiency/tokens_out", version="1"):
    """Output tokens over all model calls. `unknown` when a model call does not tell; skipped without model calls."""

    limit: float | None = Field(default=None, gt=0)

    def grade(self, trace: Trace) -> Score:
        return _tokens([s.output_tokens for s in _models(trace)], self.limit, "output tokens")


def _tokens(counts: list[int | None], limit: float | None, unit: str) -> Score:
    if not counts:
        return skip("no model calls")
    told = [c for c in counts if c is not None]
    if len(told) < len(counts):
        return unknown(f"{len(counts) - len(told)} of {len(counts)} model calls do not tell their {unit}")
    return _judge(float(sum(told)), limit, unit)


class ToolCalls(Grader, name="efficiency/tool_calls", version="1"):
    """Number of tool calls. `unknown` when the trace shows neither tool spans nor what a model call said."""

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        if hides_calls(trace):
            hidden = "neither tool spans nor the messages of a model call are captured"
            return unknown(hidden) if trace.spans else skip("no spans")
        return _judge(float(len(trace.tool_calls)), self.limit, "tool calls")


class Errors(Grader, name="efficiency/errors", version="1"):
    """Number of tool calls and model calls that failed. Denied calls are no errors. Skipped without either."""

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        models = _models(trace)
        if not models and not trace.tool_calls:
            return skip("no model or tool calls")
        tools = sum(1 for c in trace.tool_calls if c.error and c.executed is not False)
        return _judge(float(tools + sum(1 for s in models if s.status == "Error")), self.limit, "errors")


class Retries(Grader, name="efficiency/retries", version="1"):
    """Number of tool calls made again, same tool, right after an error of that tool. Skipped without tool calls."""

    limit: float | None = Field(default=None, ge=0)

    def grade(self, trace: Trace) -> Score:
        if not trace.tool_calls:
            return skip("no tool calls")
        failing: set[str] = set()
        retries = 0
        for call in trace.tool_calls:
            retries += call.name in failing
            if call.error:
                failing.add(call.name)
            else:
                failing.discard(call.name)
        return _judge(float(retries), self.limit, "retries")
