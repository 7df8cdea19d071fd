"""What a grader is, how graders are found and configured, and how their scores become grades.

A grader is a class whose fields are its configuration and whose one method maps a trace to scores:

    class RequiredTools(Grader, name="tools/required", version="1"):
        \"\"\"Every tool in `tools` is called at least once.\"\"\"

        tools: frozenset[str]

        def grade(self, trace: Trace) -> Score:
            missing = self.tools - {call.name for call in trace.tool_calls}
            return failed(f"never called: {', '.join(sorted(missing))}") if missing else passed("called all")

The contract: `grade` is pure in (self, trace), changes nothing, and lets its own bugs out: `run_graders` turns an
exception into an `error` grade and goes on. Answer `skip` when the question does not apply and `unknown` when the
capture lacks what answering needs. Raise `version` when an old grade would come out differently.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, cached_property
from importlib.metadata import entry_points
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from graders.policy import AgentPolicy
from store.cases import canonical, digest_of
from store.types import Evidence, Grade, Outcome, Severity, Trace
from store.yamlfile import ConfigError, Problem, problems_of

ENTRY_POINTS = "tracegrade.graders"

_NAME = re.compile(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*")
_MAX_TEXT = 2000
_MAX_SCORES = 100_000
_MAX_WRITTEN = 20_000_000
"""Characters of all scores of one grader for one trace."""

_registry: dict[str, type[Grader]] = {}


class Score(NamedTuple):
    """One finding of a grader, before it is tied to a trace. Made by `passed`, `failed`, `unknown` and `skip`."""

    outcome: Outcome
    reason: str = ""
    score: float | None = None
    label: str = ""
    severity: Severity = Severity.MEDIUM
    subject: str = ""
    span_id: str = ""
    """Empty means the root span."""
    evidence: tuple[Evidence, ...] = ()


def passed(
    reason: str = "",
    *,
    score: float | None = None,
    label: str = "",
    subject: str = "",
    span_id: str = "",
    evidence: Iterable[Evidence] = (),
) -> Score:
    """The question applies and the answer is good."""
    return Score(Outcome.PASS, reason, score, label, Severity.INFO, subject, span_id, tuple(evidence))


def failed(
    reason: str,
    *,
    severity: Severity = Severity.MEDIUM,
    score: float | None = None,
    label: str = "",
    subject: str = "",
    span_id: str = "",
    evidence: Iterable[Evidence] = (),
) -> Score:
    """The question applies and the answer is bad."""
    return Score(Outcome.FAIL, reason, score, label, severity, subject, span_id, tuple(evidence))


def unknown(
    reason: str,
    *,
    label: str = "",
    subject: str = "",
    span_id: str = "",
    evidence: Iterable[Evidence] = (),
) -> Score:
    """The question applies, but the capture lacks what answering needs."""
    return Score(Outcome.UNKNOWN, reason, None, label, Severity.INFO, subject, span_id, tuple(evidence))


def skip(reason: str, *, label: str = "", subject: str = "", span_id: str = "", score: float | None = None) -> Score:
    """The question does not apply."""
    return Score(Outcome.SKIP, reason, score, label, Severity.INFO, subject, span_id)


class Grader(BaseModel):
    """Base of all graders: subclass it with `name="family/subject"` and `version="1"`, and implement `grade`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grader_name: ClassVar[str]
    grader_version: ClassVar[str]
    uses_case: ClassVar[bool] = False
    """Set it to see `trace.case`; the grade then carries the case's digest."""

    severities: Severity | dict[str, Severity] | None = None
    """How much a failure matters, whatever its label or by label; what is not said here stays as the grader says."""

    def __init_subclass__(cls, *, name: str, version: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not _NAME.fullmatch(name):
            raise TypeError(f"{cls.__name__}: grader name {name!r} is not `family/subject` in lower case")
        if not version:
            raise TypeError(f"{name}: version is empty")
        if not cls.__doc__ or cls.__doc__ == Grader.__doc__:
            raise TypeError(f"{name}: a grader needs a docstring; it is the rule's documentation")
        if name in _registry:
            other = _registry[name]
            raise TypeError(
                f"{name}: already registered by {other.__module__}.{other.__qualname__}; choose another name"
            )
        cls.grader_name, cls.grader_version = name, version
        _registry[name] = cls

    @abstractmethod
    def grade(self, trace: Trace) -> Iterable[Score] | Score:
        """Judge one trace."""

    def severity(self, score: Score) -> Severity:
        """How much a finding matters, by configuration or else as the grader said."""
        if score.outcome is not Outcome.FAIL or self.severities is None:
            return score.severity
        return self.severities if isinstance(self.severities, str) else self.severities.get(score.label, score.severity)

    @cached_property
    def config_digest(self) -> str:
        """SHA-256 of the configuration in canonical JSON."""
        return _digest(self.model_dump())


def grader_types() -> Mapping[str, type[Grader]]:
    """All graders by name: the built-in ones and those of installed plugins."""
    problems = _load_plugins()
    if problems:
        raise ConfigError(problems)
    return dict(sorted(_registry.items()))


def load_graders(
    spec: Mapping[str, Mapping[str, Any] | None], file: str = "graders", *, policy: AgentPolicy | None = None
) -> tuple[Grader, ...]:
    """Build the graders that `spec` names, each with its configuration; raises `ConfigError` with every problem.

    Those with a field `policy` are given `policy`, and all the severities it says, unless their own configuration does.
    """
    problems = list(_load_plugins())
    graders: list[Grader] = []
    for name, config in spec.items():
        kind = _registry.get(name)
        if kind is None:
            known = ", ".join(sorted(_registry))
            problems.append(Problem(file, 0, str(name), f"no such grader; known: {known}"))
            continue
        try:
            given = dict(config or {})
            if policy is not None and "policy" in kind.model_fields:
                given.setdefault("policy", policy)
            if policy is not None and name in policy.severities:
                given.setdefault("severities", policy.severities[name])
            graders.append(kind.model_validate(given))
        except ValidationError as error:
            problems += problems_of(error, kind, file, key=(name,))
    if problems:
        raise ConfigError(problems)
    return tuple(graders)


def set_digest(graders: Iterable[Grader]) -> str:
    """Names a set of configured graders; changes when any of them would grade differently."""
    return _digest(sorted([g.grader_name, g.grader_version, g.config_digest] for g in graders))


class GraderSets:
    """Which graders judge a trace: those made for the first policy that is for its agent or service."""

    def __init__(
        self, otherwise: Sequence[Grader], by_policy: Sequence[tuple[AgentPolicy, Sequence[Grader]]] = ()
    ) -> None:
        self._otherwise = tuple(otherwise)
        self._by_policy = [(policy, tuple(graders)) for policy, graders in by_policy]
        self.digest = set_digest(self._otherwise)
        if by_policy:
            self.digest = _digest([self.digest, *(set_digest(graders) for _, graders in self._by_policy)])

    def every(self) -> Iterator[Grader]:
        """The graders of all sets; one name may come with several configurations."""
        yield from self._otherwise
        for _, graders in self._by_policy:
            yield from graders

    def of(self, trace: Trace) -> tuple[Grader, ...]:
        """The graders of one trace."""
        if not self._by_policy:
            return self._otherwise
        root = trace.root
        names = (root.agent, root.service) if root else ("",)
        return next((graders for policy, graders in self._by_policy if policy.covers(*names)), self._otherwise)


class NotGraded(Exception):
    """Why a grader gave no answer, in words that need no place in the code beside them."""


def _freely(_: Grader) -> AbstractContextManager[object]:
    return nullcontext()


def run_graders(
    graders: Sequence[Grader], trace: Trace, within: Callable[[Grader], AbstractContextManager[object]] = _freely
) -> list[Grade]:
    """Grade one trace with every grader. A grader that breaks, or answers with nonsense, yields one `error` grade and stops
    nobody else. Each runs `within` what may end it by an exception, or keep it from starting.
    """
    root = trace.root
    root_id = root.span_id if root else ""
    blind = replace(trace, case=None) if trace.case else trace
    digest_of_case = trace.case.digest if trace.case else ""
    grades: list[Grade] = []
    for grader in graders:
        try:
            with within(grader):
                scores = _scores(grader.grade(trace if grader.uses_case else blind), root_id)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit, and the end of its time
            scores = [Score(Outcome.ERROR, _told(error), severity=Severity.INFO)]
        for score in scores:
            grades.append(
                Grade(
                    trace.trace_id,
                    score.span_id or root_id,
                    grader.grader_name,
                    grader.grader_version,
                    grader.config_digest,
                    score.outcome,
                    score.subject,
                    score.score,
                    score.label,
                    score.reason[:_MAX_TEXT],
                    score.severity if grader.severities is None else grader.severity(score),
                    score.evidence,
                    trace.completeness,
                    trace.generation,
                    digest_of_case if grader.uses_case else "",
                )
            )
    return grades


def _scores(result: Iterable[Score] | Score, root_id: str) -> list[Score]:
    if not isinstance(result, Iterable):
        what = "nothing; does it return?" if result is None else type(result).__name__
        raise TypeError(f"grade() gave {what}, not a Score; use passed, failed, unknown or skip")
    if isinstance(result, Score):
        _check(result)
        return [result]
    scores: list[Score] = list(islice(result, _MAX_SCORES + 1))
    if len(scores) > _MAX_SCORES:
        raise ValueError(f"more than {_MAX_SCORES} scores for one trace")
    seen: set[tuple[str, str]] = set()
    written = 0
    for score in scores:
        written += _check(score)
        if written > _MAX_WRITTEN:
            raise ValueError(_TOO_MUCH)
        if len(scores) > 1:
            place = (score.span_id or root_id, score.subject)
            if place in seen:
                raise ValueError(f"two scores for span {place[0]!r}, subject {place[1]!r}; give each its own subject")
            seen.add(place)
    return scores or [skip("nothing to judge")]


def _check(score: object) -> int:
    """How many characters it has. Raises unless all of it can be kept."""
    if not isinstance(score, Score):
        raise TypeError(f"grade() gave {type(score).__name__}, not a Score; use passed, failed, unknown or skip")
    if not isinstance(score.outcome, Outcome) or not isinstance(score.severity, Severity):
        raise TypeError(f"{score.outcome!r} is no Outcome, or {score.severity!r} no Severity")
    number = score.score
    if number is not None:
        if not isinstance(number, int | float):
            raise TypeError(f"score {number!r} is no number")
        if not math.isfinite(number) or abs(number) >= _TOO_LARGE:
            raise ValueError(f"score {number} is not finite; leave it out when there is no number")
    written = _encode(score.reason, score.label, score.subject, score.span_id)
    for evidence in score.evidence:
        if not isinstance(evidence, Evidence):
            raise TypeError(f"{type(evidence).__name__} is no Evidence")
        for at in (evidence.start, evidence.end):
            if at is not None and (not isinstance(at, int) or abs(at) >= _TOO_LARGE):
                raise ValueError("evidence begins or ends at what is no offset")
        written += _encode(evidence.span_id, evidence.where, evidence.text)
    if written > _MAX_WRITTEN:
        raise ValueError(_TOO_MUCH)
    return written


_TOO_LARGE = 2**63
_TOO_MUCH = f"more than {_MAX_WRITTEN} characters in the scores for one trace"


def _encode(*texts: str) -> int:
    """How long they are. Raises for what is no text, and for text that cannot be stored: half of a surrogate pair."""
    joined = "".join(texts)
    if not joined.isascii():
        joined.encode()
    return len(joined)


def _told(error: BaseException) -> str:
    """What went wrong, and where."""
    if isinstance(error, NotGraded):
        return str(error)
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_name}, line {place.tb_lineno})" if place else ""
    try:
        said = str(error)
    except Exception:
        said = "it does not say why"
    return f"{type(error).__name__}: {said}{where}".encode(errors="backslashreplace").decode()


def _digest(value: object) -> str:
    return digest_of(canonical(_plain(value)))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(v) for v in value), key=orjson.dumps)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


@cache
def _load_plugins() -> tuple[Problem, ...]:
    problems = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            message = f"cannot be loaded: {type(error).__name__}: {error}"
            problems.append(Problem("plugins", 0, f"{point.name} = {point.value}", message))
    return tuple(problems)
