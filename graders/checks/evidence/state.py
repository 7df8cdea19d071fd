"""What graders of answers say when there is none."""

from __future__ import annotations

from graders.base import Score, skip, unknown
from store.types import ContentState, Trace


def no_answer(trace: Trace) -> Score:
    """The grade of a trace without an answer: nothing to judge, or nothing captured."""
    if trace.answer_state is ContentState.PRESENT:
        return skip("the agent gave no answer")
    return unknown(f"the answer is {trace.answer_state}")
