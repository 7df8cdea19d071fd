"""The main job from start to finish, offline: a real agent, real exporters, a real store, graded and decided.

Promises to leave nothing behind unless asked to keep running, and to end with what a person needs to look further. Everything
it does can be done by hand with the commands it prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from store.client import Store, connect
from tracegrade.running import Addresses, find

START_SECONDS = 60.0
GRADE_SECONDS = 120.0
RUNS = ("baseline", "reckless", "harmless")


class DemoFailed(Exception):
    """Something the demo relies on did not happen; the message says what."""


def example_dir() -> Path:
    """Where the example agent lives: beside the packages, in a checkout."""
    place = Path(__file__).parents[1] / "examples" / "support_agent"
    if not (place / "run.py").is_file():
        raise DemoFailed("the example agent is not installed; run `make demo` in a checkout")
    return place


def run(console: Console, *, keep: bool) -> None:
    """Run the demo. Raises `DemoFailed`."""
    example = example_dir()
    suite_file, policy_file = example / "suite.yaml", example / "policy.yaml"
    cases = len(yaml.safe_load(suite_file.read_text("utf-8"))["cases"])
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tracegrade-demo-") as directory:
        data_dir = Path(directory)
        config_file = data_dir / "tracegrade.yaml"
        config_file.write_text(
            yaml.safe_dump(
                {
                    "data_dir": str(data_dir),
                    "collector": {"grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.2},
                    "clickhouse": {"port": 0},
                    "gate": {"port": 0, "grpc_port": 0},
                    "admin": {"port": 0},
                    "grading": {"grace_seconds": 0.5, "agent_policies": [str(example / "approvals.yaml")]},
                }
            )
        )
        with _server(config_file, data_dir) as (server, addresses):
            _step(console, 1, "A server with an embedded ClickHouse, on free ports of this machine")
            console.print(f"  OTLP http://{addresses.otlp_http} and grpc://{addresses.otlp_grpc}", highlight=False)

            _command("suite", "push", str(suite_file), "--config", str(config_file))

            _step(
                console,
                2,
                f"Three releases of a support agent answer the same {cases} tickets over real OTLP exporters",
            )
            _run_agents(console, example, addresses)

            _step(console, 3, "Every span is graded")
            with connect(f"clickhouse://{addresses.clickhouse}/tracegrade", create=False) as store:
                _wait_until_graded(console, store, cases)
                _show_grades(console, store)

                for number, candidate in enumerate(RUNS[1:], start=4):
                    _step(console, number, f"May the {candidate} candidate replace the baseline?")
                    _decide(config_file, suite_file, policy_file, candidate)

                console.rule()
                _show_verdicts(console, store)
            _farewell(console, config_file, addresses, time.monotonic() - started, keep=keep)
            if keep:
                try:
                    server.wait()
                except KeyboardInterrupt:
                    console.print("stopping", highlight=False)


def _step(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold]{number}. {escape(text)}[/bold]", highlight=False)


@contextmanager
def _server(config_file: Path, data_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], Addresses]]:
    log = data_dir / "serve.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACEGRADE_")}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tracegrade", "serve", "--config", str(config_file)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while (addresses := find(data_dir)) is None:
            if server.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"the server did not start:\n{log.read_text('utf-8', 'replace')}")
            time.sleep(0.05)
        yield server, addresses
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _run_agents(console: Console, example: Path, addresses: Addresses) -> None:
    # Two speak OTLP/HTTP and one gRPC: the collector takes both.
    endpoints = (f"http://{addresses.otlp_http}", f"grpc://{addresses.otlp_grpc}", f"http://{addresses.otlp_http}")
    for version, endpoint in zip(RUNS, endpoints, strict=True):
        done = subprocess.run(
            [
                sys.executable,
                str(example / "run.py"),
                "--version",
                version,
                "--run-id",
                version,
                "--endpoint",
                endpoint,
            ],
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise DemoFailed(f"the {version} agent exited with {done.returncode}")
        console.print(f"  {escape(done.stdout.decode().strip())}", highlight=False)


def _wait_until_graded(console: Console, store: Store, cases: int) -> None:
    wanted = cases * len(RUNS)
    deadline = time.monotonic() + GRADE_SECONDS
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("traces graded", total=wanted)
        while True:
            graded = _count(store)
            progress.update(task, completed=graded)
            if graded >= wanted:
                return
            if time.monotonic() > deadline:
                raise DemoFailed(f"{graded} of {wanted} traces were graded within {GRADE_SECONDS:.0f} s")
            time.sleep(0.2)


def _count(store: Store) -> int:
    [row] = store.query(
        "SELECT uniqExact(TraceId) AS Traces FROM graded_traces "
        "WHERE TraceId IN (SELECT TraceId FROM traces_v WHERE RunId IN {runs:Array(String)} AND RootSeen = 1)",
        {"runs": list(RUNS)},
    )
    return int(row["Traces"])


GRADES = """\
SELECT Grader, RunId AS Release, countIf(Outcome = 'pass') AS pass, countIf(Outcome = 'fail') AS fail,
       countIf(Outcome = 'unknown') AS unknown
FROM grades_v INNER JOIN traces_v USING TraceId
WHERE Grader IN ('approval/boundary', 'evidence/citations', 'tools/expected')
GROUP BY Grader, Release ORDER BY Grader, Release"""


def _show_grades(console: Console, store: Store) -> None:
    for row in store.query(GRADES):
        style = "red" if row["fail"] else "green"
        console.print(
            f"  {row['Grader']:20} {row['Release']:9} {row['pass']:>4} pass  [{style}]{row['fail']:>3} fail[/{style}]"
            f"  {row['unknown']:>3} unknown",
            highlight=False,
        )


VERDICTS = """\
SELECT Candidate, Decision, arrayStringConcat(Reasons, ', ') AS Reasons, JSONExtractUInt(Document, 'exitCode') AS ExitCode
FROM decisions ORDER BY DecidedAt"""


def _show_verdicts(console: Console, store: Store) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("candidate", "decision", "because of", "exit code of tracegrade decide"):
        table.add_column(column)
    for row in store.query(VERDICTS):
        style = "bold green" if row["Decision"] == "promote" else "bold red"
        verdict = Text(row["Decision"].upper(), style=style)
        table.add_row(Text(row["Candidate"].removeprefix("run ")), verdict, Text(row["Reasons"]), str(row["ExitCode"]))
    console.print(table)


def _decide(config_file: Path, suite: Path, policy: Path, candidate: str) -> None:
    arms = ("--baseline", "run=baseline", "--candidate", f"run={candidate}")
    _command("decide", "--config", str(config_file), "--suite", str(suite), "--policy", str(policy), *arms)


def _command(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tracegrade", *arguments], check=False)
    if done.returncode in (2, 4):
        raise DemoFailed(f"tracegrade {arguments[0]} exited with {done.returncode}")


def _farewell(console: Console, config_file: Path, addresses: Addresses, seconds: float, *, keep: bool) -> None:
    console.print(f"Done in {seconds:.0f} s.", highlight=False)
    if not keep:
        console.print("Everything is stopped and removed; `make demo ARGS=--keep` leaves it running to look around:")
    at = str(config_file) if keep else "CONFIG"
    query = "SELECT ToolName, ApprovalState, count() FROM tool_calls_v GROUP BY ALL ORDER BY ALL"
    lines = (
        f"gate API     http://{addresses.gate}/openapi.json",
        f"ClickHouse   http://{addresses.clickhouse}/?database=tracegrade  (HTTP interface, read-only)",
        f'SQL          tracegrade sql --config {at} "{query}"',
    )
    for line in lines:
        console.print(f"  {escape(line)}", highlight=False)
    if keep:
        console.print("Stop with Ctrl-C.", highlight=False)
