"""The gate over gRPC, as `proto/tracegrade/gate/v1/gate.proto` has it, and whether it is healthy.

Promises the same answers and errors as REST; a malformed message is the caller's mistake and not a defect. The trailers of
an error are bounded, because clients refuse more than 8 KiB: problems that do not fit are counted. Who may call, how many
at once and how large a message may be is the server's, see `OPTIONS`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import ValidationError

from gate.pb import gate_pb2 as pb
from gate.policy import GatePolicy
from gate.service import EvaluationRequest, GateService, NotFound
from store.cases import canonical
from store.errors import Retryable, StoreError
from store.yamlfile import ConfigError, Problem, parse_yaml, problems_of

SERVICE: Final = "tracegrade.gate.v1.GateService"
MAX_MESSAGE: Final = 17 * 1024 * 1024
"""Room for the largest suite."""
OPTIONS: Final = (("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.so_reuseport", 0))
"""For the server this is added to."""
RETRY_SECONDS: Final = 5
MAX_TEXT: Final = 500
MAX_DETAILS: Final = 3000
MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 50

_log = logging.getLogger(__name__)
_Q = TypeVar("_Q", bound=Message)


def add_gate(server: grpc.aio.Server, service: GateService) -> None:
    """Serve the gate and its health on `server`, which has not started yet."""
    front = _Front(service)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, front.handlers()),))
    health_pb2_grpc.add_HealthServicer_to_server(_Health(service), server)


class _Front:
    def __init__(self, service: GateService) -> None:
        self._service = service
        self._evaluations = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grpc-evaluation")

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        return {
            "Evaluate": _handler(pb.EvaluateRequest, self._evaluate),
            "GetDecision": _handler(pb.GetDecisionRequest, _threaded(self._get)),
            "ListDecisions": _handler(pb.ListDecisionsRequest, _threaded(self._list)),
            "PutSuite": _handler(pb.PutSuiteRequest, _threaded(self._put)),
        }

    async def _evaluate(self, request: pb.EvaluateRequest) -> Message:
        plan = await asyncio.to_thread(lambda: self._service.plan(evaluation_request(request)))

        def carry_out() -> Message:
            stored = self._service.carry_out(plan, uuid.uuid4().hex)
            return pb.EvaluateResponse(decision=stored_decision(stored.document))

        return await asyncio.get_running_loop().run_in_executor(self._evaluations, carry_out)

    def _get(self, request: pb.GetDecisionRequest) -> Message:
        stored = stored_decision(self._service.get(request.id))
        if (superseded := self._service.superseded(request.id)) is not None:
            stored.superseded_evidence.SetInParent()
            _fill(stored.superseded_evidence, superseded)
        return pb.GetDecisionResponse(decision=stored)

    def _list(self, request: pb.ListDecisionsRequest) -> Message:
        if not 0 <= request.limit <= MAX_LIMIT:
            message = f"is {request.limit}; give 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}"
            raise ConfigError([Problem("request", 0, "limit", message)])
        answer = pb.ListDecisionsResponse()
        for row in self._service.decisions(request.suite, request.limit or DEFAULT_LIMIT):
            _fill(answer.decisions.add(), row)
        return answer

    def _put(self, request: pb.PutSuiteRequest) -> Message:
        suite = self._service.save_suite(request.document, "document")
        return pb.PutSuiteResponse(name=suite.name, digest=suite.digest, cases=len(suite.cases))


class _Health(health.aio.HealthServicer):  # type: ignore[misc]
    """Whether the store answers, asked anew by each Check; Watch hears what a Check found."""

    def __init__(self, service: GateService) -> None:
        super().__init__()
        self._service = service

    async def Check(self, request: Any, context: Any) -> Any:
        try:
            await asyncio.to_thread(self._service.ping)
            status = health_pb2.HealthCheckResponse.SERVING
        except StoreError:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self.set(name, status)
        return await super().Check(request, context)


def _threaded(call: Callable[[Any], Message]) -> Callable[[Any], Awaitable[Message]]:
    async def answer(request: Any) -> Message:
        return await asyncio.to_thread(call, request)

    return answer


def _handler(kind: type[_Q], answer: Callable[[_Q], Awaitable[Message]]) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return (await answer(kind.FromString(body))).SerializeToString()
        except Exception as error:
            code, status = status_of(error)
        return await context.abort(code, status.message, (("grpc-status-details-bin", status.SerializeToString()),))

    # Without deserializer the handler gets bytes: gRPC would call what does not parse a defect of the server.
    return grpc.unary_unary_rpc_method_handler(handle)


# --- errors ---


def status_of(error: Exception) -> tuple[StatusCode, Status]:
    """The one table from what went wrong to what the caller is told."""
    if isinstance(error, DecodeError):
        return _status(StatusCode.INVALID_ARGUMENT, "the message is not of the type this method takes")
    if isinstance(error, ConfigError):
        return _status(StatusCode.INVALID_ARGUMENT, *_bad_request(error.problems))
    if isinstance(error, NotFound):
        return _status(StatusCode.NOT_FOUND, str(error))
    if isinstance(error, Retryable):
        retry = RetryInfo(retry_delay=Duration(seconds=RETRY_SECONDS))
        return _status(StatusCode.UNAVAILABLE, f"the store did not answer: {error}", retry)
    if isinstance(error, StoreError):
        return _status(StatusCode.INTERNAL, str(error))
    _log.exception("the gate failed", exc_info=error)
    return _status(StatusCode.INTERNAL, f"{type(error).__name__}; the log has the details")


def _status(code: StatusCode, message: str, *details: Message) -> tuple[StatusCode, Status]:
    status = Status(code=code.value[0], message=_cut(message))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return code, status


def _bad_request(problems: Sequence[Problem]) -> tuple[str, Message]:
    """A message and the problems, as many as fit."""
    found = BadRequest()
    for told, problem in enumerate(problems):
        of_request = problem.file == "request"
        field = problem.key if of_request else f"{problem.file}#{problem.key}" if problem.key else problem.file
        violation = BadRequest.FieldViolation(
            field=_cut(field), description=_cut(problem.message if of_request else str(problem))
        )
        if found.ByteSize() + violation.ByteSize() > MAX_DETAILS:
            left = len(problems) - told
            return f"{len(problems)} problem(s); {left} of them are left out, for want of room", found
        found.field_violations.append(violation)
    return f"{len(problems)} problem(s): {problems[0]}", found


def _cut(text: str) -> str:
    """At most `MAX_TEXT` bytes of UTF-8."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > MAX_TEXT:
        return encoded[: MAX_TEXT - 3].decode("utf-8", "ignore") + "…"
    return encoded.decode()


# --- from the wire ---


def evaluation_request(request: pb.EvaluateRequest) -> EvaluationRequest:
    """The request as the service takes it. Raises `ConfigError` with every problem."""
    problems: list[Problem] = []

    def refuse(key: str, message: str) -> None:
        problems.append(Problem("request", 0, key, message))

    values: dict[str, Any] = {"suite": request.suite, "suite_digest": request.suite_digest}
    match request.WhichOneof("policy"):
        case "policy_name":
            values["policy"] = request.policy_name
        case "policy_document":
            try:
                values["policy"] = parse_yaml(request.policy_document, GatePolicy, "policy_document")
            except ConfigError as error:
                problems.extend(error.problems)
        case _:
            refuse("policy", "is not set; give policy_name or policy_document")
    for name, arm in (("baseline", request.baseline), ("candidate", request.candidate)):
        kind = arm.WhichOneof("selector")
        if kind is None:
            refuse(name, "is not set; give version or run")
        else:
            values[name] = {"kind": kind, "value": getattr(arm, kind), "service": arm.service}
    if request.stage in (pb.STAGE_OFFLINE, pb.STAGE_CANARY):
        values["stage"] = _word(pb.Stage.DESCRIPTOR, request.stage)
    else:
        refuse("stage", f"is {request.stage}; known: STAGE_OFFLINE (1), STAGE_CANARY (2)")
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", request.as_of, re.ASCII):
        values["as_of"] = request.as_of
    elif request.as_of:
        refuse("as_of", f"is {request.as_of[:40]!r}; give a date as YYYY-MM-DD, or nothing for today")
    try:
        wanted = EvaluationRequest.model_validate(values)
    except ValidationError as error:
        places: dict[tuple[str | int, ...], int] = {(key,): 0 for key in values}
        places |= {(arm, "value"): 0 for arm in ("baseline", "candidate")}
        for problem in problems_of(error, EvaluationRequest, "request", places):
            told = {other.key for other in problems}  # of a union, only what the first member says
            name, _, leaf = problem.key.partition(".")
            key = f"{name}.{values[name]['kind']}" if leaf == "value" else problem.key
            if name in values and key not in told:
                refuse(key, problem.message)
    if problems:
        raise ConfigError(problems)
    return wanted


# --- to the wire ---


def stored_decision(document: Mapping[str, Any]) -> pb.StoredDecision:
    """A decision document as a message."""
    stored = pb.StoredDecision(document=canonical(document).decode())
    _fill(stored, {**document, "decision": document, "document": stored.document})
    return stored


def _fill(message: Message, values: Mapping[str, Any]) -> None:
    """Set every field from the value of its JSON name; what is absent or None stays unset."""
    for field in message.DESCRIPTOR.fields:
        value = values.get(field.json_name)
        if value is None:
            continue
        kind = field.message_type
        target = getattr(message, field.name)
        if field.enum_type is not None:
            found = [_number(field.enum_type, word) for word in (value if field.is_repeated else [value])]
            if field.is_repeated:
                target.extend(found)
            else:
                setattr(message, field.name, found[0])
        elif kind is None:
            if field.is_repeated:
                target.extend(value)
            else:
                setattr(message, field.name, value)
        elif kind.GetOptions().map_entry:
            target.update(value)
        elif field.is_repeated:
            for item in value:
                _fill(target.add(), item)
        elif isinstance(target, Timestamp):
            target.FromJsonString(value)
        elif isinstance(target, pb.Interval):
            target.low, target.high = value
        else:
            target.SetInParent()
            _fill(target, value)


def _prefix(enum: Any) -> str:
    return f"{enum.name.upper()}_"


def _number(enum: Any, word: str) -> int:
    """An enum's number for the word a document has for it."""
    return int(enum.values_by_name[_prefix(enum) + word.upper()].number)


def _word(enum: Any, number: int) -> str:
    return str(enum.values_by_number[number].name).removeprefix(_prefix(enum)).lower()
