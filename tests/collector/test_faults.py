"""What the machine can do to the buffer, and what is promised all the same; each test is named after its promise.

Torn tails, flipped bits and two processes on one directory are in `test_segments`, poison in `test_loader`, SIGKILL at random
under load in `test_kill`.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector import commit as commit_module
from collector import segments
from collector.commit import Busy, GroupCommit
from collector.ledger import Ledger
from collector.loader import Loader
from collector.otlp import Accepted
from collector.segments import BufferUnusable, Record, SegmentLog
from store import Retryable
from store.client import Dsn, connect

PAYLOAD = b"\x0a\x02\x12\x00"
YEAR_NS = 365 * 86400 * 10**9


def open_log(directory: Path, **overrides: Any) -> SegmentLog:
    limits: dict[str, Any] = {
        "disk_budget_bytes": 10**9,
        "segment_bytes": 10**9,
        "segment_age_seconds": 10**6,
        "segment_records": 10**6,
    }
    return SegmentLog(directory, **(limits | overrides))


def put(log: SegmentLog, payload: bytes = PAYLOAD) -> None:
    log.reserve(len(payload))
    log.write("traces", [Record(payload, 1)])


def run_script(script: str, *arguments: object, prefix: tuple[str, ...] = ()) -> Any:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- disks --------------------------------------------------------------------------------------------------------

NAMESPACE = ("unshare", "--mount", "--map-root-user", "--user")

DISK = """
import json, subprocess, sys
from pathlib import Path
from collector.segments import BufferUnusable, Record, SegmentLog

directory, said = Path(sys.argv[1]), []
mount = lambda *how: subprocess.run(["mount", *how, "none", str(directory)], check=True)
limits = dict(disk_budget_bytes=10**9, segment_bytes=10**9, segment_age_seconds=10**6, segment_records=10**6)

def attempt(what):
    try:
        said.append(what())
    except (OSError, BufferUnusable) as error:
        said.append(str(error).replace(str(directory), "DISK"))

def write(letter, size):
    payload = b"\\x0a\\x82\\x7d\\x12\\xff\\x7c" + letter * size
    log.reserve(len(payload))
    log.write("traces", [Record(payload, 1)])

def stored():
    log.seal_all()
    return [s.count for s in log.sealed()]

mount("-t", "tmpfs", "-o", "size=96k")
log = SegmentLog(directory, **limits)
for letter in b"abcdefgh":
    attempt(lambda: write(bytes([letter]), 16_000))
attempt(stored)
[segment] = log.sealed()
log.delete(segment)
attempt(lambda: write(b"z", 10_000))
log.close()
mount("-t", "tmpfs", "-o", "remount,ro,size=96k")
attempt(lambda: SegmentLog(directory, **limits))
mount("-t", "tmpfs", "-o", "remount,rw,size=96k")
log = SegmentLog(directory, **limits)
attempt(stored)
said.append(log.recovery.torn_bytes)
log.close()
print(json.dumps(said))
"""


def test_a_full_or_read_only_disk_refuses_what_is_new_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """A real file system of 96 KiB: filled, emptied, remounted read-only and back."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("needs `unshare` from util-linux and a kernel that allows user namespaces")
    said = run_script(DISK, tmp_path, prefix=NAMESPACE)
    full = "[Errno 28] No space left on device"
    kept = said.index(full)
    assert said[:kept] == [None] * kept
    assert kept >= 4
    assert said[kept:8] == [full] * (8 - kept)
    assert said[8] == [kept], "what was acknowledged is there, and nothing of what was refused"
    assert said[9] is None, "there is room again once the store has taken a segment"
    assert said[10].startswith("`buffer_dir` DISK cannot be used: Read-only file system; make it writable")
    assert said[11:] == [[1], 0]


@contextmanager
def unprivileged() -> Iterator[None]:
    """File access of this thread as that of an ordinary user, for tests that run as root."""
    libc = ctypes.CDLL(None)
    if os.geteuid() == 0:
        libc.setfsuid(65534)
    try:
        yield
    finally:
        libc.setfsuid(os.geteuid())


def test_a_directory_that_may_not_be_written_is_refused_at_start() -> None:
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o555)
    try:
        with (
            unprivileged(),
            pytest.raises(BufferUnusable, match="Permission denied; make it writable or choose another"),
        ):
            open_log(directory)
    finally:
        directory.chmod(0o700)
        shutil.rmtree(directory)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """An fsync of the data takes 0.2 s. The list has when each began."""
    calls: list[float] = []
    fdatasync = os.fdatasync

    def slowly(fd: int) -> None:
        calls.append(time.monotonic())
        time.sleep(0.2)
        fdatasync(fd)

    monkeypatch.setattr(segments.os, "fdatasync", slowly)
    return calls


def test_a_slow_disk_delays_answers_shares_its_fsyncs_and_holds_up_nothing_else(
    tmp_path: Path, slow_disk: list[float]
) -> None:
    log, ledger = open_log(tmp_path), Ledger()

    turns = 0

    async def scenario() -> None:
        nonlocal turns
        commit = GroupCommit(log, ledger, interval_seconds=0.0)
        senders = [asyncio.create_task(commit.append("traces", Accepted(PAYLOAD, 1))) for _ in range(200)]
        while not all(sender.done() for sender in senders):
            await asyncio.sleep(0.005)
            turns += 1
        await asyncio.gather(*senders)
        await commit.stop()

    started = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - started >= 0.2, "an answer before its fsync"
    assert len(slow_disk) <= 3
    assert turns > 2 * len(slow_disk), "the event loop waited for the disk"
    assert ledger.snapshot(0).signals["traces"].buffered == 200
    log.close()


def test_a_disk_too_slow_for_what_arrives_is_answered_with_try_again_not_with_memory(
    tmp_path: Path, slow_disk: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "_PENDING_BYTES", 10 * len(PAYLOAD))
    log, ledger = open_log(tmp_path), Ledger()

    async def scenario() -> list[BaseException | None]:
        commit = GroupCommit(log, ledger, interval_seconds=0.0)
        answers = await asyncio.gather(
            *(commit.append("traces", Accepted(PAYLOAD, 1)) for _ in range(50)), return_exceptions=True
        )
        await commit.stop()
        return answers

    answers = asyncio.run(scenario())
    assert Counter(type(answer) for answer in answers) == {type(None): 10, Busy: 40}
    counts = ledger.snapshot(0).signals["traces"]
    assert (counts.received, counts.buffered, counts.rejected) == (50, 10, 40)
    [segment] = log.sealed()
    assert segment.count == 10
    log.close()


@pytest.mark.parametrize("call", ["fdatasync", "writev"])
def test_a_failed_fsync_is_never_an_acknowledgement_and_the_next_one_is_honest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Linux reports an error of the disk once and calls the lost pages clean: only what is written anew may be trusted."""
    log, ledger = open_log(tmp_path), Ledger()
    real = getattr(os, call)
    failures = iter([OSError(errno.EIO, os.strerror(errno.EIO))])
    written: list[int] = []

    def once(*arguments: Any) -> Any:
        if (failure := next(failures, None)) is not None:
            raise failure
        written.append(1)
        return real(*arguments)

    async def scenario() -> None:
        commit = GroupCommit(log, ledger, interval_seconds=0.0)
        await commit.append("traces", Accepted(PAYLOAD, 1))
        with monkeypatch.context() as broken:
            broken.setattr(segments.os, call, once)
            with pytest.raises(Busy, match="Input/output error"):
                await commit.append("traces", Accepted(PAYLOAD + PAYLOAD, 1))
            await commit.append("traces", Accepted(PAYLOAD * 3, 1))
            assert written, "the record is written and synced again, not taken for what the failed call left"
        await commit.stop()

    asyncio.run(scenario())
    [segment] = log.sealed()
    assert segment.path.read_bytes() == b"\x04" + PAYLOAD + b"\x0c" + PAYLOAD * 3
    counts = ledger.snapshot(0).signals["traces"]
    assert (counts.received, counts.buffered, counts.rejected) == (3, 2, 1)
    log.close()


# --- clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "jump", [-30 * YEAR_NS, -1, 0, 30 * YEAR_NS], ids=["30 years back", "1 ns back", "stopped", "30 years on"]
)
@pytest.mark.parametrize("restart", [False, True], ids=["running", "across a restart"])
def test_a_jump_of_the_clock_changes_no_order_repeats_no_id_and_delays_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: Any, jump: int, restart: bool
) -> None:
    now = 1_790_000_000_000_000_000
    monkeypatch.setattr(segments.time, "time_ns", lambda: now)
    log = open_log(tmp_path, segment_age_seconds=0.0)
    put(log, b"\x0a\x00")
    log.seal_due(time.monotonic())
    if restart:
        log.close()
        log = open_log(tmp_path, segment_age_seconds=0.0)
    now += jump
    for payload in (b"\x12\x00", b"\x1a\x00"):
        put(log, payload)
        log.seal_due(time.monotonic())
    ids = [segment.id for segment in log.sealed()]
    assert ids == sorted(set(ids))
    assert len(ids) == 3
    loader = Loader(log, sink, Ledger(), threading.Event())
    loader.start()
    loader.stop(time.monotonic() + 5)
    assert sink.records() == [b"\x0a\x00", b"\x12\x00", b"\x1a\x00"]
    log.close()


# --- senders ------------------------------------------------------------------------------------------------------


def test_a_request_that_is_sent_twice_is_read_once(start: Any, engine_path: Path, trace_request: Any) -> None:
    """A sender whose answer was lost sends again. Both arrive in the table, whether or not they share a segment; readers
    see one span, and the segments' own exactly-once does not depend on what is in them."""
    with connect(Dsn(embedded=True, path=str(engine_path), database="twice")) as store:
        store.apply_schema()
        running = start(store)
        for pause in (0, 0, 0.3):
            time.sleep(pause)
            assert running.post("/v1/traces", trace_request("once", "twice")).status_code == 200
        assert running.collector.wait_until_loaded(10)
        trace = b"t".hex() * 16
        assert [span.name for span in store.spans([trace])[trace]] == ["once", "twice"]
        assert store.query("SELECT count() AS n FROM otel_traces") == [{"n": 6}]
        running.assert_books_balance()


# --- SIGKILL ------------------------------------------------------------------------------------------------------

KILLED = """
import json, os, pathlib, re, signal, shutil, sys, threading, time
from collector.ledger import Ledger
from collector.loader import Loader
from collector.segments import Record, SegmentLog
from store import Permanent
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CALLS = ["open", "writev", "fdatasync", "fsync", "rename", "replace", "unlink", "close"]
limits = dict(disk_budget_bytes=10**9, segment_bytes=10**9, segment_age_seconds=10**6, segment_records=10**6)

def request(name):
    message = ExportTraceServiceRequest()
    message.resource_spans.add().scope_spans.add().spans.add(name=name)
    return message.SerializeToString()

def names(data):
    return [found.decode() for found in re.findall(rb"(?:sound|poison)-[0-9]", data)]

class Sink:
    \"\"\"A store in files: takes an id once, all or nothing, and refuses poison.\"\"\"
    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(exist_ok=True)
    def load(self, signal, segment_id, path, /):
        data = path.read_bytes()
        target = self.directory / segment_id
        if target.exists():
            return
        if b"poison" in data:
            raise Permanent("poison")
        target.with_suffix(".tmp").write_bytes(data)
        os.rename(target.with_suffix(".tmp"), target)
    def names(self):
        return [name for path in self.directory.iterdir() if path.suffix != ".tmp" for name in names(path.read_bytes())]

def live(directory, moment, acknowledged):
    \"\"\"Write, seal, load, split, set aside and delete; dies at its nth call to the system, if it makes so many.\"\"\"
    left = moment
    def deadly(real, name):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left == -1:
                if name == "writev":  # half of it is out
                    os.write(arguments[0], b"".join(arguments[1])[: sum(map(len, arguments[1])) // 2])
                os.write(report, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
    report = os.open(directory.with_suffix(".phase"), os.O_WRONLY | os.O_CREAT)
    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name), name))
    log = SegmentLog(directory, **limits)
    loader = Loader(log, Sink(directory.with_suffix(".store")), Ledger(), threading.Event())
    number = 0
    for batch in (["sound", "sound"], ["sound"], ["sound", "poison", "sound"]):
        mine = []
        for kind in batch:
            mine.append(f"{kind}-{number}")
            number += 1
        records = [Record(request(name), 1) for name in mine]
        for record in records:
            log.reserve(len(record.payload))
        log.write("traces", records)
        os.write(acknowledged, ("\\n".join(mine) + "\\n").encode())
        if batch != ["sound", "sound"]:
            log.seal_all()
            for segment in log.sealed():
                loader._load(segment)
    log.close()

def check(directory, acknowledged):
    log = SegmentLog(directory, **limits)
    ledger = Ledger()
    ledger.recovered("traces", log.recovery.kept["traces"] + log.recovery.quarantined["traces"])
    ledger.quarantined("traces", log.recovery.quarantined["traces"])
    sink = Sink(directory.with_suffix(".store"))
    loader = Loader(log, sink, ledger, threading.Event())
    for segment in log.sealed():
        loader._load(segment)
    counts = ledger.snapshot(0).signals["traces"]
    assert counts.received + counts.recovered == counts.stored + counts.rejected + counts.buffered + counts.quarantined
    assert counts.buffered == 0 and not log.sealed()
    aside = [name for path in directory.glob("quarantine/*.pb") for name in names(path.read_bytes())]
    log.close()
    where = sink.names() + aside
    assert len(where) == len(set(where)), f"doubled: {where}"
    assert set(acknowledged) <= set(where), f"lost: {set(acknowledged) - set(where)}"
    assert {name for name in aside} <= {"poison-4"}, aside
    left = [path.name for path in directory.iterdir() if path.is_file() and path.name != "lock"]
    assert left == [], left

phases = {}
for moment in range(1000):
    directory = pathlib.Path(sys.argv[1]) / str(moment)
    directory.mkdir()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        live(directory, moment, writing)
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        acknowledged = pipe.read().split()
    try:
        check(directory, acknowledged)
    except BaseException as error:
        raise SystemExit(f"killed at call {moment} ({directory.with_suffix('.phase').read_text()}): {error!r}")
    if status == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    phase = directory.with_suffix(".phase").read_text()
    phases[phase] = phases.get(phase, 0) + 1
print(json.dumps(phases))
"""


def test_sigkill_at_every_single_call_of_write_seal_load_split_and_delete_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    phases = run_script(KILLED, tmp_path)
    assert {"open", "writev", "fdatasync", "fsync", "rename", "replace", "unlink", "close"} <= phases.keys()
    assert sum(phases.values()) > 60


def test_a_store_that_fails_halfway_is_asked_again_with_the_same_id_and_bytes(
    tmp_path: Path, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bytes]] = []
    failures = iter([Retryable("the answer was lost")] * 2)

    class Lossy:
        def load(self, signal: Any, segment_id: str, path: Path, /) -> None:
            seen.append((segment_id, path.read_bytes()))
            sink.load(signal, segment_id, path)
            if (failure := next(failures, None)) is not None:
                raise failure

    log = open_log(tmp_path)
    put(log)
    log.seal_all()
    loader = Loader(log, Lossy(), Ledger(), threading.Event())
    loader.start()
    loader.stop(time.monotonic() + 5)
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert sink.records() == [PAYLOAD]
    log.close()
