"""Reads the messages a span or log record shows, in whatever shape they were sent, as turns of one conversation.

Where messages stand is data (`content` and `events` in store/dialects.yaml). Every shape that is written here was seen on a
wire: OTel GenAI parts, OpenAI, Anthropic, Bedrock, Gemini and AI SDK content blocks, LangChain's serialised messages, indexed
attributes, span events, log events. Anything else is passed over; nothing raises on any input. Which of the turns are new, and
which call an answer belongs to, is the assembler's business.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

from graders.content import (
    REDACTED,
    Families,
    call_id_of,
    canonical,
    content_keys,
    decode,
    family_of,
    text_of,
    unwrap_result,
)
from graders.hashes import arguments_hash
from store.dialects import mapping
from store.types import Approval, Span, SpanEvent, SpanKind, Trace

_MAX_KEY = 200
_HISTORIES = 4
INTERRUPTED = re.compile(r"\bbefore_tool_call:([^:']{1,200}):")
"""Strands: the ids of the calls that wait for a person, in what stands where the answer would."""
_MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_TEXT_PARTS = frozenset({"text", "output_text", "input_text", None, "refusal"})
_CALL_PARTS = frozenset({"tool_call", "tool_use", "tool-call", "function_call"})
_RESULT_PARTS = frozenset(
    {"tool_call_response", "tool_result", "tool-result", "function_call_output", "function_result", "tool-error"}
)
_PARTS = _TEXT_PARTS | _CALL_PARTS | _RESULT_PARTS
_ROLES = {
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "developer": "system",
    "function": "tool",
    "tool-response": "tool",
    "tool-call": "assistant",
}
_BATCHED = frozenset({"messages", "generations", "contents", "candidates", "choices"})
_AI_SDK_OUTPUT = "ai.response."
_LOGFIRE_EVENTS = "events"


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
    denied: bool = False
    """An answer that says, by its structure, that the call was not allowed."""
    finish: str = ""
    """As the sender wrote it; `finish_kind` says what it means."""
    approvals: tuple[Approval, ...] = ()
    calls: tuple[tuple[str, str, str], ...] = field(init=False, default=())
    """Id, name and canonical arguments of each request."""
    identity: tuple[object, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.requests:
            self.calls = calls = tuple([(r.id, r.name, r.key) for r in self.requests])
            text = "" if all(c[0] for c in calls) else self.text.strip()
            self.identity = (self.role, text, calls)
        else:
            self.identity = (self.role, self.text.strip(), self.answers)


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
        self._parsed: dict[tuple[str, str], tuple[Turn, ...]] = {}
        self._histories: deque[History] = deque(maxlen=_HISTORIES)
        self.approval_calls: dict[str, str] = {}
        """Approval id to call id, where a framework names them apart."""

    def families(self, span: Span) -> Families:
        """The indexed attributes of a span: prefix, then index, then (rest of the key, value)."""
        found: Families = {}
        for key, value in span.attributes.items():
            if len(key) < _MAX_KEY and (hit := family_of(key)):
                prefix, index, rest = hit
                found.setdefault(prefix, {}).setdefault(index, []).append((rest, value))
        return found

    def history(self, span: Span, families: Families) -> History:
        """The input messages of a span; the history of an earlier call, extended, if this call continues it."""
        for key in content_keys()["input_messages"]:
            raw = span.attributes.get(key)
            if raw and raw[0] == "[" and key != _LOGFIRE_EVENTS:
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
                turns = self._source(span, families, key, "user")
                if turns:
                    return History(turns)
        return History()

    def turns(self, span: Span, families: Families, what: str, role: str) -> list[Turn]:
        """The messages in content field `what`; `role` is used where none is given."""
        for key in content_keys()[what]:
            if turns := self._source(span, families, key, role):
                return turns
        return []

    def _source(self, span: Span, families: Families, key: str, role: str) -> list[Turn]:
        if key == _AI_SDK_OUTPUT:
            return list(self._ai_sdk_output(span.attributes))
        if key == _LOGFIRE_EVENTS:
            return list(self._listed_events(span.attributes.get(key), role))
        if key.endswith("."):
            group = families.get(key)
            return [t for index in sorted(group) for t in self._family(group[index], role)] if group else []
        raw = span.attributes.get(key)
        if not raw:
            return []
        turns = self._parsed.get(
            (raw, role)
        )  # system instructions come with every call, an answer with the agent's span
        if turns is None:
            turns = self._parsed[raw, role] = tuple(self.parse(raw, role))
        return list(turns)

    def _ai_sdk_output(self, attributes: Mapping[str, str]) -> Iterator[Turn]:
        """The Vercel AI SDK spreads one answer over several attributes."""
        text = attributes.get("ai.response.text") or attributes.get("ai.response.object") or ""
        calls = decode(attributes.get("ai.response.toolCalls"))
        if text or calls:
            item = {
                "role": "assistant",
                "content": text,
                "finish_reason": attributes.get("ai.response.finishReason", ""),
            }
            yield from self.message({**item, "tool_calls": calls} if calls else item, "assistant")

    def _listed_events(self, raw: str | None, role: str) -> Iterator[Turn]:
        """Logfire keeps the message events of a call as one list; its last message is the answer."""
        value = decode(raw)
        items = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
        last = len(items) - 1 if items and items[-1].get("role", "assistant") == "assistant" else len(items)
        for item in items[last:] if role == "assistant" else items[:last]:
            if isinstance(item.get("event.name"), str):
                found = {**item, "tool_call_id": item.get("id")} if item.get("role") == "tool" else item
                yield from self.message(found, role)

    def parse(self, raw: object, role: str) -> Iterator[Turn]:
        """Messages out of JSON text, or text as one message."""
        value = decode(raw)
        if isinstance(value, dict):
            yield from self._envelope(value, role)
            return
        if isinstance(value, str):
            if value in REDACTED:
                return
            value = [{"role": role, "content": value}]
        if not isinstance(value, list):
            return
        if value and not (isinstance(value[0], dict) and "role" in value[0]):
            if all(isinstance(item, list) for item in value):  # LangChain sends a batch of one
                value = [message for batch in value for message in batch]
            if value and all(isinstance(item, dict) and _is_part(item) for item in value):
                value = [{"role": role, "parts": value}]  # system_instructions are bare parts
        for item in value:
            if isinstance(item, dict):
                # Gemini CLI calls what the model said `system`.
                said = {**item, "role": role} if role == "assistant" and item.get("role") == "system" else item
                yield from self.message(said, role)

    def _envelope(self, value: Mapping[str, Any], role: str) -> Iterator[Turn]:
        """An object that holds messages: a provider's request or response, a framework's input or output."""
        system = value.get("system", value.get("instructions"))
        config = value.get("config")
        if isinstance(config, dict):  # Gemini
            system = config.get("system_instruction", system)
        if system:
            yield from self.message({"role": "system", "content": system}, "system")
        if isinstance(value.get("prompt"), str):
            yield from self.message({"role": "user", "content": value["prompt"]}, "user")
        for key in _BATCHED & value.keys():
            if isinstance(value[key], list):
                yield from self.parse(value[key], role)
                return
        if {"role", "parts", "kwargs", "data", "tool_calls", "message"} & value.keys() or "content" in value:
            yield from self.message(value, role)
        elif isinstance(value.get("toolCalls"), list) or isinstance(value.get("text"), str):  # Mastra
            said = {"role": role, "content": value.get("text", "")}
            calls = value.get("toolCalls")
            yield from self.message({**said, "tool_calls": calls} if calls else said, role)
        elif isinstance(value.get("output"), dict | list):
            yield from self.parse(value["output"], role)
        elif isinstance(value.get("inputs"), dict):
            yield from self._envelope(value["inputs"], role)
        elif isinstance(value.get("outputs"), dict):
            yield from self._envelope(value["outputs"], role)

    def message(self, item: Mapping[str, Any], role: str) -> tuple[Turn, ...]:
        """The turns of one message."""
        fingerprint = (role, canonical(item))
        turns = self._known.get(fingerprint)
        if turns is None:
            turns = tuple(self._message(item, role))
            if fingerprint[1]:
                self._known[fingerprint] = turns
        return turns

    def _family(self, group: list[tuple[str, str]], role: str) -> tuple[Turn, ...]:
        fingerprint = (role, tuple(group))
        turns = self._known.get(fingerprint)
        if turns is None:
            turns = self._known[fingerprint] = tuple(self._message(_unflatten(group), role))
        return turns

    def events(self, events: Iterable[SpanEvent]) -> tuple[list[Turn], list[Turn]]:
        """Input and output messages out of the message events of spans and logs, and of `operation.details`."""
        inputs: list[Turn] = []
        outputs: list[Turn] = []
        said = mapping().events.messages
        for event in events:
            attributes = event.attributes
            if role := _MESSAGE_EVENTS.get(event.name):
                item: dict[str, Any] = {**attributes, "role": role}
                if "tool_calls" in item:
                    item["tool_calls"] = decode(item["tool_calls"])
                if item.get("content", "")[:1] == "[":
                    item["content"] = _decoded(item["content"])
                if role == "tool":
                    item["tool_call_id"] = attributes.get("id", attributes.get("tool_call_id", ""))
                inputs.extend(self.message(item, role))
            elif event.name == "gen_ai.choice":
                message = decode(attributes.get("message", attributes.get("content", "")))
                item = dict(message) if isinstance(message, dict) else {"content": message}
                item.setdefault("role", "assistant")
                if "tool_calls" in attributes:
                    item["tool_calls"] = decode(attributes["tool_calls"])
                if "finish_reason" in attributes:
                    item["finish_reason"] = attributes["finish_reason"]
                outputs.extend(self.message(item, "assistant"))
            elif event.name == "gen_ai.client.inference.operation.details":
                inputs.extend(self.parse(attributes.get("gen_ai.system_instructions"), "system"))
                inputs.extend(self.parse(attributes.get("gen_ai.input.messages"), "user"))
                outputs.extend(self.parse(attributes.get("gen_ai.output.messages"), "assistant"))
            elif rule := said.get(event.name):
                text = next((attributes[key] for key in rule.text if attributes.get(key)), "")
                if text and text not in REDACTED:
                    turns = self.message({"role": rule.role, "content": text}, rule.role)
                    (outputs if rule.role == "assistant" else inputs).extend(turns)
        return inputs, outputs

    def _message(self, item: Mapping[str, Any], default_role: str) -> Iterator[Turn]:
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
        if isinstance(wrapped, dict) and wrapped.get("lc") == 1 and isinstance(wrapped.get("kwargs"), dict):
            wrapped = wrapped["kwargs"]
        if parts is None and isinstance(item.get("content"), dict) and "parts" in item["content"]:  # Gemini candidate
            wrapped = item["content"]
        if isinstance(wrapped, dict) and ("content" in wrapped or "parts" in wrapped or "tool_calls" in wrapped):
            details = item.get("generation_info")
            finish = item.get("finish_reason") or (details.get("finish_reason") if isinstance(details, dict) else None)
            item = {
                **wrapped,
                "role": wrapped.get("role", item.get("role", wrapped.get("type", item.get("type")))),
                "finish_reason": wrapped.get("finish_reason", finish),
            }
        role = str(item.get("role") or item.get("type") or default_role)
        role = role.removeprefix("MessageRole.").lower() if role.startswith("MessageRole.") else role
        role = _ROLES.get(role, role)
        if role not in ("system", "user", "assistant", "tool"):
            role = default_role
        texts: list[str] = []
        requests: list[Request] = []
        answers: list[Turn] = []
        approvals: list[Approval] = []
        parts = item.get("parts", item.get("content"))
        for part in parts if isinstance(parts, list) else [parts]:
            if (
                answers and requests and _says(part)
            ):  # a whole run in one message: what follows a result is another turn
                yield Turn(role, "\n".join(texts), tuple(requests), approvals=tuple(approvals))
                yield from answers
                texts, requests, answers, approvals = [], [], [], []
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, dict):
                self._part(part, texts, requests, answers, approvals)
        calls = decode(item["tool_calls"]) if "tool_calls" in item else None
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict) and (request := _request(call)):
                known = any(request.id and request.id == r.id for r in requests)  # Anthropic through LangChain
                requests += [] if known else [request]
        text = "\n".join(t for t in texts if t and t not in REDACTED)
        finish = item.get("finish_reason")
        if finish == "interrupt":  # Strands: the ids of the calls that wait stand in the text
            approvals += [_waits(call_id) for call_id in INTERRUPTED.findall(text)]
        refusal = item.get("refusal")
        if isinstance(refusal, str) and refusal and not text:
            text, finish = refusal, "refusal"
        if role == "tool" and not answers and not requests and not approvals:
            value = unwrap_result(text)
            yield Turn(
                "tool",
                value.text,
                answers=call_id_of(item.get("tool_call_id")) or value.call_id,
                answers_name=str(item.get("name") or ""),
                failed=value.failed or bool(item.get("error")) or item.get("status") == "error",
                empty=item.get("content") == "",
                denied=len(text) < 200 and _denies(decode(text)),
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

    def _part(
        self,
        part: Mapping[str, Any],
        texts: list[str],
        requests: list[Request],
        answers: list[Turn],
        approvals: list[Approval],
    ) -> None:
        part = _plain_part(part)
        kind = part.get("type")
        if kind is not None and not isinstance(kind, str):
            return
        if kind in _TEXT_PARTS:
            text = part.get("content", part.get("text", part.get("refusal")))
            if isinstance(text, str):
                texts.append(text)
        elif kind in _CALL_PARTS:
            if request := _request(part):
                requests.append(request)
        elif kind in _RESULT_PARTS:
            answers.append(_result(part))
        elif kind == "server_tool_call":
            details = part.get("server_tool_call")
            name = part.get("name")
            if isinstance(name, str) and name:
                requests.append(Request(call_id_of(part.get("id")), name, decode(details), provider=True))
        elif kind == "server_tool_call_response":
            text = text_of(part.get("server_tool_call_response"))
            answers.append(Turn("tool", text, answers=call_id_of(part.get("id")), provider=True))
        elif kind in ("function_approval_request", "function_approval_response"):
            call = part.get("function_call")
            call = call if isinstance(call, dict) else {}
            approved = part.get("approved") if kind == "function_approval_response" else None
            call_id = call_id_of(call.get("call_id", call.get("id")))
            decided = _decided(approved, call_id, str(call.get("name") or ""))
            asked = decode(call.get("arguments"))
            approvals.append(
                replace(decided, arguments_hash=arguments_hash(asked)) if isinstance(asked, dict) else decided
            )
        elif kind in ("tool-approval-request", "tool_approval_request"):
            call_id = call_id_of(part.get("toolCallId", part.get("tool_call_id")))
            approval_id = call_id_of(part.get("approvalId", part.get("approval_id")))
            if approval_id and call_id:
                self.approval_calls[approval_id] = call_id
            if call_id:
                approvals.append(_waits(call_id))
        elif kind in ("tool-approval-response", "tool_approval_response"):
            approval_id = call_id_of(part.get("approvalId", part.get("approval_id")))
            if approval_id and isinstance(part.get("approved"), bool):
                approvals.append(_decided(part["approved"], approval_id, ""))


def _decoded(text: str) -> object:
    """Content blocks that were sent as text. A text may be anybody's, so what it says of approvals is left out."""
    value = decode(text)
    if not isinstance(value, list):
        return value
    return [part for part in value if not (isinstance(part, dict) and "approval" in str(part.get("type", "")))]


def _says(part: object) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") in _TEXT_PARTS and "type" in part)


def _is_part(item: Mapping[str, Any]) -> bool:
    """Whether an element of a list is a piece of a message and no message."""
    if "role" in item or "generation_info" in item or item.get("lc") == 1 or "data" in item or "tool_call_id" in item:
        return False
    kind = item.get("type")
    return "type" in item and (kind is None or isinstance(kind, str)) and kind in _PARTS


def _plain_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part whose kind is said by a key (Bedrock, Gemini) as one whose kind is said by `type`."""
    if "type" in part:
        return part
    for key, kind in _KEYED_PARTS.items():
        inner = part.get(key)
        if isinstance(inner, dict):
            found = {**inner, "type": kind, "is_error": inner.get("status") == "error"}
            found["id"] = inner.get("toolUseId", inner.get("id"))
            return found
    return part


_KEYED_PARTS = {
    "toolUse": "tool_use",
    "toolResult": "tool_result",
    "function_call": "function_call",
    "functionCall": "function_call",
    "function_response": "function_call_output",
    "functionResponse": "function_call_output",
}


def _request(part: Mapping[str, Any]) -> Request | None:
    """A tool call as part of a message, or as an element of its `tool_calls`."""
    function = part.get("function")
    source = function if isinstance(function, dict) else part
    name = source.get("name", source.get("toolName"))
    if not isinstance(name, str) or not name:
        return None
    name = name.strip("'\"")  # CrewAI quotes both
    arguments = next((source[k] for k in ("arguments", "args", "input") if source.get(k) is not None), None)
    if isinstance(arguments, str) and arguments[:2] == "'{" and arguments[-2:] == "}'":
        arguments = arguments[1:-1]
    provider = part.get("builtin") is True or part.get("providerExecuted") is True
    return Request(_part_id(part), name, decode(arguments), provider)


def _part_id(part: Mapping[str, Any]) -> str:
    return call_id_of(
        part.get("id")
        or part.get("tool_use_id")
        or part.get("call_id")
        or part.get("toolCallId")
        or part.get("tool_call_id")
    )


def _result(part: Mapping[str, Any]) -> Turn:
    raw = part.get("response")
    if raw is None:
        raw = next((part[k] for k in ("result", "content", "output", "error") if part.get(k) is not None), None)
    failed = part.get("is_error") is True or part.get("isError") is True or part.get("type") == "tool-error"
    denied = _denies(raw)
    if isinstance(raw, dict) and isinstance(raw.get("type"), str) and raw.keys() <= {"type", "value", "reason"}:
        failed = failed or raw["type"].startswith("error")
        raw = raw.get("value", raw.get("reason", ""))
    value = unwrap_result(raw)
    return Turn(
        "tool",
        value.text,
        answers=_part_id(part),
        answers_name=str(part.get("name") or part.get("toolName") or ""),
        failed=value.failed or failed,
        empty=raw == "",
        provider=part.get("builtin") is True,
        denied=denied,
    )


def _denies(raw: object) -> bool:
    """Whether a result says, in the words of the Vercel AI SDK, that the call was not allowed."""
    return isinstance(raw, dict) and (raw == {"denied": True} or raw.get("type") == "execution-denied")


def _waits(call_id: str) -> Approval:
    return Approval("require_approval", 0, call_id=call_id, evidence="framework_structure")


def _decided(approved: object, call_id: str, tool_name: str) -> Approval:
    """A person's decision in a message; None: it is asked for."""
    outcome = "require_approval" if approved is None else "allow" if approved is True else "deny"
    mechanism = "unknown" if approved is None else "human"
    return Approval(
        outcome, 0, mechanism=mechanism, call_id=call_id, tool_name=tool_name, evidence="framework_structure"
    )


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
        elif rest in ("prompt.text", "completion.text", "content.0"):
            item["content"] = value
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
    elif isinstance(item.get("content"), str) and item["content"][:2] == "[{":
        item["content"] = _decoded(item["content"])  # Traceloop: content blocks as JSON
    return item


# --- why a model stopped --------------------------------------------------------------------------------------------


class Finish(NamedTuple):
    """Why a model stopped."""

    raw: str
    """As the provider wrote it."""
    canonical: str
    """`stop`, `length`, `content_filter`, `tool_call`, `paused`, `compaction`, `error`, or the raw word."""


@cache
def _finish_words() -> dict[str, str]:
    return {word: kind for kind, words in mapping().finish_reasons.values.items() for word in words}


def finish_kind(raw: str) -> str:
    """What a provider's reason for stopping means; the word itself when it is not known."""
    word = raw.rsplit(".", 1)[-1].lower()  # FinishReason.STOP
    return _finish_words().get(word, word)


def finish_reasons(span: Span) -> tuple[Finish, ...]:
    """Why the model stopped, from the first attribute that says so."""
    for key in mapping().finish_reasons.keys:
        value = decode(span.attributes.get(key) or None)
        items = value if isinstance(value, list) else [value]
        if found := tuple(Finish(v, finish_kind(v)) for v in items if isinstance(v, str) and v):
            return found
    return ()


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
    return not models or any(not given or any(r.canonical == "tool_call" for r in given) for given in reasons)


def speaks(span: Span) -> bool:
    """Whether a span may hold messages."""
    return span.kind in (SpanKind.LLM, SpanKind.AGENT)


def said_by(turns: Sequence[Turn], role: str) -> Turn | None:
    """The last turn of a role that holds text."""
    return next((turn for turn in reversed(turns) if turn.role == role and turn.text), None)
