"""How much of the answer does the evidence bear out, and does any of it contradict?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.evidence.claims import MAX_ANSWER
from graders.checks.evidence.report import Checked, Report, State, report
from graders.checks.evidence.state import no_answer
from store.types import Evidence, Outcome, Severity, Trace

_POINTED_AT = 50
"""Claims a grade points at."""


class Support(Grader, name="evidence/support", version="1"):
    """How much of the answer stands in its evidence: as an interval, because words alone cannot tell more.

    A claim (a sentence, list item or table row that states something) is certified when tool results, documents or the
    system say it nearly word by word (`supported_verbatim`), or hold all its values in one place together with most of its
    words (`supported_anchors`). It is contradicted when `evidence/contradiction` would say so. All others are unverified:
    they may be paraphrase, inference or invention, and no count of words tells which. The reason gives the interval in which
    the share of grounded claims lies: from the certified share to that of claims not contradicted.

    `pass` when the certified share is at least `enough`; `fail` when a claim is contradicted; `unknown` for all between,
    labelled `likely` when the score is at least `likely`, else `unverified`. The score is the mean overlap of claims with
    the places that say most of them, the heavier the more a claim says; good for ranking answers, proof of nothing. The
    evidence holds each certified claim followed by the place that certifies it, then the claims that are unverified.
    `unknown` (`other_language`) when answer and evidence are in different languages. Skipped when the answer claims nothing
    or nothing was retrieved.
    """

    enough: float = Field(default=0.9, ge=0, le=1)
    """Certified share for a pass."""
    likely: float = Field(default=0.55, ge=0, le=1)
    """Score from which an uncertified answer is called likely: more than half of what it says is said there. On answers with
    human labels, about single sentences and about long pages, the balanced accuracy is flat between .5 and .6."""
    run: float = Field(default=0.9, ge=0, le=1)
    """Share of a claim that stands in the evidence in one piece for it to be verbatim."""
    pairs: float = Field(default=0.99, ge=0, le=1)
    """Or share of its pairs of neighbouring words."""
    long: int = Field(default=9, ge=1)
    """Words of weight from which a claim is long: so many are not matched by chance."""
    long_run: float = Field(default=0.6, ge=0, le=1)
    """Share of a long claim in one piece that certifies it,"""
    long_missing: float = Field(default=0.1, ge=0, le=1)
    """if no greater share of its words of weight is missing: one name exchanged makes a claim false."""
    unfound: float = Field(default=0.7, ge=0, le=1)
    """Factor on the overlap of a claim with a value that stands nowhere: most of a sentence is words, and the value is its
    point. From .5 to .85 answers come in nearly the same order."""
    short: int = Field(default=3, ge=1)
    """Words of weight below which overlap certifies nothing."""
    anchored: float = Field(default=0.9, ge=0, le=1)
    """Share of the other words of a claim that certifies it, when all its values stand in the same window."""

    def grade(self, trace: Trace) -> Score:
        stopped = _cannot(trace)
        if stopped is not None:
            return stopped
        seen = report(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        total = len(seen.checked)
        labels = [self._label(seen, checked) for checked in seen.checked]
        wrong = 0 if seen.given.gap else labels.count("contradicted")
        certified = sum(label.startswith("supported") for label in labels)
        score = self._score(seen)
        if not certified and score < self.likely and seen.in_another_language():
            return unknown("the answer is in another language than its evidence", label="other_language", **place)
        low, high = certified / total, 1 - wrong / total
        reason = (
            f"{certified} of {total} claims certified, {wrong} contradicted; "
            f"the grounded share lies between {low:.2f} and {high:.2f}"
        )
        place["evidence"] = tuple(_pointers(seen, zip(seen.checked, labels, strict=True)))
        if wrong:
            return failed(reason, label="contradicted", score=score, **place)
        unsure = any(c.against for c in seen.checked)
        if low >= self.enough and not unsure:
            return passed(reason, label="certified", score=score, **place)
        label = "likely" if score >= self.likely else "unverified"
        return Score(Outcome.UNKNOWN, reason, score, label, Severity.INFO, "", **place)

    def _score(self, seen: Report) -> float:
        masses = [c.match.mass if c.match else seen.aligner.mass(c.claim) for c in seen.checked]
        scores = [self._overlap(checked) for checked in seen.checked]
        return sum(mass * score for mass, score in zip(masses, scores, strict=True)) / sum(masses)

    def _overlap(self, checked: Checked) -> float:
        if checked.match is None:
            return 0.0
        unfound = any(value.state in (State.MISSING, State.DERIVED) for value in checked.values)
        return checked.match.score * (self.unfound if unfound else 1.0)

    def _label(self, seen: Report, checked: Checked) -> str:
        if any(against.rule == "contradicted_value" for against in checked.against):
            return "contradicted"
        match, weight = checked.match, len(checked.claim.content)
        if match is None or checked.against or checked.elsewhere:
            return "unverified"
        if weight >= self.short and (match.run >= self.run or match.pairs >= self.pairs):
            return "supported_verbatim"
        absent = len(checked.claim.content.difference(match.stems))
        if weight >= self.long and match.run >= self.long_run and absent <= self.long_missing * weight:
            return "supported_verbatim"
        if checked.values and weight >= self.short:
            rest = seen.beside(checked.claim, checked.values)
            if len(rest & match.stems) >= self.anchored * len(rest):
                return "supported_anchors"
        return "unverified"


class Contradiction(Grader, name="evidence/contradiction", version="1"):
    """No claim of the answer gives a value where its evidence gives another.

    `fail` (`contradicted_value`, high): a number or date stands in no evidence, cannot be derived, was not chosen by the
    agent, and the place that says the rest of the claim has exactly one other value of the same unit or kind there, which
    the answer does not give too. The evidence points at the value in the answer and at the one in the source. `unknown`
    (`polarity_mismatch`): most of a claim stands in one passage, and only one of the two denies it, or they give statuses
    that exclude each other. `unknown` also when contents are missing. `pass` says that nothing of the kind was found among
    the claims, not that they are true. Skipped when the answer claims nothing or nothing was retrieved.
    """

    def grade(self, trace: Trace) -> Score:
        stopped = _cannot(trace)
        if stopped is not None:
            return stopped
        seen = report(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        against = [found for checked in seen.checked for found in checked.against]
        hard = [found for found in against if found.rule == "contradicted_value"]
        for found in hard or against:
            source = found.match.source
            place.setdefault("evidence", []).extend(
                (seen.here(found.start, found.end), seen.there(source, found.found_start, found.found_end))
            )
        if not against:
            return passed(f"nothing in the evidence contradicts the {len(seen.checked)} claims", **place)
        said, stands = (item.text for item in place["evidence"][:2])
        if not hard:
            reason = f"one denies what the other says: {said!r} and {stands!r}"
            return unknown(reason, label="polarity_mismatch", **place)
        reason = f"the answer says {said}, the evidence {stands}"
        if seen.given.gap:
            return unknown(f"{reason}, but {seen.given.gap}", label="contradicted_value", **place)
        return failed(reason, label="contradicted_value", severity=Severity.HIGH, **place)


def _cannot(trace: Trace) -> Score | None:
    """Why claims cannot be compared; None when they can."""
    if not trace.answer:
        return no_answer(trace)
    place: dict[str, Any] = {"span_id": trace.answer_span_id}
    if len(trace.answer) > MAX_ANSWER:
        return unknown("the answer is longer than is read", label="budget_exceeded", **place)
    seen = report(trace)
    if not seen.answer.claims:
        return skip("the answer claims nothing")
    if not seen.given.retrieved:
        return skip("no tool results or documents to compare with")
    if seen.exceeded:
        return unknown(seen.exceeded, label="budget_exceeded", **place)
    if not seen.evidence:
        return unknown(seen.given.gap or "tools and retrieval returned nothing", **place)
    return None


def _pointers(seen: Report, labelled: Iterable[tuple[Checked, str]]) -> Iterable[Evidence]:
    checked = list(labelled)
    certified = [(c, c.match) for c, label in checked if label.startswith("supported")]
    for claim, match in certified[:_POINTED_AT]:
        if match is not None:
            yield seen.here(claim.claim.start, claim.claim.end)
            yield seen.there(match.source, *match.place)
    others = [c.claim for c, label in checked if not label.startswith("supported")]
    for other in others[:_POINTED_AT]:
        yield seen.here(other.start, other.end)
