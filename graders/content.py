"""Reads what one span says: tool arguments and results, documents, offered tools.

Where each piece stands is data (`content` in store/dialects.yaml). Everything here takes text of unknown origin: JSON
is decoded leniently, wrappers that frameworks put around values are removed, and nothing raises on any input. Messages are
`graders.messages`; joining what several spans say is the assembler's business.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson

from store.dialects import mapping
from store.types import ContentState, Document, Span, SpanEvent, ToolDefinition

REDACTED = frozenset(
    {"<REDACTED>", "__REDACTED__", "[REDACTED]", "REDACTED", "<redacted>", "<redacted by configuration>"}
)

Families = dict[str, dict[int, list[tuple[str, str]]]]
"""The indexed attributes of a span: prefix, then index, then (rest of the key, value)."""

_NO_ID = frozenset({"", "<not specified>", "None", "null"})
_JSON_HEADS = frozenset('{["')
_MAX_DECODES = 2
_MAX_WRAPPERS = 6
_REPR_CALL_ID = re.compile(r"\btool_call_id='([^']{1,200})'")


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
def family_of(key: str) -> tuple[str, int, str] | None:
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


def literal(value: object) -> object:
    """`value`, or the object it holds if it is one as Python writes it: some senders use `str` where JSON belongs."""
    if not isinstance(value, str) or not value.startswith(_PYTHON_HEADS) or len(value) > _MAX_LITERAL:
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


_PYTHON_HEADS = ("{'", "[{'")
_MAX_LITERAL = 20_000


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
    state = _state(span, "tool_arguments", raw)
    if state not in (ContentState.PRESENT, ContentState.TRUNCATED):
        return Value(state=state)
    value, call_id = literal(decode(raw)), ""
    if isinstance(value, dict):
        value, call_id = _unwrap_arguments(value)
    return Value(value, raw if isinstance(value, str) else canonical(value), state, call_id)


def _unwrap_arguments(value: dict[str, Any]) -> tuple[object, str]:
    if value.get("type") == "tool_call" and isinstance(value.get("args"), dict):  # LangChain ToolCall
        return value["args"], call_id_of(value.get("id"))
    if "kwargs" in value and "args" in value and "sanitize_inputs_outputs" in value:  # smolagents
        positional = value["args"]
        named = value["kwargs"] if isinstance(value["kwargs"], dict) else {}
        return ({**named, "args": positional} if positional else named), ""
    if "inputs" in value and ("input_str" in value or "kwargs" in value):  # Traceloop
        kwargs = value.get("kwargs")
        call_id = call_id_of(kwargs.get("tool_call_id")) if isinstance(kwargs, dict) else ""
        return value["inputs"], call_id
    if value.keys() == {"kwargs"} or (value.keys() == {"args", "kwargs"} and not value["args"]):  # LlamaIndex
        return value["kwargs"], ""
    if isinstance(value.get("args"), dict) and "callId" in value:  # Gemini CLI
        return value["args"], call_id_of(value["callId"])
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
    state = _state(span, "tool_result", raw)
    return unwrap_result(raw) if state in (ContentState.PRESENT, ContentState.TRUNCATED) else Value(state=state)


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
            call_id = call_id_of(value["tool_call_id"]) or call_id
            failed = failed or value.get("status") == "error"
            inner = value["content"]
        elif value.get("type") == "tool" and isinstance(value.get("data"), dict):
            inner = value["data"]
        elif value.get("lc") == 1 and isinstance(value.get("kwargs"), dict):
            inner = value["kwargs"]
        elif "output" in value and value.keys() <= {"output", "kwargs", "tags", "metadata"}:  # Traceloop
            inner = value["output"]
        elif value.keys() == {"id", "name", "response"}:  # Gemini's function response
            inner = value["response"]
        elif "responseParts" in value or isinstance(value.get("response"), dict):  # Gemini CLI
            parts = value.get("responseParts", value.get("response"))
            inner = parts[0] if isinstance(parts, list) and len(parts) == 1 else parts
        elif value.keys() == {"type", "value"} and value["type"] in (
            "json",
            "text",
            "error-text",
            "error-json",
        ):  # AI SDK
            failed = failed or str(value["type"]).startswith("error")
            inner = value["value"]
        elif "raw_output" in value and "blocks" in value:  # LlamaIndex
            failed = failed or value.get("is_error") is True
            inner = value["raw_output"]
        elif value.keys() == {"functionResponse"}:
            inner = value["functionResponse"]
        elif value.keys() == {"result"}:  # ADK, for results that are not objects
            inner = value["result"]
        elif isinstance(value.get("content"), list) and value.keys() <= _MCP_KEYS:
            failed = failed or value.get("isError") is True
            inner = text_of(value["content"])
        else:
            break
        value, wrapped = decode(inner) if isinstance(inner, str) and inner[:1] in ("{", "[") else inner, True
    if isinstance(value, str) and value.startswith(_FRAMES) and (match := _FRAMED.match(value)):
        value, wrapped = decode(match[1] or match[2] or ""), True
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and value[0].keys() == {"json"}:
        value, wrapped = value[0]["json"], True  # Bedrock
    if isinstance(value, list) and value and all(isinstance(v, dict) and v.keys() <= _TEXT_BLOCK for v in value):
        value, wrapped = text_of(value), True
    if isinstance(raw, str) and value is raw and raw.startswith("content="):
        match = _REPR_CALL_ID.search(raw)
        call_id = match[1] if match else ""
        if (quoted := _REPR_CONTENT.match(raw)) and isinstance(inner := _unquoted(quoted[1]), str):
            value, wrapped = inner, True
    text = raw if isinstance(raw, str) and not wrapped and not isinstance(value, str) else text_of(value)
    return Value(value, text, state, call_id, failed)


_FRAMES = ("<untrusted_context>", "Wall time: ")
_FRAMED = re.compile(
    r"<untrusted_context>\s*(.*?)\s*</untrusted_context>\Z|Wall time: [^\n]*\n(?:[^\n]+\n)?Output:\n(.*)\Z", re.DOTALL
)
"""What Gemini CLI and Codex put around a result."""
_WRAPPER_HEADS = ("{", '"', '[{"t', '[{ "t', '[{"json"', "content=", *_FRAMES)
_TEXT_BLOCK = frozenset({"text", "type"})
_MCP_KEYS = frozenset({"content", "isError", "structuredContent", "_meta", "meta", "is_error"})


_PROSE = re.compile(r"\[[\w.:#-]{1,60}\]")
"""`[1] A passage` and `[doc-7] another` begin like JSON, and are not."""


_REPR_CONTENT = re.compile(r"content=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?= \w+=|\Z)", re.DOTALL)


def _unquoted(text: str) -> object:
    try:
        return ast.literal_eval(text) if len(text) <= _MAX_LITERAL else None
    except (ValueError, SyntaxError):
        return None


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


def _state(span: Span, content: str, raw: object) -> ContentState:
    placeholders = mapping().placeholders
    if raw in placeholders.values():
        key = next((k for k in content_keys()[content] if span.attributes.get(k)), "")
        if placeholders.get(key) == raw:
            return ContentState.ABSENT
    return state_of(raw)


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


def call_id_of(value: object) -> str:
    """An id out of anything; empty when it is none."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    return "" if text in _NO_ID else text


# --- documents and definitions --------------------------------------------------------------------------------------


def documents(span: Span, families: Families) -> list[Document]:
    """The passages a retrieval or reranking span returned; what the best source leaves out is filled from the others."""
    found: list[Document] = []
    for key in content_keys()["documents"]:
        if key.endswith("."):
            group = families.get(key) or {}
            items: list[dict[str, Any]] = [
                {k.removeprefix("document."): v for k, v in group[index]} for index in sorted(group)
            ]
        else:
            items = _document_list(decode(span.attributes.get(key)))
        other = [_document(item, span.span_id) for item in items]
        if not found:
            found = other
        elif len(other) == len(found):
            found = [_filled(document, more) for document, more in zip(found, other, strict=True)]
    return found


def tool_documents(value: object, span_id: str) -> list[Document]:
    """The passages in the result of a tool that retrieves."""
    items = _document_list(value)
    fits = all(_PASSAGE & item.keys() and _ORIGIN & item.keys() for item in items)
    return [_document(item, span_id) for item in items] if fits else []


_PASSAGE = frozenset({"content", "text", "page_content"})
_ORIGIN = frozenset({"id", "score", "source", "url", "uri", "title", "metadata"})


def _filled(document: Document, other: Document) -> Document:
    return Document(
        document.id or other.id,
        document.text or other.text,
        document.span_id,
        other.score if document.score is None else document.score,
        document.source or other.source,
    )


def _document_list(value: object) -> list[dict[str, Any]]:
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(value, dict):
            break
        value = next((value[k] for k in ("documents", "output", "outputs", "results") if k in value), None)
        value = decode(value)
    items = [_serialised(item) for item in value] if isinstance(value, list) else []
    return [item for item in items if item]


def _serialised(item: object) -> dict[str, Any]:
    """A document as it is, or out of LangChain's serialisation."""
    if not isinstance(item, dict):
        return {}
    inner = item.get("kwargs") if item.get("lc") == 1 else item.get("document")
    return {**inner, **{k: v for k, v in item.items() if k == "score"}} if isinstance(inner, dict) else item


def _document(item: Mapping[str, Any], span_id: str) -> Document:
    metadata = decode(item.get("metadata"))
    details: Mapping[str, Any] = metadata if isinstance(metadata, dict) else {}
    text = text_of(next((item[k] for k in ("content", "text", "page_content") if item.get(k)), ""))
    sources = (item.get(k) or details.get(k) for k in ("source", "url", "uri", "title", "name"))
    return Document(
        id=call_id_of(item.get("id")) or call_id_of(details.get("id")),
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


def listed(span: Span) -> tuple[ToolDefinition, ...]:
    """The tools an MCP server said it has, where the span of that request holds the answer."""
    asked = span.attributes.get("mcp.method.name", span.name)
    raw = first(span.attributes, "tool_result") if asked.startswith("tools/list") else None
    return _definitions(raw) if raw else ()


# Every call of an agent offers the same tools, in trace after trace.
@lru_cache(maxsize=256)
def _definitions(raw: str) -> tuple[ToolDefinition, ...]:
    value = decode(raw)
    if isinstance(value, dict):  # Gemini's request, Pydantic AI's parameters
        config = value.get("config")
        value = (
            config.get("tools") if isinstance(config, dict) else value.get("function_tools", value.get("tools", value))
        )
    items = [decode(item) for item in value] if isinstance(value, list) else [value]
    found = [d for item in items if isinstance(item, dict) for d in _declared(item)]
    found += [ToolDefinition(item) for item in items if isinstance(item, str) and item]
    return tuple(found)


def _declared(item: Mapping[str, Any]) -> Iterator[ToolDefinition]:
    """The tools of one element: itself, or those it declares (Gemini)."""
    if isinstance(item.get("toolSpec"), dict):
        item = item["toolSpec"]
    declarations = item.get("function_declarations", item.get("functionDeclarations"))
    for declared in declarations if isinstance(declarations, list) else [item]:
        if isinstance(declared, dict) and (definition := _definition(declared)):
            yield definition


@lru_cache(maxsize=256)
def _flat_definitions(groups: tuple[tuple[tuple[str, str], ...], ...]) -> tuple[ToolDefinition, ...]:
    found: list[ToolDefinition] = []
    for group in groups:
        flat = {key.removeprefix("tool."): value for key, value in group}
        schema = decode(flat.get("json_schema"))
        found += _declared(schema if isinstance(schema, dict) else flat)
    return tuple(found)


_SCHEMAS = (
    "parameters", "input_schema", "inputSchema", "parameters_json_schema", "parametersJsonSchema", "json_schema",
)  # fmt: skip


def _definition(item: Mapping[str, Any]) -> ToolDefinition | None:
    function = item.get("function")
    source = function if isinstance(function, dict) else item
    name = source.get("name")
    if not isinstance(name, str) or not name:
        return None
    schemas = (decode(source.get(k)) for k in _SCHEMAS)
    schema = next((s for s in schemas if isinstance(s, dict)), None)
    if schema is not None and isinstance(schema.get("json"), dict) and len(schema) == 1:  # Bedrock
        schema = schema["json"]
    said = item.get("annotations", source.get("annotations"))
    hints = {k: v for k, v in said.items() if isinstance(v, bool)} if isinstance(said, dict) else {}
    return ToolDefinition(name, text_of(source.get("description")), schema, hints)
