"""A graceful stop: what was acknowledged is brought into the store within the deadline, the rest waits on disk."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest


class Slow:
    """A sink that takes a while over everything."""

    def __init__(self, sink: Any, seconds: float) -> None:
        self.sink, self.seconds = sink, seconds

    def load(self, signal: Any, segment_id: str, path: Path, /) -> None:
        time.sleep(self.seconds)
        self.sink.load(signal, segment_id, path)


@contextmanager
def clients(running: Any, request: Callable[..., bytes], number: int) -> Iterator[list[list[str]]]:
    """So many senders that go on until they are refused; yields what each had acknowledged."""
    acknowledged: list[list[str]] = [[] for _ in range(number)]

    def send(mine: list[str], prefix: int) -> None:
        with httpx.Client(trust_env=False) as client:
            for turn in range(100_000):
                name = f"{prefix}-{turn}"
                try:
                    headers = {"content-type": "application/x-protobuf"}
                    answer = client.post(running.http + "/v1/traces", content=request(name), headers=headers)
                except httpx.HTTPError:
                    return
                if answer.status_code != 200:
                    return
                mine.append(name)

    threads = [threading.Thread(target=send, args=(mine, prefix)) for prefix, mine in enumerate(acknowledged)]
    for thread in threads:
        thread.start()
    yield acknowledged
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(("seconds", "deadline"), [(0.0, 5.0), (0.3, 1.0)], ids=["a fast store", "a slow store"])
def test_stopped_under_load_what_is_acknowledged_is_stored_or_on_disk_for_the_next_start(
    start: Any, make_sink: Any, trace_request: Any, tmp_path: Path, seconds: float, deadline: float
) -> None:
    first = make_sink()
    running = start(Slow(first, seconds), segment_age_seconds=0.02)
    with clients(running, trace_request, 4) as acknowledged:
        patience = time.monotonic() + 60
        while sum(map(len, acknowledged)) < 40 or (seconds and len(list((tmp_path / "buffer").glob("*.pb"))) < 8):
            assert time.monotonic() < patience
            time.sleep(0.01)
        before = time.monotonic()
        running.stop(deadline)
        took = time.monotonic() - before
    assert took < deadline + 3
    running.assert_books_balance()
    counts = running.collector.stats().signals["traces"]
    assert counts.stored > 0, "at least what was under way"
    assert (counts.buffered == 0) == (seconds == 0.0)
    time.sleep(seconds)  # a load that was under way comes to its end; the log is closed to it
    second = make_sink()
    second.loaded.update(first.loaded)  # the same store, after a restart
    again = start(second)
    again.stop()
    everything = [name for mine in acknowledged for name in mine]
    stored = second.span_names()
    assert len(stored) == len(set(stored))
    assert set(everything) <= set(stored)
    assert again.collector.stats().signals["traces"].recovered == counts.buffered


def test_a_store_that_hangs_does_not_outlast_the_deadline(start: Any, sink: Any, trace_request: Any) -> None:
    release = threading.Event()
    sink.refuse = lambda segment_id, records: (release.wait(20), None)[1]
    running = start(sink)
    assert running.post("/v1/traces", trace_request("a")).status_code == 200
    before = time.monotonic()
    running.stop(0.5)
    assert time.monotonic() - before < 5
    assert running.collector.stats().signals["traces"].buffered == 1
    release.set()


def test_senders_that_never_finish_leave_time_to_load(start: Any, sink: Any, trace_request: Any) -> None:
    """A body of which half arrives, on each transport, while acknowledged data waits for a store that is slow."""
    running = start(Slow(sink, 0.3))
    host, _, port = running.http.partition("//")[2].partition(":")
    with socket.create_connection((host, int(port))) as http, grpc.insecure_channel(running.grpc) as channel:
        http.sendall(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\n\x0a"
        )
        export = channel.stream_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        hold = threading.Event()
        call = export.future(iter(lambda: (hold.wait(20), b"")[1], b""))
        for number in range(3):
            assert running.post("/v1/traces", trace_request(str(number))).status_code == 200
        before = time.monotonic()
        running.stop(6.0)
        assert time.monotonic() - before < 9
        hold.set()
        call.cancel()
    assert running.collector.stats().signals["traces"].stored == 3
