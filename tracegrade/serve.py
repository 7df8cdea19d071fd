"""Everything in one process: store, gate, ClickHouse's HTTP interface, grader, collector.

Promises: nothing accepts telemetry before what is behind it can take it, and on SIGINT or SIGTERM things stop the other way
round, the collector bringing in what it acknowledged. What each part does is its own business.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import grpc.aio
import uvicorn

from collector.commit import SWITCH_SECONDS
from collector.service import Collector
from collector.wire import HttpServer
from gate.api import create_app
from gate.grpc import OPTIONS as GRPC_OPTIONS
from gate.grpc import add_gate
from gate.policy import load_policy
from gate.service import GateService
from graders import GraderSets, grader_types, load_graders
from graders import load_policy as load_agent_policy
from graders.isolation import Isolated
from graders.outward import Emitter
from graders.regrade import Regrade, Selection
from graders.worker import Worker
from store import Retryable, StoreError
from store.client import Dsn, Signal, Store, connect
from store.listen import bind_grpc, listen
from tracegrade.admin import AdminApp
from tracegrade.config import Config, Emit, Grading, is_loopback
from tracegrade.metrics import OwnMetrics, registry
from tracegrade.regrades import Regrades
from tracegrade.running import Addresses, announced, find
from tracegrade.tracing import refuse_own, start_tracing

ANSWER_SECONDS = 5.0
"""How long calls to the gate that are under way may take once the process is asked to stop."""
RECONNECT_SECONDS = 2.0
GRPC_CONCURRENCY = 64

log = logging.getLogger(__name__)


def configured_graders(grading: Grading) -> GraderSets:
    """Every grader there is, with the options the configuration gives. Raises `ConfigError` with every problem."""
    spec = {name: dict(grading.graders.get(name, {})) for name in (*grader_types(), *grading.graders)}
    policies = [load_agent_policy(path) for path in grading.agent_policies]
    return GraderSets(load_graders(spec), [(policy, load_graders(spec, policy=policy)) for policy in policies])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to one of its servers."""
        yield


class _Sink:
    """The collector's way to the store, which may not be there yet: until it is, loading fails for the time being."""

    def __init__(self) -> None:
        self.store: Store | None = None

    def load(self, signal: Signal, segment_id: str, path: Path) -> None:
        self.opened().load(signal, segment_id, path)

    def opened(self) -> Store:
        """The store; raises `Retryable` while it is not there."""
        if self.store is None:
            raise Retryable("the store cannot be reached yet")
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


async def serve(config: Config, ready: Callable[[Addresses], None]) -> None:
    """Run until SIGINT or SIGTERM. `ready` is told where everything listens, once it does.

    A ClickHouse server that is not there yet keeps nobody from sending: the collector starts at once, and what it
    acknowledges waits on disk. An embedded store that cannot be opened is an error.
    """
    graders = configured_graders(config.grading)
    sys.setswitchinterval(SWITCH_SECONDS)
    policies = {policy.name: policy for policy in (load_policy(path, grader_types()) for path in config.policies)}
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    if (other := find(config.data_dir)) is not None:
        raise StoreError(
            f"{config.data_dir} is served already: gate at http://{other.gate}; stop that, or set `data_dir`"
        )
    async with AsyncExitStack() as stack:
        sink = _Sink()
        stack.callback(sink.close)
        collector = Collector(config.collector_settings, sink)
        own = OwnMetrics(collector)
        admin = await _serve_admin(config, AdminApp(registry(own), collector.obstacles), stack)
        try:
            sink.store = await asyncio.to_thread(_open, config)
        except Retryable as error:
            if Dsn.parse(config.dsn).embedded:
                raise
            await _receive(config, collector, stack)
            log.warning("receiving, but not storing yet: %s", error)
            sink.store = await _open_once_there(config, stopping)
            if sink.store is None:
                return
            late = True
        else:
            late = False
        gate = GateService(sink.store, grader_types(), policies, wait_until_loaded=collector.wait_until_loaded)
        regrades = Regrades(lambda selection: make_regrade(config, sink.opened(), graders, selection, nice=5))
        stack.push_async_callback(asyncio.to_thread, regrades.close)
        gate_port = await _serve_gate(config, gate, regrades, stack)
        gate_grpc_port = await _serve_gate_grpc(config, gate, stack)
        clickhouse = _serve_clickhouse(config, stack)
        own.gate = gate
        own.emitter = _emitter(config.grading.emit, stack)
        own.worker = make_worker(config, sink.store, graders, after=own.emitter.emit if own.emitter else None)
        grading = _grade(own.worker, stack)
        if not late:
            await _receive(config, collector, stack)
        if (outward := config.grading.emit.endpoint) is not None:
            why = "each grade would have its trace graded again"
            refuse_own(outward, "grading.emit.endpoint", (collector.grpc_port, collector.http_port), why)
        # However early it began: it stops first, while what it needs still stands and what waits for it can be told.
        stack.push_async_callback(collector.stop, config.collector.drain_seconds)
        stack.callback(gate.hurry)
        addresses = Addresses(
            otlp_grpc=f"{config.collector.grpc_host}:{collector.grpc_port}",
            otlp_http=f"{config.collector.http_host}:{collector.http_port}",
            gate=f"{config.gate.host}:{gate_port}",
            gate_grpc=f"{config.gate.host}:{gate_grpc_port}",
            clickhouse=clickhouse,
            admin=admin,
        )
        with announced(config.data_dir, addresses):
            ready(addresses)
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({stopped, grading}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()


def _open(config: Config) -> Store:
    store = connect(config.dsn)
    try:
        store.apply_schema(config.retention_days)
    except BaseException:
        store.close()
        raise
    return store


async def _open_once_there(config: Config, stopping: asyncio.Event) -> Store | None:
    """Try until the store answers, or None once asked to stop."""
    while not stopping.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), RECONNECT_SECONDS)
        with suppress(Retryable):
            return await asyncio.to_thread(_open, config)
    return None


async def _receive(config: Config, collector: Collector, stack: AsyncExitStack) -> None:
    await collector.start()
    stack.push_async_callback(collector.stop, config.collector.drain_seconds)
    if config.traces_endpoint is not None:
        flush = start_tracing(config.traces_endpoint, (collector.grpc_port, collector.http_port))
        stack.push_async_callback(asyncio.to_thread, flush)


async def _serve_admin(config: Config, app: AdminApp, stack: AsyncExitStack) -> str:
    """Serve metrics, health and readiness until the stack closes; returns the address."""
    host = config.admin.host
    listener = listen(host, config.admin.port, keys=("admin.host", "admin.port"))
    await _run(HttpServer(app), listener, stack)
    return f"{host}:{listener.getsockname()[1]}"


async def _serve_gate(config: Config, gate: GateService, regrades: Regrades, stack: AsyncExitStack) -> int:
    """Serve the gate until the stack closes; returns its port."""
    listener = listen(config.gate.host, config.gate.port, keys=("gate.host", "gate.port"))
    app = create_app(gate, local_only=is_loopback(config.gate.host))
    app.include_router(regrades.router())
    server = _Server(uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False))
    await _run(server, listener, stack)
    return int(listener.getsockname()[1])


async def _run(server: uvicorn.Server, listener: socket.socket, stack: AsyncExitStack) -> None:
    """Have `server` answer on `listener` until the stack closes."""
    task = asyncio.create_task(server.serve(sockets=[listener]))

    async def stop() -> None:
        server.should_exit = True
        await task

    stack.push_async_callback(stop)
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.005)


async def _serve_gate_grpc(config: Config, gate: GateService, stack: AsyncExitStack) -> int:
    """Serve the gate over gRPC until the stack closes; returns its port."""
    server = grpc.aio.server(options=GRPC_OPTIONS, maximum_concurrent_rpcs=GRPC_CONCURRENCY)
    add_gate(server, gate)
    bound = bind_grpc(server, config.gate.host, config.gate.grpc_port, keys=("gate.host", "gate.grpc_port"))
    await server.start()
    stack.push_async_callback(server.stop, ANSWER_SECONDS)
    return bound


def _serve_clickhouse(config: Config, stack: AsyncExitStack) -> str:
    """Serve the embedded engine over HTTP; returns its address, empty when the store is a server of its own."""
    dsn = Dsn.parse(config.dsn)
    if not dsn.embedded:
        return ""
    # Imported here because it needs the embedded engine, which a store on a server does without.
    from store.http import EngineServer

    host, port = config.clickhouse.host, config.clickhouse.port
    engine = EngineServer(dsn.path, database=dsn.database, host=host, port=port).start()
    stack.push_async_callback(asyncio.to_thread, engine.stop)
    return f"{host}:{engine.port}"


def _emitter(emit: Emit, stack: AsyncExitStack) -> Emitter | None:
    """Tell another collector about grades until the stack closes, if the configuration names one."""
    if emit.endpoint is None:
        return None
    emitter = Emitter(
        emit.endpoint,
        headers={name: value.get_secret_value() for name, value in emit.headers.items()},
        timeout_seconds=emit.timeout_seconds,
        graders=emit.graders,
        outcomes=emit.outcomes,
        content=emit.content,
    )
    stack.push_async_callback(asyncio.to_thread, emitter.close, ANSWER_SECONDS)
    return emitter


def make_worker(
    config: Config,
    store: Store,
    graders: GraderSets,
    *,
    wait: bool = True,
    nice: int = 0,
    after: Callable[[bytes], None] | None = None,
) -> Worker:
    """Grades as configured, in a process of its own; without `wait`, as if every trace had been quiet for long."""
    return Worker(
        store,
        graders,
        judge=Isolated(graders, grader_seconds=config.grading.grader_seconds, nice=nice),
        grace_ms=round(config.grading.grace_seconds * 1000) if wait else 0,
        idle_ms=round(config.grading.idle_seconds * 1000) if wait else 0,
        after=after,
    )


def make_regrade(
    config: Config, store: Store, graders: GraderSets, selection: Selection, *, nice: int = 0
) -> tuple[Regrade, Callable[[], None]]:
    """A regrade with a worker of its own, and what ends that."""
    worker = make_worker(config, store, graders, nice=nice)
    grading = config.grading
    times = {"grace_ms": round(grading.grace_seconds * 1000), "idle_ms": round(grading.idle_seconds * 1000)}
    return Regrade(store, graders, worker, selection, **times), worker.close


def _grade(worker: Worker, stack: AsyncExitStack) -> asyncio.Task[None]:
    """Grade in a thread until the stack closes; the task ends earlier only if the worker breaks."""
    stopping = threading.Event()
    grading = asyncio.create_task(asyncio.to_thread(worker.run_forever, stopping))

    async def stop() -> None:
        stopping.set()
        try:
            await grading
        finally:
            worker.close()

    stack.push_async_callback(stop)
    return grading
