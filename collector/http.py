"""OTLP/HTTP: `POST /v1/traces` and `POST /v1/logs`, protobuf or JSON, plain, gzip or deflate.

A plain ASGI application. Bounded on both sides of decompression: a body stops being read, and stops being unpacked, at the
limit.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from collector.intake import Intake, Refusal
from collector.otlp import SIGNALS, Encoding, Signal
from collector.outcomes import ANSWERS, RETRY_SECONDS, Outcome, http_body

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PATHS: Final[Mapping[str, Signal]] = {f"/v1/{signal}": signal for signal in SIGNALS}
_MEDIA_TYPES: Final[Mapping[bytes, Encoding]] = {
    b"application/x-protobuf": Encoding.PROTOBUF,
    b"application/protobuf": Encoding.PROTOBUF,
    b"application/json": Encoding.JSON,
}
_COMPRESSIONS: Final = ("gzip", "deflate")
_SUCCESS: Final[Mapping[Encoding, bytes]] = {Encoding.PROTOBUF: b"", Encoding.JSON: b"{}"}
"""An export response with `partial_success` unset."""
_GZIP_MEMBERS: Final = 64
_UNPACK_STEP: Final = 64 * 1024
_HELD_BYTES: Final = 256 * 2**20
"""Memory the bodies of all requests being handled may take, packed and unpacked."""


_BODY_SECONDS: Final = 60.0
"""How long a body may take to arrive; one that never ends would keep its share of that memory from everyone."""


class HttpApp:
    """The ASGI application."""

    def __init__(self, intake: Intake, *, max_request_bytes: int) -> None:
        self._intake = intake
        self._limit = max_request_bytes
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} is not spoken here")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        encoding = _MEDIA_TYPES.get(media_type)
        held = _Held(self)
        try:
            signal = _route(scope["path"], scope["method"])
            if encoding is None:
                shown = media_type.decode(errors="replace") or "none"
                raise Refusal(
                    Outcome.UNSUPPORTED_MEDIA_TYPE,
                    f"`Content-Type` is {shown}; send application/x-protobuf or application/json",
                )
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    body = await self._body(headers, receive, held)
            except TimeoutError:
                raise Refusal(Outcome.BUSY, f"the body did not arrive within {_BODY_SECONDS:g} seconds") from None
            if body is None:
                return
            await self._intake.take(signal, encoding, body)
        except Refusal as refusal:
            self._intake.refused(refusal)
            content_type, answer = http_body(refusal.outcome, refusal.message, encoding)
            extra = [(b"retry-after", str(RETRY_SECONDS).encode())] if ANSWERS[refusal.outcome].retry else []
            if refusal.outcome is Outcome.METHOD_NOT_ALLOWED:
                extra.append((b"allow", b"POST"))
            await _respond(send, ANSWERS[refusal.outcome].http, content_type, answer, extra)
        else:
            await _respond(send, 200, encoding.encode(), _SUCCESS[encoding], [])
        finally:
            held.release()

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, held: _Held) -> bytes | None:
        """The whole body, unpacked; None if the client left."""
        compression = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if compression not in (*_COMPRESSIONS, "identity", ""):
            raise Refusal(
                Outcome.UNSUPPORTED_MEDIA_TYPE,
                f"`Content-Encoding` is {compression}; send one of {', '.join(_COMPRESSIONS)}, or none",
            )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            raise self._too_large("the body")
        raw = await self._read(receive, held)
        if raw is None or compression not in _COMPRESSIONS:
            return raw
        if len(raw) <= _UNPACK_STEP:
            body = self._unpack(raw, compression)
        else:
            body = await asyncio.to_thread(self._unpack, raw, compression)
        held.take(len(body))
        return body

    async def _read(self, receive: Receive, held: _Held) -> bytes | None:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._limit:
                raise self._too_large("the body")
            held.take(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _unpack(self, raw: bytes, compression: str) -> bytes:
        """Decompress, stopping at the limit."""
        out: list[bytes] = []
        room = self._limit
        if compression == "gzip":
            window = 16 + zlib.MAX_WBITS
        else:  # `deflate` means zlib's format, but some senders leave the wrapper off
            wrapped = len(raw) >= 2 and raw[0] & 0x0F == 8 and int.from_bytes(raw[:2]) % 31 == 0
            window = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
        unpacker = zlib.decompressobj(window)
        members = 1
        view = memoryview(raw)
        try:
            for start in range(0, len(view), _UNPACK_STEP):
                step: bytes | memoryview = view[start : start + _UNPACK_STEP]
                while step:
                    if unpacker.eof:
                        members += 1
                        if compression != "gzip" or members > _GZIP_MEMBERS:
                            raise Refusal(Outcome.MALFORMED, f"the {compression} body goes on after its end")
                        unpacker = zlib.decompressobj(window)
                    piece = unpacker.decompress(step, room + 1)
                    room -= len(piece)
                    if room < 0:
                        raise self._too_large("the unpacked body")
                    out.append(piece)
                    step = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        except zlib.error as error:
            raise Refusal(Outcome.MALFORMED, f"the body is not {compression}: {error}") from None
        if not unpacker.eof:
            raise Refusal(Outcome.MALFORMED, f"the {compression} body ends too early")
        return b"".join(out)

    def _too_large(self, what: str) -> Refusal:
        return Refusal(Outcome.TOO_LARGE, f"{what} is larger than {self._limit} bytes (`max_request_bytes`)")


class _Held:
    """The memory one request takes of what all may take together."""

    __slots__ = ("_app", "_size")

    def __init__(self, app: HttpApp) -> None:
        self._app = app
        self._size = 0

    def take(self, size: int) -> None:
        self._size += size
        self._app.held_bytes += size
        if self._app.held_bytes > _HELD_BYTES:
            raise Refusal(Outcome.BUSY, "the bodies of other requests fill the memory set aside for them")

    def release(self) -> None:
        self._app.held_bytes -= self._size


def _route(path: str, method: str) -> Signal:
    signal = _PATHS.get(path)
    if signal is None:
        raise Refusal(
            Outcome.UNIMPLEMENTED, f"{path[:100]} is not served; traces and logs are, at {' and '.join(_PATHS)}"
        )
    if method != "POST":
        raise Refusal(Outcome.METHOD_NOT_ALLOWED, f"{path} takes POST, not {method}")
    return signal


async def _respond(send: Send, code: int, content_type: bytes, body: bytes, extra: list[tuple[bytes, bytes]]) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
