"""Does the answer hold what the case asks for?"""

from __future__ import annotations

from typing import ClassVar

from graders.base import Grader, Score, failed, passed, skip, unknown
from store.types import ContentState, Trace


class Contains(Grader, name="evidence/contains", version="1"):
    """The answer holds every text the case expects in it, whatever case and spacing.

    Skipped without a case that expects any; `unknown` when the answer is not captured.
    """

    uses_case: ClassVar[bool] = True

    def grade(self, trace: Trace) -> Score:
        wanted = trace.case.expect.answer_contains if trace.case else ()
        if not wanted:
            return skip("the case expects no text in the answer")
        if not trace.answer and trace.answer_state is not ContentState.PRESENT:
            return unknown(f"the answer is {trace.answer_state}")
        answer = _flat(trace.answer)
        missing = [w for w in wanted if _flat(w) not in answer]
        if missing:
            return failed(f"not in the answer: {', '.join(missing)}", span_id=trace.answer_span_id)
        return passed(f"all {len(wanted)} texts are in the answer", span_id=trace.answer_span_id)


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())
