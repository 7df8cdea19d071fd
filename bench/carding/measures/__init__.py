"""The measures: one module for each set, or for sets that ask the same. Importing this registers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from bench.carding.measures import agentdojo, airline, bfcl, grounding, labels, retail, rjudge, trail

__all__ = ["agentdojo", "airline", "bfcl", "grounding", "labels", "retail", "rjudge", "trail", "weaknesses"]


def weaknesses() -> Mapping[str, Sequence[str]]:
    """What is known to go wrong, by grader: `weaknesses.yaml`."""
    found: Mapping[str, Sequence[str]] = yaml.safe_load(
        (Path(__file__).parents[1] / "weaknesses.yaml").read_text("utf-8")
    )
    return found
