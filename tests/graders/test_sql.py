"""Every query of docs/sql.md on an embedded engine with varied traces, which came over OTLP and were graded by the worker.

Each gives rows, under the columns its output in the page shows. `UPDATE_GOLDEN=1` writes those outputs, for a person to read.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gate.evidence import ArmSelector
from gate.policy import GatePolicy
from gate.service import EvaluationRequest, GateService
from gate.suite import parse_suite
from graders import AgentPolicy, Grader, GraderSets, Score, Trace, grader_types, load_graders, passed
from graders.testing import START_NS, agent, conversation, model, span, tool, trace
from graders.worker import Worker
from store.client import Store
from store.types import LogEvent, Span

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
RECIPE = re.compile(r"^### (.+?)\n\n(.+?)\n\n```sql\n(.+?)```\n\n```text\n(.*?)```", re.MULTILINE | re.DOTALL)
TEXT = PAGE.read_text(encoding="utf-8")
RECIPES = {title: (sentence, query, output) for title, sentence, query, output in RECIPE.findall(TEXT)}

DAY_NS = 86_400 * 10**9
STATUS = {"Unset": 0, "Ok": 1, "Error": 2}
POLICY = AgentPolicy.model_validate(
    {
        "tools": [{"match": "get_*", "effect": "read"}, {"match": "send_refund", "effect": "irreversible"}],
        "approval": {"explicit": {"mechanisms": ["human"], "absence": "breach"}},
    }
)
SUITE = '{"name": "shop", "cases": [{"id": "late-parcel", "bucket": "orders"}, {"id": "refund", "bucket": "refunds"}]}'


class Fragile(Grader, name="test/tone", version="1"):
    """Breaks when somebody shouts."""

    def grade(self, trace: Trace) -> Score:
        if trace.answer.endswith("!"):
            raise ValueError("no words in capitals are known")
        return passed("calm")


def id_of(*names: object, length: int = 32) -> str:
    """Hex digits that look like those of a real span."""
    return hashlib.md5(repr(names).encode(), usedforsecurity=False).hexdigest()[:length]


class Shop:
    """Sends traces as an agent's exporter does, days ago and in several versions."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._sent = 0
        graders = {name: {} for name in grader_types() if not name.startswith("test/")}
        sets = GraderSets((*load_graders(graders, policy=POLICY), Fragile()))
        self._worker = Worker(store, sets, grace_ms=0, idle_ms=60_000)

    def trace(
        self, number: int, made: Trace, *, days: float, version: str, only: slice = slice(None), **more: str
    ) -> str:
        """Store a trace, or the spans of it that `only` names, under an id made of a number."""
        trace_id = id_of(number)
        shift = time.time_ns() - round(days * DAY_NS) - START_NS
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        group.resource.attributes.add(key="service.name").value.string_value = "shop"
        group.resource.attributes.add(key="service.version").value.string_value = version
        scope = group.scope_spans.add()
        for item in made.spans[only]:
            self._span(scope, replace(item, trace_id=trace_id), shift, more)
        self._load("traces", request)
        records = ExportLogsServiceRequest()
        for event in made.logs:
            self._log(records, replace(event, trace_id=trace_id), shift)
        if made.logs:
            self._load("logs", records)
        return trace_id

    def _span(self, scope: Any, item: Span, shift: int, more: dict[str, str]) -> None:
        sent = scope.spans.add(
            trace_id=bytes.fromhex(item.trace_id),
            span_id=bytes.fromhex(id_of(item.trace_id, item.span_id, length=16)),
            parent_span_id=bytes.fromhex(
                id_of(item.trace_id, item.parent_span_id, length=16) if item.parent_span_id else ""
            ),
            name=item.name,
            start_time_unix_nano=item.start_ns + shift,
            end_time_unix_nano=item.end_ns + shift,
        )
        sent.status.code = STATUS[item.status]
        for key, value in {**item.attributes, **more}.items():
            sent.attributes.add(key=key).value.string_value = value

    @staticmethod
    def _log(records: ExportLogsServiceRequest, event: LogEvent, shift: int) -> None:
        record = records.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=event.time_ns + shift)
        record.trace_id, record.event_name = bytes.fromhex(event.trace_id), event.name
        for key, value in event.attributes.items():
            record.attributes.add(key=key).value.string_value = value

    def _load(self, signal: Any, request: Any) -> None:
        self._sent += 1
        body = request.SerializeToString()
        path = self._folder / f"{self._sent}"
        path.write_bytes(_VarintBytes(len(body)) + body)
        self._store.load(signal, f"sql-{self._sent}", path)

    def grade(self) -> None:
        time.sleep(0.01)
        while self._worker.run_once():
            pass


def talks(*steps: dict[str, Any], model_name: str = "gpt-4o-mini", provider: str = "openai") -> Trace:
    """A conversation whose model calls tell model, provider, tokens and time to first token."""
    told = []
    for number, step in enumerate(steps):
        if "assistant" in step:
            used = {
                "gen_ai.request.model": model_name,
                "gen_ai.provider.name": provider,
                "gen_ai.usage.input_tokens": 1200 + 400 * number,
                "gen_ai.usage.output_tokens": 90,
                "gen_ai.response.time_to_first_chunk": 0.2 + 0.05 * number,
            }
            step = {**step, "attributes": {**used, **step.get("attributes", {})}}
        told.append(step)
    return conversation(told)


def asks(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"assistant": "", "calls": [{"id": call_id, "name": name, "arguments": arguments}]}


def gets(name: str, call_id: str, result: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": name, "id": call_id, "arguments": arguments, "result": result}


ORDER = (
    {"user": "Where is order 7?"},
    asks("get_order", "a1", id=7),
    gets("get_order", "a1", '{"state": "shipped"}', id=7),
)
REFUND = ({"user": "Refund order 7."}, asks("send_refund", "b1", id=7, amount=42.5))
PAID = gets("send_refund", "b1", '{"paid": 42.5}', id=7, amount=42.5)
DONE = {"assistant": "I refunded 42.50 for order 7."}
HUMAN = {"decider.id": "anna@shop.example", "mechanism": "human"}
DOCUMENTS = {
    "retrieved": [
        {"id": "returns-2024", "content": "Returns are free within 30 days.", "score": 0.9},
        {"id": "shipping", "content": "Parcels take 3 days.", "score": 0.4},
    ]
}


def old_dialect() -> Trace:
    """An agent that captures no content, in another dialect."""
    root = span("agent", {"openinference.span.kind": "AGENT"}, span_id="a" * 16, end=50)
    call = {"openinference.span.kind": "LLM", "llm.model_name": "house-model", "llm.token_count.prompt": 500}
    return trace(
        root,
        span("llm", {**call, "llm.token_count.completion": 20}, span_id="b" * 16, start=1, end=20),
        span(
            "get_order",
            {"openinference.span.kind": "TOOL", "tool.name": "get_order"},
            span_id="c" * 16,
            start=21,
            end=30,
        ),
    )


def fill(shop: Shop) -> None:
    shipped = {"assistant": "It is shipped."}
    broken = gets("get_order", "a1", "Error: the order service does not answer", id=7)
    invented = {"assistant": "Returns are free within 90 days [doc-9]."}
    searches = [
        part for i in range(5) for part in (asks("get_stock", f"s{i}", sku=1), gets("get_stock", f"s{i}", "[]", sku=1))
    ]
    for week, version, days in ((0, "1.0", 9.0), (1, "1.1", 0.1)):
        base = 100 * week
        talk = {"gen_ai.conversation.id": f"talk-{week}"}
        told: Sequence[tuple[Trace, dict[str, str]]] = (
            (talks(*ORDER, shipped), talk),
            (
                talks(
                    *REFUND, {"decision": "allow", "id": "b1", "tool": "send_refund", "attributes": HUMAN}, PAID, DONE
                ),
                talk,
            ),
            (talks(*REFUND, {"decision": "deny", "id": "b1", "tool": "send_refund", "attributes": HUMAN}, shipped), {}),
            (talks({"user": "May I return it?"}, DOCUMENTS, {"assistant": "Returns are free within 30 days."}), {}),
            (talks(*ORDER[:2], broken, {"assistant": "I cannot see the order now."}), {}),
        )
        for number, (made, more) in enumerate(told, start=1):
            shop.trace(base + number, made, days=days, version=version, **more)
    again = (REFUND[0], asks("send_refund", "b2", id=7, amount=42.5))
    twice = gets("send_refund", "b2", '{"paid": 42.5}', id=7, amount=42.5)
    shop.trace(201, talks(*again, twice, DONE), **{"gen_ai.conversation.id": "talk-1"}, days=0.05, version="1.1")
    shop.trace(202, talks({"user": "May I return it?"}, DOCUMENTS, invented), days=0.05, version="1.1")
    shop.trace(203, talks({"user": "Is it there?"}, *searches, {"assistant": "No."}), days=0.05, version="1.1")
    shop.trace(204, old_dialect(), days=0.05, version="1.1")
    mistral = talks(*ORDER, {"assistant": "IT IS SHIPPED!"}, model_name="house-model", provider="vllm")
    shop.trace(205, mistral, **{"gen_ai.conversation.id": "talk-2"}, days=0.05, version="1.1")
    whole = trace(
        agent(),
        model(
            attributes={
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 1,
            },
            span_id="b" * 16,
            start=1,
        ),
        tool("get_order", {"id": 7}, "Error: no such order", "a1", span_id="c" * 16, start=2),
    )
    shop.trace(206, whole, only=slice(2), days=0.04, version="1.1")
    shop.grade()
    shop.trace(206, whole, only=slice(2, None), days=0.04, version="1.1")
    shop.grade()


def runs(shop: Shop, store: Store) -> str:
    """A decision of the gate about two runs; returns its id."""
    service = GateService(store, grader_types(), settle_seconds=0)
    service.keep_suite(parse_suite(SUITE))
    for arm, version in enumerate(("1.1", "1.2")):
        for number, case in enumerate(("late-parcel", "refund")):
            marks = {"tracegrade.suite": "shop", "tracegrade.case.id": case, "tracegrade.run.id": f"nightly-{arm}"}
            shop.trace(300 + 10 * arm + number, talks(*ORDER, {"assistant": "ok"}), days=0.02, version=version, **marks)
    shop.grade()
    policy = GatePolicy.model_validate({"name": "p", "blockers": [{"id": "tools", "grader": "tools/loop"}]})
    arms = {name: ArmSelector(kind="run", value=f"nightly-{arm}") for arm, name in enumerate(("baseline", "candidate"))}
    return service.evaluate(EvaluationRequest(suite="shop", policy=policy, **arms)).id


Answer = tuple[list[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def answers(_shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What every query of the page gives."""
    store = _shared_store
    for row in store.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND total_rows > 0"
        " AND name != 'schema_migrations'"
    ):
        store.command(f"TRUNCATE TABLE {row['name']}")
    shop = Shop(store, tmp_path_factory.mktemp("sql"))
    fill(shop)
    decision = runs(shop, store)
    found = {}
    for title, (_, query, _) in RECIPES.items():
        names = decision if "DecisionId = '…'" in query else id_of(201)
        found[title] = store.table(query.replace("…", names))
    if os.environ.get("UPDATE_GOLDEN"):
        fresh = RECIPE.sub(
            lambda m: f"### {m[1]}\n\n{m[2]}\n\n```sql\n{m[3]}```\n\n```text\n{shown(found[m[1]])}```", TEXT
        )
        PAGE.write_text(fresh, encoding="utf-8")
    return found


def shown(answer: Answer, most: int = 6, width: int = 46) -> str:
    """An answer as text: ids and long values shortened."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            text = f"{value:g}"
        elif hasattr(value, "strftime"):
            text = value.strftime("%Y-%m-%d %H:%M:%S")
        else:
            text = str(value) if value is not None else "NULL"
        text = re.sub(r"\b([0-9a-f]{6})[0-9a-f]{2,}(?:-[0-9a-f-]+|[0-9a-f]{8,})\b", r"\1…", text).replace("\n", " ")
        return text if len(text) <= width else text[: width - 1] + "…"

    columns, rows = answer
    table = [columns, *([cell(value) for value in row] for row in rows[:most])]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, *(["…"] if len(rows) > most else [])]) + "\n"


def test_every_recipe_has_a_sentence_a_query_and_an_output() -> None:
    assert TEXT.count("```sql") == TEXT.count("```text") == TEXT.count("\n### ") == len(RECIPES)
    assert len(RECIPES) >= 20
    assert all(sentence.endswith(".") or sentence.endswith(")") for sentence, _, _ in RECIPES.values())


@pytest.mark.parametrize("title", RECIPES)
def test_a_query_gives_rows_under_the_columns_the_page_shows(answers: dict[str, Answer], title: str) -> None:
    columns, rows = answers[title]
    assert rows, "the traces above hold nothing for it"
    if not os.environ.get("UPDATE_GOLDEN"):
        assert RECIPES[title][2].splitlines()[0].split() == columns


def test_what_the_recipes_say_of_the_traces_is_so(answers: dict[str, Answer]) -> None:
    def rows(title: str) -> list[dict[str, Any]]:
        columns, found = answers[title]
        return [dict(zip(columns, row, strict=True)) for row in found]

    (breach,) = rows("Approval breaches by tool")
    assert (breach["ToolName"], breach["Calls"]) == ("send_refund", 1)
    assert next(r["Step"] for r in rows("The funnel of a conversation")) == "began"
    shares = [r["Conversations"] for r in rows("The funnel of a conversation")]
    assert shares == sorted(shares, reverse=True)
    errors = {(r["ServiceVersion"], r["ToolName"]): r["Failed"] for r in rows("Tool errors by version")}
    assert errors["1.0", "get_order"] == 1
    assert errors["1.1", "get_order"] == 2
    assert {r["Document"] for r in rows("Evidence failures by document")} == {"returns-2024", "shipping"}
    assert [r["Model"] for r in rows("Models without a price")] == ["house-model"] * 2
    assert [r["ToolName"] for r in rows("Loops")] == ["get_stock"]
    assert [r["Grader"] for r in rows("Graders that break")] == ["test/tone"]
    assert {r["ConversationId"]: r["Unpriced"] for r in rows("What a conversation costs")}["talk-2"] == 1
    tree = [r["Span"] for r in rows("A trace as a tree")]
    assert tree[0].startswith("invoke_agent")
    assert all(name.startswith("  ") for name in tree[1:])
