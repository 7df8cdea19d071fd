"""A grader that hangs, dies, or takes all memory costs its own grade and nothing else."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import orjson
import pytest

from graders import GraderSets, load_graders
from graders import isolation as isolation_module
from graders.batch import Batch, Item
from graders.isolation import Isolated, IsolationFailed, Strikes
from graders.testing import conversation
from graders.worker import Worker
from store import rows
from store.client import Store, connect
from store.errors import Retryable
from store.http import EngineServer
from store.types import Span

IDS = [f"{number:032x}" for number in (1, 2, 3)]
HOSTILE = '''
import ctypes, os, re, signal, sys, time
from graders import Grader, Score, Trace, passed

class Hostile(Grader, name="test/hostile", version="1"):
    """Does harm to traces that end in 2."""

    how: str

    def grade(self, trace: Trace) -> Score:
        if trace.trace_id.endswith("2") or self.how.endswith(" always"):
            getattr(self, self.how.split()[0])()
        return passed("ok")

    def loop(self):
        while True: pass

    def stubborn(self):
        while True:
            try:
                while True: time.sleep(0.01)
            except Exception: pass

    def regex(self): re.match(r"(a+)+$", "a" * 60 + "b")
    def stuck(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        ctypes.PyDLL(None).sleep(600)  # keeps the interpreter's lock, as a loop in C does
    def dies(self): os.kill(os.getpid(), signal.SIGSEGV)
    def exits(self): os._exit(3)
    def leaves(self): sys.exit("bye")
    def grows(self):
        kept = []
        while True: kept.append(bytearray(100_000_000))
    def interrupts(self): raise KeyboardInterrupt
    def copies(self): os.fork()
    def orphans(self):
        if os.fork() == 0: time.sleep(600)
        os._exit(4)
    def ok(self): pass
    def deep(self): self.deep()
    def prints(self): print("noise", flush=True); sys.stdout.close(); raise ValueError("after that")
'''


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module of somebody else's, which another process can import as well."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "hostile_graders.py").write_text(textwrap.dedent(HOSTILE))
    sys.path.insert(0, str(folder))
    yield importlib.import_module("hostile_graders")
    sys.path.remove(str(folder))


@pytest.fixture
def batch(store: Store, send: Callable[..., None]) -> Batch:
    send("s1", [span for number in (1, 2, 3) for span in spans_of(number)])
    return Batch([Item(trace_id, 1) for trace_id in IDS], store.read("spans", IDS), b"")


def spans_of(number: int) -> list[Span]:
    steps = [{"user": "Pay 12.50 to Ann"}, {"assistant": "I paid 12.50."}]
    return [replace(s, trace_id=f"{number:032x}") for s in conversation(steps).spans]


def graders(module: ModuleType, how: str) -> GraderSets:
    return GraderSets((module.Hostile(how=how), *load_graders({"evidence/numbers": {}, "tools/loop": {}})))


def graded(subject: Isolated, batch: Batch) -> dict[str, dict[str, tuple[str, str]]]:
    """trace → grader → (outcome, reason)."""
    subject.submit(batch)
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for values in zip(*orjson.loads(subject.result().tables["grades"]), strict=True):
        row = dict(zip(rows.COLUMNS["grades"], values, strict=True))
        found.setdefault(row["TraceId"][-1], {})[row["Grader"]] = (row["Outcome"], row["Reason"])
    return found


@pytest.mark.parametrize(
    ("how", "reason", "replaced"),
    [
        ("loop", "it took more than 0.5 s and was interrupted in loop, line ", 0),
        ("stubborn", "it took more than 0.5 s and was interrupted in stubborn, line ", 0),
        ("regex", "it took more than 0.5 s and was interrupted in ", 0),
        ("stuck", "it took more than 0.5 s and could not be interrupted", 1),
        ("dies", "its process died (SIGSEGV)", 1),
        ("exits", "its process died (exit code 3)", 1),
        ("leaves", "SystemExit: bye (leaves, line ", 0),
        ("interrupts", "KeyboardInterrupt in interrupts, line ", 0),
        ("orphans", "its process died (exit code 4)", 1),
        ("grows", "MemoryError: ", 0),
        ("deep", "RecursionError: ", 0),
        ("prints", "ValueError: after that", 0),
    ],
)
def test_what_a_grader_does_costs_its_own_grade_alone(
    hostile: ModuleType, batch: Batch, monkeypatch: pytest.MonkeyPatch, how: str, reason: str, replaced: int
) -> None:
    monkeypatch.setattr(isolation_module, "_PATIENCE_SECONDS", 0.5)
    with Isolated(graders(hostile, how), grader_seconds=10 if how == "grows" else 0.5) as subject:
        found = graded(subject, batch)
        assert {trace: row["test/hostile"][0] for trace, row in found.items()} == {
            "1": "pass",
            "2": "error",
            "3": "pass",
        }
        assert found["2"]["test/hostile"][1].startswith(reason)
        for trace in "123":
            assert found[trace]["tools/loop"][0] == "skip"
            assert found[trace]["evidence/numbers"][0] != "error"
        assert subject.replaced == replaced
        assert graded(subject, replace(batch, items=batch.items[:1]))["1"]["test/hostile"][0] == "pass"


def test_a_copy_of_the_process_answers_nothing(hostile: ModuleType, batch: Batch) -> None:
    with Isolated(graders(hostile, "copies")) as subject:
        assert set(graded(subject, batch)) == {"1", "2", "3"}
        assert set(graded(subject, replace(batch, items=batch.items[:1]))) == {"1"}, "the copy's answer to the first"
        assert subject.replaced == 0


@pytest.mark.parametrize("state", ["reads nothing", "does nothing"])
def test_a_process_that_stands_still_is_ended(
    hostile: ModuleType, batch: Batch, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(isolation_module, "_STALL_SECONDS", 1.0)
    with Isolated(graders(hostile, "ok")) as subject:
        assert len(graded(subject, batch)) == 3
        assert subject.pid is not None
        os.kill(subject.pid, signal.SIGSTOP)
        large = frozenset({"x" * 50_000_000} if state == "reads nothing" else ())
        subject.submit(replace(batch, only=large))
        subject.result()
        assert subject.replaced == 1
        assert len(graded(subject, batch)) == 3


def test_a_grader_that_always_takes_its_time_is_left_out_for_a_while(hostile: ModuleType, batch: Batch) -> None:
    with Isolated(graders(hostile, "loop always"), grader_seconds=0.2) as subject:
        started = time.monotonic()
        reasons = [row["test/hostile"][1] for _ in range(10) for row in graded(subject, batch).values()]
        assert time.monotonic() - started < 8, "30 times 0.2 s and more, otherwise"
        assert [reason[:14] for reason in reasons] == ["it took more t"] * 30
        assert sum("was interrupted" in reason for reason in reasons) == 3
        assert sum("is left out for a while" in reason for reason in reasons) == 27


def test_rests_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(isolation_module.time, "monotonic", lambda: now)
    strikes = Strikes()
    for _ in range(3):
        assert not strikes.rests("g")
        strikes.failed("g")
    assert strikes.rests("g")
    now = 61
    assert not strikes.rests("g")
    strikes.failed("g")
    now = 61 + 119
    assert strikes.rests("g")
    now = 61 + 121
    assert not strikes.rests("g")
    strikes.went_well("g")
    strikes.failed("g")
    assert not strikes.rests("g")


def test_a_batch_that_cannot_be_read_is_refused(hostile: ModuleType, batch: Batch) -> None:
    with Isolated(graders(hostile, "ok")) as subject:
        subject.submit(replace(batch, spans=b"\x02nonsense"))
        with pytest.raises(IsolationFailed):
            subject.result()
        assert len(graded(subject, batch)) == 3


def test_a_process_that_is_killed_from_outside_between_batches_is_replaced(hostile: ModuleType, batch: Batch) -> None:
    with Isolated(graders(hostile, "ok")) as subject:
        assert len(graded(subject, batch)) == 3
        assert subject._process is not None
        os.kill(subject._process.pid, signal.SIGKILL)
        subject._process.wait()
        assert len(graded(subject, batch)) == 3


def test_a_process_whose_parent_left_meanwhile_ends_quietly(hostile: ModuleType, batch: Batch) -> None:
    with Isolated(graders(hostile, "ok")) as subject:
        graded(subject, batch)
        process, pipe = subject._process, subject._pipe
        assert process is not None
        assert pipe is not None
        process.send_signal(signal.SIGSTOP)
        subject.submit(batch)
        pipe.close()
        process.send_signal(signal.SIGCONT)
        assert process.wait(10) == 0


def test_without_a_process_nothing_is_graded_as_an_error(
    hostile: ModuleType, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation_module.sys, "executable", "/nowhere/python")
    with Isolated(graders(hostile, "ok")) as subject, pytest.raises(Retryable, match="no grading process"):
        subject.submit(batch)


def test_it_ends_with_its_parent_even_while_a_loop_in_c_keeps_it_busy(tmp_path: Path) -> None:
    (tmp_path / "stuck_grader.py").write_text(textwrap.dedent(HOSTILE).replace("hostile", "stuck_one"))
    script = """
import sys, time
from graders import GraderSets
from graders.batch import Batch, Item
from graders.isolation import Isolated
import stuck_grader
subject = Isolated(GraderSets([stuck_grader.Hostile(how="stuck always")]), grader_seconds=600)
subject.submit(Batch([Item("0" * 31 + "2", 1)], b"", b""))
deadline = time.monotonic() + 30
while not subject._pulse.started_ns or subject._what() != "test/stuck_one":
    assert time.monotonic() < deadline
    time.sleep(0.01)
print(subject._process.pid, flush=True)
sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    try:
        child = int(parent.stdout.readline())
    finally:
        parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_with_a_process_of_its_own_on_a_server(
    hostile: ModuleType, engine_path: Path, store: Store, send: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same over HTTP; a trace whose grading cannot be finished stops no other."""
    monkeypatch.setattr(isolation_module, "_MAX_CULPRITS", 0)
    send("s1", [span for number in (1, 2, 3) for span in spans_of(number)])
    sets = graders(hostile, "dies")
    with (
        EngineServer(engine_path, database=store.database, readonly=False) as server,
        connect(f"clickhouse://127.0.0.1:{server.port}/{store.database}") as remote,
        Isolated(sets) as judge,
    ):
        subject = Worker(remote, sets, judge=judge, grace_ms=0)
        assert subject.run_once() == 3
        assert subject.run_once() == 0
        assert subject.progress.failed == 1
    found = store.query(
        "SELECT TraceId, Grader, Outcome, Reason FROM grades_v WHERE Grader LIKE 'test/%' OR Outcome = 'error'"
    )
    assert {(row["TraceId"][-1], row["Grader"], row["Outcome"]) for row in found} == {
        ("1", "test/hostile", "pass"),
        ("2", "worker/keep", "error"),
        ("3", "test/hostile", "pass"),
    }
    assert any("its process died (SIGSEGV)" in row["Reason"] for row in found)
