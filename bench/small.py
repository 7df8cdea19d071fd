"""Small requests: how many a second are acknowledged, and how long one takes, beside its peers.

Requests of 1, 10 and 100 spans over 1, 8 and 64 connections, OTLP/HTTP and OTLP/gRPC. Each connection sends its next request
when the last is answered. What an answer promises differs: tracegrade's means fsynced to disk; rotel's and the Collector's mean
taken into memory; Phoenix's likewise. The load generator is Python and has one core of its own at best, so very high rates are
its limit, not the system's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import machine
import payload
import peers
from ingest import DATABASE, hosted
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS = (1, 10, 100)
CONNECTIONS = (1, 8, 64)
PROTOCOLS = ("http", "grpc")
_HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Ports = dict[str, int]


def _template(spans: int) -> bytes:
    request = ExportTraceServiceRequest.FromString(payload.template())
    del request.resource_spans[0].scope_spans[0].spans[spans:]
    return request.SerializeToString()


async def _http(port: int, connections: int, work: Callable[[], bytes | None], done: Callable[[float], None]) -> None:
    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (body := work()) is not None:
            started = time.perf_counter()
            writer.write(_HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer.split(b"\r\n", 1)[0] + b" ":
                raise RuntimeError(f"answered {answer[:200]!r}")
            lower = answer.lower()
            if b"content-length:" in lower:
                await reader.readexactly(int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            elif b"transfer-encoding: chunked" in lower:
                while (size := int((await reader.readline()).strip(), 16)) or await reader.readline() != b"\r\n":
                    await reader.readexactly(size + 2)
            done(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))


async def _grpc(port: int, connections: int, work: Callable[[], bytes | None], done: Callable[[float], None]) -> None:
    async def connection() -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            export = channel.unary_unary(_METHOD)
            while (body := work()) is not None:
                started = time.perf_counter()
                await export(body, timeout=30)
                done(time.perf_counter() - started)

    await asyncio.gather(*(connection() for _ in range(connections)))


_SEND: dict[str, Callable[..., Awaitable[None]]] = {"http": _http, "grpc": _grpc}


def _load(protocol: str, port: int, spans: int, connections: int, seconds: float) -> dict[str, float]:
    template = _template(spans)
    numbers = itertools.count(time.time_ns())
    end = time.perf_counter() + seconds
    taken: list[float] = []

    def work() -> bytes | None:
        return payload.numbered(template, next(numbers)) if time.perf_counter() < end else None

    started = time.perf_counter()
    asyncio.run(_SEND[protocol](port, connections, work, taken.append))  # type: ignore[arg-type]
    elapsed = time.perf_counter() - started
    cut = statistics.quantiles(taken, n=100) if len(taken) > 1 else taken * 99
    return {
        "requests_a_second": round(len(taken) / elapsed, 1),
        "p50_ms": round(cut[49] * 1000, 2),
        "p99_ms": round(cut[98] * 1000, 2),
    }


@contextmanager
def _tracegrade(folder: Path) -> Iterator[Ports]:
    with hosted("engine", folder / "db", DATABASE) as engine:
        dsn = f"http://127.0.0.1:{engine.ready['port']}/{DATABASE}"
        with hosted("collector", folder / "buffer", dsn) as collector:
            yield {protocol: collector.ready[protocol] for protocol in PROTOCOLS}


@contextmanager
def _rotel(folder: Path, bin_: Path) -> Iterator[Ports]:
    with hosted("engine", folder / "db", DATABASE) as engine:
        engine.ask("keep")
        with peers.rotel(bin_, engine.ready["port"], DATABASE, folder) as peer:
            yield {"grpc": peer.port, "http": peer.http_port}


@contextmanager
def _otelcol(folder: Path, binary: Path) -> Iterator[Ports]:
    with hosted("engine", folder / "db", DATABASE) as engine:
        engine.ask("keep")
        with peers.otelcol(binary, engine.ready["port"], DATABASE, folder) as peer:
            yield {"grpc": peer.port, "http": peer.http_port}


@contextmanager
def _phoenix(folder: Path, bin_: Path) -> Iterator[Ports]:
    with peers.phoenix(bin_, folder) as peer:
        yield {"grpc": peer.port, "http": peer.http_port}


def main() -> None:
    if sys.argv[1:2] == ["load"]:  # in a process of its own, so that it does not share our interpreter
        protocol, *numbers = sys.argv[2:]
        port, spans, connections = (int(number) for number in numbers[:3])
        print(json.dumps(_load(protocol, port, spans, connections, float(numbers[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="how long each kind of request is sent (default 3)")
    parser.add_argument("--no-phoenix", action="store_true", help="leave Phoenix out; it is large to install and slow")
    options = parser.parse_args()
    systems: dict[str, Callable[[Path], Iterator[Ports]]] = {"tracegrade": _tracegrade}  # type: ignore[dict-item]
    skipped: dict[str, str] = {}
    found = machine.versions("tracegrade", "chdb-core", "grpcio", "uvicorn")
    try:
        rotel, found["rotel"] = peers.install(peers.ROTEL, 300)
        systems["rotel"] = lambda folder: _rotel(folder, rotel)  # type: ignore[assignment,return-value]
    except peers.Unavailable as reason:
        skipped["rotel"] = str(reason)
    try:
        otelcol = peers.otelcol_binary()
        found["otelcol"] = otelcol.name.rpartition("-")[2]
        systems["otelcol"] = lambda folder: _otelcol(folder, otelcol)  # type: ignore[assignment,return-value]
    except peers.Unavailable as reason:
        skipped["otelcol"] = str(reason)
    if not options.no_phoenix:
        try:
            phoenix, found["phoenix"] = peers.install(peers.PHOENIX, 900)
            systems["phoenix"] = lambda folder: _phoenix(folder, phoenix)  # type: ignore[assignment,return-value]
        except peers.Unavailable as reason:
            skipped["phoenix"] = str(reason)
    about = machine.describe()
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}")
    print(", ".join(f"{name} {version}" for name, version in found.items()), "\n")
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, start in systems.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracegrade-bench-")))
            try:
                ports = stack.enter_context(start(folder))  # type: ignore[arg-type]
                for protocol, spans, connections in itertools.product(PROTOCOLS, SPANS, CONNECTIONS):
                    arguments = ("load", protocol, ports[protocol], spans, connections, options.seconds)
                    command = [sys.executable, __file__, *map(str, arguments)]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
                    cell = f"{protocol} {spans} spans {connections} connections"
                    result = json.loads(done.stdout)
                    results.setdefault(cell, {})[name] = result
                    print(f"{name:12} {cell:34}", "  ".join(f"{k} {v:,.2f}" for k, v in result.items()), flush=True)
            except (peers.Unavailable, subprocess.SubprocessError) as error:
                if name == "tracegrade":
                    raise
                skipped[name] = str(error)
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    head = "".join(f"{name:>28}" for name in systems)
    print(f"\nrequests/s, p50 ms, p99 ms\n{'':34}{head}")
    for cell, row in results.items():
        columns = "".join(
            f"{r['requests_a_second']:12,.0f} {r['p50_ms']:7.1f} {r['p99_ms']:7.1f}"
            if (r := row.get(name))
            else f"{'-':>28}"
            for name in systems
        )
        print(f"{cell:34}{columns}")
    ratios = {
        f"{cell}: requests/s of tracegrade / {name}": round(
            row["tracegrade"]["requests_a_second"] / other["requests_a_second"], 2
        )
        for cell, row in results.items()
        for name, other in row.items()
        if name != "tracegrade" and other["requests_a_second"]
    }
    print(json.dumps({"machine": about, "versions": found, "results": results, "skipped": skipped, "ratios": ratios}))


if __name__ == "__main__":
    main()
