"""Everything goes wrong for a while, and at the end every acknowledged span must be in ClickHouse once.

Four clients of different kinds (and one whose requests the store refuses for ever) send to a collector in a process of its
own, which stores into a ClickHouse in another. Meanwhile ClickHouse is stopped and killed and started again, and the
collector killed with SIGKILL, in random order. Each client keeps its own ledger of what was acknowledged, refused, or left
without an answer. A request is all or nothing, so of each one must be found: one copy if it was acknowledged, plus at most one
for each try that got no answer (senders repeat those, and may); for poison the same in quarantine, and none in the store.

The collector's own books must balance in every snapshot, four a second, of every life.

    soak.py [--minutes 10 | --seconds 15] [--seed N]         ends with one JSON line; exits with 1 if a promise was broken
    soak.py collector BUFFER DSN HTTP_PORT GRPC_PORT         the collector process
    soak.py client KIND HTTP_PORT GRPC_PORT LEDGER           a client process
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import machine

HERE = Path(__file__).parent
KINDS = ("python-grpc", "python-http-gzip", "raw-json", "logs-grpc", "poison")
POISON = "refused-by-the-soak"
ITEMS = {"python-grpc": 50, "python-http-gzip": 50, "raw-json": 50, "logs-grpc": 50, "poison": 3}
# Each poisoned segment costs a dozen inserts, so the poison is rare: it is to be found, not to be the load.
PAUSE = {"python-grpc": 0.05, "python-http-gzip": 0.05, "raw-json": 0.05, "logs-grpc": 0.05, "poison": 5.0}
STUCK_SECONDS = 120


# --- clients ------------------------------------------------------------------------------------------------------


@dataclass
class Tries:
    """What became of the tries of one request."""

    refused: int = 0
    """Answered with "try again": it was not taken."""
    unanswered: int = 0
    """It may have been taken."""


def trace_of(kind: str, number: int) -> int:
    """The trace id that says whose request it is."""
    return (KINDS.index(kind) + 1) << 120 | number + 1


def request_of(trace_id: str) -> tuple[str, int]:
    number = int(trace_id, 16)
    return KINDS[(number >> 120) - 1], (number & (1 << 120) - 1) - 1


Send = Callable[[int, Tries], bool]


def _spans(kind: str) -> Callable[[int], Any]:
    """Builds the spans of a request as the SDK does."""
    from opentelemetry.sdk.trace import IdGenerator, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    class Ids(IdGenerator):
        trace = 0
        spans = itertools.count(1)

        def generate_trace_id(self) -> int:
            return self.trace

        def generate_span_id(self) -> int:
            return next(self.spans)

    ids, made = Ids(), InMemorySpanExporter()
    provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made))
    tracer = provider.get_tracer("soak")

    def build(number: int) -> Any:
        ids.trace = trace_of(kind, number)
        ids.spans = itertools.count(1)
        for _ in range(ITEMS[kind]):
            attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "padding": "x" * 300}
            tracer.start_span("execute_tool lookup", attributes=attributes).end()
        spans = made.get_finished_spans()
        made.clear()
        return spans

    return build


def _logs(kind: str) -> Callable[[int], Any]:
    from opentelemetry import trace
    from opentelemetry._logs import LogRecord
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

    made = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(made))
    logger = provider.get_logger("soak")

    def build(number: int) -> Any:
        for at in range(ITEMS[kind]):
            span = trace.SpanContext(trace_of(kind, number), at + 1, False, trace.TraceFlags(1))
            context = trace.set_span_in_context(trace.NonRecordingSpan(span))
            logger.emit(LogRecord(timestamp=time.time_ns(), body="x" * 100, context=context))
        records = made.get_finished_logs()
        made.clear()
        return records

    return build


def _count_grpc(exporter: Any, current: list[Tries]) -> None:
    """See every try of an OTLP/gRPC exporter. It has no public place for that."""
    import grpc

    make_stub = exporter._stub

    class Counting:
        def __init__(self, channel: Any) -> None:
            self._real = make_stub(channel)

        def Export(self, **arguments: Any) -> Any:
            try:
                return self._real.Export(**arguments)
            except grpc.RpcError as error:
                told = dict(error.trailing_metadata() or ())
                if "google.rpc.retryinfo-bin" in told:
                    current[0].refused += 1
                else:
                    current[0].unanswered += 1
                raise

    exporter._stub = Counting
    exporter._client = Counting(exporter._channel)


def _grpc_client(kind: str, port: int) -> Send:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs.export import LogRecordExportResult
    from opentelemetry.sdk.trace.export import SpanExportResult

    logs = kind.startswith("logs")
    build = _logs(kind) if logs else _spans(kind)
    exporter = (OTLPLogExporter if logs else OTLPSpanExporter)(endpoint=f"127.0.0.1:{port}", insecure=True)
    current = [Tries()]
    _count_grpc(exporter, current)

    def send(number: int, tries: Tries) -> bool:
        current[0] = tries
        return exporter.export(build(number)) in (SpanExportResult.SUCCESS, LogRecordExportResult.SUCCESS)

    return send


def _http_client(kind: str, port: int) -> Send:
    import requests
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult
    from requests.adapters import HTTPAdapter

    current = [Tries()]

    class Counting(HTTPAdapter):
        def send(self, *arguments: Any, **options: Any) -> Any:
            try:
                answer = super().send(*arguments, **options)
            except Exception:
                current[0].unanswered += 1
                raise
            if not answer.ok:
                current[0].refused += 1
            return answer

    session = requests.Session()
    session.mount("http://", Counting())
    session.trust_env = False
    build = _spans(kind)
    url = f"http://127.0.0.1:{port}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=url, compression=Compression.Gzip, session=session)

    def send(number: int, tries: Tries) -> bool:
        current[0] = tries
        return exporter.export(build(number)) is SpanExportResult.SUCCESS

    return send


def _json_client(kind: str, port: int) -> Send:
    """A sender with no library: one try, then on to the next request."""
    import urllib3

    pool = urllib3.PoolManager(retries=False, timeout=10)

    def send(number: int, tries: Tries) -> bool:
        now = time.time_ns()
        spans = [
            {
                "traceId": f"{trace_of(kind, number):032x}",
                "spanId": f"{at + 1:016x}",
                "name": POISON if kind == "poison" else "GET /",
                "startTimeUnixNano": str(now),
                "endTimeUnixNano": str(now + 1000),
                "attributes": [{"key": "number", "value": {"intValue": str(number)}}],
            }
            for at in range(ITEMS[kind])
        ]
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
        headers = {"content-type": "application/json"}
        try:
            answer = pool.request("POST", f"http://127.0.0.1:{port}/v1/traces", body=body, headers=headers)
        except urllib3.exceptions.HTTPError:
            tries.unanswered += 1
            return False
        tries.refused += answer.status != 200
        return answer.status == 200

    return send


def client(kind: str, http_port: int, grpc_port: int, ledger: Path) -> None:
    """Send until told to stop; one ledger line a request: number, acknowledged?, refused tries, unanswered tries."""
    logging.disable(logging.CRITICAL)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if kind.endswith("grpc"):
        send = _grpc_client(kind, grpc_port)
    elif kind == "python-http-gzip":
        send = _http_client(kind, http_port)
    else:
        send = _json_client(kind, http_port)
    with ledger.open("w", buffering=1) as book:
        for number in itertools.count():
            if stop.is_set():
                return
            tries = Tries()
            acknowledged = send(number, tries)
            book.write(f"{number} {int(acknowledged)} {tries.refused} {tries.unanswered}\n")
            stop.wait(PAUSE[kind] if acknowledged else 0.2)


# --- the collector ------------------------------------------------------------------------------------------------


async def collector(buffer: Path, dsn: str, http_port: int, grpc_port: int) -> None:
    from collector.service import Collector
    from collector.settings import CollectorSettings
    from store import Permanent
    from store.client import Store, connect

    class Sink:
        """The store, once it can be reached, that refuses poison."""

        store: Store | None = None

        def load(self, signal: Any, segment_id: str, path: Path, /) -> None:
            if POISON.encode() in path.read_bytes():
                raise Permanent("the soak refuses this for ever")
            if self.store is None:
                store = connect(dsn)
                store.apply_schema()
                self.store = store
            self.store.load(signal, segment_id, path)

    one = Collector(CollectorSettings(buffer_dir=buffer, http_port=http_port, grpc_port=grpc_port), Sink())
    await one.start()

    def tell(last: bool) -> None:
        stats = one.stats()
        books = {signal: asdict(counts) for signal, counts in stats.signals.items()}
        print(json.dumps({"books": books, "retries": stats.load_retries, "torn": stats.torn_bytes, "last": last}))
        sys.stdout.flush()

    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    while not stopping.is_set():
        tell(last=False)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 0.25)
    await one.stop(60)
    tell(last=True)


# --- the run ------------------------------------------------------------------------------------------------------


@dataclass
class Life:
    """One process of the collector, as it told of itself."""

    process: subprocess.Popen[str]
    snapshots: int = 0
    unbalanced: int = 0
    books: dict[str, dict[str, int]] = field(default_factory=dict)
    last: bool = False
    retries: int = 0
    torn: int = 0
    peak_mb: float = 0.0

    def follow(self) -> None:
        """Read snapshots until the process ends; each must balance."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                told = json.loads(line)
            except ValueError:  # cut by SIGKILL
                continue
            self.snapshots += 1
            self.books, self.last, self.retries, self.torn = told["books"], told["last"], told["retries"], told["torn"]
            for c in self.books.values():
                where = c["stored"] + c["rejected"] + c["buffered"] + c["quarantined"]
                self.unbalanced += c["received"] + c["recovered"] != where
            with suppress(OSError, ValueError):
                self.peak_mb = max(self.peak_mb, machine.peak_rss_mb(self.process.pid))

    def buffered(self) -> int:
        return sum(counts["buffered"] for counts in self.books.values())


class Run:
    """All processes of a soak, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http_port, self.grpc_port, engine_port = _free_ports(3)
        self.dsn = f"clickhouse://127.0.0.1:{engine_port}/soak"
        self._engine_command = ["-m", "tracegrade", "clickhouse", "--path", folder / "db", "--port", engine_port]
        self.engine: subprocess.Popen[str] | None = None
        self.lives: list[Life] = []
        self.clients: dict[str, subprocess.Popen[str]] = {}
        self._log = (folder / "log").open("a")
        self._readers: list[threading.Thread] = []

    def _spawn(self, *arguments: object, stdout: int | IO[str]) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.Popen(command, stdout=stdout, stderr=self._log, stdin=subprocess.DEVNULL, text=True)

    def start_engine(self) -> None:
        self.engine = self._spawn(*self._engine_command, stdout=self._log)

    def stop_engine(self, how: signal.Signals) -> None:
        assert self.engine is not None
        self.engine.send_signal(how)
        try:
            self.engine.wait(30)
        except subprocess.TimeoutExpired:
            self.engine.kill()
            self.engine.wait()

    def start_collector(self) -> None:
        process = self._spawn(
            *(HERE / "soak.py", "collector", self.folder / "buffer", self.dsn, self.http_port, self.grpc_port),
            stdout=subprocess.PIPE,
        )
        self.lives.append(Life(process))
        self._readers.append(threading.Thread(target=self.lives[-1].follow, daemon=True))
        self._readers[-1].start()

    def kill_collector(self) -> None:
        self.lives[-1].process.kill()
        self.lives[-1].process.wait()
        self._readers[-1].join()

    def start_clients(self) -> None:
        for kind in KINDS:
            self.clients[kind] = self._spawn(
                HERE / "soak.py", "client", kind, self.http_port, self.grpc_port, self.ledger(kind), stdout=self._log
            )

    def wait_for_the_first_answers(self) -> None:
        """Until every client has something acknowledged; raises TimeoutError."""
        deadline = time.monotonic() + 60
        for kind in KINDS:
            while not any(acknowledged for _, acknowledged, _, _ in self.book(kind)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{kind}: nothing was acknowledged within a minute")
                time.sleep(0.05)

    def stop_clients(self) -> None:
        for process in self.clients.values():
            process.terminate()
        for process in self.clients.values():
            process.wait(60)

    def ledger(self, kind: str) -> Path:
        return self.folder / f"{kind}.ledger"

    def book(self, kind: str) -> list[list[int]]:
        """What a client wrote down; see `client`."""
        ledger = self.ledger(kind)
        return (
            [[int(word) for word in line.split()] for line in ledger.read_text().splitlines()]
            if ledger.exists()
            else []
        )

    def settle(self) -> bool:
        """Let the collector bring in everything, then stop it; whether it could. Gives up once nothing moves any more."""
        life = self.lives[-1]
        left, moved = -1, time.monotonic()
        while (not life.books or life.buffered()) and time.monotonic() < moved + STUCK_SECONDS:
            if life.books and life.buffered() != left:
                left, moved = life.buffered(), time.monotonic()
            time.sleep(0.2)
        life.process.terminate()
        life.process.wait(90)
        self._readers[-1].join()
        return life.last and life.buffered() == 0

    def close(self) -> None:
        for process in (*self.clients.values(), *(life.process for life in self.lives), self.engine):
            if process is not None:
                process.kill()
                process.wait()
        self._log.close()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(listener.getsockname()[1]) for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@contextmanager
def _running() -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="tracegrade-soak-") as folder:
        run = Run(Path(folder))
        try:
            yield run
        except BaseException:
            print((run.folder / "log").read_text()[-5000:], file=sys.stderr)
            raise
        finally:
            run.close()


def trouble(run: Run, until: float, chance: random.Random, longest: float) -> dict[str, int]:
    """Stop and start things until time is up; how often what was done. Each kind comes up before any comes up again."""
    done: dict[str, int] = defaultdict(int)
    shortest = longest / 4

    def pause() -> float:
        seconds = chance.uniform(shortest, longest)
        time.sleep(max(0.0, min(seconds, until - time.monotonic())))
        return until - time.monotonic()

    def engine(how: signal.Signals) -> None:
        run.stop_engine(how)
        pause()
        run.start_engine()

    def both() -> None:
        run.stop_engine(signal.SIGKILL)
        run.kill_collector()
        run.start_collector()
        pause()
        run.start_engine()

    def collector_killed() -> None:
        run.kill_collector()
        run.start_collector()

    kinds: dict[str, Callable[[], None]] = {
        "collector killed": collector_killed,
        "ClickHouse stopped": lambda: engine(signal.SIGTERM),
        "ClickHouse killed": lambda: engine(signal.SIGKILL),
        "both killed": both,
    }
    while pause() > 0:
        left = [name for name in kinds if done[name] == min(done[known] for known in kinds)]
        name = chance.choice(left)
        print(f"  {until - time.monotonic():6.1f} s left  {name}", flush=True)
        kinds[name]()
        done[name] += 1
    return dict(done)


def account(run: Run) -> dict[str, dict[str, int]]:
    """Compare every client's ledger with what is in the store and in quarantine."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from collector.quarantine import Quarantine
    from collector.segments import examine, payload_of
    from store.client import connect

    found: dict[str, dict[int, tuple[int, int]]] = {kind: {} for kind in KINDS}
    with connect(run.dsn, create=False) as store:
        for table in ("otel_traces", "otel_logs"):
            rows = store.query(f"SELECT TraceId, count() AS n, uniqExact(SpanId) AS ids FROM {table} GROUP BY TraceId")
            for row in rows:
                kind, number = request_of(row["TraceId"])
                found[kind][number] = row["n"], row["ids"]
    aside: dict[int, int] = defaultdict(int)
    kept = Quarantine(run.folder / "buffer")
    for piece in kept.pieces():
        data = kept.read(piece)
        for entry in examine(piece.signal, data, (), may_be_torn=False).kept:
            message = ExportTraceServiceRequest.FromString(payload_of(data, entry))
            span = message.resource_spans[0].scope_spans[0].spans[0]
            aside[request_of(span.trace_id.hex())[1]] += 1

    report: dict[str, dict[str, int]] = {}
    for kind in KINDS:
        c: dict[str, int] = dict.fromkeys(
            (
                "requests",
                "acknowledged",
                "refused",
                "unanswered",
                "items",
                "stored",
                "quarantined",
                "lost",
                "doubled",
                "torn",
            ),
            0,
        )
        sent = set()
        for number, acknowledged, refused, unanswered in run.book(kind):
            sent.add(number)
            rows, ids = found[kind].get(number, (0, 0))
            copies = aside[number] if kind == "poison" else rows // ITEMS[kind]
            c["requests"] += 1
            c["acknowledged"] += acknowledged
            c["refused"] += refused
            c["unanswered"] += unanswered
            c["items"] += acknowledged * ITEMS[kind]
            c["stored"] += rows
            c["quarantined"] += aside[number] * ITEMS[kind] if kind == "poison" else 0
            c["lost"] += copies < acknowledged
            c["doubled"] += copies > acknowledged + unanswered
            c["torn"] += bool(rows) and (kind == "poison" or ids != ITEMS[kind] or rows % ITEMS[kind] != 0)
        c["doubled"] += len(found[kind].keys() - sent)
        report[kind] = c
    return report


def main(options: argparse.Namespace) -> int:
    seconds = options.seconds or options.minutes * 60
    seed = options.seed if options.seed is not None else random.randrange(2**32)
    print(f"{seconds:g} s, --seed {seed}", flush=True)
    with _running() as run:
        run.start_engine()
        run.start_collector()
        run.start_clients()
        run.wait_for_the_first_answers()
        started = time.monotonic()
        done = trouble(run, started + seconds, random.Random(seed), min(12.0, seconds / 6))
        run.stop_clients()
        settling = time.monotonic()
        settled = run.settle()
        settling = time.monotonic() - settling
        report = account(run)
        lives = run.lives
        summary = {
            "seconds": round(time.monotonic() - started, 1),
            "seed": seed,
            "faults": done,
            "clients": report,
            "books": lives[-1].books,
            "lives": len(lives),
            "snapshots": sum(life.snapshots for life in lives),
            "unbalanced": sum(life.unbalanced for life in lives),
            "load_retries": sum(life.retries for life in lives),
            "torn_bytes": sum(life.torn for life in lives),
            "peak_mb": round(max(life.peak_mb for life in lives)),
            "settled": settled,
            "settle_seconds": round(settling, 1),
        }
    names = list(next(iter(report.values())))
    print(f"\n{'':18}" + "".join(f"{name:>14}" for name in names))
    for kind, counts in report.items():
        print(f"{kind:18}" + "".join(f"{counts[name]:14,}" for name in names))
    print("\nthe collector's last books")
    for name, counts in lives[-1].books.items():
        received = f"received {counts['received']} + recovered {counts['recovered']}"
        where = " + ".join(f"{key} {counts[key]}" for key in ("stored", "rejected", "buffered", "quarantined"))
        print(f"  {name:7} {received} = {where}")
    broken = sum(counts[key] for counts in report.values() for key in ("lost", "doubled", "torn"))
    summary["ok"] = (
        settled and not broken and not summary["unbalanced"] and all(c["acknowledged"] for c in report.values())
    )
    print(json.dumps(summary))
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["collector", buffer, dsn, http_port, grpc_port]:
            asyncio.run(collector(Path(buffer), dsn, int(http_port), int(grpc_port)))
        case ["client", kind, http_port, grpc_port, ledger]:
            client(kind, int(http_port), int(grpc_port), Path(ledger))
        case _:
            parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
            parser.add_argument("--minutes", type=float, default=10, help="how long things go wrong (default 10)")
            parser.add_argument("--seconds", type=float, default=0, help="the same, in seconds")
            parser.add_argument("--seed", type=int, help="repeats the order of faults")
            os.nice(5)
            sys.exit(main(parser.parse_args()))
