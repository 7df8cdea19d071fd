"""Is each call one the model could make: a tool it was offered, with arguments its schema allows?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from graders import content
from graders import schema as schemas_of_tools
from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.tools.common import none
from graders.messages import Reader
from store.types import ContentState, Evidence, SpanKind, ToolCall, Trace


class Known(Grader, name="tools/known", version="2"):
    """Each call names a tool the model was offered, in the very model call that asked for it.

    One grade a call; `not_offered_here` when other model calls of the trace were offered the tool, and this one was not.
    `unknown` when the trace holds no tool definitions; where only the asking call is without, those of the trace count.
    Provider-executed calls are skipped, because providers offer them outside the definitions.
    """

    def grade(self, trace: Trace) -> Iterator[Score]:
        if not trace.tool_calls:
            yield none(trace, "no tool calls")
            return
        offered = {d.name for d in trace.tool_definitions}
        here = _offers(trace) if offered else {}
        for call in trace.tool_calls:
            place: dict[str, Any] = {"subject": call.key, "span_id": call.anchor}
            own = here.get(call.request_span_id)
            if call.provider_executed:
                yield skip(f"{call.name} is run by the provider", **place)
            elif not offered:
                yield unknown("the offered tools are not captured", **place)
            elif call.name in offered and (own is None or call.name in own):
                yield passed(f"{call.name} was offered", **place)
            else:
                names = ", ".join(sorted(own or offered)[:20])
                label = "not_offered_here" if call.name in offered else ""
                reason = f"{call.name or 'a tool without a name'} was not offered; offered: {names}"
                yield failed(reason, label=label, **place)


def _offers(trace: Trace) -> dict[str, Collection[str]]:
    """The tools each model call that asked for one was offered, as far as its own span tells."""
    asked = {call.request_span_id for call in trace.tool_calls}
    indexed = tuple(key for key in content.content_keys()["tool_definitions"] if key.endswith("."))
    found: dict[str, Collection[str]] = {}
    names: dict[int, Collection[str]] = {}
    for span in trace.spans:
        if span.span_id not in asked or span.kind is not SpanKind.LLM:
            continue
        families = Reader().families(span) if any(key.startswith(indexed) for key in span.attributes) else {}
        if given := content.definitions(span, families):
            if id(given) not in names:
                names[id(given)] = frozenset(d.name for d in given)
            found[span.span_id] = names[id(given)]
    return found


class Arguments(Grader, name="tools/arguments", version="1"):
    """The arguments of each call are valid against the offered tool's JSON Schema.

    One grade a call. `unknown` when arguments or schema are not captured, or the schema cannot be used: it is broken, it
    refers to something outside itself (nothing is ever fetched), or checking with it would take too long. Skipped for
    tools that were not offered: that is `tools/known`.
    """

    def grade(self, trace: Trace) -> Iterator[Score]:
        if not trace.tool_calls:
            yield none(trace, "no tool calls")
            return
        schemas = {d.name: d.parameters for d in trace.tool_definitions}
        for call in trace.tool_calls:
            yield self._call(call, schemas)

    def _call(self, call: ToolCall, schemas: Mapping[str, Mapping[str, Any] | None]) -> Score:
        place: dict[str, Any] = {"subject": call.key, "span_id": call.anchor}
        if call.provider_executed or (schemas and call.name not in schemas):
            return skip(f"{call.name} is not among the offered tools", **place)
        schema = schemas.get(call.name)
        if schema is None:
            return unknown(f"the schema of {call.name} is not captured", **place)
        if call.arguments_state is not ContentState.PRESENT:
            return unknown(f"arguments are {call.arguments_state}", **place)
        if call.arguments is None:
            return failed(f"arguments are not an object: {call.arguments_text[:200]}", label="not_an_object", **place)
        try:
            problems = schemas_of_tools.problems(schema, call.arguments)
        except schemas_of_tools.Unusable as error:
            return unknown(f"the schema of {call.name} cannot be used: {error}", **place)
        if not problems:
            return passed("valid", **place)
        evidence = [Evidence(call.anchor, "arguments", call.arguments_text[:500])]
        return failed("; ".join(p[:300] for p in problems), label="invalid", evidence=evidence, **place)
