"""Every recorded fixture, through the front door into the store, comes out of the assembler as what really happened.

`fixtures/<fixture>/<scenario>/` holds the bodies an exporter sent and `about.yaml`; `scenarios.yaml` says what happened.
For each fixture the canonical traces equal `expected.json` (`UPDATE_GOLDEN=1` writes it, for a person to review) and the
truth, less what `invisible` names: that must really be absent, so that a claim about what telemetry cannot show is proven and
not stated. `truth` in about.yaml says where a run was different from its scenario (a framework that forces a model's name).
The same bodies as gzipped OTLP/JSON give the same traces. Last, the capability table must agree with all of it.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import difflib
import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.service import Collector
from collector.settings import CollectorSettings
from graders.assembler import assemble
from graders.content import decode
from graders.messages import finish_reasons
from graders.usage import usage_of
from store.client import Dsn, Store, connect
from store.dialects import FACTS, mapping
from store.types import ContentState, Span, SpanKind, ToolCall, Trace

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
SCENARIOS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "scenarios.yaml").read_text("utf-8"))
REQUESTS = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
CONTENT_TYPES = {".pb": "application/x-protobuf", ".json": "application/json"}
RECORDED = sorted(path.parent for path in FIXTURES.glob("*/*/about.yaml"))
NAMES = [f"{path.parent.name}/{path.name}" for path in RECORDED]


@cache
def read_about(path: Path) -> dict[str, Any]:
    """What is said of a fixture."""
    return dict(yaml.safe_load((path / "about.yaml").read_text("utf-8")))


@dataclass(frozen=True)
class Fixture:
    """One recorded scenario."""

    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def about(self) -> dict[str, Any]:
        return read_about(self.path)

    @property
    def invisible(self) -> set[str]:
        return set(self.about["invisible"])

    @property
    def truth(self) -> dict[str, Any]:
        """What happened: the scenario, but for what this run did otherwise."""
        truth = dict(SCENARIOS[self.path.name])
        for fact, value in (self.about.get("truth") or {}).items():
            if fact == "calls":
                truth["calls"] = [{**call, **value.get(call["name"], {})} for call in truth["calls"]]
            else:
                truth[fact] = value
        return truth

    def bodies(self) -> Iterator[tuple[str, str, bytes]]:
        """Signal, suffix and decompressed body of each request."""
        for path in sorted(self.path.glob("[0-9][0-9][0-9].*")):
            signal, suffix = path.name.split(".")[1:3]
            body = path.read_bytes()
            yield signal, f".{suffix}", gzip.decompress(body) if path.suffix == ".gz" else body


def parsed(signal: str, suffix: str, body: bytes) -> Any:
    """The request as a message; JSON ids are hex in OTLP and base64 in protobuf's own JSON."""
    from collector.otlp import Encoding, accept  # the front door's translation

    encoding = Encoding.PROTOBUF if suffix == ".pb" else Encoding.JSON
    return REQUESTS[signal].FromString(accept(signal, encoding, body).payload)  # type: ignore[arg-type]


def records(request: Any) -> Iterator[Any]:
    """The spans or log records of a request."""
    for resource in getattr(request, "resource_spans", None) or getattr(request, "resource_logs", ()):
        for scope in getattr(resource, "scope_spans", None) or getattr(resource, "scope_logs", ()):
            yield from getattr(scope, "spans", None) or getattr(scope, "log_records", ())


def as_json(request: Any) -> bytes:
    """OTLP/JSON of a request, as another exporter would send it, under trace ids of its own."""

    def hex_ids(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: base64.b64decode(item).hex() if key in ("traceId", "spanId", "parentSpanId") else hex_ids(item)
                for key, item in value.items()
            }
        return [hex_ids(item) for item in value] if isinstance(value, list) else value

    for record in records(request):
        record.trace_id = record.trace_id[::-1]
    return json.dumps(hex_ids(MessageToDict(request, use_integers_for_enums=True))).encode()


@dataclass(frozen=True)
class Loaded:
    """What the store has of every fixture."""

    store: Store
    ids: dict[str, list[str]]

    @cache  # noqa: B019  as long as the module
    def _all(self) -> dict[str, Trace]:
        wanted = [trace_id for ids in self.ids.values() for trace_id in (*ids, *map(mirrored, ids))]
        logs = self.store.logs(wanted)
        return {trace: assemble(spans, logs.get(trace, ())) for trace, spans in self.store.spans(wanted).items()}

    def traces(self, fixture: str, again: bool = False) -> list[Trace]:
        """The traces of a fixture, in the order they began; `again`: as they were sent a second time, as JSON."""
        found = self._all()
        ids = self.ids[fixture]
        traces = [found[mirrored(trace_id) if again else trace_id] for trace_id in ids]
        return sorted(traces, key=lambda trace: trace.spans[0].start_ns)

    def __hash__(self) -> int:
        return id(self)


def mirrored(trace_id: str) -> str:
    """The id under which a trace is sent the second time."""
    return bytes.fromhex(trace_id)[::-1].hex()


@pytest.fixture(scope="module")
def loaded(engine_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """All fixtures in one database, sent over HTTP as recorded and again as gzipped JSON."""
    with connect(Dsn(embedded=True, path=str(engine_path), database="dialects")) as store:
        store.apply_schema()
        ids: dict[str, list[str]] = {}
        with listening(store, tmp_path_factory.mktemp("buffer")) as post:
            for fixture in map(Fixture, RECORDED):
                found: set[str] = set()
                for signal, suffix, body in fixture.bodies():
                    post(signal, body, {"content-type": CONTENT_TYPES[suffix]})
                    request = parsed(signal, suffix, body)
                    if signal == "traces":
                        found |= {span.trace_id.hex() for span in records(request)}
                    again = gzip.compress(as_json(request))
                    post(signal, again, {"content-type": "application/json", "content-encoding": "gzip"})
                ids[fixture.name] = sorted(found)
        yield Loaded(store, ids)


Post = Callable[[str, bytes, dict[str, str]], None]


class listening:
    """A collector in front of a store; on leaving, all that was posted is in the store."""

    def __init__(self, store: Store, buffer: Path) -> None:
        settings = CollectorSettings(buffer_dir=buffer, grpc_port=0, http_port=0, segment_age_seconds=2)
        self.collector = Collector(settings, store)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.client = httpx.Client(trust_env=False)

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(200)

    def __enter__(self) -> Post:
        self.thread.start()
        self._run(self.collector.start())
        return self._post

    def _post(self, signal: str, body: bytes, headers: dict[str, str]) -> None:
        answer = self.client.post(
            f"http://127.0.0.1:{self.collector.http_port}/v1/{signal}", content=body, headers=headers
        )
        assert answer.status_code == 200, answer.text

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._run(self.collector.stop(180))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


# --- the canonical form -------------------------------------------------------------------------------------------------


def leaves(trace: Trace) -> list[Span]:
    """Model calls that hold no other."""
    outer = {s.parent_span_id for s in trace.spans if s.kind is SpanKind.LLM}
    return [s for s in trace.spans if s.kind is SpanKind.LLM and s.span_id not in outer]


def canonical(trace: Trace) -> dict[str, Any]:
    """A trace as it is kept for review: without ids and times of the recording."""
    position = {call.key: call.index for call in trace.tool_calls}
    return {
        "dialects": list(trace.dialects),
        "completeness": trace.completeness,
        "spans": [f"{span.kind}: {span.name}" for span in trace.spans],
        "agents": sorted({span.agent for span in trace.spans if span.agent}),
        "conversations": sorted({span.conversation_id for span in trace.spans if span.conversation_id}),
        "models": [
            {
                "model": span.model,
                "tokens": [span.input_tokens, span.output_tokens],
                "finish": [[reason.canonical, reason.raw] for reason in finish_reasons(span)],
            }
            for span in leaves(trace)
        ],
        "tools": [
            {"name": tool.name, "parameters": sorted((tool.parameters or {}).get("properties") or {})}
            for tool in trace.tool_definitions
        ],
        "messages": [
            {
                "role": message.role,
                "text": message.text,
                **({"calls": [position[key] for key in message.tool_call_ids]} if message.tool_call_ids else {}),
                **({"answers": position.get(message.tool_call_id)} if message.role == "tool" else {}),
            }
            for message in trace.messages
        ],
        "calls": [
            {
                "name": call.name,
                "call_id": call.call_id,
                "arguments": call.arguments if call.arguments is not None else call.arguments_text,
                "arguments_state": call.arguments_state,
                "result": decode(call.result),
                "result_state": call.result_state,
                "executed": call.executed,
                "error": call.error,
                "agent": call.agent,
                **({"provider_executed": True} if call.provider_executed else {}),
            }
            for call in trace.tool_calls
        ],
        "documents": [
            {
                "id": d.id,
                "text": d.text,
                "score": d.score,
                "source": d.source,
                "for_answer": d in trace.answer_documents,
            }
            for d in trace.documents
        ],
        "approvals": [
            {
                "outcome": approval.outcome,
                "mechanism": approval.mechanism,
                "call_id": approval.call_id,
                "tool": approval.tool_name,
                "evidence": approval.evidence,
            }
            for approval in trace.approvals
        ],
        "answer": trace.answer,
        "answer_state": trace.answer_state,
    }


# --- what happened, and what came out -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What all traces of a fixture show of one fact."""

    wanted: Any
    got: Any
    absent: bool


def calls_named(traces: Sequence[Trace], name: str) -> list[ToolCall]:
    return [call for trace in traces for call in trace.tool_calls if call.name == name]


def last_word(calls: Sequence[ToolCall]) -> ToolCall:
    """A call that was paused and resumed stands in two traces: the one in which it ran counts, else the last."""
    told = [c for c in calls if c.executed is not None]
    return next((c for c in reversed(told) if c.executed), told[-1] if told else calls[-1])


def seen(fixture: Fixture, traces: Sequence[Trace]) -> dict[str, Seen]:
    """Every fact that the scenario has, as it was and as it came out."""
    truth = fixture.truth
    facts: dict[str, Seen] = {}

    def fact(name: str, wanted: Any, got: Any) -> None:
        facts[name] = Seen(wanted, got, not got)

    said = [message for trace in traces for message in trace.messages]
    for role in ("system", "user"):
        if role in truth:
            texts = list(dict.fromkeys(m.text.strip() for m in said if m.role == role and m.text.strip()))
            fact(role, truth[role], texts[0] if len(texts) == 1 else texts)
    if "answer" in truth:
        answers = [trace.answer.strip() for trace in traces if trace.answer]
        fact("answer", truth["answer"], answers[-1] if answers else "")
    models = [span for trace in traces for span in leaves(trace)]
    if "model" in truth:
        fact("model", [truth["model"]], sorted({span.model for span in models if span.model}))
    if "tokens" in truth:
        told = [
            [used.input, used.output]
            for trace in traces
            for used in usage_of(trace).tokens
            if used.input or used.output
        ]
        facts["tokens"] = Seen(truth["tokens"], told, len(told) < len(truth["tokens"]))
    spans = [span for trace in traces for span in trace.spans]
    if "conversation" in truth:
        fact("conversation", [truth["conversation"]], sorted({s.conversation_id for s in spans} - {""}))
    if "agent" in truth:  # frameworks make their own names of what they are given
        names = sorted({s.agent for s in spans} - {""})
        fact("agent", names if names and set(names) <= set(truth["agent"]) else truth["agent"], names)
    if "catalogue" in truth:
        fact("catalogue", truth["catalogue"], sorted({d.name for trace in traces for d in trace.tool_definitions}))
    facts |= documents_seen(truth, traces)
    facts |= calls_seen(truth, traces)
    return facts


def agrees(wanted: Any, got: Any) -> bool:
    """Equal; `{holds: text}` is a text that stands in what came out, for what a framework wraps in words of its own."""
    if isinstance(wanted, dict) and wanted.keys() == {"holds"}:
        return any(wanted["holds"] in text for text in ([got] if isinstance(got, str) else got))
    return bool(wanted == got)


def lenient(text: str) -> Any:
    """JSON, or the Python literal some frameworks write instead."""
    value = decode(text)
    try:
        return ast.literal_eval(value) if isinstance(value, str) and value[:1] in "{[" else value
    except (ValueError, SyntaxError):
        return value


def documents_seen(truth: dict[str, Any], traces: Sequence[Trace]) -> dict[str, Seen]:
    wanted = truth.get("documents", [])
    got = [document for trace in traces for document in trace.answer_documents]
    facts = {}
    for name, field in (("documents", "text"), ("document_ids", "id"), ("document_scores", "score")):
        if wanted:
            values = [getattr(document, field) for document in got]
            facts[name] = Seen([d[field] for d in wanted], values, not any(v not in ("", None) for v in values))
    return facts


def calls_seen(truth: dict[str, Any], traces: Sequence[Trace]) -> dict[str, Seen]:
    """Facts about calls, each as a list with one entry a call."""
    wanted = truth.get("calls", [])
    if not wanted:
        return {}
    found = {call["name"]: calls_named(traces, call["name"]) for call in wanted}
    missing = [name for name, calls in found.items() if not calls]
    extra = sorted(
        {call.name for trace in traces for call in trace.tool_calls} - set(found) - set(truth.get("also", ()))
    )
    facts = {"calls": Seen({"missing": [], "extra": []}, {"missing": missing, "extra": extra}, False)}
    if (
        len(missing) == len(wanted) and not extra
    ):  # no trace of a call at all: then all that could be known of one is invisible
        return {
            name: Seen("", "", True)
            for name in ("arguments", "result", "error", "executed", "call_id")
            if name in wanted[-1]
        }
    if missing:
        return facts
    got = [last_word(found[call["name"]]) for call in wanted]

    def column(name: str, values: list[Any], absent: bool) -> None:
        asked = [at for at, call in enumerate(wanted) if name in call]
        facts[name] = Seen([wanted[at][name] for at in asked], [values[at] for at in asked], absent)

    column("arguments", [call.arguments for call in got], all(call.arguments is None for call in got))
    results = [lenient(call.result) if call.result_state is ContentState.PRESENT else None for call in got]
    column("result", results, all(call.result_state is not ContentState.PRESENT for call in got))
    errors = [
        wanted[at].get("error", "") if wanted[at].get("error", "\0") in c.error else c.error for at, c in enumerate(got)
    ]
    column("error", errors, not any(w["error"] in c.error for w, c in zip(wanted, got, strict=True) if w.get("error")))
    right = all(call.executed in (None, w["executed"]) for call, w in zip(got, wanted, strict=True))
    column("executed", [call.executed for call in got], right and any(call.executed is None for call in got))
    ids = [{c.call_id for c in found[call["name"]]} - {""} for call in wanted]
    told_ids = [
        w.get("call_id") if w.get("call_id") in known else next(iter(known), "")
        for w, known in zip(wanted, ids, strict=True)
    ]
    column("call_id", told_ids, not any(told_ids))
    decisions = truth.get("decisions", [])
    approvals = [a for trace in traces for a in trace.approvals]
    for decision in decisions:
        call = last_word(found[wanted[-1]["name"]])
        about = [a for a in approvals if a.tool_name == call.name or (a.call_id and a.call_id == call.call_id)]
        outcomes = sorted({a.outcome for a in about})
        for name in ("pending", "denied", "approved", "edited"):
            if name in decision:
                shown = [o for o in outcomes if o in decision[name]]
                facts[name] = Seen(True, bool(shown), not shown)
        if "decider" in decision:
            told = [a for a in about if a.evidence != "text_match"]  # a text says nothing of who wrote it
            mechanisms = sorted({a.mechanism for a in told} - {"unknown"})
            facts["decider"] = Seen([truth.get("decider", decision["decider"])], mechanisms, not mechanisms)
    return facts


# --- tests --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_came_out_is_what_happened(name: str, loaded: Loaded) -> None:
    fixture = Fixture(FIXTURES / name)
    traces = loaded.traces(name)
    facts = seen(fixture, traces)
    wrong = []
    dialects = {dialect for trace in traces for dialect in trace.dialects}
    if fixture.about["dialect"] not in dialects:
        wrong.append(
            f"dialect: about.yaml says {fixture.about['dialect']}, recognised are {', '.join(sorted(dialects))}"
        )
    unknown = fixture.invisible - set(FACTS)
    if unknown:
        wrong.append(f"about.yaml: invisible names {sorted(unknown)}; known are {', '.join(FACTS)}")
    for fact, found in facts.items():
        if fact in fixture.invisible:
            if not found.absent:
                wrong.append(f"{fact}: declared invisible, and here it is: {found.got!r}")
        elif not agrees(found.wanted, found.got):
            wrong.append(f"{fact}: wanted {found.wanted!r}\n{' ' * len(fact)}     got {found.got!r}")
    assert not wrong, f"{name}\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_canonical_traces_are_as_reviewed(name: str, loaded: Loaded) -> None:
    path = FIXTURES / name / "expected.json"
    got = json.dumps([canonical(trace) for trace in loaded.traces(name)], indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(got, encoding="utf-8")
    assert path.exists(), f"{name} has no expected.json; review what UPDATE_GOLDEN=1 writes"
    wanted = path.read_text("utf-8")
    if got != wanted:
        changed = difflib.unified_diff(wanted.splitlines(), got.splitlines(), "expected.json", "now", lineterm="", n=2)
        pytest.fail(f"{name}\n" + "\n".join(changed), pytrace=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_gzipped_json(name: str, loaded: Loaded) -> None:
    assert [canonical(t) for t in loaded.traces(name)] == [canonical(t) for t in loaded.traces(name, again=True)]


def groups(loaded: Loaded) -> dict[tuple[str, str], list[Fixture]]:
    """The fixtures of each dialect, and of each of its variants."""
    found: dict[tuple[str, str], list[Fixture]] = {}
    for fixture in map(Fixture, RECORDED):
        dialect = fixture.about["dialect"]
        spans = [span for trace in loaded.traces(fixture.name) for span in trace.spans if span.dialect == dialect]
        variants = {v.title for span in spans if (v := mapping().dialects[dialect].variant(span.scope))}
        found.setdefault((dialect, next(iter(sorted(variants)), "")), []).append(fixture)
    return found


def shown(fixture: Fixture, loaded: Loaded) -> dict[str, bool]:
    """Which of the facts that this run had its telemetry shows."""
    return {
        fact: fact not in fixture.invisible
        for fact, found in seen(fixture, loaded.traces(fixture.name)).items()
        if fact in FACTS and found.wanted not in ([], [None], None, "")
    }


def proven(fixtures: Sequence[Fixture], loaded: Loaded) -> dict[str, set[str]]:
    """What the fixtures of a group prove of each fact: the values that the capability table may have.

    `no`: no recording shows it; `opt_in`: one does, and none with content capture off; `yes`: one with it off does.
    """
    on: dict[str, list[bool]] = {}
    off: dict[str, list[bool]] = {}
    for fixture in fixtures:
        for fact, visible in shown(fixture, loaded).items():
            (off if fixture.path.name == "content_off" else on).setdefault(fact, []).append(visible)
    values: dict[str, set[str]] = {}
    for fact, seen_on in on.items():
        without = off.get(fact)
        # Graders take a missing approval for a breach where approvals are shown: so it must be all of them.
        if not (all(seen_on) if fact == "approved" else any(seen_on)):
            values[fact] = {"no"}
        elif without is None:
            values[fact] = {"yes", "opt_in"}
        else:
            values[fact] = {"yes"} if any(without) else {"opt_in"}
    return values


def test_the_capability_table_says_what_the_recordings_prove(loaded: Loaded) -> None:
    wrong = []
    for (dialect, variant), fixtures in sorted(groups(loaded).items()):
        known = mapping().dialects[dialect]
        table = known.capabilities()
        for v in known.variants:
            if v.title == variant:
                table |= v.capabilities()
        for fact, values in proven(fixtures, loaded).items():
            if table[fact] not in values:
                names = ", ".join(f.name for f in fixtures)
                said = " or ".join(sorted(values))
                wrong.append(f"{dialect} {variant}: {fact} is {table[fact]}, the recordings say {said} ({names})")
    assert not wrong, "\n".join(wrong)


def test_the_page_about_dialects_is_current() -> None:
    from .docs import TARGET, page

    assert TARGET.read_text("utf-8") == page(), "docs/dialects.md is not what `make docs` writes"
