"""The evidence graders on text made up here: what a perturbation must change, offsets, garbage, malice, time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import load_graders
from graders.checks.evidence.claims import Answer
from graders.checks.evidence.reading import _KEPT, Reading, _Kept
from graders.checks.evidence.report import Report, report
from graders.checks.evidence.text import STEMS, fold, spelled, stems
from graders.checks.evidence.values import claimed
from graders.testing import check_grader, conversation, grade
from store.types import Grade, Trace

FAMILY = ("support", "contradiction", "citations", "cited", "quotes", "numbers", "stale", "utilisation")
THINGS = ("pump", "boiler", "turbine", "ladder", "compressor", "generator", "furnace", "sensor")
PLACES = ("Bergen", "Lisbon", "Ankara", "Quito", "Osaka", "Tallinn", "Perth", "Dakar")
SENTENCE = "The {thing} delivered to the {place} workshop carries a guarantee of {months} months from installation."


def about(*documents: str, answer: str, user: str = "tell me") -> Trace:
    found = [{"id": f"d{n}", "content": text} for n, text in enumerate(documents)]
    return conversation([{"user": user}, {"retrieved": found}, {"assistant": answer}])


def graded(name: str, trace: Trace, options: Mapping[str, Any] | None = None) -> Grade:
    (grader,) = load_graders({f"evidence/{name}": dict(options or {})})
    (found,) = grade(grader, trace)
    return found


facts = st.builds(
    lambda thing, place, months: (thing, place, months),
    st.sampled_from(THINGS),
    st.sampled_from(PLACES),
    st.integers(11, 99),
)
pages = st.lists(facts, min_size=1, max_size=5, unique_by=lambda fact: fact[0])


def sentence(fact: tuple[str, str, int], months: int | None = None) -> str:
    return SENTENCE.format(thing=fact[0], place=fact[1], months=fact[2] if months is None else months)


@settings(max_examples=40, deadline=None)
@given(pages)
def test_what_repeats_its_evidence_is_certified(page: list[tuple[str, str, int]]) -> None:
    text = " ".join(sentence(fact) for fact in page)
    trace = about(text, answer=sentence(page[-1]))
    assert graded("support", trace).label == "certified"
    assert graded("contradiction", trace).outcome == "pass"
    assert graded("numbers", trace).outcome == "pass"


@settings(max_examples=60, deadline=None)
@given(pages, st.integers(11, 99))
def test_another_number_is_never_certified(page: list[tuple[str, str, int]], months: int) -> None:
    """Convicted when the number stands nowhere; when it stands elsewhere in the document, at least not certified."""
    fact = page[0]
    if months == fact[2]:
        return
    trace = about(" ".join(sentence(other) for other in page), answer=sentence(fact, months))
    known = {other[2] for other in page}
    support = graded("support", trace)
    if months in known:
        return
    assert support.label != "certified"
    number = graded("numbers", trace)
    assert number.outcome in ("fail", "unknown")
    if number.outcome == "fail" and len(page) == 1:  # else it may be made from the others: twice as much, a sum
        assert graded("contradiction", trace).label == "contradicted_value"
        assert support.label == "contradicted"


def test_a_number_of_another_place_in_the_document_is_not_certified() -> None:
    filler = " ".join(
        f"Paragraph {n} talks at length of entirely different matters and of nobody's tools." for n in range(60)
    )
    page = f"{sentence(('pump', 'Bergen', 24))} {filler} {sentence(('ladder', 'Quito', 36))}"
    assert graded("support", about(page, answer=sentence(("pump", "Bergen", 24)))).label == "certified"
    assert graded("support", about(page, answer=sentence(("pump", "Bergen", 36)))).label != "certified"


@settings(max_examples=30, deadline=None)
@given(facts)
def test_not_on_one_side_is_pointed_out(fact: tuple[str, str, int]) -> None:
    denied = sentence(fact).replace("carries", "does not carry")
    for page, answer in ((sentence(fact), denied), (denied, sentence(fact))):
        trace = about(page, answer=answer)
        assert graded("contradiction", trace).label == "polarity_mismatch"
        assert graded("support", trace).label != "certified"
    assert graded("contradiction", about(denied, answer=denied)).outcome == "pass"


@settings(max_examples=30, deadline=None)
@given(facts, st.integers(11, 99))
def test_a_quotation_altered_by_a_digit(fact: tuple[str, str, int], months: int) -> None:
    quoted = about(sentence(fact), answer=f'The leaflet says "{sentence(fact, months)}"')
    found = graded("quotes", quoted)
    assert (found.outcome, found.severity) == (("pass", "info") if months == fact[2] else ("fail", "high"))
    assert months == fact[2] or found.label == "quote_altered"


@settings(max_examples=60, deadline=None)
@given(st.floats(11, 99_999).map(lambda x: round(x, 6)), st.integers(0, 4))
def test_rounding_within_what_is_printed_is_support(value: float, places: int) -> None:
    shown = f"{value:.{places}f}"
    trace = conversation(
        [{"user": "q"}, {"tool": "get", "result": f'{{"load": {value!r}}}'}, {"assistant": f"Load {shown}."}]
    )
    assert graded("numbers", trace).outcome in ("pass", "skip")  # skipped: a whole number up to ten is not looked at


@pytest.mark.parametrize(
    "raw", ["Straße İstanbul №5", "a\u200bb ｆｕｌｌ", '{"a": "x\\u00e9y\\n\\"z\\""}', "“quoted” – dash", "٣٤٥"]
)
def test_folded_text_finds_its_way_back(raw: str) -> None:
    folded = fold(raw)
    assert folded.text == folded.text.lower()
    for at in range(len(folded.text)):
        assert 0 <= folded.raw(at) < len(raw)
    assert folded.raw(0) == 0


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_claims_lie_in_the_answer_in_order(text: str) -> None:
    answer = Answer(text)
    end = 0
    for claim in answer.claims:
        assert end <= claim.start < claim.end <= len(answer.plain)
        end = claim.end
        first, last = answer.place(claim.start, claim.end)
        assert 0 <= first < last <= len(text)
    for number in claimed(answer.plain).numbers:
        assert any(char.isdecimal() for char in answer.said(number.start, number.end))


def test_offsets_point_at_what_they_quote() -> None:
    page = "Ünnötig first. " + sentence(("pump", "Bergen", 24))
    answer = "“Sure.” " + sentence(("pump", "Bergen", 37))
    said, stands = graded("contradiction", about(page, answer=answer)).evidence
    assert (said.where, said.text, answer[said.start : said.end]) == ("answer", "37", "37")
    assert (stands.where, stands.text, page[stands.start : stands.end]) == ("d0", "24", "24")
    answer = "Hello! " + sentence(("pump", "Bergen", 24)) + " Nobody regrets buying that one."
    claim, place, rest = graded("support", about(page, answer=answer)).evidence
    assert answer[claim.start : claim.end] == claim.text == sentence(("pump", "Bergen", 24))
    assert sentence(("pump", "Bergen", 24)) in place.text
    assert (rest.where, rest.text) == ("answer", "Nobody regrets buying that one.")


def test_offsets_into_escaped_json_are_those_of_the_raw_text() -> None:
    result = '{"note": "caf\\u00e9\\n\\"' + sentence(("pump", "Bergen", 24)) + '\\""}'
    answer = sentence(("pump", "Bergen", 37))
    trace = conversation([{"user": "q"}, {"tool": "get", "result": result}, {"assistant": answer}])
    _, stands = graded("contradiction", trace).evidence
    (call,) = trace.tool_calls
    assert (stands.where, call.result[stands.start : stands.end]) == ("result", "24")


def test_what_is_claimed() -> None:
    text = (
        "# Results\nHello! Here is what I found:\n1. Dr. Reed of the U.S. office won.\n2. **Prize:** a lamp.\n\n"
        "| name | age |\n|---|---|\n| Tom | 31 |\n```\nx = 1.\n```\nIs that fine? Version 2.0 is out now! Let me know if not."
    )
    answer = Answer(text)
    assert [answer.said(c.start, c.end) for c in answer.claims] == [
        "Dr. Reed of the U.S. office won.",
        "Prize:** a lamp.",
        "| Tom | 31 |",
        "Version 2.0 is out now!",
    ]


def test_endings_do_not_matter() -> None:
    for one, other in (("studies", "study"), ("planned", "planning"), ("boxes", "box"), ("cancelled", "cancels")):
        assert stems(one) == stems(other), (one, other)


def test_the_report_of_a_trace_is_made_once_and_not_mixed_up() -> None:
    one, other = about("Pumps are blue.", answer="Pumps are blue."), about("Pumps are blue.", answer="Pumps are red.")
    assert report(one) is report(one)
    assert report(other).answer.raw == "Pumps are red."
    assert report(one).answer.raw == "Pumps are blue."
    seen: list[Report] = []
    thread = threading.Thread(target=lambda: seen.append(report(one)))
    thread.start()
    thread.join()
    assert seen[0] is not report(one)


GARBAGE = [
    "",
    " ",
    "\n" * 5000,
    "|" * 5000,
    "[" * 5000,
    "[1]" * 3000,
    '"' * 5000,
    "0" * 5000,
    "1.1" * 3000,
    "- " * 4000,
    "\\" * 5000,
    "\\u00e" * 2000,
    "a" * 50_000,
    "x@" * 5000,
    "<A:" * 3000,
    "= 1 " * 3000,
    "1 (" * 3000,
    "*" * 5000 + "(",
    "‮\u200b" * 3000,
    "漢" * 5000,
    "١٢٣ " * 2000,
    '"a b c d e f" says ' * 500,
    "12, 345, " * 2000,
    "may 1 " * 2000,
    "{" * 5000 + "}" * 5000,
    "not n't no " * 2000,
    "https://" + "a" * 5000,
]


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_breaks_nothing_and_takes_no_time(text: str) -> None:
    graders = load_graders({f"evidence/{name}": {} for name in FAMILY})
    traces = [
        about(text or "x", answer='The pump costs 42.5 dollars, they say "all of it is blue and new" [1].'),
        about("The pump costs 41.5 dollars.", answer=text or "x"),
        about(text or "x", answer=text or "x"),
        conversation([{"user": text}, {"tool": "get", "arguments": {"a": text}, "result": text}, {"assistant": text}]),
    ]
    started = time.thread_time()
    for trace in traces:
        for grader in graders:
            assert len(grade(grader, trace)) == 1
    assert time.thread_time() - started < 5


def test_time_grows_with_the_text_not_with_its_square() -> None:
    """200 KB of evidence and a page of answer, and four times as much evidence."""
    random.seed(7)
    words = [
        f"{a}{b}{c}" for a in ("ba", "ke", "li", "no", "tru") for b in ("ra", "sto", "ni", "vel") for c in "aeioxn"
    ]
    text = " ".join(f"{' '.join(random.choices(words, k=14))} {random.randint(1, 10**6)}." for _ in range(2200))
    answer = " ".join(f"{' '.join(random.choices(words, k=12))} {random.randint(1, 10**6)}." for _ in range(25))
    graders = load_graders({f"evidence/{name}": {} for name in FAMILY})

    def seconds(copies: int) -> float:
        trace = about("\n".join(text + f" edition {n}" for n in range(copies)), answer=answer)
        started = time.thread_time()
        for grader in graders:
            grade(grader, trace)
        return time.thread_time() - started

    once = min(seconds(1) for _ in range(2))
    assert len(text) > 200_000
    assert once < 1.5
    assert seconds(4) < 10 * once + 0.5


def test_more_than_is_read_is_said() -> None:
    long = " ".join(f"Claim number {n} names the colour of lamp {n}." for n in range(400))
    assert (graded("support", about("x", answer=long)).label) == "budget_exceeded"
    many = about(*["The lamp is blue. " * 30_000] * 6, answer="The lamp is blue and costs 42.5.")
    found = graded("support", many)
    assert (found.outcome, found.label) == ("unknown", "budget_exceeded")
    assert graded("numbers", many).outcome == "unknown"
    assert graded("support", about("x", answer="a " * 150_000)).label == "budget_exceeded"


def test_the_graders_keep_the_contract() -> None:
    for grader in load_graders({f"evidence/{name}": {} for name in FAMILY}):
        check_grader(grader, about("Pumps are blue.", answer="Pumps are blue [1]."))


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(["pump", "caf\u00e9", "\u6f22\u5b57", "12.5", "a_b", "\u201cno\u201d", "\u2022"]), min_size=1
    ),
    st.integers(1, 400),
)
def test_a_word_is_found_where_it_stands(parts: list[str], times: int) -> None:
    reading = Reading(" ".join(parts * times))
    placed = list(spelled(reading.folded.text, 0, len(reading.folded.text)))
    assert reading.stems == [STEMS[word] for word, _ in placed]
    for number in {0, len(placed) // 2, len(placed) - 1} if placed else ():
        assert reading.start_of(number) == placed[number][1]


@given(st.text(st.sampled_from('aN \\nrt"/.\u0130\u03a3\u03c3\u00c9\u2019\u00b2\ud800')))
def test_folding_keeps_every_character_in_its_place(text: str) -> None:
    """Read at once, and one character after the other."""
    folded = fold(text)
    plain = text.replace("\\\\", "  ")
    for sign, same in (("n", "\n "), ("r", "\n "), ("t", "  "), ('"', ' "'), ("/", " /")):
        plain = plain.replace("\\" + sign, same)
    small = plain.replace("\u0130", "I").lower().replace("\u2019", "'").replace("\u00b2", " ")
    assert (folded.text, folded.moved) == (small, ())


def test_what_is_kept_has_a_limit_and_is_kept_by_content() -> None:
    kept = _Kept()
    text = "The pump is blue. " * 50
    first = kept.get(text)
    assert kept.get("".join(text)) is first
    for number in range(30_000):
        kept.get(f"{number} {text}")
    held = [*kept._young, *kept._old]
    assert 0 < sum(map(len, held)) * 12 <= _KEPT
    assert kept.get(text) is not first
    huge = "x" * _KEPT
    assert kept.get(huge) is not kept.get(huge)
    last = kept.get(text)
    kept.clear()
    assert kept.get(text) is not last


def test_threads_share_what_is_kept() -> None:
    kept, wrong = _Kept(), list[str]()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(2000):
            word = f"pump{chance.randrange(300)}"
            if kept.get(word + " stands " * 500).stems[0] != word:
                wrong.append(word)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_quotation_found_by_its_letters_ends_where_its_words_end() -> None:
    said = 'The report says "the pump runs at full speed".'
    assert graded("quotes", about("The pump runs at full speed, always.", answer=said)).outcome == "pass"
    assert graded("quotes", about("Quote: the pump  runs: at full speed!", answer=said)).outcome == "pass"
    assert graded("quotes", about("The pump runs at full speedways today.", answer=said)).outcome == "fail"
