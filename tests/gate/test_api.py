"""The REST front: the way through, and what it does with hostile input."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate.api import MAX_BODY, create_app
from gate.policy import GatePolicy
from gate.service import GateService
from store.client import Store
from store.errors import Retryable

POLICY = {"name": "p", "blockers": [{"id": "ok", "grader": "tools/expected"}]}
SUITE = "name: golden\ncases:\n- {id: a, bucket: b}\n- {id: b, bucket: b}\n"
BODY = {
    "suite": "golden",
    "policy": "standard",
    "baseline": {"kind": "version", "value": "1"},
    "candidate": {"kind": "run", "value": "r2", "service": "agent"},
}


@pytest.fixture
def service(store: Store) -> GateService:
    return GateService(store, {"tools/expected"}, {"standard": GatePolicy.model_validate(POLICY)})


@pytest.fixture
def client(service: GateService) -> Iterator[TestClient]:
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client


def _put_suite(client: TestClient) -> None:
    assert client.put("/v1/suites", content=SUITE).status_code == 201


def test_the_way_through(client: TestClient) -> None:
    kept = client.put("/v1/suites", content=SUITE)
    assert (kept.status_code, kept.json()["name"], kept.json()["cases"]) == (201, "golden", 2)
    started = client.post("/v1/evaluations", json=BODY)
    assert started.status_code == 202
    done = client.get(started.headers["location"], params={"wait": 30})
    assert (done.status_code, done.json()["state"]) == (200, "succeeded")
    decision = done.json()["decision"]
    assert (decision["decision"], decision["reasons"]) == ("hold", ["health", "insufficient_data"])
    assert client.get(f"/v1/decisions/{decision['id']}").json() == {**decision, "supersededEvidence": None}
    assert [row["id"] for row in client.get("/v1/decisions").json()["decisions"]] == [decision["id"]]
    assert client.get("/v1/decisions", params={"suite": "other"}).json() == {"decisions": []}


def test_an_inline_policy_is_used(client: TestClient) -> None:
    _put_suite(client)
    started = client.post("/v1/evaluations", json=BODY | {"policy": POLICY | {"name": "inline"}})
    done = client.get(started.headers["location"], params={"wait": 30}).json()
    assert done["decision"]["policy"]["name"] == "inline"


def test_an_evaluation_outlives_the_process_as_its_decision(client: TestClient, service: GateService) -> None:
    _put_suite(client)
    location = client.post("/v1/evaluations", json=BODY).headers["location"]
    before = client.get(location, params={"wait": 30}).json()
    with TestClient(create_app(service)) as restarted:
        assert restarted.get(location).json() == before


def test_the_same_key_and_body_is_one_evaluation(client: TestClient) -> None:
    _put_suite(client)
    key = {"Idempotency-Key": "k1"}
    first, second = (client.post("/v1/evaluations", json=BODY, headers=key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    client.get(first.headers["location"], params={"wait": 30})
    assert len(client.get("/v1/decisions").json()["decisions"]) == 1
    other = client.post("/v1/evaluations", json=BODY | {"stage": "canary"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")


def test_a_refused_request_does_not_burn_its_key(client: TestClient) -> None:
    key = {"Idempotency-Key": "k2"}
    assert client.post("/v1/evaluations", json=BODY, headers=key).status_code == 404
    _put_suite(client)
    assert client.post("/v1/evaluations", json=BODY, headers=key).status_code == 202


def test_waiting_ends_and_others_are_served_meanwhile(store: Store, service: GateService) -> None:
    gate = threading.Event()
    slow = GateService(_Slow(store, gate), {"tools/expected"}, {"standard": GatePolicy.model_validate(POLICY)})
    service.save_suite(SUITE)
    with TestClient(create_app(slow)) as client:
        location = client.post("/v1/evaluations", json=BODY).headers["location"]
        waiting = client.get(location, params={"wait": 0.05})
        assert waiting.json()["state"] in ("queued", "running")
        assert client.get("/healthz").status_code == 200
        gate.set()
        assert client.get(location, params={"wait": 30}).json()["state"] == "succeeded"


class _Slow:
    """A store whose evidence waits for a sign."""

    def __init__(self, store: Store, gate: threading.Event) -> None:
        self._store, self._gate = store, gate

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        if parameters and "kind" in parameters:
            assert self._gate.wait(30)
        return self._store.query(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Down:
    """A store that does not answer."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        raise Retryable("connection refused")

    insert = save_suite = query


def test_a_dead_store_is_said_to_be_dead() -> None:
    dead = GateService(_Down(), {"tools/expected"}, {"standard": GatePolicy.model_validate(POLICY)})  # type: ignore[arg-type]
    with TestClient(create_app(dead)) as client:
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), client.post("/v1/evaluations", json=BODY), client.get("/v1/decisions")):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.json()["type"] == "/problems/store-unavailable"


def test_a_failed_evaluation_has_no_verdict(client: TestClient, store: Store) -> None:
    _put_suite(client)
    store.command("RENAME TABLE graded_traces TO hidden")
    try:
        location = client.post("/v1/evaluations", json=BODY).headers["location"]
        done = client.get(location, params={"wait": 30}).json()
    finally:
        store.command("RENAME TABLE hidden TO graded_traces")
    assert done["state"] == "failed"
    assert "decision" not in done
    assert done["problem"]["status"] in (500, 503)


JSON = {"Content-Type": "application/json"}

HOSTILE: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/v1/evaluations", {"content": b"{", "headers": JSON}, 400),
    ("POST", "/v1/evaluations", {"content": b"\xff\xfe", "headers": JSON}, 400),
    ("POST", "/v1/evaluations", {"content": b"{"}, 422),
    ("POST", "/v1/evaluations", {"json": []}, 422),
    ("POST", "/v1/evaluations", {"json": {}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"extra": 1}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"suite": 7}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"suite": "x'; DROP TABLE suites; --"}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"suite_digest": "' OR 1=1 --"}}, 404),
    ("POST", "/v1/evaluations", {"json": BODY | {"policy": {"name": "p", "blockers": []}}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"policy": "other"}}, 404),
    ("POST", "/v1/evaluations", {"json": BODY | {"candidate": BODY["baseline"]}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"candidate": {"kind": "branch", "value": "x"}}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"candidate": {"kind": "run", "value": "a\u0000b"}}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY | {"as_of": "yesterday"}}, 422),
    ("POST", "/v1/evaluations", {"json": BODY, "headers": {"Idempotency-Key": "k" * 201}}, 422),
    ("PUT", "/v1/suites", {"content": b"name: ["}, 422),
    ("PUT", "/v1/suites", {"content": b""}, 422),
    ("PUT", "/v1/suites", {"content": b"\x00" * 1000}, 422),
    ("PUT", "/v1/suites", {"content": b"x" * (MAX_BODY + 1)}, 413),
    ("PUT", "/v1/suites", {"content": (b"x" * 2**20 for _ in range(17))}, 413),
    ("PUT", "/v1/suites", {"content": b"a: b", "headers": {"Content-Length": "-5"}}, 413),
    ("GET", "/v1/evaluations/nope", {}, 404),
    ("GET", "/v1/evaluations/' OR 1=1 --", {}, 404),
    ("GET", "/v1/evaluations/x", {"params": {"wait": "nan"}}, 422),
    ("GET", "/v1/evaluations/x", {"params": {"wait": 1e9}}, 422),
    ("GET", "/v1/decisions/nope", {}, 404),
    ("GET", "/v1/decisions/..%2F..%2Fetc", {}, 404),
    ("GET", "/v1/decisions", {"params": {"limit": 10**30}}, 422),
    ("GET", "/v1/decisions", {"params": {"limit": 0}}, 422),
    ("GET", "/nowhere", {}, 404),
    ("DELETE", "/v1/suites", {}, 405),
]


def test_hostile_input_is_refused_as_a_problem(client: TestClient) -> None:
    _put_suite(client)
    wrong = []
    for method, path, options, status in HOSTILE:
        answer = client.request(method, path, **options)
        problem = answer.headers["content-type"] == "application/problem+json" and answer.json()
        if answer.status_code != status or not problem or problem["status"] != status:
            wrong.append((method, path, str(options)[:200], status, answer.status_code, answer.text[:300]))
    assert wrong == []
    assert client.get("/readyz").status_code == 200
    assert client.get("/v1/decisions").json() == {"decisions": []}


def test_every_problem_is_listed(client: TestClient) -> None:
    answer = client.put("/v1/suites", content="name: s\ncases:\n- {bucket: b}\n- {id: a, bucket: b, risk: x}")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["<suite>#cases[0].id", "<suite>#cases[1].risk"]
    answer = client.post("/v1/evaluations", json=BODY | {"suite": 1, "stage": "x"})
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/body/suite", "/body/stage"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_garbage_never_breaks_the_front(client: TestClient, garbage: bytes) -> None:
    assert client.post("/v1/evaluations", content=garbage).status_code in (400, 422)
    assert client.put("/v1/suites", content=garbage).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "evil.example:8080"},
        {"host": "127.0.0.1.evil.example"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v1/suites"), ("POST", "/v1/evaluations"), ("GET", "/v1/decisions")]
)
def test_a_page_in_a_browser_is_refused(service: GateService, headers: dict[str, str], method: str, path: str) -> None:
    with TestClient(create_app(service, local_only=True), base_url="http://127.0.0.1:8080") as client:
        refused = client.request(method, path, headers=headers, content=SUITE)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/foreign-page")
        assert client.put("/v1/suites", content=SUITE, headers={"origin": "http://127.0.0.1:8080"}).status_code == 201


def test_the_queue_of_evaluations_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    service = GateService(store, {"tools/expected"}, {"standard": GatePolicy.model_validate(POLICY)})
    let_go = threading.Event()
    carry_out = service.carry_out

    def slow(*arguments: Any) -> Any:
        let_go.wait(30)
        return carry_out(*arguments)

    monkeypatch.setattr(service, "carry_out", slow)
    monkeypatch.setattr("gate.api.WAITING", 2)
    with TestClient(create_app(service)) as client:
        _put_suite(client)
        answers = [client.post("/v1/evaluations", json=BODY) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 503, 503]
        refused = client.post("/v1/evaluations", json=BODY, headers={"Idempotency-Key": "k"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        let_go.set()
        for answer in answers[:3]:
            assert client.get(answer.headers["location"], params={"wait": 30}).json()["state"] == "succeeded"
        started = client.post("/v1/evaluations", json=BODY, headers={"Idempotency-Key": "k"})
        assert client.get(started.headers["location"], params={"wait": 30}).json()["state"] == "succeeded"


def test_the_contract_is_published(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {path: sorted(methods) for path, methods in paths.items()} == {
        "/v1/evaluations": ["post"],
        "/v1/evaluations/{evaluation_id}": ["get"],
        "/v1/decisions": ["get"],
        "/v1/decisions/{decision_id}": ["get"],
        "/v1/suites": ["put"],
        "/healthz": ["get"],
        "/readyz": ["get"],
    }
