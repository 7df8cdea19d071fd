"""What may be stored: turns a request body into one validated `Export…ServiceRequest`, or says why not.

Pure: bytes in, bytes out. Promises that everything accepted parses with the OTLP message definitions (well-formed
wire format, UTF-8 text, bounded nesting) and that every attribute value and log body is a scalar, or an array or map of
scalars: what the store's decoder can flatten; and that it does not grow out of proportion there, where each span gets a
row of its own with a copy of its resource and scope. It does not judge content: ids of odd lengths, unknown enum values and
unknown fields are the sender's business and pass; only groups and fields of another wire type than theirs are left out,
which some readers take for the real ones.

Two lanes lead to the same bytes:

    fast    protobuf whose values are at most one level deep is accepted as it came, byte for byte
    slow    OTLP/JSON is translated; a value nested deeper becomes a `string_value` holding JSON text, written as the
            OpenTelemetry Collector's ClickHouse exporter writes it

The fast lane costs one parse without allocating a message a span. Its descriptor is derived from the installed OTLP
definitions with every message field made *singular* and every oneof dissolved: protobuf merges repeated occurrences of
a singular field, so a request of any size folds into one chain of messages, malformed input fails exactly as it would
with the real definitions, and "does any value anywhere hold an array or map below its first level?" is a handful of
presence checks. What lies below that level is only parsed by the slow lane, with the real definitions.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, Literal, get_args

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

MAX_DEPTH: Final = 100
"""Messages inside messages, as upb limits them; JSON is held to the same."""
MAX_UNFOLDED: Final = 2**30
"""Bytes a request may come to as rows."""
_GROWTH: Final = 128
"""How many times its own size a request may come to as rows; real ones stay below 80. It bounds a segment of many requests."""
_GROWTH_ALWAYS: Final = 64 * 2**10
_ROW_BYTES: Final = 1024
"""What a row takes beside its texts."""
MAX_JSON_OBJECTS: Final = 2_000_000
"""Each takes some 300 bytes of memory while it is translated, however short it is written."""


Signal = Literal["traces", "logs"]
"""The two kinds of telemetry that are stored."""

SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)


class Encoding(StrEnum):
    """How a request body, and so its answer, is written."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


class RejectReason(StrEnum):
    """Why a body cannot be stored."""

    MALFORMED_PROTOBUF = "malformed_protobuf"
    MALFORMED_JSON = "malformed_json"
    INVALID_JSON_VALUE = "invalid_json_value"
    TOO_LARGE = "too_large"


class Reject(Exception):
    """The body can never be accepted; the message says what and where."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that may be stored."""

    payload: bytes
    """One serialised `ExportTraceServiceRequest` or `ExportLogsServiceRequest`."""
    count: int
    """Spans or log records in it."""
    rejected: int = 0
    """Spans or log records of the request that are not in it, because JSON gave one of their fields an impossible value."""
    message: str = ""
    """What was wrong with the first of those."""
    resources: bytes = b""
    """The resources in it, one serialised after the other."""


def accept(signal: Signal, encoding: Encoding, body: bytes) -> Accepted:
    """Validate `body`; raises `Reject`. What is wrong with one span or record of a JSON body costs only that one."""
    form = _FORMS[signal]
    if encoding is Encoding.PROTOBUF:
        return _accept_protobuf(form, body)
    reader = _JsonReader(form)
    accepted = _accept_protobuf(form, reader.protobuf(body))
    if not reader.rejects:
        return accepted
    if not accepted.count:
        raise reader.rejects[0]
    return replace(accepted, rejected=len(reader.rejects), message=reader.rejects[0].message)


def accept_traces(body: bytes, encoding: Encoding = Encoding.PROTOBUF) -> Accepted:
    """Validate a trace export request; raises `Reject`."""
    return accept("traces", encoding, body)


def accept_logs(body: bytes, encoding: Encoding = Encoding.PROTOBUF) -> Accepted:
    """Validate a log export request; raises `Reject`."""
    return accept("logs", encoding, body)


# --- the fast lane -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """Everything that differs between the signals."""

    message: Any
    """The real request class."""
    folded: Any
    """The same wire format folded into single messages; see the head of the module."""
    counted: Any
    """The same again, knowing only the items and what they share, which stay opaque."""
    blocks: Any
    """The same as a list of opaque resources."""
    items: Callable[[Any], Any]
    """From a `counted` message to its items."""
    values: tuple[Callable[[Any], Any], ...]
    """From a `folded` message to each place a value can stand."""
    walk: Callable[[Any], Iterator[Any]]
    """From a real message to every value in it."""


def _accept_protobuf(form: _Form, body: bytes) -> Accepted:
    try:
        folded = form.folded.FromString(body)
        strange = _loses_fields(folded) and _is_misspelt(form.folded.FromString(body))
        if strange or any(_is_deep(value(folded)) for value in form.values):
            request = form.message.FromString(body)
            if strange:
                request.DiscardUnknownFields()
            for value in form.walk(request):
                if _is_deep_value(value):
                    value.string_value = as_text(value)
            body = request.SerializeToString()
        counted = form.counted.FromString(body)
        count = len(form.items(counted))
        _check_growth(form, body, counted.resource, count)
    except DecodeError as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise Reject(
            RejectReason.MALFORMED_PROTOBUF,
            f"the body is not a protobuf {form.message.DESCRIPTOR.name}: {reason}",
        ) from None
    return Accepted(body, count, resources=b"".join(counted.resource.heads))


def _check_growth(form: _Form, body: bytes, merged: Any, count: int) -> None:
    """Refuse a body whose rows would be far larger than itself: a large resource over many small spans."""
    allowed = min(MAX_UNFOLDED, _GROWTH_ALWAYS + _GROWTH * len(body))
    if _shared(merged) * count + _ROW_BYTES * count <= allowed:
        return
    unfolded = _ROW_BYTES * count
    for block in form.blocks.FromString(body).resources:
        resource = type(merged).FromString(block)
        unfolded += _shared(resource) * len(resource.scope.items)
    if unfolded > allowed:
        message = (
            f"{count} items of {len(body)} bytes come to {unfolded} with their resources and scopes repeated for each; "
            f"{allowed} are allowed; send fewer together, or smaller resources"
        )
        raise Reject(RejectReason.TOO_LARGE, message)


def _shared(resource: Any) -> int:
    """Bytes that every item below is given a copy of."""
    holders = (resource.heads, resource.urls, resource.scope.heads, resource.scope.urls)
    return sum(len(piece) for pieces in holders for piece in pieces)


def _loses_fields(folded: Any) -> bool:
    """Drop the fields the definitions do not know; whether there were any."""
    size = folded.ByteSize()
    folded.DiscardUnknownFields()
    return bool(folded.ByteSize() != size)


def _is_misspelt(folded: Any) -> bool:
    """Whether a field anywhere is a group, or written as another type than the definitions give it.

    To protobuf such a field is unknown, and no check here sees it; ClickHouse's reader may take it for the real one.
    """
    known = folded.DESCRIPTOR.fields_by_number
    unknown: Any = UnknownFieldSet(folded)
    if any(field.wire_type == _GROUP or field.field_number in known for field in unknown):
        return True
    return any(_is_misspelt(inner) for field, inner in folded.ListFields() if field.message_type is not None)


_GROUP: Final = 3

_inner_of_array = attrgetter("array_value.values")
_inner_of_map = attrgetter("kvlist_value.values.value")


def _is_deep(folded_value: Any) -> bool:
    for inner in (_inner_of_array(folded_value), _inner_of_map(folded_value)):
        if inner.HasField("array_value") or inner.HasField("kvlist_value"):
            return True
    return False


_OPTIONAL: Final = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED: Final = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_BYTES: Final = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_MESSAGE: Final = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_KINDS: Final[Mapping[int, Any]] = {kind: kind for kind in descriptor_pb2.FieldDescriptorProto.Type.values()} | {
    FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32
}
"""Field types of a folded message: enums are open on the wire."""


def _singular(descriptor: Descriptor, package: str) -> Any:
    """The class of `descriptor` folded: all fields singular, no oneof, values opaque from the second level on."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="editions", edition=descriptor_pb2.EDITION_2023
    )
    done: set[str] = set()

    def add(source: Descriptor, level: int) -> str:
        name = f"{source.full_name.replace('.', '_')}_{level}"
        if name in done:
            return name
        done.add(name)
        target = file.message_type.add(name=name)
        for field in source.fields:
            folded = target.field.add(name=field.name, number=field.number, label=_OPTIONAL, type=_KINDS[field.type])
            if field.message_type is None:
                continue
            if source is AnyValue.DESCRIPTOR and level == 2:
                folded.type = _BYTES
            else:
                inside = level + (field.message_type is AnyValue.DESCRIPTOR)
                folded.type_name = f".{package}.{add(field.message_type, inside)}"
        return name

    return _message_class(file, add(descriptor, 0))


def _opaque_items(package: str) -> Any:
    """A class that keeps the items of a request as uninterpreted bytes: counting costs one copy, no decoding.

    Requests, resources and scopes nest alike in both signals: 1, then 2, then 2.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    scope, resource, request = (file.message_type.add(name=name) for name in ("Scope", "Resource", "Request"))
    scope.field.add(name="items", number=2, label=_REPEATED, type=_BYTES)
    for holder in (scope, resource):
        holder.field.add(name="heads", number=1, label=_REPEATED, type=_BYTES)
        holder.field.add(name="urls", number=3, label=_REPEATED, type=_BYTES)
    resource.field.add(name="scope", number=2, label=_OPTIONAL, type=_MESSAGE, type_name=f".{package}.Scope")
    request.field.add(name="resource", number=1, label=_OPTIONAL, type=_MESSAGE, type_name=f".{package}.Resource")
    return _message_class(file, "Request")


def _opaque_resources(package: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    file.message_type.add(name="Request").field.add(name="resources", number=1, label=_REPEATED, type=_BYTES)
    return _message_class(file, "Request")


def _message_class(file: descriptor_pb2.FileDescriptorProto, name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))


# --- the slow lane: deep values ----------------------------------------------------------------------------------


def as_text(value: Any) -> str:
    """An array or map as compact JSON: keys sorted, the last of equal keys, bytes in base64, NaN and Infinity quoted.

    The one difference from the exporter: `<`, `>` and `&` stay readable instead of becoming `\\u003c`.
    """
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return orjson.dumps(value.string_value).decode()
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "int_value":
        return str(value.int_value)
    if kind == "double_value":
        return _double_text(value.double_value)
    if kind == "bytes_value":
        return f'"{base64.b64encode(value.bytes_value).decode()}"'
    if kind == "array_value":
        return f"[{','.join(as_text(item) for item in value.array_value.values)}]"
    if kind == "kvlist_value":
        last = {pair.key: pair.value for pair in value.kvlist_value.values}
        return f"{{{','.join(f'{orjson.dumps(key).decode()}:{as_text(last[key])}' for key in sorted(last))}}}"
    return "null"


def _double_text(number: float) -> str:
    """As ECMAScript and Go write it: no exponent from 1e-6 up to 1e21, none padded."""
    if math.isnan(number):
        return '"NaN"'
    if math.isinf(number):
        return '"Infinity"' if number > 0 else '"-Infinity"'
    shortest = repr(number)
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        return format(Decimal(shortest), "f").removesuffix(".0")
    return shortest.replace("e-0", "e-")


def _is_deep_value(value: Any) -> bool:
    if value.HasField("array_value"):
        return any(_is_container(item) for item in value.array_value.values)
    if value.HasField("kvlist_value"):
        return any(_is_container(pair.value) for pair in value.kvlist_value.values)
    return False


def _is_container(value: Any) -> bool:
    return bool(value.HasField("array_value") or value.HasField("kvlist_value"))


def _span_values(request: Any) -> Iterator[Any]:
    for resource in request.resource_spans:
        yield from (pair.value for pair in resource.resource.attributes)
        for scope in resource.scope_spans:
            yield from (pair.value for pair in scope.scope.attributes)
            for span in scope.spans:
                for holder in (span, *span.events, *span.links):
                    yield from (pair.value for pair in holder.attributes)


def _log_values(request: Any) -> Iterator[Any]:
    for resource in request.resource_logs:
        yield from (pair.value for pair in resource.resource.attributes)
        for scope in resource.scope_logs:
            yield from (pair.value for pair in scope.scope.attributes)
            for record in scope.log_records:
                yield record.body
                yield from (pair.value for pair in record.attributes)


# --- the slow lane: JSON -----------------------------------------------------------------------------------------

_HEX_FIELDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})

_ITEMS: Final = frozenset(
    (
        ScopeSpans.DESCRIPTOR.fields_by_name["spans"].full_name,
        ScopeLogs.DESCRIPTOR.fields_by_name["log_records"].full_name,
    )
)
"""Where one bad entry does not cost the others."""

_ALIASES: Final[Mapping[str, str]] = {
    "batches": "resourceSpans",
    "instrumentationLibrarySpans": "scopeSpans",
    "instrumentationLibraryLogs": "scopeLogs",
    "instrumentationLibrary": "scope",
}
"""Names in files written by Tempo and by OTLP before 0.19."""

_INTEGER_RANGES: Final[Mapping[int, tuple[int, int]]] = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


class _JsonReader:
    """Reads one body; `rejects` says which spans or records were left out."""

    def __init__(self, form: _Form) -> None:
        self._form = form
        self.rejects: list[Reject] = []

    def protobuf(self, body: bytes) -> bytes:
        """The body as protobuf; raises `Reject`.

        Several requests, one a line, are one request: so the Collector's `file` exporter writes them, and serialised
        messages written one after the other are their union.
        """
        objects = body.count(b"{")
        if objects > MAX_JSON_OBJECTS:
            message = f"the body holds {objects} objects, and may hold {MAX_JSON_OBJECTS}; send fewer spans or records together"
            raise Reject(RejectReason.TOO_LARGE, message)
        message = self._form.message
        requests = (
            message(**self._object(message.DESCRIPTOR, document, where, 1)) for where, document in _documents(body)
        )
        return b"".join(request.SerializeToString() for request in requests)

    def _object(self, descriptor: Descriptor, document: Any, where: str, depth: int) -> dict[str, Any]:
        """The constructor arguments of a `descriptor` message; unknown fields are ignored, null means absent."""
        if not isinstance(document, dict):
            raise _invalid(where, "an object", document)
        if depth > MAX_DEPTH:
            raise Reject(RejectReason.INVALID_JSON_VALUE, f"{where[:100]}…: nested more than {MAX_DEPTH} messages deep")
        fields = _JSON_FIELDS[descriptor.full_name]
        result: dict[str, Any] = {}
        for name, value in document.items():
            field = fields.get(name)
            if field is None or value is None:
                continue
            here = f"{where}.{name}" if where else name
            if not field.is_repeated:
                result[field.name] = self._value(field, value, here, depth)
            elif not isinstance(value, list):
                raise _invalid(here, "an array", value)
            elif field.full_name in _ITEMS:
                result[field.name] = list(self._items(field, value, here, depth))
            else:
                result[field.name] = [self._value(field, item, f"{here}[{i}]", depth) for i, item in enumerate(value)]
        if descriptor is AnyValue.DESCRIPTOR and len(result) > 1:
            raise Reject(
                RejectReason.INVALID_JSON_VALUE, f"{where}: one value expected, got {', '.join(sorted(result))}"
            )
        return result

    def _items(self, field: FieldDescriptor, values: list[Any], where: str, depth: int) -> Iterator[Any]:
        for i, item in enumerate(values):
            try:
                yield self._value(field, item, f"{where}[{i}]", depth)
            except Reject as reject:
                self.rejects.append(reject)

    def _value(self, field: FieldDescriptor, value: Any, where: str, depth: int) -> Any:
        kind = field.type
        if field.message_type is not None:
            return self._object(field.message_type, value, where, depth + 1)
        if kind == FieldDescriptor.TYPE_STRING:
            if not isinstance(value, str):
                raise _invalid(where, "a string", value)
            return value
        if kind == FieldDescriptor.TYPE_BYTES:
            return _bytes(field, value, where)
        if kind == FieldDescriptor.TYPE_BOOL:
            if not isinstance(value, bool):
                raise _invalid(where, "true or false", value)
            return value
        if kind == FieldDescriptor.TYPE_DOUBLE:
            return _double(value, where)
        if field.enum_type is not None:
            return _enum(field.enum_type, value, where)
        return _integer(value, where, *_INTEGER_RANGES[kind])


def _documents(body: bytes) -> Iterator[tuple[str, Any]]:
    """The JSON document in `body`, or one a line; with each, what its places are called after."""
    try:
        yield "", orjson.loads(body)
        return
    except orjson.JSONDecodeError as error:
        lines = body.split(b"\n")
        if sum(map(bool, map(bytes.strip, lines))) < 2:
            raise Reject(RejectReason.MALFORMED_JSON, f"the body is not JSON: {error}") from None
        whole = error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise Reject(
                RejectReason.MALFORMED_JSON, f"the body is not JSON: {whole}; nor is its line {number}: {error}"
            ) from None


def _bytes(field: FieldDescriptor, value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise _invalid(where, "a string", value)
    try:
        if field.name in _HEX_FIELDS:
            return binascii.unhexlify(value)
        text = value.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise _invalid(where, "hex digits" if field.name in _HEX_FIELDS else "base64", value) from None


def _double(value: Any, where: str) -> float:
    """Protobuf's JSON form has only these three words for what JSON cannot write."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise _invalid(where, "a number", value) from None
        if math.isfinite(number) or value in ("NaN", "Infinity", "-Infinity"):
            return number
    raise _invalid(where, "a number", value)


def _enum(enum: EnumDescriptor, value: Any, where: str) -> int:
    """OTLP wants numbers; names are accepted because real senders write them."""
    names = enum.values_by_name
    if isinstance(value, str) and value in names:
        return int(names[value].number)
    if isinstance(value, str) and not value.lstrip("-").isdecimal():
        raise _invalid(where, f"a number or one of {', '.join(names)}", value)
    return _integer(value, where, *_INTEGER_RANGES[FieldDescriptor.TYPE_INT32])


def _integer(value: Any, where: str, low: int, high: int) -> int:
    number: int | None = None
    whole = isinstance(value, int) and not isinstance(value, bool)
    digits = isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdecimal()
    if whole or digits or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    if number is None or not low <= number <= high:
        raise _invalid(where, f"an integer from {low} to {high}", value)
    return number


def _invalid(where: str, wanted: str, value: Any) -> Reject:
    shown = "an object" if isinstance(value, dict) else "an array" if isinstance(value, list) else repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    return Reject(RejectReason.INVALID_JSON_VALUE, f"{where or 'the document'}: expected {wanted}, got {shown}")


def _json_fields(root: Descriptor) -> dict[str, dict[str, FieldDescriptor]]:
    """For each message below `root`, its fields by the name JSON gives them."""
    found: dict[str, dict[str, FieldDescriptor]] = {}
    queue = [root]
    while queue:
        message = queue.pop()
        if message.full_name in found:
            continue
        by_name = {field.camelcase_name: field for field in message.fields}
        by_name |= {alias: by_name[name] for alias, name in _ALIASES.items() if name in by_name}
        found[message.full_name] = by_name
        queue += [field.message_type for field in message.fields if field.message_type is not None]
    return found


def _form(message: Any, prefix: str, places: tuple[str, ...], walk: Callable[[Any], Iterator[Any]]) -> _Form:
    return _Form(
        message=message,
        folded=_singular(message.DESCRIPTOR, f"tracegrade.folded.{prefix}"),
        counted=_opaque_items(f"tracegrade.counted.{prefix}"),
        blocks=_opaque_resources(f"tracegrade.blocks.{prefix}"),
        items=attrgetter("resource.scope.items"),
        values=tuple(map(attrgetter, places)),
        walk=walk,
    )


_JSON_FIELDS: Final = _json_fields(ExportTraceServiceRequest.DESCRIPTOR) | _json_fields(
    ExportLogsServiceRequest.DESCRIPTOR
)

_FORMS: Final[Mapping[Signal, _Form]] = {
    "traces": _form(
        ExportTraceServiceRequest,
        "traces",
        (
            "resource_spans.resource.attributes.value",
            "resource_spans.scope_spans.scope.attributes.value",
            "resource_spans.scope_spans.spans.attributes.value",
            "resource_spans.scope_spans.spans.events.attributes.value",
            "resource_spans.scope_spans.spans.links.attributes.value",
        ),
        _span_values,
    ),
    "logs": _form(
        ExportLogsServiceRequest,
        "logs",
        (
            "resource_logs.resource.attributes.value",
            "resource_logs.scope_logs.scope.attributes.value",
            "resource_logs.scope_logs.log_records.attributes.value",
            "resource_logs.scope_logs.log_records.body",
        ),
        _log_values,
    ),
}
