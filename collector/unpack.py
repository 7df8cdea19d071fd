"""Takes the compression off a body, stopping at a limit.

Bounded on every side: what comes out by the limit, what is worked on at a time by a step, the number of gzip members or zstd
frames, each of which costs time however little is in it, and the window a zstd frame may ask for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from zlib_ng import zlib_ng as zlib

from collector.outcomes import Outcome, Refusal

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

STEP: Final = 64 * 1024
"""Packed bytes worked on at a time; bodies up to this size are quick enough to unpack between two others."""
_PIECES: Final = 64
"""Gzip members or zstd frames a body may have."""
_ZSTD_WINDOW_LOG: Final = 25
"""32 MiB, the largest window of the encoders in use; a frame may ask for 2 GiB."""


def _inflate(window: int) -> Callable[[bytes], Any]:
    return lambda raw: zlib.decompressobj(window)


def _deflate(raw: bytes) -> Any:
    """`deflate` means zlib's format, but some senders leave the wrapper off."""
    return zlib.decompressobj(zlib.MAX_WBITS if is_zlib(raw) else -zlib.MAX_WBITS)


def _zstd(raw: bytes) -> Any:
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


_DECODERS: Final[Mapping[str, tuple[Callable[[bytes], Any], int]]] = {
    "gzip": (_inflate(16 + zlib.MAX_WBITS), _PIECES),
    "deflate": (_deflate, 1),
    "zstd": (_zstd, _PIECES),
}
COMPRESSIONS: Final = tuple(_DECODERS)


def is_gzip(raw: bytes) -> bool:
    """Whether `raw` starts as gzip does, and as no request does."""
    return raw[:2] == b"\x1f\x8b"


def is_zlib(raw: bytes) -> bool:
    """Whether `raw` starts as zlib's format does."""
    return len(raw) >= 2 and raw[0] & 0x8F == 8 and int.from_bytes(raw[:2]) % 31 == 0


def unpack(raw: bytes, compression: str, limit: int) -> bytes:
    """All of `raw`, unpacked; raises `Refusal`."""
    make, pieces = _DECODERS[compression]
    out: list[bytes] = []
    room = limit
    decoder = make(raw)
    used = 1
    view = memoryview(raw)
    try:
        for start in range(0, len(view), STEP):
            step: bytes | memoryview = view[start : start + STEP]
            while step or _holds_more(decoder):
                if decoder.eof:
                    used += 1
                    if used > pieces:
                        raise Refusal(Outcome.MALFORMED, f"the {compression} body goes on after its end")
                    decoder = make(raw)
                piece = decoder.decompress(step, room + 1)
                room -= len(piece)
                if room < 0:
                    raise Refusal(Outcome.TOO_LARGE, too_large("the unpacked body", limit))
                out.append(piece)
                step = decoder.unused_data if decoder.eof else getattr(decoder, "unconsumed_tail", b"")
    except (zlib.error, ZstdError) as error:  # type: ignore[misc]  # the stub of zlib-ng declares an instance
        raise Refusal(Outcome.MALFORMED, f"the body is not {compression}: {error}") from None
    if not decoder.eof:
        raise Refusal(Outcome.MALFORMED, f"the {compression} body ends too early")
    return b"".join(out)


def too_large(what: str, limit: int) -> str:
    """How a size is refused."""
    return f"{what} is larger than {limit} bytes (`max_request_bytes`)"


def _holds_more(decoder: Any) -> bool:
    """Whether a zstd decoder has output left of what it was given; zlib's hands back the input instead."""
    return not decoder.eof and not getattr(decoder, "needs_input", True)
