"""The HTTP front with the clients it is for: clickhouse-connect, curl, and what Grafana asks."""

from __future__ import annotations

import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from backports import zstd
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import given
from hypothesis import strategies as st

from store.http import EngineServer
from store.inflate import PIECE, Inflate
from store.statements import Refused, format_at, split_insert, tokenize

DATABASE = "http_front"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.headers.get("x-clickhouse-exception-code", "0"))


def ask(
    server: EngineServer,
    body: bytes | str = b"",
    *,
    method: str = "POST",
    path: str = "/",
    headers: dict[str, str] | None = None,
    **params: str,
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        url = path + ("?" + urllib.parse.urlencode(params) if params else "")
        connection.request(method, url, body.encode() if isinstance(body, str) else body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def server(engine_path: Path) -> Iterator[EngineServer]:
    with EngineServer(engine_path, database=DATABASE, readonly=False) as running:
        assert ask(running, f"CREATE DATABASE {DATABASE}").status == 200
        yield running
        assert ask(running, f"DROP DATABASE {DATABASE}").status == 200


@pytest.fixture(scope="module")
def reader(engine_path: Path, server: EngineServer) -> Iterator[EngineServer]:
    with EngineServer(engine_path, database=DATABASE, readonly=True) as running:
        yield running


def connect(server: EngineServer, **options: Any) -> Any:
    return clickhouse_connect.get_client(host="127.0.0.1", port=server.port, database=DATABASE, **options)


@pytest.fixture
def client(server: EngineServer) -> Iterator[Any]:
    with connect(server) as opened:
        yield opened


@pytest.fixture
def table(client: Any) -> Iterator[str]:
    client.command("CREATE TABLE rows (id UInt64, text String) ENGINE = MergeTree ORDER BY id"
                   " SETTINGS non_replicated_deduplication_window = 100")  # fmt: skip
    yield "rows"
    client.command("DROP TABLE rows")


# --- clickhouse-connect ---


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_rows_go_in_and_come_out_with_every_compression(server: EngineServer, table: str, compress: str | bool) -> None:
    with connect(server, compress=compress) as client:
        rows = [[n, f"text {n} ü"] for n in range(20_000)]
        assert client.insert(table, rows, column_names=["id", "text"]).written_rows == 20_000
        assert client.query(f"SELECT id, text FROM {table} ORDER BY id").result_rows == [tuple(row) for row in rows]


def test_parameters_are_bound_not_pasted(client: Any) -> None:
    given = {"n": 41, "s": "quote ' back \\ line \n tab \t", "a": ["x", "y'z"]}
    rows = client.query("SELECT {n:UInt8} + 1, {s:String}, {a:Array(String)}", parameters=given).result_rows
    assert rows == [(42, given["s"], given["a"])]


def test_parameters_in_a_form(server: EngineServer) -> None:
    with connect(server, form_encode_query_params=True) as client:
        assert client.query("SELECT {n:UInt8} + 1", parameters={"n": 41}).result_rows == [(42,)]


def test_commands_and_sessions(client: Any, server: EngineServer) -> None:
    client.command("CREATE TEMPORARY TABLE mine (n UInt8)")
    client.command("INSERT INTO mine VALUES (1), (2)")
    client.command("SET max_threads = 1")
    assert client.query("SELECT count() FROM mine", settings={"max_threads": 2}).result_rows == [(2,)]
    assert client.command("SELECT getSetting('max_threads')") == 1, "a setting of one request must not outlive it"
    with connect(server) as other, pytest.raises(DatabaseError) as raised:
        other.query("SELECT count() FROM mine")
    assert raised.value.code == 60


def test_settings_reach_the_engine_for_one_request(server: EngineServer) -> None:
    query = "SELECT getSetting('max_block_size')"
    assert ask(server, query, max_block_size="77").body == b"77\n"
    assert ask(server, query).body != b"77\n"


def test_a_repeated_insert_with_the_same_token_is_stored_once(client: Any, table: str) -> None:
    schema = 'syntax = "proto3"; message Row { uint64 id = 1; string text = 2; }'
    data = b"".join(bytes([4 + len(text), 8, n, 18, len(text)]) + text for n, text in ((1, b"one"), (2, b"two")))
    settings = {
        "insert_deduplication_token": "segment-1",
        "format_schema_source": "string",
        "format_schema": schema,
        "format_schema_message_name": "Row",
    }
    for _ in range(2):
        client.raw_insert(table, insert_block=data, fmt="Protobuf", settings=settings)
    assert client.query(f"SELECT id, text FROM {table} ORDER BY id").result_rows == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lz4", None])
def test_raw_inserts_may_be_compressed(client: Any, table: str, compression: str | None) -> None:
    data = b'{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n'
    match compression:
        case "gzip":
            data = gzip.compress(data)
        case "zstd":
            data = zstd.compress(data[:23]) + zstd.compress(data[23:])
        case "lz4":
            lz4 = pytest.importorskip("lz4.frame")
            data = lz4.compress(data)
    client.raw_insert(table, insert_block=data, fmt="JSONEachRow", compression=compression)
    assert client.query(f"SELECT count(), max(text) FROM {table}").result_rows == [(2, "b")]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT * FROM nowhere", 60),
        ("SELEC 1 FROM x", 62),
        ("SELECT nope()", 46),
        ("SELECT nope", 47),
        ("SELECT throwIf(1)", 395),
        ("SELECT 1 FORMAT Nope", 73),
        ("SELECT 1 SETTINGS nope = 1", 115),
    ],
)
def test_errors_carry_clickhouse_codes(client: Any, query: str, code: int) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.raw_query(query)
    assert raised.value.code == code


@pytest.mark.parametrize("compress", [False, True])
def test_a_large_result_streams(server: EngineServer, compress: bool) -> None:
    query = "SELECT number, toString(number) FROM numbers(1_000_000)"
    with connect(server, compress=compress) as client, client.query_column_block_stream(query) as blocks:
        total = sum(sum(block[0]) for block in blocks)
    assert total == sum(range(1_000_000))


def test_a_failure_inside_a_stream_is_not_taken_for_the_end(server: EngineServer) -> None:
    query = (
        "SELECT throwIf(number = 3000000, 'gone wrong'), number FROM numbers(4000000) SETTINGS max_block_size = 65536"
    )
    with (
        connect(server, compress=False) as client,
        pytest.raises(Exception, match="gone wrong"),
        client.query_row_block_stream(query) as blocks,
    ):
        for _ in blocks:
            pass
    with pytest.raises(http.client.IncompleteRead):
        ask(server, query, default_format="TabSeparated")


def test_many_clients_at_once(server: EngineServer, table: str) -> None:
    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            with connect(server) as client:
                for at in range(5):
                    client.insert(table, [[n * 100 + at, "x"]], column_names=["id", "text"])
                    assert client.query(f"SELECT count() FROM {table} WHERE intDiv(id, 100) = {n}").result_rows == [
                        (at + 1,)
                    ]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert ask(server, f"SELECT count() FROM {table}").body == b"60\n"


def test_long_queries_do_not_block_ping(server: EngineServer) -> None:
    slow = "SELECT sleepEachRow(0.05) FROM numbers(20) SETTINGS max_block_size = 1 FORMAT Null"
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(ask(server, slow))) for _ in range(12)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    while time.monotonic() - started < 0.8:
        before = time.monotonic()
        assert ask(server, method="GET", path="/ping").body == b"Ok.\n"
        assert time.monotonic() - before < 0.5
    assert not replies, "the queries were meant to be slow"
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200] * 12


@pytest.mark.parametrize("query", ["SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1",
                                   "SELECT repeat('x', 1000) FROM numbers(1000000000)"])  # fmt: skip
def test_a_query_ends_when_its_client_goes_away(server: EngineServer, query: str) -> None:
    running = (
        "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sum(sleep%' OR query LIKE 'SELECT repeat(%'"
    )

    def until(count: bytes) -> None:
        deadline = time.monotonic() + 5
        while ask(server, running).body != count:
            assert time.monotonic() < deadline, f"waiting for {count!r} running queries"
            time.sleep(0.05)

    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(query)}\r\n\r\n{query}".encode())
        until(b"1\n")
    until(b"0\n")


# --- curl and Grafana ---


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", "--max-time", "20", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(server: EngineServer, table: str) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    assert curl(f"{url}?query=SELECT%201") == "1\n"
    assert curl(url, "-d", "SELECT 'a', 2 FORMAT CSV") == '"a",2\n'
    assert curl(f"{url}?query=INSERT%20INTO%20{table}%20VALUES", "-d", "(1, 'a'), (2, 'b;')") == ""
    assert curl(f"{url}?query=INSERT%20INTO%20{table}%20FORMAT%20CSV", "--data-binary", '3,"c"\n') == ""
    assert curl(url, "--data-binary", f"INSERT INTO {table} (id, text) FORMAT TSV\n4\td\n") == ""
    assert curl(url, "-d", f"INSERT INTO {table} SELECT 5, 'e'") == ""
    assert curl("--compressed", f"{url}?default_format=TSV", "-d", f"SELECT id, text FROM {table} ORDER BY id") == (
        "1\ta\n2\tb;\n3\tc\n4\td\n5\te\n"
    )
    assert curl(url, "-F", "query=SELECT {n:UInt8}", "-F", "param_n=7") == "7\n"


@pytest.mark.parametrize(("query", "params"), [("SELECT 1 AS a, 'b' AS b FORMAT JSON", {}),
                                               ("SELECT 1 AS a, 'b' AS b", {"default_format": "JSON"}),
                                               ("SELECT 1 AS a, 'b' AS b -- a comment", {"default_format": "JSON"}),
                                               ("SHOW TABLES FROM system LIKE 'one'", {"default_format": "JSON"})])  # fmt: skip
def test_json_as_grafana_asks_for_it(reader: EngineServer, query: str, params: dict[str, str]) -> None:
    reply = ask(reader, query, max_execution_time="60", **params)
    assert reply.status == 200
    assert reply.headers["x-clickhouse-format"] == "JSON"
    assert reply.headers["content-type"].startswith("application/json")
    answer = json.loads(reply.body)
    assert answer["rows"] == 1
    assert {"meta", "data", "statistics"} <= set(answer)


def test_headers(server: EngineServer) -> None:
    reply = ask(server, "SELECT number FROM numbers(3)", query_id="mine", wait_end_of_query="1")
    assert reply.headers["x-clickhouse-query-id"] == "mine"
    assert reply.headers["x-clickhouse-format"] == "TabSeparated"
    assert reply.headers["x-clickhouse-timezone"]
    assert reply.headers["x-clickhouse-server-display-name"]
    summary = json.loads(reply.headers["x-clickhouse-summary"])
    assert (summary["read_rows"], summary["result_rows"]) == ("3", "3")
    database = ask(
        server, "SELECT currentDatabase()", headers={"X-ClickHouse-Database": "system", "X-ClickHouse-Format": "CSV"}
    )
    assert database.body == b'"system"\n'


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELECT * FROM nowhere", 404, 60),
        ("SELEC 1 FROM x", 400, 62),
        ("SELECT toUInt8('x')", 400, 6),
        ("SELECT throwIf(1)", 500, 395),
        ("", 400, 62),
        ("   -- nothing", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT 1 INTO OUTFILE 'x'", 501, 48),
        ("INSERT INTO t FROM INFILE 'x' FORMAT CSV", 501, 48),
        ("INSERT INTO t SELECT n FROM input('n UInt8') FORMAT CSV\n1", 501, 48),
        ("CREATE TABLE broken", 400, 80),
    ],
)
def test_status_of_errors(server: EngineServer, query: str, status: int, code: int) -> None:
    reply = ask(server, query)
    assert (reply.status, reply.code) == (status, code), reply.body
    assert reply.body.startswith(b"Code: ")
    assert ask(server, "SELECT 1").body == b"1\n"


def test_an_unknown_database_is_named(server: EngineServer) -> None:
    reply = ask(server, "SELECT 1", database="no_such")
    assert (reply.status, reply.code) == (404, 81)


def test_sessions_lock_and_can_be_required(server: EngineServer) -> None:
    assert ask(server, "SELECT 1", session_id="new", session_check="1").code == 372
    slow = threading.Thread(target=ask, args=(server, "SELECT sleep(1)"), kwargs={"session_id": "one"})
    slow.start()
    time.sleep(0.3)
    assert ask(server, "SELECT 1", session_id="one").code == 373
    slow.join()
    assert ask(server, "SELECT 1", session_id="one", session_check="1").body == b"1\n"


# --- Read-only ---

SAFE = [
    "SELECT 1",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "WITH 1 AS x SELECT x",
    "SHOW TABLES FROM system",
    "DESCRIBE TABLE system.one",
    "EXISTS TABLE system.one",
    "EXPLAIN SELECT 1",
    "SELECT * FROM numbers(3)",
    "SELECT 'INTO OUTFILE' AS `into outfile`, 'file(' FORMAT JSON",
    "SELECT /* DROP TABLE x; */ 1 -- ; DROP",
    "SELECT getSetting('readonly')",
]

ATTACKS = [
    "INSERT INTO guarded VALUES (2)",
    "INSERT INTO guarded FORMAT CSV\n2",
    "INSERT INTO guarded SELECT 2",
    '/* x */ iNsErT INTO guarded FORMAT JSONEachRow {"id": 2}',
    "INSERT INTO FUNCTION file('OUT', 'CSV', 'a Int8') SELECT 1",
    "CREATE TABLE more (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE more (a Int8)",
    "CREATE FUNCTION f AS (x) -> x",
    "CREATE USER u",
    "ALTER TABLE guarded DELETE WHERE 1",
    "ALTER TABLE guarded ADD COLUMN b Int8",
    "DELETE FROM guarded WHERE 1",
    "TRUNCATE TABLE guarded",
    "DROP TABLE guarded",
    "DETACH TABLE guarded",
    "RENAME TABLE guarded TO other",
    "EXCHANGE TABLES guarded AND other",
    "OPTIMIZE TABLE guarded FINAL",
    "UNDROP TABLE guarded",
    "SYSTEM FLUSH LOGS",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "GRANT ALL ON *.* TO default",
    "BACKUP TABLE guarded TO File('OUT')",
    "RESTORE TABLE guarded FROM File('OUT')",
    "USE system",
    "SET readonly = 0",
    "SET max_threads = 1",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS output_format_schema = 'OUT'",
    "SELECT 1; DROP TABLE guarded",
    "SELECT 1 INTO OUTFILE 'OUT'",
    "SELECT 1 INTO/**/OUTFILE 'OUT' TRUNCATE FORMAT CSV",
    "EXPLAIN SELECT 1 INTO OUTFILE 'OUT'",
    "SELECT * FROM file('SECRET', 'LineAsString')",
    "SELECT * FROM `file`('SECRET', 'LineAsString')",
    "SELECT file('SECRET')",
    "SELECT FILE /**/ ('SECRET')",
    "SELECT \"file\"('SECRET')",
    "SELECT arrayMap(file, ['SECRET'])",
    "SELECT * APPLY(file) FROM (SELECT 'SECRET')",
    "SELECT * APPLY file FROM (SELECT 'SECRET')",
    "SELECT COLUMNS('x') APPLY `file` FROM (SELECT 'SECRET' AS x)",
    "WITH (SELECT file('SECRET')) AS x SELECT x",
    "EXPLAIN SELECT file('SECRET')",
    "DESCRIBE file('SECRET', 'LineAsString')",
    "DESCRIBE (SELECT * FROM file('SECRET', 'LineAsString'))",
    "SELECT * FROM eval('SELECT fi' || 'le(\\'SECRET\\')')",
    "SELECT * FROM view(SELECT * FROM file('SECRET', 'LineAsString'))",
    "SELECT * FROM url('http://127.0.0.1:PORT/', 'LineAsString')",
    "DESCRIBE url('http://127.0.0.1:PORT/', 'LineAsString')",
    "SELECT * FROM s3('http://127.0.0.1:PORT/b/k', 'LineAsString')",
    "SELECT * FROM remote('127.0.0.1:PORT', system.one)",
    "SELECT * FROM mysql('127.0.0.1:PORT', 'd', 't', 'u', 'p')",
    "EXPLAIN TABLE OVERRIDE mysql('127.0.0.1:PORT', 'd', 't', 'u', 'p') COLUMNS (a Int8)",
    "SELECT * FROM postgresql('127.0.0.1:PORT', 'd', 't', 'u', 'p')",
    "SELECT * FROM mongodb('127.0.0.1:PORT', 'd', 'c', 'u', 'p', 'a Int8')",
    "SELECT * FROM redis('127.0.0.1:PORT', 'k', 'k String')",
    "SELECT * FROM executable('cat SECRET', 'LineAsString', 'line String')",
    "SELECT * FROM filesystem('/')",
    "SELECT * FROM sqlite('OUT', 't')",
    "SELECT * FROM python(os)",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT aiGenerate('x')",
    "DROP TABLE guarded PARALLEL WITH DROP TABLE guarded",
    "BEGIN TRANSACTION",
]


@pytest.fixture(scope="module")
def guarded(server: EngineServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, socket.socket]]:
    """A table, a file and a port that an attack would show up in."""
    secret = tmp_path_factory.mktemp("attack") / "secret.txt"
    secret.write_text("open sesame\n")
    assert ask(server, "CREATE TABLE guarded (id UInt8) ENGINE = MergeTree ORDER BY id AS SELECT 1").status == 200
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield secret, listener
    assert ask(server, "DROP TABLE guarded").status == 200


@pytest.mark.parametrize("query", SAFE)
def test_read_only_lets_reading_through(reader: EngineServer, query: str) -> None:
    assert ask(reader, query).status == 200


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("query", ATTACKS)
def test_read_only_refuses(
    reader: EngineServer, server: EngineServer, guarded: tuple[Path, socket.socket], query: str, method: str
) -> None:
    secret, listener = guarded
    out = secret.with_name("written")
    filled = (
        query.replace("SECRET", str(secret)).replace("OUT'", f"{out}'").replace("PORT", str(listener.getsockname()[1]))
    )
    # A GET is read-only on the listener that allows writes, as it is in ClickHouse.
    reply = ask(reader, filled) if method == "POST" else ask(server, method="GET", query=filled)
    assert reply.status in (400, 403, 404, 500, 501), reply.body
    assert reply.code
    assert b"sesame" not in reply.body
    assert not out.exists()
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert ask(server, "SELECT groupArray(id) FROM guarded").body == b"[1]\n"
    assert ask(server, "SHOW TABLES").body == b"guarded\n"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("readonly", "0", 164),
        ("output_format_schema", "/x", 164),
        ("format_schema", "x:y", 164),
        ("max_memory_usage", "0", 164),
        ("allow_ddl", "1", 164),
        ("max_threads = 1, readonly", "0", 115),
        ("max_block_size", "1', readonly = '0", 27),
        ("param_a b", "1", 36),
        ("max_execution_time", "0", 452),
        ("max_execution_time", "301", 452),
        ("max_execution_time", "-1", 452),
        ("max_execution_time", "nan", 452),
        ("max_execution_time", "x", 452),
    ],
)
def test_read_only_settings(reader: EngineServer, name: str, value: str, code: int) -> None:
    assert ask(reader, "SELECT 1", **{name: value}).code == code


def test_clickhouse_connect_reads_from_the_read_only_front(reader: EngineServer) -> None:
    with connect(reader) as client:
        assert client.query("SELECT {n:UInt8}, 'x'", parameters={"n": 3}).result_rows == [(3, "x")]
        with pytest.raises(DatabaseError) as raised:
            client.command("CREATE TABLE t (a Int8) ENGINE = Memory")
    assert raised.value.code == 164


# --- Who may ask ---


def test_a_token_is_required_where_one_is_set(engine_path: Path, server: EngineServer) -> None:
    basic = "Basic dTpzM2NyZXQ="  # u:s3cret
    with EngineServer(engine_path, token="s3cret") as guarded:
        for headers in (
            {},
            {"Authorization": "Basic dTp3cm9uZw=="},
            {"Authorization": "Basic ???"},
            {"X-ClickHouse-Key": "ü"},
        ):
            reply = ask(guarded, "SELECT 1", headers=headers)
            assert (reply.status, reply.code) == (403, 516)
        for headers in ({"Authorization": basic}, {"Authorization": "Bearer s3cret"}, {"X-ClickHouse-Key": "s3cret"}):
            assert ask(guarded, "SELECT 1", headers=headers).body == b"1\n"
        assert ask(guarded, "SELECT 1", password="s3cret").body == b"1\n"
        assert ask(guarded, method="GET", path="/ping").status == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:80"}]
)
def test_a_page_in_a_browser_is_refused(server: EngineServer, headers: dict[str, str]) -> None:
    reply = ask(server, "SELECT 1", headers=headers)
    assert (reply.status, reply.code) == (403, 497)


# --- Garbage ---


@pytest.mark.parametrize(
    ("body", "headers", "params", "status"),
    [
        (b"\xff\xfe\x00", {}, {}, 400),
        (b"\x00" * 5000, {}, {}, 400),
        (b"SELECT '" + b"x" * (2 << 20) + b"'", {}, {}, 413),
        (b"not gzip", {"Content-Encoding": "gzip"}, {}, 500),
        (gzip.compress(b"SELECT 1")[:-9], {"Content-Encoding": "gzip"}, {}, 500),
        (gzip.compress(b"a" * (8 << 20)), {"Content-Encoding": "gzip"}, {}, 413),
        (b"not zstd", {"Content-Encoding": "zstd"}, {}, 500),
        (b"not lz4", {"Content-Encoding": "lz4"}, {}, 500),
        (b"x", {"Content-Encoding": "br"}, {}, 501),
        (b"x", {"Content-Type": "multipart/form-data"}, {}, 400),
        (b"x", {"Content-Type": "multipart/form-data; boundary=y"}, {}, 400),
        (b"SELECT 1", {}, {"default_format": "Nope"}, 404),
        (b"SELECT 1", {}, {"default_format": "JSON; DROP"}, 404),
        (b"SELECT 1", {}, {"query_id": "a\r\nX: y"}, 400),
        (b"SELECT 1", {}, {"role": "r"}, 404),
        (b"SELECT {x:UInt8}", {}, {"param_x": "y"}, 400),
        (b"SELECT {x:UInt8}", {}, {}, 400),
    ],
)
def test_garbage_is_answered(
    server: EngineServer, body: bytes, headers: dict[str, str], params: dict[str, str], status: int
) -> None:
    reply = ask(server, body, headers=headers, **params)
    assert reply.status == status, reply.body[:200]
    assert reply.code
    assert ask(server, "SELECT 1").body == b"1\n"


def test_other_paths_and_methods(server: EngineServer) -> None:
    assert ask(server, method="GET", path="/nope").status == 404
    assert ask(server, method="PUT").status == 405
    assert ask(server, method="GET", path="/replicas_status").body == b"Ok.\n"


def test_a_body_may_be_too_large(engine_path: Path, server: EngineServer) -> None:
    with EngineServer(engine_path, readonly=False, max_body=1 << 20) as small:
        reply = ask(small, b"INSERT INTO t FORMAT CSV\n" + b"1\n" * (1 << 20))
    assert (reply.status, reply.code) == (413, 223)


# --- The pure parts ---


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("INSERT INTO t FORMAT CSV\n1,2", "1,2"),
        ("insert into t (a, `format`) settings async_insert=1 format RowBinary \r\n\x00\x01", "\x00\x01"),
        ("INSERT INTO t VALUES (1)", " (1)"),
        ("/* FORMAT x */ INSERT -- VALUES\n INTO `VALUES` FORMAT TSV\n\n1", "\n1"),
        ("INSERT INTO t (* EXCEPT(format)) FORMAT JSONEachRow {}", "{}"),
        ("INSERT INTO t SELECT 1 FORMAT CSV", None),
        ("INSERT INTO t WITH 1 AS x SELECT x", None),
        ("INSERT INTO t; DROP TABLE x FORMAT CSV", None),
        ("INSERT INTO t FORMAT", None),
        ("SELECT 1 FORMAT CSV", None),
        ("", None),
    ],
)
def test_where_an_insert_ends(text: str, data: str | None) -> None:
    found = split_insert(text)
    assert (text[found.data_at :] if found else None) == data


def test_settings_of_an_insert_stay_with_it() -> None:
    found = split_insert("INSERT INTO t (a) SETTINGS x = 'FORMAT y' VALUES (1)")
    assert found is not None
    assert found.before == "INSERT INTO t (a) "
    assert found.after.split() == ["SETTINGS", "x", "=", "'FORMAT", "y'", "FORMAT", "Values"]


@pytest.mark.parametrize(
    ("sql", "tail"),
    [
        ("SELECT 1 FORMAT JSON", "FORMAT JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS a = 1", "FORMAT JSON SETTINGS a = 1"),
        ("SELECT 1 FORMAT `Null`", "FORMAT `Null`"),
        ("SELECT 1 SETTINGS a = 1", ""),
        ("SELECT FORMAT FROM t", ""),
        ("SELECT ' FORMAT JSON'", ""),
        ("SELECT x AS FORMAT", ""),
    ],
)
def test_where_a_result_names_its_format(sql: str, tail: str) -> None:
    assert sql[format_at(list(tokenize(sql)), len(sql)) :] == tail


@pytest.mark.parametrize("unit", ["/*a", "'\\\\", "'a", '"\\\\', "`\\\\", "$a$b", "$$", "$a", "''", "(", "-- ", "\\"])
def test_no_text_takes_long_to_read(unit: str) -> None:
    started = time.process_time()
    split_insert("INSERT INTO t " + unit * 100_000)
    assert time.process_time() - started < 2


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    tokens = list(tokenize(text))
    assert all(text.startswith(token.text, token.start) for token in tokens)
    found = split_insert("INSERT INTO t " + text)
    assert found is None or found.data_at <= len(text) + len("INSERT INTO t ")


@given(st.binary(max_size=3_000_000), st.integers(1, 1 << 17), st.sampled_from(["gzip", "deflate", "zstd"]))
def test_bodies_inflate_whatever_way_they_are_cut(data: bytes, cut: int, encoding: str) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}[encoding](data * 3)
    inflate = Inflate(encoding)
    pieces = [piece for at in range(0, len(packed), cut) for piece in inflate.feed(packed[at : at + cut])]
    inflate.finish()
    assert b"".join(pieces) == data * 3
    assert all(len(piece) <= PIECE for piece in pieces)


@given(st.binary(min_size=1), st.sampled_from(["gzip", "deflate", "zstd", "lz4"]))
def test_garbage_never_inflates_silently(data: bytes, encoding: str) -> None:
    inflate = Inflate(encoding)
    with pytest.raises(Refused):  # noqa: PT012 - which of the two finds out depends on the data
        list(inflate.feed(data))
        inflate.finish()


# --- As a process of its own ---


def test_it_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    code = (
        "import sys; from store.http import run; "
        "run(sys.argv[1], port=0, database='d', ready=lambda address: print(address, flush=True))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "engine")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert (
            curl(f"{address}/?database=default", "-d", "CREATE TABLE kept (a Int8) ENGINE = MergeTree ORDER BY a") == ""
        )
        assert curl(f"{address}/?database=default", "-d", "INSERT INTO kept VALUES (7)") == ""
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
