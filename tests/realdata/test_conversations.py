"""Conversations of real agents come out of the store as the source has them, whatever their ids are like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.carding.convert import Record
from graders.assembler import assemble
from store.types import Trace

from .server import Server

Turn = Mapping[str, Any]


def _assembled(server: Server, trace_ids: list[str]) -> list[Trace]:
    found = {}
    for start in range(0, len(trace_ids), 100):
        found |= server.store.spans(trace_ids[start : start + 100])
    return [assemble(found[trace]) for trace in trace_ids]


def _same(trace: Trace, messages: list[Turn], source: str) -> None:
    """Every turn the agent saw or wrote stands once and in order, and so does every call with what it was given."""
    replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    seen = messages[: replies[-1] + 1] if replies else [m for m in messages if m["role"] == "user"]
    assert [(m.role, m.text) for m in trace.messages] == [(m["role"], m["content"] or "") for m in seen], source
    asked = [call for message in messages for call in message.get("tool_calls") or ()]
    assert [(call.name, call.call_id) for call in trace.tool_calls] == [
        (call["function"]["name"], call["id"]) for call in asked
    ], source
    given = [call["function"]["arguments"] for call in asked]
    assert [call.arguments for call in trace.tool_calls] == [
        json.loads(arguments) if isinstance(arguments, str) else arguments for arguments in given
    ], source
    results = [message["content"] for message in messages if message["role"] == "tool"]
    assert [call.result for call in trace.tool_calls][: len(results)] == results, source
    ran = [call.executed for call in trace.tool_calls]
    assert ran[len(results) :] == [None] * (len(asked) - len(results)), source
    assert set(ran[: len(results)]) <= {True}, source


def test_tau_conversations_come_out_as_they_went_in(
    server: Server, airline: list[Record], airline_ids: list[str]
) -> None:
    """With provider ids, some of them used for two calls, and arguments as text."""
    for record, trace in zip(airline, _assembled(server, airline_ids), strict=True):
        _same(trace, record["traj"], record["id"])


def test_agentdojo_runs_come_out_as_they_went_in(
    server: Server, agentdojo_sent: list[Record], agentdojo_ids: list[str]
) -> None:
    """With good ids, empty ids, results that name no call, and runs that died."""
    for record, trace in zip(agentdojo_sent, _assembled(server, agentdojo_ids), strict=True):
        _same(trace, record["messages"], record["id"])


def test_a_call_that_returned_an_empty_text_ran(server: Server, airline: list[Record], airline_ids: list[str]) -> None:
    """The attribute is there and empty: tau's `think` answers so, and so does AgentDojo's page that does not exist."""
    for record, trace in zip(airline, _assembled(server, airline_ids), strict=True):
        results = sum(message["role"] == "tool" for message in record["traj"])
        assert [call.executed for call in trace.tool_calls][:results] == [True] * results, record["id"]
