"""Rewrites the parts of a serialised request that hold a hit, and copies all the rest.

Walks the wire format from the message definitions and only enters fields that a hit overlaps, so a request of many spans with
one address in it costs little more than finding that address. Texts, attributes and log bodies are handed over; everything
else, ids among it, is bytes that are copied. A hit inside a field that the definitions do not know removes the field: what
cannot be read cannot be redacted, and the store does not read it either.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.otlp import Signal
from collector.segments import varint

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Unreadable(Exception):
    """The wire format holds what no OTLP message can."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """What to do with what is found; each returns its argument if nothing changes."""

    text: Callable[[str], str]
    attribute: Callable[[Any], bool]
    """Changes a `KeyValue`; whether it did."""
    body: Callable[[Any], bool]
    """Changes an `AnyValue`; whether it did."""


class Hits:
    """Ranges of bytes, in order and apart."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(ranges):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(end, self._ends[-1])
            else:
                self._starts.append(start)
                self._ends.append(end)

    def next_after(self, position: int) -> int:
        """Where the first hit begins that does not end before `position`; far away if none does."""
        at = bisect_left(self._ends, position + 1)
        return self._starts[at] if at < len(self._starts) else 2**63


@dataclass(frozen=True, slots=True)
class _Node:
    """A message: by field number, the message it holds, or one of the kinds below."""

    fields: dict[int, _Node | str] = field(default_factory=dict)


def _node(descriptor: Descriptor, known: dict[str, _Node]) -> _Node | str:
    if descriptor is KeyValue.DESCRIPTOR:
        return "attribute"
    if descriptor is AnyValue.DESCRIPTOR:
        return "body"
    node = known.get(descriptor.full_name)
    if node is None:
        node = known[descriptor.full_name] = _Node()
        for part in descriptor.fields:
            if part.message_type is not None:
                node.fields[part.number] = _node(part.message_type, known)
            elif part.type == FieldDescriptor.TYPE_STRING:
                node.fields[part.number] = "text"
            else:
                node.fields[part.number] = "opaque"
    return node


_ROOTS: Final[Mapping[Signal, Any]] = {
    "traces": _node(ExportTraceServiceRequest.DESCRIPTOR, {}),
    "logs": _node(ExportLogsServiceRequest.DESCRIPTOR, {}),
}


def rewrite(signal: Signal, data: bytes, hits: Hits, leaves: Leaves) -> bytes:
    """`data` with whatever `leaves` changed; raises `Unreadable`."""
    changed = _message(_ROOTS[signal], data, 0, len(data), hits, leaves)
    return data if changed is None else changed


def _message(node: _Node, data: bytes, start: int, end: int, hits: Hits, leaves: Leaves) -> bytes | None:
    """The message between `start` and `end`, or None if nothing in it changed."""
    pieces: list[bytes] = []
    copied = position = start
    hit = hits.next_after(start)
    while position < end and hit < end:
        begin = position
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _LENGTH:
            size, position = _varint(data, position)
            stop = position + size
            if stop > end:
                raise Unreadable("a field is longer than its message")
            if hit < stop:
                what = node.fields.get(tag >> 3)
                new = _field(what, data, position, stop, hits, leaves)
                if new is not None:
                    pieces.append(data[copied:begin])
                    if what is not None:
                        pieces += [data[begin : begin + _size(tag)], varint(len(new)), new]
                    copied = stop
                hit = hits.next_after(stop)
            position = stop
        elif kind == _VARINT:
            _, position = _varint(data, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        else:
            raise Unreadable("a group")
    if not pieces:
        return None
    pieces.append(data[copied:end])
    return b"".join(pieces)


def _field(what: _Node | str | None, data: bytes, start: int, stop: int, hits: Hits, leaves: Leaves) -> bytes | None:
    if isinstance(what, _Node):
        return _message(what, data, start, stop, hits, leaves)
    if what == "opaque":
        return None
    if what is None:
        return b""
    part = data[start:stop]
    if what == "text":
        text = part.decode()
        new = leaves.text(text)
        return None if new == text else new.encode()
    message, change = (KeyValue(), leaves.attribute) if what == "attribute" else (AnyValue(), leaves.body)
    message.MergeFromString(part)
    message.DiscardUnknownFields()
    # Of a value that is there twice only the last was read: the others go as well.
    return message.SerializeToString() if change(message) or message.ByteSize() != len(part) else None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _size(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)
