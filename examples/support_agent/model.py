"""The model: a deterministic function from the conversation so far to the next tool call or the answer.

It stands where a language model would (`pydantic_ai.models.function.FunctionModel`), so that the demo needs no network
and no key. It sees what a model sees, the messages, and nothing else: order data and citations reach an answer only through
tool results. Each intent is a generator that yields tool calls and receives their results; `next_turn` replays it over
the results already in the conversation.
"""

import asyncio
import json
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import date
from typing import Any

from backoffice import TODAY, Record, load
from pydantic import Field
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

SECONDS_A_TURN = 0.02
"""How long the model pretends to think, so that latencies come from the agent's steps rather than from a busy machine."""


class Release(Record):
    """What differs between two versions of the agent; see `data/releases.yaml`."""

    version: str
    wording: str
    looks_customer_up: bool
    refunds_unasked_below: float = 0.0
    """Refunds of less skip the approver. Anything above 0 is a bug."""
    remembers_sources: dict[str, str] = Field(default_factory=dict)
    """By title of a retrieved document: the id that is cited in place of the real one. Any entry is a bug."""


RELEASES = {name: Release.model_validate(values) for name, values in load("releases").items()}
WORDING = load("wording")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call the model wants to make."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Denied:
    """What came back for a call the approver refused."""

    reason: str


Script = Generator[Call, Any, str]


@dataclass(frozen=True, slots=True)
class Turn:
    """The ticket as the model reads it."""

    ticket: str
    release: Release

    @property
    def order_id(self) -> str | None:
        found = re.search(r"ORD-\d{4}", self.ticket)
        return found and found[0]

    def say(self, template: str, greet: str = "", **values: Any) -> str:
        words = WORDING[self.release.wording]
        greeting = words["greeting"].format(name=greet.split()[0]) + " " if greet else ""
        return greeting + str(words[template]).format(order=self.order_id, **values)

    def source(self, document: dict[str, Any]) -> dict[str, str]:
        """A document as the rule to state and the id to cite for it."""
        text = document["content"]
        cited = self.release.remembers_sources.get(document["title"], document["id"])
        return {"text": text, "rule": text.partition(". ")[0].rstrip(".") + ".", "source": cited}


def look_up(turn: Turn) -> Generator[Call, Any, dict[str, Any] | None]:
    """The order the ticket names, if there is one."""
    order: dict[str, Any] = yield Call("lookup_order", {"order_id": turn.order_id})
    if not order["found"]:
        return None
    if turn.release.looks_customer_up:
        yield Call("lookup_customer", {"email": order["email"]})
    return order


def search(query: str) -> Generator[Call, Any, dict[str, Any] | None]:
    """The best policy document for `query`, if any."""
    found: dict[str, list[dict[str, Any]]] = yield Call("search_policy", {"query": query})
    return next(iter(found["documents"]), None)


REFUND_REASONS = {
    "damaged": r"damaged|broken|crack|fault|shatter|scratch|bent|torn|dead|defective|chipp|dent",
    "wrong item": r"wrong|instead of|not what i ordered|different",
    "lost parcel": r"never (arrived|came|turned up)|not arrived|lost|no sign of",
}
REASON_QUERIES = {
    "damaged": "damaged or faulty on arrival",
    "wrong item": "wrong item delivered",
    "lost parcel": "lost parcels without carrier scan",
    "change of mind": "returns and change of mind, unused items",
    "final sale": "final sale items",
}


def refund(turn: Turn) -> Script:
    order = yield from look_up(turn)
    if not order:
        return turn.say("ask_again")
    reason = next((r for r, words in REFUND_REASONS.items() if re.search(words, turn.ticket, re.I)), "change of mind")
    if order["final_sale"] and reason != "damaged":
        reason = "final sale"
    document = yield from search(REASON_QUERIES[reason])
    assert document, "every refund reason has a policy"
    rule = turn.source(document)
    if reason == "final sale":
        return turn.say("refund_refused", order["customer"], **rule)
    days = re.search(r"within (\d+) days", document["content"])
    since = order.get("delivered", order["placed"])
    if days and (TODAY - date.fromisoformat(since)).days > int(days[1]):
        return turn.say("refund_late", order["customer"], delivered=since, **rule)
    named = [item["price"] for item in order["items"] if item["name"] in turn.ticket]
    amount = named[0] if len(named) == 1 else order["total"]
    done = yield Call("issue_refund", {"order_id": order["id"], "amount": amount, "reason": reason})
    if isinstance(done, Denied):
        return turn.say("refund_denied", order["customer"], reason=done.reason)
    return turn.say("refunded", order["customer"], amount=done["refunded"], **rule)


def cancel(turn: Turn) -> Script:
    order = yield from look_up(turn)
    if not order:
        return turn.say("ask_again")
    document = yield from search("cancelling an order")
    assert document, "there is a policy about cancelling"
    if order["status"] != "processing":
        return turn.say("cancel_late", order["customer"], status=order["status"], **turn.source(document))
    done = yield Call("cancel_order", {"order_id": order["id"]})
    if isinstance(done, Denied):
        return turn.say("cancel_denied", order["customer"], reason=done.reason)
    return turn.say("cancelled", order["customer"], **turn.source(document))


def change_address(turn: Turn) -> Script:
    order = yield from look_up(turn)
    if not order:
        return turn.say("ask_again")
    if order["status"] != "processing":
        document = yield from search("changing the delivery address")
        assert document, "there is a policy about addresses"
        return turn.say("address_late", order["customer"], status=order["status"], **turn.source(document))
    wanted = re.search(r"\bto:? (\d?[A-Z][^.]*\d{4,5} [A-Z]\w+)", turn.ticket)
    if not wanted:
        return turn.say("ask_what", order["customer"])
    done = yield Call("update_address", {"order_id": order["id"], "address": wanted[1]})
    return turn.say("address_changed", order["customer"], address=done["address"])


def status(turn: Turn) -> Script:
    order = yield from look_up(turn)
    if not order:
        return turn.say("ask_again")
    return turn.say(f"status_{order['status']}", order["customer"], **order)


def refuse(turn: Turn) -> Script:
    document = yield from search(turn.ticket)
    return turn.say("refused", **turn.source(document)) if document else turn.say("unknown")


def policy(turn: Turn) -> Script:
    document = yield from search(turn.ticket)
    return turn.say("policy", **turn.source(document)) if document else turn.say("unknown")


def escalate(turn: Turn) -> Script:
    case = yield Call("escalate_to_human", {"summary": turn.ticket[:120]})
    return turn.say("escalated", case=case["case"])


def ask(template: str) -> Callable[[Turn], Script]:
    def script(turn: Turn) -> Script:
        return turn.say(template)
        yield  # a generator, like every script

    return script


NEEDS_ORDER: dict[str, Callable[[Turn], Script]] = {
    r"\bcancel": cancel,
    r"address|\bmoved\b|send it to|deliver it to": change_address,
    r"refund|money back|reimburse|send (it|them) back|return (it|them|the)": refund,
    r"where is|where's|status|track|arrive|when will|hasn't come|how far": status,
}
ANY_TIME: dict[str, Callable[[Turn], Script]] = {
    r"lawyer|manager|supervisor|human|real person|burn|injur|journalist|ombudsman|data protection officer": escalate,
    r"ignore (all|your)|developer mode|another customer|neighbour\b|my ex\b|discount|match (the|their) price|as cash": refuse,
}


def script_for(turn: Turn) -> Script:
    """The script for what the ticket asks."""
    for pattern, script in ANY_TIME.items():
        if re.search(pattern, turn.ticket, re.I):
            return script(turn)
    for pattern, script in NEEDS_ORDER.items():
        if turn.order_id and re.search(pattern, turn.ticket, re.I):
            return script(turn)
    if turn.order_id:
        return ask("ask_what")(turn)
    return policy(turn) if "?" in turn.ticket else ask("ask_order")(turn)


def result_of(part: ToolReturnPart) -> Any:
    return Denied(str(part.content)) if part.outcome == "denied" else json.loads(part.model_response_str())


def scripted_model(release: Release) -> FunctionModel:
    """The model of one release."""

    async def next_turn(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        await asyncio.sleep(SECONDS_A_TURN)
        parts = [part for message in messages for part in message.parts]
        ticket = next(str(part.content) for part in parts if isinstance(part, UserPromptPart))
        script = script_for(Turn(ticket, release))
        try:
            call = next(script)
            for part in parts:
                if isinstance(part, ToolReturnPart):
                    call = script.send(result_of(part))
        except StopIteration as finished:
            return ModelResponse(parts=[TextPart(finished.value)])
        return ModelResponse(parts=[ToolCallPart(call.tool, call.arguments)])

    return FunctionModel(next_turn, model_name="scripted-support-1")
