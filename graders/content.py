"""Reads what one span says: messages, tool arguments and results, documents, offered tools.

Where each piece stands is data (`content` in store/dialects.yaml). Everything here takes text of unknown origin: JSON
is decoded leniently, wrappers that frameworks put around values are removed, and nothing raises on any input. Joining
what several spans say is the assembler's business.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from store.dialects import mapping
from store.types import Approval, ContentState, Document, Span, SpanEvent, SpanKind, ToolDefinition, Trace

REDACTED = frozenset({"<REDACTED>", "__REDACTED__", "[REDACTED]", "REDACTED", "<redacted>"})

Families = dict[str, dict[int, list[tuple[str, str]]]]
"""The indexed attributes of a span: prefix, then index, then (rest of the key, value)."""

_MAX_KEY = 200
_HISTORIES = 4
_NO_ID = frozenset({"", "<not specified>", "None", "null"})
_INTERRUPTED = re.compile(r"\bbefore_tool_call:([^:']{1,200}):")
_JSON_HEADS = frozenset('{["')
_MAX_DECODES = 2
_MAX_WRAPPERS = 6
_REPR_CALL_ID = re.compile(r"\btool_call_id='([^']{1,200})'")
_MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_TEXT_PARTS = frozenset({"text", "output_text", "input_text", None, "refusal"})
_CALL_PARTS = frozenset({"tool_call", "tool_use", "tool-call", "function_call"})
_RESULT_PARTS = frozenset(
    {"tool_call_response", "tool_result", "tool-result", "function_call_output", "function_result"}
)
_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "developer": "system", "function": "tool"}


class Request(NamedTuple):
    """A tool call as the model asked for it."""

    id: str
    name: str
    arguments: object
    """Decoded if it was JSON, else as written; None when absent."""
    provider: bool = False

    @property
    def key(self) -> str:
        """The arguments in canonical JSON."""
        return canonical(self.arguments)


@dataclass(slots=True, eq=False)
class Turn:
    """One message of one model call. Never changed; not frozen, because making frozen ones took a tenth of all time."""

    role: str
    text: str = ""
    requests: tuple[Request, ...] = ()
    answers: str = ""
    """For role `tool`: the call id it answers; may be empty."""
    answers_name: str = ""
    failed: bool = False
    empty: bool = False
    """An answer that was captured, and holds nothing."""
    provider: bool = False
    finish: str = ""
    approvals: tuple[Approval, ...] = ()
    identity: tuple[object, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.requests:
            calls = tuple((r.id, r.name, r.key) for r in self.requests)
            text = "" if all(c[0] for c in calls) else self.text.strip()
            self.identity = (self.role, text, calls)
        else:
            self.identity = (self.role, self.text.strip(), self.answers)


class Value(NamedTuple):
    """A tool's arguments or result, out of its wrappers."""

    value: object = None
    text: str = ""
    state: ContentState = ContentState.ABSENT
    call_id: str = ""
    failed: bool = False


def content_keys() -> Mapping[str, tuple[str, ...]]:
    """Canonical field to the attributes that may hold it, best first."""
    return mapping().content


@cache
def _family_prefixes() -> tuple[str, ...]:
    return tuple(sorted({key for keys in content_keys().values() for key in keys if key.endswith(".")}))


@lru_cache(maxsize=1 << 16)
def _split(key: str) -> tuple[str, int, str] | None:
    """Prefix, index and rest of an indexed attribute; the same keys come with every span."""
    for prefix in _family_prefixes():
        if key.startswith(prefix):
            index, _, rest = key[len(prefix) :].partition(".")
            if rest and index.isascii() and index.isdecimal() and len(index) < 7:
                return prefix, int(index), rest
    return None


# --- JSON -----------------------------------------------------------------------------------------------------------


def decode(value: object) -> object:
    """`value` itself, or what it holds if it is JSON text (twice encoded at most)."""
    for _ in range(_MAX_DECODES):
        if not isinstance(value, str):
            return value
        head = value[:1]
        if head not in _JSON_HEADS and (not head.isspace() or value[:64].lstrip()[:1] not in _JSON_HEADS):
            return value
        try:
            value = orjson.loads(value)
        except ValueError:
            return value
    return value


def canonical(value: object) -> str:
    """JSON with sorted keys, the same for equal values; empty for None and for what cannot be written."""
    if value is None:
        return ""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RecursionError):
        return ""


def text_of(value: object) -> str:
    """A value as a reader would see it: text as it is, content blocks joined, anything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        blocks = [_block_text(item) for item in value]
        if all(block is not None for block in blocks):
            return "\n".join(block for block in blocks if block)
    return canonical(value)


def _block_text(item: object) -> str | None:
    if isinstance(item, str):
        return item
    if isinstance(item, dict) and item.get("type") in ("text", "output_text", "input_text"):
        text = item.get("text", item.get("content"))
        return text if isinstance(text, str) else None
    if isinstance(item, dict) and isinstance(item.get("text"), str) and len(item) == 1:
        return str(item["text"])
    return None


# --- tool arguments and results -------------------------------------------------------------------------------------


def arguments(span: Span, events: Sequence[SpanEvent]) -> Value:
    """What the tool of this span was called with."""
    raw = first(span.attributes, "tool_arguments")
    if raw is None:
        message = next((e for e in events if e.name == "gen_ai.tool.message"), None)
        if message is not None:
            raw = message.attributes.get("content")
    if raw is None:
        parameters = decode(span.attributes.get("tool.parameters"))
        if isinstance(parameters, dict) and not parameters.keys() & {"type", "properties"}:
            return Value(parameters, canonical(parameters), ContentState.PRESENT)
        return Value(state=_absent(span, "tool.call.arguments"))
    state = state_of(raw)
    if state not in (ContentState.PRESENT, ContentState.TRUNCATED):
        return Value(state=state)
    value, call_id = decode(raw), ""
    if isinstance(value, dict):
        value, call_id = _unwrap_arguments(value)
    return Value(value, raw if isinstance(value, str) else canonical(value), state, call_id)


def _unwrap_arguments(value: dict[str, Any]) -> tuple[object, str]:
    if value.get("type") == "tool_call" and isinstance(value.get("args"), dict):  # LangChain ToolCall
        return value["args"], _id(value.get("id"))
    if "kwargs" in value and "args" in value and "sanitize_inputs_outputs" in value:  # smolagents
        positional = value["args"]
        named = value["kwargs"] if isinstance(value["kwargs"], dict) else {}
        return ({**named, "args": positional} if positional else named), ""
    if "inputs" in value and ("input_str" in value or "kwargs" in value):  # Traceloop
        kwargs = value.get("kwargs")
        call_id = _id(kwargs.get("tool_call_id")) if isinstance(kwargs, dict) else ""
        return value["inputs"], call_id
    if value.keys() == {"tool_name", "arguments"}:  # Traceloop MCP
        return decode(value["arguments"]), ""
    return value, ""


def result(span: Span, events: Sequence[SpanEvent]) -> Value:
    """What the tool of this span returned."""
    raw: object = first(span.attributes, "tool_result")
    if raw is None:
        for event in events:
            if event.name == "gen_ai.choice":
                raw = event.attributes.get("message")
            elif event.name == "tool.output":
                raw = event.attributes.get("output", event.attributes.get("content"))
    if raw is None:
        if any(
            key in span.attributes for key in content_keys()["tool_result"]
        ):  # sent, and empty: the tool said nothing
            return Value("", "", ContentState.PRESENT)
        return Value(state=_absent(span, "tool.call.result"))
    return unwrap_result(raw)


def unwrap_result(raw: object) -> Value:
    """The text a tool gave back, out of ToolMessage, ADK and MCP envelopes."""
    state = state_of(raw)
    if state not in (ContentState.PRESENT, ContentState.TRUNCATED):
        return Value(state=state)
    if isinstance(raw, str) and not raw.startswith(_WRAPPER_HEADS) and not raw[:1].isspace():
        return Value(raw, raw, state)  # most results: nothing around them, so no need to decode them
    value, call_id, failed, wrapped = decode(raw), "", False, False
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(value, dict):
            break
        inner: object
        if "tool_call_id" in value and "content" in value:  # LangChain ToolMessage
            call_id = _id(value["tool_call_id"]) or call_id
            failed = failed or value.get("status") == "error"
            inner = value["content"]
        elif value.get("type") == "tool" and isinstance(value.get("data"), dict):
            inner = value["data"]
        elif value.get("lc") == 1 and isinstance(value.get("kwargs"), dict):
            inner = value["kwargs"]
        elif "output" in value and value.keys() <= {"output", "kwargs", "tags", "metadata"}:  # Traceloop
            inner = value["output"]
        elif value.keys() == {"result"}:  # ADK, for results that are not objects
            inner = value["result"]
        elif isinstance(value.get("content"), list) and value.keys() <= _MCP_KEYS:
            failed = failed or value.get("isError") is True
            inner = text_of(value["content"])
        else:
            break
        value, wrapped = decode(inner) if isinstance(inner, str) and inner[:1] in ("{", "[") else inner, True
    if isinstance(value, list) and value and all(isinstance(v, dict) and v.keys() <= _TEXT_BLOCK for v in value):
        value, wrapped = text_of(value), True
    if isinstance(raw, str) and value is raw and raw.startswith("content="):
        match = _REPR_CALL_ID.search(raw)
        call_id = match[1] if match else ""
    text = raw if isinstance(raw, str) and not wrapped and not isinstance(value, str) else text_of(value)
    return Value(value, text, state, call_id, failed)


_WRAPPER_HEADS = ("{", '"', '[{"t', '[{ "t', "content=")
_TEXT_BLOCK = frozenset({"text", "type"})
_MCP_KEYS = frozenset({"content", "isError", "structuredContent", "_meta", "meta", "is_error"})


_PROSE = re.compile(r"\[[\w.:#-]{1,60}\]")
"""`[1] A passage` and `[doc-7] another` begin like JSON, and are not."""


def state_of(raw: object) -> ContentState:
    """Whether a piece of content is there in full."""
    if raw is None or raw == "":
        return ContentState.ABSENT
    if isinstance(raw, str):
        if raw in REDACTED:
            return ContentState.REDACTED
        if raw[0] in "{[" and raw[-1] not in "}]" and not _PROSE.match(raw) and isinstance(decode(raw), str):
            return ContentState.TRUNCATED
    return ContentState.PRESENT


def _absent(span: Span, what: str) -> ContentState:
    if f"gen_ai.{what}_ref" in span.attributes:
        return ContentState.EXTERNALISED
    return ContentState.TRUNCATED if span.dropped_attributes else ContentState.ABSENT


def first(attributes: Mapping[str, str], content: str) -> str | None:
    """The best attribute for a content field; indexed families are not looked at."""
    for key in content_keys()[content]:
        value = attributes.get(key)
        if value:
            return value
    return None


def _id(value: object) -> str:
    text = str(value).strip() if isinstance(value, str | int) else ""
    return "" if text in _NO_ID else text


# --- messages -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class History:
    """The messages a model call read. The next call of the same conversation sends them again, with more behind them."""

    turns: list[Turn] = field(default_factory=list)
    counts: dict[object, int] = field(default_factory=dict)
    """How often each turn stands among the counted ones."""
    counted: int = 0
    """How many of `turns` are in `counts`; they were shown before."""
    raw: str = ""


class Reader:
    """Reads the messages of one trace's spans, parsing a message that is sent again only once."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[Turn, ...]] = {}
        self._histories: deque[History] = deque(maxlen=_HISTORIES)

    def families(self, span: Span) -> Families:
        """The indexed attributes of a span: prefix, then index, then (rest of the key, value)."""
        found: Families = {}
        for key, value in span.attributes.items():
            if len(key) < _MAX_KEY and (hit := _split(key)):
                prefix, index, rest = hit
                found.setdefault(prefix, {}).setdefault(index, []).append((rest, value))
        return found

    def history(self, span: Span, families: Families) -> History:
        """The input messages of a span; the history of an earlier call, extended, if this call continues it."""
        for key in content_keys()["input_messages"]:
            raw = span.attributes.get(key)
            if raw and raw[0] == "[":
                for known in self._histories:
                    size = len(known.raw)
                    # Behind a whole list without its bracket, a comma can only begin the next element of that list.
                    if len(raw) > size and raw[size : size + 1] == "," and raw.startswith(known.raw):
                        known.turns.extend(self.parse("[" + raw[size + 1 :], "user"))
                        known.raw = raw[:-1] if raw[-1] == "]" else ""
                        return known
                history = History(list(self.parse(raw, "user")), raw=raw[:-1] if raw[-1] == "]" else "")
                if history.turns:
                    if history.raw:
                        self._histories.append(history)
                    return history
            elif raw or key in families:
                return History(self.turns(span, families, "input_messages", "user"))
        return History()

    def turns(self, span: Span, families: Families, what: str, role: str) -> list[Turn]:
        """The messages in content field `what`; `role` is used where none is given."""
        for key in content_keys()[what]:
            if key.endswith("."):
                group = families.get(key)
                if group:
                    return [t for index in sorted(group) for t in self._family(group[index], role)]
            elif raw := span.attributes.get(key):
                turns = list(self.parse(raw, role))
                if turns:
                    return turns
        return []

    def parse(self, raw: object, role: str) -> Iterator[Turn]:
        """Messages out of JSON text, or text as one message."""
        value = decode(raw)
        if isinstance(value, dict):
            nested = value.get("messages")
            value = nested if isinstance(nested, list) else [value]
        if isinstance(value, str):
            if value in REDACTED:
                return
            value = [{"role": role, "content": value}]
        if not isinstance(value, list):
            return
        if value and all(isinstance(item, list) for item in value):  # LangChain sends a batch of one
            value = [message for batch in value for message in batch]
        if value and all(isinstance(item, dict) and "type" in item and "role" not in item for item in value):
            value = [{"role": role, "parts": value}]  # system_instructions are bare parts
        for item in value:
            if isinstance(item, dict):
                fingerprint = (role, canonical(item))
                turns = self._known.get(fingerprint)
                if turns is None:
                    turns = tuple(_message(item, role))
                    if fingerprint[1]:
                        self._known[fingerprint] = turns
                yield from turns

    def _family(self, group: list[tuple[str, str]], role: str) -> tuple[Turn, ...]:
        fingerprint = (role, tuple(group))
        turns = self._known.get(fingerprint)
        if turns is None:
            turns = self._known[fingerprint] = tuple(_message(_unflatten(group), role))
        return turns

    def events(self, events: Iterable[SpanEvent]) -> tuple[list[Turn], list[Turn]]:
        """Input and output messages out of the legacy message events, and of `operation.details`."""
        inputs: list[Turn] = []
        outputs: list[Turn] = []
        for event in events:
            attributes = event.attributes
            if role := _MESSAGE_EVENTS.get(event.name):
                item = {k: decode(v) if k in ("tool_calls", "content") else v for k, v in attributes.items()}
                item["role"] = role
                if role == "tool":
                    item["tool_call_id"] = attributes.get("id", attributes.get("tool_call_id", ""))
                inputs.extend(_message(item, role))
            elif event.name == "gen_ai.choice":
                message = decode(attributes.get("message", attributes.get("content", "")))
                item = dict(message) if isinstance(message, dict) else {"content": message}
                item.setdefault("role", "assistant")
                if "tool_calls" in attributes:
                    item["tool_calls"] = decode(attributes["tool_calls"])
                if "finish_reason" in attributes:
                    item["finish_reason"] = attributes["finish_reason"]
                outputs.extend(_message(item, "assistant"))
            elif event.name == "gen_ai.client.inference.operation.details":
                inputs.extend(self.parse(attributes.get("gen_ai.system_instructions"), "system"))
                inputs.extend(self.parse(attributes.get("gen_ai.input.messages"), "user"))
                outputs.extend(self.parse(attributes.get("gen_ai.output.messages"), "assistant"))
        return inputs, outputs


def _unflatten(group: list[tuple[str, str]]) -> dict[str, Any]:
    """`message.role`, `message.tool_calls.0.tool_call.function.name`… as the message they were flattened from."""
    item: dict[str, Any] = {}
    calls: dict[int, dict[str, str]] = {}
    blocks: dict[int, dict[str, str]] = {}
    for rest, value in group:
        rest = rest.removeprefix("message.")
        head, _, tail = rest.partition(".")
        if head in ("tool_calls", "contents") and tail:
            number, _, name = tail.partition(".")
            if number.isdecimal() and len(number) < 7:
                target = calls if head == "tool_calls" else blocks
                target.setdefault(int(number), {})[name.split(".", 1)[-1]] = value
        else:
            item[rest] = value
    if calls:
        item["tool_calls"] = [
            {
                "id": c.get("id", ""),
                "name": c.get("function.name", c.get("name", "")),
                "arguments": c.get("function.arguments", c.get("arguments")),
            }
            for _, c in sorted(calls.items())
        ]
    if blocks:
        texts = [b["text"] for _, b in sorted(blocks.items()) if b.get("text")]
        item.setdefault("content", "\n".join(texts))
    return item


def _message(item: Mapping[str, Any], default_role: str) -> Iterator[Turn]:
    """One message of any shape: its own turn, and one turn for every tool result inside it."""
    parts = item.get("parts")
    if type(parts) is list and len(parts) == 1 and type(parts[0]) is dict and parts[0].get("type") == "text":
        role, text = item.get("role"), parts[0].get("content")
        if role in ("system", "user", "assistant") and type(text) is str and text and "tool_calls" not in item:
            finish = item.get("finish_reason")
            if finish != "interrupt":
                yield Turn(role, "" if text in REDACTED else text, finish=finish if isinstance(finish, str) else "")
                return
    wrapped = None
    if parts is None:
        wrapped = item.get("kwargs") if item.get("lc") == 1 else item.get("message", item.get("data"))
    if isinstance(wrapped, dict) and ("content" in wrapped or "parts" in wrapped):
        item = {**wrapped, "role": wrapped.get("role", item.get("role", wrapped.get("type", item.get("type"))))}
    role = str(item.get("role") or item.get("type") or default_role)
    role = _ROLES.get(role, role)
    if role not in ("system", "user", "assistant", "tool"):
        role = default_role
    texts: list[str] = []
    requests: list[Request] = []
    answers: list[Turn] = []
    approvals: list[Approval] = []
    parts = item.get("parts", item.get("content"))
    for part in parts if isinstance(parts, list) else [parts]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            _part(part, texts, requests, answers, approvals)
    calls = decode(item["tool_calls"]) if "tool_calls" in item else None
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            function = call.get("function")
            source = function if isinstance(function, dict) else call
            arguments = decode(source.get("arguments", source.get("args", source.get("input"))))
            name = source.get("name")
            if isinstance(name, str) and name:
                requests.append(Request(_id(call.get("id")), name, arguments))
    text = "\n".join(t for t in texts if t and t not in REDACTED)
    finish = item.get("finish_reason")
    if finish == "interrupt":  # Strands: the ids of the calls that wait stand in the text
        approvals += [_waits(call_id) for call_id in _INTERRUPTED.findall(text)]
    refusal = item.get("refusal")
    if isinstance(refusal, str) and refusal and not text:
        text, finish = refusal, "refusal"
    if role == "tool" and not answers and not requests:
        value = unwrap_result(text)
        yield Turn(
            "tool",
            value.text,
            answers=_id(item.get("tool_call_id")) or value.call_id,
            answers_name=str(item.get("name") or ""),
            failed=value.failed or bool(item.get("error")) or item.get("status") == "error",
            empty=item.get("content") == "",
        )
        return
    if text or requests or approvals or not answers:
        yield Turn(
            "user" if role == "tool" else role,
            text,
            tuple(requests),
            finish=finish if isinstance(finish, str) else "",
            approvals=tuple(approvals),
        )
    yield from answers


def _waits(call_id: str) -> Approval:
    return Approval("require_approval", 0, call_id=call_id, evidence="framework_structure")


def _part(
    part: Mapping[str, Any],
    texts: list[str],
    requests: list[Request],
    answers: list[Turn],
    approvals: list[Approval],
) -> None:
    kind = part.get("type")
    if kind is None and ("toolUse" in part or "toolResult" in part):  # Bedrock, as Strands sends it
        kind = "tool_use" if "toolUse" in part else "tool_result"
        inner = part.get("toolUse", part.get("toolResult"))
        part = {**inner, "tool_use_id": inner.get("toolUseId")} if isinstance(inner, dict) else {}
        part = {**part, "is_error": part.get("status") == "error"}
    if kind is not None and not isinstance(kind, str):
        return
    if kind in _TEXT_PARTS:
        text = part.get("content", part.get("text", part.get("refusal")))
        if isinstance(text, str):
            texts.append(text)
    elif kind in _CALL_PARTS:
        arguments = part.get("arguments", part.get("input", part.get("args")))
        name = part.get("name", part.get("toolName"))
        if isinstance(name, str) and name:
            call_id = _id(part.get("id") or part.get("tool_use_id") or part.get("call_id") or part.get("toolCallId"))
            requests.append(Request(call_id, name, decode(arguments), part.get("builtin") is True))
    elif kind in _RESULT_PARTS:
        raw = part.get("response")
        if raw is None:
            raw = next((part[k] for k in ("result", "content", "output") if part.get(k) is not None), None)
        call_id = _id(part.get("id") or part.get("tool_use_id") or part.get("call_id") or part.get("toolCallId"))
        value = unwrap_result(raw)
        failed = value.failed or part.get("is_error") is True
        name = str(part.get("name") or "")
        provider = part.get("builtin") is True
        answers.append(
            Turn(
                "tool",
                value.text,
                answers=call_id,
                answers_name=name,
                failed=failed,
                empty=raw == "",
                provider=provider,
            )
        )
    elif kind == "server_tool_call":
        details = part.get("server_tool_call")
        name = part.get("name")
        if isinstance(name, str) and name:
            requests.append(Request(_id(part.get("id")), name, decode(details), provider=True))
    elif kind == "server_tool_call_response":
        text = text_of(part.get("server_tool_call_response"))
        answers.append(Turn("tool", text, answers=_id(part.get("id")), provider=True))
    elif kind in ("function_approval_request", "function_approval_response"):
        call = part.get("function_call")
        call = call if isinstance(call, dict) else {}
        if kind == "function_approval_request":
            outcome = "require_approval"
        else:
            outcome = "allow" if part.get("approved") is True else "deny"
        approvals.append(
            Approval(
                outcome,
                0,
                mechanism="human" if kind == "function_approval_response" else "unknown",
                call_id=_id(call.get("call_id", call.get("id"))),
                tool_name=str(call.get("name") or ""),
                evidence="framework_structure",
            )
        )


# --- documents and definitions --------------------------------------------------------------------------------------


def documents(span: Span, families: Families) -> list[Document]:
    """The passages a retrieval or reranking span returned."""
    for key in content_keys()["documents"]:
        if key.endswith("."):
            group = families.get(key)
            if group:
                flat = [{k.removeprefix("document."): v for k, v in group[i]} for i in sorted(group)]
                return [_document(d, span.span_id) for d in flat]
        elif raw := span.attributes.get(key):
            found = _document_list(decode(raw))
            if found:
                return [_document(d, span.span_id) for d in found]
    for key in content_keys()["output"]:
        found = _document_list(decode(span.attributes.get(key)))
        if found:
            return [_document(d, span.span_id) for d in found]
    return []


def _document_list(value: object) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        value = value.get("documents")
    return [d for d in value if isinstance(d, dict)] if isinstance(value, list) else []


def _document(item: Mapping[str, Any], span_id: str) -> Document:
    metadata = decode(item.get("metadata"))
    details: Mapping[str, Any] = metadata if isinstance(metadata, dict) else {}
    text = text_of(next((item[k] for k in ("content", "text", "page_content") if item.get(k)), ""))
    sources = (item.get(k) or details.get(k) for k in ("source", "url", "uri", "title", "name"))
    return Document(
        id=_id(item.get("id")) or _id(details.get("id")),
        text="" if text in REDACTED else text,
        span_id=span_id,
        score=number(item.get("score", details.get("score"))),
        source=next((s for s in sources if isinstance(s, str) and s), ""),
    )


def number(value: object) -> float | None:
    """A finite number out of a number or its text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        parsed = float(value)
    except (ValueError, OverflowError):
        return None
    return parsed if parsed - parsed == 0 else None


def definitions(span: Span, families: Families) -> tuple[ToolDefinition, ...]:
    """The tools a model or agent span was offered."""
    for key in content_keys()["tool_definitions"]:
        found: tuple[ToolDefinition, ...] = ()
        if key.endswith("."):
            if group := families.get(key):
                found = _flat_definitions(tuple(tuple(group[index]) for index in sorted(group)))
        elif raw := span.attributes.get(key):
            found = _definitions(raw)
        if found:
            return found
    return ()


# Every call of an agent offers the same tools, in trace after trace.
@lru_cache(maxsize=256)
def _definitions(raw: str) -> tuple[ToolDefinition, ...]:
    value = decode(raw)
    items = [decode(item) for item in value] if isinstance(value, list) else [value]
    return tuple(d for item in items if isinstance(item, dict) and (d := _definition(item)))


@lru_cache(maxsize=256)
def _flat_definitions(groups: tuple[tuple[tuple[str, str], ...], ...]) -> tuple[ToolDefinition, ...]:
    found = []
    for group in groups:
        flat = {key.removeprefix("tool."): value for key, value in group}
        schema = decode(flat.get("json_schema"))
        definition = _definition(schema if isinstance(schema, dict) else flat)
        if definition:
            found.append(definition)
    return tuple(found)


def _definition(item: Mapping[str, Any]) -> ToolDefinition | None:
    function = item.get("function")
    source = function if isinstance(function, dict) else item
    name = source.get("name")
    if not isinstance(name, str) or not name:
        return None
    keys = ("parameters", "input_schema", "inputSchema", "parameters_json_schema", "json_schema")
    schemas = (decode(source.get(k)) for k in keys)
    schema = next((s for s in schemas if isinstance(s, dict)), None)
    return ToolDefinition(name, text_of(source.get("description")), schema)


def finish_reasons(span: Span) -> tuple[str, ...]:
    """Why the model stopped, as the provider wrote it."""
    raw = span.attributes.get("gen_ai.response.finish_reasons")
    if raw:
        value = decode(raw)
        items = value if isinstance(value, list) else [value]
        return tuple(str(v) for v in items if isinstance(v, str))
    keys = ("llm.finish_reason", "gen_ai.response.finish_reason", "llm.response.finish_reason", "stop_reason")
    return tuple(span.attributes[k] for k in keys if span.attributes.get(k))[:1]


_STOPPED_TO_CALL = re.compile("tool|function", re.IGNORECASE)


def hides_calls(trace: Trace) -> bool:
    """Whether a trace without tool calls may have had some: no model call shows its messages, or says why it stopped.

    What an agent span repeats of the conversation is no proof: it seldom holds the calls.
    """
    if trace.tool_calls:
        return False
    heard = {message.span_id for message in trace.messages}
    models = [span for span in trace.spans if span.kind is SpanKind.LLM]
    if any(span.span_id in heard for span in models):
        return False
    reasons = [finish_reasons(span) for span in models]
    return not models or any(not given or any(map(_STOPPED_TO_CALL.search, given)) for given in reasons)


def speaks(span: Span) -> bool:
    """Whether a span may hold messages."""
    return span.kind in (SpanKind.LLM, SpanKind.AGENT)
