"""What decides the cost of a stored span inside ClickHouse: how OTLP is declared, how it is stored, how much an insert holds.

Each row changes one thing about what `store/schema` does and gives the engine's CPU a span, the least of several tries, on the
requests of `payload`. Sizes are measured in a process each, with every view, until the engine's merges have come to rest.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import machine
import payload

from collector.segments import varint
from store import schema
from store.client import Store, connect

SIZES_MB = (16, 32, 48, 64)
TRIES = 5


def _segment(path: Path, megabytes: float) -> int:
    """Write a segment of about this size; the number of its spans."""
    template = payload.template()
    requests = max(1, round(megabytes * 2**20 / len(template)))
    with path.open("wb") as file:
        for number in range(requests):
            body = payload.numbered(template, number)
            file.write(varint(len(body)) + body)
    return requests * payload.SPANS


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _least(store: Store, sql: str, tries: int = TRIES) -> float:
    best = float("inf")
    for number in range(tries):
        before = _cpu()
        store.command(sql.replace("{try}", f"{time.time_ns()}-{number}"))
        best = min(best, _cpu() - before)
    return best


def _insert(table: str, segment: Path, more: str = "") -> str:
    settings = (
        f"format_schema = '{schema.OTLP_PROTO}:ExportTraceServiceRequest', input_format_protobuf_oneof_presence = 1, "
        "max_insert_threads = 1, max_threads = 1, insert_deduplication_token = '{try}', "
        f"deduplicate_blocks_in_dependent_materialized_views = 1{more}"
    )
    return f"INSERT INTO {table} FROM INFILE '{segment}' SETTINGS {settings} FORMAT Protobuf"


def _statement(head: str) -> str:
    return next(s for _, statements in schema.migrations() for s in statements if s.startswith(head))


def _declared(store: Store, segment: Path, spans: int) -> Iterator[tuple[str, float]]:
    """Decoding alone: the front door without a view behind it."""
    door = _statement("CREATE TABLE IF NOT EXISTS otlp_requests\n")
    nullable = re.sub(r"value Enum8\([^)]*\), ", "", door)
    for scalar in (
        "string_value String",
        "bool_value Bool",
        "int_value Int64",
        "double_value Float64",
        "bytes_value String",
    ):
        name, kind = scalar.split()
        nullable = nullable.replace(scalar, f"{name} Nullable({kind})")
    text = door
    for scalar in ("bool_value Bool", "int_value Int64", "double_value Float64"):
        text = text.replace(scalar, f"{scalar.split()[0]} String")
    kinds = {
        "decode: as it is": door,
        "decode: Nullable instead of presence": nullable,
        "decode: attribute keys as String": door.replace("key LowCardinality(String)", "key String"),
        "decode: numbers read as text": text,
    }
    for number, (name, ddl) in enumerate(kinds.items()):
        store.command(ddl.replace("otlp_requests", f"door_{number}"))
        yield name, _least(store, _insert(f"door_{number}", segment)) / spans * 1e6


def _stored(store: Store, segment: Path, spans: int) -> Iterator[tuple[str, float]]:
    """Writing alone: decoded rows from memory into the table."""
    store.command(_insert("otlp_requests", segment).replace("{try}", "stored"))
    table = _statement("CREATE TABLE IF NOT EXISTS otel_traces\n")
    store.command("CREATE TABLE decoded ENGINE = Memory AS SELECT * FROM otel_traces")
    fast = table.replace("ZSTD(1)", "LZ4")
    kinds = {
        "store: as it is": table,
        "store: without indexes": re.sub(r",\s*INDEX [^\n]*?GRANULARITY 1(?=,?\n)", "", table),
        "store: LZ4": fast,
        "store: wide parts": table.replace("min_bytes_for_wide_part = 134217728", "min_bytes_for_wide_part = 0"),
        "store: attribute keys as String": table.replace("Map(LowCardinality(String), String)", "Map(String, String)"),
    }
    for number, (name, ddl) in enumerate(kinds.items()):
        store.command(ddl.replace("otel_traces", f"stored_{number}"))
        sql = f"INSERT INTO stored_{number} SELECT * FROM decoded SETTINGS insert_deduplicate = 0, max_threads = 1"
        yield name, _least(store, sql) / spans * 1e6


def _planned(store: Store, segment: Path) -> Iterator[tuple[str, float]]:
    """Milliseconds that an insert takes whatever is in it, with every view."""
    for name, more in {"as it is": ", query_plan_enable_optimizations = 0", "plan optimised": ""}.items():
        yield f"one request, all views: {name}", _least(store, _insert("otlp_requests", segment, more), 10) * 1e3


def _sized(folder: Path, megabytes: int, total_mb: int) -> dict[str, float]:
    """Many segments of one size, then rest."""
    segment = folder / "segment.pb"
    spans = _segment(segment, megabytes)
    with connect(f"chdb://{folder / 'db'}") as store:
        store.apply_schema()
        before, inserts = _cpu(), max(1, total_mb // megabytes)
        for number in range(inserts):
            store.load("traces", f"segment-{number}", segment)
        quiet = 0
        while quiet < 10:
            time.sleep(0.2)
            quiet = 0 if store.query("SELECT count() AS n FROM system.merges")[0]["n"] else quiet + 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"us_a_span": round((_cpu() - before) / spans / inserts * 1e6, 2), "peak_mb": round(peak)}


def main() -> None:
    if sys.argv[1:2] == ["size"]:
        print(json.dumps(_sized(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=384, help="how much each segment size stores (default 384)")
    options = parser.parse_args()
    about = machine.describe()
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}\n")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="tracegrade-bench-") as name:
        folder = Path(name)
        with connect(f"chdb://{folder / 'db'}") as store:
            store.apply_schema()
            store.command("SYSTEM STOP MERGES")
            spans = _segment(folder / "many.pb", 32)
            _segment(folder / "one.pb", 0)
            for kind, figure in (
                *_declared(store, folder / "many.pb", spans),
                *_stored(store, folder / "many.pb", spans),
            ):
                figures[kind] = round(figure, 2)
                print(f"{kind:50} {figure:8.2f} µs a span", flush=True)
            for kind, figure in _planned(store, folder / "one.pb"):
                figures[kind] = round(figure, 1)
                print(f"{kind:50} {figure:8.1f} ms", flush=True)
    sizes: dict[str, dict[str, float]] = {}
    for megabytes in SIZES_MB:
        with tempfile.TemporaryDirectory(prefix="tracegrade-bench-") as name:
            command = [sys.executable, __file__, "size", name, str(megabytes), str(options.megabytes)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        sizes[f"{megabytes} MB"] = row = json.loads(done.stdout)
        print(
            f"segments of {megabytes} MB, all views, at rest {row['us_a_span']:19.2f} µs a span, peak {row['peak_mb']:,.0f} MB"
        )
    print(json.dumps({"machine": about, "versions": machine.versions("chdb-core"), "figures": figures, "sizes": sizes}))


if __name__ == "__main__":
    main()
