"""How many agent spans one core assembles and grades in a second, with every built-in deterministic grader.

Spans are stored and read back first, so that what is graded is what the worker sees. Real records beside the repository are
used where they are (`REAL_DATA` or ../shared/data), and made-up support conversations always. Beside it, on the same real
traces, agentevals' tool trajectory, which reads OTLP itself, and DeepEval's tool correctness on finished test cases: both in
environments of their own, one metric each. Time is CPU time of this thread; `worker` is everything a worker does for a trace:
find, read, assemble, grade, write; with the engine's threads.

Every run is a first one: the traces are assembled anew, and what graders keep by content (texts that were read, patterns,
words) is thrown away before it. What repeats between the traces of one run is kept within it, as in a worker.
"""

from __future__ import annotations

import argparse
import base64
import functools
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import machine
import payload
import peers
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.carding import convert
from graders import Grader, GraderSets, grader_types, load_graders, run_graders
from graders.assembler import assemble
from graders.checks.evidence.reading import forget
from graders.checks.evidence.text import STEMS
from graders.worker import Worker
from store.client import Dsn, Store, connect
from store.types import Span

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


def _for_peers(stored: Mapping[str, Sequence[Span]], requests: Sequence[bytes]) -> Iterator[str]:
    """A line a trace: its OTLP/JSON, and the calls its agent made."""
    calls = {}
    for spans in stored.values():
        trace = assemble(spans)
        calls[trace.trace_id] = [{"name": c.name, "arguments": dict(c.arguments or {})} for c in trace.tool_calls]
    for request in requests:
        document = MessageToDict(ExportTraceServiceRequest.FromString(request))
        spans_of = [s for r in document["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]]
        for span in spans_of:
            for key in ("traceId", "spanId", "parentSpanId"):
                if key in span:
                    span[key] = base64.b64decode(span[key]).hex()  # OTLP/JSON writes ids in hex
        yield json.dumps({"otlp": document, "calls": calls[spans_of[0]["traceId"]]}) + "\n"


def _peers(folder: Path, lines: Iterator[str], runs: int) -> dict[str, dict[str, Any]]:
    """What each peer took, in CPU seconds; a peer that cannot be installed is named and left out."""
    path = folder / "traces.jsonl"
    with path.open("w", encoding="utf-8") as out:
        out.writelines(lines)
    found = {}
    for requirement, name in peers.EVALUATORS.items():
        try:
            bin_, version = peers.install(requirement, 900)
        except peers.Unavailable as why:
            print(f"{name}: not measured: {why}", file=sys.stderr)
            continue
        script = Path(__file__).with_name("grade_peers.py")
        command = [str(part) for part in (bin_ / "python", script, name, path, runs)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            print(f"{name}: not measured: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        found[name] = {"version": version, **json.loads(done.stdout.splitlines()[-1])}
    return found


def _generated() -> tuple[str, list[bytes]]:
    template = payload.template()
    return "generated", [payload.numbered(template, number) for number in range(4)]


def _anew() -> None:
    """Throws away what was kept of the texts of traces; tables that hang on no trace stay."""
    forget()
    STEMS.clear()
    known = [kept for kept in gc.get_objects() if isinstance(kept, functools._lru_cache_wrapper)]
    for kept in known:
        ours = kept.__module__.partition(".")[0] in ("graders", "store")
        if ours and kept.cache_parameters()["maxsize"] is not None:
            kept.cache_clear()


def _rate(spans: int, runs: int, given: Callable[[], Sequence[Any]], work: Callable[[Sequence[Any]], object]) -> float:
    """Spans a second of CPU time, median of the runs; making what is given is not counted."""
    seconds = []
    for _ in range(runs):
        made = given()
        _anew()
        started = time.thread_time()
        work(made)
        seconds.append(time.thread_time() - started)
    return spans / statistics.median(seconds)


def _measure(
    store: Store, requests: list[bytes], graders: Sequence[Grader], folder: Path, runs: int
) -> tuple[dict[str, Any], dict[str, list[Span]]]:
    segment = folder / "segment"
    segment.write_bytes(b"".join(_varint(len(request)) + request for request in requests))
    store.load("traces", "bench", segment)
    ids = [row["TraceId"] for row in store.query("SELECT DISTINCT TraceId FROM agent_spans")]
    stored = store.spans(ids)
    spans = sum(len(trace) for trace in stored.values())
    agent = sum(bool(span.dialect) for trace in stored.values() for span in trace)
    traces = list(stored.values())
    found = {
        "traces": len(ids),
        "spans": spans,
        "agent_spans": agent,
        "assemble": _rate(agent, runs, lambda: traces, lambda given: [assemble(trace) for trace in given]),
        "grade": _rate(
            agent,
            runs,
            lambda: [assemble(trace) for trace in traces],
            lambda given: [run_graders(graders, trace) for trace in given],
        ),
        "assemble_and_grade": _rate(
            agent, runs, lambda: traces, lambda given: [run_graders(graders, assemble(trace)) for trace in given]
        ),
    }
    # Once: a second time there would be nothing to grade.
    _anew()
    worker = Worker(store, GraderSets(graders), grace_ms=0, idle_ms=1)
    started, graded = time.process_time(), 0
    while batch := worker.run_once():
        graded += batch
    if graded != len(ids):
        raise RuntimeError(f"the worker graded {graded} of {len(ids)} traces")
    found["worker"] = agent / (time.process_time() - started)
    return {key: round(value, 1) for key, value in found.items()}, stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each part is measured (default 3)")
    parser.add_argument("--no-peers", action="store_true", help="measure nothing but tracegrade")
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
                row, stored = _measure(store, requests, graders, folder, options.runs)
            if not data:
                continue
            results[data] = row
            if data != made_up[0] and not options.no_peers:
                row["peers"] = _peers(folder, _for_peers(stored, requests), options.runs)
            columns = [f"{row[key]:7,.0f}" for key in ("traces", "spans", "agent_spans")]
            columns += [f"{row[key]:9,.0f}" for key in ("assemble", "grade", "assemble_and_grade", "worker")]
            print(f"{data:28}", *columns, flush=True)
            for name, took in row.get("peers", {}).items():
                rate = row["agent_spans"] / (took.get("read", 0.0) + took["evaluate"])
                mine = row["assemble_and_grade" if "read" in took else "grade"]
                what = "assembled and graded" if "read" in took else "graded"
                ratios = f"all graders {mine / rate:.2f} of it, one {mine * len(graders) / rate:.1f}"
                print(f"  {name} {took['version']}, one metric: {rate:,.0f}; {what} here: {ratios}", flush=True)
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
