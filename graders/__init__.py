"""What a good trace is: graders, the assembler that prepares traces for them, and the worker that runs them.

This is the only front door: plugin authors and the rest of tracegrade import from here.
"""

from graders.assembler import assemble
from graders.base import (
    Grader,
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
from graders.policy import ApprovalPolicy, load_policy
from graders.worker import Worker
from store.types import Evidence, Grade, Outcome, Severity, Span, SpanKind, ToolCall, Trace

__all__ = [
    "ApprovalPolicy",
    "Evidence",
    "Grade",
    "Grader",
    "Outcome",
    "Score",
    "Severity",
    "Span",
    "SpanKind",
    "ToolCall",
    "Trace",
    "Worker",
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
