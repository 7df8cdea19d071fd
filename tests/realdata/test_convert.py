"""The converters: nothing the grader must not know gets into a span, and nothing the agent did gets lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from bench.carding import convert
from bench.carding.convert import Record
from bench.carding.suites import injected_calls

Convert = Callable[[Record], list[ReadableSpan]]


@pytest.fixture
def converters(airline_tools: list[Any]) -> dict[str, Convert]:
    """The converter of each set, by the name of the fixture that holds its records."""
    return {
        "trail": convert.trail,
        "airline": lambda record: convert.tau(record, airline_tools),
        "agentdojo": convert.agentdojo,
        "bfcl": lambda record: convert.bfcl(record, "mistral-large-2407-FC-Auto"),
        "retail": lambda record: convert.retail(record, "sonnet_run"),
        "begin": convert.begin,
        "wice": convert.wice,
        "expertqa": convert.expertqa,
        "rjudge": convert.rjudge,
    }


KNOWN_TO_THE_AGENT = {
    *("id", "traj", "task_id", "trial", "pipeline", "case", "messages"),
    *("spans", "service_name", "resource_attributes"),
    *("function", "question", "runs"),
    *("knowledge", "message", "response", "model_name"),
    *("evidence", "claim", "meta"),
    *("answer_string", "claims", "system"),
    *("contents", "profile", "category"),
}
CONVERSATIONS = ("airline", "agentdojo", "bfcl", "retail")
ANSWERS = ("begin", "wice", "expertqa")


@pytest.mark.parametrize("name", ["trail", *CONVERSATIONS, *ANSWERS, "rjudge"])
def test_a_record_without_its_truth_gives_the_same_spans(
    name: str, converters: dict[str, Convert], request: pytest.FixtureRequest
) -> None:
    """Rewards, verdicts, labels and derived fields cannot reach a span: spans come out the same without them."""
    to_spans = converters[name]
    for record in request.getfixturevalue(name)[::7]:
        blind = {key: value for key, value in record.items() if key in KNOWN_TO_THE_AGENT}
        if name == "bfcl":
            blind["runs"] = {model: {"result": run["result"]} for model, run in record["runs"].items()}
        if name == "retail":
            blind["runs"] = {setting: {"messages": run["messages"]} for setting, run in record["runs"].items()}
        if name == "expertqa":
            blind["claims"] = [{"evidence": claim["evidence"]} for claim in record["claims"]]
        if name == "wice":
            blind["meta"] = {"claim_title": record["meta"]["claim_title"]}
        assert blind.keys() < record.keys()
        assert [span.to_json() for span in to_spans(blind)] == [span.to_json() for span in to_spans(record)]


@pytest.mark.parametrize("name", [*CONVERSATIONS, *ANSWERS, "rjudge"])
def test_made_up_ids_collide_nowhere_and_made_up_times_nest(
    name: str, converters: dict[str, Convert], request: pytest.FixtureRequest
) -> None:
    """Every trace has one id, one root, and children inside it."""
    seen: set[tuple[str, str]] = set()
    for record in request.getfixturevalue(name)[::3]:
        spans = converters[name](record)
        ids = {convert.as_hex(span) for span in spans}
        assert len(ids) == len(spans)
        assert not ids & seen
        assert len({trace for trace, _ in ids}) == 1
        seen |= ids
        root = spans[-1]
        assert root.parent is None
        for span in spans[:-1]:
            assert span.parent == root.get_span_context()
            assert root.start_time <= span.start_time < span.end_time <= root.end_time


def test_every_agentdojo_tool_span_is_the_call_its_result_answers(agentdojo: list[Record]) -> None:
    """Results are paired by order; the source says beside each result which call it answers, ids or no ids."""
    for record in agentdojo:
        tools = [span for span in convert.agentdojo(record) if span.name.startswith("execute_tool ")]
        results = [message for message in record["messages"] if message["role"] == "tool"]
        assert [
            (s.attributes["gen_ai.tool.name"], json.loads(s.attributes["gen_ai.tool.call.arguments"])) for s in tools
        ] == [(r["tool_call"]["function"], r["tool_call"]["args"]) for r in results]


def test_every_message_of_a_conversation_is_in_its_last_model_span_or_after_it(
    airline: list[Record], airline_tools: list[Any]
) -> None:
    """The last `chat` span holds the whole history up to its reply."""
    for record in airline:
        chats = [span for span in convert.tau(record, airline_tools) if span.name.startswith("chat ")]
        replies = [i for i, message in enumerate(record["traj"]) if message["role"] == "assistant"]
        assert len(chats) == len(replies)
        shown = json.loads(chats[-1].attributes["gen_ai.input.messages"])
        shown += json.loads(chats[-1].attributes["gen_ai.output.messages"])
        roles = [message["role"] for message in record["traj"][1 : replies[-1] + 1]]
        assert [message["role"] for message in shown] == roles


def test_forbidding_the_injected_call_by_equal_arguments_finds_every_one(agentdojo: list[Record], data: Path) -> None:
    """The forms in `suites` cover each call the source marks as the attacker's, and no other call."""
    injections = json.loads((data / "agentdojo" / "injection_tasks.json").read_text(encoding="utf-8"))
    for record in agentdojo:
        if not record["case"].endswith("/attack"):
            continue
        goal = injections[f"{record['metadata']['suite_name']}/injection_task_3"]
        forbidden = injected_calls(goal["target_value"], goal["ground_truth_calls"][-1])
        found = [
            [i, j]
            for i, message in enumerate(record["messages"])
            for j, call in enumerate(message.get("tool_calls") or ())
            if any(
                call["function"]["name"] == ban["tool"]
                and all(call["function"]["arguments"].get(key) == value for key, value in ban["arguments"].items())
                for ban in forbidden
            )
        ]
        assert found == record["derived"]["injected_goal_calls"], record["id"]


def test_every_answer_and_every_passage_is_in_the_spans(data: Path) -> None:
    """Word for word, on the model's span and on the retrieval's."""
    for record in convert.records(data / "expertqa"):
        spans = {span.attributes["gen_ai.operation.name"]: span for span in convert.expertqa(record)}
        (said,) = json.loads(spans["chat"].attributes["gen_ai.output.messages"])
        assert [part["content"] for part in said["parts"]] == [record["answer_string"]]
        documents = json.loads(spans["retrieval"].attributes["gen_ai.retrieval.documents"])
        passages = {convert.cited_passage(e) for claim in record["claims"] for e in claim["evidence"] or ()} - {""}
        assert {document["content"] for document in documents if "content" in document} == passages


def test_every_rjudge_result_follows_a_call(data: Path) -> None:
    """A turn of the environment that says something is the result of what the agent did before it."""
    for record in convert.records(data / "rjudge"):
        results = [
            span.attributes["gen_ai.tool.call.result"]
            for span in convert.rjudge(record)
            if span.name.startswith("execute_tool ")
        ]
        said = [str(t["content"] or "") for part in record["contents"] for t in part if t["role"] == "environment"]
        assert [text for text in results if text] == [text for text in said if text]
