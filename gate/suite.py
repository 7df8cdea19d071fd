"""Suites: golden cases in a YAML or JSON file, pinned by digest.

Promises that a suite with any problem is refused whole, with every problem named, before anything runs; and that its
digest depends on what the cases say, not on formatting or order. Storing suites and running cases is left to others.

    name: support            # letters, digits, . _ -
    version: "3"             # for people; identity is the digest
    tier: trusted            # trusted may block a release, monitoring may only inform
    buckets: [refunds, faq]  # optional; when given, every case must be in one of them
    cases:
      - {id: R-1, bucket: refunds, risk: critical, expect: {tools: [{tool: refund, arguments: {order: 17}}]}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from graders import matching
from graders.matching import Word
from store.cases import canonical, case_document, digest_of
from store.types import Case, Expectations, ExpectedCall
from store.yamlfile import ConfigError, Problem, load_yaml, parse_yaml

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,300}$")]
"""One line without control characters: what may become a key, a column value, a line on a terminal."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CallModel(_Model):
    """A tool call a case expects or forbids."""

    tool: Text
    arguments: dict[str, Any] | None = None

    @field_validator("arguments")
    @classmethod
    def _known_forms(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and (wrong := list(matching.problems(value))):
            raise ValueError("; ".join(wrong[:10]))
        return value


class ExpectModel(_Model):
    """What a good run does; what is left out is not asked."""

    tools: list[CallModel] | None = None
    tools_mode: Literal["exact", "in_order", "any_order", "subset"] = "any_order"
    tools_scope: list[Text] = []
    forbidden: list[CallModel] = []
    answer_contains: list[str] = []
    compare: list[Word] = []
    fitting: list[Text] = []
    unfitting: list[Text] = []


class CaseModel(_Model):
    """One case, as written."""

    id: Text
    bucket: Text
    input: str = ""
    intent: str = ""
    evidence: Literal["retrieved", "tool-derived", "parametric", "unsupported"] = "tool-derived"
    expected_action: Literal["", "answer", "abstain", "clarify", "refuse", "escalate", "safe_complete"] = ""
    risk: Literal["critical", "high", "medium", "low"] = "medium"
    tags: list[Text] = []
    cluster: str = ""
    owner: str = ""
    source: str = ""
    expect: ExpectModel = ExpectModel()

    def to_case(self) -> Case:
        """The value everything else works with, with its digest."""
        expect = Expectations(
            tools=_calls(self.expect.tools or []),
            tools_mode=self.expect.tools_mode,
            tools_scope=tuple(self.expect.tools_scope),
            tools_given=self.expect.tools is not None,
            forbidden=_calls(self.expect.forbidden),
            answer_contains=tuple(self.expect.answer_contains),
            compare=tuple(sorted(set(self.expect.compare))),
            fitting=tuple(self.expect.fitting),
            unfitting=tuple(self.expect.unfitting),
        )
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        fields |= {"tags": tuple(sorted(set(self.tags))), "expect": expect}
        case = Case(**fields)
        return replace(case, digest=digest_of(case_document(case).encode()))


class SuiteModel(_Model):
    """A suite file."""

    name: Name
    version: Text = "1"
    tier: Literal["trusted", "monitoring"] = "trusted"
    buckets: list[Text] = []
    cases: Annotated[list[CaseModel], Field(min_length=1)]

    @field_validator("cases", mode="wrap")
    @classmethod
    def _each_id_once(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Reports repeated ids together with whatever else is wrong with the cases."""
        found: list[InitErrorDetails] = []
        try:
            value = handler(value)
        except ValidationError as error:
            found = [
                InitErrorDetails(
                    type=PydanticCustomError("invalid", "{message}", {"message": e["msg"]})
                    if e["type"] == "value_error"
                    else e["type"],
                    loc=e["loc"],
                    input=e["input"],
                    ctx=e.get("ctx", {}),
                )
                for e in error.errors(include_url=False)
            ]
        first: dict[str, int] = {}
        for index, case in enumerate(value if isinstance(value, list) else ()):
            case_id = case.get("id") if isinstance(case, Mapping) else getattr(case, "id", None)
            if isinstance(case_id, str) and first.setdefault(case_id, index) != index:
                problem = PydanticCustomError(
                    "duplicate_id",
                    "is also the id of cases[{first}]; rename one",
                    {"first": first[case_id]},
                )
                found.append(InitErrorDetails(type=problem, loc=(index, "id"), input=case_id))
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return value


@dataclass(frozen=True, slots=True)
class Suite:
    """A checked suite."""

    name: str
    version: str
    tier: str
    cases: tuple[Case, ...]
    """By id."""
    digest: str
    document: str
    """The file in canonical JSON; parsing it gives this suite again."""


def load_suite(path: Path | str) -> Suite:
    """Read a suite file; raises `ConfigError` with every problem."""
    return _checked(load_yaml(path, SuiteModel), str(path))


def parse_suite(content: bytes | str, name: str = "<suite>") -> Suite:
    """Like `load_suite`, for text at hand."""
    return _checked(parse_yaml(content, SuiteModel, name), name)


def _checked(model: SuiteModel, file: str) -> Suite:
    if model.buckets:
        known = set(model.buckets)
        problems = [
            Problem(
                file,
                0,
                f"cases[{index}].bucket",
                f"case {case.id!r} is in unknown bucket {case.bucket!r}; known: {', '.join(sorted(known))}",
            )
            for index, case in enumerate(model.cases)
            if case.bucket not in known
        ]
        if problems:
            raise ConfigError(problems)
    cases = tuple(sorted((case.to_case() for case in model.cases), key=lambda case: case.id))
    return Suite(
        name=model.name,
        version=model.version,
        tier=model.tier,
        cases=cases,
        digest=suite_digest(model.name, model.version, model.tier, cases),
        document=canonical(model.model_dump(mode="json", exclude_defaults=True)).decode(),
    )


def suite_digest(name: str, version: str, tier: str, cases: tuple[Case, ...]) -> str:
    """SHA-256 of a suite; the order of its cases does not matter."""
    fields = {"name": name, "version": version, "tier": tier, "cases": {case.id: case.digest for case in cases}}
    return digest_of(canonical(fields))


def _calls(models: list[CallModel]) -> tuple[ExpectedCall, ...]:
    return tuple(ExpectedCall(tool=model.tool, arguments=model.arguments) for model in models)
