"""What a good trace is: graders, and the assembler that prepares traces for them.

This is the front door for plugin authors: it imports no client and no server. The worker that runs graders on a store is
`graders.worker`, the kit for testing them `graders.testing`.
"""

from graders.assembler import assemble
from graders.base import (
    Grader,
    GraderSets,
    Score,
    failed,
    grader_types,
    load_graders,
    passed,
    run_graders,
    set_digest,
    skip,
    unknown,
)
from graders.policy import AgentPolicy, load_policy
from store.types import Evidence, Grade, Outcome, Severity, Span, SpanKind, ToolCall, Trace

__all__ = [
    "AgentPolicy",
    "Evidence",
    "Grade",
    "Grader",
    "GraderSets",
    "Outcome",
    "Score",
    "Severity",
    "Span",
    "SpanKind",
    "ToolCall",
    "Trace",
    "assemble",
    "failed",
    "grader_types",
    "load_graders",
    "load_policy",
    "passed",
    "run_graders",
    "set_digest",
    "skip",
    "unknown",
]
