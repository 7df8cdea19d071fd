"""The admin listener: `/metrics`, `/healthz`, `/readyz`.

Health says that the process lives; readiness that telemetry can be taken, and if not, why not, a sentence a line. Nothing here
shows what telemetry says, and nothing can be changed, so it may listen beyond this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_TEXT: Final = "text/plain; charset=utf-8"


class AdminApp:
    """The ASGI application."""

    def __init__(self, metrics: CollectorRegistry, obstacles: Callable[[], list[str]]) -> None:
        """`obstacles` says why telemetry cannot be taken; it is called on a thread."""
        self._metrics = metrics
        self._obstacles = obstacles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] not in ("GET", "HEAD"):
            code, kind, body = 405, _TEXT, b"GET is all there is\n"
        else:
            headers = dict(scope["headers"])
            code, kind, body = await self._answer(scope["path"], headers.get(b"accept", b"").decode("latin-1"))
        fields = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": code, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        match path:
            case "/healthz":
                return 200, _TEXT, b"ok\n"
            case "/readyz":
                obstacles = await asyncio.to_thread(self._obstacles)
                return 503 if obstacles else 200, _TEXT, "".join(f"{line}\n" for line in obstacles or ["ok"]).encode()
            case "/metrics":
                encode, kind = choose_encoder(accept)
                return 200, kind, await asyncio.to_thread(encode, self._metrics)
        return 404, _TEXT, b"/metrics, /healthz and /readyz are here\n"
