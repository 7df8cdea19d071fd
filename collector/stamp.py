"""Whose telemetry it is: `tracegrade.arm` and `tracegrade.tenant`, on every resource of a request.

Promises that these two resource attributes, once stored, were put there by the collector because of the token the request came
with, and by nobody else: what a client writes under these names is taken away, whether it came with a token or not. Spans and
log records are not decoded for it: only resources are, and everything else is carried along as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from collector.outcomes import Outcome, Refusal

ARM: Final = "tracegrade.arm"
TENANT: Final = "tracegrade.tenant"

_CLAIM: Final = b"tracegrade."
_RESERVED: Final = frozenset((ARM.encode(), TENANT.encode()))
_MAX_RESOURCES: Final = 20_000
"""More than the largest batches of the Collector hold spans; each takes time."""


def claims(resources: bytes) -> bool:
    """Whether serialised resources may hold an arm or a tenant."""
    return _CLAIM in resources


def stamped(payload: bytes, stamp: Mapping[str, str]) -> bytes:
    """A serialised request whose resources carry `stamp`, and no other arm or tenant; raises `Refusal`."""
    resources = len(_COUNTED.FromString(payload).resources)
    if resources > _MAX_RESOURCES:
        raise Refusal(Outcome.TOO_LARGE, f"{resources} resources in one request; {_MAX_RESOURCES} are allowed")
    request = _REQUEST.FromString(payload)
    for block in request.blocks:
        if any(pair.key in _RESERVED for pair in block.resource.attributes):
            kept = type(block.resource)()
            kept.attributes.extend(pair for pair in block.resource.attributes if pair.key not in _RESERVED)
            del block.resource.attributes[:]
            block.resource.MergeFrom(kept)
        for key, value in stamp.items():
            pair = block.resource.attributes.add(key=key.encode())
            pair.value.text = value.encode()
    return bytes(request.SerializeToString())


def _classes() -> tuple[Any, Any]:
    """Requests as far down as the attributes of their resources, and requests as a list of opaque resources.

    Both signals are alike as far as this goes. What is not declared here is kept as it came.
    """
    one, many = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    text, message = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    package = "tracegrade.stamp"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, fields in {
        "Value": [("text", 1, one, text, "")],
        "Pair": [("key", 1, one, text, ""), ("value", 2, one, message, "Value")],
        "Resource": [("attributes", 1, many, message, "Pair")],
        "Block": [("resource", 1, one, message, "Resource")],
        "Request": [("blocks", 1, many, message, "Block")],
        "Counted": [("resources", 1, many, text, "")],
    }.items():
        declared = file.message_type.add(name=name)
        for field, number, label, kind, of in fields:
            declared.field.add(
                name=field, number=number, label=label, type=kind, type_name=f".{package}.{of}" if of else None
            )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    request, counted = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in ("Request", "Counted")
    )
    return request, counted


_REQUEST, _COUNTED = _classes()
