"""Grades batches in a process of its own, which may hang, die or be ended without harm.

Promises: a grader that takes longer than its time is interrupted; if it does not let itself be interrupted (a loop in C), or
takes the process with it, the process is replaced and the batch graded once more without that grader on that trace, which
gets an error grade with the reason. A grader that costs its time again and again is left out for a while, so that it cannot
keep the others from being graded in time. What the process may use of memory is bounded; a grader that needs more fails
alone.

It leaves what a batch is to `graders.batch`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType, TracebackType

from graders.base import GraderSets, NotGraded
from graders.batch import ASSEMBLE, Batch, Graded, Watch, grade_batch
from store.errors import Retryable

log = logging.getLogger(__name__)

ASSEMBLE_SECONDS = 60.0
"""For putting one trace together."""
STRIKES = 3
"""How often in a row a grader may use up its time before it is left out."""
REST_SECONDS = 60.0
"""For how long; each time it fails again, twice as long."""
MAX_REST_SECONDS = 3600.0
MAX_MEMORY = 2 << 30
"""Bytes of memory of its own the process may have: a batch of the largest size takes about half a gigabyte."""
_TICK_SECONDS = 0.1
_PATIENCE_SECONDS = 2.0
"""How much longer than its time a grader may take before its process is ended."""
_START_SECONDS = 60.0
_STALL_SECONDS = 60.0
"""How long the process may be at nothing that is known, or neither read nor write what it began to, before it is ended."""
_MAX_CULPRITS = 20
"""Processes a batch may cost before it is given up."""


class OutOfTime(BaseException):
    """Not an `Exception`: a grader that catches those is interrupted all the same."""


class IsolationFailed(RuntimeError):
    """The batch cannot be graded; a smaller one may be."""


class Pulse(ctypes.Structure):
    """What the process is at, for its parent to see. Shared memory."""

    _fields_ = (
        ("started_ns", ctypes.c_int64),  # 0: nothing is under way
        ("trace", ctypes.c_char * 64),
        ("what", ctypes.c_int64),  # index into `_names`
    )


def _names(graders: GraderSets) -> list[str]:
    """What a process can be at."""
    return [ASSEMBLE, *sorted({grader.grader_name for grader in graders.every()})]


@dataclass(slots=True)
class Record:
    """How a grader behaved lately."""

    strikes: int = 0
    rests: int = 0
    until: float = 0.0


class Strikes:
    """Which graders are left out, and until when. Times are those of `time.monotonic`, which processes share."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def failed(self, grader: str) -> None:
        record = self._records.setdefault(grader, Record())
        record.strikes += 1
        if record.strikes >= STRIKES:
            rest = min(REST_SECONDS * 2**record.rests, MAX_REST_SECONDS)
            record.strikes, record.rests, record.until = STRIKES - 1, record.rests + 1, time.monotonic() + rest

    def went_well(self, grader: str) -> None:
        if self._records:
            self._records.pop(grader, None)

    def rests(self, grader: str) -> bool:
        record = self._records.get(grader) if self._records else None
        return record is not None and time.monotonic() < record.until


@dataclass(frozen=True, slots=True)
class _Setup:
    graders: GraderSets
    grader_seconds: float
    nice: int


@dataclass(frozen=True, slots=True)
class _Task:
    batch: Batch
    left_out: Mapping[tuple[str, str], str]
    """(trace id, grader) → why it must not run."""
    strikes: Strikes


_NOTHING = _Task(Batch((), b"", b""), {}, Strikes())


class _Limits(Watch):
    """Bounds what runs in this process's main thread."""

    def __init__(self, pulse: Pulse, graders: GraderSets, seconds: float) -> None:
        self._pulse = pulse
        self._indexes = {name: index for index, name in enumerate(_names(graders))}
        self._seconds = seconds
        self._started_ns = 0
        self._what = self._trace_id = ""
        self._copy = False
        self.task: _Task = _NOTHING
        signal.signal(signal.SIGALRM, self._tick)
        # One timer that runs all the time: arming one for each grader would cost more than most graders.
        signal.setitimer(signal.ITIMER_REAL, _TICK_SECONDS, _TICK_SECONDS)

    def _tick(self, _: int, __: FrameType | None) -> None:
        if self._started_ns and time.monotonic_ns() - self._started_ns > self._limit() * 1e9:
            raise OutOfTime

    def _limit(self) -> float:
        return ASSEMBLE_SECONDS if self._what == ASSEMBLE else self._seconds

    def on(self, what: str, trace_id: str = "") -> _Limits:
        """Itself, as what the work is done within."""
        task, pulse = self.task, self._pulse
        if task.left_out and (reason := task.left_out.get((trace_id, what))) is not None:
            raise NotGraded(reason)
        if task.strikes.rests(what):
            raise NotGraded(f"it took more than its {self._seconds:g} s again and again, and is left out for a while")
        if trace_id != self._trace_id:
            self._trace_id, pulse.trace = trace_id, trace_id.encode()[:63]
        self._what, pulse.what = what, self._indexes[what]
        return self

    def __enter__(self) -> None:
        self._started_ns = self._pulse.started_ns = time.monotonic_ns()

    def forked(self) -> None:
        """Called in a copy of this process that a grader made: it must not go on as if it were this one."""
        self._copy = True

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._copy:
            os._exit(0)
        self._started_ns = self._pulse.started_ns = 0
        if isinstance(error, OutOfTime):
            if self._what != ASSEMBLE:
                self.task.strikes.failed(self._what)
            raise NotGraded(f"it took more than {self._limit():g} s and was interrupted{_place(trace)}") from None
        if isinstance(error, KeyboardInterrupt):  # nobody else's: the signal is ignored here
            raise NotGraded(f"KeyboardInterrupt{_place(trace)}") from None
        self.task.strikes.went_well(self._what)


def _place(trace: TracebackType | None) -> str:
    """Where in the grader it was."""
    while trace and trace.tb_next and trace.tb_next.tb_frame.f_code is not _Limits._tick.__code__:
        trace = trace.tb_next
    return f" in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace else ""


def serve(pipe: int, pulse: int, parent: int) -> None:
    """What the process does: grade what comes in until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    _end_with(parent)
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    connection: Connection[object, object] = Connection(pipe)
    setup = connection.recv()
    assert isinstance(setup, _Setup)
    with contextlib.suppress(OSError):
        os.nice(setup.nice)
    limits = _Limits(_pulse(pulse), setup.graders, setup.grader_seconds)
    # A copy that kept the pipe would answer as well, and keep its end from being noticed.
    os.register_at_fork(after_in_child=connection.close)
    os.register_at_fork(after_in_child=limits.forked)
    connection.send("ready")
    # What a batch leaves behind is collected after it: in between, the collector would look at all of it over and over.
    gc.disable()
    gc.freeze()
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        assert isinstance(task, _Task)
        limits.task = task
        answer: Graded | Exception
        try:
            answer = grade_batch(task.batch, setup.graders, limits)
        except Exception as error:
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        try:
            connection.send((answer, task.strikes))
        except (BrokenPipeError, ConnectionResetError):  # the parent ended before its answer came
            return
        limits.task = _NOTHING
        del answer, task
        gc.collect()


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, even while a loop in C keeps it busy."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(0)


def _pulse(file: int) -> Pulse:
    return Pulse.from_buffer(mmap.mmap(file, ctypes.sizeof(Pulse)))


class Isolated:
    """A grading process, started when it is first needed and again whenever it is gone. For one thread at a time."""

    def __init__(self, graders: GraderSets, *, grader_seconds: float = 5.0, nice: int = 0) -> None:
        self._setup = _Setup(graders, grader_seconds, nice)
        self._names = _names(graders)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with self)
        self._file.truncate(ctypes.sizeof(Pulse))
        self._pulse = _pulse(self._file.fileno())
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[object, object] | None = None
        self._task: _Task | None = None
        self._strikes = Strikes()
        self.replaced = 0
        """Processes that had to be ended, or died."""

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._process.pid if self._process else None

    def submit(self, batch: Batch) -> None:
        """Begin to grade a batch."""
        self._task = _Task(batch, {}, self._strikes)
        self._send(self._task)

    def result(self) -> Graded:
        """What came of the batch submitted last. Raises `IsolationFailed`."""
        task, self._task = self._task, None
        assert task is not None
        while True:
            try:
                answer, self._strikes = self._receive()
            except (EOFError, OSError) as error:
                task = self._without_culprit(task, error)
                self._send(task)
                continue
            if isinstance(answer, Graded):
                return answer
            self._end()  # whatever it lacked, memory for one, a new one may have
            raise IsolationFailed(str(answer))

    def discard(self) -> None:
        """Forget the batch submitted last, if its result was not asked for."""
        if self._task is not None:
            self._task = None
            self._end()

    def close(self) -> None:
        """End the process."""
        self._end()
        self._file.close()

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, task: _Task) -> None:
        if self._process is None:
            self._start()
        assert self._pipe is not None
        # A process that died meanwhile is noticed when its answer is waited for.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                self._pipe.send(task)
            except BlockingIOError:  # it does not read
                self._process.kill()  # type: ignore[union-attr]

    def _start(self) -> None:
        """Raises `Retryable` if that cannot be done."""
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(_STALL_SECONDS), 0))
        command = f"from graders.isolation import serve; serve({theirs.fileno()}, {self._file.fileno()}, {os.getpid()})"
        self._pulse.started_ns = 0
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", command],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._file.fileno()),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                process_group=0,  # so that what graders start ends with it
            )
            self._pipe = Connection(ours.detach())
            self._pipe.send(self._setup)
            if not self._pipe.poll(_START_SECONDS):
                raise OSError(f"it was not ready within {_START_SECONDS:g} s")
            self._pipe.recv()
        except (OSError, EOFError) as error:
            code = self._end()
            raise Retryable(f"no grading process can be started: {error or _cause(code)}") from error
        finally:
            ours.close()  # it is the connection's by now, if there is one
            theirs.close()

    def _receive(self) -> tuple[object, Strikes]:
        """The answer; raises EOFError or OSError once the process has died or had to be ended."""
        assert self._pipe is not None
        busy = time.monotonic()
        while not self._pipe.poll(_TICK_SECONDS):
            started, what = self._pulse.started_ns, self._what()
            if started:
                busy = time.monotonic()
            elif time.monotonic() - busy > _STALL_SECONDS:
                raise EOFError(f"nothing came of it for {_STALL_SECONDS:g} s")
            seconds = ASSEMBLE_SECONDS if what == ASSEMBLE else self._setup.grader_seconds
            if started and time.monotonic_ns() - started > (seconds + _PATIENCE_SECONDS) * 1e9:
                raise EOFError(f"it took more than {seconds:g} s and could not be interrupted")
        answer = self._pipe.recv()
        assert isinstance(answer, tuple)
        return answer

    def _what(self) -> str:
        return self._names[int(self._pulse.what)]

    def _end(self) -> int | None:
        """End the process, if there is one; what it exited with, if it had done so by itself."""
        if self._pipe is not None:
            self._pipe.close()
        code = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.5)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
        self._process = self._pipe = None
        return code

    def _without_culprit(self, task: _Task, error: Exception) -> _Task:
        """The same task, less what ended the process."""
        code = self._end()
        self.replaced += 1
        trace, what = bytes(self._pulse.trace).decode(errors="replace"), self._what()
        stuck = isinstance(error, EOFError) and error.args
        reason = str(error) if stuck else f"its process died ({_cause(code)})"
        log.warning("the grading process was replaced: %s, trace %s: %s", what, trace, reason)
        # What ends the process while none of them is under way is tried once more: it may have been somebody from outside.
        culprit = (trace, what) if self._pulse.started_ns else ("", "")
        if culprit in task.left_out or len(task.left_out) >= _MAX_CULPRITS:
            raise IsolationFailed(reason)
        if culprit[1] not in ("", ASSEMBLE):
            self._strikes.failed(what)
        return _Task(task.batch, {**task.left_out, culprit: reason}, self._strikes)


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
