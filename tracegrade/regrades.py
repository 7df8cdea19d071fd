"""Regrading inside a running server, which has the embedded store to itself: REST routes beside the gate's.

Promises: one regrade at a time, in a thread and a grading process of its own that gives way to fresh traces. What is lost with
the process is the count; the work goes on where it was when it is asked for again.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from graders.regrade import Regrade, Selection

log = logging.getLogger(__name__)


class _Running:
    def __init__(self, made: Regrade, close: Callable[[], None]) -> None:
        self.id = uuid.uuid4().hex
        self._made = made
        self._close = close
        self._stopping = threading.Event()
        self.error = ""
        self.thread = threading.Thread(target=self._run, name="regrade", daemon=True)

    def _run(self) -> None:
        try:
            self._made.run(self._stopping.is_set)
        except Exception as error:
            log.warning("regrading stopped: %s", error)
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self._close()

    def stop(self) -> None:
        self._stopping.set()
        self.thread.join()

    def state(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "running": self.thread.is_alive(),
            "error": self.error,
            **asdict(self._made.progress),
        }


class Regrades:
    """The regrade of a server, if one runs."""

    def __init__(self, start: Callable[[Selection], tuple[Regrade, Callable[[], None]]]) -> None:
        """`start` makes a regrade, and gives what ends its process."""
        self._start = start
        self._lock = threading.Lock()
        self._last: _Running | None = None

    def router(self) -> APIRouter:
        """The routes. Whoever may ask the gate for decisions may use them."""
        router = APIRouter()

        @router.post("/v1/regrades", status_code=202)
        def start(selection: Selection) -> dict[str, Any]:
            """Grade stored traces again; what is graded as asked already is left alone."""
            with self._lock:
                if self._last is not None and self._last.thread.is_alive():
                    raise HTTPException(409, f"a regrade is running: /v1/regrades/{self._last.id}; DELETE it, or wait")
                self._last = _Running(*self._start(selection))
                self._last.thread.start()
                return self._last.state()

        @router.get("/v1/regrades/{regrade_id}")
        def state(regrade_id: str) -> dict[str, Any]:
            """How far it is."""
            return self._known(regrade_id).state()

        @router.delete("/v1/regrades/{regrade_id}")
        def stop(regrade_id: str) -> dict[str, Any]:
            """End it after the batch under way."""
            found = self._known(regrade_id)
            found.stop()
            return found.state()

        return router

    def _known(self, regrade_id: str) -> _Running:
        if self._last is None or self._last.id != regrade_id:
            raise HTTPException(404, f"no regrade {regrade_id!r}")
        return self._last

    def close(self) -> None:
        """End what runs."""
        with self._lock:
            if self._last is not None:
                self._last.stop()
