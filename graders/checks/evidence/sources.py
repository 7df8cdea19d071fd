"""What an answer may rest on: tool results, documents, what the system and the user said; and what of it is not captured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from graders.checks.evidence import values
from graders.checks.evidence.reading import Reading, read
from graders.checks.evidence.text import Folded, fold
from store.types import Completeness, ContentState, Document, ToolCall, Trace

MAX_EVIDENCE = 2_000_000


class Kind(StrEnum):
    """Who said it."""

    TOOL = "tool"
    DOCUMENT = "document"
    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, eq=False)
class Source:
    """One text."""

    kind: Kind
    text: str
    span_id: str
    where: str
    """As `Evidence.where` names it."""
    call: ToolCall | None = None
    document: Document | None = None

    @cached_property
    def reading(self) -> Reading:
        """The text for comparing."""
        return read(self.text)

    @property
    def folded(self) -> Folded:
        """The folded text."""
        return self.reading.folded

    @property
    def stems(self) -> list[str]:
        """Its words, in order."""
        return self.reading.stems

    @property
    def is_evidence(self) -> bool:
        """Whether it can bear out a claim: what the user said is only repeated, what the system said are orders."""
        return self.kind in (Kind.TOOL, Kind.DOCUMENT)


class Given:
    """Everything the answer may rest on. What is costly is made when it is first asked for."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.gap = "" if trace.completeness is Completeness.COMPLETE else f"the trace is {trace.completeness}"
        """What is missing from the capture; empty when nothing is."""
        self.retrieved = 0
        """How many tool results and documents there are."""
        self.too_much = False
        """Whether there is more evidence than is read."""
        self.beside: list[str] = []
        """Errors, addresses and ids: texts in which a value may stand, and which nothing is aligned with."""
        self.sources = tuple(self._within(self._read()))

    def _read(self) -> list[Source]:
        trace, found = self._trace, []
        spans = set()
        for call in trace.tool_calls:
            if call.executed is False:
                continue
            self.retrieved += 1
            if call.result_state is ContentState.PRESENT:
                if call.result:
                    found.append(Source(Kind.TOOL, call.result, call.anchor, "result", call=call))
                    spans.add(call.anchor)
            elif not call.error:
                self.gap = self.gap or f"the result of {call.name} is {call.result_state}"
            if call.error and call.error != call.result:
                self.beside.append(call.error)
        for number, document in enumerate(trace.documents):
            self.retrieved += 1
            self.beside += [document.source, document.id]
            if not document.text:
                self.gap = self.gap or "the text of retrieved documents is not captured"
            else:
                where = document.id or f"documents[{number}]"
                found.append(Source(Kind.DOCUMENT, document.text, document.span_id, where, document=document))
        told = False
        for number, message in enumerate(trace.messages):
            if not message.text:
                continue
            if message.role in ("system", "user"):
                told = True
                kind = Kind.USER if message.role == "user" else Kind.SYSTEM
                found.append(Source(kind, message.text, message.span_id, f"messages[{number}]"))
            elif message.role == "tool" and not message.tool_call_id:
                found.append(Source(Kind.TOOL, message.text, message.span_id, f"messages[{number}]"))
        if not told:
            self.gap = self.gap or "what the user asked is not captured"
        return found

    def _within(self, found: Sequence[Source]) -> list[Source]:
        size = 0
        for number, source in enumerate(found):
            size += len(source.text)
            if size > MAX_EVIDENCE:
                self.too_much = True
                self.gap = self.gap or "there is more evidence than is read"
                return list(found[:number])
        return list(found)

    @cached_property
    def _readings(self) -> list[Reading]:
        beside = "\n".join(filter(None, self.beside))
        found = [source.reading for source in self.sources]
        return [*found, Reading(beside)] if beside else found

    @cached_property
    def haystack(self) -> str:
        """All of it as one folded text."""
        return "\n".join([reading.folded.text for reading in self._readings])

    @cached_property
    def told(self) -> str:
        """What the user said, folded."""
        return "\n".join(source.folded.text for source in self.sources if source.kind is Kind.USER)

    @cached_property
    def numbers(self) -> list[float]:
        """Every number in it, sorted."""
        return sorted(set[float]().union(*(reading.numbers for reading in self._readings)))

    @cached_property
    def rounded(self) -> set[float]:
        """Every number in it, to two places."""
        return {round(number, 2) for number in self.numbers}

    @cached_property
    def listed(self) -> set[float]:
        """Sums of columns, counts of lists, and the like."""
        return values.listed([source.text for source in self.sources])

    @cached_property
    def dates(self) -> set[values.Date]:
        """Every date in it, in every reading."""
        return set[values.Date]().union(*(reading.dates for reading in self._readings))

    @cached_property
    def arguments(self) -> str:
        """What the agent gave to tools that ran, folded."""
        calls = self._trace.tool_calls
        text = "\n".join(c.arguments_text for c in calls if c.executed and not c.error)
        return fold(text[:MAX_EVIDENCE]).text

    @cached_property
    def asked(self) -> str:
        """What the agent gave to tools, whether or not they took it, folded."""
        return fold("\n".join(c.arguments_text for c in self._trace.tool_calls)[:MAX_EVIDENCE]).text

    @cached_property
    def documents(self) -> dict[str, Source]:
        """The documents by what may cite them: their ids, and their numbers as the answer was given them."""
        trace = self._trace
        by_document = {id(s.document): s for s in self.sources if s.document is not None}
        found = {str(n): by_document[id(d)] for n, d in enumerate(trace.answer_documents, 1) if id(d) in by_document}
        found |= {d.id.casefold(): by_document[id(d)] for d in trace.documents if d.id and id(d) in by_document}
        return found
