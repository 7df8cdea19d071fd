"""Readiness means something: it fails when telemetry cannot be taken, says why, and recovers."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from collector import segments, service
from collector.grpc import SERVICES
from store import Retryable

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def read_only(*_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def health(running: Any, name: str = "") -> Any:
    with grpc.insecure_channel(running.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status


def test_a_collector_is_ready_from_start_to_stop(start: Any) -> None:
    running = start()
    assert running.collector.obstacles() == []
    assert {health(running, name) for name in ("", *SERVICES)} == {SERVING}
    with pytest.raises(grpc.RpcError) as unknown:
        health(running, "no.such.Service")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    running.stop()
    assert running.collector.obstacles() == ["the collector is not listening: it is starting, or stopping"]


@pytest.mark.parametrize("noticed", ["by a request", "by itself"])
def test_a_disk_that_takes_nothing_is_an_obstacle_until_it_does(
    start: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch, noticed: str
) -> None:
    monkeypatch.setattr(service, "_TELL_SECONDS", 0.05)
    monkeypatch.setattr(service, "_PROBE_SECONDS", 1000 if noticed == "by a request" else 0)
    running = start()
    assert running.collector.obstacles() == []
    with monkeypatch.context() as broken:
        broken.setattr(segments.os, "fdatasync", read_only)
        broken.setattr(segments.os, "fsync", read_only)
        if noticed == "by a request":
            assert running.post("/v1/traces", trace_request("s")).status_code == 503
        assert running.collector.obstacles() == ["the buffer cannot be written: Read-only file system"]
        eventually(lambda: health(running) == NOT_SERVING)
    # Nobody sends to a collector that is not ready: it must find out by itself.
    eventually(lambda: health(running) == SERVING)
    assert running.collector.obstacles() == []
    assert running.collector.stats().write_error == ""
    assert running.post("/v1/traces", trace_request("s")).status_code == 200


def test_a_buffer_that_is_nearly_full_is_an_obstacle_before_anyone_is_refused(
    start: Any, make_sink: Any, trace_request: Any
) -> None:
    sink = make_sink()

    def away(segment_id: str, records: list[bytes]) -> None:
        raise Retryable("away")

    sink.refuse = away
    running = start(sink, disk_budget_bytes=50_000)
    body = trace_request("s", padding=1000)
    while running.collector.obstacles() == []:
        assert running.post("/v1/traces", body).status_code == 200
    [obstacle] = running.collector.obstacles()
    assert "of 50000 bytes (`collector.disk_budget_bytes`), more than 90%" in obstacle
    assert running.post("/v1/traces", body).status_code == 200, "it still takes what comes"
    eventually(lambda: running.collector.waiting[0] >= 1)
    assert 0 < running.collector.waiting[1] < 60
    sink.refuse = lambda segment_id, records: None
    eventually(lambda: running.collector.obstacles() == [])
    eventually(lambda: running.collector.waiting == (0, 0.0))


def test_what_writing_and_loading_took_is_known(start: Any, trace_request: Any) -> None:
    running = start()
    for _ in range(3):
        assert running.post("/v1/traces", trace_request("s")).status_code == 200
    running.stop()
    stats = running.collector.stats()
    for durations in (stats.commits, stats.loads):
        lengths, counts = zip(*durations.within, strict=True)
        assert list(lengths) == sorted(lengths)
        assert list(counts) == sorted(counts)
        assert 1 <= counts[-1] <= 3
        assert 0 < durations.seconds < 10
