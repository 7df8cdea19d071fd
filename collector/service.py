"""The collector as a whole: segments, then loader, then servers; stopped in reverse."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from contextlib import AsyncExitStack, suppress
from typing import Final

from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from collector.auth import Doorkeeper
from collector.commit import GroupCommit
from collector.grpc import SERVICES, grpc_server
from collector.http import HttpApp
from collector.intake import Intake
from collector.ledger import Ledger, Stats
from collector.loader import Loader, Sink
from collector.memory import Memory
from collector.otlp import SIGNALS
from collector.redaction import RedactionCounts, Redactor, make_redactor
from collector.segments import SegmentLog
from collector.settings import CollectorSettings
from collector.wire import HttpServer
from store.listen import PortUnavailable, bind_grpc, listen, server_context

_HIGH_WATER: Final = 0.9
"""Share of the disk budget from which readiness sends senders elsewhere, before they are refused."""
_PROBE_SECONDS: Final = 10.0
"""How often readiness tries the disk while nothing is wrong with it."""
_TELL_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


class Collector:
    """Receives OTLP and brings it into `sink`. Lives on the event loop that starts it."""

    def __init__(self, settings: CollectorSettings, sink: Sink) -> None:
        self.settings = settings
        self._sink = sink
        self._ledger = Ledger()
        self._log: SegmentLog | None = None
        self._redactor: Redactor | None = None
        self._running = AsyncExitStack()
        self._deadline = 0.0
        self._stopped = False
        self._listening = False
        self._probed = -math.inf
        self.memory = Memory()
        """What the bodies of all requests may take together."""
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
            doorkeeper = Doorkeeper(settings.tokens)
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
            if log.recovery.damaged_records:
                _log.warning(
                    "%d records in the buffer were damaged and are in quarantine; `tracegrade quarantine list` shows them",
                    log.recovery.damaged_records,
                )

            loader = Loader(log, self._sink, self._ledger, sealed)
            loader.start()
            stack.push_async_callback(self._stop_loader, loader)

            commit = GroupCommit(log, self._ledger, interval_seconds=settings.fsync_interval_seconds)
            stack.push_async_callback(commit.stop)

            self._redactor = await asyncio.to_thread(
                make_redactor, settings.redaction, settings.buffer_dir.parent / "redaction.key"
            )
            if self._redactor is not None:
                stack.callback(self._redactor.close)
            intake = Intake(commit, self._ledger, self.memory, self._redactor)
            context = server_context(settings.tls) if settings.tls else None
            listener = listen(settings.http_host, settings.http_port, keys=("http_host", "http_port"))
            stack.callback(listener.close)
            self.http_port = listener.getsockname()[1]
            app = HttpApp(
                intake,
                doorkeeper,
                max_request_bytes=settings.max_request_bytes,
                allowed_origins=settings.cors_allowed_origins,
            )
            http = HttpServer(app, context)
            serving = asyncio.create_task(http.serve(sockets=[listener]), name="collector-http")
            stack.push_async_callback(self._stop_http, http, serving)

            while not http.started:
                if serving.done():
                    await serving
                    raise PortUnavailable("the HTTP server ended while starting")
                await asyncio.sleep(0.005)

            checkup = health.aio.HealthServicer()
            rpc = grpc_server(intake, doorkeeper, checkup, max_request_bytes=settings.max_request_bytes)
            stack.push_async_callback(lambda: rpc.stop(self._answering()))
            self.grpc_port = bind_grpc(
                rpc, settings.grpc_host, settings.grpc_port, keys=("grpc_host", "grpc_port"), tls=settings.tls
            )
            await rpc.start()
            self._listening = True
            telling = asyncio.create_task(self._tell(checkup), name="collector-health")

            async def hush() -> None:
                telling.cancel()
                with suppress(asyncio.CancelledError):
                    await telling
                await checkup.enter_graceful_shutdown()

            stack.push_async_callback(hush)
            self._running = stack.pop_all()

    async def stop(self, deadline: float = 10.0) -> None:
        """Stop listening, answer what was received, load what is on disk; within `deadline` seconds, or as far as it got.

        What could not be loaded in time stays on disk for the next start. Safe to call without `start`, and twice.
        """
        self._deadline = time.monotonic() + deadline
        self._listening = False
        await self._running.aclose()
        self._stopped = True

    def stats(self) -> Stats:
        """The books; see `collector.ledger`."""
        return self._ledger.snapshot(self._log.used_bytes if self._log else 0)

    @property
    def waiting(self) -> tuple[int, float]:
        """Sealed segments that wait for the store, and the age of the oldest in seconds."""
        return (len(self._log.sealed()), self._log.oldest_seconds()) if self._log else (0, 0.0)

    def obstacles(self) -> list[str]:
        """Why telemetry cannot be taken now, each in a sentence; empty when it can. Touches the disk."""
        if self._log is None or not self._listening:
            return ["the collector is not listening: it is starting, or stopping"]
        found = []
        used, budget = self._log.used_bytes, self.settings.disk_budget_bytes
        if used > _HIGH_WATER * budget:
            found.append(
                f"the buffer holds {used} of {budget} bytes (`collector.disk_budget_bytes`), "
                f"more than {_HIGH_WATER:.0%}; it empties as the store takes segments"
            )
        if self._ledger.write_error or time.monotonic() - self._probed > _PROBE_SECONDS:
            try:
                self._log.probe()
                self._ledger.write_error = ""
                self._probed = time.monotonic()
            except OSError as error:
                self._ledger.write_error = f"the buffer cannot be written: {error.strerror or error}"
        if self._ledger.write_error:
            found.append(self._ledger.write_error)
        return found

    async def _tell(self, checkup: health.aio.HealthServicer) -> None:
        """Keep the health service of the OTLP port up to date."""
        while True:
            obstacles = await asyncio.to_thread(self.obstacles)
            answer = HealthCheckResponse.NOT_SERVING if obstacles else HealthCheckResponse.SERVING
            for service in ("", *SERVICES):
                await checkup.set(service, answer)
            await asyncio.sleep(_TELL_SECONDS)

    def redaction(self) -> tuple[str, RedactionCounts] | None:
        """Digest of the rules in force and what they did; None if nothing is redacted."""
        return (self._redactor.digest, self._redactor.counts()) if self._redactor else None

    def wait_until_loaded(self, seconds: float) -> bool:
        """Block until everything received by now is in the store, or set aside.

        False if `seconds` did not suffice or the collector stopped. What arrives meanwhile is not waited for. Call it from
        another thread than the event loop's.
        """
        deadline = time.monotonic() + seconds
        wanted = {signal: c.received + c.recovered for signal, c in self.stats().signals.items()}
        while any(c.stored + c.rejected + c.quarantined < wanted[s] for s, c in self.stats().signals.items()):
            if time.monotonic() > deadline or self._stopped:
                return False
            time.sleep(0.02)
        return True

    def _answering(self) -> float:
        """How long a transport may wait for requests under way: one that never ends must leave time to load."""
        return max(0.0, self._deadline - time.monotonic()) / 3

    async def _stop_http(self, http: HttpServer, serving: asyncio.Task[None]) -> None:
        http.config.timeout_graceful_shutdown = max(1, int(self._answering()))
        http.should_exit = True
        await serving

    async def _stop_loader(self, loader: Loader) -> None:
        await asyncio.to_thread(loader.stop, self._deadline)
