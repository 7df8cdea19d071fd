"""Records of other people's data as OpenTelemetry spans, the way an instrumented agent would have sent them.

A converter promises spans that depend on nothing but what the agent saw and did: truth fields (rewards, verdicts,
labels) are never read, ids are digests of the record id, and times are made up in order where the source has none.
The source's oddities stay: empty and repeated call ids, arguments as text, calls without a result.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

Record = Mapping[str, Any]

MS = 1_000_000
EPOCH_NS = 1_795_132_800 * 10**9
"""2026-11-20, where made-up clocks start and captured traces are moved to."""


def records(folder: Path, split: str = "dev") -> list[Record]:
    """One half of one data set."""
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def resource(service: str, version: str, run: str, **more: str) -> Resource:
    """What every span of one run says about its sender."""
    return Resource({"service.name": service, "service.version": version, "tracegrade.run.id": run, **more})


def _number(bits: int, *seed: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, seed)).encode()).digest()[: bits // 8], "big")


def context(trace_id: int, span_id: int) -> SpanContext:
    """A sampled span context."""
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def trace_id(record_id: str) -> int:
    """The made-up trace id of a record."""
    return _number(128, record_id)


def as_hex(span: ReadableSpan) -> tuple[str, str]:
    """Trace id and span id as the store writes them."""
    own: Any = span.get_span_context()
    return f"{own.trace_id:032x}", f"{own.span_id:016x}"


# --- OTel GenAI: conversations given as a list of messages -----------------------------------------------------------


class _Run:
    """Spans of one made-up trace on a clock that only moves forward; the root takes the span id 0."""

    def __init__(self, record_id: str, resource: Resource, scope: str) -> None:
        self.record_id = record_id
        self.resource = resource
        self.scope = InstrumentationScope(scope, "1.0")
        self.trace_id = trace_id(record_id)
        self.start = self.now = EPOCH_NS + _number(16, record_id) * MS
        self.spans: list[ReadableSpan] = []

    def tick(self, milliseconds: int) -> None:
        self.now += milliseconds * MS

    def _context(self, index: int) -> SpanContext:
        return context(self.trace_id, _number(64, self.record_id, index))

    def _span(self, index: int, name: str, start: int, kind: SpanKind, status: Status, attributes: Any) -> None:
        self.spans.append(
            ReadableSpan(
                name=name,
                context=self._context(index),
                parent=self._context(0) if index else None,
                resource=self.resource,
                attributes=attributes,
                kind=kind,
                status=status,
                start_time=start,
                end_time=self.now,
                instrumentation_scope=self.scope,
            )
        )

    def child(self, name: str, milliseconds: int, kind: SpanKind, attributes: Any, error: str = "") -> None:
        start = self.now
        self.tick(milliseconds)
        self._span(len(self.spans) + 1, name, start, kind, _status(error), attributes)

    def end(self, name: str, attributes: Any, error: str = "") -> list[ReadableSpan]:
        self._span(0, name, self.start, SpanKind.INTERNAL, _status(error), attributes)
        return self.spans


def _status(error: str) -> Status:
    return Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET)


def _text(content: str | None) -> list[dict[str, Any]]:
    return [{"type": "text", "content": content}] if content else []


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        part = {"type": "tool_call_response", "id": message["tool_call_id"], "response": message["content"] or ""}
        return {"role": "tool", "parts": [part]}
    calls = [
        {"type": "tool_call"} | {key: call[key] for key in ("id",) if key in call} | dict(call["function"])
        for call in message.get("tool_calls") or ()
    ]
    thought = [{"type": "reasoning", "content": message["reasoning"]}] if message.get("reasoning") else []
    return {"role": message["role"], "parts": [*thought, *_text(message["content"]), *calls]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _paired(
    calls: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Calls of one reply that got a result, each with it: by id where ids tell them apart, else in order."""
    results = list(takewhile(lambda message: message["role"] == "tool", after))
    ids = [call.get("id") for call in calls]
    by_id = {result["tool_call_id"]: result for result in results}
    if all(ids) and len(set(ids)) == len(ids) and len(by_id) == len(results) and by_id.keys() <= set(ids):
        yield from ((call, by_id[call["id"]]) for call in calls if call["id"] in by_id)
    else:
        yield from zip(calls, results, strict=False)


def _conversation(
    run: _Run,
    messages: Sequence[Mapping[str, Any]],
    *,
    agent: str,
    model: str,
    root: Mapping[str, str],
    tools: Sequence[Any] = (),
    died: str = "",
) -> list[ReadableSpan]:
    """An `invoke_agent` root over one `chat` span a reply and one `execute_tool` span a call that got a result.

    Results follow the reply that asked for them, with or without usable ids. A run that
    `died` ends in a model call that failed, and so fails itself.
    """
    system = [part for message in messages if message["role"] == "system" for part in _text(message["content"])]
    turns = [message for message in messages if message["role"] != "system"]
    conversation = {"gen_ai.conversation.id": run.record_id}
    offered = (
        {"gen_ai.tool.definitions": _json([{"type": "function", **t["function"]} for t in tools])} if tools else {}
    )
    history: list[dict[str, Any]] = []
    last: list[dict[str, Any]] = []
    for i, turn in enumerate(turns):
        shown = _message(turn)
        if turn["role"] == "assistant":
            last = [shown]
            calls = turn.get("tool_calls") or []
            reason = "tool_call" if calls else "stop"
            run.child(
                f"chat {model}",
                800,
                SpanKind.CLIENT,
                conversation
                | offered
                | turn.get("usage", {})
                | {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": model,
                    "gen_ai.response.finish_reasons": (reason,),
                    "gen_ai.system_instructions": _json(system),
                    "gen_ai.input.messages": _json(history),
                    "gen_ai.output.messages": _json([shown | {"finish_reason": reason}]),
                },
            )
            for call, result in _paired(calls, turns[i + 1 :]):
                name, arguments = call["function"]["name"], call["function"]["arguments"]
                content = result["content"] or ""
                failed = result.get("error") or (content if content.startswith("Error") else "")
                run.child(
                    f"execute_tool {name}",
                    200,
                    SpanKind.INTERNAL,
                    conversation
                    | ({"error.type": "tool_error"} if failed else {})
                    | {
                        "gen_ai.operation.name": "execute_tool",
                        "gen_ai.tool.name": name,
                        "gen_ai.tool.type": "function",
                        "gen_ai.tool.call.id": call.get("id") or "",
                        "gen_ai.tool.call.arguments": arguments if isinstance(arguments, str) else _json(arguments),
                        "gen_ai.tool.call.result": content,
                    },
                    error=failed,
                )
        elif turn["role"] == "user":
            run.tick(5_000)
        history.append(shown)
    failed = {"error.type": "APIError"} if died else {}
    if died:
        asked = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model}
        history_shown = {"gen_ai.input.messages": _json(history)}
        run.child(f"chat {model}", 100, SpanKind.CLIENT, conversation | failed | asked | history_shown, error=died)
    first = next(message for message in turns if message["role"] == "user")
    return run.end(
        f"invoke_agent {agent}",
        conversation
        | dict(root)
        | failed
        | {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": agent,
            "gen_ai.input.messages": _json([_message(first)]),
            "gen_ai.output.messages": _json(last),
        },
        error=died,
    )


def tau(record: Record, tools: Sequence[Any]) -> list[ReadableSpan]:
    """One tau-bench conversation; each trial is a run of its own, so that trials can be compared."""
    trial = f"trial{record['trial']}"
    return _conversation(
        _Run(record["id"], resource("tau-airline", trial, f"tau-{trial}"), "tau.instrumentation"),
        record["traj"],
        agent="airline",
        model="gpt-4o",
        root={"tracegrade.suite": "tau-airline", "tracegrade.case.id": f"airline/task{record['task_id']}"},
        tools=tools,
    )


def agentdojo(record: Record) -> list[ReadableSpan]:
    """One AgentDojo run; the pipeline is the version under test."""
    pipeline = record["pipeline"]
    return _conversation(
        _Run(record["id"], resource("agentdojo", pipeline, pipeline), "agentdojo.instrumentation"),
        record["messages"],
        agent=record["case"].split("/")[0],
        model=pipeline,
        root={"tracegrade.suite": "agentdojo", "tracegrade.case.id": record["case"]},
    )


def bfcl(record: Record, model: str) -> list[ReadableSpan]:
    """One BFCL question put to one model: calls are requested, never executed, and have no ids.

    Models were offered names with underscores for dots; the schemas stay as they are, `dict` for `object` included.
    """
    given = record["function"] if isinstance(record["function"], list) else [record["function"]]
    tools = [{"function": function | {"name": function["name"].replace(".", "_")}} for function in given]
    result = record["runs"][model]["result"]
    reply: dict[str, Any] = {"role": "assistant", "content": result if isinstance(result, str) else None}
    if isinstance(result, list):
        calls = [{"name": name, "arguments": arguments} for call in result for name, arguments in call.items()]
        reply["tool_calls"] = [{"function": call} for call in calls]
    return _conversation(
        _Run(f"{model}/{record['id']}", resource("bfcl", model, model), "bfcl.instrumentation"),
        [{"role": "user", "content": record["question"]}, reply],
        agent="bfcl",
        model=model,
        root={"tracegrade.suite": "bfcl", "tracegrade.case.id": record["id"]},
        tools=tools,
    )


def _retail_turns(messages: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """One turn a model reply, which the log splits over several lines, and what killed the session, if anything did."""
    results = {
        block["tool_use_id"]: block
        for message in messages
        if message["role"] == "user" and isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    }
    turns: list[dict[str, Any]] = [{"role": "user", "content": messages[0]["content"]}]
    replies: dict[str, list[Record]] = {}
    died = ""
    for message in messages:
        if message.get("model") == "<synthetic>":
            died = message["content"][0]["text"]
        elif message["role"] == "assistant":
            replies.setdefault(message["message_id"], []).append(message)
    for lines in replies.values():
        blocks = [block for line in lines for block in line["content"]]
        used = lines[-1].get("usage") or {}
        cached = used.get("cache_read_input_tokens", 0) + used.get("cache_creation_input_tokens", 0)
        calls = [block for block in blocks if block["type"] == "tool_use"]
        turns.append(
            {
                "role": "assistant",
                "reasoning": "\n".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
                "content": "\n".join(block["text"] for block in blocks if block["type"] == "text"),
                "tool_calls": [
                    {"id": call["id"], "function": {"name": call["name"], "arguments": call["input"]}} for call in calls
                ],
                "usage": {
                    "gen_ai.usage.input_tokens": used["input_tokens"] + cached,
                    "gen_ai.usage.output_tokens": used["output_tokens"],
                }
                if "input_tokens" in used and "output_tokens" in used
                else {},
            }
        )
        for call in calls:
            if (result := results.get(call["id"])) is None:
                continue
            content = result["content"] if isinstance(result["content"], str) else _json(result["content"])
            error = content if result.get("is_error") else ""
            turns.append({"role": "tool", "tool_call_id": call["id"], "content": content, "error": error})
    return turns, died


def retail(record: Record, setting: str) -> list[ReadableSpan]:
    """One Claude Code session on a retail ticket; the setting is the version under test."""
    turns, died = _retail_turns(record["runs"][setting]["messages"])
    return _conversation(
        _Run(f"{record['id']}/{setting}", resource("retail", setting, setting), "retail.instrumentation"),
        turns,
        agent="retail",
        model="claude",
        root={"tracegrade.suite": "retail", "tracegrade.case.id": record["id"]},
        died=died,
    )


# --- OTel GenAI: one question, documents, one answer -----------------------------------------------------------------


def _grounded(
    record_id: str,
    service: str,
    version: str,
    *,
    question: str,
    documents: Sequence[Mapping[str, Any]],
    answer: str,
    model: str = "",
    searched_after: bool = False,
) -> list[ReadableSpan]:
    """An `invoke_agent` root over a `retrieval` span that found the documents and the `chat` span that answered.

    With `searched_after` the documents were looked up for an answer that stood already.
    """
    run = _Run(record_id, resource(service, version, version), f"{service}.instrumentation")
    run.tick(50)
    asked = [{"role": "user", "parts": _text(question)}]
    said = [{"role": "assistant", "parts": _text(answer), "finish_reason": "stop"}]
    conversation = {"gen_ai.conversation.id": record_id}

    def retrieve() -> None:
        found = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": service}
        texts = {"gen_ai.retrieval.query.text": question, "gen_ai.retrieval.documents": _json(list(documents))}
        run.child(f"retrieval {service}", 100, SpanKind.CLIENT, conversation | found | texts)

    if not searched_after:
        retrieve()
    run.child(
        f"chat {model or version}",
        800,
        SpanKind.CLIENT,
        conversation
        | {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model or version,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.input.messages": _json(asked),
            "gen_ai.output.messages": _json(said),
        },
    )
    if searched_after:
        retrieve()
    return run.end(
        f"invoke_agent {service}",
        conversation
        | {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": service,
            "gen_ai.input.messages": _json(asked),
            "gen_ai.output.messages": _json(said),
        },
    )


def begin(record: Record) -> list[ReadableSpan]:
    """One turn of a dialogue system that was given one passage."""
    document = {"id": "1", "content": record["knowledge"]}
    return _grounded(
        record["id"], "begin", record["model_name"],
        question=record["message"], documents=[document], answer=record["response"],
    )  # fmt: skip


def wice(record: Record) -> list[ReadableSpan]:
    """A sentence of an encyclopedia as an answer, and the page it cites as the document, one sentence a line."""
    document = {"id": "1", "content": "\n".join(record["evidence"])}
    question = f"Write one sentence for the article {record['meta']['claim_title']} from the page that was found."
    return _grounded(record["id"], "wice", "people", question=question, documents=[document], answer=record["claim"])


_CITED = re.compile(r"\[(\d+)\]\s*(\S*)\s*(.*)", re.DOTALL)


def cited_passage(evidence: str) -> str:
    """The passage of one source of a claim, empty when only its address is given."""
    match = _CITED.fullmatch(evidence.strip())
    return match[3].strip() if match else evidence.strip()


def passages(record: Record) -> list[dict[str, str]]:
    """The sources of one ExpertQA answer by number, each passage once; one that is only an address has no content."""
    found: dict[tuple[str, str, str], None] = {}
    for claim in record["claims"]:
        for evidence in claim["evidence"] or ():
            match = _CITED.fullmatch(evidence.strip())
            number, address, passage = match.groups() if match else ("", "", evidence)
            found[number, address, passage.strip()] = None
    told = {(number, address) for number, address, passage in found if passage}
    return [
        {key: value for key, value in (("id", number), ("source", address), ("content", passage)) if value}
        for number, address, passage in sorted(found, key=lambda f: (int(f[0] or 0), f))
        if passage or (number, address) not in told
    ]


def expertqa(record: Record) -> list[ReadableSpan]:
    """One answer with citations; some systems read first, some looked citations up afterwards."""
    return _grounded(
        record["id"], "expertqa", record["system"],
        question=record["question"], documents=passages(record), answer=record["answer_string"],
        searched_after=record["system"].startswith("post_hoc"),
    )  # fmt: skip


# --- R-Judge: calls written as text ----------------------------------------------------------------------------------

_FINAL = re.compile(r"\s*(?:Final Answer|Finish)\s*[:{(]?\s*(.*)", re.DOTALL)
_WRITTEN = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(?:\n+\s*Action Input:\s*|[:(]?\s*(?=\{)|(?=\())(.*)", re.DOTALL)


def written_call(action: str) -> tuple[str, Any] | None:
    """Name and arguments of a call that a model wrote as text; None when it is none."""
    if _FINAL.fullmatch(action) or not (match := _WRITTEN.fullmatch(action)):
        return None
    name, text = match[1], match[2].strip()
    for read in (json.loads, ast.literal_eval, _keywords):
        try:
            return name, read(text)
        except (ValueError, SyntaxError):
            continue
    return name, text


def _keywords(text: str) -> dict[str, Any]:
    call = ast.parse(f"f{text}", mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("not keyword arguments")
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}


def rjudge(record: Record) -> list[ReadableSpan]:
    """One R-Judge run. A turn of the environment is the result of what the agent did before it, however that was written."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": record["profile"]}]
    turns = [turn for part in record["contents"] for turn in part]
    for turn, after in zip(turns, [*turns[1:], {"role": "", "content": ""}], strict=True):
        if turn["role"] == "user":
            messages.append({"role": "user", "content": str(turn["content"] or "")})
        elif turn["role"] == "agent":
            action = turn.get("action") or ""
            call = written_call(action)
            if not call and after["role"] == "environment" and after["content"] and action.strip():
                name, _, rest = action.strip().partition(" ")
                call = name, rest
            reply: dict[str, Any] = {"role": "assistant", "reasoning": turn.get("thought") or "", "content": None}
            if call:
                call_id = f"call_{len(messages)}"
                reply["tool_calls"] = [{"id": call_id, "function": {"name": call[0], "arguments": call[1]}}]
            else:
                final = _FINAL.fullmatch(action)
                reply["content"] = final[1] if final else action
            messages.append(reply)
        elif messages[-1].get("tool_calls"):
            call_id = messages[-1]["tool_calls"][0]["id"]
            messages.append({"role": "tool", "tool_call_id": call_id, "content": str(turn["content"] or "")})
    return _conversation(
        _Run(record["id"], resource("rjudge", "1", "rjudge"), "rjudge.instrumentation"),
        messages,
        agent=record["category"],
        model="unknown",
        root={},
    )


# --- OpenInference: traces that already are spans --------------------------------------------------------------------

_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d+))?S)?")


def duration_ns(text: str) -> int:
    """An ISO 8601 duration below a day, to the nanosecond."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"not a duration: {text!r}")
    hours, minutes, seconds, fraction = found.groups()
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole * 10**9 + int((fraction or "").ljust(9, "0")[:9])


def _time_ns(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000


def nested(spans: Sequence[Record]) -> Iterator[Record]:
    """Spans of a tree, parents first."""
    for span in spans:
        yield span
        yield from nested(span.get("child_spans") or ())


def trail(record: Record) -> list[ReadableSpan]:
    """One TRAIL trace as it was captured, ids and attributes verbatim, moved to a recent day."""
    spans = list(nested(record["spans"]))
    shift = EPOCH_NS - min(_time_ns(span["timestamp"]) for span in spans)
    trace = int(record["id"], 16)
    own = Resource(record["resource_attributes"]).merge(resource(record["service_name"], "1", "trail"))
    scopes = {True: InstrumentationScope("openinference.instrumentation.smolagents"), False: InstrumentationScope("")}
    return [
        ReadableSpan(
            name=span["span_name"],
            context=context(trace, int(span["span_id"], 16)),
            parent=context(trace, int(span["parent_span_id"], 16)) if span["parent_span_id"] else None,
            resource=own,
            attributes=span["span_attributes"],
            events=[
                Event(event["Name"], event["Attributes"], _time_ns(event["Timestamp"]) + shift)
                for event in span.get("events") or ()
            ],
            kind=SpanKind[span["span_kind"].upper()],
            status=Status(StatusCode[span["status_code"].upper()], span.get("status_message")),
            start_time=_time_ns(span["timestamp"]) + shift,
            end_time=_time_ns(span["timestamp"]) + shift + duration_ns(span["duration"]),
            instrumentation_scope=scopes["openinference.span.kind" in span["span_attributes"]],
        )
        for span in spans
    ]
