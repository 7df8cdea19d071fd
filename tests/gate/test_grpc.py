"""The gRPC front over a real channel: the way through, the contract, and what it does with hostile input."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate import decision
from gate.grpc import MAX_DETAILS, OPTIONS, SERVICE, add_gate, evaluation_request, stored_decision
from gate.pb import gate_pb2 as pb
from gate.pb.gate_pb2_grpc import GateServiceStub
from gate.policy import GatePolicy
from gate.service import GateService
from store.client import Store
from store.errors import Permanent, Retryable
from store.yamlfile import ConfigError

PROTO = Path(__file__).parents[2] / "proto"
BUF = Path(sys.executable).with_name("buf")
POLICY = {"name": "standard", "blockers": [{"id": "ok", "grader": "tools/expected"}]}
SUITE = b"name: golden\ncases:\n- {id: a, bucket: b}\n- {id: b, bucket: b}\n"

Client = Callable[[grpc.aio.Channel], Awaitable[Any]]


def wanted(**changes: Any) -> pb.EvaluateRequest:
    fields: dict[str, Any] = {
        "suite": "golden",
        "policy_name": "standard",
        "baseline": pb.ArmSelector(version="1"),
        "candidate": pb.ArmSelector(run="r2", service="agent"),
        "stage": pb.STAGE_OFFLINE,
    }
    if "policy_document" in changes:
        del fields["policy_name"]
    return pb.EvaluateRequest(**{k: v for k, v in (fields | changes).items() if v is not None})


@asynccontextmanager
async def serving(service: GateService) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(options=OPTIONS)
    add_gate(server, service)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


def over(service: GateService, client: Client) -> Any:
    """What `client` returns, given a channel to a server of `service`."""

    async def run() -> Any:
        async with serving(service) as channel:
            return await asyncio.wait_for(client(channel), 60)

    return asyncio.run(run())


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str, Status]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(iter(caught.value.trailing_metadata()))  # older ones are no mapping
    status = Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (caught.value.code().value[0], caught.value.details())
    assert sum(len(k) + len(v) * 4 / 3 for k, v in trailers.items()) + len(status.message.encode()) * 3 < 8192
    return caught.value.code(), status.message, status


def violations(status: Status) -> dict[str, str]:
    (detail,) = status.details
    found = BadRequest()
    assert detail.Unpack(found)
    return {violation.field: violation.description for violation in found.field_violations}


@pytest.fixture
def service(store: Store) -> GateService:
    return GateService(store, {"tools/expected"}, {"standard": GatePolicy.model_validate(POLICY)})


def test_the_way_through(service: GateService) -> None:
    async def client(channel: grpc.aio.Channel) -> None:
        gate = GateServiceStub(channel)
        kept = await gate.PutSuite(pb.PutSuiteRequest(document=SUITE))
        assert (kept.name, kept.cases, len(kept.digest)) == ("golden", 2, len("sha256:") + 64)
        made = (await gate.Evaluate(wanted(suite_digest=kept.digest, as_of="2026-01-02"))).decision
        assert made.decision.decision == pb.VERDICT_HOLD
        assert list(made.decision.reasons) == [pb.REASON_HEALTH, pb.REASON_INSUFFICIENT_DATA]
        assert (made.decision.stage, made.decision.as_of) == (pb.STAGE_OFFLINE, "2026-01-02")
        assert (made.decision.suite.digest, made.decision.cases, made.exit_code) == (kept.digest, 2, 4)
        assert (await gate.GetDecision(pb.GetDecisionRequest(id=made.id))).decision == made
        (row,) = (await gate.ListDecisions(pb.ListDecisionsRequest())).decisions
        assert (row.id, row.decision, row.decided_at, row.reasons) == (
            made.id,
            made.decision.decision,
            made.decided_at,
            made.decision.reasons,
        )
        assert (row.suite, row.policy, row.baseline) == ("golden", "standard", "version 1")
        assert not (await gate.ListDecisions(pb.ListDecisionsRequest(suite="other", limit=1000))).decisions
        # The document is what REST serves, to the byte that the chain is hashed over.
        assert json.loads(made.document) == service.get(made.id)
        assert made.document == service._rows(limit=1)[0]["Document"]

    over(service, client)


def test_what_was_graded_again_since_is_told(service: GateService, store: Store) -> None:
    async def client(channel: grpc.aio.Channel) -> None:
        gate = GateServiceStub(channel)
        await gate.PutSuite(pb.PutSuiteRequest(document=SUITE))
        made = (await gate.Evaluate(wanted())).decision
        told = (await gate.GetDecision(pb.GetDecisionRequest(id=made.id))).decision
        assert not told.HasField("superseded_evidence"), "it rests on nothing"
        rests = {"DecisionId": made.id, "Arm": "candidate"}
        store.insert("decision_evidence", [{**rests, "TraceId": t, "Generation": g} for t, g in (("a", 1), ("b", 2))])
        mark = {"LastIngested": 0, "Completeness": "complete", "GraderSet": "g", "Generation": 2}
        store.mark_graded([{**mark, "TraceId": trace_id} for trace_id in "ab"])
        told = (await gate.GetDecision(pb.GetDecisionRequest(id=made.id))).decision
        assert told.superseded_evidence == pb.SupersededEvidence(
            count=1, traces=[pb.SupersededTrace(trace_id="a", used_generation=1, generation=2)]
        )
        assert told.document == made.document

    over(service, client)


def test_a_policy_may_come_with_the_request(service: GateService) -> None:
    async def client(channel: grpc.aio.Channel) -> Any:
        gate = GateServiceStub(channel)
        await gate.PutSuite(pb.PutSuiteRequest(document=SUITE))
        document = json.dumps(POLICY | {"name": "inline"}).encode()
        return await gate.Evaluate(wanted(policy_document=document, stage=pb.STAGE_CANARY))

    made = over(service, client).decision.decision
    assert (made.policy.name, made.stage) == ("inline", pb.STAGE_CANARY)


def test_a_large_suite_fits(service: GateService) -> None:
    cases = [{"id": f"c{i}", "bucket": "b", "input": "x" * 600} for i in range(9000)]
    document = json.dumps({"name": "large", "cases": cases}).encode()
    assert len(document) > 5 * 2**20

    async def client(channel: grpc.aio.Channel) -> Any:
        return await GateServiceStub(channel).PutSuite(pb.PutSuiteRequest(document=document))

    assert over(service, client).cases == 9000


BAD: list[tuple[pb.EvaluateRequest, dict[str, str]]] = [
    (
        pb.EvaluateRequest(),
        {
            "policy": "give policy_name or policy_document",
            "baseline": "give version or run",
            "candidate": "give version or run",
            "stage": "is 0; known: STAGE_OFFLINE (1), STAGE_CANARY (2)",
            "suite": "pattern",
        },
    ),
    (wanted(stage=99), {"stage": "is 99; known"}),
    (wanted(as_of="tomorrow"), {"as_of": "YYYY-MM-DD"}),
    (wanted(as_of="2026-02-30"), {"as_of": "date"}),
    (wanted(as_of="20260230"), {"as_of": "YYYY-MM-DD"}),
    (wanted(suite="x'; DROP TABLE suites; --"), {"suite": "pattern"}),
    (wanted(policy_name="no spaces"), {"policy": "pattern"}),
    (wanted(baseline=pb.ArmSelector(version="a\0b")), {"baseline.version": "pattern"}),
    (wanted(candidate=pb.ArmSelector(run="")), {"candidate.run": "pattern"}),
    (wanted(candidate=pb.ArmSelector(version="1")), {"candidate": "cannot be compared with itself"}),
    (wanted(policy_document=b""), {"policy_document#name": "is required", "policy_document#blockers": "is required"}),
    (wanted(policy_document=b"\xff"), {"policy_document": "is not UTF-8"}),
    (
        wanted(policy_document=b"name: p\nblockers:\n- {id: a, grader: tools/expcted}"),
        {"policy p#blockers[0].grader": "tools/expected"},
    ),
]


@pytest.mark.parametrize(("request_", "problems"), BAD)
def test_a_bad_request_is_told_every_problem(
    service: GateService, request_: pb.EvaluateRequest, problems: dict[str, str]
) -> None:
    service.save_suite(SUITE)
    code, _, status = over(service, lambda channel: refused(GateServiceStub(channel).Evaluate(request_)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    found = violations(status)
    assert set(found) == set(problems)
    assert [field for field, says in problems.items() if says not in found[field]] == []
    assert service.decisions() == []


def test_a_bad_suite_is_told_every_problem_with_its_line(service: GateService) -> None:
    bad = pb.PutSuiteRequest(document=b"name: s\ncases:\n- {bucket: b}\n- {id: a, bucket: b, risk: x}")
    code, message, status = over(service, lambda channel: refused(GateServiceStub(channel).PutSuite(bad)))
    assert (code, message[:13]) == (grpc.StatusCode.INVALID_ARGUMENT, "2 problem(s):")
    found = violations(status)
    assert set(found) == {"document#cases[0].id", "document#cases[1].risk"}
    assert found["document#cases[1].risk"].startswith("document:4:")


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_more_problems_than_trailers_hold_are_counted(service: GateService, letter: str) -> None:
    cases = [{"id": f"c{i}", letter * 200: 1} for i in range(400)]
    bad = pb.PutSuiteRequest(document=json.dumps({"name": "s", "cases": cases}, ensure_ascii=False).encode())
    code, message, status = over(service, lambda channel: refused(GateServiceStub(channel).PutSuite(bad)))
    (detail,) = status.details
    found = BadRequest()
    assert detail.Unpack(found)
    told = len(found.field_violations)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert 0 < told < 800
    assert found.ByteSize() <= MAX_DETAILS
    assert message == f"800 problem(s); {800 - told} of them are left out, for want of room"


@pytest.mark.parametrize(
    ("method", "request_", "says"),
    [
        ("GetDecision", pb.GetDecisionRequest(id="' OR 1=1 --"), "no decision"),
        ("GetDecision", pb.GetDecisionRequest(), "no decision"),
        ("Evaluate", wanted(suite="other"), "stored: golden"),
        ("Evaluate", wanted(suite_digest="' OR 1=1 --"), "no suite"),
        ("Evaluate", wanted(policy_name="other"), "known: standard"),
    ],
)
def test_what_is_not_there_is_not_found(service: GateService, method: str, request_: Any, says: str) -> None:
    service.save_suite(SUITE)
    code, message, _ = over(service, lambda channel: refused(getattr(GateServiceStub(channel), method)(request_)))
    assert (code, says in message) == (grpc.StatusCode.NOT_FOUND, True), message


@pytest.mark.parametrize("limit", [-1, 1001, 2**31 - 1])
def test_a_list_is_bounded(service: GateService, limit: int) -> None:
    request = pb.ListDecisionsRequest(limit=limit)
    code, _, status = over(service, lambda channel: refused(GateServiceStub(channel).ListDecisions(request)))
    assert (code, set(violations(status))) == (grpc.StatusCode.INVALID_ARGUMENT, {"limit"})


class _Failing:
    """A store that does not do what it is asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        raise self.error

    insert = save_suite = query


def failing(error: Exception) -> GateService:
    return GateService(_Failing(error), {"tools/expected"}, {"standard": GatePolicy.model_validate(POLICY)})


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (Retryable("connection refused"), grpc.StatusCode.UNAVAILABLE, "connection refused"),
        (Permanent("unknown column"), grpc.StatusCode.INTERNAL, "unknown column"),
        (ZeroDivisionError("secret"), grpc.StatusCode.INTERNAL, "ZeroDivisionError; the log has the details"),
    ],
)
def test_a_failing_store_is_told_as_rest_tells_it(error: Exception, code: grpc.StatusCode, says: str) -> None:
    async def client(channel: grpc.aio.Channel) -> list[Any]:
        gate = GateServiceStub(channel)
        calls = [
            gate.Evaluate(wanted()),
            gate.GetDecision(pb.GetDecisionRequest(id="x")),
            gate.ListDecisions(pb.ListDecisionsRequest()),
        ]
        return [await refused(call) for call in calls]

    for found, message, status in over(failing(error), client):
        assert (found, says in message) == (code, True)
        if code == grpc.StatusCode.UNAVAILABLE:
            retry = RetryInfo()
            assert status.details[0].Unpack(retry)
            assert retry.retry_delay.seconds == 5


def test_health_is_whether_the_store_answers(service: GateService) -> None:
    async def client(channel: grpc.aio.Channel) -> list[int]:
        health = health_pb2_grpc.HealthStub(channel)
        return [(await health.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", SERVICE)]

    assert over(service, client) == [health_pb2.HealthCheckResponse.SERVING] * 2
    assert over(failing(Retryable("gone")), client) == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2

    async def unknown(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"))

    over(service, unknown)


class _Waiting:
    """A store whose evidence waits for a sign."""

    def __init__(self, store: Store) -> None:
        self._store, self.asked, self.go = store, threading.Event(), threading.Event()

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        if parameters and "kind" in parameters:
            self.asked.set()
            assert self.go.wait(30)
        return self._store.query(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_an_abandoned_evaluation_is_finished_and_the_waiting_one_is_not_made(
    store: Store, service: GateService
) -> None:
    service.save_suite(SUITE)
    waiting = _Waiting(store)
    slow = GateService(waiting, {"tools/expected"}, {"standard": GatePolicy.model_validate(POLICY)})

    async def client(channel: grpc.aio.Channel) -> None:
        gate = GateServiceStub(channel)
        started = gate.Evaluate(wanted())
        await asyncio.to_thread(waiting.asked.wait, 30)
        queued = gate.Evaluate(wanted(stage=pb.STAGE_CANARY))
        await asyncio.sleep(0.2)
        assert not (await gate.ListDecisions(pb.ListDecisionsRequest())).decisions, "others are served meanwhile"
        queued.cancel()
        started.cancel()
        await asyncio.sleep(0.2)
        waiting.go.set()
        after = await gate.Evaluate(wanted(as_of="2026-01-02"))
        listed = (await gate.ListDecisions(pb.ListDecisionsRequest())).decisions
        assert len(listed) == 2
        assert listed[0].id == after.decision.id

    over(slow, client)
    assert {service.get(row["id"])["stage"] for row in service.decisions()} == {"offline"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(["Evaluate", "GetDecision", "ListDecisions", "PutSuite"]), st.binary(max_size=200))
def test_garbage_is_the_callers_mistake(service: GateService, method: str, garbage: bytes) -> None:
    async def client(channel: grpc.aio.Channel) -> grpc.StatusCode:
        try:
            await channel.unary_unary(f"/{SERVICE}/{method}")(garbage)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    if method == "ListDecisions":  # its empty request is valid, and unknown fields are ignored
        allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK}
    assert over(service, client) in allowed
    assert service.decisions() == []


@given(st.builds(wanted, suite=st.text(), as_of=st.text(), stage=st.integers(-1, 5), policy_document=st.binary()))
def test_no_request_breaks_the_reader(request_: pb.EvaluateRequest) -> None:
    with pytest.raises(ConfigError):
        evaluation_request(request_)


# --- the contract ---


def test_the_generated_code_is_current() -> None:
    """Compiled by buf and by protoc, the contract is the same; otherwise run `make proto`."""
    compiled = subprocess.run([BUF, "build", PROTO, "-o", "-#format=binpb"], capture_output=True, check=True).stdout
    (ours,) = [file for file in FileDescriptorSet.FromString(compiled).file if file.package == "tracegrade.gate.v1"]
    generated = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(generated)
    assert _bare(generated) == _bare(ours)


def _bare(file: FileDescriptorProto) -> FileDescriptorProto:
    """Without what depends on where the file was compiled."""
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.DiscardUnknownFields()
    for name in ("name", "source_code_info", "options"):
        bare.ClearField(name)
    for message in (*bare.message_type, *(n for m in bare.message_type for n in m.nested_type)):
        for field in message.field:
            field.ClearField("json_name")
    return bare


def test_the_contract_is_clean() -> None:
    done = subprocess.run([BUF, "lint", PROTO], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_method_is_served(service: GateService) -> None:
    async def client(channel: grpc.aio.Channel) -> set[str]:
        served = set()
        for method in pb.DESCRIPTOR.services_by_name["GateService"].methods:
            try:
                await channel.unary_unary(f"/{SERVICE}/{method.name}")(b"\xff")
            except grpc.aio.AioRpcError as error:
                served |= {method.name} if error.code() == grpc.StatusCode.INVALID_ARGUMENT else set()
        return served

    assert over(service, client) == {"Evaluate", "GetDecision", "ListDecisions", "PutSuite"}


def test_zero_is_never_a_value() -> None:
    for name, enum in pb.DESCRIPTOR.enum_types_by_name.items():
        assert enum.values_by_number[0].name == f"{name.upper()}_UNSPECIFIED"


ENUMS = {"Status": decision.Status, "Reason": decision.Reason}


def test_the_contract_says_all_that_a_decision_says() -> None:
    """Every dataclass of a decision has a message with the same fields, every enum the same words."""
    kinds = [kind for kind in vars(decision).values() if dataclasses.is_dataclass(kind)]
    assert {kind.__name__ for kind in kinds} <= set(pb.DESCRIPTOR.message_types_by_name)
    for kind in kinds:
        message = pb.DESCRIPTOR.message_types_by_name[kind.__name__]
        assert {field.json_name for field in message.fields} == {
            decision.camel(field.name) for field in dataclasses.fields(kind)
        }
        for name, hint in typing.get_type_hints(kind).items():
            optional = isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)
            field = message.fields_by_name[name]
            assert (field.containing_oneof is not None) == optional, f"{kind.__name__}.{name}"
    for name, words in ENUMS.items():
        named = {value.name for value in pb.DESCRIPTOR.enum_types_by_name[name].values if value.number}
        assert named == {f"{name.upper()}_{word.value.upper()}" for word in words}


def full_decision() -> decision.Decision:
    criterion = decision.CriterionResult(
        id="c",
        status=decision.Status.PASS_WITHIN_MARGIN,
        reason="r",
        grader="g",
        mode="m",
        bucket="b",
        tier="t",
        holds=True,
        n=1,
        estimate=-0.5,
        ci=(-0.75, 0.25),
        n_needed=2**40,
        counts={"missing": 3},
        buckets=(decision.BucketDelta("b", 1, 0.5, 2, 3),),
    )
    offence = decision.Offence("t", "s", "g", "subject", "high", "label", "<script>")
    change = decision.CaseChange("a", "b", "low", "g", None, 0.0, "likely", "fail", ("t",), (offence,))
    return decision.Decision(
        decision="rollback",
        reasons=(decision.Reason.REGRESSION, decision.Reason.BUDGET),
        summary="s",
        stage="canary",
        as_of="2026-01-02",
        baseline="version 1",
        candidate="version 2",
        suite=decision.Identity("s", "1", "d"),
        cases=2,
        policy=decision.Identity("p", "1", "d"),
        criteria=(criterion,),
        budgets=(decision.BudgetResult("b", decision.Status.NO_DATA, "r", "m", "s", "b", True, limit=0.0),),
        advisories=(),
        changes=(decision.GraderChanges("g", 1, 2, 3, None, (change,), ("f",), ("k",)),),
        health=(decision.HealthNote("h", True, "m"),),
        evidence_digest="e",
        stats="1",
    )


def test_a_full_decision_arrives_whole() -> None:
    document = full_decision().to_json() | {"id": "i", "decidedAt": "2026-01-02T03:04:05.678+00:00"}
    made = stored_decision(document)
    (criterion,) = made.decision.criteria
    assert (criterion.estimate, criterion.ci.low, criterion.ci.high) == (-0.5, -0.75, 0.25)
    assert (criterion.n_needed, dict(criterion.counts)) == (2**40, {"missing": 3})
    assert not criterion.HasField("margin")
    (budget,) = made.decision.budgets
    assert (budget.HasField("limit"), budget.HasField("ci")) == (True, False), "zero is said, nothing is not"
    (case,) = made.decision.changes[0].failures
    assert (case.HasField("baseline"), case.candidate, case.offences[0].reason) == (False, 0.0, "<script>")
    assert made.decided_at.ToJsonString() == "2026-01-02T03:04:05.678Z"
    assert made.exit_code == 1
    told = MessageToDict(made.decision, always_print_fields_with_no_presence=True)
    assert agree(told, {key: value for key, value in document.items() if key in told})


def agree(told: Any, said: Any) -> bool:
    """Whether a message in JSON says what a document says."""
    match said:
        case dict():
            return all(agree(told.get(key), value) for key, value in said.items())
        case list() if isinstance(told, dict):
            return list(told.values()) == said
        case list():
            return len(told) == len(said) and all(map(agree, told, said))
        case str():
            return bool(told == said or told.endswith(f"_{said.upper()}"))
        case int() | float():
            return float(told) == said
    return told is None


def test_an_unknown_word_is_never_zero() -> None:
    with pytest.raises(KeyError):
        stored_decision(full_decision().to_json() | {"decision": "maybe"})
