"""Takes the compression off a request body, piece by piece: gzip, deflate, zstd, and lz4 where its package is installed.

Promises that no piece is longer than `PIECE`, however well the body is packed, and that damaged or cut bodies are refused. How
much may come out altogether is the caller's to say.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Any

from store.statements import Refused

PIECE = 1 << 20


def _decoder(encoding: str) -> Any:
    match encoding:
        case "gzip":
            return zlib.decompressobj(31)
        case "deflate":
            return zlib.decompressobj(15)
        case "zstd":
            if sys.version_info >= (3, 14):
                from compression.zstd import ZstdDecompressor
            else:
                from backports.zstd import ZstdDecompressor
            return ZstdDecompressor()
        case "lz4":
            try:
                from lz4.frame import LZ4FrameDecompressor
            except ImportError as error:
                raise Refused(
                    48,
                    "NOT_IMPLEMENTED",
                    "Content-Encoding `lz4` needs the package lz4 here; send zstd, gzip or nothing",
                ) from error
            return LZ4FrameDecompressor()
    raise Refused(48, "NOT_IMPLEMENTED", f"Content-Encoding `{encoding}` is not one of gzip, deflate, zstd, lz4")


class Inflate:
    """Decompresses a body piece by piece; any number of frames, never more than a piece in memory."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._frame: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                if self._frame is None:
                    self._frame = _decoder(self._encoding)
                yield from self._read(data)
                data = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None
        except (zlib.error, RuntimeError, ValueError, EOFError) as error:
            raise Refused(354, "ZLIB_INFLATE_FAILED", f"the body is not valid {self._encoding}: {error}") from error
        except Exception as error:
            if isinstance(error, Refused) or type(error).__name__ != "ZstdError":
                raise
            raise Refused(561, "ZSTD_DECODER_FAILED", f"the body is not valid zstd: {error}") from error

    def _read(self, data: bytes) -> Iterator[bytes]:
        frame = self._frame
        bounded = hasattr(frame, "unconsumed_tail")
        while True:
            piece = frame.decompress(data, PIECE)
            if piece:
                yield piece
            data = frame.unconsumed_tail if bounded else b""
            pending = bool(data) or len(piece) == PIECE if bounded else not frame.needs_input
            if frame.eof or not pending:
                return

    def finish(self) -> None:
        if self._frame is not None:
            raise Refused(354, "ZLIB_INFLATE_FAILED", f"the body ends inside a {self._encoding} frame")
