"""Brings a database to the newest schema, and remembers what was done.

Promises: `apply` may be called by several processes and any number of times. A database knows how it is laid out: on one
server or over a cluster, and which tables that somebody else fills (`store.attach`) are read beside its own. That is recorded
with the versions, so whoever opens it later need not be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from store.attach import TABLES, Database, Source, engine_of, is_own, statement
from store.dialects import quote
from store.errors import Permanent
from store.schema import Layout, ledger, mark, plan


def apply(database: Database, layout: Layout | None = None) -> list[str]:
    """Bring `database` up to date; returns what was missing. A cluster named once is remembered."""
    known = done_to(database)
    layout = laid_out(database, layout or Layout(), known)
    database.command(ledger(layout))
    done = []
    for made, statements in pending(database, layout, known):
        for text in statements:
            modify = re.match(r"ALTER TABLE (\w+)[^\n]* MODIFY QUERY\n", text)
            if modify is None or not _reads(database, modify[1], text[modify.end() :]):
                database.command(text)
        if made:
            record(database, made)
            done.append(made)
    return done


def _reads(database: Database, view: str, query: str) -> bool:
    """Whether the view's query is this one already, as the engine understands both.

    Asked, because a view whose query is set anew forgets what was inserted through it: a segment that was stored just before,
    and whose loader died before it knew, would be stored twice. A new decoder costs that; the same one need not.
    """
    database.command(f"CREATE OR REPLACE VIEW {view}_next AS\n{query}")
    found = database.query(
        "SELECT uniqExact(as_select) AS queries, count() AS views FROM system.tables "
        "WHERE database = currentDatabase() AND name IN ({view:String}, {next:String})",
        {"view": view, "next": f"{view}_next"},
    )[0]
    database.command(f"DROP VIEW IF EXISTS {view}_next")
    return (found["queries"], found["views"]) == (1, 2)


def pending(database: Database, layout: Layout, known: set[str]) -> Iterator[tuple[str, list[str]]]:
    """(what is recorded afterwards, statements) for all that `database` lacks, in order."""
    if layout.cluster and not _cluster(known):
        yield f"cluster {layout.cluster}", []
    yield from plan(layout, known)
    for source in sources(known):
        made = statement(database, layout, source)
        if mark(made) not in known:
            query = made.partition(" AS\n")[2]
            yield mark(made), [made, f"ALTER TABLE {source.view} MODIFY QUERY\n{query}"]


def attach(database: Database, layout: Layout, found: list[Source]) -> list[str]:
    """Read these tables from now on; returns what was done. Nothing is done to a table that cannot be read."""
    would_attach(database, layout, found)
    known = done_to(database)
    database.command(ledger(layout))
    for source in found:
        if source.version not in known:
            record(database, source.version)
    return apply(database, layout)


def would_attach(database: Database, layout: Layout, found: list[Source]) -> list[str]:
    """The statements `attach` would run."""
    known = done_to(database) | {source.version for source in found}
    views: dict[str, str] = {}
    for source in sources(known):
        if (other := views.setdefault(source.view, source.name)) != source.name:
            raise Permanent(
                f"{other} and {source.name} would both be read by a view {source.view}, and one of them no longer; rename one"
            )
    layout = laid_out(database, layout, known)
    return [ledger(layout), *(text for _, texts in pending(database, layout, known) for text in texts)]


def detach(database: Database, table: str) -> None:
    """Read `database.table` no longer. What was read stays. Raises ValueError if it is not read."""
    read = sources(done_to(database))
    here = str(database.query("SELECT currentDatabase() AS here")[0]["here"])
    gone = [source for source in read if f"{source.database}.{source.table}" in (table, f"{here}.{table}")]
    if not gone:
        names = ", ".join(f"{source.database}.{source.table}" for source in read)
        raise ValueError(f"{table} is not attached; attached are: {names or 'none'}")
    for source in gone:
        database.command(f"DROP TABLE IF EXISTS {source.view}")
        # The record of its view goes as well, so that attaching it again makes the view again.
        database.command(
            f"ALTER TABLE schema_migrations DELETE WHERE Version = {quote(source.version)} "
            f"OR startsWith(Version, {quote(source.view + ' ')}) SETTINGS mutations_sync = 2"
        )


def done_to(database: Database) -> set[str]:
    """What is recorded; nothing if the database is new."""
    ledgers = "SELECT 1 AS found FROM system.tables WHERE database = currentDatabase() AND name = 'schema_migrations'"
    if not database.query(ledgers):
        return set()
    return {str(row["Version"]) for row in database.query("SELECT DISTINCT Version FROM schema_migrations")}


def record(database: Database, version: str) -> None:
    database.command(f"INSERT INTO schema_migrations (Version) VALUES ({quote(version)})")


def sources(known: set[str]) -> list[Source]:
    """The tables a database is recorded to read."""
    text = "\n".join(sorted(known))
    found = re.findall(r"^attached (traces|logs) ([\w-]+)\.([\w-]+)$", text, re.MULTILINE | re.ASCII)
    return [Source(signal, database, table) for signal, database, table in found]


def laid_out(database: Database, layout: Layout, known: set[str]) -> Layout:
    """`layout` as the database has it. Raises `Permanent` for one it does not have and cannot get."""
    recorded, tables = _cluster(known), sources(known)
    if layout.cluster and "0001_traces" in known and layout.cluster != recorded:
        where = f"spread over the cluster {recorded!r}" if recorded else "on one server"
        raise Permanent(f"this database is {where} and cannot be spread over {layout.cluster!r}; name a new database")
    layout = replace(layout, cluster=recorded or layout.cluster)
    if tables and layout.cluster:
        raise Permanent("a database that is spread over a cluster cannot read other tables where they are")
    here = str(database.query("SELECT currentDatabase() AS here")[0]["here"])
    taken = {source.table for source in tables if source.database == here} & {*TABLES.values()}
    if "otel_traces" in taken:
        taken.add("otel_traces_trace_id_ts")  # the exporter's own
    for signal, table in TABLES.items() if "0001_traces" not in known else ():
        if table not in taken and engine_of(database, own := Source(signal, here, table)) and not is_own(database, own):
            raise Permanent(
                f"{here} already has a table {table} that something else fills; run `tracegrade schema attach` to grade "
                "what is in it, or name another database in `store`"
            )
    return replace(layout, renamed={table: f"tracegrade_{table}" for table in taken})


def _cluster(known: set[str]) -> str:
    return next((version.removeprefix("cluster ") for version in known if version.startswith("cluster ")), "")
