"""Does the answer have ground to stand on at all?

These rules look at what came before the answer, not at whether its sentences agree with it (`graders.checks.evidence` does): an
answer with nothing behind it, a gap its author knew of and kept quiet about, a deed that was never done, evidence that came
too late. Words are data (`graders/grounds.yaml`); what is said in a language without words there convicts nobody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

from graders import effects, wording
from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.messages import hides_calls
from graders.policy import AgentPolicy, Effect
from store.types import ContentState, Evidence, Message, Severity, Span, SpanKind, ToolCall, Trace

_MAX_GIVEN = 200_000
_MAX_ANSWERS = 50
_QUOTED = 300
_NEW_WORDS = 5
"""So many words that nobody said before make what a program printed more than an echo of the program."""
_QUOTATION = 20
"""So many letters of an answer that stand in the question are a quotation; fewer may be one of the choices it gives."""
_LATE_ANCHOR = 3
"""Shorter values stand in most texts."""
_MAX_ANCHORS = 200
_MAX_WORDS = 100
_BEGINNING = 1_000
"""So much of a result says whether it is one."""
_MAX_PRINTED = 4_000
_MAX_HEARD = 100_000
_MAX_RESULT = 20_000
_MAX_KNOWN = 1_000_000
"""Who was told more than this is not said to have made a value up."""
_PLAN = 3
"""So many numbered lines are a plan."""
_CROSSED = 2
"""So many sources make a cross-check."""
_HIDDEN = "neither tool spans nor the messages of a model call are captured"

_NOISE = re.compile(r"[\W_]+")
_ASCII_NOISE = bytes(c for c in range(128) if not chr(c).isalnum())
_WORDS = re.compile(r"[^\W\d_]{4,40}")
_ANCHOR = re.compile(r"https?://[^\s<>\"')\]]{4,300}|[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{2,63}|\d[\d.,:/-]{0,40}\d")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LITERAL = re.compile(r"(?:[rbf]{0,2}(\"\"\"|'''|\"|')|[\[({]?[-+\d])", re.IGNORECASE)
_STRINGS = re.compile(
    r"[rb]{0,2}(?:\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|\"[^\"\n]*\"|'[^'\n]*')|\#[^\n]*", re.DOTALL | re.IGNORECASE
)
_ASSIGNED = re.compile(r"^[ \t]*([^\W\d]\w*)[ \t]*=(?!=)", re.MULTILINE)
_NAMES = re.compile(r"[^\W\d]\w*")
_STEP = re.compile(r"^[ \t]{0,8}\d{1,2}[.)] ", re.MULTILINE)
_HOST = re.compile(r"https?://([\w.-]{1,253})")


class AnsweredWithoutEvidence(Grader, name="evidence/answered_without_evidence", version="2"):
    """Something was found before the answer was given.

    One grade a model call that gives an answer, on its span. The label of a failure:
    - `fruitless`: there were calls, and each was empty or failed.
    - `planned_not_called`: nothing was looked up, although the agent had planned to call a tool.
    - `nothing_looked_up`: nothing was looked up, although tools were offered.
    - `gap_hidden`: the model wrote, beside its answer, that it did not find what it needed; the answer does not say so.
    - `gap_passed_over`: what came back last, from a tool or another agent, begins by saying that nothing was found; the answer
      does not say so.
    - `check_claimed`: the answer says that it was cross-checked, or that several sources agree, with fewer than two at hand or
      with an address or number in it that stands in none; or it says so, or calls its result verified, although it says itself
      that what was looked for was not found.
    - `given_up_untried`: the answer says that it cannot be done; nothing was tried, although the agent had written down a plan.

    These last four are asked of answers given through a tool for answers.

    What a program printed is something found when it is more than an echo of the program. An answer through a tool for answers
    is judged whatever it says; one in plain words only if it states a number, date, address or id that neither the user nor the
    system had said. Passed: an answer that quotes the question (`given`), that says it lacks something or asks back
    (`disclosed`), that states nothing of the kind (`no_claim`), and any answer of a case whose `evidence` is `parametric`.
    Skipped without an answer or tools. `unknown` when the trace cannot show calls, when what a retrieval returned is not
    captured, when the program that computes the answer reads by itself, and (`self_contained`) when the agent planned no call
    and had said that nothing has to be looked up.
    """

    uses_case: ClassVar[bool] = True

    def grade(self, trace: Trace) -> Iterator[Score]:
        if hides_calls(trace):
            yield unknown(_HIDDEN) if trace.spans else skip("no spans")
            return
        answers = _answers(trace)
        if not answers:
            yield skip("no answer")
            return
        if trace.case is not None and trace.case.evidence == "parametric":
            yield passed("the case asks for what the model knows", label="parametric")
            return
        found = _Found(trace, min(a.span.start_ns for a in answers))
        for answer in answers:
            yield self._judge(trace, answer, found)

    def _judge(self, trace: Trace, answer: _Answer, found: _Found) -> Score:
        place: dict[str, Any] = {"span_id": answer.span.span_id}
        quoted = Evidence(answer.span.span_id, "answer", answer.text[:_QUOTED])
        when = answer.span.start_ns
        if found.by(when):
            if answer.literal and answer.explicit and (quiet := _kept_quiet(answer, found)):
                return quiet
            return passed("something was found before", label="found", **place)
        if found.unseen(when):
            return unknown("what was retrieved is not captured", **place)
        if not answer.literal and wording.program_reads(answer.reasoning):
            return unknown("the program that computes the answer reads by itself", **place)
        if not answer.explicit and not found.tools:
            return skip("no tools were offered", **place)
        if wording.disclosed(answer.text) or wording.asks(answer.text):
            if answer.explicit and not found.tried(when) and not wording.asks(answer.text) and found.steps(when):
                reason = "given up, and no step of the plan was taken"
                return failed(reason, label="given_up_untried", evidence=[quoted], **place)
            return passed("the answer says what is missing", label="disclosed", **place)
        if not answer.explicit and not found.states(answer.text, when):
            return passed("the answer states no value that would need evidence", label="no_claim", **place)
        if answer.literal and found.given(answer.text, when):
            return passed("the answer stands in the question", label="given", **place)
        fruitless = found.returned(when)
        if fruitless:
            evidence = [quoted, *(Evidence(c.anchor, c.key, (c.error or c.result)[:100]) for c in fruitless[:5])]
            reason = f"{len(fruitless)} call(s), all empty or failed, and an answer all the same"
            return failed(reason, severity=Severity.HIGH, label="fruitless", evidence=evidence, **place)
        if planned := found.planned(when):
            reason = f"nothing was looked up; planned and never called: {', '.join(planned[:5])}"
            return failed(reason, severity=Severity.HIGH, label="planned_not_called", evidence=[quoted], **place)
        if found.needless(when):
            return unknown("the agent held that nothing had to be looked up", label="self_contained", **place)
        return failed("nothing was looked up", label="nothing_looked_up", evidence=[quoted], **place)


@dataclass(frozen=True, slots=True)
class _Answer:
    span: Span
    """The model call that gave it."""
    text: str
    reasoning: str
    """What the model wrote beside it."""
    explicit: bool
    """Whether it was given through a tool for answers."""
    literal: bool
    """Whether the text is the answer itself, or all that it is computed from, not a name it has in a program."""


def _answers(trace: Trace) -> list[_Answer]:
    """The answers, each with the model call that gave it."""
    spans = {s.span_id: s for s in trace.spans}
    found: list[_Answer] = []
    last: Message | None = None
    for message in trace.messages:
        if message.role != "assistant" or not message.text:
            continue
        span = spans[message.span_id]
        if span.kind is not SpanKind.LLM or message.time_ns == span.start_ns:  # what it was told, not what it said
            continue
        last = message
        if (call := wording.answer_in_code(message.text)) and len(found) < _MAX_ANSWERS:
            rest = message.text[call.end() : call.end() + 20_000]
            text, literal = _argument(rest), _LITERAL.match(rest) is not None
            if not literal and (made := _self_made(message.text, call.end())) is not None:
                text, literal = made or text, True
            found.append(_Answer(span, text, message.text[: call.start()], True, literal))
    told = spans.get(trace.answer_span_id)
    if told is None or not trace.answer:
        return found
    if found:
        if told.kind is SpanKind.LLM and all(a.span is not told for a in found) and not _wrote(trace, told):
            # By an agent that calls tools, under one that writes programs.
            found.append(_Answer(told, trace.answer, "", True, True))
            found.sort(key=lambda answer: answer.span.start_ns)
        return found
    if told.kind is SpanKind.LLM:
        own = last is not None and last.span_id == told.span_id and last.text == trace.answer
        return [_Answer(told, trace.answer, "", not own, True)]
    models = [s for s in trace.spans if s.kind is SpanKind.LLM and s.end_ns <= told.end_ns]
    giver = max(models, key=lambda s: s.end_ns, default=None)
    return [_Answer(giver, trace.answer, "", told.kind is SpanKind.TOOL, True)] if giver else []


def _argument(rest: str) -> str:
    """The text of the first argument of a call in a program, or the rest of the program."""
    quote = _LITERAL.match(rest)
    if quote is None or not quote[1]:
        return rest
    start = quote.end()
    end = rest.find(quote[1], start)
    return rest[start : end if end >= 0 else len(rest)]


def _wrote(trace: Trace, span: Span) -> bool:
    """Whether a model call gave the answer of the trace as its text, and not through a tool for answers."""
    return any(m.span_id == span.span_id and m.text == trace.answer for m in trace.messages)


def _self_made(text: str, end: int) -> str | None:
    """The texts in a program up to a place and to the end of its line, if it computes with nothing but what stands in it.

    A program with more text than an answer has writes something else, of which the words of an answer tell nothing.
    """
    start = text.rfind("```", 0, end)
    stop = text.find("\n", end)
    program = text[start + 3 : stop if stop >= 0 else len(text)].partition("\n")[2]  # after the name of the language
    if start < 0 or not program or len(program) > _MAX_PRINTED:
        return None
    texts = "\n".join(t for t in _STRINGS.findall(program) if not t.startswith("#"))
    bare = _STRINGS.sub("0", program)
    names = set(_NAMES.findall(bare)) - wording.arithmetic() - set(_ASSIGNED.findall(bare))
    closed = len(texts) <= _QUOTED and all(wording.answer_in_code(f"{name}(") for name in names)
    return texts if closed else None


def _kept_quiet(answer: _Answer, found: _Found) -> Score | None:
    """The failure of an answer, given after something was found, that does not say what was not."""
    when, span_id = answer.span.start_ns, answer.span.span_id
    quoted = Evidence(span_id, "answer", answer.text[:_QUOTED])
    told = wording.gap(answer.text)
    if not told:
        if gap := wording.gap(answer.reasoning):
            where = Evidence(span_id, "output", gap[0][:_QUOTED], gap.start(), gap.end())
            reason = f"the model wrote “{gap[0][:100]}”, and the answer does not say so"
            return failed(reason, severity=Severity.HIGH, label="gap_hidden", evidence=[where, quoted], span_id=span_id)
        if (last := found.last(when)) and (gap := wording.bare_gap(wording.unframed(last.text[:_BEGINNING]))):
            where = Evidence(last.span_id, "input", gap[0][:_QUOTED])
            reason = f"what came back last says “{gap[0][:100]}”, and the answer does not say so"
            return failed(reason, label="gap_passed_over", evidence=[where, quoted], span_id=span_id)
    crossed = wording.cross_checked(answer.text)
    claim = crossed or (wording.held_verified(answer.text) if told else None)
    if claim is None or found.told(claim[0], when):
        return None
    against = f"also “{told[0][:100]}”" if told else found.uncrossed(answer.text, when)
    if not against:
        return None
    where = Evidence(span_id, "answer", claim[0][:_QUOTED])
    reason = f"it says “{claim[0][:100]}”, and {against}"
    return failed(reason, label="check_claimed", evidence=[where, quoted], span_id=span_id)


class _Found:
    """What had been found when, in one trace. Anything found by any of its agents counts for all."""

    def __init__(self, trace: Trace, early: int) -> None:
        """`early` is the first time that is asked about: what was found by then need not be told apart."""
        self._trace = trace
        self._early = early
        self._calls = [c for c in trace.tool_calls if c.executed is not False]

    def by(self, when: int) -> bool:
        """Whether something had been found at a time."""
        return self._first <= when

    def last(self, when: int) -> Message | None:
        """The last result that had come back."""
        return next((m for m in reversed(self._trace.messages) if m.role == "tool" and m.time_ns <= when), None)

    def unseen(self, when: int) -> bool:
        """Whether something may have been found that was not captured."""
        return any(
            s.kind in (SpanKind.RETRIEVAL, SpanKind.RERANK) and s.end_ns <= when and s.status != "Error"
            for s in self._trace.spans
        ) and not any(not d.text for d in self._trace.documents)

    def returned(self, when: int) -> Sequence[ToolCall]:
        """The calls that had come back."""
        return [c for c in self._calls if c.end_ns <= when]

    @cached_property
    def tools(self) -> frozenset[str]:
        """The names of all tools there were."""
        offered = {d.name for d in self._trace.tool_definitions} | {c.name for c in self._calls}
        for message in self._trace.messages:
            if message.role == "system":
                offered.update(wording.tools_in_prompt(message.text))
        return frozenset(n for n in offered if n and wording.answer_in_code(f"{n}(") is None)

    def planned(self, when: int) -> list[str]:
        """The tools the agent spoke of calling, and did not."""
        called = {c.name for c in self._calls}
        plans = [m.text for m in self._trace.messages if m.role == "assistant" and m.time_ns <= when]
        text = "\n".join(plans)[:_MAX_GIVEN]
        return sorted(
            n for n in self.tools - called if "_" in n and n in text and re.search(rf"\b{re.escape(n)}\b", text)
        )

    def tried(self, when: int) -> bool:
        """Whether anything was tried, or there was nothing to try it with."""
        return not self.tools or bool(self.returned(when)) or any(m.time_ns <= when for m in _printed(self._trace))

    def steps(self, when: int) -> bool:
        """Whether the agent had written down a plan of several steps."""
        said = (m for m in self._trace.messages if m.role == "assistant" and m.time_ns <= when)
        return any(len(_STEP.findall(m.text, 0, _MAX_RESULT)) >= _PLAN for m in said)

    def needless(self, when: int) -> bool:
        """Whether the agent had said that nothing has to be looked up."""
        said = (m for m in self._trace.messages if m.role == "assistant" and m.time_ns <= when)
        return any(wording.self_contained(m.text) for m in said)

    def given(self, text: str, when: int) -> bool:
        """Whether a text stands in what the user had said."""
        bare = _bare(text[:_MAX_RESULT]) if len(text) >= _QUOTATION else ""
        return len(bare) >= _QUOTATION and bare in self._said(when, "user")

    def states(self, text: str, when: int) -> bool:
        """Whether a text holds a value that neither the user nor the system had said."""
        anchors = {_bare(a) for a in _anchors(text)}
        given = self._said(when, "user", "system") if anchors else ""
        return any(a not in given for a in anchors)

    def told(self, text: str, when: int) -> bool:
        """Whether a text stands in the result that had come back last: who repeats it does not claim it."""
        last = self.last(when)
        return last is not None and text in last.text

    def uncrossed(self, text: str, when: int) -> str:
        """Why a text cannot have been checked against what had been seen; empty if it may, or not all of that is known."""
        calls = self.returned(when)
        if any(not c.error and c.result_state is not ContentState.PRESENT for c in calls) or self.unseen(when):
            return ""
        ends = {s.span_id: s.end_ns for s in self._trace.spans}
        results = [c.result for c in calls if not _brought_nothing(c)]
        results += [d.text for d in self._trace.documents if ends.get(d.span_id, 0) <= when]
        results += [m.text for m in _printed(self._trace) if m.time_ns <= when]
        asked = [m.text for m in self._trace.messages if m.role in ("user", "system", "tool") and m.time_ns <= when]
        if sum(map(len, results)) + sum(map(len, asked)) > _MAX_KNOWN:
            return ""
        if len(results) < _CROSSED and len({host for r in results for host in _HOST.findall(r)}) < _CROSSED:
            return "there was nothing to check it against"
        known = "\n".join((*results, *asked))
        if not (odd := [a for a in _anchors(text)[:_MAX_ANCHORS] if a not in known]):
            return ""
        known = _bare(known)
        made_up = next((a for a in odd if _bare(a) not in known), "")
        return f"{made_up[:100]} stands in nothing that came back" if made_up else ""

    def _said(self, when: int, *roles: str) -> str:
        texts = (m.text for m in self._trace.messages if m.role in roles and m.time_ns <= when)
        return _bare("\n".join(texts)[:_MAX_GIVEN])

    @cached_property
    def _first(self) -> int:
        """When the first thing was found."""
        first = 1 << 62
        for call in self._calls:
            if call.end_ns < first and not _brought_nothing(call):
                first = call.end_ns
        ends = {s.span_id: s.end_ns for s in self._trace.spans} if self._trace.documents else {}
        for document in self._trace.documents:
            if document.text:
                first = min(first, ends.get(document.span_id, first))
        if first <= self._early:
            return first
        printed = {id(m) for m in _printed(self._trace) if m.time_ns < first}
        return min(first, self._first_printed(printed)) if printed else first

    def _first_printed(self, printed: Collection[int]) -> int:
        """When a program, whose calls no span shows, first printed what nobody in the conversation had said."""
        heard = b""
        said: list[str] = []
        looked = 0
        for message in self._trace.messages:
            if message.role == "system":
                continue
            if id(message) in printed and not wording.failed_observation(message.text):
                looked += 1
                text = wording.unframed(message.text[:_MAX_PRINTED])
                words = islice(_each_word(text), _MAX_WORDS)
                heard = b"\n".join((heard, *(_plain(t) for t in said)))[-_MAX_HEARD:]
                said.clear()
                new = islice((word for word in words if _plain(word) not in heard), _NEW_WORDS)
                if len(list(new)) == _NEW_WORDS or looked > _MAX_ANSWERS:  # one more than anybody can look at
                    return message.time_ns
            said.append(message.text[:_MAX_RESULT])
        return 1 << 62


def _plain(text: str) -> bytes:
    """A text without capitals of the Latin alphabet, as what is searched fastest."""
    return text.encode(errors="replace").lower()


def _each_word(text: str) -> Iterator[str]:
    """The words of a text, each once; few are asked for."""
    seen = set()
    for match in _WORDS.finditer(text):
        if (word := match[0]) not in seen:
            seen.add(word)
            yield word


def _printed(trace: Trace) -> list[Message]:
    """What came back from programs whose calls no span shows: results that belong to no call there is."""
    loose = [m for m in trace.messages if m.role == "tool" and not m.tool_call_id]
    if not loose:
        return []
    results = {c.result.strip() for c in trace.tool_calls} | {c.error.strip() for c in trace.tool_calls}
    return [m for m in loose if m.text.strip() not in results]


def _brought_nothing(call: ToolCall) -> bool:
    if call.error:
        return True
    return call.result_state is ContentState.PRESENT and wording.empty(call.result)


def _anchors(text: str) -> list[str]:
    """The addresses and numbers of a text, each once."""
    return [a for a in dict.fromkeys(_ANCHOR.findall(_CODE.sub(" ", text[:_MAX_GIVEN]))) if _bare(a)]


def _bare(text: str) -> str:
    """Letters and digits alone."""
    text = text.encode(errors="ignore").translate(None, _ASCII_NOISE).decode()  # many times faster than the pattern
    return (text if text.isascii() else _NOISE.sub("", text)).casefold()


class ClaimedAction(Grader, name="evidence/claimed_action", version="1"):
    """What the agent says it has done ("I have sent the mail"), it has done: a call that does such a thing succeeded before.

    One grade a trace, on the first claim that fails: `failed_call` when such a call failed or was denied, `not_called` when
    there was none. Claims are those `graders/grounds.yaml` has words for, in what the agent said to its user. Whether a tool
    does such a thing is told by the words of its name. Calls in other traces of the conversation count. Passed when a claim is
    borne out, or nobody can tell that it is not: some tool of unknown effect succeeded, or some other write did and no tool for
    the thing claimed is known. Skipped when nothing is claimed or there are no tools. `unknown` when the trace cannot show
    calls, when a call of which only the request is known may have done it, or when programs ran whose calls no span shows.
    """

    policy: AgentPolicy = AgentPolicy()

    def grade(self, trace: Trace) -> Score:
        calls = (*trace.related.tool_calls, *trace.tool_calls)
        tools = {d.name for d in trace.tool_definitions} | {c.name for c in calls}
        if not tools:
            return unknown(_HIDDEN) if trace.spans and hides_calls(trace) else skip("no tools")
        claimed = [(m, claim) for m in _spoken(trace) for claim in wording.claims(m.text)]
        if not claimed:
            return skip("no deed is claimed")
        if _printed(trace):
            return unknown("programs ran whose calls no span shows")
        writers = {n: frozenset(effects.words(n)) for n in tools if self._may_write(n)}
        doubt = ""
        for message, claim in claimed:
            group = claim.group
            able = {n for n, words in writers.items() if not words.isdisjoint(group.tools)}
            before = [c for c in calls if c.start_ns <= message.time_ns and c.name in writers]
            done = [c for c in before if c.executed and not c.error]
            if any(c.name in able for c in done):
                continue
            if any(c.name in able and c.executed is None and not c.error for c in before):
                doubt = doubt or f"cannot tell whether a call behind “{claim.text[:100]}” ran"
                continue
            if any(self._effect(c.name) is Effect.UNKNOWN for c in done) or (done and (group.wide or not able)):
                continue
            if group.wide and not able and not claim.thing:  # of what stands in the answer itself
                continue
            tried = [c for c in before if c.name in able]
            where = [Evidence(message.span_id, "output", claim.text[:_QUOTED], claim.start, claim.end)]
            where += [Evidence(c.anchor, c.key, (c.error or "denied")[:200]) for c in tried[:5]]
            return failed(
                f"it says “{claim.text[:100]}”, and {'the call failed' if tried else 'no call did so'}",
                severity=Severity.HIGH,
                label="failed_call" if tried else "not_called",
                span_id=message.span_id,
                evidence=where,
            )
        return unknown(doubt) if doubt else passed(f"{len(claimed)} claim(s), none without a call")

    def _effect(self, name: str) -> Effect:
        rule = self.policy.rule(name)
        return Effect(rule.effect) if rule else effects.by_name(name).effect

    def _may_write(self, name: str) -> bool:
        return self._effect(name) is not Effect.READ


def _spoken(trace: Trace) -> list[Message]:
    """What the agent said to its user: the answer, and what a user's turn followed."""
    spans = {s.span_id: s for s in trace.spans}
    said = []
    answered = not trace.answer
    messages = trace.messages
    for index, message in enumerate(messages):
        if message.role != "assistant" or not message.text:
            continue
        span = spans[message.span_id]
        if span.kind is not SpanKind.LLM or message.time_ns == span.start_ns:
            continue
        final = message.text == trace.answer
        answered = answered or final
        if final or (index + 1 < len(messages) and messages[index + 1].role == "user"):
            said.append(message)
    told = spans.get(trace.answer_span_id)
    if not answered and told is not None:
        said.append(Message("assistant", trace.answer, told.span_id, told.end_ns))
    return said


class Late(Grader, name="evidence/late", version="2"):
    """What the answer states was known when it was given.

    One grade a trace. Fails when a number, date, address or id of the answer stands in a result that came only after the model
    call which gave the answer had ended, and in nothing that was there before. Skipped without an answer, when no result came
    later, and when the answer is computed by a program. Results of another service, whose clock may differ, are not judged.
    """

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return skip("no answer")
        answer = _answers(trace)[-1:]
        if not answer or not answer[0].literal:
            return skip("it cannot be told when the answer was given")
        giver = answer[0].span
        spans = {s.span_id: s for s in trace.spans}
        results: list[tuple[int, str, str, str]] = [
            (c.end_ns, c.anchor, c.key, c.result) for c in trace.tool_calls if c.result and c.executed is not False
        ]
        results += [(spans[d.span_id].end_ns, d.span_id, d.id, d.text) for d in trace.documents if d.span_id in spans]
        late = [r for r in results if r[0] > giver.end_ns and spans[r[1]].service == giver.service and r[3]]
        if not late:
            return skip("no result came after the answer")
        text = answer[0].text[:_MAX_GIVEN]
        before = [r[3] for r in results if r[0] <= giver.end_ns]
        before += [m.text for m in trace.messages if m.time_ns <= giver.start_ns]
        known = _bare("\n".join(before)[:_MAX_GIVEN])
        anchors = {_bare(a): a for a in _ANCHOR.findall(_CODE.sub(" ", text))}
        came = [(span_id, key, _bare(result[:_MAX_RESULT])) for _, span_id, key, result in late[:_MAX_ANSWERS]]
        for bare, anchor in list(anchors.items())[:_MAX_ANCHORS]:
            if len(bare) < _LATE_ANCHOR or bare in known:
                continue
            for span_id, key, result in came:
                if bare in result:
                    return failed(
                        f"{anchor} stands only in a result that came after the answer",
                        severity=Severity.LOW,
                        label="late",
                        span_id=giver.span_id,
                        evidence=[Evidence(span_id, key, anchor), Evidence(giver.span_id, "answer", text[:_QUOTED])],
                    )
        return passed(f"{len(late)} result(s) came later; the answer takes nothing from them")
