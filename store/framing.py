"""ClickHouse's own block framing, `compress=1` and `decompress=1`: on and off.

Promises that no piece is longer than `PIECE`, and that damaged or cut bodies are refused. One block is held at a time; how much
may come out altogether is the caller's to say.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

import lz4.block
from clickhouse_cityhash.cityhash import CityHash128

from store.inflate import PIECE
from store.statements import Refused

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

MAX_BLOCK = 128 << 20
"""Longest block, packed or not; the limit of ClickHouse's own clients."""

# How a block is packed, its packed size with this header, its size. The checksum before it is of all that follows.
_HEADER = struct.Struct("<BII")
_CHECKSUM = 16
_LZ4 = 0x82


def _checksum(block: bytes | bytearray | memoryview) -> bytes:
    checksum = int(CityHash128(bytes(block)))
    return (checksum >> 64).to_bytes(8, "little") + (checksum & (1 << 64) - 1).to_bytes(8, "little")


def pack(data: bytes) -> bytes:
    """`data` in ClickHouse's block framing."""
    blocks = []
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE]
        packed = lz4.block.compress(piece, store_size=False)
        block = _HEADER.pack(_LZ4, len(packed) + _HEADER.size, len(piece)) + packed
        blocks += [_checksum(block), block]
    return b"".join(blocks)


class Unpack:
    """Takes ClickHouse's block framing off a body; holds one block."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._held += data
        while len(self._held) >= _CHECKSUM + _HEADER.size:
            method, packed, size = _HEADER.unpack_from(self._held, _CHECKSUM)
            if not _HEADER.size <= packed <= MAX_BLOCK or size > MAX_BLOCK:
                raise _damaged(f"a block of {packed} bytes for {size} is not between {_HEADER.size} and {MAX_BLOCK}")
            end = _CHECKSUM + packed
            if len(self._held) < end:
                return
            if self._held[:_CHECKSUM] != _checksum(self._held[_CHECKSUM:end]):
                raise _damaged("the checksum of a block does not match")
            block = _unpacked(method, bytes(self._held[_CHECKSUM + _HEADER.size : end]), size)
            del self._held[:end]
            for start in range(0, len(block), PIECE):
                yield block[start : start + PIECE]

    def finish(self) -> None:
        if self._held:
            raise _damaged(f"the body ends {len(self._held)} bytes into a block")


def _unpacked(method: int, packed: bytes, size: int) -> bytes:
    try:
        match method:
            case 0x02:
                block = packed
            case 0x82:
                block = lz4.block.decompress(packed, uncompressed_size=size)
            case 0x90:
                block = ZstdDecompressor().decompress(packed, size + 1)
            case _:
                raise _damaged(
                    f"a block is packed by method {method:#04x}, which is none of 0x02, 0x82 (LZ4), 0x90 (ZSTD)"
                )
    except Exception as error:
        if isinstance(error, Refused):
            raise
        raise _damaged(f"a block cannot be unpacked: {error}") from error
    if len(block) != size:
        raise _damaged(f"a block has another size than the {size} bytes it announces")
    return bytes(block)


def _damaged(message: str) -> Refused:
    return Refused(271, "CANNOT_DECOMPRESS", f"the body is not ClickHouse's block framing: {message}")
