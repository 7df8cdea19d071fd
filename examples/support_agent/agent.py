"""The support agent: tools, a retriever and an approval step, on pydantic-ai.

The spans come from pydantic-ai's own instrumentation. Two things it does not record are added here by hand: what the
retriever found (a `retrieval` span) and who allowed a refund or a cancellation (`approvals.record_decision`).
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from approvals import record_decision
from backoffice import BackOffice, Hit
from model import Release, scripted_model
from opentelemetry import trace
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, RunContext, ToolApproved, ToolDenied
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.messages import ToolCallPart

INSTRUCTIONS = """\
You answer customer-support tickets of a household-goods shop. Today is 2026-11-20.
Look up the order before you say anything about it. State a rule only with the policy it comes from, as in [policy-3].
Refunds and cancellations need the approval of the service desk.
Hand over to a human when asked to, or when someone got hurt."""
SECONDS_TO_DECIDE = 0.01


@dataclass
class Ticket:
    """What one run of the agent works with."""

    release: Release
    shop: BackOffice = field(default_factory=BackOffice)


Context = RunContext[Ticket]


async def service_desk(shop: BackOffice, call: ToolCallPart) -> tuple[bool, str]:
    """The person who approves: says yes unless the order is on hold."""
    await asyncio.sleep(SECONDS_TO_DECIDE)
    order = shop.order(call.args_as_dict()["order_id"])
    return (False, order.hold) if order and order.hold else (True, "nothing speaks against it")


async def approve(ctx: Context, requests: DeferredToolRequests) -> DeferredToolResults:
    """Ask the service desk about each call that needs approval, and put its decision on record."""
    results = DeferredToolResults()
    for call in requests.approvals:
        arguments = call.args_as_dict()
        if arguments.get("amount", float("inf")) < ctx.deps.release.refunds_unasked_below:
            results.approvals[call.tool_call_id] = ToolApproved()
            continue
        requested_ns = time.time_ns()
        allowed, reason = await service_desk(ctx.deps.shop, call)
        record_decision(
            allowed=allowed,
            tool=call.tool_name,
            call_id=call.tool_call_id,
            arguments=arguments,
            decider="service-desk",
            requested_ns=requested_ns,
            reason=reason,
        )
        results.approvals[call.tool_call_id] = ToolApproved() if allowed else ToolDenied(reason)
    return results


def support_agent(release: Release) -> Agent[Ticket, str]:
    """The agent of one release."""
    agent = Agent(
        scripted_model(release),
        name="support-agent",
        deps_type=Ticket,
        instructions=INSTRUCTIONS,
        capabilities=[HandleDeferredToolCalls(handler=approve)],
    )

    @agent.tool
    async def lookup_order(ctx: Context, order_id: str) -> dict[str, Any]:
        """Find an order by its number, such as ORD-1001."""
        order = ctx.deps.shop.order(order_id)
        if order is None:
            return {"found": False}
        facts = order.model_dump(mode="json", exclude={"hold"}, exclude_none=True)
        return {"found": True, **facts, "email": order.email, "total": order.total}

    @agent.tool
    async def lookup_customer(ctx: Context, email: str) -> dict[str, Any]:
        """Find a customer by e-mail address."""
        return {"email": email, "name": ctx.deps.shop.customer(email)}

    @agent.tool
    async def search_policy(ctx: Context, query: str, top_k: int = 3) -> dict[str, list[Hit]]:
        """Search the shop's policies; the best match comes first."""
        with trace.get_tracer("support-agent").start_as_current_span(
            "retrieval policies",
            kind=trace.SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "retrieval",
                "gen_ai.data_source.id": "policies",
                "gen_ai.retrieval.query.text": query,
                "gen_ai.retrieval.top_k": top_k,
            },
        ) as span:
            hits = ctx.deps.shop.search(query, top_k)
            span.set_attribute("gen_ai.retrieval.documents", json.dumps([hit.model_dump() for hit in hits]))
        return {"documents": hits}

    @agent.tool(requires_approval=True)
    async def issue_refund(ctx: Context, order_id: str, amount: float, reason: str) -> dict[str, Any]:
        """Pay money back to the customer. Cannot be undone."""
        ctx.deps.shop.set_status(order_id, "refunded")
        return {"order_id": order_id, "refunded": amount, "currency": "EUR", "reason": reason}

    @agent.tool(requires_approval=True)
    async def cancel_order(ctx: Context, order_id: str) -> dict[str, Any]:
        """Cancel an order that is still processing. Cannot be undone."""
        return {"order_id": order_id, "status": ctx.deps.shop.set_status(order_id, "cancelled").status}

    @agent.tool
    async def update_address(ctx: Context, order_id: str, address: str) -> dict[str, Any]:
        """Change the delivery address of an order that is still processing."""
        return {"order_id": order_id, "address": address}

    @agent.tool
    async def escalate_to_human(ctx: Context, summary: str) -> dict[str, Any]:
        """Hand the ticket over to a human colleague."""
        return {"case": f"CASE-{sum(summary.encode()) % 10_000:04}", "summary": summary}

    return agent
