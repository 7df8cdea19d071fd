"""What agentevals and DeepEval take for the traces that bench/grade.py grades. Runs in an environment that holds one of them.

    grade_peers.py agentevals|deepeval TRACES.jsonl RUNS

A line of TRACES holds one trace: its OTLP/JSON request and the tool calls its agent made. Both peers compare those calls with
themselves, so what is expected is always found: what is timed is reading a trace and comparing, not disagreement. agentevals
reads the OTLP itself, as our assembler does; DeepEval is given finished test cases, as our graders are given assembled traces.
Prints one JSON object: CPU seconds of each part, the best of the runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _best(runs: int, work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def agentevals(lines: list[dict[str, Any]], runs: int) -> dict[str, float]:
    """Its default metric, ADK's tool trajectory; one golden case a trace, named in the trace's resource."""
    from agentevals.config import BuiltinMetricDef, EvalParams
    from agentevals.loader.auto import load_traces_from_obj
    from agentevals.runner import run_evaluation_from_traces
    from google.adk.evaluation.eval_set import EvalSet

    def golden(number: int, calls: list[dict[str, Any]]) -> EvalSet:
        uses = [{"id": "", "name": call["name"], "args": call["arguments"]} for call in calls]
        turn = {
            "invocation_id": "1",
            "user_content": {"role": "user", "parts": [{"text": "x"}]},
            "intermediate_data": {"tool_uses": uses},
        }
        case = {"eval_id": str(number), "conversation": [turn]}
        return EvalSet.model_validate({"eval_set_id": "bench", "eval_cases": [case]})

    sets = [golden(number, line["calls"]) for number, line in enumerate(lines)]
    params = EvalParams(
        evaluators=[BuiltinMetricDef(name="tool_trajectory_avg_score", trajectory_match_type="ANY_ORDER")]
    )
    documents = [line["otlp"] for line in lines]
    traces = [load_traces_from_obj(document, format="otlp-json") for document in documents]

    async def evaluate() -> int:
        judged = 0
        for loaded, expected in zip(traces, sets, strict=True):
            result = await run_evaluation_from_traces(loaded, params, expected)
            judged += sum(metric.score is not None for found in result.trace_results for metric in found.metric_results)
        return judged

    judged = asyncio.run(evaluate())
    return {
        "read": _best(runs, lambda: [load_traces_from_obj(document, format="otlp-json") for document in documents]),
        "evaluate": _best(runs, lambda: asyncio.run(evaluate())),
        "judged": judged,
    }


def deepeval(lines: list[dict[str, Any]], runs: int) -> dict[str, float]:
    """ToolCorrectnessMetric with arguments, in a loop as its own runner would; no model is asked."""
    from deepeval.metrics import ToolCorrectnessMetric
    from deepeval.models import DeepEvalBaseLLM
    from deepeval.test_case import LLMTestCase, ToolCall, ToolCallParams

    class NoModel(DeepEvalBaseLLM):  # type: ignore[misc]
        """The metric wants one at hand; without `available_tools` it never asks it."""

        def load_model(self) -> None:
            return None

        def generate(self, *_: object, **__: object) -> str:
            raise AssertionError("a deterministic metric asked a model")

        async def a_generate(self, *_: object, **__: object) -> str:
            raise AssertionError("a deterministic metric asked a model")

        def get_model_name(self) -> str:
            return "none"

    def case(line: dict[str, Any]) -> LLMTestCase:
        calls = [ToolCall(name=call["name"], input_parameters=call["arguments"]) for call in line["calls"]]
        return LLMTestCase(input="x", actual_output="y", tools_called=calls, expected_tools=calls)

    cases = [case(line) for line in lines]
    metric = ToolCorrectnessMetric(
        model=NoModel(), async_mode=False, evaluation_params=[ToolCallParams.INPUT_PARAMETERS]
    )

    def evaluate() -> int:
        return sum(metric.measure(item, _show_indicator=False) is not None for item in cases)

    judged = evaluate()
    return {"evaluate": _best(runs, evaluate), "judged": judged}


if __name__ == "__main__":
    os.environ.update({"DEEPEVAL_TELEMETRY_OPT_OUT": "YES", "AGENTEVALS_TELEMETRY": "false"})
    name, path, runs = sys.argv[1:]
    with Path(path).open(encoding="utf-8") as file:
        read = [json.loads(line) for line in file]
    quiet = os.dup(1)
    os.dup2(2, 1)
    found = {"agentevals": agentevals, "deepeval": deepeval}[name](read, int(runs))
    os.dup2(quiet, 1)
    print(json.dumps(found), flush=True)
