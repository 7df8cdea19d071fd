"""What drivers of ClickHouse's wire protocol send and read over HTTP: block framing, and Native blocks as on the wire."""

from __future__ import annotations

import http.client
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from store.framing import MAX_BLOCK, Unpack, pack
from store.http import EngineServer
from store.inflate import PIECE
from store.native import MIN_REVISION, Reframe
from store.statements import Refused

INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"


@pytest.fixture(scope="module")
def server(engine_path: Path) -> Iterator[EngineServer]:
    with EngineServer(engine_path, readonly=False) as running:
        yield running


def ask(server: EngineServer, body: bytes | str, **params: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        url = "/?" + urllib.parse.urlencode(params)
        connection.request("POST", url, body.encode() if isinstance(body, str) else body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def unpack(data: bytes, step: int = 1 << 16) -> bytes:
    unpacked = Unpack()
    pieces = [piece for at in range(0, len(data), step) for piece in unpacked.feed(data[at : at + step])]
    unpacked.finish()
    assert all(len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


# --- block framing ---


def test_a_block_is_as_clickhouse_writes_it() -> None:
    """The bytes clickhouse-go accepts: CityHash128 of what follows, its upper half first."""
    checksum, header = "818fd1b622dd361a0f77f72bf479bcea", "821200000008000000"
    assert pack(b"SELECT 1").hex() == checksum + header + "80" + b"SELECT 1".hex()


@given(data=st.binary(max_size=5000), repeat=st.integers(1, 600), step=st.integers(1, 4096))
def test_what_is_framed_comes_out_again(data: bytes, repeat: int, step: int) -> None:
    data *= repeat if len(data) < 2000 else 1
    assert unpack(pack(data), step) == data


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda b: b[:-1], id="cut"),
        pytest.param(lambda b: b[:10], id="cut in the checksum"),
        pytest.param(lambda b: b"\x00" + b[1:], id="checksum"),
        pytest.param(lambda b: b[:30] + b"\xff" + b[31:], id="data"),
        pytest.param(lambda b: b[:17] + (MAX_BLOCK + 1).to_bytes(4, "little") + b[21:], id="packed size"),
        pytest.param(lambda b: b[:17] + (3).to_bytes(4, "little") + b[21:], id="packed size below the header's"),
        pytest.param(lambda b: b[:21] + (MAX_BLOCK + 1).to_bytes(4, "little") + b[25:], id="size"),
        pytest.param(lambda b: b"INSERT INTO t VALUES (1), (2)", id="not framed at all"),
    ],
)
def test_damaged_framing_is_refused(damage: object) -> None:
    assert callable(damage)
    with pytest.raises(Refused, match="CANNOT_DECOMPRESS"):
        unpack(damage(pack(b"some rows" * 10)))


def framed(method: int, packed: bytes, size: int) -> bytes:
    """A block whose checksum holds, whatever it says."""
    from clickhouse_cityhash.cityhash import CityHash128

    block = bytes([method]) + (len(packed) + 9).to_bytes(4, "little") + size.to_bytes(4, "little") + packed
    checksum = CityHash128(block)
    return (checksum >> 64).to_bytes(8, "little") + (checksum % 2**64).to_bytes(8, "little") + block


@pytest.mark.parametrize(
    ("method", "packed", "size"),
    [
        (0x91, b"rows", 4),
        (0x82, b"\xf0\xff\xff", 4),
        (0x90, b"not zstd", 4),
        (0x02, b"rows", 5),
        (0x90, zstd.compress(b"rows" * 1000), 4),
        (0x90, zstd.compress(b"rows"), 5),
    ],
)
def test_a_block_that_lies_is_refused(method: int, packed: bytes, size: int) -> None:
    with pytest.raises(Refused, match="CANNOT_DECOMPRESS"):
        unpack(framed(method, packed, size))


def test_every_way_to_pack_a_block_is_read() -> None:
    plain, packed = framed(0x02, b"one,", 4), framed(0x90, zstd.compress(b"two"), 3)
    assert unpack(plain + packed + pack(b",three")) == b"one,two,three"


def test_results_and_errors_are_framed_when_asked(server: EngineServer) -> None:
    status, body = ask(server, "SELECT number FROM numbers(300000) FORMAT TSV", compress="1")
    assert (status, unpack(body)) == (200, b"".join(b"%d\n" % n for n in range(300000)))
    status, body = ask(server, "SELECT nothing_of_the_kind", compress="1")
    assert status == 404
    assert b"UNKNOWN_IDENTIFIER" in unpack(body)


def test_a_framed_insert(server: EngineServer) -> None:
    assert ask(server, "CREATE TABLE framed (n UInt64) ENGINE = Memory")[0] == 200
    try:
        rows = b"".join(b"%d\n" % n for n in range(200_000))
        query = "INSERT INTO framed FORMAT TSV"
        assert ask(server, pack(rows), query=query, decompress="1") == (200, b"")
        assert ask(server, "SELECT count(), sum(n) FROM framed") == (200, b"200000\t19999900000\n")
        status, body = ask(server, rows, query=query, decompress="1")
        assert (status, b"CANNOT_DECOMPRESS" in body) == (500, True)
    finally:
        ask(server, "DROP TABLE framed")


# --- Native blocks ---

COLUMNS = [
    "toUInt8(number)", "toInt256(number)", "number / 3", "toDecimal64(number, 3)", "toDecimal256(number, 40)",
    "toDate(number)", "toDateTime64(number, 9, 'UTC')", "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", "toIPv6('::1')",
    "toFixedString('abc', 3)", "repeat('ü', number)", "CAST(number % 2, 'Enum8(\\'a, (\\' = 0, \\'b\\' = 1)')", "true",
    "if(number % 2, number, NULL)", "NULL", "range(number)", "arrayMap(x -> range(x), range(number))", "[]",
    "toLowCardinality(toString(number))", "CAST(if(number % 2, 'x', NULL), 'LowCardinality(Nullable(String))')",
    "arrayMap(x -> toLowCardinality(toString(x)), range(number))", "map('k', range(number), 'l', [])",
    "CAST(map(toString(number), 'v'), 'Map(LowCardinality(String), String)')",
    "[CAST(map(toString(number), 'v'), 'Map(LowCardinality(String), LowCardinality(String))')]", "(number, 'x', [1, 2])",
    "CAST((number, ('y', 2)), 'Tuple(`a b` UInt8, nested Tuple(c String, d UInt16))')", "[(1, 'x'), (2, 'y')]",
    "CAST([(number, 'x')], 'Nested(a UInt64, b LowCardinality(String))')", "CAST((1, 2), 'Point')",
    "CAST([[(1, 2)]], 'Polygon')", "INTERVAL number DAY",
    "CAST(number, 'SimpleAggregateFunction(max, UInt64)')",
]  # fmt: skip


def varint_text(text: str) -> bytes:
    assert len(text) < 128
    return bytes([len(text.encode())]) + text.encode()


@pytest.mark.parametrize("expression", COLUMNS)
@pytest.mark.parametrize("rows", [1, 100])
def test_a_column_ends_where_the_next_begins(server: EngineServer, expression: str, rows: int) -> None:
    query = f"SELECT {expression} AS c, toUInt8(7) AS mark FROM numbers({rows}) FORMAT Native"
    status, plain = ask(server, query)
    assert status == 200
    head, mark = bytes([2, rows]), varint_text("mark") + varint_text("UInt8")
    assert plain.startswith(head + varint_text("c"))
    assert plain.endswith(mark + b"\x07" * rows)
    typed = 4 + 1 + plain[4] if plain[4] < 128 else 4 + 2 + (plain[4] - 128 + 128 * plain[5])
    column = plain[typed : -len(mark) - rows]
    wire = INFO + plain[:typed] + b"\x00" + column + mark + b"\x00" + b"\x07" * rows
    assert ask(server, query, client_protocol_version=str(MIN_REVISION)) == (200, wire)
    reframe = Reframe()
    assert b"".join(reframe.feed(plain[at : at + 1]) for at in range(len(plain))) + reframe.finish() == wire


def test_blocks_follow_each_other(server: EngineServer) -> None:
    query = "SELECT number AS n, toString(number) AS s FROM numbers(200000) FORMAT Native"
    status, wire = ask(server, query, client_protocol_version="54460", max_block_size="10000", compress="1")
    assert status == 200
    assert unpack(wire).count(INFO + b"\x02") >= 2


@pytest.mark.parametrize(
    "expression", ["CAST('{}', 'JSON')", "CAST(1, 'Dynamic')", "CAST(1, 'Variant(UInt8, String)')", "sumState(1)"]
)
def test_types_that_cannot_be_walked_are_refused_by_name(server: EngineServer, expression: str) -> None:
    status, body = ask(server, f"SELECT {expression} FORMAT Native", client_protocol_version="54460")
    assert (status, b"is not sent in Native blocks of the wire protocol" in body) == (501, True)


def test_types_nested_without_end_are_refused(server: EngineServer) -> None:
    status, body = ask(server, f"SELECT {'[' * 80}1{']' * 80} FORMAT Native", client_protocol_version="54460")
    assert (status, b"nested more than 50 deep" in body) == (501, True)


@pytest.mark.parametrize("version", ["54405", "x", ""])
def test_older_and_senseless_protocol_versions_change_nothing(server: EngineServer, version: str) -> None:
    plain = ask(server, "SELECT 1 FORMAT Native")
    assert ask(server, "SELECT 1 FORMAT Native", client_protocol_version=version) == plain


def test_a_result_that_is_not_whole_is_not_sent_as_if_it_were() -> None:
    reframe = Reframe()
    reframe.feed(b"\x01\x02\x01c\x05UInt8\x01")
    with pytest.raises(Refused, match="CANNOT_READ_ALL_DATA"):
        reframe.finish()
