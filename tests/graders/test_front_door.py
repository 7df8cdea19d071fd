"""What plugin authors import stays where it is."""

import subprocess
import sys

import graders
from graders import grader_types


def test_exports() -> None:
    assert sorted(graders.__all__) == [
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
    assert all(hasattr(graders, name) for name in graders.__all__)


def test_the_front_door_opens_no_client() -> None:
    code = "import sys, graders; graders.grader_types(); print(*(m for m in sys.modules if m.startswith('clickhouse')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_built_in_graders() -> None:
    built_in = [name for name, kind in grader_types().items() if kind.__module__.startswith("graders.checks")]
    assert built_in == [
        "action/clarify_loop",
        "action/class",
        "action/over_refusal",
        "approval/boundary",
        "approval/untrusted_instruction",
        "efficiency/cost",
        "efficiency/errors",
        "efficiency/first_token",
        "efficiency/latency",
        "efficiency/model_calls",
        "efficiency/retries",
        "efficiency/tokens_cached",
        "efficiency/tokens_in",
        "efficiency/tokens_out",
        "efficiency/tokens_reasoning",
        "efficiency/tool_calls",
        "efficiency/trace_length",
        "evidence/answered_without_evidence",
        "evidence/citations",
        "evidence/cited",
        "evidence/claimed_action",
        "evidence/contains",
        "evidence/contradiction",
        "evidence/late",
        "evidence/numbers",
        "evidence/quotes",
        "evidence/stale",
        "evidence/support",
        "evidence/utilisation",
        "tools/arguments",
        "tools/budget",
        "tools/error_handling",
        "tools/expected",
        "tools/forbidden",
        "tools/intent",
        "tools/known",
        "tools/loop",
        "tools/needless",
    ]
