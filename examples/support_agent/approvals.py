"""Record who allowed a tool call. Copy this file: it needs opentelemetry-api and nothing else.

Call `record_decision` once a decision is made and before the tool runs, inside the agent's span. It emits the log event
`gen_ai.tool.call.decision`, which a grader joins to the call by its id. The hash proves which arguments were approved
without storing them, so an approval cannot be stretched to cover other ones.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import get_logger


def arguments_hash(arguments: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON (RFC 8785), whatever order the arguments came in."""
    text = json.dumps(_canonical(arguments), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """RFC 8785 writes 60.0 as 60; Python does not."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def record_decision(
    *,
    allowed: bool,
    tool: str,
    call_id: str,
    arguments: Mapping[str, Any],
    decider: str,
    requested_ns: int,
    reason: str,
) -> None:
    """Say that `decider`, a person, allowed or denied this call with these arguments."""
    now = time.time_ns()
    get_logger("support-agent.approvals").emit(
        timestamp=now,
        event_name="gen_ai.tool.call.decision",
        attributes={
            "gen_ai.tool.call.decision.outcome": "allow" if allowed else "deny",
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.name": tool,
            "tracegrade.approval.mechanism": "human",
            "tracegrade.approval.decider.type": "human",
            "tracegrade.approval.decider.id": decider,
            "tracegrade.approval.scope": "once",
            "tracegrade.approval.requested_at": requested_ns,
            "tracegrade.approval.decided_at": now,
            "tracegrade.approval.args.approved_hash": arguments_hash(arguments),
            "tracegrade.approval.reason": reason,
        },
    )
