"""How far the graders are behind the traces, with agent spans coming in at a given rate, and what memory that takes.

Spans go straight into the embedded store, as the collector's loader brings them; a worker with a grading process of its own
grades them beside it, with every built-in grader. The lag of a trace is the time from its close (its last arrival and the grace
period) to the moment its grades count. Runs until `--spans` are in and graded, and says how the first and the last tenth did:
when the rate is more than the machine can grade, the lag grows and so says it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import machine
import payload

from graders import GraderSets, grader_types, load_graders
from graders.isolation import Isolated
from graders.worker import Worker
from store.client import Dsn, Store, connect

GRACE_MS = 1_000
LAG = """
SELECT quantilesExact(0.5, 0.99, 1)(Lag) AS Lags, count() AS Traces FROM
(
    SELECT dateDiff('millisecond', t.LastIngested, g.GradedAt) - {grace:Int64} AS Lag
    FROM (SELECT TraceId, max(LastIngested) AS LastIngested FROM traces GROUP BY TraceId ORDER BY LastIngested, TraceId) AS t
    INNER JOIN (SELECT TraceId, GradedAt FROM graded_traces FINAL) AS g ON t.TraceId = g.TraceId
    ORDER BY t.LastIngested, t.TraceId
    LIMIT {number:UInt64} OFFSET {offset:UInt64}
)
"""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _offer(store: Store, folder: Path, spans: int, rate: int) -> float:
    """Bring them in at that rate, or as fast as it goes; says how long it took."""
    template, segment = payload.template(), folder / "segment"
    requests = max(1, rate // payload.SPANS)  # a segment a second, as the collector makes them
    each = requests * payload.SPANS
    started = time.monotonic()
    for number in range(max(1, spans // each)):
        with segment.open("wb") as file:
            for part in range(requests):
                index = number * requests + part
                # Every trace a conversation of its own.
                request = payload.numbered(template, index).replace(b"conv-", f"{index:05}"[-5:].encode())
                file.write(_varint(len(request)) + request)
        time.sleep(max(0.0, started + number * each / rate - time.monotonic()))
        store.load("traces", f"lag-{number}", segment)
    return time.monotonic() - started


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _lags(store: Store, number: int, offset: int) -> list[float]:
    (row,) = store.query(LAG, {"grace": GRACE_MS, "number": number, "offset": offset})
    return [value / 1000 for value in row["Lags"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000, help="spans a second (default 10,000)")
    parser.add_argument("--spans", type=int, default=200_000, help="how many (default 200,000)")
    options = parser.parse_args()
    graders = GraderSets(load_graders(dict.fromkeys(grader_types())))
    about = machine.describe()
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}")
    print(f"{sum(1 for _ in graders.every())} graders, {options.spans:,} spans at {options.rate:,} a second")
    memory: list[tuple[float, float, float]] = []
    with (
        tempfile.TemporaryDirectory(prefix="tracegrade-bench-") as name,
        connect(Dsn(embedded=True, path=f"{name}/db", database="lag")) as store,
        Isolated(graders) as judge,
    ):
        store.apply_schema()
        worker, stop = Worker(store, graders, judge=judge, grace_ms=GRACE_MS), threading.Event()
        thread = threading.Thread(target=worker.run_forever, args=(stop,))
        cpu = time.process_time()
        thread.start()
        done = threading.Event()

        def watch() -> None:
            while not done.wait(2):
                memory.append((worker.progress.graded, _rss_mb(os.getpid()), _rss_mb(judge.pid) if judge.pid else 0.0))

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.monotonic()
        took = _offer(store, Path(name), options.spans, options.rate)
        traces = int(store.query("SELECT uniqExact(TraceId) AS Number FROM traces")[0]["Number"])
        while worker.progress.graded < traces:
            time.sleep(0.1)
        all_took = time.monotonic() - started
        done.set()
        watcher.join()
        stop.set()
        thread.join()
        cpu = time.process_time() - cpu
        grading_cpu = machine.cpu_seconds(judge.pid) if judge.pid else 0.0
        spans = traces * payload.SPANS_A_TRACE
        tenth = max(1, traces // 10)
        found = {
            "offered_spans_a_second": round(spans / took),
            "graded_spans_a_second": round(spans / all_took),
            "traces": traces,
            "lag_seconds_p50_p99_max": _lags(store, traces, 0),
            "first_tenth": _lags(store, tenth, 0),
            "last_tenth": _lags(store, tenth, traces - tenth),
            "cpu_us_a_span_store_and_worker": round(cpu / spans * 1e6, 1),
            "cpu_us_a_span_grading_process": round(grading_cpu / spans * 1e6, 1),
            "memory_mb": [
                {"traces": graded, "worker_and_engine": round(rss), "grading_process": round(child)}
                for graded, rss, child in memory[:: max(1, len(memory) // 10)]
            ],
        }
    for key, value in found.items():
        print(f"{key:34} {value}")
    print(json.dumps({"machine": about, "rate": options.rate, **found}))


if __name__ == "__main__":
    main()
