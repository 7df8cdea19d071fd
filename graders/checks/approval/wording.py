"""What sentences do: which of them ask for a yes, whether one says yes, what a question is about, what a reply leaves out.

The words are the policy's; only what the comparison itself needs is here, and is English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from graders.checks.approval.values import ids_in, values_of
from graders.policy import UserConfirmation
from store.types import ToolCall, Trace

_SENTENCE = re.compile(r"[^.?!\n]+(?:[.?!]+(?=[^\s.?!])[^.?!\n]+)*[.?!]*")
"""Up to a stop with a blank behind it: `12.50` and `example.com` are in one piece."""
_WORD = re.compile(r"[a-z]{3,}")


def sentences(text: str) -> list[str]:
    """The sentences of a text, and its lines."""
    return [found[0].strip() for found in _SENTENCE.finditer(text)]


def asking(rules: UserConfirmation, proposal: str) -> list[str]:
    """The sentences of the assistant that a yes can answer."""
    found = []
    for sentence in sentences(proposal):
        if rules.never.search(sentence):
            continue
        if rules.asking.search(sentence) or (sentence.endswith("?") and not rules.open.search(sentence)):
            found.append(sentence)
    return found


_TURN = re.compile(r"\W*(?:but|if|is|are|was|does|do|did|what|how|when|why|which|who|where)\b", re.IGNORECASE)


def consent(rules: UserConfirmation, reply: str) -> str | None:
    """The sentence of the user that says yes, if one does; a question says nothing, but `Yes, and could you …?` does."""
    for sentence in sentences(reply):
        if not rules.yes.search(sentence):
            continue
        if not sentence.endswith("?"):
            return sentence
        lead, _, rest = sentence.partition(",")
        if rest and len(lead.split()) <= 2 and rules.yes.search(lead) and not _TURN.match(rest):
            return lead
    return None


_COMMON = frozenset({
    "get", "the", "and", "for", "with", "tool", "tools", "mcp", "function", "call", "all", "new", "from",
})  # fmt: skip
_NAME_PART = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}")


@lru_cache(maxsize=4096)
def _name_words(name: str) -> tuple[str, ...]:
    """The words of a tool's name, without the server it is from: `mcp__shop__cancel_order`, `shop.cancelOrder`."""
    own = re.split(r"__|\.", name)[-1]
    words = dict.fromkeys(word.lower() for word in _NAME_PART.findall(own))
    return tuple(word for word in words if len(word) > 2 and word not in _COMMON)


def _alike(word: str, other: str) -> bool:
    """Whether two words are forms of one: cancel and cancellation, bags and baggages."""
    size = max(3, -(-7 * min(len(word), len(other)) // 10))
    return word[:size] == other[:size]


@lru_cache(maxsize=512)
def _said(text: str) -> Mapping[str, Sequence[str]]:
    """The words of a text by their first three letters."""
    found: dict[str, list[str]] = {}
    for word in dict.fromkeys(_WORD.findall(text.lower())):
        found.setdefault(word[:3], []).append(word)
    return found


def _hits(words: Sequence[str], said: Mapping[str, Sequence[str]]) -> int:
    """How many of the words a text holds in some form."""
    return sum(any(_alike(word, other) for other in said.get(word[:3], ())) for word in words)


def other_tool(trace: Trace, asked: Sequence[str], call: ToolCall) -> str:
    """Another tool that the questions are about: they hold the word its name begins with, and more of its words than of this
    call's; and neither the word this call's name begins with, nor its values.
    """
    said = _said(" ".join(asked))
    own = _name_words(call.name)
    if not said or not own or _hits(own[:1], said):
        return ""
    best, most = "", max(1, _hits(own, said))
    for name in (*(d.name for d in trace.tool_definitions), *(c.name for c in trace.tool_calls)):
        words = _name_words(name)
        if name != call.name and words and words[0][:3] in said and _hits(words[:1], said):
            hits = _hits(words, said)
            if hits > most or (hits == most and best and name < best):
                best, most = name, hits
    if best and any(v.is_id and v.stands_in(sentence) for v in values_of(call.arguments or {}) for sentence in asked):
        return ""
    return best


_ANAPHORA = re.compile(
    r"\b(?:proceed|go ahead|go on|continue|confirm|correct|details|changes?|actions?)\b"
    r"|\b(?:this|these|that|those|it|them|everything)\b",
    re.IGNORECASE,
)


def about(asked: Sequence[str], call: ToolCall, other: str) -> bool:
    """Whether one of the questions may have been about a call."""
    return not other and any(_ANAPHORA.search(sentence) or mentions(sentence, call) for sentence in asked)


def mentions(shown: str, call: ToolCall) -> bool:
    """Whether a text speaks of a call: by a word of its tool's name, or a value."""
    if _hits(_name_words(call.name), _said(shown)) > 0:
        return True
    return any(v.checkable and v.stands_in(shown) for v in values_of(call.arguments or {}))


_LEFT_OUT = re.compile(r"\b(?:not|except|don['’]?t|without|leave|keep|excluding|other than|but no)\b", re.IGNORECASE)


def left_out(reply: str) -> set[str]:
    """Ids that the user's reply names to leave them out: those behind a word of exception in one clause."""
    refused: set[str] = set()
    for sentence in sentences(reply):
        for clause in re.split(r"[,;]|\band\b|\bthen\b", sentence):
            if found := _LEFT_OUT.search(clause):
                refused.update(word.casefold() for word in ids_in(clause[found.end() :]))
    return refused
