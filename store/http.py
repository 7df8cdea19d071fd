"""The embedded engine behind ClickHouse's HTTP interface.

Promises: what `clickhouse-connect`, `clickhouse-go` (the OpenTelemetry Collector's exporter, Grafana's data source with
protocol HTTP) and `curl` send to a ClickHouse server is answered the same way from the engine inside this process: queries in
the URL, the body or a form, bound parameters, settings as URL parameters, sessions, inserts in any format, compressed both ways
by HTTP's encodings or ClickHouse's framing, results streamed while the engine produces them, errors with ClickHouse's codes.
An engine path belongs to one process, so whatever else in the process uses the engine opens its own handle on the same path;
this module does the same, one handle a request.

Read-only means that no request can change anything, read a file of this machine or reach another one:

* the engine parses every query; one statement, of a kind that reads, is let through, and what runs is the parser's own
  rendering of it, so nothing hides in comments or quoting;
* the handle runs under the engine's `readonly=1`, which refuses writes, DDL, `SET` and table functions with outside sources;
* names the engine would still let through (the scalar `file`, `eval`, `python`, `ai…`, `INTO OUTFILE`) are refused by token;
* only settings named in `_READ_SETTINGS` can be given, and memory and time have limits.

With writes allowed, a client may do whatever this process may do, `file()` and `url()` included; only `INTO OUTFILE`, `FROM
INFILE` and several statements in one request are refused, as a ClickHouse server refuses them. A GET is read-only there too.

Left out, and answered with an error that says so: external tables, `INSERT … SELECT … FROM input()`, roles. Query ids are
echoed but are not the engine's own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import itertools
import json
import os
import re
import secrets
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from fcntl import fcntl
from typing import IO, Any
from urllib.parse import parse_qsl

import uvicorn
from clickhouse_connect.driver.binding import quote_identifier

from store import engine, native
from store.framing import Unpack, pack
from store.inflate import Inflate
from store.listen import listen
from store.statements import (
    READS,
    Insert,
    Refused,
    assignments,
    check,
    format_at,
    split_insert,
    tokenize,
    trailing_format,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_STATEMENT = 1 << 20
"""Longest statement without its insert data, in bytes."""
MAX_HELD = 2 << 30
"""Most bytes of a result kept back for `wait_end_of_query`; a longer result must be streamed."""
_FIRST = 1 << 16
"""Bytes collected before the status line is sent, so that an early failure still has its own status."""
_CHUNK = 1 << 18
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
"""Linux only: widens the pipe the engine writes its result to."""

# ClickHouse's own mapping of exception codes (src/Server/HTTP/exceptionCodeToHTTPStatus); READONLY is 500 there, and 403 says
# what is meant to clients and proxies that retry on 5xx.
_STATUS = {
    **dict.fromkeys((6, 25, 26, 27, 36, 38, 41, 42, 43, 53, 55, 62, 70, 72, 80, 117, 167, 168, 321, 372, 373), 400),
    **dict.fromkeys((376, 427, 452, 456, 457, 469, 675, 676), 400),
    194: 401,
    **dict.fromkeys((164, 192, 193, 497, 516), 403),
    **dict.fromkeys((5, 46, 47, 50, 56, 60, 61, 63, 73, 81, 115, 336, 511), 404),
    159: 408,
    223: 413,
    48: 501,
    **dict.fromkeys((202, 209), 503),
}

_TRANSPORT = re.compile(
    r"query|database|default_format|session_(id|timeout|check)|close_session|query_id|user|password|quota_key|role|stacktrace"
    r"|buffer_size|(de)?compress|wait_end_of_query|client_protocol_version|enable_http_compression|http_zlib_compression_level"
    r"|send_progress_in_http_headers|http_headers_progress_interval_ms|cancel_http_readonly_queries_on_client_close"
    r"|add_http_cors_header|http_write_exception_in_output_format"
)
"""URL parameters that are about the request, not settings of the engine."""

_READ_SETTINGS = re.compile(
    r"max_(execution_time|threads|block_size|query_size|result_rows|result_bytes|rows_to_read|bytes_to_read|rows_to_group_by"
    r"|rows_to_sort|rows_in_join|bytes_in_join|rows_in_set)|(timeout|result|read|sort|join|set|group_by)_overflow_mode|limit|offset"
    r"|output_format_(json|native|arrow|parquet|orc|csv|tsv|pretty|decimal|binary|avro|msgpack|markdown|values|sql|xml)\w*"
    r"|format_(csv|tsv)_\w+|date_time_(input|output)_format|session_timezone|use_client_time_zone|join_use_nulls|extremes|final"
    r"|prefer_column_name_to_alias|cast_keep_nullable|group_by_use_nulls|transform_null_in|totals_mode|log_comment|low_cardinality_\w+"
    r"|union_default_mode|join_algorithm|wait_for_async_insert|async_insert|readonly"
)
_READ_SECONDS = 300
_READ_DEFAULTS = {"max_memory_usage": str(512 << 20), "max_execution_time": str(_READ_SECONDS)}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_CODE = re.compile(r"Code: (\d+)\.")
_SAFE_TABLE_FUNCTION = re.compile(
    r"numbers(_mt)?|zeros(_mt)?|primes|generate_?series|generateRandom|values|SQLStandardValues|view(Explain|IfPermitted)?|null"
    r"|merge|mergeTree\w+|format"
)
_UNSAFE_FUNCTION = re.compile(r"file|ai[A-Z]\w*|catboostEvaluate")

_CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "Parquet": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
}
_RESULT_ENCODINGS = frozenset(("zstd", "lz4", "br", "gzip", "deflate"))
"""All written by the engine itself, so a client needs no codec of ours."""


class _TooLong(Exception):
    """The result outgrew what may be kept back; holds nothing."""


def _quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _within(value: str, most: int) -> bool:
    try:
        return 0 < float(value) <= most
    except ValueError:
        return False


def _escape(value: str) -> str:
    """As a bound parameter is written: the escapes of TabSeparated."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _error(error: BaseException) -> tuple[int, int, str]:
    """HTTP status, ClickHouse's code and the message of whatever the engine or this module raised."""
    message = str(error)
    at = message.find("Code: ")
    message = message[max(at, 0) :].strip() or type(error).__name__
    codes = [int(code) for code in _CODE.findall(message)]
    # 1001 and 49 wrap; the first code is the one ClickHouse reports.
    code = codes[0] if codes else 1002
    return _STATUS.get(code, 500), code, message


# --- The request ---


@dataclass(slots=True)
class _Request:
    """What a client asked, before the engine has seen it."""

    params: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    bound: dict[str, str] = field(default_factory=dict)
    query_id: str = ""
    encoding: str = ""
    wire: bool = False
    """Native blocks go out as in ClickHouse's wire protocol."""
    readonly: bool = True
    statement: str = ""
    insert: Insert | None = None
    data: IO[bytes] | None = None
    """Rows of an insert, in an unnamed file."""

    def flag(self, name: str) -> bool:
        return self.params.get(name, "0").lower() in ("1", "true", "yes")

    def close(self) -> None:
        if self.data is not None:
            self.data.close()


@dataclass(slots=True)
class _Answer:
    """What the engine has said so far; the thread that runs the query writes, the response reads."""

    format: str = ""
    summary: dict[str, str] = field(default_factory=dict)


class _Shape:
    """What is done to a result between the engine and the client. The engine has named its format before the first byte."""

    def __init__(self, request: _Request, answer: _Answer) -> None:
        self._request, self._answer = request, answer
        self._native = native.Reframe() if request.wire else None
        self._packed = request.flag("compress")

    async def feed(self, data: bytes) -> bytes:
        if self._answer.format != "Native":
            self._native = None
        if self._native is None and not self._packed:
            return data
        return await asyncio.to_thread(self._shaped, data)

    def _shaped(self, data: bytes) -> bytes:
        if self._native is not None:
            data = self._native.feed(data)
        return pack(data) if self._packed else data

    def finish(self) -> bytes:
        """What is left once the engine is done; nothing a second time."""
        rest = self._native.finish() if self._native is not None else b""
        return pack(rest) if self._packed else rest


@dataclass(slots=True)
class _Session:
    handle: Any
    expires: float
    settings: dict[str, str] = field(default_factory=dict)
    """What `SET` left behind, as literals."""
    busy: bool = False


# --- The application ---


class EngineHTTP:
    """A raw ASGI application that answers as a ClickHouse server does, from the engine at `path`.

    `close` gives the engine handles back; requests after it fail. Safe to call twice.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        database: str = "default",
        readonly: bool = True,
        token: str = "",
        concurrency: int = 8,
        max_body: int = 1 << 30,
        local_only: bool = False,
    ) -> None:
        """`token`, when not empty, must come as password, `X-ClickHouse-Key` or bearer token. `local_only` refuses requests
        addressed to any name but this machine's loopback, which is how a page in a browser would reach it by DNS rebinding."""
        self._path = os.fspath(path)
        self._database = database
        self._readonly = readonly
        self._token = token
        self._concurrency = concurrency
        self._max_body = max_body
        self._local_only = local_only
        # The engine stops when its last handle closes; this one keeps it running between requests.
        self._anchor: Any = engine.connect(self._path)
        self._anchor_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="engine-http")
        self._running = 0
        self._sessions: dict[str, _Session] = {}
        self._sessions_lock = threading.Lock()
        self._timezone = self._ask("SELECT timezone()")
        outside = self._ask("SELECT name FROM system.table_functions").split()
        scalars = self._ask("SELECT name FROM system.functions").split()
        self._outside = {name.lower() for name in outside if not _SAFE_TABLE_FUNCTION.fullmatch(name)}
        self._unsafe = {name.lower() for name in scalars if _UNSAFE_FUNCTION.fullmatch(name)}

    def _ask(self, sql: str) -> str:
        with self._anchor_lock:
            result: bytes = self._anchor.query(sql, "TSVRaw").bytes()
        return result.decode().strip()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        with self._sessions_lock:
            for session in self._sessions.values():
                session.handle.close()
            self._sessions.clear()
        with self._anchor_lock:
            if self._anchor is not None:
                self._anchor.close()
                self._anchor = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] != "http":
            raise ValueError(f"EngineHTTP serves http, not {scope['type']}")
        request = _Request(query_id=str(uuid.uuid4()))
        try:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            path, method = scope["path"], scope["method"]
            if path in ("/ping", "/replicas_status") and method in ("GET", "HEAD"):
                return await _respond(send, 200, {"content-type": "text/plain; charset=UTF-8"}, b"Ok.\n")
            if path not in ("/", ""):
                message = f"There is no handle {path}. Use / or /ping for health checks.\n"
                return await _respond(send, 404, {"content-type": "text/plain; charset=UTF-8"}, message.encode())
            if method not in ("GET", "POST"):
                return await _respond(
                    send, 405, {"allow": "GET, POST", "content-type": "text/plain"}, b"Use GET or POST.\n"
                )
            self._read_head(request, scope, headers)
            await self._read_body(request, headers, receive)
            await self._answer(request, receive, send)
        except Refused as refusal:
            await self._fail(send, request, refusal)
        except _Disconnected:
            pass
        finally:
            request.close()

    # --- Reading ---

    def _read_head(self, request: _Request, scope: Scope, headers: Mapping[str, str]) -> None:
        try:
            pairs = parse_qsl(
                scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=1000, errors="strict"
            )
        except ValueError as error:
            raise Refused(36, "BAD_ARGUMENTS", f"the URL's parameters cannot be read: {error}") from error
        request.params = dict(pairs)
        request.query_id = request.params.get("query_id") or request.query_id
        if not re.fullmatch(r"[\x21-\x7e]{1,128}", request.query_id):
            request.query_id = str(uuid.uuid4())
            raise Refused(36, "BAD_ARGUMENTS", "`query_id` must be 1 to 128 printable ASCII characters")
        self._authenticate(request, headers)
        self._check_origin(headers)
        for name, header in (("database", "x-clickhouse-database"), ("default_format", "x-clickhouse-format")):
            if header in headers:
                request.params.setdefault(name, headers[header])
        if not _NAME.fullmatch(request.params.setdefault("default_format", "TabSeparated")):
            raise Refused(73, "UNKNOWN_FORMAT", f"Unknown format {request.params['default_format']!r}")
        if request.params.get("role"):
            raise Refused(511, "UNKNOWN_ROLE", "an embedded engine has no roles; leave `role` out")
        request.readonly = self._readonly or scope["method"] == "GET"
        with suppress(ValueError):
            request.wire = int(request.params.get("client_protocol_version", "0")) >= native.MIN_REVISION
        # What is packed or framed here has to come from the engine as it is.
        if (
            request.params.get("enable_http_compression", "1") != "0"
            and not request.wire
            and not request.flag("compress")
        ):
            request.encoding = _accepted(headers.get("accept-encoding", ""))
        self._take_params(request, request.params)

    def _take_params(self, request: _Request, params: Mapping[str, str]) -> None:
        for name, value in params.items():
            if name.startswith("param_"):
                if not _NAME.fullmatch(name[6:]):
                    raise Refused(36, "BAD_ARGUMENTS", f"`{name}` does not name a query parameter")
                request.bound[name[6:]] = value
            elif not _TRANSPORT.fullmatch(name):
                if not _NAME.fullmatch(name):
                    raise Refused(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}")
                if request.readonly and not _READ_SETTINGS.fullmatch(name):
                    raise Refused(164, "READONLY", f"Cannot modify '{name}' setting in readonly mode.")
                if request.readonly and name == "readonly" and value not in ("1", "2"):
                    raise Refused(164, "READONLY", "Cannot modify 'readonly' setting in readonly mode.")
                if request.readonly and name == "max_execution_time" and not _within(value, _READ_SECONDS):
                    raise Refused(
                        452,
                        "SETTING_CONSTRAINT_VIOLATION",
                        f"Setting max_execution_time shouldn't be greater than {_READ_SECONDS}, or 0, in readonly mode",
                    )
                request.settings[name] = value

    def _authenticate(self, request: _Request, headers: Mapping[str, str]) -> None:
        if not self._token:
            return
        given = headers.get("x-clickhouse-key") or request.params.get("password", "")
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = credentials.strip()
        elif scheme.lower() == "basic":
            with suppress(binascii.Error, ValueError):
                given = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise Refused(
                516,
                "AUTHENTICATION_FAILED",
                "Authentication failed: give the token as password, X-ClickHouse-Key or bearer token",
            )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """A page in a browser may send a POST anywhere; nothing that queries ClickHouse in earnest is such a page."""
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and origin.partition("//")[2] != host:
            raise Refused(497, "ACCESS_DENIED", f"requests from the web origin {origin!r} are not served")
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        if self._local_only and name.lower() not in ("", "localhost", "127.0.0.1", "[::1]"):
            raise Refused(497, "ACCESS_DENIED", f"this listener serves the loopback interface, not the host {name!r}")

    async def _read_body(self, request: _Request, headers: Mapping[str, str], receive: Receive) -> None:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        inflate: list[Inflate | Unpack] = [] if encoding in ("", "identity") else [Inflate(encoding)]
        if request.flag("decompress"):
            inflate.append(Unpack())
        if headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await self._read_form(request, headers["content-type"], inflate, receive)
        prefix = request.params.get("query", "")
        head = bytearray(f"{prefix}\n".encode() if prefix else b"")
        looked = 2048
        async for piece in self._pieces(inflate, receive):
            if request.data is not None:
                request.data.write(piece)
                continue
            head += piece
            if len(head) >= 2 * looked:
                looked = len(head)
                self._take_insert(request, head)
            if request.data is None and len(head) > MAX_STATEMENT:
                message = f"a statement may have {MAX_STATEMENT} bytes; send data as INSERT … FORMAT …"
                raise Refused(223, "QUERY_IS_TOO_LARGE", message)
        if request.data is None and not self._take_insert(request, head):
            request.statement = _text(head)
        if request.data is not None:
            request.data.flush()

    def _take_insert(self, request: _Request, head: bytes | bytearray) -> bool:
        """Split `head` into an insert's statement and the first of its rows, if it is one."""
        # Latin-1 maps bytes to characters one to one, so a position in this text is one in the body.
        insert = split_insert(head[:MAX_STATEMENT].decode("latin-1"))
        if insert is None:
            return False
        if request.readonly:
            raise Refused(164, "READONLY", "Cannot execute query in readonly mode: INSERT")
        before, after = (_text(part.encode("latin-1")) for part in (insert.before, insert.after))
        request.insert = Insert(before, after, insert.data_at)
        request.data = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the request
        request.data.write(head[insert.data_at :])
        request.data.flush()
        return True

    async def _pieces(self, inflate: Sequence[Inflate | Unpack], receive: Receive) -> Any:
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            body = message.get("body", b"")
            pieces: Iterable[bytes] = (body,)
            for step in inflate:
                pieces = itertools.chain.from_iterable(map(step.feed, pieces))
            for piece in pieces:
                size += len(piece)
                if size > self._max_body:
                    raise Refused(
                        223, "QUERY_IS_TOO_LARGE", f"the body has more than {self._max_body} bytes; send it in parts"
                    )
                yield piece
            if not message.get("more_body", False):
                for step in inflate:
                    step.finish()
                return

    async def _read_form(
        self, request: _Request, content_type: str, inflate: Sequence[Inflate | Unpack], receive: Receive
    ) -> None:
        body = bytearray()
        async for piece in self._pieces(inflate, receive):
            body += piece
            if len(body) > 2 * MAX_STATEMENT:
                raise Refused(223, "QUERY_IS_TOO_LARGE", f"a form may have {2 * MAX_STATEMENT} bytes")
        form = BytesParser(policy=HTTP).parsebytes(
            f"Content-Type: {content_type}\r\n\r\n".encode("latin-1") + bytes(body)
        )
        if not form.is_multipart():
            raise Refused(36, "BAD_ARGUMENTS", "the body is not the multipart/form-data its Content-Type announces")
        fields: dict[str, str] = {}
        for part in form.iter_parts():
            name = part.get_param("name", header="content-disposition")
            if not isinstance(name, str):
                raise Refused(36, "BAD_ARGUMENTS", "a part of the form has no name")
            if part.get_filename() is not None:
                raise Refused(48, "NOT_IMPLEMENTED", f"external tables are not served here (form file `{name}`)")
            payload = part.get_payload(decode=True)
            fields[name] = _text(payload if isinstance(payload, bytes) else b"")
        query = [text for text in (request.params.get("query", ""), fields.pop("query", "")) if text]
        request.params = {**fields, **request.params}
        self._take_params(request, fields)
        request.statement = "\n".join(query)
        self._take_insert(request, request.statement.encode())

    # --- Answering ---

    async def _answer(self, request: _Request, receive: Receive, send: Send) -> None:
        if self._running >= self._concurrency * 16:
            raise Refused(202, "TOO_MANY_SIMULTANEOUS_QUERIES", f"{self._running} queries are waiting; try again later")
        loop = asyncio.get_running_loop()
        answer = _Answer()
        read_end, write_end = os.pipe()
        with suppress(OSError):
            fcntl(write_end, _F_SETPIPE_SZ, _PIPE_BYTES)
        reader = asyncio.StreamReader(limit=_CHUNK)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
        )
        self._running += 1
        done = loop.run_in_executor(self._pool, self._run, request, answer, write_end)
        gone = asyncio.create_task(_wait_disconnect(receive))
        try:
            await self._relay(request, answer, reader, done, gone, send)
        except _TooLong:
            transport.close()
            await asyncio.wait((done,))
            message = f"the result has more than {MAX_HELD} bytes; leave `wait_end_of_query` out to have it streamed"
            await self._fail(send, request, Refused(396, "TOO_MANY_ROWS_OR_BYTES", message))
        except (_Disconnected, OSError):
            pass
        finally:
            gone.cancel()
            # Closing the pipe ends a query that is writing its result; one that is still computing has to be told. What
            # changes data runs to its end.
            transport.close()
            if not done.done() and answer.format and "log_comment" not in request.settings:
                await asyncio.to_thread(self._kill, request.query_id)
            await asyncio.wait((done,))
            done.exception()
            self._running -= 1

    async def _relay(
        self,
        request: _Request,
        answer: _Answer,
        reader: asyncio.StreamReader,
        done: asyncio.Future[None],
        gone: asyncio.Task[None],
        send: Send,
    ) -> None:
        async def read() -> bytes:
            pending = asyncio.ensure_future(reader.read(_CHUNK))
            await asyncio.wait((pending, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not pending.done():
                pending.cancel()
                raise _Disconnected
            return pending.result()

        hold = MAX_HELD if request.flag("wait_end_of_query") else _FIRST
        shape = _Shape(request, answer)
        with tempfile.SpooledTemporaryFile(max_size=8 << 20) as held:
            size = 0
            while chunk := await read():
                size += held.write(await shape.feed(chunk))
                if size > hold:
                    if hold == MAX_HELD:
                        raise _TooLong
                    break
            if not chunk:
                try:
                    await done
                    size += held.write(shape.finish())
                except Exception as error:
                    return await self._fail(send, request, error)
            held.seek(0)
            tag = secrets.token_hex(8)
            headers = self._headers(request, answer)
            headers["x-clickhouse-summary"] = json.dumps(answer.summary)
            headers["x-clickhouse-exception-tag"] = tag
            headers["content-type"] = _CONTENT_TYPES.get(answer.format, "text/plain; charset=UTF-8")
            if answer.format:
                headers["x-clickhouse-format"] = answer.format
            if request.encoding and answer.format and size:
                headers["content-encoding"] = request.encoding
            if not chunk:
                headers["content-length"] = str(size)
            await send(_start(200, headers))
            while piece := held.read(_CHUNK):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        rest = b""
        while chunk and (chunk := await read()):
            await send({"type": "http.response.body", "body": await shape.feed(chunk), "more_body": True})
        try:
            await done
            rest = shape.finish()
        except Exception as error:
            # The status is out. The server closes a response that is left unfinished, so that no client takes it for
            # complete; where it is not compressed it says why, in the form ClickHouse uses.
            message = _error(error)[2].encode()
            if not request.encoding:
                body = b"\r\n__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (
                    tag.encode(),
                    message,
                    len(message) + 1,
                    tag.encode(),
                )
                await send({"type": "http.response.body", "body": body, "more_body": True})
            return
        await send({"type": "http.response.body", "body": rest, "more_body": False})

    def _headers(self, request: _Request, answer: _Answer) -> dict[str, str]:
        return {
            "x-clickhouse-query-id": request.query_id,
            "x-clickhouse-server-display-name": socket.gethostname(),
            "x-clickhouse-timezone": request.settings.get("session_timezone") or self._timezone,
        }

    async def _fail(self, send: Send, request: _Request, error: BaseException) -> None:
        status, code, message = _error(error)
        headers = self._headers(request, _Answer())
        headers["x-clickhouse-exception-code"] = str(code)
        headers["content-type"] = "text/plain; charset=UTF-8"
        body = (message + "\n").encode()
        await _respond(send, status, headers, pack(body) if request.flag("compress") else body)

    # --- The engine; everything below runs on a thread of the pool ---

    def _run(self, request: _Request, answer: _Answer, out: int) -> None:
        """Run the request; its result goes to the pipe `out`, which is closed when nothing more will come."""
        try:
            session_id = "" if request.readonly else request.params.get("session_id", "")
            if not session_id:
                handle = engine.connect(self._path)
                try:
                    self._run_on(handle, request, answer, out, None)
                finally:
                    handle.close()
                return
            session = self._enter_session(session_id, request)
            try:
                self._run_on(session.handle, request, answer, out, session)
            finally:
                self._leave_session(session, request)
        finally:
            os.close(out)

    def _run_on(self, handle: Any, request: _Request, answer: _Answer, out: int, session: _Session | None) -> None:
        self._use(handle, request, session)
        settings = dict(request.settings)
        if session is None or "log_comment" not in session.settings:
            settings.setdefault("log_comment", request.query_id)
        if request.readonly:
            settings = {**_READ_DEFAULTS, **settings}
            settings.pop("readonly", None)
        if settings:
            handle.query("SET " + ", ".join(f"{name} = {_quote(value)}" for name, value in settings.items()), "Null")
        if request.readonly:
            handle.query("SET readonly = 1", "Null")
        started = time.monotonic_ns()
        result = self._execute(handle, request, answer, out, session)
        elapsed = time.monotonic_ns() - started
        answer.summary = {
            "read_rows": str(result.storage_rows_read() if answer.format else result.rows_read()),
            "read_bytes": str(result.storage_bytes_read() if answer.format else result.bytes_read()),
            "written_rows": str(result.rows_written()),
            "written_bytes": str(result.bytes_written()),
            "total_rows_to_read": "0",
            "result_rows": str(result.rows_read()),
            "result_bytes": str(result.bytes_read()),
            "elapsed_ns": str(elapsed),
        }

    def _execute(self, handle: Any, request: _Request, answer: _Answer, out: int, session: _Session | None) -> Any:
        if request.insert is not None and request.data is not None:
            infile = f" FROM INFILE '/dev/fd/{request.data.fileno()}' COMPRESSION 'none' "
            return handle.query(request.insert.before + infile + request.insert.after, "Null", params=request.bound)
        if not request.statement.strip():
            raise Refused(62, "SYNTAX_ERROR", "Syntax error: failed at position 1 (end of query): the query is empty")
        parsed = handle.query(
            "SELECT formatQuerySingleLine({statement:String})",
            "RawBLOB",
            params={"statement": _escape(request.statement)},
        )
        canonical = parsed.bytes().decode(errors="surrogateescape")
        tokens = list(tokenize(canonical))
        check(tokens, readonly=request.readonly, outside=self._outside, unsafe=self._unsafe)
        first = tokens[0].text.upper()
        if first not in READS:
            result = handle.query(request.statement, request.params["default_format"], params=request.bound)
            if first == "SET" and session is not None:
                session.settings.update(assignments(tokens))
            if body := result.bytes():
                answer.format, request.encoding = trailing_format(tokens) or request.params["default_format"], ""
                _write(out, body)
            return result
        answer.format = trailing_format(tokens) or request.params["default_format"]
        at = format_at(tokens, len(canonical))
        compression = f" COMPRESSION '{request.encoding}'" if request.encoding else ""
        # TRUNCATE, because APPEND refuses compression and anything else refuses a file that exists; a pipe ignores it.
        sink = f" INTO OUTFILE '/dev/fd/{out}' TRUNCATE{compression} "
        clause = "" if at < len(canonical) else f"FORMAT {answer.format}"
        # Not "Null" as the format beside the statement's own: the engine then loses the rows of a SHOW.
        return handle.query(canonical[:at] + sink + clause + canonical[at:], answer.format, params=request.bound)

    def _use(self, handle: Any, request: _Request, session: _Session | None) -> None:
        database = request.params.get("database", "")
        if database:
            handle.query(f"USE {quote_identifier(database)}", "Null")
        elif session is None or session.expires == 0:
            # A database nobody named may not exist yet: whoever creates it comes through here.
            with suppress(Exception):
                handle.query(f"USE {quote_identifier(self._database)}", "Null")

    def _enter_session(self, session_id: str, request: _Request) -> _Session:
        now = time.monotonic()
        with self._sessions_lock:
            for key in [key for key, session in self._sessions.items() if session.expires < now and not session.busy]:
                self._sessions.pop(key).handle.close()
            session = self._sessions.get(session_id)
            if session is None:
                if request.flag("session_check"):
                    raise Refused(372, "SESSION_NOT_FOUND", f"Session {session_id} not found")
                if len(self._sessions) >= 1000:
                    raise Refused(
                        202,
                        "TOO_MANY_SIMULTANEOUS_QUERIES",
                        "1000 sessions are open; close some or wait for them to expire",
                    )
                session = self._sessions[session_id] = _Session(engine.connect(self._path), 0)
            elif session.busy:
                raise Refused(373, "SESSION_IS_LOCKED", f"Session {session_id} is locked by a concurrent client")
            session.busy = True
            return session

    def _leave_session(self, session: _Session, request: _Request) -> None:
        restore = {name: session.settings.get(name, "DEFAULT") for name in (*request.settings, "log_comment")}
        with suppress(Exception):
            session.handle.query("SET " + ", ".join(f"{name} = {value}" for name, value in restore.items()), "Null")
        try:
            timeout = min(max(int(request.params.get("session_timeout", "60")), 1), 3600)
        except ValueError:
            timeout = 60
        with self._sessions_lock:
            session.expires = time.monotonic() + timeout
            session.busy = False

    def _kill(self, query_id: str) -> None:
        with suppress(Exception), self._anchor_lock:
            self._anchor.query(f"KILL QUERY WHERE Settings['log_comment'] = {_quote(query_id)} ASYNC", "Null")


class _Disconnected(Exception):
    """The client went away."""


async def _wait_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _start(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    pairs = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def _respond(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    await send(_start(status, {**headers, "content-length": str(len(body))}))
    await send({"type": "http.response.body", "body": body})


def _accepted(header: str) -> str:
    """The first encoding of `Accept-Encoding` that the engine writes; empty for none."""
    for item in header.split(","):
        name, _, weight = item.partition(";")
        if name.strip().lower() in _RESULT_ENCODINGS and not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight):
            return name.strip().lower()
    return ""


def _text(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(62, "SYNTAX_ERROR", f"Syntax error: the statement is not UTF-8: {error}") from error


def _write(out: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(out, view) :]


# --- On its own ---


class EngineServer:
    """`EngineHTTP` on a socket and a thread: `start` returns once it accepts connections, `stop` once all is closed."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        database: str = "default",
        readonly: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str = "",
        max_body: int = 1 << 30,
        keys: tuple[str, str] = ("clickhouse.host", "clickhouse.port"),
    ) -> None:
        """`keys` are what host and port are called where they were given."""
        self._socket = listen(host, port, keys=keys)
        self.host, self.port = self._socket.getsockname()[:2]
        loopback = self.host in ("127.0.0.1", "::1")
        try:
            self.app = EngineHTTP(
                path,
                database=database,
                readonly=readonly,
                token=token,
                max_body=max_body,
                local_only=loopback and not token,
            )
        except BaseException:
            self._socket.close()
            raise
        # The process's logging stays as it is: its other servers share the logger.
        config = uvicorn.Config(
            self.app,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="engine-http-server", daemon=True
        )

    def start(self) -> EngineServer:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError(f"the HTTP listener on {self.host}:{self.port} did not start")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        self.app.close()

    def __enter__(self) -> EngineServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def run(
    path: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8123,
    database: str = "default",
    readonly: bool = False,
    token: str = "",
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the engine at `path` until SIGINT or SIGTERM. `ready` is told the address once connections are accepted."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with EngineServer(
        path, database=database, readonly=readonly, host=host, port=port, token=token, keys=("--host", "--port")
    ) as server:
        if ready is not None:
            ready(f"http://{f'[{server.host}]' if ':' in server.host else server.host}:{server.port}")
        stopped.wait()
