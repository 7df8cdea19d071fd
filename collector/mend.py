"""Mends requests whose text is not Unicode, which neither protobuf nor JSON allows and some exporters send all the same.

A tool's output in another character set, or a prompt cut in the middle of a character, would otherwise cost the whole request:
the sender must not retry it, and drops it. Mended, each byte that cannot be read becomes U+FFFD, as does each half of a
character (JavaScript cuts there, and writes the half as an escape), and the answer says so. Used only after a request was found
malformed; anything else that is wrong with it stays wrong.
"""

from __future__ import annotations

import re
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.otlp import Signal


def mended(signal: Signal, body: bytes) -> tuple[bytes, int] | None:
    """`body` with all its text in UTF-8, and how many texts were not; None if that is not what was wrong."""
    try:
        request = _LOOSE[signal].FromString(body)
        count = _mend(request)
        return (request.SerializeToString(), count) if count else None
    except DecodeError:
        return None


def mended_json(body: bytes) -> tuple[bytes, int] | None:
    """`body` with all its text in Unicode, and how often it was not; None if that is not what was wrong."""
    count = 0

    def whole(escape: re.Match[bytes]) -> bytes:
        nonlocal count
        if escape["pair"]:
            return escape[0]
        count += 1
        return escape["before"] + rb"\ufffd"

    readable = _readable(body)
    fixed = _SURROGATES.sub(whole, readable)
    count += readable.count(_UNREADABLE) - body.count(_UNREADABLE)
    return (fixed, count) if count else None


_UNREADABLE: Final = "\ufffd".encode()
_SURROGATES: Final = re.compile(
    rb"(?<!\\)(?P<before>(?:\\\\)*)"
    rb"\\u[dD](?:(?P<pair>[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|[89a-fA-F][0-9a-fA-F]{2})"
)
"""Escapes of a character's halves, together or alone, behind backslashes that escape each other."""


def _mend(message: Any) -> int:
    count = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            count += sum(map(_mend, value)) if field.is_repeated else _mend(value)
        elif field.full_name in _TEXTS and field.is_repeated:
            fixed = [_readable(text) for text in value]
            count += sum(map(bytes.__ne__, fixed, value))
            value[:] = fixed
        elif field.full_name in _TEXTS and (text := _readable(value)) != value:
            count += 1
            setattr(message, field.name, text)
    return count


def _readable(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()


def _loose(message: type[Message]) -> Any:
    """The same definitions in a world of their own, with `bytes` wherever they say `string`."""
    pool = descriptor_pool.DescriptorPool()

    def add(file: Any) -> None:
        for dependency in file.dependencies:
            add(dependency)
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        waiting = list(copy.message_type)
        while waiting:
            found = waiting.pop()
            waiting += found.nested_type
            for field in found.field:
                if field.type == FieldDescriptor.TYPE_STRING:
                    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
        pool.AddSerializedFile(copy.SerializeToString())

    add(message.DESCRIPTOR.file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(message.DESCRIPTOR.full_name))


def _texts(message: type[Message]) -> frozenset[str]:
    found: set[str] = set()
    seen = set()
    waiting = [message.DESCRIPTOR]
    while waiting:
        descriptor = waiting.pop()
        if descriptor in seen:
            continue
        seen.add(descriptor)
        found |= {field.full_name for field in descriptor.fields if field.type == FieldDescriptor.TYPE_STRING}
        waiting += [field.message_type for field in descriptor.fields if field.message_type is not None]
    return frozenset(found)


_LOOSE: Final = {"traces": _loose(ExportTraceServiceRequest), "logs": _loose(ExportLogsServiceRequest)}
_TEXTS: Final = _texts(ExportTraceServiceRequest) | _texts(ExportLogsServiceRequest)
