"""Every built-in grader keeps the contract, with its defaults; and the kit notices graders that do not."""

import pytest

from graders import Grader, Score, Trace, grader_types, passed
from graders.testing import check_grader, conversation

BUILT_IN = [kind for kind in grader_types().values() if kind.__module__.startswith("graders.checks")]
_calls = 0


class Impure(Grader, name="test/impure", version="1"):
    """Gives another score every time."""

    def grade(self, trace: Trace) -> Score:
        global _calls
        _calls += 1
        return passed(score=float(_calls))


class Elsewhere(Grader, name="test/elsewhere", version="1"):
    """Grades a span that is not there."""

    def grade(self, trace: Trace) -> Score:
        return passed(span_id="f" * 16)


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.grader_name)
def test_built_in_graders_keep_the_contract(kind: type[Grader]) -> None:
    steps = [
        {"user": "Cancel 7 [1]"},
        {"assistant": "", "calls": [{"id": "c", "name": "cancel", "arguments": {"id": 7}}]},
        {"decision": "deny", "id": "c", "tool": "cancel"},
        {"assistant": "I could not cancel order AB123 for 12.50 [2]."},
    ]
    check_grader(kind(), conversation(steps))


@pytest.mark.parametrize(("grader", "message"), [(Impure(), "different grades"), (Elsewhere(), "not in the trace")])
def test_the_kit_notices(grader: Grader, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_grader(grader)


def test_a_wrong_step_is_explained() -> None:
    with pytest.raises(ValueError, match="step 0 has none of the keys system, user"):
        conversation([{"usr": "x"}])
