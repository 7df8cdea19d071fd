"""Registration, configuration and running of graders, and what happens when one breaks."""

import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import ClassVar

import pytest

from graders import Grader, Outcome, Score, Trace, failed, load_graders, passed, run_graders, set_digest, skip
from graders.policy import AgentPolicy
from graders.testing import TRACE_ID, agent, span, tool, trace
from store.rows import columns, grade_row
from store.types import Case, Completeness, Evidence
from store.yamlfile import ConfigError


class Names(Grader, name="test/names", version="7"):
    """Configured with a set, a limit and a text."""

    names: frozenset[str] = frozenset()
    limit: int = 3

    def grade(self, trace: Trace) -> Score:
        return passed("fine", score=float(self.limit), label="l")


class Breaks(Grader, name="test/breaks", version="1"):
    """Breaks after its first score."""

    def grade(self, trace: Trace) -> Iterator[Score]:
        yield passed("first")
        raise RuntimeError("on purpose")


class Gives(Grader, name="test/gives", version="1"):
    """Gives whatever it is told to."""

    what: str

    def grade(self, trace: Trace) -> Iterator[Score]:
        if self.what == "nan":
            yield passed(score=math.nan)
        elif self.what == "infinity":
            yield failed("x", score=math.inf)
        elif self.what == "number":
            yield 3  # type: ignore[misc]
        elif self.what == "twice":
            yield passed("a")
            yield failed("b")
        elif self.what == "nothing":
            return


class UsesCase(Grader, name="test/uses_case", version="1"):
    """Sees the case."""

    uses_case: ClassVar[bool] = True

    def grade(self, trace: Trace) -> Score:
        return passed(trace.case.id if trace.case else "no case")


class Blind(Grader, name="test/blind", version="1"):
    """Did not say that it needs the case."""

    def grade(self, trace: Trace) -> Score:
        return passed(trace.case.id if trace.case else "no case")


@pytest.mark.parametrize(
    ("name", "version", "doc", "message"),
    [
        ("names", "1", "Doc.", "is not `family/subject`"),
        ("Test/Names", "1", "Doc.", "is not `family/subject`"),
        ("test/names", "1", "Doc.", "already registered by"),
        ("test/no_doc", "1", None, "needs a docstring"),
        ("test/no_version", "", "Doc.", "version is empty"),
    ],
)
def test_registration_refuses(name: str, version: str, doc: str | None, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        type("X", (Grader,), {"__doc__": doc, "__module__": __name__}, name=name, version=version)


def test_all_configuration_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_graders({"tools/knwon": {}, "tools/loop": {"repeat": 3, "repeats": 1}, "test/gives": None})
    texts = [str(p) for p in caught.value.problems]
    assert len(texts) == 4
    assert "graders: tools/knwon: no such grader; known: " in texts[0]
    assert "tools/known" in texts[0]
    assert "graders: tools/loop.repeats: input should be greater than or equal to 2, got 1" in texts
    assert "graders: tools/loop.repeat: unknown key; did you mean repeats? known: repeats, severities" in texts
    assert "graders: test/gives.what: is required" in texts


def test_grades_carry_who_what_and_how_complete() -> None:
    item = trace(agent())
    (grade,) = run_graders([Names(names=frozenset({"b", "a"}))], item)
    assert grade.trace_id == TRACE_ID
    assert grade.span_id == item.spans[0].span_id
    assert (grade.grader, grade.grader_version, grade.outcome) == ("test/names", "7", Outcome.PASS)
    assert (grade.reason, grade.score, grade.label) == ("fine", 3.0, "l")
    assert grade.completeness is Completeness.COMPLETE
    assert grade.config_digest == Names(names=frozenset({"a", "b"})).config_digest
    assert grade.config_digest != Names(names=frozenset({"a"})).config_digest


def test_a_broken_grader_gives_one_error_and_stops_nobody() -> None:
    grades = run_graders([Breaks(), Names()], trace(agent()))
    assert [(g.grader, g.outcome) for g in grades] == [
        ("test/breaks", Outcome.ERROR),
        ("test/names", Outcome.PASS),
    ]
    assert grades[0].reason.startswith("RuntimeError: on purpose (grade, line ")


@pytest.mark.parametrize(
    ("what", "outcome", "reason"),
    [
        ("nan", Outcome.ERROR, "not finite"),
        ("infinity", Outcome.ERROR, "not finite"),
        ("number", Outcome.ERROR, "gave int, not a Score"),
        ("twice", Outcome.ERROR, "two scores for span"),
        ("nothing", Outcome.SKIP, "nothing to judge"),
    ],
)
def test_bad_scores(what: str, outcome: Outcome, reason: str) -> None:
    (grade,) = run_graders([Gives(what=what)], trace(agent()))
    assert grade.outcome is outcome
    assert reason in grade.reason


class Keeps(Grader, name="test/keeps", version="1"):
    """Gives the score of a number, as it is."""

    def grade(self, trace: Trace) -> Score:
        return BAD[trace.answer]


BAD: dict[str, Score] = {
    "decimal": passed(score=Decimal("0.5")),  # type: ignore[arg-type]
    "integer": passed(score=10**30),
    "offset": failed("x", evidence=[Evidence("", "a", "b", 10**30, 5)]),
    "no offset": failed("x", evidence=[Evidence("", "a", "b", "\ud800", 5)]),  # type: ignore[arg-type]
    "size": failed("x", evidence=[Evidence("", "a", "b" * 30_000_000)]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_store_can_keep_is_an_error_of_its_grader_alone(name: str) -> None:
    (grade,) = run_graders([Keeps()], replace(trace(agent()), answer=name))
    assert grade.outcome is Outcome.ERROR
    assert grade.reason.startswith(("TypeError", "ValueError"))
    assert columns([grade_row(grade)])


def test_only_graders_that_say_so_see_the_case() -> None:
    item = trace(agent(), case=Case("c1", "b", digest="sha256:1"))
    uses, blind = run_graders([UsesCase(), Blind()], item)
    assert (uses.reason, uses.case_digest) == ("c1", "sha256:1")
    assert (blind.reason, blind.case_digest) == ("no case", "")


def test_digests_do_not_depend_on_the_process() -> None:
    config = Names(names=frozenset("abcdefgh")).config_digest
    code = (
        "from graders import Grader, passed\n"
        "class N(Grader, name='test/names', version='7'):\n"
        "    'd'\n"
        "    names: frozenset[str] = frozenset()\n"
        "    limit: int = 3\n"
        "    def grade(self, trace): return passed()\n"
        "print(N(names=frozenset('abcdefgh')).config_digest)"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == config


def test_set_digest_ignores_order_and_sees_configuration() -> None:
    a, b = Names(), Breaks()
    assert set_digest([a, b]) == set_digest([b, a])
    assert set_digest([a, b]) != set_digest([Names(limit=4), b])


def test_grader_on_nothing() -> None:
    (grade,) = run_graders([Names()], Trace(trace_id="t", spans=()))
    assert grade.span_id == ""
    assert skip("x").outcome is Outcome.SKIP


def test_a_policy_says_how_much_a_failure_matters() -> None:
    policy = AgentPolicy.model_validate(
        {"severities": {"tools/loop": "critical", "tools/known": {"": "low", "other": "high"}}}
    )
    graders = load_graders({"tools/loop": {"repeats": 2}, "tools/known": {}, "tools/arguments": {}}, policy=policy)
    calls = [tool("search", {"q": "x"}, "found", start=start) for start in (1, 2)]
    offer = {"gen_ai.operation.name": "chat", "gen_ai.tool.definitions": '[{"name": "other"}]'}
    grades = run_graders(graders, trace(span("chat", offer), *calls))
    found = {g.grader: g.severity for g in grades if g.outcome is Outcome.FAIL}
    assert found == {"tools/loop": "critical", "tools/known": "low"}
    assert {g.severity for g in grades if g.outcome is not Outcome.FAIL} == {"info"}
    own = load_graders({"tools/loop": {"severities": "info"}}, policy=policy)
    assert own[0].config_digest != load_graders({"tools/loop": {}})[0].config_digest != graders[0].config_digest


class Forgets(Grader, name="test/forgets", version="1"):
    """Gives what is no score at all."""

    what: object = None

    def grade(self, trace: Trace) -> Score:
        return self.what  # type: ignore[return-value]


@pytest.mark.parametrize(("what", "said"), [(None, "gave nothing; does it return?"), (True, "gave bool, not a Score")])
def test_a_grader_that_gives_no_score_is_told_what_to_give(what: object, said: str) -> None:
    grades = run_graders([Forgets(what=what)], trace(agent()))
    assert [g.outcome for g in grades] == [Outcome.ERROR]
    assert said in grades[0].reason
    assert "use passed, failed, unknown or skip" in grades[0].reason
