"""What a stored span costs: the collector and ClickHouse, against rotel and Phoenix, on the same spans in one run.

Every system gets the same requests over OTLP/gRPC from a process of its own that keeps a number of them in flight, and a
fresh engine. Time runs until the last span can be counted in the store; CPU is that of each process (in embedded mode, of
the collector's threads and of the rest), once until stored and once until the engine's merges have come to rest. The ratios
are of medians, of CPU until rest: what a span costs altogether.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import machine
import payload
import peers

HERE = Path(__file__).parent
DATABASE = "bench"
ALL = "all views"


class Host:
    """A process of `host.py`."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, str(HERE / "host.py"), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready: dict[str, int] = self._read()

    def ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def hosted(*arguments: object) -> Iterator[Host]:
    with closing(Host(*arguments)) as host:
        yield host


def _send(port: int, requests: int, first: int, protocol: str) -> dict[str, float]:
    """Send it all; raises if any request was refused. In-flight requests are enough to keep two cores busy."""
    command = [sys.executable, str(HERE / "load.py"), protocol, str(port), str(requests), str(first), "16"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    return dict(json.loads(done.stdout))


def _until(count: Callable[[], int], spans: int, seconds: float) -> int:
    """Wait until `spans` are there; how many are, when time runs out."""
    deadline = time.monotonic() + seconds
    while (found := count()) < spans and time.monotonic() < deadline:
        # Counting costs the engine something, so not too often.
        time.sleep(0.1)
    return found


Cost = Callable[[], tuple[float, float]]


def _measure(
    cost: Cost, count: Callable[[], int], settle: Callable[[], Any], port: int, requests: int, protocol: str
) -> dict[str, float]:
    """Warm up with a few requests, then measure the rest. `cost` gives CPU seconds of collector and ClickHouse."""
    first = max(1, requests // 100)
    spans, warm = requests * payload.SPANS, first * payload.SPANS
    _send(port, first, 1, protocol)
    if _until(count, warm, 120) != warm:
        raise RuntimeError("the first requests are not stored")
    settle()
    front0, store0 = cost()
    started = time.monotonic()
    sent = _send(port, requests, 1000, protocol)
    found = _until(count, warm + spans, 300) - warm
    seconds = time.monotonic() - started
    if found != spans:
        raise RuntimeError(f"{found} of {spans} spans are stored")
    front1, store1 = cost()
    settle()
    front2, store2 = cost()
    each = 1e6 / spans
    return {
        "spans_a_second": spans / seconds,
        "acknowledged_a_second": spans / sent["seconds"],
        "collector_us": (front1 - front0) * each,
        "clickhouse_us": (store1 - store0) * each,
        "settled_us": (front2 - front0 + store2 - store0) * each,
    }


def tracegrade_http(
    requests: int, folder: Path, *, keep: str = "", protocol: str = "grpc", groups: tuple[str, ...] = ()
) -> dict[str, float]:
    with hosted("engine", folder / "db", DATABASE) as engine:
        if keep != ALL:
            engine.ask(f"keep {keep}")
        dsn = f"http://127.0.0.1:{engine.ready['port']}/{DATABASE}"
        with hosted("collector", folder / "buffer", dsn, *groups) as collector:
            result = _measure(
                lambda: (collector.ask("cost")["cpu"], engine.ask("cost")["cpu"]),
                lambda: int(engine.ask("count otel_traces")),
                lambda: engine.ask("settle"),
                collector.ready[protocol],
                requests,
                protocol,
            )
            return {**result, "collector_mb": collector.ask("cost")["rss"], "clickhouse_mb": engine.ask("cost")["rss"]}


def tracegrade_receiving(requests: int, folder: Path, *, protocol: str) -> dict[str, float]:
    with hosted("receiver", folder / "buffer") as host:
        result = _measure(
            lambda: (host.ask("cost")["cpu"], 0.0),
            lambda: int(host.ask("count")),
            lambda: None,
            host.ready[protocol],
            requests,
            protocol,
        )
        return {**result, "collector_mb": host.ask("cost")["rss"]}


def tracegrade_embedded(requests: int, folder: Path, *, keep: str = "") -> dict[str, float]:
    with hosted("collector", folder / "buffer", f"chdb://{folder / 'db'}") as host:
        if keep != ALL:
            host.ask(f"keep {keep}")

        def cost() -> tuple[float, float]:
            both = host.ask("cost")
            return both["collector"], both["cpu"] - both["collector"]

        def count() -> int:
            return int(host.ask("count otel_traces"))

        result = _measure(cost, count, lambda: host.ask("settle"), host.ready["grpc"], requests, "grpc")
        return {**result, "process_mb": host.ask("cost")["rss"]}


def rotel(requests: int, folder: Path, *, bin_: Path) -> dict[str, float]:
    with hosted("engine", folder / "db", DATABASE) as engine:
        engine.ask("keep")
        with peers.rotel(bin_, engine.ready["port"], DATABASE, folder) as peer:
            result = _measure(
                lambda: (machine.cpu_seconds(peer.process.pid), engine.ask("cost")["cpu"]),
                lambda: int(engine.ask("count otel_traces")),
                lambda: engine.ask("settle"),
                peer.port,
                requests,
                "grpc",
            )
            memory = machine.peak_rss_mb(peer.process.pid)
            return {**result, "collector_mb": memory, "clickhouse_mb": engine.ask("cost")["rss"]}


def phoenix(requests: int, folder: Path, *, bin_: Path) -> dict[str, float]:
    """Phoenix takes far longer a span, so it gets fewer; SQLite and the server are one process."""
    with peers.phoenix(bin_, folder) as peer:

        def count() -> int:
            with closing(sqlite3.connect(f"file:{folder / 'phoenix.db'}?mode=ro", uri=True)) as database:
                return int(database.execute("SELECT count(*) FROM spans").fetchone()[0])

        result = _measure(
            lambda: (machine.cpu_seconds(peer.process.pid), 0.0), count, lambda: None, peer.port, requests, "grpc"
        )
        return {**result, "process_mb": machine.peak_rss_mb(peer.process.pid)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each system is measured (default 3)")
    parser.add_argument("--requests", type=int, default=400, help=f"requests of {payload.SPANS} spans (default 400)")
    parser.add_argument("--no-phoenix", action="store_true", help="leave Phoenix out; it is large to install and slow")
    options = parser.parse_args()
    bytes_a_span = len(payload.template()) / payload.SPANS
    about = machine.describe()
    found = machine.versions("tracegrade", "chdb-core", "clickhouse-connect", "grpcio", "uvicorn")
    systems: dict[str, Callable[[Path], dict[str, float]]] = {
        "tracegrade, OTLP/gRPC to disk": lambda folder: tracegrade_receiving(
            4 * options.requests, folder, protocol="grpc"
        ),
        "tracegrade, OTLP/HTTP to disk": lambda folder: tracegrade_receiving(
            4 * options.requests, folder, protocol="http"
        ),
        "tracegrade, over HTTP, otel_traces": lambda folder: tracegrade_http(options.requests, folder),
        "tracegrade, over HTTP, + agent_spans": lambda folder: tracegrade_http(
            options.requests, folder, keep="agent_spans_mv"
        ),
        "tracegrade, over HTTP, all views": lambda folder: tracegrade_http(options.requests, folder, keep=ALL),
        "tracegrade, OTLP/HTTP in, all views": lambda folder: tracegrade_http(
            options.requests, folder, keep=ALL, protocol="http"
        ),
        "tracegrade, redacting, all views": lambda folder: tracegrade_http(
            options.requests, folder, keep=ALL, groups=("secrets",)
        ),
        "tracegrade, embedded, otel_traces": lambda folder: tracegrade_embedded(options.requests, folder),
        "tracegrade, embedded, all views": lambda folder: tracegrade_embedded(options.requests, folder, keep=ALL),
    }
    skipped: dict[str, str] = {}
    try:
        rotel_bin, found["rotel"] = peers.install(peers.ROTEL, 300)
        systems["rotel, over HTTP, otel_traces"] = lambda folder: rotel(options.requests, folder, bin_=rotel_bin)
    except peers.Unavailable as reason:
        skipped["rotel"] = str(reason)
    if not options.no_phoenix:
        try:
            phoenix_bin, found["arize-phoenix"] = peers.install(peers.PHOENIX, 900)
            systems["phoenix, sqlite"] = lambda folder: phoenix(
                max(2, options.requests // 50), folder, bin_=phoenix_bin
            )
        except peers.Unavailable as reason:
            skipped["phoenix"] = str(reason)
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}")
    print(", ".join(f"{name} {version}" for name, version in found.items()))
    print(
        f"{options.requests} requests of {payload.SPANS} spans, {bytes_a_span:.0f} bytes a span, {options.runs} runs\n"
    )

    results: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for run in range(options.runs):
        for name, measure in systems.items():
            if name in skipped:
                continue
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracegrade-bench-")))
                try:
                    result = measure(folder)
                except (peers.Unavailable, RuntimeError, subprocess.SubprocessError, sqlite3.Error) as error:
                    if name.startswith("tracegrade"):
                        raise
                    skipped[name] = str(error)
                    continue
            results[name].append(result)
            print(
                f"run {run + 1}  {name:38}",
                "  ".join(f"{key} {value:,.1f}" for key, value in result.items()),
                flush=True,
            )
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")

    summary = {name: _summary(runs) for name, runs in results.items() if runs}
    print(
        f"\n{'':38} {'spans/s':>9} {'collector':>10} {'ClickHouse':>11} {'at rest':>8}   µs of CPU a span, median (minimum)"
    )
    for name, row in summary.items():
        costs = "  ".join(
            f"{row[key]['median']:6.1f} ({row[key]['min']:.1f})"
            for key in ("collector_us", "clickhouse_us", "settled_us")
        )
        print(f"{name:38} {row['spans_a_second']['median']:9,.0f}  {costs}")
    print(
        json.dumps(
            {"machine": about, "versions": found, "systems": summary, "skipped": skipped, "ratios": _ratios(summary)}
        )
    )


def _summary(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        key: {
            "min": round(min(run[key] for run in runs), 2),
            "median": round(statistics.median(run[key] for run in runs), 2),
        }
        for key in runs[0]
    }


def _ratios(summary: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Our cost over rotel's: below 1 is cheaper. And how many times Phoenix's rate ours is."""
    ratios: dict[str, float] = {}
    other = summary.get("rotel, over HTTP, otel_traces")
    for name, row in summary.items():
        if other is not None and name.startswith("tracegrade") and not name.endswith("to disk"):
            ratios[f"cpu of [{name}] / rotel"] = round(row["settled_us"]["median"] / other["settled_us"]["median"], 3)
    if "phoenix, sqlite" in summary:
        ours = summary["tracegrade, embedded, all views"]["spans_a_second"]["median"]
        ratios["spans/s embedded / phoenix"] = round(ours / summary["phoenix, sqlite"]["spans_a_second"]["median"], 1)
    if other is not None:
        row = summary["tracegrade, OTLP/HTTP to disk"]
        front = round(row["collector_us"]["median"] / other["collector_us"]["median"], 3)
        ratios["cpu of [tracegrade, OTLP/HTTP to disk] / rotel alone"] = front
    return ratios


if __name__ == "__main__":
    main()
