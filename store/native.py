"""Native blocks as a client of ClickHouse's wire protocol expects them.

The engine writes `FORMAT Native` as it goes to a file. A client that names a `client_protocol_version` is sent the same columns
with a little more around them: a block's info before each block, and before each column's data a byte that says how it is
serialized. To put them in, one has to know where a column ends; this module walks the data and copies it as it is.

Pure. Left out: types that hold types of their own in the data (`JSON`, `Dynamic`, `Variant`) and states of aggregate
functions, which are refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from store.statements import Refused, Token, tokenize

MIN_REVISION = 54454
"""The first protocol version that says how a column is serialized. `clickhouse-connect` names an older one to find out whether
it is understood, and does without when it is not; clients from here on take it for granted."""

_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # not an overflow row; no bucket; end
_WIDTHS = {
    **dict.fromkeys(("UInt8", "Int8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("UInt16", "Int16", "Date", "Enum16", "BFloat16"), 2),
    **dict.fromkeys(("UInt32", "Int32", "Float32", "DateTime", "Date32", "IPv4", "Decimal32", "Time"), 4),
    **dict.fromkeys(("UInt64", "Int64", "Float64", "DateTime64", "Decimal64", "Time64"), 8),
    **dict.fromkeys(("UInt128", "Int128", "UUID", "IPv6", "Decimal128"), 16),
    **dict.fromkeys(("UInt256", "Int256", "Decimal256"), 32),
}
_DEPTH = 50
"""How deep types may be nested, so that walking one has an end."""
_GEO = {
    "Point": "Tuple(Float64, Float64)",
    **dict.fromkeys(("Ring", "LineString"), "Array(Point)"),
    **dict.fromkeys(("Polygon", "MultiLineString"), "Array(Ring)"),
    "MultiPolygon": "Array(Polygon)",
}


class _Cut(Exception):
    """The block goes on beyond what has come so far."""


_Skip = Callable[[bytearray, int, int], int]
"""(data, where the values start, how many there are) → where they end."""


@dataclass(frozen=True, slots=True)
class _Type:
    skip: _Skip
    dictionaries: int = 0
    """Low-cardinality parts; each has a version number before the column's first value."""


def _number(data: bytearray, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise _Cut
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7


def _uint64(data: bytearray, at: int) -> int:
    if at + 8 > len(data):
        raise _Cut
    return int(struct.unpack_from("<Q", data, at)[0])


def _text(data: bytearray, at: int) -> tuple[str, int]:
    size, start = _number(data, at)
    if start + size > len(data):
        raise _Cut
    return data[start : start + size].decode(errors="replace"), start + size


def _strings(data: bytearray, at: int, count: int) -> int:
    for _ in range(count):
        size, at = _number(data, at)
        at += size
    return at


def _fixed(width: int) -> _Type:
    return _Type(lambda _, at, count: at + width * count)


def _array(inner: _Type) -> _Type:
    def skip(data: bytearray, at: int, count: int) -> int:
        end = at + 8 * count
        return inner.skip(data, end, _uint64(data, end - 8)) if count else at

    return _Type(skip, inner.dictionaries)


def _tuple(parts: list[_Type]) -> _Type:
    def skip(data: bytearray, at: int, count: int) -> int:
        for part in parts:
            at = part.skip(data, at, count)
        return at

    return _Type(skip, sum(part.dictionaries for part in parts))


def _nullable(inner: _Type) -> _Type:
    return _Type(lambda data, at, count: inner.skip(data, at + count, count), inner.dictionaries)


def _low_cardinality(inner: _Type) -> _Type:
    def skip(data: bytearray, at: int, count: int) -> int:
        if not count:
            return at
        width = 1 << (_uint64(data, at) & 0xFF)
        keys = _uint64(data, at + 8)
        at = inner.skip(data, at + 16, keys)
        return at + 8 + width * _uint64(data, at)

    return _Type(skip, 1)


def _arguments(tokens: list[Token], text: str) -> list[str]:
    """What stands between the outermost parentheses, apart at the commas; names of a tuple's elements are gone."""
    found, start = [], tokens[1].start + 1
    for at, token in enumerate(tokens[2:], 2):
        if (token.text == "," and token.depth == 1) or (token.text == ")" and token.depth == 0):
            found.append(text[start : token.start].strip())
            start = token.start + 1
        elif token.depth == 1 and token.kind in ("word", "quoted") and tokens[at + 1].kind == "word":
            start = tokens[at + 1].start
    return found


@lru_cache(1000)
def _parse(text: str) -> _Type:
    tokens = list(tokenize(text))
    name = tokens[0].text
    if max(token.depth for token in tokens) > _DEPTH:
        raise Refused(48, "NOT_IMPLEMENTED", f"a column's type is nested more than {_DEPTH} deep")
    if name in _WIDTHS or name.startswith("Interval"):
        return _fixed(_WIDTHS.get(name, 8))
    if name in _GEO:
        return _parse(_GEO[name])
    match name, _arguments(tokens, text) if len(tokens) > 2 else []:
        case "String", []:
            return _Type(_strings)
        case "FixedString", [size]:
            return _fixed(int(size))
        case "Decimal", [precision, _]:
            return _fixed(next(4 << step for step, most in enumerate((9, 18, 38, 76)) if int(precision) <= most))
        case "Array", [inner]:
            return _array(_parse(inner))
        case "Nullable", [inner]:
            return _nullable(_parse(inner))
        case "LowCardinality", [inner]:
            # Its dictionary has no nulls of its own: the first key stands for them.
            return _low_cardinality(_parse(inner[9:-1] if inner.startswith("Nullable(") else inner))
        case "Map", [key, value]:
            return _array(_tuple([_parse(key), _parse(value)]))
        case "Nested", [_, *_] as parts:
            return _array(_tuple([_parse(part) for part in parts]))
        case "Tuple", [_, *_] as parts:
            return _tuple([_parse(part) for part in parts])
        case "SimpleAggregateFunction", [_, inner]:
            return _parse(inner)
    raise Refused(
        48,
        "NOT_IMPLEMENTED",
        f"a column of type {text} is not sent in Native blocks of the wire protocol here; select toString() of it, ask for "
        "another FORMAT, or leave client_protocol_version out",
    )


class Reframe:
    """Turns a stream of Native blocks as in a file into one as on the wire."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._look_at = 1

    def feed(self, data: bytes) -> bytes:
        """The blocks that are complete with `data`."""
        self._held += data
        # A large block comes in many pieces: it is looked through again only when it has doubled.
        return self._take() if len(self._held) >= self._look_at else b""

    def finish(self) -> bytes:
        """The rest."""
        rest = self._take()
        if self._held:
            raise Refused(33, "CANNOT_READ_ALL_DATA", f"the result ends {len(self._held)} bytes into a Native block")
        return rest

    def _take(self) -> bytes:
        out, at = [], 0
        try:
            while at < len(self._held):
                pieces, at = self._block(at)
                out += pieces
        except _Cut:
            pass
        del self._held[:at]
        self._look_at = 2 * len(self._held) or 1
        return b"".join(out)

    def _block(self, at: int) -> tuple[list[bytes], int]:
        data, start = self._held, at
        columns, at = _number(data, at)
        rows, at = _number(data, at)
        pieces = [_INFO, bytes(data[start:at])]
        for _ in range(columns):
            start = at
            _name, at = _text(data, at)
            type_name, at = _text(data, at)
            pieces += [bytes(data[start:at]), b"\x00"]
            start = at
            if rows:
                column = _parse(type_name)
                at = column.skip(data, at + 8 * column.dictionaries, rows)
            if at > len(data):
                raise _Cut
            pieces.append(bytes(data[start:at]))
        return pieces, at
