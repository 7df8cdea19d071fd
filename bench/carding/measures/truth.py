"""Which grader answers which question of a data set, as `truth.yaml` says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel


class Trail(BaseModel, extra="forbid", frozen=True):
    """Labels on spans."""

    categories: tuple[str, ...]
    ungrounded: str
    graders: tuple[str, ...]
    by_grader: dict[str, tuple[str, ...]]


class Truth(BaseModel, extra="forbid", frozen=True):
    """The file."""

    support: str
    support_threshold: str
    cited: str
    trail: Trail


@cache
def truth() -> Truth:
    """The file beside this package."""
    file = Path(__file__).parents[1] / "truth.yaml"
    return Truth.model_validate(yaml.safe_load(file.read_text("utf-8")))
