"""One process under measurement: the engine behind HTTP, the collector, or both in one. Driven line by line on stdin.

    host.py engine DIRECTORY DATABASE
    host.py collector BUFFER_DIRECTORY DSN [GROUP...]     groups of redaction rules; none by default
    host.py receiver BUFFER_DIRECTORY                     the collector, which throws away what it would load

Prints one JSON object when ready, then one for each line it reads: `cost` (CPU and memory), `count TABLE` (rows),
`settle` (once no merges run), `keep VIEW...` (drop all other views behind otel_traces). Ends with stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import machine

from collector.commit import SWITCH_SECONDS
from collector.service import Collector
from collector.settings import CollectorSettings
from store.client import Signal, Store, connect
from tracegrade.config import Config


def _answer(store: Store, line: str) -> Any:
    match line.split():
        case ["cost"]:
            return {
                "cpu": machine.cpu_seconds(os.getpid()),
                "collector": machine.collector_seconds(),
                "rss": machine.peak_rss_mb(os.getpid()),
            }
        case ["count", table]:
            return store.query(f"SELECT count() AS n FROM {table}")[0]["n"]
        case ["settle"]:
            quiet = 0
            while quiet < 5:
                quiet = 0 if store.query("SELECT count() AS n FROM system.merges")[0]["n"] else quiet + 1
                time.sleep(0.1)
            return True
        case ["keep", *kept]:
            views = store.query(
                "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'"
                " AND create_table_query NOT LIKE '%FROM %otlp_%'"
            )
            dropped = [view["name"] for view in views if view["name"] not in kept]
            for name in dropped:
                store.command(f"DROP VIEW {name}")
            return dropped
    raise ValueError(f"unknown command {line!r}")


def _serve(store: Store, ready: dict[str, Any]) -> None:
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(store, line)), flush=True)


def _engine(directory: str, database: str) -> None:
    # Not at the top: a collector in front of a server must not pay for the engine.
    from store.http import EngineServer

    with EngineServer(directory, database=database, readonly=False) as server, connect(f"chdb://{directory}") as store:
        store.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        with connect(f"http://127.0.0.1:{server.port}/{database}") as over_http:
            over_http.apply_schema()
            _serve(over_http, {"port": server.port})


async def _collector(buffer: str, dsn: str, groups: list[str]) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    with connect(dsn) as store:
        store.apply_schema()
        settings = {"buffer_dir": Path(buffer), "grpc_port": 0, "http_port": 0, "redaction": {"groups": groups}}
        config = Config.model_validate({"store": dsn, "collector": settings})
        collector = Collector(config.collector_settings, store)
        await collector.start()
        try:
            ready = {"grpc": collector.grpc_port, "http": collector.http_port}
            # On a daemon thread, because reading stdin cannot be interrupted.
            done = asyncio.Event()
            loop = asyncio.get_running_loop()

            def drive() -> None:
                try:
                    _serve(store, ready)
                finally:
                    loop.call_soon_threadsafe(done.set)

            threading.Thread(target=drive, name="drive", daemon=True).start()
            await done.wait()
        finally:
            await collector.stop(5)


class _Nowhere:
    """Takes every segment; what it costs to receive is left."""

    def load(self, signal: Signal, segment_id: str, path: Path) -> None:
        pass


async def _receiver(buffer: str) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = {"buffer_dir": Path(buffer), "grpc_port": 0, "http_port": 0, "redaction": {"groups": []}}
    collector = Collector(CollectorSettings.model_validate(settings), _Nowhere())
    await collector.start()
    print(json.dumps({"grpc": collector.grpc_port, "http": collector.http_port}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer: Any = True
        match line.split():
            case ["cost"]:
                answer = {"cpu": machine.cpu_seconds(os.getpid()), "rss": machine.peak_rss_mb(os.getpid())}
            case ["count"]:
                answer = collector.stats().signals["traces"].stored
        print(json.dumps(answer), flush=True)
    await collector.stop(5)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["engine", directory, database]:
            _engine(directory, database)
        case ["collector", buffer, dsn, *groups]:
            asyncio.run(_collector(buffer, dsn, groups))
        case ["receiver", buffer]:
            asyncio.run(_receiver(buffer))
        case _:
            sys.exit(__doc__)
