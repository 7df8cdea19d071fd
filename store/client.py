"""The one way to the store: an embedded ClickHouse or a server, behind the same calls.

    connect("chdb:///var/lib/tracegrade/db")              in this process, files below the directory
    connect("clickhouse://user:secret@host:8123/db")      a server, over HTTP; clickhouses:// for TLS

Promises: `load` and every `insert_*` may be repeated without doubling anything; failures are `Retryable` or `Permanent` and
keep ClickHouse's own words. A `Store` may be used from any thread. It leaves when to grade and what to compare to others.

An embedded database belongs to one process. Others reach it through that process (`store.http`).
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError

from store import engine, migrate, rows, schema
from store.cases import case_document, read_case
from store.dialects import quote
from store.errors import OutOfMemory, Permanent, Retryable
from store.types import Case, Grade, Home, LogEvent, Sibling, Span

# The driver warns of every try that failed, and only that it did; what failed is in the error that is raised.
logging.getLogger("clickhouse_connect").setLevel(logging.ERROR)

Signal = Literal["traces", "logs"]
_T = TypeVar("_T")
MAX_SPANS = 20_000
"""Rows of one trace that are read, so that one which goes on for ever takes nobody's memory."""
MAX_READ_BYTES = 256 << 20
"""Spans that are read at a time, in bytes."""
MAX_SIBLINGS = 50
"""Traces of one conversation that are looked at when another of it is graded."""
MAX_CONVERSATION = 10_000
"""Traces: an id that more of them share is a constant, and says nothing."""
MAX_RELATED = 100
"""Decisions, and tool calls, that are read of each of them."""
MAX_RELATED_TEXT = 4_000
"""Characters of an argument or a result that are read of such a call."""
_FRONT = {
    "traces": ("otlp_requests", "ExportTraceServiceRequest"),
    "logs": ("otlp_log_requests", "ExportLogsServiceRequest"),
}

# What ClickHouse says when the bytes themselves are wrong: the same bytes will fail again. Everything else may pass.
# CANNOT_PARSE_*, ATTEMPT_TO_READ_AFTER_EOF, CANNOT_READ_ALL_DATA, TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND, INCORRECT_DATA,
# TOO_LARGE_STRING_SIZE, DECIMAL_OVERFLOW, UNKNOWN_PROTOBUF_FORMAT, PROTOBUF_BAD_CAST, PROTOBUF_FIELD_NOT_REPEATED,
# VALUE_IS_OUT_OF_RANGE.
_PERMANENT = frozenset({26, 27, 32, 33, 38, 41, 53, 69, 72, 117, 131, 407, 434, 436, 437, 444, 530, 321})

# Says many things, one of them of the bytes: that a oneof has two values.
_BAD_ARGUMENTS = 36

# CANNOT_ALLOCATE_MEMORY, MEMORY_LIMIT_EXCEEDED, and for what is read TOO_MANY_ROWS_OR_BYTES.
# An insert commits in every table at its very end: wherever the limit struck,
# nothing was stored (tried at every limit from 4 MiB up to enough, one month's spans and 36 months').
_MEMORY = frozenset({173, 241, 396})


# Where tables are spread over a cluster, an insert is done when every shard has it; elsewhere this changes nothing.
_FOREGROUND = {"distributed_foreground_insert": 1}

_PIECE = 2**18
"""Bytes of a segment that are sent at once."""


@dataclass(frozen=True, slots=True)
class Dsn:
    """Where a store is."""

    embedded: bool
    path: str = ""
    host: str = ""
    port: int = 8123
    user: str = "default"
    password: str = ""
    secure: bool = False
    database: str = "tracegrade"

    @classmethod
    def parse(cls, text: str, database: str = "tracegrade") -> Dsn:
        """Raises ValueError that says which forms are understood."""
        url = urlsplit(text)
        shown = repr(re.sub(r"//.*@", "//…@", text, flags=re.DOTALL))  # a password stays where it is
        if url.query or url.fragment:
            raise ValueError(f"store {shown} has no use for `?` and `#`; in a path or password write %3F and %23")
        if url.scheme == "chdb":
            path = unquote(url.netloc + url.path)
            if "?" in path:
                raise ValueError(f"store {shown} names a directory with a `?`, which the engine cannot open")
            if not path:
                raise ValueError(
                    f"store {shown} names no directory; write chdb:///absolute/path or chdb://relative/path"
                )
            return cls(embedded=True, path=str(Path(path).expanduser().resolve()), database=database)
        if url.scheme in ("clickhouse", "clickhouses", "http", "https"):
            secure = url.scheme in ("clickhouses", "https")
            if not url.hostname:
                raise ValueError(f"store {shown} names no host; write {url.scheme}://user:password@host:8123/database")
            try:
                port = url.port or (8443 if secure else 8123)
            except ValueError:
                raise ValueError(
                    f"store {shown}: the port is a number up to 65535; in a user or password write %3A, %2F and %40 for "
                    "`:`, `/` and `@`"
                ) from None
            return cls(
                embedded=False,
                host=url.hostname,
                port=port,
                user=unquote(url.username or "default"),
                password=unquote(url.password or ""),
                secure=secure,
                database=unquote(url.path.strip("/")) or database,
            )
        raise ValueError(
            f"store {shown} is not understood; write chdb:///path for the embedded engine "
            "or clickhouse://user:password@host:8123/database for a server"
        )


def connect(dsn: str | Dsn, *, create: bool = True) -> Store:
    """Open a store; with `create`, its database is made if missing. Raises ValueError for a bad DSN, else `Retryable`."""
    return Store(Dsn.parse(dsn) if isinstance(dsn, str) else dsn, create=create)


def _sql(name: str) -> str:
    return files("store").joinpath(f"sql/{name}.sql").read_text("utf-8")


class Store:
    """Rows in and out. One ClickHouse client per thread behind it."""

    def __init__(self, dsn: Dsn, *, create: bool) -> None:
        self.dsn = dsn
        self._local = threading.local()
        self._clients: list[Client] = []
        self._lock = threading.Lock()
        self._closed = False
        if create:
            client = self._open("default")
            try:
                _guard(lambda: client.command(f"CREATE DATABASE IF NOT EXISTS {_identifier(dsn.database)}"))
            finally:
                client.close()
        self._client()

    @property
    def database(self) -> str:
        return self.dsn.database

    def _open(self, database: str) -> Client:
        d = self.dsn
        if d.embedded:
            try:
                engine.load()
            except ImportError as error:
                raise Permanent(
                    "the embedded engine is not installed; run pip install 'tracegrade[embedded]', "
                    "or set store to a server: clickhouse://user:password@host:8123/database"
                ) from error
            Path(d.path).mkdir(parents=True, exist_ok=True)
        return _guard(
            lambda: (
                clickhouse_connect.get_client(
                    interface="chdb", path=d.path, database=database, chdb_options=engine.OPTIONS
                )
                if d.embedded
                else clickhouse_connect.get_client(
                    host=d.host,
                    port=d.port,
                    username=d.user,
                    password=d.password,
                    secure=d.secure,
                    database=database,
                    autogenerate_session_id=False,
                )
            )
        )

    def _client(self) -> Client:
        if self._closed:
            raise Permanent("the store is closed")
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._open(self.dsn.database)
            self._local.client = client
            with self._lock:
                self._clients.append(client)
        return client

    def close(self) -> None:
        """Close every thread's client. Calls after it fail."""
        with self._lock:
            self._closed = True
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- SQL ---

    def command(self, sql: str, parameters: dict[str, Any] | None = None) -> object:
        """Run one statement that returns no rows."""
        return _guard(lambda: self._client().command(sql, parameters=parameters))

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows as dicts. Values go in through `{name:Type}` parameters, never through formatting."""
        result = _guard(lambda: self._client().query(sql, parameters=parameters))
        names = result.column_names
        return [dict(zip(names, row, strict=True)) for row in result.result_rows]

    def table(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows."""
        result = _guard(lambda: self._client().query(sql))
        return list(result.column_names), [tuple(row) for row in result.result_rows]

    def raw(self, sql: str, fmt: str, parameters: dict[str, Any] | None = None) -> bytes:
        """The answer as ClickHouse formats it."""
        return bytes(_guard(lambda: self._client().raw_query(sql, parameters=parameters, fmt=fmt)))

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows that all have the columns of the first; columns left out take their defaults."""
        if not rows:
            return
        columns = list(rows[0])
        data = [[row[column] for column in columns] for row in rows]
        _guard(lambda: self._client().insert(table, data, column_names=columns, settings=_FOREGROUND))

    # --- schema ---

    def apply_schema(self, retention_days: int = 90, cluster: str = "") -> list[str]:
        """Bring the tables up to date; returns what was missing. A new database may be spread over a `cluster`."""
        return migrate.apply(self, schema.Layout(retention_days, cluster))

    # --- what the collector writes ---

    def load(self, signal: Signal, segment_id: str, path: Path) -> None:
        """Decode a segment file (length-delimited OTLP requests) into the tables.

        Idempotent for each `segment_id`: every table behind the front door remembers the ids it has seen, so a call that
        was interrupted anywhere may be repeated. Raises `Permanent` if ClickHouse cannot read the bytes.
        """
        table, message = _FRONT[signal]
        settings = {
            **self._wire_schema(message),
            "input_format_protobuf_oneof_presence": 1,
            **_FOREGROUND,
            "insert_deduplication_token": segment_id,
            "deduplicate_blocks_in_dependent_materialized_views": 1,
            # Planning costs as much as storing some thousands of spans, and there is nothing to optimise in these views.
            "query_plan_enable_optimizations": 0,
            # A clock gone wild spreads spans over many months; that must not refuse everyone else's spans.
            "throw_on_max_partitions_per_insert_block": 0,
            # The same file must fall into the same blocks when it is loaded again.
            "max_insert_threads": 1,
            "max_threads": 1,
        }
        with path.open("rb") as file:
            if self.dsn.embedded:
                # The engine reads the file itself; given the bytes, the driver would write them to another file first. By its
                # descriptor, because in a path `*`, `?` and braces stand for several files.
                given = ", ".join(f"{name} = {quote(str(value))}" for name, value in settings.items())
                source = f"INFILE '/dev/fd/{file.fileno()}' COMPRESSION 'none'"
                self.command(f"INSERT INTO {table} FROM {source} SETTINGS {given} FORMAT Protobuf")
            else:
                pieces = (piece for piece in iter(partial(file.read, _PIECE), b""))
                _guard(lambda: self._client().raw_insert(table, insert_block=pieces, fmt="Protobuf", settings=settings))

    def _wire_schema(self, message: str) -> dict[str, str]:
        # A server gets the schema with the insert. The embedded engine would write such a schema to a cache below the working
        # directory, which may not be writable; it may read a file of its own process instead.
        if self.dsn.embedded:
            return {"format_schema": f"{schema.OTLP_PROTO}:{message}"}
        return {
            "format_schema_source": "string",
            "format_schema": schema.OTLP_PROTO.read_text("utf-8"),
            "format_schema_message_name": message,
        }

    # --- what the graders read and write ---

    def now_ms(self) -> int:
        """The time by the clock that says when things arrive."""
        return int(self.query("SELECT toUnixTimestamp64Milli(now64(3)) AS Now")[0]["Now"])

    def closed_traces(
        self, *, grace_ms: int, idle_ms: int, since_ms: int = 0, limit: int = 500
    ) -> list[dict[str, Any]]:
        """Traces ready to be graded, longest quiet first: `TraceId`, `LastIngested` (ms), `Generation` (0 if never graded),
        `Spans`, `ConversationId`, `CaseId`."""
        return self.query(
            _sql("closed"), {"grace_ms": grace_ms, "idle_ms": idle_ms, "since_ms": since_ms, "limit": limit}
        )

    def regradable(self, selection: Mapping[str, Any], after: str, limit: int) -> list[dict[str, Any]]:
        """Traces whose grades are not those they would get now, rows as `closed_traces` has them; see regradable.sql."""
        return self.query(_sql("regradable"), {**selection, "after": after, "limit": limit})

    def count_regradable(self, selection: Mapping[str, Any]) -> int:
        """How many there are."""
        counted = f"SELECT count() AS Number FROM ({_sql('regradable')})"
        return int(self.query(counted, {**selection, "after": "", "limit": 2**32 - 1})[0]["Number"])

    def spans(self, trace_ids: Sequence[str]) -> dict[str, list[Span]]:
        """Spans by trace, in time order; a span that arrived twice is returned once.

        Of each trace the first `MAX_SPANS` rows are read. Raises `OutOfMemory` if all that is more than `MAX_READ_BYTES`.
        """
        return rows.spans(self.read("spans", trace_ids))

    def logs(self, trace_ids: Sequence[str]) -> dict[str, list[LogEvent]]:
        """Log events by trace, in time order, within the limits of `spans`."""
        return rows.events(self.read("logs", trace_ids))

    def read(
        self, name: Literal["spans", "logs", "related_approvals", "related_calls"], trace_ids: Sequence[str]
    ) -> bytes:
        """What the store has of these traces, for `store.rows` to take apart; within the limits of `spans`."""
        if not trace_ids:
            return b""
        most = MAX_SPANS if name in ("spans", "logs") else MAX_RELATED
        parameters = {"trace_ids": list(trace_ids), "most": most, "longest": MAX_RELATED_TEXT}

        def fetch() -> bytes:
            client = self._client()
            # Who may only read may not set limits either, and has the server's.
            limits = {"max_result_bytes": MAX_READ_BYTES, "result_overflow_mode": "'throw'"}
            fixed = any(setting.readonly for key in limits if (setting := client.server_settings.get(key)))
            clause = "" if fixed else "\nSETTINGS " + ", ".join(f"{key} = {value}" for key, value in limits.items())
            return bytes(client.raw_query(_sql(name) + clause, parameters=parameters, fmt="Native"))

        return _guard(fetch)

    def siblings(self, conversations: Sequence[str]) -> dict[str, list[Sibling]]:
        """Conversation → its graded traces, the `MAX_SIBLINGS` last graded ones; none of one that is too large to be one."""
        found: dict[str, list[Sibling]] = defaultdict(list)
        parameters = {"conversations": list(conversations), "most": MAX_SIBLINGS}
        for row in self.query(_sql("conversations"), parameters) if conversations else ():
            traces = found[row["ConversationId"]]
            if row["Number"] <= MAX_CONVERSATION:
                traces.append(Sibling(row["TraceId"], Home(row["Tenant"], row["Arm"], row["RunId"], row["Service"])))
        return dict(found)

    def insert_columns(self, table: str, columns: bytes) -> None:
        """Write rows as `store.rows` writes them; what has the same key replaces."""
        if not columns:
            return
        head = f"INSERT INTO {table} ({', '.join(rows.COLUMNS[table])})"
        fmt = "JSONCompactColumns"
        if not self.dsn.embedded:
            _guard(
                lambda: self._client().raw_insert(table, rows.COLUMNS[table], columns, settings=_FOREGROUND, fmt=fmt)
            )
            return
        # By its descriptor, and where there is such a thing from memory: the driver would write a file.
        with open(os.memfd_create(table), "wb") if sys.platform == "linux" else TemporaryFile() as file:
            file.write(columns)
            file.flush()
            file.seek(0)
            self.command(f"{head} FROM INFILE '/dev/fd/{file.fileno()}' COMPRESSION 'none' FORMAT {fmt}")

    def insert_grades(self, grades: Iterable[Grade]) -> None:
        """Write grades; the same (trace, span, grader, subject, generation) replaces."""
        self.insert_columns("grades", rows.columns(map(rows.grade_row, grades)))

    def carry_over(self, trace_ids: Sequence[str], graders: Collection[str]) -> None:
        """Give the grades that count of these traces, but those of `graders`, to the next generation as well; and what else
        that generation will not get from grading with `graders` alone."""
        given = {"trace_ids": list(trace_ids), "graders": sorted(graders)}
        self.command(_sql("carry_grades"), given)
        if "approval/boundary" not in graders:
            self.command(_sql("carry_tool_calls"), given)
            self.command(_sql("carry_approvals"), given)

    def reopen(self, trace_ids: Sequence[str], most: int = 2**32 - 1) -> None:
        """Take back the marks of these traces, so that they are graded again; not of what was graded more than `most` times."""
        if trace_ids:
            self.command(_sql("reopen"), {"trace_ids": list(trace_ids), "most": most})

    def mark_graded(self, marks: Sequence[Mapping[str, Any]]) -> None:
        """Record what was graded: rows of `TraceId`, `Generation`, `LastIngested`, `Completeness`, `GraderSet`."""
        self.insert("graded_traces", marks)

    def cases(self, trace_ids: Sequence[str]) -> dict[str, Case]:
        """Trace id → the case it is a run of, as the newest stored version of its suite has it."""
        found = self.query(_sql("cases"), {"trace_ids": list(trace_ids)}) if trace_ids else []
        return {row["TraceId"]: read_case(row["Document"], row["CaseDigest"]) for row in found}

    # --- suites ---

    def save_suite(self, name: str, digest: str, document: str, cases: Iterable[Case]) -> None:
        """Keep a version of a suite and make it the newest; traces that ran the suite are graded again against it.

        Repeating the newest version changes nothing.
        """
        newest = self.query(
            "SELECT argMax(Digest, (CreatedAt, Digest)) AS Digest FROM suites FINAL WHERE Suite = {suite:String}",
            {"suite": name},
        )
        if newest and newest[0]["Digest"] == digest:
            return
        self.insert(
            "cases",
            [
                {
                    "Suite": name,
                    "SuiteDigest": digest,
                    "CaseId": case.id,
                    "CaseDigest": case.digest,
                    "Bucket": case.bucket,
                    "Document": case_document(case),
                }
                for case in cases
            ],
        )
        self.insert("suites", [{"Suite": name, "Digest": digest, "Document": document}])
        self.command(_sql("regrade"), {"suite": name})


def _guard(call: Callable[[], _T]) -> _T:
    """Run a ClickHouse call; tell what can be tried again from what cannot."""
    try:
        return call()
    except DataError as error:  # the rows do not fit the columns; nothing was sent
        raise Permanent(str(error)) from error
    except ClickHouseError as error:
        code = getattr(error, "code", None)
        # What a shard of a cluster lacked memory for, another may have stored: only the same insert again is safe.
        memory = code in _MEMORY and "DB::Exception: Received from " not in str(error)
        permanent = code in _PERMANENT or (code == _BAD_ARGUMENTS and "Invalid protobuf data" in str(error))
        kind = Permanent if permanent else OutOfMemory if memory else Retryable
        raise kind(_unanswered(error) or str(error)) from error
    except OSError as error:
        raise Retryable(str(error)) from error


def _unanswered(error: ClickHouseError) -> str:
    """Who does not answer and why, in a sentence; empty if somebody did. The driver's own words repeat the request."""
    root: BaseException = error
    while (before := root.__cause__ or root.__context__) is not None:
        root = before
    if getattr(error, "code", None) is not None or not isinstance(root, OSError):
        return ""
    where = re.search(r"\((https?://[^()\s]+)\)$", str(error))
    return f"the store{f' at {where[1]}' if where else ''} does not answer: {root.strerror or root}"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
