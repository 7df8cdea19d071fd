"""How many agent spans one core assembles and grades in a second, with every built-in deterministic grader.

Spans are stored and read back first, so that what is graded is what the worker sees. Real records beside the repository are
used where they are (`REAL_DATA` or ../shared/data), and made-up support conversations always. Time is CPU time of
this thread; `worker` is everything a worker does for a trace: find, read, assemble, grade, write; with the engine's threads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import machine
import payload
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from bench.carding import convert
from graders import Grader, GraderSets, grader_types, load_graders, run_graders
from graders.assembler import assemble
from graders.worker import Worker
from store.client import Dsn, Store, connect

ROOT = Path(__file__).parents[1]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _real() -> Iterator[tuple[str, list[bytes]]]:
    """Requests made of real records: name of the data set, serialised requests."""
    data = Path(os.environ.get("REAL_DATA") or ROOT.parent / "shared" / "data")
    if not (data / "MAPPING.md").is_file():
        print(f"no real data in {data}: made-up conversations only")
        return
    tools = json.loads((data / "tau_bench_airline" / "tools.json").read_text())
    for name, spans in (
        ("trail", (convert.trail(record) for record in convert.records(data / "trail"))),
        ("tau_bench_airline", (convert.tau(record, tools) for record in convert.records(data / "tau_bench_airline"))),
        ("agentdojo", (convert.agentdojo(record) for record in convert.records(data / "agentdojo"))),
    ):
        yield name, [encode_spans(trace).SerializeToString() for trace in itertools.islice(spans, 200)]


def _generated() -> tuple[str, list[bytes]]:
    template = payload.template()
    return "generated", [payload.numbered(template, number) for number in range(4)]


def _rate(spans: int, runs: int, work: Callable[[], object]) -> float:
    """Spans a second of CPU time, median of the runs."""
    seconds = []
    for _ in range(runs):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return spans / statistics.median(seconds)


def _measure(
    store: Store, requests: list[bytes], graders: Sequence[Grader], folder: Path, runs: int
) -> dict[str, float]:
    segment = folder / "segment"
    segment.write_bytes(b"".join(_varint(len(request)) + request for request in requests))
    store.load("traces", "bench", segment)
    ids = [row["TraceId"] for row in store.query("SELECT DISTINCT TraceId FROM agent_spans")]
    stored = store.spans(ids)
    spans = sum(len(trace) for trace in stored.values())
    agent = sum(bool(span.dialect) for trace in stored.values() for span in trace)
    assembled = [assemble(trace) for trace in stored.values()]
    found = {
        "traces": len(ids),
        "spans": spans,
        "agent_spans": agent,
        "assemble": _rate(agent, runs, lambda: [assemble(trace) for trace in stored.values()]),
        "grade": _rate(agent, runs, lambda: [run_graders(graders, trace) for trace in assembled]),
        "assemble_and_grade": _rate(
            agent, runs, lambda: [run_graders(graders, assemble(trace)) for trace in stored.values()]
        ),
    }
    # Once: a second time there would be nothing to grade.
    worker = Worker(store, GraderSets(graders), grace_ms=0, idle_ms=1)
    started, graded = time.process_time(), 0
    while batch := worker.run_once():
        graded += batch
    if graded != len(ids):
        raise RuntimeError(f"the worker graded {graded} of {len(ids)} traces")
    found["worker"] = agent / (time.process_time() - started)
    return {key: round(value, 1) for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each part is measured (default 3)")
    options = parser.parse_args()
    graders = load_graders(dict.fromkeys(grader_types()))
    about = machine.describe()
    found = machine.versions("tracegrade", "chdb-core", "pydantic", "orjson")
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}")
    print(f"{len(graders)} graders: {', '.join(grader.grader_name for grader in graders)}\n")
    heads = ("traces", "spans", "agent"), ("assemble", "grade", "both", "worker")
    print(
        f"{'agent spans a second of CPU':28}",
        *(f"{head:>7}" for head in heads[0]),
        *(f"{head:>9}" for head in heads[1]),
    )
    results = {}
    with tempfile.TemporaryDirectory(prefix="tracegrade-bench-") as name:
        folder = Path(name)
        made_up = _generated()
        # The first trip through the store pays for imports and for the engine's start; it is not reported.
        for number, (data, requests) in enumerate([("", made_up[1][:1]), *_real(), made_up]):
            # One engine path a process, so one database a data set.
            with connect(Dsn(embedded=True, path=str(folder / "db"), database=f"bench_{number}")) as store:
                store.apply_schema()
                row = _measure(store, requests, graders, folder, options.runs)
            if not data:
                continue
            results[data] = row
            columns = [f"{row[key]:7,.0f}" for key in ("traces", "spans", "agent_spans")]
            columns += [f"{row[key]:9,.0f}" for key in ("assemble", "grade", "assemble_and_grade", "worker")]
            print(f"{data:28}", *columns, flush=True)
    slowest = min(results, key=lambda data: results[data]["assemble_and_grade"])
    print(
        json.dumps(
            {
                "machine": about,
                "versions": found,
                "graders": len(graders),
                "data": results,
                "agent_spans_a_second_a_core": {data: row["assemble_and_grade"] for data, row in results.items()},
                "slowest": slowest,
            }
        )
    )


if __name__ == "__main__":
    main()
