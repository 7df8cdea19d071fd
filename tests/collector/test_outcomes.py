"""One table of outcomes, checked over both transports against a running collector."""

from __future__ import annotations

import errno
import gzip
import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from backports import zstd
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import commit, segments
from collector.outcomes import ANSWERS, Outcome, http_body

PROTOBUF, JSON = "application/x-protobuf", "application/json"
EXPORT = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


@dataclass(frozen=True)
class Case:
    """What is sent to a collector in some state, and how each transport must answer."""

    http: int
    grpc: grpc.StatusCode
    outcome: Outcome
    message: str
    body: bytes | None = None
    """None sends one good span."""
    settings: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[Any, pytest.MonkeyPatch], None] = lambda running, monkeypatch: None
    retry: bool = False


def group_commit() -> Any:
    """The group commit inside a running collector, found by the thread it runs on."""
    [thread] = [thread for thread in threading.enumerate() if thread.name == "collector-commit"]
    return thread._target.__self__  # type: ignore[attr-defined]


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(*_: object) -> int:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def defect(*_: object) -> object:
    raise ZeroDivisionError("a defect")


GOOD, BAD = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
AWAY, FULL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
CASES = {
    "accepted": Case(200, GOOD, Outcome.ACCEPTED, ""),
    "empty": Case(200, GOOD, Outcome.EMPTY, "", body=b""),
    "empty resource": Case(200, GOOD, Outcome.EMPTY, "", body=b"\x0a\x00"),
    "malformed": Case(400, BAD, Outcome.MALFORMED, "is not a protobuf ExportTraceServiceRequest", body=b"\xff" * 9),
    "budget used up": Case(
        503, AWAY, Outcome.BUFFER_FULL, "`disk_budget_bytes`", settings={"disk_budget_bytes": 10}, retry=True
    ),
    "disk full": Case(
        503,
        AWAY,
        Outcome.BUSY,
        "the buffer cannot be written: No space left on device",
        spoil=lambda running, monkeypatch: monkeypatch.setattr(segments.os, "writev", no_space),
        retry=True,
    ),
    "disk read-only": Case(
        503,
        AWAY,
        Outcome.BUSY,
        "the buffer cannot be written: Read-only file system",
        spoil=lambda running, monkeypatch: monkeypatch.setattr(segments.os, "fdatasync", read_only),
        retry=True,
    ),
    "disk too slow": Case(
        503,
        AWAY,
        Outcome.BUSY,
        "are already waiting for the disk",
        spoil=lambda running, monkeypatch: setattr(group_commit(), "_waiting_bytes", 2**30),
        retry=True,
    ),
    "shutting down": Case(
        503,
        AWAY,
        Outcome.SHUTTING_DOWN,
        "the collector is shutting down",
        spoil=lambda running, monkeypatch: running.run(group_commit().stop()),
        retry=True,
    ),
    "a defect": Case(
        503,
        AWAY,
        Outcome.FAILED,
        "ZeroDivisionError; see the log of the collector",
        spoil=lambda running, monkeypatch: monkeypatch.setattr(commit, "Record", defect),
        retry=True,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_both_transports_say_the_same(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    body = trace_request("s") if case.body is None else case.body
    running = start(**case.settings)
    case.spoil(running, monkeypatch)

    for kind in (PROTOBUF, JSON):
        if kind == JSON and case.outcome is Outcome.MALFORMED:
            sent, message = b"{", "the body is not JSON"
        else:
            empty = b"{}" if case.body is not None else b'{"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}'
            sent, message = (empty if kind == JSON else body), case.message
        answer = running.post("/v1/traces", sent, kind)
        assert answer.status_code == case.http
        assert answer.headers["content-type"] == kind
        assert answer.headers.get("retry-after") == ("1" if case.retry else None)
        if case.http == 200:
            assert answer.content == (b"" if kind == PROTOBUF else b"{}")
        elif kind == PROTOBUF:
            assert_status(answer.content, case, message)
        else:
            shown = answer.json()
            assert shown["code"] == case.grpc.value[0]
            assert message in shown["message"]
            assert ("details" in shown) == case.retry

    code, details, metadata = call(running.grpc, "traces", body)
    assert code is case.grpc
    assert case.message in details
    retry_info = metadata.get("google.rpc.retryinfo-bin")
    assert (retry_info is not None) == case.retry
    if retry_info:
        assert RetryInfo.FromString(retry_info).retry_delay.seconds == 1
    if code is not GOOD:
        assert_status(metadata["grpc-status-details-bin"], case, case.message)

    assert running.collector.stats().requests == {case.outcome: 3}
    running.assert_books_balance()


def assert_status(body: bytes, case: Case, message: str) -> None:
    status = Status.FromString(body)
    assert status.code == case.grpc.value[0]
    assert message in status.message
    assert len(status.details) == case.retry


def call(target: str, signal: str, body: bytes, **options: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    with grpc.insecure_channel(target, options=[("grpc.max_send_message_length", -1)]) as channel:
        method = channel.unary_unary(EXPORT[signal])
        try:
            answer, outcome = method.with_call(body, timeout=20, **options)
        except grpc.RpcError as error:
            return error.code(), error.details() or "", dict(error.trailing_metadata() or ())
        assert answer == b""
        return outcome.code(), "", dict(outcome.trailing_metadata() or ())


def test_every_outcome_has_an_answer_and_none_makes_the_sender_drop_data() -> None:
    assert set(ANSWERS) == set(Outcome)
    for outcome, answer in ANSWERS.items():
        assert answer.http != 500
        assert (answer.http == 503) == answer.retry == (answer.grpc is grpc.StatusCode.UNAVAILABLE)
        assert (answer.http == 200) == (answer.grpc is grpc.StatusCode.OK), outcome


# --- size ---------------------------------------------------------------------------------------------------------

LIMIT = 20_000


def big(trace_request: Any) -> bytes:
    body: bytes = trace_request("s", padding=LIMIT)
    return body


SHAPES: dict[str, tuple[Callable[[bytes], bytes], dict[str, str]]] = {
    "plain": (lambda body: body, {}),
    "gzip": (gzip.compress, {"content_encoding": "gzip"}),
    "deflate": (zlib.compress, {"content_encoding": "deflate"}),
    "gzip of many members": (
        lambda body: b"".join(gzip.compress(body[i : i + 1000]) for i in range(0, len(body), 1000)),
        {"content_encoding": "gzip"},
    ),
    "bomb": (lambda body: gzip.compress(bytes(30_000_000)), {"content_encoding": "gzip"}),
    "zstd": (zstd.compress, {"content_encoding": "zstd"}),
    "zstd bomb": (lambda body: zstd.compress(bytes(300_000_000)), {"content_encoding": "zstd"}),
}


@pytest.mark.parametrize(("shape", "headers"), SHAPES.values(), ids=SHAPES.keys())
def test_too_large_is_413_before_and_after_unpacking(
    start: Any, trace_request: Any, shape: Callable[[bytes], bytes], headers: dict[str, str]
) -> None:
    running = start(max_request_bytes=LIMIT)
    answer = running.post("/v1/traces", shape(big(trace_request)), **headers)
    assert answer.status_code == 413
    assert "is larger than 20000 bytes (`max_request_bytes`)" in Status.FromString(answer.content).message
    assert "retry-after" not in answer.headers
    assert running.post("/v1/traces", trace_request("s")).status_code == 200
    assert running.collector.stats().requests == {Outcome.TOO_LARGE: 1, Outcome.ACCEPTED: 1}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_bodies_share_a_bounded_memory(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    running = start()
    body = trace_request("s", padding=10_000)
    encoding = "identity" if pack is bytes else "gzip"
    memory = running.collector.memory
    with monkeypatch.context() as small:
        small.setattr(memory, "limit", 5_000)
        answer = running.post("/v1/traces", pack(body), content_encoding=encoding)
    assert answer.status_code == 503
    assert "fill the memory" in Status.FromString(answer.content).message
    monkeypatch.setattr(memory, "limit", 11_000)
    for _ in range(3):  # what a request held is given back
        assert running.post("/v1/traces", pack(body), content_encoding=encoding).status_code == 200
        assert call(running.grpc, "traces", body)[0] is GOOD
    assert call(running.grpc, "traces", body + body)[0] is AWAY
    assert memory.held == 0


def test_a_body_that_never_ends_gives_its_memory_back(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.http._BODY_SECONDS", 0.2)
    running = start()
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.collector.http_port), timeout=10) as half:
        half.sendall(head + b"x")
        assert half.recv(4096).startswith(b"HTTP/1.1 503")
    assert running.collector.stats().requests == {Outcome.BUSY: 1}
    assert running.post("/v1/traces", trace_request("s")).status_code == 200


def test_a_body_of_unknown_length_is_read_up_to_the_limit(start: Any) -> None:
    running = start(max_request_bytes=LIMIT)
    answer = running.request("POST", "/v1/traces", (b"\0" * 1000 for _ in range(50)), {"content-type": PROTOBUF})
    assert answer.status_code == 413


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_too_large_is_resource_exhausted_without_retry_info(start: Any, trace_request: Any, compression: Any) -> None:
    running = start(max_request_bytes=LIMIT)
    code, details, metadata = call(running.grpc, "traces", big(trace_request), compression=compression)
    assert code is FULL
    assert "larger than" in details
    assert "20000" in details
    assert running.collector.stats().requests == {Outcome.TOO_LARGE: 1}
    assert "google.rpc.retryinfo-bin" not in metadata
    assert call(running.grpc, "traces", trace_request("s"))[0] is GOOD


# --- what is not served -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "kind", "encoding", "code", "message"),
    [
        ("POST", "/", JSON, "", 404, "/ is not served"),
        ("GET", "/v1/traces", "", "", 405, "/v1/traces takes POST, not GET"),
        ("PUT", "/v1/logs", JSON, "", 405, "/v1/logs takes POST, not PUT"),
        ("POST", "/v1/traces", "text/plain", "", 415, "`Content-Type` is text/plain; send application/x-protobuf or"),
        ("POST", "/v1/traces", "", "", 415, "`Content-Type` is none; send"),
        (
            "POST",
            "/v1/traces",
            PROTOBUF,
            "br",
            415,
            "`Content-Encoding` is br; send one of gzip, deflate, zstd, or none",
        ),
        ("POST", "/v1/traces", JSON, "snappy", 415, "`Content-Encoding` is snappy; send one of gzip"),
    ],
)
def test_what_is_not_served_says_what_is(
    shared: Any, method: str, path: str, kind: str, encoding: str, code: int, message: str
) -> None:
    headers = {"content-type": kind, "content-encoding": encoding}
    sent = {name: value for name, value in headers.items() if value}
    answer = shared.request(method, path, b"x" if method != "GET" else None, sent)
    assert answer.status_code == code
    if code == 405 or kind not in (PROTOBUF, JSON):
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert message in answer.text
    elif kind == PROTOBUF:
        assert message in Status.FromString(answer.content).message
    else:
        assert message in answer.json()["message"]
    assert answer.headers.get("allow") == ("POST" if code == 405 else None)


@pytest.mark.parametrize("kind", [f"{PROTOBUF}; charset=utf-8", "APPLICATION/X-PROTOBUF", "application/protobuf"])
def test_media_types_are_read_leniently(shared: Any, trace_request: Any, kind: str) -> None:
    answer = shared.post("/v1/traces", trace_request("s"), kind)
    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)


# --- compression --------------------------------------------------------------------------------------------------


def settle(running: Any) -> None:
    """Wait until everything taken is in the sink."""
    deadline = time.monotonic() + 10
    while running.collector.stats().signals["traces"].buffered and time.monotonic() < deadline:
        time.sleep(0.002)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


WIDE_FRAME = b"\x28\xb5\x2f\xfd" + bytes([0x00, (31 - 10) << 3]) + b"\x01\x00\x00"
"""The smallest zstd frame that asks for a window of 2 GiB."""

PACKED: dict[str, tuple[str, Callable[[bytes], bytes], int, str]] = {
    "gzip": ("gzip", gzip.compress, 200, ""),
    "gzip in capitals": ("GZIP", gzip.compress, 200, ""),
    "two members": ("gzip", lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:]), 200, ""),
    "deflate": ("deflate", zlib.compress, 200, ""),
    "deflate without its wrapper": ("deflate", raw_deflate, 200, ""),
    "identity": ("identity", bytes, 200, ""),
    "zstd": ("zstd", zstd.compress, 200, ""),
    "two frames": ("zstd", lambda body: zstd.compress(body[:20]) + zstd.compress(body[20:]), 200, ""),
    "zstd cut short": ("zstd", lambda body: zstd.compress(body)[:-3], 400, "the zstd body ends too early"),
    "not zstd": ("zstd", bytes, 400, "the body is not zstd"),
    "trailing noise after zstd": ("zstd", lambda body: zstd.compress(body) + b"noise", 400, "the body is not zstd"),
    "a thousand frames": ("zstd", lambda body: zstd.compress(b"") * 1000, 400, "the zstd body goes on after its end"),
    "a window of 2 GiB": ("zstd", lambda body: WIDE_FRAME, 400, "the body is not zstd"),
    "not gzip": ("gzip", bytes, 400, "the body is not gzip"),
    "cut short": ("gzip", lambda body: gzip.compress(body)[:-9], 400, "the gzip body ends too early"),
    "nothing": ("gzip", lambda body: b"", 400, "the gzip body ends too early"),
    "wrong checksum": ("gzip", lambda body: gzip.compress(body)[:-8] + b"\0" * 8, 400, "the body is not gzip"),
    "trailing noise": ("gzip", lambda body: gzip.compress(body) + b"noise", 400, "the body is not gzip"),
    "trailing noise after deflate": ("deflate", lambda body: zlib.compress(body) + b"n", 400, "goes on after its end"),
    "a thousand members": ("gzip", lambda body: gzip.compress(b"") * 1000, 400, "the gzip body goes on after its end"),
}


@pytest.mark.parametrize(("encoding", "pack", "code", "message"), PACKED.values(), ids=PACKED.keys())
@pytest.mark.parametrize("size", [0, 300_000])
def test_packed_bodies(
    shared: Any,
    trace_request: Any,
    encoding: str,
    pack: Callable[[bytes], bytes],
    code: int,
    message: str,
    size: int,
) -> None:
    settle(shared)
    before = len(shared.sink.records())
    body = trace_request("s", padding=size)
    answer = shared.post("/v1/traces", pack(body), content_encoding=encoding)
    assert answer.status_code == code
    settle(shared)
    if code == 200:
        assert shared.sink.records()[before:] == [body]
    else:
        assert message in Status.FromString(answer.content).message
        assert len(shared.sink.records()) == before


# --- anything at all ----------------------------------------------------------------------------------------------


@given(
    path=st.sampled_from(["/v1/traces", "/v1/logs"]),
    kind=st.sampled_from([PROTOBUF, JSON]),
    encoding=st.sampled_from(["identity", "gzip", "deflate"]),
    body=st.binary(max_size=60),
)
@settings(max_examples=60)
def test_http_answers_any_bytes(shared: Any, path: str, kind: str, encoding: str, body: bytes) -> None:
    answer = shared.post(path, body, kind, content_encoding=encoding)
    assert answer.status_code in (200, 400)
    if answer.status_code == 400 and kind == PROTOBUF:
        assert Status.FromString(answer.content).code == 3
    elif answer.status_code == 400:
        assert json.loads(answer.content)["code"] == 3


@given(signal=st.sampled_from(["traces", "logs"]), body=st.binary(max_size=60))
@settings(max_examples=40)
def test_grpc_answers_any_bytes(shared: Any, signal: str, body: bytes) -> None:
    assert call(shared.grpc, signal, body)[0] in (GOOD, BAD)


@pytest.mark.parametrize(
    "noise", [b"\0" * 100, b"GET / HTTP/9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200]
)
def test_noise_on_the_sockets_harms_nobody(shared: Any, trace_request: Any, noise: bytes) -> None:
    running = shared
    for port in (running.collector.http_port, running.collector.grpc_port):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
    assert running.post("/v1/traces", trace_request("s")).status_code == 200
    assert call(running.grpc, "traces", trace_request("s"))[0] is GOOD


def test_an_error_body_is_readable_by_no_encoding_but_its_own() -> None:
    kind, body = http_body(Outcome.BUSY, "later", None)
    assert (kind, body) == (b"text/plain; charset=utf-8", b"later\n")
    with pytest.raises(DecodeError):
        Status.FromString(body)
