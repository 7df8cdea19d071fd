"""Malice below the requests: sockets that send too much, too slowly, or half, over both transports."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo

from collector import wire
from collector.memory import HELD_BYTES
from collector.outcomes import Outcome

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"


def talk(running: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.collector.http_port), timeout=10)


def rest(connection: socket.socket) -> bytes:
    """Everything up to the end; a reset is an end too."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def pour(connection: socket.socket, pieces: Iterator[bytes]) -> int:
    """Send until the other side has had enough; how much that took."""
    sent = 0
    try:
        for piece in pieces:
            connection.sendall(piece)
            sent += len(piece)
            time.sleep(0.0005)
    except OSError:
        pass
    return sent


ENDLESS = {
    "a request line": (b"POST /", b"x" * 4096),
    "one header": (HEAD + b"X: ", b"x" * 4096),
    "many headers": (HEAD, b"X-Header: y\r\n" * 300),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-Trailer: y\r\n" * 300),
    "chunk extensions": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 4096 + b"\r\nx\r\n"),
    "the name of a header": (HEAD, b"x" * 4096),
}


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_is_no_body_has_an_end(shared: Any, trace_request: Any, start: bytes, more: bytes) -> None:
    with talk(shared) as connection:
        connection.sendall(start)
        sent = pour(connection, (more for _ in range(4096)))
    assert sent < 4 * 2**20
    assert shared.post("/v1/traces", trace_request("s")).status_code == 200


def test_headers_that_are_too_long_are_answered(shared: Any) -> None:
    with talk(shared) as connection:
        connection.sendall(HEAD + b"X: " + b"x" * wire.OVERHEAD_BYTES)
        assert rest(connection).startswith(b"HTTP/1.1 431 ")


def test_long_bodies_in_small_chunks_are_no_overhead(shared: Any, trace_request: Any) -> None:
    body = trace_request("s", padding=100_000)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body[i : i + 50] for i in range(0, len(body), 50)))
    with talk(shared) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 200 ")


def test_a_connection_carries_many_requests(shared: Any, trace_request: Any) -> None:
    body = trace_request("s", padding=500)
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with talk(shared) as connection:
        for _ in range(300):  # together far more than one head may be
            connection.sendall(one)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(one * 20)
        found = b""
        while found.count(b"HTTP/1.1 200 ") < 20:
            found += connection.recv(65536)


@pytest.mark.parametrize("sent", [b"", b"P", HEAD, HEAD + b"X: y"])
def test_a_head_that_never_ends_is_not_waited_for(start: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    running = start()
    with talk(running) as connection:
        connection.sendall(sent)
        assert rest(connection) == b""


def test_a_slow_body_is_not_taken_for_a_slow_head(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    running = start()
    body = trace_request("s")
    with talk(running) as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.4)
        connection.sendall(body)
        assert rest(connection).startswith(b"HTTP/1.1 200 ")


def test_many_half_sent_bodies_are_bounded_together(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    monkeypatch.setattr(running.collector.memory, "limit", 100_000)
    connections = [talk(running) for _ in range(8)]
    try:
        for connection in connections:
            connection.sendall(HEAD + b"Content-Length: 50000\r\n\r\n" + b"x" * 30_000)
        deadline = time.monotonic() + 10
        while running.collector.stats().requests.get(Outcome.BUSY, 0) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert running.collector.memory.held <= 100_000
    finally:
        for connection in connections:
            connection.close()
    deadline = time.monotonic() + 10
    while running.collector.memory.held:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert running.post("/v1/traces", trace_request("s")).status_code == 200


# --- gRPC by hand -------------------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it without any compression."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


class H2:
    """Just enough of HTTP/2 to be rude."""

    def __init__(self, running: Any) -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.collector.grpc_port), timeout=10)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))

    def __enter__(self) -> H2:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(self, stream: int, *extra: tuple[bytes, bytes]) -> None:
        fields = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", EXPORT.encode()),
            (b":authority", b"x"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *extra,
        )
        self.socket.sendall(frame(1, 4, stream, b"".join(literal(*field) for field in fields)))

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        for start in range(0, len(data), 16_384):
            last = end and start + 16_384 >= len(data)
            self.socket.sendall(frame(0, int(last), stream, data[start : start + 16_384]))

    def until(self, wanted: bytes) -> bytes:
        found = b""
        while wanted not in found:
            piece = self.socket.recv(65536)
            if not piece:
                break
            found += piece
        return found


def message(body: bytes, *, packed: bool) -> bytes:
    return struct.pack(">BI", packed, len(body)) + body


def status(code: grpc.StatusCode) -> bytes:
    text = str(code.value[0]).encode()
    return b"grpc-status" + bytes([len(text)]) + text


PACKED = {
    "gzip": (b"gzip", lambda body: gzip.compress(body)),
    "deflate": (b"deflate", lambda body: zlib.compress(body)),
    "two members": (b"gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
}


@pytest.mark.parametrize(("encoding", "pack"), PACKED.values(), ids=PACKED.keys())
def test_packed_messages_are_unpacked_by_us(
    start: Any, sink: Any, trace_request: Any, encoding: bytes, pack: Any
) -> None:
    running = start(sink)
    with H2(running) as wire:
        wire.open(1, (b"grpc-encoding", encoding))
        wire.send(1, message(pack(trace_request("s")), packed=True), end=True)
        assert status(grpc.StatusCode.OK) in wire.until(b"grpc-message")
    running.stop()
    assert sink.span_names() == ["s"]


BOMBS = {
    "bomb": (gzip.compress(bytes(50_000_000)), grpc.StatusCode.RESOURCE_EXHAUSTED, "is larger than 1000000 bytes"),
    "many members": (gzip.compress(b"") * 1000, grpc.StatusCode.INVALID_ARGUMENT, "goes on after its end"),
    "cut short": (gzip.compress(b"x")[:-2], grpc.StatusCode.INVALID_ARGUMENT, "ends too early"),
}


@pytest.mark.parametrize(("body", "code", "says"), BOMBS.values(), ids=BOMBS.keys())
def test_packed_malice_is_refused(start: Any, body: bytes, code: grpc.StatusCode, says: str) -> None:
    running = start(max_request_bytes=1_000_000)
    with H2(running) as wire:
        wire.open(1, (b"grpc-encoding", b"gzip"))
        wire.send(1, message(body, packed=True), end=True)
        answer = wire.until(status(code))
    assert says.encode() in answer
    assert running.collector.memory.held == 0


@pytest.mark.parametrize("encoding", [b"zstd", b"snappy"])
def test_compressions_grpc_does_not_know_are_refused(shared: Any, encoding: bytes) -> None:
    with H2(shared) as wire:
        wire.open(1, (b"grpc-encoding", encoding))
        answer = wire.until(b"grpc-message")
    assert status(grpc.StatusCode.INTERNAL) in answer
    assert b"grpc-encoding" in answer


def test_a_message_that_never_ends_is_answered_and_forgotten(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.grpc._MESSAGE_SECONDS", 0.3)
    running = start()
    with H2(running) as wire:
        wire.open(1)
        wire.send(1, message(b"x" * 1000, packed=False)[:500])
        answer = wire.until(b"retryinfo-bin")
    assert b"did not arrive within 0.3 seconds" in answer
    assert running.collector.stats().requests == {Outcome.BUSY: 1}
    with grpc.insecure_channel(running.grpc) as channel:
        channel.unary_unary(EXPORT)(trace_request("s"), timeout=10)


def test_many_half_sent_messages_do_not_keep_the_door_shut(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-sent ones hold no more than their turns; who comes after them is told to come back, and then is let in."""
    monkeypatch.setattr("collector.grpc._MESSAGE_SECONDS", 1.0)
    running = start(max_request_bytes=HELD_BYTES)  # turns: the fewest there are
    with H2(running) as wire, grpc.insecure_channel(running.grpc) as channel:
        for stream in range(1, 80, 2):
            wire.open(stream)
            wire.send(stream, message(b"x" * 1000, packed=False)[:500])
        codes = []
        deadline = time.monotonic() + 20
        while not codes or codes[-1] is not grpc.StatusCode.OK:
            assert time.monotonic() < deadline
            rpc = channel.unary_unary(EXPORT).future(trace_request("s"), timeout=10)
            codes.append(rpc.code())
            if codes[-1] is grpc.StatusCode.UNAVAILABLE:
                info = RetryInfo.FromString(dict(rpc.trailing_metadata())["google.rpc.retryinfo-bin"])
                assert info.retry_delay.seconds == 1
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_a_message_may_come_in_pieces_and_without_an_end_of_stream(start: Any, sink: Any, trace_request: Any) -> None:
    running = start(sink)
    whole = message(trace_request("s"), packed=False)
    with H2(running) as wire:
        wire.open(1)
        for byte in whole:
            wire.send(1, bytes([byte]))
        assert status(grpc.StatusCode.OK) in wire.until(b"grpc-message")
    running.stop()
    assert sink.span_names() == ["s"]


def test_long_metadata_is_refused(shared: Any, trace_request: Any) -> None:
    with grpc.insecure_channel(shared.grpc) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(EXPORT)(trace_request("s"), metadata=(("x", "y" * 100_000),), timeout=10)
    with grpc.insecure_channel(shared.grpc) as channel:
        channel.unary_unary(EXPORT)(trace_request("s"), metadata=(("x", "y" * 5_000),), timeout=10)


def test_pings_are_answered_and_floods_of_them_end_the_connection(shared: Any) -> None:
    with H2(shared) as polite:
        polite.socket.sendall(frame(6, 0, 0, b"12345678"))
        assert b"12345678" in polite.until(b"12345678")
    with H2(shared) as rude:
        for _ in range(50):
            try:
                rude.socket.sendall(frame(6, 0, 0, b"12345678"))
            except OSError:
                break
            time.sleep(0.001)
        assert b"too_many_pings" in rude.until(b"too_many_pings")


def test_many_streams_at_once_are_served_and_too_many_come_again(start: Any, sink: Any, trace_request: Any) -> None:
    running = start(sink)
    good, later = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
    for count, codes in ((90, {good}), (400, {good, later})):
        with grpc.insecure_channel(running.grpc) as channel:
            method = channel.unary_unary(EXPORT)
            rpcs = [method.future(trace_request(f"{number}"), timeout=30) for number in range(count)]
            found = [rpc.code() for rpc in rpcs]
        assert set(found) <= codes
        assert found.count(good) >= 90
    running.stop()
    assert running.collector.stats().signals["traces"].stored == len(sink.span_names()) >= 180


def test_sockets_that_say_nothing_leave_room_for_others(shared: Any, trace_request: Any) -> None:
    ports = (shared.collector.http_port, shared.collector.grpc_port)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for port in ports for _ in range(100)]
    done = threading.Event()
    try:
        assert shared.post("/v1/traces", trace_request("s")).status_code == 200
        with grpc.insecure_channel(shared.grpc) as channel:
            channel.unary_unary(EXPORT)(trace_request("s"), timeout=10)
        done.set()
    finally:
        for connection in silent:
            connection.close()
    assert done.is_set()
