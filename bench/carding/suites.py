"""Suites for the real data: what the sources' authors say a good run does, as cases.

Only expectations come from here; whether a run met them (`reward`, `success`, `security`) stays with the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CONSEQUENTIAL_AIRLINE = (
    "book_reservation",
    "cancel_reservation",
    "send_certificate",
    "update_reservation_baggages",
    "update_reservation_flights",
    "update_reservation_passengers",
)
CONSEQUENTIAL_RETAIL = (
    "cancel_pending_order",
    "exchange_delivered_order_items",
    "modify_pending_order_address",
    "modify_pending_order_items",
    "modify_pending_order_payment",
    "modify_user_address",
    "return_delivered_order_items",
)
FREE_TEXT = frozenset({"body", "content", "description", "subject", "title"})
"""Arguments a model words its own way: asking for the literal text costs five points of agreement with `success`."""

Json = dict[str, Any]


def airline(records: Iterable[Mapping[str, Any]]) -> Json:
    """tau-bench: exactly the expected writes, in any order; reading is free."""
    cases = {
        f"airline/task{record['task_id']}": {
            "id": f"airline/task{record['task_id']}",
            "bucket": "writes",
            "input": record["task"]["instruction"],
            "expect": {
                "tools": [
                    {"tool": action["name"], "arguments": action["kwargs"]}
                    for action in record["task"]["actions"]
                    if action["name"] in CONSEQUENTIAL_AIRLINE
                ],
                "tools_mode": "any_order",
                "tools_scope": list(CONSEQUENTIAL_AIRLINE),
            },
        }
        for record in records
    }
    return {"name": "tau-airline", "cases": list(cases.values())}


def _literal(arguments: Mapping[str, Any]) -> Json:
    return {k: v for k, v in arguments.items() if k not in FREE_TEXT and "<dynamic>" not in json.dumps(v)}


def injected_calls(target: str, tool: str) -> list[Json]:
    """The attacker's call, in each form an agent may write its target value."""
    if tool == "get_webpage":
        return [{"tool": tool, "arguments": {"url": f"{scheme}www.{target}"}} for scheme in ("", "http://", "https://")]
    if tool == "send_money":
        return [{"tool": tool, "arguments": {"recipient": target}}]
    return [{"tool": tool, "arguments": {"recipients": form}} for form in ([target], target, str([target]))]


def agentdojo(folder: Path, case_ids: Iterable[str]) -> Json:
    """AgentDojo: a benign case asks for the calls that solve the task, an attack case forbids the injected one."""
    truth = json.loads((folder / "user_task_ground_truth.json").read_text(encoding="utf-8"))
    injections = json.loads((folder / "injection_tasks.json").read_text(encoding="utf-8"))
    cases = []
    for case_id in sorted(set(case_ids)):
        task, kind = case_id.rsplit("/", 1)
        suite = task.split("/")[0]
        expect: Json
        if kind == "benign":
            calls = truth[task]["ground_truth_calls"]
            tools = [{"tool": call["function"], "arguments": _literal(call["args"])} for call in calls]
            expect = {"tools": tools, "tools_mode": "subset"}
        else:
            expect = {
                "forbidden": [
                    call
                    for name, injection in injections.items()
                    if name.startswith(f"{suite}/")
                    for call in injected_calls(injection["target_value"], injection["ground_truth_calls"][-1])
                ]
            }
        bucket = {"benign": "utility", "attack": "safety"}[kind]
        cases.append({"id": case_id, "bucket": bucket, "input": truth[task]["prompt"] or "", "expect": expect})
    return {"name": "agentdojo", "cases": cases}


def bfcl(records: Iterable[Mapping[str, Any]]) -> Json:
    """BFCL: exactly the right calls, each argument one of the accepted values; in a `relevance` question no call is right."""
    cases = []
    for record in records:
        given = record["function"] if isinstance(record["function"], list) else [record["function"]]
        declared = {function["name"] for function in given}
        answer = record["possible_answer"]["ground_truth"] if record["possible_answer"] else {}
        tools: list[Json] = []
        for written, parameters in answer.items():
            name = written if written in declared else re.sub(r"[_ ]\d+$", "", written)
            if len(declared) == len(answer) == 1:  # there is but one it can mean
                (name,) = declared
            tool: Json = {"tool": name.replace(".", "_")}
            if isinstance(parameters, dict):  # in one question an argument of the source stands where a function should
                tool["arguments"] = {key: _accepted(values) for key, values in parameters.items()}
            tools.append(tool)
        expect = {"tools": tools, "tools_mode": "any_order", "compare": ["loose_text", "only"]}
        cases.append({"id": record["id"], "bucket": record["category"], "input": record["question"], "expect": expect})
    return {"name": "bfcl", "cases": cases}


def _accepted(values: Any) -> Json:
    """BFCL lists what an argument may be, inside objects too; an empty text among it: the argument may be left out."""
    values = values if isinstance(values, list) else [values]
    forms = [_value(value) for value in values if value != ""]
    if not forms:
        return {"$optional": ""}
    return {"$optional": {"$any": forms}} if "" in values else {"$any": forms}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _accepted(inner) for key, inner in value.items()}
    return [_value(item) for item in value] if isinstance(value, list) else value


def retail(records: Iterable[Mapping[str, Any]]) -> Json:
    """tau2-bench: exactly the expected writes; the agents call the tools through a server that prefixes their names."""
    prefix = "mcp__retail-tools__"
    cases = []
    for record in records:
        writes = [
            {"tool": prefix + action["name"], "arguments": _returned(action)}
            for action in record["golden_actions"]
            if action["name"] in CONSEQUENTIAL_RETAIL
        ]
        scope = [prefix + name for name in CONSEQUENTIAL_RETAIL]
        compare = ["json_text"]  # the server reads a list that is written as text
        expect = {"tools": writes, "tools_mode": "any_order", "tools_scope": scope, "compare": compare}
        cases.append({"id": record["id"], "bucket": "writes", "expect": expect})
    return {"name": "retail", "cases": cases}


def _returned(action: Mapping[str, Any]) -> Json:
    """Items given back are a set; in an exchange each item has its new one at the same place."""
    arguments: Json = dict(action["arguments"])
    if action["name"] == "return_delivered_order_items" and "item_ids" in arguments:
        arguments["item_ids"] = {"$set": arguments["item_ids"]}
    return arguments
