"""The `tracegrade` command.

Promises: exit code 2 for a usage or configuration error, with every problem named; whatever prints a table prints JSON with
`--json`. Commands reach the store through the server that has it open, if there is one (`tracegrade.running`). What the
commands do lives in the packages they call, imported when a command runs: `tracegrade --help` answers at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from store import StoreError
from store.client import Dsn, connect
from tracegrade.config import Config, explain
from tracegrade.logs import configure_logging
from tracegrade.policies import policy
from tracegrade.running import Addresses
from tracegrade.terminal import (
    INFRASTRUCTURE,
    USAGE,
    Output,
    config_option,
    configured,
    err,
    fail,
    guarded,
    json_option,
    open_store,
    out,
    reader_left,
    running_gate,
    since,
)

if TYPE_CHECKING:
    from collector.quarantine import Piece, Quarantine
    from gate.evidence import ArmSelector


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tracegrade")
def cli() -> None:
    """Receives agent traces over OTLP, grades every span, and answers whether a candidate may be promoted."""


cli.add_command(policy)


@cli.command()
@config_option
def serve(config_path: Path | None) -> None:
    """Run everything in one process: OTLP receiver, store, graders, gate."""
    # Read when gRPC is imported. It would write a line to stderr for every stranger who sends it noise.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from tracegrade.serve import serve as run

    config = configured(config_path)
    configure_logging(config.log_format)

    def ready(addresses: Addresses) -> None:
        rows = {
            "OTLP/gRPC": addresses.otlp_grpc,
            "OTLP/HTTP": f"http://{addresses.otlp_http}",
            "gate": f"http://{addresses.gate}/openapi.json",
            "gate, gRPC": addresses.gate_grpc,
            "metrics, health": f"http://{addresses.admin}/metrics",
        }
        if addresses.clickhouse:
            rows["ClickHouse, read-only"] = f"http://{addresses.clickhouse}/?database={Dsn.parse(config.dsn).database}"
        for name, address in rows.items():
            out.print(f"  {name:22} {address}", highlight=False)
        out.print("ready; stop with Ctrl-C", highlight=False)

    guarded(lambda: asyncio.run(run(config, ready)))


@cli.command()
@click.option(
    "--path", type=click.Path(path_type=Path, file_okay=False), required=True, help="Directory of the database."
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8123, show_default=True)
@click.option("--token", default="", envvar="TRACEGRADE_CLICKHOUSE_TOKEN", help="Password clients must send.")
@click.option("--read-only", is_flag=True, help="Refuse whatever would change anything.")
def clickhouse(path: Path, host: str, port: int, token: str, read_only: bool) -> None:
    """Serve an embedded database over ClickHouse's HTTP interface, for several processes on one machine."""
    if host not in ("127.0.0.1", "::1", "localhost") and not token:
        fail(f"--host {host} opens the database to the network; give --token as well, or listen on 127.0.0.1", USAGE)

    def start() -> None:
        try:
            from store.http import run
        except ImportError as error:
            raise ValueError("the embedded engine is not installed; run pip install 'tracegrade[embedded]'") from error
        path.mkdir(parents=True, exist_ok=True)
        directory = path.resolve()
        # The engine keeps wire schemas that come with an insert in a cache below the working directory.
        os.chdir(directory)
        run(
            directory,
            host=host,
            port=port,
            readonly=read_only,
            token=token,
            ready=lambda address: out.print(f"ClickHouse HTTP interface at {address}", highlight=False),
        )

    guarded(start)


@cli.command("config")
@config_option
def show_config(config_path: Path | None) -> None:
    """Print the configuration in force, every key explained."""
    click.echo("\n".join(explain(configured(config_path))))


@cli.command()
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@config_option
def redact(file: TextIO, config_path: Path | None) -> None:
    """Print FILE, or what is piped in, as the collector would store it: the same values become the same placeholders."""
    from collector.redaction import make_redactor

    settings = configured(config_path).collector_settings
    redactor = guarded(lambda: make_redactor(settings.redaction, settings.buffer_dir.parent / "redaction.key"))
    text = guarded(file.read)
    click.echo(redactor.text(text) if redactor else text, nl=False)


@cli.group()
def schema() -> None:
    """The tables tracegrade keeps."""


def layout(
    command: Callable[..., None],
) -> Callable[..., None]:
    """Options that say where the tables are."""
    engine = click.option(
        "--engine",
        type=click.Choice(["mergetree", "replicated"]),
        default="mergetree",
        show_default=True,
        help="Tables of one server, or replicated ones with a Distributed table over each.",
    )
    cluster = click.option("--cluster", default="", metavar="NAME", help="ClickHouse cluster of the replicated tables.")
    return engine(cluster(command))


def check_layout(engine: str, cluster: str) -> None:
    if (engine == "replicated") != bool(cluster):
        missing = "--cluster NAME" if engine == "replicated" else "--engine replicated"
        fail(f"replicated tables are spread over a named cluster: give {missing} as well", USAGE)


@schema.command("apply")
@layout
@config_option
def schema_apply(engine: str, cluster: str, config_path: Path | None) -> None:
    """Bring the store's tables up to date. A cluster is named once; the database remembers it."""
    check_layout(engine, cluster)
    config = configured(config_path)

    def apply() -> list[str]:
        with connect(config.dsn) as store:
            return store.apply_schema(config.retention_days, cluster)

    done = guarded(apply)
    out.print("applied: " + ", ".join(done) if done else "up to date", highlight=False)


@schema.command("print")
@layout
@click.option("--kafka", is_flag=True, help="The statements that read OTLP from Kafka, instead of the tables.")
@click.option("--brokers", metavar="HOST:PORT,…", help="With --kafka: the brokers.")
@click.option("--topic", default="", help="With --kafka: the topic of the traces.")
@click.option("--logs-topic", default="", help="With --kafka: the topic of the log records.")
@click.option(
    "--group", default="tracegrade", show_default=True, help="With --kafka: how the consumer groups' names begin."
)
@config_option
def schema_print(
    engine: str,
    cluster: str,
    kafka: bool,
    brokers: str | None,
    topic: str,
    logs_topic: str,
    group: str,
    config_path: Path | None,
) -> None:
    """Print the statements instead of running them."""
    from store import kafka as queue
    from store.schema import Layout, render

    check_layout(engine, cluster)
    where = Layout(configured(config_path).retention_days, cluster)
    if kafka:
        named = queue.topics(topic, logs_topic)
        if not brokers or not named:
            fail("--kafka needs --brokers HOST:PORT and --topic NAME, --logs-topic NAME or both", USAGE)
        text = queue.render(brokers, group, named, where)
    elif brokers or topic or logs_topic:
        fail("--brokers, --topic and --logs-topic say where Kafka is: give --kafka as well", USAGE)
    else:
        text = render(where)
    click.echo(text, nl=False)


@schema.command("attach")
@click.option(
    "--store", "dsn", help="The store, if not the configured one: clickhouse://user:password@host:8123/database."
)
@click.option("--table", default="otel_traces", show_default=True, metavar="[DATABASE.]TABLE", help="The spans.")
@click.option("--logs-table", metavar="[DATABASE.]TABLE", help="The log records; by default an otel_logs beside it.")
@click.option("--backfill", callback=since, metavar="SINCE", help="Copy what is there already: 2026-11-01, or 30d.")
@click.option("--dry-run", is_flag=True, help="Print the statements; change nothing. The database has to exist.")
@config_option
def schema_attach(
    dsn: str | None,
    table: str,
    logs_table: str | None,
    backfill: datetime | None,
    dry_run: bool,
    config_path: Path | None,
) -> None:
    """Grade what the OpenTelemetry Collector's ClickHouse exporter stores, beside its tables."""
    from store import attach, migrate
    from store.schema import Layout

    config = configured(config_path)

    def run() -> None:
        with connect(dsn or config.dsn, create=not dry_run) as store:
            found = attach.find(store, table, logs_table, store.database)
            where = Layout(config.retention_days)
            if dry_run:
                for statement in migrate.would_attach(store, where, found):
                    click.echo(f"{statement};\n")
                return
            done = migrate.attach(store, where, found)
            names = ", ".join(f"{source.database}.{source.table}" for source in found)
            out.print(f"attached: {names}" if done else f"attached already: {names}", highlight=False)
            if backfill is None:
                return
            for source in found:
                rows = attach.backfill(store, source, backfill)
                out.print(
                    f"copied from {source.database}.{source.table}: {rows} rows that were not there", highlight=False
                )

    guarded(run)


@schema.command("detach")
@click.option(
    "--store", "dsn", help="The store, if not the configured one: clickhouse://user:password@host:8123/database."
)
@click.option("--table", required=True, metavar="[DATABASE.]TABLE", help="A table that was attached.")
@config_option
def schema_detach(dsn: str | None, table: str, config_path: Path | None) -> None:
    """Read a table no longer; what was read of it stays."""
    from store import migrate

    config = configured(config_path)

    def run() -> None:
        with connect(dsn or config.dsn, create=False) as store:
            migrate.detach(store, table)

    guarded(run)
    out.print(f"detached: {table}", highlight=False)


@cli.command()
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a header.")
@click.option("--store", "dsn", help="Another store: chdb:///path or clickhouse://user:password@host:8123/database.")
@config_option
def sql(query: str, as_json: bool, as_csv: bool, dsn: str | None, config_path: Path | None) -> None:
    """Query traces, grades and decisions in SQL."""
    if as_json and as_csv:
        fail("--json and --csv exclude each other; choose one", USAGE)
    config = configured(config_path)

    def run() -> tuple[bytes, list[str], list[tuple[Any, ...]]]:
        with connect(dsn, create=False) if dsn else open_store(config) as store:
            try:
                if as_json or as_csv:
                    return store.raw(query, "JSONEachRow" if as_json else "CSVWithNames"), [], []
                return b"", *store.table(query)
            except StoreError as error:
                # With a code it is ClickHouse that answered, about the query; without one it was not reached.
                if getattr(error.__cause__, "code", None) is None:
                    raise
                raise ValueError(str(error)) from error

    raw, columns, rows = guarded(run)
    if as_json or as_csv:
        sys.stdout.buffer.write(raw)
        return
    table = Table(show_edge=False)
    for name in columns:
        table.add_column(escape(_printable(name)), overflow="fold")
    for row in rows:
        # What telemetry says is shown as text: no markup, no control characters.
        table.add_row(*(Text(_printable(value)) for value in row))
    # On a terminal long values fold; into a file or a pipe they stay whole.
    (out if out.is_terminal else Output(width=100_000)).print(table)
    err.print(f"{len(rows)} rows" if len(rows) != 1 else "1 row", highlight=False)


def _printable(value: Any) -> str:
    # A number, a list or null as in JSON; what JSON has not (a time, a UUID) as it is, without quotation marks of its own.
    known = value is None or isinstance(value, int | float | list | tuple | dict)
    text = json.dumps(value, default=str, ensure_ascii=False) if known else str(value)
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def arm(_: click.Context, __: click.Parameter, value: str) -> ArmSelector:
    """`version=1.2.0` or `run=nightly-17`, with `@service` behind it to take only that service's traces."""
    from gate.evidence import ArmSelector

    kind, equals, rest = value.partition("=")
    name, _at, service = rest.partition("@")
    if kind not in ("version", "run") or not equals or not name:
        raise click.BadParameter(f"{value!r} names no traces; write version=1.2.0 or run=nightly-17")
    try:
        return ArmSelector.model_validate({"kind": kind, "value": name, "service": service})
    except ValidationError as error:
        raise click.BadParameter(f"{value!r}: {error.errors()[0]['msg']}") from error


ARM: dict[str, Any] = {"callback": arm, "required": True, "metavar": "version=V|run=ID[@SERVICE]"}


@cli.group()
def suite() -> None:
    """Golden cases."""


@suite.command("push")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--server", metavar="URL", help="A gate elsewhere, e.g. http://127.0.0.1:8080.")
@config_option
def suite_push(file: Path, server: str | None, config_path: Path | None) -> None:
    """Check a suite and keep it, so that traces are graded against its cases as they arrive."""
    from gate.service import GateService
    from gate.suite import load_suite
    from graders import grader_types
    from tracegrade.remote import send_suite

    config = configured(config_path)

    def push() -> str:
        checked = load_suite(file)
        url = server or running_gate(config)
        if url is not None:
            send_suite(url, file.read_bytes())
        else:
            with connect(config.dsn) as store:
                store.apply_schema(config.retention_days)
                GateService(store, grader_types()).keep_suite(checked)
        return f"{checked.name}: {len(checked.cases)} cases, {checked.digest}"

    out.print(escape(guarded(push)), highlight=False)


@cli.command()
@click.option("--suite", "suite_file", type=click.Path(path_type=Path), required=True, help="Suite file (YAML).")
@click.option("--policy", "policy_file", type=click.Path(path_type=Path), required=True, help="Policy file (YAML).")
@click.option("--baseline", **ARM, help="What runs today.")
@click.option("--candidate", **ARM, help="What shall replace it.")
@click.option("--server", metavar="URL", help="A gate elsewhere, e.g. http://127.0.0.1:8080.")
@click.option("--json", "as_json", is_flag=True, help="Print the decision document.")
@config_option
def decide(
    suite_file: Path,
    policy_file: Path,
    baseline: ArmSelector,
    candidate: ArmSelector,
    server: str | None,
    as_json: bool,
    config_path: Path | None,
) -> None:
    """May the candidate replace the baseline?

    Exits with 0 to promote, 1 when it is blocked, 3 to hold, 2 for a usage or policy error, 4 when the evidence or the
    infrastructure cannot be trusted.
    """
    from gate.document import read_decision
    from gate.policy import load_policy
    from gate.report import render
    from gate.service import EvaluationRequest, GateService
    from gate.suite import load_suite
    from graders import grader_types
    from tracegrade.remote import ask_gate
    from tracegrade.serve import configured_graders, make_worker

    config = configured(config_path)

    def run() -> dict[str, Any]:
        policy = load_policy(policy_file, grader_types())
        suite = load_suite(suite_file)
        request = EvaluationRequest(
            suite=suite.name, suite_digest=suite.digest, policy=policy, baseline=baseline, candidate=candidate
        )
        url = server or running_gate(config)
        if url is not None:
            return ask_gate(url, suite_file.read_bytes(), request)
        with open_store(config) as store:
            store.apply_schema(config.retention_days)
            service = GateService(store, grader_types())
            service.keep_suite(suite)
            if store.dsn.embedded:
                # Nobody else has the database open, so nobody else grades what the suite's change reopened.
                worker = make_worker(config, store, configured_graders(config.grading), wait=False)
                with closing(worker):
                    while worker.run_once():
                        pass
            return service.evaluate(request).document

    document = guarded(run)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        render(read_decision(document), out)
    sys.exit(document["exitCode"])


@cli.command()
@click.argument("decision_id", metavar="ID")
@click.option("--server", metavar="URL", help="A gate elsewhere, e.g. http://127.0.0.1:8080.")
@click.option("--json", "as_json", is_flag=True, help="Print the decision document.")
@config_option
def decision(decision_id: str, server: str | None, as_json: bool, config_path: Path | None) -> None:
    """Show a stored decision, and whether traces it rests on were graded again since."""
    from gate.document import read_decision
    from gate.report import render, superseded
    from gate.service import GateService, NotFound
    from graders import grader_types
    from tracegrade.remote import fetch_decision

    config = configured(config_path)

    def run() -> dict[str, Any]:
        if (url := server or running_gate(config)) is not None:
            return fetch_decision(url, decision_id)
        with open_store(config) as store:
            store.apply_schema(config.retention_days)
            service = GateService(store, grader_types())
            try:
                return {**service.get(decision_id), "supersededEvidence": service.superseded(decision_id)}
            except NotFound as error:
                raise ValueError(str(error)) from error

    document = guarded(run)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    render(read_decision(document), out)
    superseded(document.get("supersededEvidence"), out)


@cli.command()
@click.option("--suite", "suite_file", type=click.Path(path_type=Path), required=True, help="Suite file (YAML).")
@click.option("--arm", **ARM, help="Whose runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@config_option
def panel(suite_file: Path, arm: ArmSelector, as_json: bool, config_path: Path | None) -> None:
    """How an agent refuses: too much, too little, how helpfully; by the actions that cases expect."""
    from gate.panel import Panel, read, render
    from gate.suite import load_suite

    config = configured(config_path)

    def run() -> Panel:
        suite = load_suite(suite_file)
        with open_store(config) as store:
            return read(store, suite, arm)

    found = guarded(run)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        render(found, out)
    if not found.runs:
        also = f"; {found.foreign} runs of cases that expect none" if found.foreign else ""
        hint = "name an arm that ran it, and give its cases `expected_action`"
        err.print(Text(f"no run of a case of suite {found.suite} that expects an action by {found.arm}{also}: {hint}"))


def shard(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """`2/8`: the second of eight parts."""
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", value)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{value!r} is no part of anything; write 1/4, 2/4, 3/4, 4/4")
    return int(found[1]), int(found[2])


@cli.command()
@click.option("--since", callback=since, required=True, metavar="TIME", help="What arrived since: 2026-11-01, or 30d.")
@click.option("--until", callback=since, metavar="TIME", help="And before.")
@click.option("--grader", "names", multiple=True, metavar="NAME", help="Only this grader; may be repeated.")
@click.option("--service", default="", help="Only traces of this service.")
@click.option("--shard", "part", callback=shard, default="1/1", metavar="I/N", help="The I-th of N parts.")
@click.option(
    "--graded-before", callback=since, metavar="TIME", help="Also what the same graders graded before that time."
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
@config_option
def regrade(
    since: datetime,
    until: datetime | None,
    names: tuple[str, ...],
    service: str,
    part: tuple[int, int],
    graded_before: datetime | None,
    as_json: bool,
    config_path: Path | None,
) -> None:
    """Grade stored traces again where other graders than today's graded them, and those that never were graded.

    Ended at any moment, it goes on where it was when it is started again. With --grader, the grades of the others stay as
    they are. A server that has the embedded store open does the work. Exits with 4 if some traces could not be graded.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from graders.regrade import Selection
    from tracegrade.remote import regrade as ask
    from tracegrade.serve import configured_graders, make_regrade

    config = configured(config_path)
    columns = TextColumn("regrading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()

    def run() -> dict[str, Any]:
        selection = Selection(
            since=since,
            until=until,
            graders=names,
            service=service,
            shard=part[0],
            shards=part[1],
            graded_before=graded_before,
        )
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("regrading", total=None)

            def report(state: dict[str, Any]) -> None:
                bar.update(task, total=state["total"], completed=state["graded"])

            if (url := running_gate(config)) is not None:
                return ask(url, selection, report)
            with open_store(config) as store:
                store.apply_schema(config.retention_days)
                made, close = make_regrade(config, store, configured_graders(config.grading), selection)
                try:
                    made.run(report=lambda: report(asdict(made.progress)))
                finally:
                    close()
                return asdict(made.progress)

    try:
        done = guarded(run)
    except KeyboardInterrupt:
        err.print("interrupted; what is graded is kept, and the same command goes on from there", highlight=False)
        raise
    summary = {key: done[key] for key in ("total", "graded", "failed", "seconds", "finished")}
    if as_json:
        click.echo(json.dumps(summary))
    else:
        failures = f", {summary['failed']} of them in vain" if summary["failed"] else ""
        out.print(f"graded {summary['graded']} traces in {summary['seconds']:.0f} s{failures}", highlight=False)
    if summary["failed"]:
        sys.exit(INFRASTRUCTURE)


@cli.group()
def quarantine() -> None:
    """What the store refused, or what could not be read any more; set aside so that nothing waits behind it."""


ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...")


def set_aside(config: Config) -> Quarantine:
    from collector.quarantine import Quarantine

    buffer = config.collector_settings.buffer_dir
    if not buffer.is_dir():
        fail(f"there is no buffer at {buffer}; is it elsewhere? name it with --config", USAGE)
    return Quarantine(buffer)


def chosen(kept: Quarantine, ids: tuple[str, ...], everything: bool) -> list[Piece]:
    if bool(ids) == everything:
        fail("name what is meant: ids as `tracegrade quarantine list` shows them, or --all", USAGE)
    return kept.pieces() if everything else guarded(lambda: [kept.piece(name) for name in dict.fromkeys(ids)])


@quarantine.command("list")
@json_option
@config_option
def quarantine_list(as_json: bool, config_path: Path | None) -> None:
    """List what is set aside, oldest first."""
    pieces = set_aside(configured(config_path)).pieces()
    if as_json:
        for piece in pieces:
            click.echo(json.dumps(piece.facts(), ensure_ascii=False))
        return
    table = Table("id", "signal", "bytes", "items", "since", "reason", show_edge=False)
    for piece in pieces:
        facts = piece.facts()
        items = "unknown" if facts["items"] is None else str(facts["items"])
        reason = _printable(piece.reason.partition("\n")[0][:200])
        since = _printable(facts["quarantined_at"] or "unknown")
        table.add_row(*map(Text, (piece.id, piece.signal, str(piece.size), items, since, reason)))
    (out if out.is_terminal else Output(width=100_000)).print(table)


@quarantine.command("show")
@click.argument("name", metavar="ID")
@click.option(
    "--payload", is_flag=True, help="Print what is in it too; that may be anything an agent or its user said."
)
@json_option
@config_option
def quarantine_show(name: str, payload: bool, as_json: bool, config_path: Path | None) -> None:
    """Say why something is set aside, and what it is."""
    kept = set_aside(configured(config_path))
    piece = guarded(lambda: kept.piece(name))
    facts = piece.facts()
    text = guarded(lambda: kept.text(piece)) if payload else None
    if as_json:
        click.echo(json.dumps(facts if text is None else {**facts, "payload": text}, ensure_ascii=False))
        return
    for key, value in facts.items():
        if value is not None:
            out.print(Text(f"{key:15} {_printable(value)}"))
    if text is not None:
        out.print(Text("\n" + _printable(text)))


@quarantine.command("retry")
@ids_argument
@click.option("--all", "everything", is_flag=True, help="Everything that is set aside.")
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for a running collector's answer.")
@json_option
@config_option
def quarantine_retry(
    ids: tuple[str, ...], everything: bool, wait: float, as_json: bool, config_path: Path | None
) -> None:
    """Drive it into the store again; what is refused again stays, with the new reason.

    Damaged pieces are not what was acknowledged: they are stored only if they are named, not by --all.
    While a collector has the buffer open it is asked to do it; otherwise it is done here. Exits with 4 unless all is stored.
    """
    config = configured(config_path)
    kept = set_aside(config)
    pieces = chosen(kept, ids, everything)
    if everything and (damaged := sum(piece.damaged for piece in pieces)):
        click.echo(
            f"left alone because they are damaged: {damaged}; look at them, and name those to be stored", err=True
        )
        pieces = [piece for piece in pieces if not piece.damaged]
    answers: dict[str, str | None] = {}
    for piece, refusal in guarded(lambda: _retry(config, kept, pieces, wait)):
        answers[piece.id] = refusal
        if as_json:
            click.echo(json.dumps({"id": piece.id, "stored": refusal is None, "reason": refusal}, ensure_ascii=False))
        else:
            out.print(Text(f"{piece.id}  {'stored' if refusal is None else 'stays: ' + _printable(refusal)}"))
    if stay := sum(refusal is not None for refusal in answers.values()):
        fail(f"{stay} of {len(answers)} stay in quarantine", INFRASTRUCTURE)


def _retry(config: Config, kept: Quarantine, pieces: list[Piece], wait: float) -> list[tuple[Piece, str | None]]:
    from collector.quarantine import UnknownPiece
    from collector.segments import BufferInUse, take

    try:
        lock = take(config.collector_settings.buffer_dir)
    except BufferInUse:
        for piece in pieces:
            kept.ask(piece)
        return [(piece, _answer(kept, piece, wait)) for piece in pieces]
    try:
        with connect(config.dsn) as store:
            store.apply_schema(config.retention_days)
            answers: list[tuple[Piece, str | None]] = []
            for piece in pieces:
                try:
                    answers.append((piece, kept.retry(piece, store).refusal))
                except UnknownPiece as error:
                    answers.append((piece, str(error)))
            return answers
    finally:
        os.close(lock)


def _answer(kept: Quarantine, piece: Piece, wait: float) -> str | None:
    from collector.quarantine import UnknownPiece

    if not kept.wait_until_answered(piece.id, wait):
        return (
            "the collector has not answered yet; it goes on trying, and `tracegrade quarantine list` shows how it went"
        )
    try:
        return kept.piece(piece.id).reason
    except UnknownPiece:
        return None


@quarantine.command("drop")
@ids_argument
@click.option("--all", "everything", is_flag=True, help="Everything that is set aside.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def quarantine_drop(ids: tuple[str, ...], everything: bool, yes: bool, config_path: Path | None) -> None:
    """Delete it for good."""
    kept = set_aside(configured(config_path))
    pieces = chosen(kept, ids, everything)
    if pieces and not yes:
        click.confirm(f"Delete {len(pieces)} of what was acknowledged and never stored?", abort=True, err=True)
    for piece in pieces:
        kept.drop(piece)
        out.print(Text(f"{piece.id}  dropped"))


@cli.command()
@click.option("--keep", is_flag=True, help="Leave everything running afterwards.")
def demo(keep: bool) -> None:
    """Run the main job end to end, offline: agent, traces, grades, decisions."""
    from tracegrade.demo import DemoFailed, run

    try:
        run(out, keep=keep)
    except (DemoFailed, StoreError) as error:
        fail(str(error), INFRASTRUCTURE)
    except KeyboardInterrupt:
        sys.exit(130)


def main() -> None:
    """The console script. No accident may look like a verdict: 1 means blocked and nothing else."""
    try:
        # Not `cli()`, which answers a closed pipe and an interruption with 1.
        with cli.make_context("tracegrade", sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except BrokenPipeError:
        reader_left()
    except Exception:
        err.print_exception()
        sys.exit(INFRASTRUCTURE)
