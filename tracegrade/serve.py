"""Everything in one process: store, gate, ClickHouse's HTTP interface, grader, collector.

Promises: nothing accepts telemetry before what is behind it can take it, and on SIGINT or SIGTERM things stop the other way
round, the collector bringing in what it acknowledged. What each part does is its own business.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import uvicorn
from fastapi import FastAPI

from collector.service import Collector
from gate.api import create_app
from gate.policy import load_policy
from gate.service import GateService
from graders import Grader, grader_types, load_graders
from graders import load_policy as load_approval_policy
from graders.worker import Worker
from store.client import Dsn, connect
from tracegrade.config import Config, Grading, Listener
from tracegrade.running import Addresses, announced

DRAIN_SECONDS = 20.0


def configured_graders(grading: Grading) -> tuple[Grader, ...]:
    """Every grader there is, with the options the configuration gives. Raises `ConfigError` with every problem."""
    spec = {name: dict(grading.graders.get(name, {})) for name in (*grader_types(), *grading.graders)}
    if grading.approval_policy is not None:
        spec["approval/boundary"]["policy"] = load_approval_policy(grading.approval_policy)
    return load_graders(spec)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to one of its servers."""
        yield


async def _serve_app(app: FastAPI, listener: Listener, stack: AsyncExitStack) -> int:
    """Serve until the stack closes; returns the bound port."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    bound = socket.create_server((listener.host, listener.port), family=family, backlog=128)
    server = _Server(uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False))
    task = asyncio.create_task(server.serve(sockets=[bound]))

    async def stop() -> None:
        server.should_exit = True
        await task

    stack.push_async_callback(stop)
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.005)
    return int(bound.getsockname()[1])


async def serve(config: Config, ready: Callable[[Addresses], None]) -> None:
    """Run until SIGINT or SIGTERM. `ready` is told where everything listens, once it does."""
    graders = configured_graders(config.grading)
    policies = {policy.name: policy for policy in (load_policy(path, grader_types()) for path in config.policies)}
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(connect(config.dsn))
        store.apply_schema(config.retention_days)
        gate = GateService(store, grader_types(), policies)
        gate_port = await _serve_app(create_app(gate), config.gate, stack)

        clickhouse = ""
        dsn = Dsn.parse(config.dsn)
        if dsn.embedded:
            # Imported here because it needs the embedded engine, which a store on a server does without.
            from store.http import EngineServer

            engine = EngineServer(
                dsn.path, database=dsn.database, host=config.clickhouse.host, port=config.clickhouse.port
            ).start()
            stack.push_async_callback(asyncio.to_thread, engine.stop)
            clickhouse = f"{config.clickhouse.host}:{engine.port}"

        worker = Worker(
            store,
            graders,
            grace_ms=round(config.grading.grace_seconds * 1000),
            idle_ms=round(config.grading.idle_seconds * 1000),
        )
        grading_stops = threading.Event()
        grading = asyncio.create_task(asyncio.to_thread(worker.run_forever, grading_stops))

        async def stop_grading() -> None:
            grading_stops.set()
            await grading

        stack.push_async_callback(stop_grading)

        collector = Collector(config.collector_settings, store)
        await collector.start()
        stack.push_async_callback(collector.stop, DRAIN_SECONDS)

        addresses = Addresses(
            otlp_grpc=f"{config.collector.grpc_host}:{collector.grpc_port}",
            otlp_http=f"{config.collector.http_host}:{collector.http_port}",
            gate=f"{config.gate.host}:{gate_port}",
            clickhouse=clickhouse,
        )
        with announced(config.data_dir, addresses):
            ready(addresses)
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({stopped, grading}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
