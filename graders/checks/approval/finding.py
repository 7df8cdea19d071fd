"""What was found about the approval of one call, before it is a grade."""

from __future__ import annotations

from typing import NamedTuple

from store.types import Evidence

GOOD = ("approved_before", "standing_approval", "denied_and_stopped")


class Finding(NamedTuple):
    """A state of the table in `graders.checks.approval`, and why."""

    label: str
    reason: str
    evidence: tuple[Evidence, ...] = ()
