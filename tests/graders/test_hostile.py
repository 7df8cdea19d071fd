"""Telemetry made to keep a grader busy: every grader is done with it in a moment."""

import random
import time

import pytest

from graders import grader_types, load_graders
from graders.assembler import assemble
from graders.testing import conversation, grade
from store.types import Span, SpanKind

_RANDOM = random.Random(1)
_NUMBERS = " ".join(str(_RANDOM.randrange(10**6)) for _ in range(100_000))


def _many(make: str, count: int) -> str:
    return " ".join(make.format(_RANDOM.randrange(10**7, 10**8)) for _ in range(count))


ANSWERS = {
    "blank lines": "\n" * 100_000 + "1x",
    "headings": "\n# " * 50_000 + "1",
    "blanks in brackets": "[1" + " " * 100_000,
    "open brackets": "[doc-" * 40_000,
    "backticks": "`" * 100_000 + "1",
    "numbers": _many("{}", 400),
    "more numbers": _many("{}", 20_000),
    "ids": _many("AB{}", 400),
    "citations": _many("[doc-{}]", 400),
    "more citations": _many("[doc-{}]", 10_000),
    "addresses": _many("https://x.example/{}", 5_000),
    "endless": "word 123456 " * 800_000,
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_no_answer_keeps_the_graders_busy(name: str) -> None:
    built_in = [name for name, kind in grader_types().items() if kind.__module__.startswith("graders.checks")]
    graders = load_graders({grader: {} for grader in built_in})
    item = conversation([{"user": "q"}, {"tool": "get", "result": _NUMBERS}, {"assistant": ANSWERS[name]}])
    started = time.process_time()
    grades = [found for grader in graders for found in grade(grader, item)]
    assert time.process_time() - started < 6
    assert "error" not in {found.outcome.value for found in grades}


def test_very_many_spans_inside_one_tool_are_assembled_in_linear_time() -> None:
    spans = [
        Span(
            trace_id="5" * 32,
            span_id=f"{number:016x}",
            parent_span_id=f"{1:016x}" if number > 1 else "",
            name="execute_tool t",
            kind=SpanKind.TOOL,
            start_ns=number,
            end_ns=number + 1,
            tool_name="t",
            attributes={"gen_ai.tool.call.result": "r"},
        )
        for number in range(1, 20_001)
    ]
    started = time.process_time()
    assert len(assemble(spans, [], None, 1).tool_calls) == 1
    assert time.process_time() - started < 3
