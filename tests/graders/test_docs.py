"""The page on graders names every one, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

from graders import grader_types

PAGE = (Path(__file__).parents[2] / "docs" / "graders.md").read_text()


def test_every_built_in_grader_is_documented() -> None:
    missing = [
        n for n, kind in grader_types().items() if kind.__module__.startswith("graders.") and f"`{n}`" not in PAGE
    ]
    assert missing == []


def test_every_option_of_a_built_in_grader_is_documented() -> None:
    missing = [
        f"{n}: {option}"
        for n, kind in grader_types().items()
        if kind.__module__.startswith("graders.")
        for option in kind.model_fields
        if f"`{option}`" not in PAGE and f"`{option}:" not in PAGE
    ]
    assert missing == []


def test_the_example_grader_runs() -> None:
    names: dict[str, object] = {"__name__": "example"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/graders.md", "exec"), names)
    names["test_polite"]()  # type: ignore[operator]
