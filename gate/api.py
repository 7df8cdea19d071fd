"""The gate over REST: start an evaluation, wait for it, read decisions, keep suites.

Promises: a verdict is data, so a hold is 200; every error is `application/problem+json` and names every problem; a body
over `MAX_BODY` is refused before it is read. A page in a browser is served only what this very host gave it. Who else may
call is decided before this app is reached. Evaluations run one at a time in a thread of their own, and no more than `WAITING`
wait for it; those under way are lost with the process, decisions never are.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gate.service import EvaluationRequest, GateService, NotFound, StoredDecision
from store.errors import Retryable, StoreError
from store.yamlfile import ConfigError

MAX_BODY = 16 * 1024 * 1024
MAX_WAIT = 60.0
WAITING = 100
"""Evaluations that may wait for their turn; each may take a minute."""
REMEMBERED = 1000
"""Evaluations whose state is kept; the decisions of older ones stay readable."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Evaluation:
    id: str
    future: Future[StoredDecision]


class _Board:
    """Evaluations by id, and the idempotency keys that started them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._evaluations: OrderedDict[str, _Evaluation] = OrderedDict()
        self._keys: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def claim(self, key: str, body: str) -> str:
        """The id for this key and body: a new one, or the one it was given before. Raises `_Conflict`."""
        with self._lock:
            fresh = uuid.uuid4().hex
            if not key:
                return fresh
            known_body, known_id = self._keys.setdefault(key, (body, fresh))
            if known_body != body:
                raise _Problem(422, "idempotency-conflict", "this Idempotency-Key was used with another body")
            while len(self._keys) > REMEMBERED:
                self._keys.popitem(last=False)
            return known_id

    def forget(self, key: str) -> None:
        """Let a key whose request was refused be used again."""
        with self._lock:
            self._keys.pop(key, None)

    def start(self, evaluation_id: str, submit: Callable[[], Future[StoredDecision]]) -> None:
        """Start the evaluation unless it is there already."""
        with self._lock:
            if evaluation_id not in self._evaluations:
                if sum(not known.future.done() for known in self._evaluations.values()) > WAITING:
                    raise _Problem(503, "too-many-evaluations", f"{WAITING} evaluations are waiting; try again later")
                self._evaluations[evaluation_id] = _Evaluation(evaluation_id, submit())
            while len(self._evaluations) > REMEMBERED:
                self._evaluations.popitem(last=False)

    def get(self, evaluation_id: str) -> _Evaluation | None:
        with self._lock:
            return self._evaluations.get(evaluation_id)


class _Problem(Exception):
    """An error as RFC 9457 has it."""

    def __init__(self, status: int, slug: str, detail: str, errors: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail, self.errors = status, slug, detail, errors

    def body(self) -> dict[str, Any]:
        title = self.slug.replace("-", " ").capitalize()
        problem = {"type": f"/problems/{self.slug}", "title": title, "status": self.status, "detail": self.detail}
        return problem | ({"errors": list(self.errors)} if self.errors else {})

    def response(self) -> Response:
        headers = {"Retry-After": "5"} if self.status == 503 else {}
        return _json(self.body(), self.status, headers, "application/problem+json")


def _json(
    content: object, status: int = 200, headers: dict[str, str] | None = None, media: str = "application/json"
) -> Response:
    return Response(orjson.dumps(content), status, headers, media)


def _problem_of(error: Exception) -> _Problem:
    """The one table from what went wrong to what the caller is told."""
    if isinstance(error, _Problem):
        return error
    if isinstance(error, ConfigError):
        errors = [{"pointer": f"{p.file}#{p.key}" if p.key else p.file, "detail": str(p)} for p in error.problems]
        return _Problem(422, "invalid-document", f"{len(errors)} problem(s)", errors)
    if isinstance(error, NotFound):
        return _Problem(404, "not-found", str(error))
    if isinstance(error, Retryable):
        return _Problem(503, "store-unavailable", f"the store did not answer: {error}")
    if isinstance(error, StoreError):
        return _Problem(500, "store-error", str(error))
    if isinstance(error, HTTPException):
        return _Problem(error.status_code, "http-error", str(error.detail))
    _log.exception("the gate failed", exc_info=error)
    return _Problem(500, "internal-error", f"{type(error).__name__}; the log has the details")


def create_app(service: GateService, *, local_only: bool = False) -> FastAPI:
    """The app; serve it with any ASGI server. `local_only` refuses requests addressed to any name but this machine's loopback,
    which is how a page in a browser would reach it by DNS rebinding."""
    board = _Board()
    workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluation")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        workers.shutdown(wait=True, cancel_futures=True)

    app = FastAPI(title="tracegrade gate", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(_BodyLimit)
    app.add_middleware(_NoPages, local_only=local_only)

    async def on_error(_: Request, error: Exception) -> Response:
        return _problem_of(error).response()

    for kind in (_Problem, ConfigError, NotFound, StoreError, HTTPException, Exception):
        app.add_exception_handler(kind, on_error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if any(e["type"] == "json_invalid" for e in found):
            return _Problem(400, "malformed-json", f"the body is not JSON: {found[0]['ctx']['error']}").response()
        errors = [{"pointer": "/" + "/".join(map(str, e["loc"])), "detail": e["msg"]} for e in found]
        return _Problem(422, "invalid-request", f"{len(errors)} problem(s)", errors).response()

    @app.post("/v1/evaluations", status_code=202)
    def start_evaluation(
        body: EvaluationRequest, idempotency_key: Annotated[str, Header(max_length=200)] = ""
    ) -> Response:
        """Start an evaluation. The same Idempotency-Key and body answer with the same evaluation."""
        evaluation_id = board.claim(idempotency_key, hashlib.sha256(body.model_dump_json().encode()).hexdigest())
        if board.get(evaluation_id) is None:
            try:
                plan = service.plan(body)
                board.start(evaluation_id, lambda: workers.submit(service.carry_out, plan, evaluation_id))
            except Exception:
                board.forget(idempotency_key)
                raise
        location = f"/v1/evaluations/{evaluation_id}"
        return _json(
            {"id": evaluation_id, "state": "queued", "location": location},
            202,
            {"Location": location, "Retry-After": "1"},
        )

    @app.get("/v1/evaluations/{evaluation_id}")
    async def get_evaluation(
        evaluation_id: str, wait: Annotated[float, Query(ge=0, le=MAX_WAIT, allow_inf_nan=False)] = 0
    ) -> Response:
        """State of an evaluation, and its decision once it is made; waits up to `wait` seconds for it."""
        evaluation = board.get(evaluation_id)
        if evaluation is None:
            document = await run_in_threadpool(service.get, evaluation_id)
            return _json({"id": evaluation_id, "state": "succeeded", "decision": document})
        future = evaluation.future
        if wait and not future.done():
            await asyncio.wait([asyncio.wrap_future(future)], timeout=wait)
        if not future.done():
            state = "running" if future.running() else "queued"
            return _json({"id": evaluation_id, "state": state}, headers={"Retry-After": "1"})
        if future.cancelled():
            return _json({"id": evaluation_id, "state": "cancelled"})
        error = future.exception()
        if error is not None:
            problem = _problem_of(error if isinstance(error, Exception) else RuntimeError(str(error)))
            return _json({"id": evaluation_id, "state": "failed", "problem": problem.body()})
        return _json({"id": evaluation_id, "state": "succeeded", "decision": future.result().document})

    @app.get("/v1/decisions")
    def list_decisions(
        suite: Annotated[str, Query(max_length=100)] = "", limit: Annotated[int, Query(ge=1, le=1000)] = 50
    ) -> Response:
        """The newest decisions in short."""
        return _json({"decisions": service.decisions(suite, limit)})

    @app.get("/v1/decisions/{decision_id}")
    def get_decision(decision_id: str) -> Response:
        """A decision document, which never changes, and beside it `supersededEvidence`: what was graded again since."""
        document = service.get(decision_id)
        return _json({**document, "supersededEvidence": service.superseded(decision_id)})

    @app.put("/v1/suites", status_code=201)
    async def put_suite(request: Request) -> Response:
        """Keep a suite; the body is its YAML or JSON text."""
        suite = await run_in_threadpool(service.save_suite, await request.body())
        return _json({"name": suite.name, "digest": suite.digest, "cases": len(suite.cases)}, 201)

    @app.get("/healthz")
    async def healthz() -> Response:
        """The process is alive."""
        return _json({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        """The store answers."""
        service.ping()
        return _json({"status": "ok"})

    return app


class _NoPages:
    """Refuses what a page from elsewhere has a browser send: a POST needs nobody's leave to be sent."""

    def __init__(self, app: ASGIApp, local_only: bool) -> None:
        self._app = app
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (reason := self._reason(dict(scope["headers"]))):
            await _Problem(403, "foreign-page", reason).response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _reason(self, headers: dict[bytes, bytes]) -> str:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("//")[2] != host:
            return f"requests from the web origin {origin[:100]!r} are not served"
        if self._local_only and re.sub(r":\d+$", "", host) not in ("", "localhost", "127.0.0.1", "[::1]"):
            return f"this listener serves the loopback interface, not the host {host[:100]!r}"
        return ""


class _BodyLimit:
    """Refuses a body over `MAX_BODY`, by its stated length or as it comes in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated[:20]) > MAX_BODY:
            await self._refuse(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY:
                await self._refuse(scope, receive, send)
                return
        await self._app(scope, _replay(bytes(body), receive), send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"the body is larger than {MAX_BODY >> 20} MiB; for a suite, split it"
        await _Problem(413, "body-too-large", detail).response()(scope, receive, send)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
