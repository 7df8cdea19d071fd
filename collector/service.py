"""The collector as a whole: segments, then loader, then servers; stopped in reverse."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import grpc.aio
import uvicorn

from collector.commit import GroupCommit
from collector.grpc import grpc_server
from collector.http import HttpApp
from collector.intake import Intake
from collector.ledger import Ledger, Stats
from collector.loader import Loader, Sink
from collector.otlp import SIGNALS
from collector.segments import SegmentLog
from collector.settings import CollectorSettings
from store import StoreError


class PortUnavailable(StoreError):
    """A listener cannot be opened; nothing was started."""


class Collector:
    """Receives OTLP and brings it into `sink`. Lives on the event loop that starts it."""

    def __init__(self, settings: CollectorSettings, sink: Sink) -> None:
        self.settings = settings
        self._sink = sink
        self._ledger = Ledger()
        self._log: SegmentLog | None = None
        self._running = AsyncExitStack()
        self._deadline = 0.0
        self._stopped = False
        self.grpc_port = settings.grpc_port
        """Once started, the port that was bound."""
        self.http_port = settings.http_port
        """Once started, the port that was bound."""

    async def start(self) -> None:
        """Recover what an earlier process left, then listen; raises `StoreError` with nothing left running."""
        self._deadline = time.monotonic()
        self._stopped = False
        async with AsyncExitStack() as stack:
            settings = self.settings
            sealed = threading.Event()
            log = await asyncio.to_thread(
                SegmentLog,
                settings.buffer_dir,
                disk_budget_bytes=settings.disk_budget_bytes,
                segment_bytes=settings.segment_bytes,
                segment_age_seconds=settings.segment_age_seconds,
                segment_records=settings.segment_records,
                on_sealed=sealed.set,
            )
            self._log = log
            stack.callback(log.close)
            for signal in SIGNALS:
                self._ledger.recovered(signal, log.recovery.kept[signal] + log.recovery.quarantined[signal])
                self._ledger.quarantined(signal, log.recovery.quarantined[signal])
            self._ledger.torn_bytes = log.recovery.torn_bytes
            self._ledger.damaged_records = log.recovery.damaged_records

            loader = Loader(log, self._sink, self._ledger, sealed)
            loader.start()
            stack.push_async_callback(self._stop_loader, loader)

            commit = GroupCommit(log, self._ledger, interval_seconds=settings.fsync_interval_seconds)
            stack.push_async_callback(commit.stop)

            intake = Intake(commit, self._ledger)
            listener = _listen(settings.http_host, settings.http_port)
            stack.callback(listener.close)
            self.http_port = listener.getsockname()[1]
            http = _HttpServer(
                uvicorn.Config(
                    HttpApp(intake, max_request_bytes=settings.max_request_bytes),
                    http="httptools",
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    date_header=False,
                    # Exporters send every few seconds; a connection closed just before that costs them a retry.
                    timeout_keep_alive=75,
                )
            )
            serving = asyncio.create_task(http.serve(sockets=[listener]), name="collector-http")
            stack.push_async_callback(self._stop_http, http, serving)

            while not http.started:
                if serving.done():
                    await serving
                    raise PortUnavailable("the HTTP server ended while starting")
                await asyncio.sleep(0.005)

            rpc = grpc_server(intake, max_request_bytes=settings.max_request_bytes)
            stack.push_async_callback(lambda: rpc.stop(self._patience()))
            self.grpc_port = _bind(rpc, settings.grpc_host, settings.grpc_port)
            await rpc.start()
            self._running = stack.pop_all()

    async def stop(self, deadline: float = 10.0) -> None:
        """Stop listening, answer what was received, load what is on disk; within `deadline` seconds, or as far as it got.

        What could not be loaded in time stays on disk for the next start. Safe to call without `start`, and twice.
        """
        self._deadline = time.monotonic() + deadline
        await self._running.aclose()
        self._stopped = True

    def stats(self) -> Stats:
        """The books; see `collector.ledger`."""
        return self._ledger.snapshot(self._log.used_bytes if self._log else 0)

    def wait_until_loaded(self, seconds: float) -> bool:
        """Block until everything received by now is in the store, or set aside; False if `seconds` did not suffice or it stopped.

        What arrives meanwhile is not waited for. Call it from another thread than the event loop's.
        """
        deadline = time.monotonic() + seconds
        wanted = {signal: c.received + c.recovered for signal, c in self.stats().signals.items()}
        while any(c.stored + c.rejected + c.quarantined < wanted[s] for s, c in self.stats().signals.items()):
            if time.monotonic() > deadline or self._stopped:
                return False
            time.sleep(0.02)
        return True

    def _patience(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    async def _stop_http(self, http: _HttpServer, serving: asyncio.Task[None]) -> None:
        http.config.timeout_graceful_shutdown = max(1, int(self._patience()))
        http.should_exit = True
        await serving

    async def _stop_loader(self, loader: Loader) -> None:
        await asyncio.to_thread(loader.stop, self._deadline)


class _HttpServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to one of its servers."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        raise PortUnavailable(
            f"cannot listen on `http_host` {host}, `http_port` {port}: {error.strerror}; free it or choose another"
        ) from error


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise PortUnavailable(
            f"cannot listen on `grpc_host` {host}, `grpc_port` {port}; free it or choose another"
        ) from error
