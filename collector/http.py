"""OTLP/HTTP: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, protobuf or JSON, plain, gzip, deflate or zstd.

A plain ASGI application. Bounded on both sides of decompression: a body stops being read, and stops being unpacked, at the
limit. Nothing of a body is read before its sender is known. Web pages are answered only from origins that were allowed; others
cannot send, because neither media type is one a page may use without asking.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from collector.auth import Doorkeeper
from collector.intake import Intake
from collector.memory import Lease, on_thread
from collector.otlp import Encoding
from collector.outcomes import ANSWERS, RETRY_SECONDS, Kind, Outcome, Refusal, export_response, http_body
from collector.unpack import COMPRESSIONS, STEP, too_large, unpack

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_PATHS: Final[Mapping[str, Kind]] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_MEDIA_TYPES: Final[Mapping[bytes, Encoding]] = {
    b"application/x-protobuf": Encoding.PROTOBUF,
    b"application/protobuf": Encoding.PROTOBUF,
    b"application/json": Encoding.JSON,
}
_BODY_SECONDS: Final = 60.0
"""How long a body may take to arrive; one that never ends would keep its share of the memory from everyone."""
_PREFLIGHT_SECONDS: Final = 7200
"""How long a browser may remember that it may send: the longest that browsers do."""
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2000}")


class HttpApp:
    """The ASGI application."""

    def __init__(
        self, intake: Intake, doorkeeper: Doorkeeper, *, max_request_bytes: int, allowed_origins: Sequence[str] = ()
    ) -> None:
        self._intake = intake
        self._doorkeeper = doorkeeper
        self._limit = max_request_bytes
        self._origins = re.compile("|".join(map(_pattern, allowed_origins)) or r"(?!)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} is not spoken here")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        extra = self._cors(headers)
        kind = _PATHS.get(scope["path"])
        if scope["method"] == "OPTIONS" and kind and extra and b"access-control-request-method" in headers:
            await _respond(send, 204, b"", b"", extra + _preflight(headers))
            return
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        encoding = _MEDIA_TYPES.get(media_type)
        try:
            with self._intake.memory.lease() as lease:
                if kind is None:
                    raise _no_such_path(scope["path"])
                if scope["method"] != "POST":
                    raise Refusal(Outcome.METHOD_NOT_ALLOWED, f"{scope['path']} takes POST, not {scope['method']}")
                caller = self._doorkeeper.admit((k.decode("latin-1"), v.decode("latin-1")) for k, v in headers.items())
                if encoding is None:
                    raise _no_such_type(media_type)
                body = await self._body(headers, receive, lease)
                if body is None:
                    return
                taken = await self._intake.take(kind, encoding, body, caller)
        except Refusal as refusal:
            self._intake.answered("http", kind, refusal.outcome)
            content_type, answer = http_body(refusal.outcome, refusal.message, encoding)
            extra += _PECULIAR.get(refusal.outcome, [])
            if ANSWERS[refusal.outcome].retry:
                extra.append((b"retry-after", str(RETRY_SECONDS).encode()))
            await _respond(send, ANSWERS[refusal.outcome].http, content_type, answer, extra)
        else:
            self._intake.answered("http", kind, taken.outcome)
            answer = export_response(kind, taken, encoding)
            await _respond(send, ANSWERS[taken.outcome].http, encoding.encode(), answer, extra)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, lease: Lease) -> bytes | None:
        """The whole body, unpacked; None if the client left."""
        compression = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if compression not in (*COMPRESSIONS, "identity", ""):
            raise Refusal(
                Outcome.UNSUPPORTED_MEDIA_TYPE,
                f"`Content-Encoding` is {compression[:100]}; send one of {', '.join(COMPRESSIONS)}, or none",
            )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            raise Refusal(Outcome.TOO_LARGE, too_large("the body", self._limit))
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                raw = await self._read(receive, lease)
        except TimeoutError:
            raise Refusal(Outcome.BUSY, f"the body did not arrive within {_BODY_SECONDS:g} seconds") from None
        if raw is None or compression not in COMPRESSIONS:
            return raw
        if len(raw) <= STEP:
            body = unpack(raw, compression, self._limit)
        else:
            body = await on_thread(unpack, raw, compression, self._limit)
        lease.take(len(body))
        return body

    async def _read(self, receive: Receive, lease: Lease) -> bytes | None:
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            lease.take(len(chunk))
            if lease.size > self._limit:
                raise Refusal(Outcome.TOO_LARGE, too_large("the body", self._limit))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _cors(self, headers: Mapping[bytes, bytes]) -> Headers:
        """What tells a browser that this page may read the answer; nothing for anyone else."""
        origin = headers.get(b"origin")
        if origin is None or not self._origins.fullmatch(origin.decode("latin-1")):
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]


_PECULIAR: Final[Mapping[Outcome, Headers]] = {
    Outcome.METHOD_NOT_ALLOWED: [(b"allow", b"POST")],
    Outcome.UNAUTHENTICATED: [(b"www-authenticate", b"Bearer")],
}


def _pattern(origin: str) -> str:
    return ".*" if origin == "*" else re.escape(origin).replace(r"\*", "[^/]*")


def _preflight(headers: Mapping[bytes, bytes]) -> Headers:
    wanted = headers.get(b"access-control-request-headers", b"")
    return [
        (b"access-control-allow-methods", b"POST"),
        (b"access-control-allow-headers", wanted if _HEADER_NAMES.fullmatch(wanted) else b"content-type"),
        (b"access-control-max-age", str(_PREFLIGHT_SECONDS).encode()),
    ]


def _no_such_path(path: str) -> Refusal:
    return Refusal(Outcome.UNIMPLEMENTED, f"{path[:100]} is not served; {', '.join(_PATHS)} are")


def _no_such_type(media_type: bytes) -> Refusal:
    shown = media_type[:100].decode(errors="replace") or "none"
    return Refusal(
        Outcome.UNSUPPORTED_MEDIA_TYPE,
        f"`Content-Type` is {shown}; send application/x-protobuf or application/json",
    )


async def _respond(send: Send, code: int, content_type: bytes, body: bytes, extra: Headers) -> None:
    headers = list(extra)
    if code != 204:
        headers += [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
