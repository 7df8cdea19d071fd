"""`tracegrade policy`: check a policy, draft one from traffic, print its JSON Schema.

What a mistake is, and what a draft says, is the graders' (`graders.lint`, `graders.survey`); here is only how it is asked for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from store.client import Store, connect
from tracegrade.terminal import USAGE, config_option, configured, err, guarded, json_option, open_store, out, since

if TYPE_CHECKING:
    from graders.policy import AgentPolicy
    from graders.survey import Survey

_BATCH = 50

since_option = click.option(
    "--since", "since_time", callback=since, default="30d", show_default=True, help="Traffic since: 2026-11-01, or 30d."
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="Traces to look at, newest first.",
)
store_option = click.option(
    "--store", "dsn", help="Another store: chdb:///path or clickhouse://user:password@host:8123/database."
)


@click.group()
def policy() -> None:
    """Agent policies: what agents may do, and whose word it needs."""


@policy.command("lint")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--traffic", is_flag=True, help="Compare with the traces of the agents it is for.")
@click.option("--strict", is_flag=True, help="Advice is an error: exit with 2.")
@since_option
@limit_option
@store_option
@json_option
@config_option
def policy_lint(
    file: Path,
    traffic: bool,
    strict: bool,
    since_time: datetime,
    limit: int,
    dsn: str | None,
    as_json: bool,
    config_path: Path | None,
) -> None:
    """Say what is wrong in FILE, and what is probably not meant."""
    from graders import grader_types
    from graders.lint import lint
    from graders.policy import load_policy

    read = guarded(lambda: load_policy(file))
    survey = _survey(config_path, dsn, since_time, limit, read) if traffic else None
    found = lint(read, grader_types(), survey)
    if as_json:
        for advice in found:
            click.echo(json.dumps(advice._asdict(), ensure_ascii=False))
    else:
        for advice in found:
            err.print(Text.assemble(("advice: ", "yellow"), f"{file}: {advice.key}: {advice.message}"), highlight=False)
        tools = f"{len(read.tools)} entries for tools, agents {', '.join(read.agents)}"
        out.print(Text(f"{file}: {f'{len(found)} to look at' if found else 'nothing to remark'}; {tools}"))
    if found and strict:
        sys.exit(USAGE)


@policy.command("suggest")
@click.option(
    "--agent", "agents", multiple=True, help="Name of an agent or service, or a shell pattern; by default all."
)
@since_option
@limit_option
@store_option
@config_option
def policy_suggest(
    agents: tuple[str, ...], since_time: datetime, limit: int, dsn: str | None, config_path: Path | None
) -> None:
    """Draft a policy from captured traffic. Every guess is marked as one."""
    from graders.policy import AgentPolicy

    others: set[str] = set()
    wanted = AgentPolicy(agents=agents or ("*",))
    survey = _survey(config_path, dsn, since_time, limit, wanted, others)
    if not survey.traces:
        there = f"; agents there: {', '.join(sorted(others)[:20])}" if others else ""
        name = ", ".join(agents) or "any agent"
        err.print(Text(f"no trace of {name} since {since_time:%Y-%m-%d}: an empty draft{there}"))
    click.echo(survey.draft(wanted.agents), nl=False)


@policy.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of a policy, for editors and other programs."""
    from graders.policy import policy_schema

    click.echo(json.dumps(policy_schema(), indent=2))


def _survey(
    config_path: Path | None,
    dsn: str | None,
    since_time: datetime,
    limit: int,
    read: AgentPolicy,
    others: set[str] | None = None,
) -> Survey:
    """What the traces of a policy's agents show; `others` is given the names of agents that it is not for."""
    from graders.assembler import assemble
    from graders.survey import Survey

    config = configured(config_path)
    survey = Survey()

    def run() -> Survey:
        columns = TextColumn("reading traces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with (
            connect(dsn, create=False) if dsn else open_store(config) as store,
            Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress,
        ):
            task = progress.add_task("", total=limit)
            for batch in _recent(store, since_time):
                logs = store.logs(batch)
                for trace_id, spans in store.spans(batch).items():
                    trace = assemble(spans, logs.get(trace_id, ()))
                    root = trace.root
                    if root is not None and read.covers(root.agent, root.service):
                        survey.add(trace)
                        progress.advance(task)
                    elif root is not None and others is not None and len(others) < 1000:
                        others.add(root.agent or root.service)
                    if survey.traces >= limit:
                        return survey
        return survey

    return guarded(run)


def _recent(store: Store, since_time: datetime) -> Iterator[list[str]]:
    """Ids of the traces of agents, the newest first."""
    oldest = max(since_time, datetime(1970, 1, 2, tzinfo=UTC))
    rows = store.query(
        "SELECT TraceId FROM traces_v WHERE Start >= {since:DateTime64(3)} AND AgentSpanCount > 0 ORDER BY Start DESC, TraceId "
        "LIMIT 1000000",
        {"since": oldest},
    )
    ids = [row["TraceId"] for row in rows]
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
