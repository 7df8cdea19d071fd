"""Asks a running server over its REST interface: the gate for a decision, the graders to grade again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import urllib3

from gate.service import EvaluationRequest
from graders.regrade import Selection
from store import Permanent, Retryable

_WAIT_SECONDS = 30
_LOOK_SECONDS = 0.5


def send_suite(url: str, suite: bytes) -> dict[str, Any]:
    """Have the gate keep a suite; answers with its name, digest and number of cases. Raises as `ask_gate` does."""
    with _pool() as pool:
        return _call(pool, "PUT", f"{url}/v1/suites", suite)


def ask_gate(url: str, suite: bytes, request: EvaluationRequest) -> dict[str, Any]:
    """Keep the suite, start the evaluation, wait for its decision document.

    Raises `Retryable` if the gate cannot be reached, ValueError with its words if it refuses the request.
    """
    with _pool() as pool:
        _call(pool, "PUT", f"{url}/v1/suites", suite)
        started = _call(pool, "POST", f"{url}/v1/evaluations", request.model_dump_json().encode())
        while True:
            answer = _call(pool, "GET", f"{url}/v1/evaluations/{started['id']}?wait={_WAIT_SECONDS}")
            if answer["state"] == "succeeded":
                decision: dict[str, Any] = answer["decision"]
                return decision
            if answer["state"] not in ("queued", "running"):
                raise Permanent(f"the evaluation {answer['state']}: {_told(answer.get('problem', {}))}")


def fetch_decision(url: str, decision_id: str) -> dict[str, Any]:
    """A stored decision, as the gate serves it. Raises as `ask_gate` does."""
    with _pool() as pool:
        return _call(pool, "GET", f"{url}/v1/decisions/{quote(decision_id, safe='')}")


def regrade(url: str, selection: Selection, report: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Have a running server regrade, until it is done; when interrupted, have it stop. Raises as `ask_gate` does."""
    with _pool() as pool:
        state = _call(pool, "POST", f"{url}/v1/regrades", selection.model_dump_json().encode())
        try:
            while state["running"]:
                report(state)
                time.sleep(_LOOK_SECONDS)
                state = _call(pool, "GET", f"{url}/v1/regrades/{state['id']}")
        except KeyboardInterrupt:
            state = _call(pool, "DELETE", f"{url}/v1/regrades/{state['id']}")
            report(state)
            raise
        report(state)
        if state["error"]:
            raise Retryable(f"regrading stopped: {state['error']}")
        return state


def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=_WAIT_SECONDS + 30))


def _call(pool: urllib3.PoolManager, method: str, url: str, body: bytes | None = None) -> dict[str, Any]:
    try:
        response = pool.request(method, url, body=body, headers={"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(response.data)
    except urllib3.exceptions.HTTPError as error:
        raise Retryable(f"the gate at {url} cannot be reached: {error}") from error
    except ValueError as error:
        raise Permanent(f"{url} answered with something that is no JSON; is it a tracegrade gate?") from error
    if response.status >= 500:
        raise Retryable(f"the gate at {url} answered {response.status}: {_told(answer)}")
    if response.status >= 400:
        raise ValueError(_told(answer))
    return answer


def _told(problem: dict[str, Any]) -> str:
    return "\n".join([str(problem.get("detail", problem)), *(str(e.get("detail")) for e in problem.get("errors", []))])
