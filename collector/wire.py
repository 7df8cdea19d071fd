"""The HTTP server below the application: TLS, and bounds on what is not a body.

Uvicorn's parser takes headers of any length and waits for them for ever. Here whatever a client sends beside bodies (request
line, headers, trailers, chunk framing) may not outgrow `OVERHEAD_BYTES` and what came as body, and a head must be complete
within `HEAD_SECONDS` of its first byte, or of the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OVERHEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 30.0
_KEEP_ALIVE_SECONDS: Final = 75
"""Exporters send every few seconds; a connection closed just before that costs them a retry."""
_TOO_MUCH: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"  # nothing to add
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._overhead = 0
        self._body = 0
        self._head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > OVERHEAD_BYTES + self._body and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_TOO_MUCH)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = self._body = 0
        super().on_message_complete()

    def _expect_head(self) -> None:
        self._head_is_there()
        self._head_due = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_is_there(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


class HttpServer(uvicorn.Server):
    """Serves one application on sockets that are given to it."""

    def __init__(self, app: Any, context: ssl.SSLContext | None = None) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()
        config.ssl = context
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to one of its servers."""
        yield
