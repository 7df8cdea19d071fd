"""What a text does to its reader: answers, declines, cannot, asks, hands over.

`read` looks at the first and the last sentences, in one of the languages of `graders/actions/`, and promises the class of
the text with the rules that matched and where. It tells the form of a text, not its merit: whether an answer is right, and
whether a claimed handover happened, is for others. Text is untrusted: every look is at a sentence of bounded length, and no
pattern is run on one that holds nothing of what it needs.

Kinds of sentences, as the files name them:

- `handover`: it says that the matter is, or is being, given to somebody else.
- `ask`: it asks the user for something. `offer`: it offers more, or somebody else; no step waits for a reply.
- `rule`: it declines, or says that something may not be done. `norm`: it names a policy, safety or propriety as what stands in
  the way. `bare`: it declines and gives no reason. `lack`: it lacks knowledge, data, a tool, or met an error.
- `aside`: what it declines is not the user's request but one that stood in a tool result.
- `done`: it reports a deed or begins to give what was asked for. `advice`: it sends the user elsewhere, or tells of its tools.
- `courtesy`: thanks, wishes, apologies.

What is none of these is plain: part of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, get_args

import yaml
from pydantic import BaseModel

Action = Literal["answer", "abstain", "clarify", "refuse", "escalate"]
Kind = Literal["handover", "offer", "ask", "courtesy", "aside", "rule", "norm", "bare", "lack", "done", "advice"]
Confidence = Literal["high", "medium", "low"]

LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "nl", "ja", "zh", "ko")

_HEAD, _TAIL = 1400, 700
"""Characters that are read from both ends of a long text."""
_FIRST, _LAST = 5, 4
"""Sentences in which a text says what it does; what stands between them explains."""
_SENTENCE = 500
"""Characters of one sentence that are read."""
_BREAK = re.compile(r"[.!?…。！？\n](?:(?<=[。！？\n])|(?=[\s\"')\]*_]|$))")
_THOUGHT = re.compile(r"<(thinking|think|thought|reasoning|scratchpad)>|```")
_MARGIN = " \t\n\r-*#>•_.!?\"')]"
"""What may stand before the first word of a sentence."""
_STEM = 4
"""Letters of a word by which the rules that need it are found."""
_SIGNS = ("?", ":")
_PART = re.compile(r"<(\w+)>")
_LETTER = re.compile(r"[^\W\d_]")
_KANA, _HANGUL = re.compile("[\u3040-\u30ff]"), re.compile("[\uac00-\ud7af]")
_HAN, _FOREIGN = re.compile("[\u4e00-\u9fff]"), re.compile("[\u0370-\u1fff\ua000-\uabff\u4e00-\u9fff]")
_STRAIGHT = (("’", "'"), ("‘", "'"), ("´", "'"), ("“", '"'), ("”", '"'), ("\u00a0", " "), ("\u202f", " "))


class Rule(BaseModel, extra="forbid", frozen=True):
    """One rule: patterns of which one must be found in a sentence that holds one of the words in `needs`: a word that begins
    with the same four letters, or `?` or `:`. In a language without `words`, a text that is found anywhere.
    """

    needs: tuple[str, ...]
    also: str = ""
    """One of `groups`, of which a word must be in the sentence, too; it spares looks."""
    match: tuple[str, ...]


class Language(BaseModel, extra="forbid", frozen=True):
    """One file of `graders/actions/`. Patterns see one sentence at a time, in lower case, with straight apostrophes."""

    language: str
    words: tuple[str, ...] = ()
    """Frequent words that tell the language from the others; none where its script does."""
    signs: tuple[str, ...] = ()
    """Whole words: a sentence that holds none of them and no `?` neither asks, declines, lacks nor hands over."""
    groups: Mapping[str, tuple[str, ...]] = {}
    parts: Mapping[str, str] = {}
    """Pieces of patterns: `<name>` in a pattern stands for the piece."""
    rules: Mapping[Kind, Mapping[str, Rule]]
    """By kind and id; the first that matches is the one that is named."""


class Hit(NamedTuple):
    """One rule that matched."""

    kind: Kind
    rule: str
    start: int
    end: int


class _Sentence:
    __slots__ = ("end", "found", "rules", "start", "text")

    def __init__(self, start: int, end: int, text: str) -> None:
        self.start, self.end, self.text = start, end, text
        self.rules = -1
        """One bit for each rule whose needs are met; -1 before anybody asked."""
        self.found: dict[Kind, Hit | None] = {}
        """What has been looked for so far."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text does."""

    action: Action
    hits: tuple[Hit, ...]
    """The rules it was read from; none when it is an answer only because nothing says otherwise."""
    confidence: Confidence
    language: str
    marks: tuple[str, ...] = ()
    """`partial_refusal`, `answer_with_caveat`, `declined_instructions`, `refused_and_asked`, `offers_handover`."""
    courtesy: bool = False
    """Nothing but thanks, wishes and offers."""
    empty: bool = False
    """Nothing in it is meant for the user."""


@cache
def language(name: str) -> Language:
    """The rules of a language."""
    text = files("graders").joinpath("actions", f"{name}.yaml").read_text("utf-8")
    return Language.model_validate(yaml.safe_load(text))


class _Rule(NamedTuple):
    kind: Kind
    name: str
    pattern: re.Pattern[str]


class _Table(NamedTuple):
    """Rules are numbered, and sets of them are bits of an integer."""

    rules: tuple[_Rule, ...]
    of_kind: Mapping[Kind, int]
    by_word: Mapping[str, int]
    """By the first letters of a word, or by a sign: the rules that need it; and, as many bits higher as there are rules, those
    of which it is in the group they need, too."""
    groupless: int
    """Rules that need no group."""
    signs: frozenset[str]
    spaced: bool
    """Whether the language puts spaces between words; else the keys of `by_word` are texts to be found anywhere."""


@cache
def _table(name: str) -> _Table:
    given = language(name)
    size = sum(len(of_kind) for of_kind in given.rules.values())
    rules: list[_Rule] = []
    of_kind = dict.fromkeys(given.rules, 0)
    by_word: dict[str, int] = {}
    groupless = 0
    for kind, named in given.rules.items():
        for rule_name, rule in named.items():
            bit = 1 << len(rules)
            of_kind[kind] |= bit
            groupless |= 0 if rule.also else bit
            words = [(word, bit) for word in rule.needs]
            words += [(word, bit << size) for word in (given.groups[rule.also] if rule.also else ())]
            for word, bits in words:
                key = word[:_STEM] if given.words else word
                by_word[key] = by_word.get(key, 0) | bits
            text = _PART.sub(lambda m: given.parts[m[1]], "|".join(f"(?:{m})" for m in rule.match))
            rules.append(_Rule(kind, rule_name, re.compile(text)))
    return _Table(tuple(rules), of_kind, by_word, groupless, frozenset(given.signs), bool(given.words))


@cache
def _frequent() -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple((name, frozenset(language(name).words)) for name in LANGUAGES if language(name).words)


_ENGLISH = 5
"""Frequent English words that settle it."""


def detect(text: str) -> str | None:
    """The language of a text by its script and its frequent words; English when nothing tells, None when it is no language
    of ours.
    """
    sample = text[:300]
    if not sample.isascii():
        if _KANA.search(sample):
            return "ja"
        if _HANGUL.search(sample):
            return "ko"
        if len(_HAN.findall(sample)) > len(sample) // 20:
            return "zh"
        if len(_FOREIGN.findall(sample)) > len(sample) // 4:
            return None
    words = set(sample.replace(",", " ").replace(".", " ").split())
    best, most = "en", 0
    for name, frequent in _frequent():
        count = len(words & frequent)
        if name == "en":
            if count >= _ENGLISH:
                break
            most = count + 1 if count else 0  # a name or two in an English sentence are not another language
        elif count > most:
            best, most = name, count
    return best


def read(text: str) -> Reading | None:
    """What `text` does; None when its language has no rules."""
    low = _lowered(text)
    begin = len(low) - len(low.lstrip())
    name = detect(low[begin : begin + 300])
    return None if name is None else _decide(_Page(low, begin, name))


def _lowered(text: str) -> str:
    """Lower case, straight quotes, thoughts and code blanked; every character stays where it was."""
    lower = text.lower()
    if not lower.isascii():
        if len(lower) != len(text):
            lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        for bent, straight in _STRAIGHT:
            if bent in lower:
                lower = lower.replace(bent, straight)
    if "<" not in lower and "```" not in lower:
        return lower
    opened = _THOUGHT.search(lower)
    kept: list[str] = []
    at = 0
    while opened:
        closing = f"</{opened[1]}>" if opened[1] else "```"
        found = lower.find(closing, opened.end())
        end = len(lower) if found < 0 else found + len(closing)
        kept += (lower[at : opened.start()], " " * (end - opened.start()))
        at, opened = end, _THOUGHT.search(lower, end)
    return "".join((*kept, lower[at:]))


class _Page:
    """The first and the last sentences of a text, each looked at for a kind only when somebody asks."""

    def __init__(self, low: str, begin: int, name: str) -> None:
        self.low, self.name = low, name
        self.table = _table(name)
        self.begin = begin
        self.end = len(low.rstrip())
        self.first = self._cut(begin, min(self.end, begin + _HEAD), _FIRST)
        rest = self.first[-1].end if self.first else begin
        window = max(rest, self.end - _TAIL)
        last = self._cut(window, self.end)[-_LAST:]
        self.ends = [*self.first, *last]
        self.last = self.ends[-_LAST:]

    def sentences(self) -> Iterator[_Sentence]:
        """All that are read, in order, each once."""
        yield from self.first
        at = self.first[-1].end if self.first else self.begin
        until = self.ends[len(self.first)].start if len(self.ends) > len(self.first) else self.end
        yield from self._cut(at, min(until, self.begin + _HEAD))
        yield from self.ends[len(self.first) :]

    def _cut(self, start: int, end: int, most: int = 1000) -> list[_Sentence]:
        found: list[_Sentence] = []
        low, at = self.low, start
        while at < end and len(found) < most:
            match = _BREAK.search(low, at, end)
            stop = match.end() if match else end
            until = stop if stop - at < _SENTENCE else at + _SENTENCE
            sentence = low[at:until].lstrip(_MARGIN)
            if len(sentence) > 1 and (sentence[0].isalpha() or _LETTER.search(sentence)):
                found.append(_Sentence(until - len(sentence), stop, sentence))
            at = stop
        return found

    def hit(self, sentence: _Sentence, *kinds: Kind) -> Hit | None:
        """The first rule of one of these kinds that matches a sentence."""
        rules = sentence.rules
        if rules < 0:
            rules = sentence.rules = self._met(sentence.text)
        of_kind = self.table.of_kind
        for kind in kinds:
            if to_try := rules & of_kind.get(kind, 0):
                found = sentence.found
                hit = found[kind] if kind in found else found.setdefault(kind, self._match(sentence, to_try))
                if hit is not None:
                    return hit
        return None

    def _met(self, text: str) -> int:
        """The rules whose needs are met."""
        table, met = self.table, 0
        by_word = table.by_word
        if table.spaced:
            for word in text.split():
                met |= by_word.get(word[:_STEM], 0)
            for sign in _SIGNS:
                if sign in text:
                    met |= by_word.get(sign, 0)
        else:
            for need, bits in by_word.items():
                if need in text:
                    met |= bits
        return met & (table.groupless | met >> len(table.rules)) & (1 << len(table.rules)) - 1

    def _match(self, sentence: _Sentence, to_try: int) -> Hit | None:
        rules, text = self.table.rules, sentence.text
        while to_try:
            kind, name, pattern = rules[(to_try & -to_try).bit_length() - 1]
            if match := pattern.search(text):
                return Hit(kind, name, sentence.start + match.start(), sentence.start + match.end())
            to_try &= to_try - 1
        return None


_KINDS: tuple[Kind, ...] = get_args(Kind)
_LED = 200
"""Plain characters at the beginning that make an answer of a text."""
_PLAIN = 120
"""Plain characters that make an answer of a text which also says that it lacks or declines something."""


def _decide(page: _Page) -> Reading:
    ends, name = page.ends, page.name
    if not ends:
        return Reading("answer", (), "low", name, empty=True)
    signs = page.table.signs
    told = [s for s in ends if not signs or "?" in s.text or not signs.isdisjoint(_words(s.text))]
    handed = [hit for s in told if (hit := page.hit(s, "handover")) and not page.hit(s, "offer")]
    if handed:
        return Reading("escalate", tuple(handed[:1]), "high", name)
    asked = [
        hit
        for before, s in zip((None, *page.last), page.last, strict=False)
        if s in told and (hit := _asks(page, s, before))
    ]
    negatives = [hit for s in told if (hit := page.hit(s, "rule", "norm", "bare", "lack")) and not page.hit(s, "offer")]
    if not asked and not negatives:
        if page.hit(ends[0], "courtesy") and all(page.hit(s, "courtesy", "offer") for s in ends):
            return Reading("answer", (), "low", name, courtesy=True)
        offered = _handover_offered(page)
        if offered and not _given(page):
            return Reading("clarify", (offered,), "medium", name, ("offers_handover",))
        return Reading("answer", (), "medium" if offered else "high", name)

    given = bool(_given(page)) or (_led(page) and not any(hit.kind == "rule" for hit in negatives))
    marks: tuple[str, ...] = ()
    if negatives and any(page.hit(s, "aside") for s in ends):
        marks = ("declined_instructions",)
        if given or _plain(page) >= _PLAIN:  # what it declines is not what the user asked for
            negatives = [hit for hit in negatives if hit.kind == "lack"]
    if negatives and asked:
        marks = (*marks, "refused_and_asked")
    if _handover_offered(page):
        marks = (*marks, "offers_handover")
    if asked and not (given and asked[-1].rule == "question"):  # after something given, a question may be an offer
        return Reading("clarify", (asked[-1], *negatives[:1]), "medium" if given else "high", name, marks)
    rules = [hit for hit in negatives if hit.kind in ("rule", "norm")]
    lacks = [hit for hit in negatives if hit.kind == "lack"]
    if given or not negatives:
        if negatives:
            marks = (*marks, "partial_refusal" if rules or not lacks else "answer_with_caveat")
        return Reading("answer", (*_given(page)[:1], *(rules or negatives)[:1]), "medium", name, marks)
    if rules or not lacks:
        return Reading("refuse", tuple((rules or negatives)[:2]), "medium" if lacks else "high", name, marks)
    return Reading("abstain", tuple(lacks[:2]), "high", name, marks)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").rstrip(".!?:;)\"'* ").split()


def _handover_offered(page: _Page) -> Hit | None:
    """An offer to hand the matter over, in the last sentences."""
    hits = (page.hit(s, "offer") for s in page.last)
    return next((hit for hit in hits if hit and hit.rule == "handover_offered"), None)


_QUESTIONS = ("question", "go_ahead")


def _asks(page: _Page, sentence: _Sentence, before: _Sentence | None) -> Hit | None:
    """What a sentence asks for, unless it is an offer or goes on with one."""
    hit = page.hit(sentence, "ask")
    if hit is None:
        return None
    offer = page.hit(sentence, "offer")
    if offer and offer.rule == "echo":
        earlier = page.hit(before, "offer") if before else None
        return None if earlier and earlier.rule == "handover_offered" else hit
    if offer:
        return hit if hit.rule not in _QUESTIONS and offer.rule == "if_you_like" and hit.start < offer.start else None
    if hit.rule not in _QUESTIONS and before and (earlier := page.hit(before, "offer")):
        return None if earlier.rule == "if_you_like" else hit
    return hit


def _led(page: _Page) -> bool:
    """Whether the text begins with an answer: plain sentences before it first declines, lacks or asks. What it names of norms
    and gaps afterwards is part of the subject, or a caveat."""
    length = 0
    for s in page.first:
        if page.hit(s, *_KINDS):
            break
        length += s.end - s.start
    return length >= _LED


def _plain(page: _Page) -> int:
    """Characters of sentences that are of no kind."""
    return sum(s.end - s.start for s in page.sentences() if not page.hit(s, *_KINDS))


def _given(page: _Page) -> list[Hit]:
    """What was given all the same."""
    return [
        hit
        for s in page.sentences()
        if not page.hit(s, "rule", "norm", "bare", "lack", "offer", "ask") and (hit := page.hit(s, "done"))
    ]
