"""Does the answer agree with what tools and retrieval returned?

These rules convict only what can be read off: a citation of something that was never retrieved, a number, date or id that
stands nowhere. They do not say that the rest is true. What is captured in part convicts nobody (`unknown`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.content import decode
from store.types import Completeness, ContentState, Evidence, Severity, Trace

_MAX_EVIDENCE = 2_000_000
_MAX_NUMBERS = 20_000
_MAX_ANSWER = 200_000
_MAX_CLAIMS = 500
"""Values or citations of one answer that are looked up; each may take a walk through all the evidence."""
_MAX_PLACES = 1000
"""Places of a text that are looked at before the next is taken for a miss."""
_FEW_NUMBERS = 12
"""Among this many numbers a chance sum or difference is rare (about one in twelve); among more it proves nothing."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_MARK_WORDS = frozenset({"doc", "docs", "source", "ref", "chunk", "passage", "cite", "http", "https"})
_URL = re.compile(r"https?://[^\s<>\"'\])}|]+")


@dataclass(frozen=True, slots=True)
class _Given:
    """Everything the answer may rest on."""

    texts: tuple[str, ...]
    tools: int
    """How many tool results and documents there are."""
    gap: str
    """What is missing from the capture; empty when nothing is."""


def _given(trace: Trace) -> _Given:
    texts: list[str] = []
    gap = "" if trace.completeness is Completeness.COMPLETE else f"the trace is {trace.completeness}"
    tools = 0
    for call in trace.tool_calls:
        if call.executed is False:
            continue
        tools += 1
        if call.result_state is ContentState.PRESENT:
            texts.append(call.result)
        elif not call.error:
            gap = gap or f"the result of {call.name} is {call.result_state}"
        texts.append(call.error)
    for document in trace.documents:
        tools += 1
        texts += [document.text, document.source, document.id]
        if not document.text:
            gap = gap or "the text of retrieved documents is not captured"
    told = [m.text for m in trace.messages if m.role in ("system", "user") and m.text]
    if not told:
        gap = gap or "what the user asked is not captured"
    texts += told
    texts += [m.text for m in trace.messages if m.role == "tool" and not m.tool_call_id]
    size = 0
    kept = []
    for text in texts:
        size += len(text)
        if size > _MAX_EVIDENCE:
            gap = gap or "there is more evidence than is read"
            break
        kept.append(text)
    return _Given(tuple(t for t in kept if t), tools, gap)


class Citations(Grader, name="evidence/citations", version="1"):
    """Everything the answer cites was retrieved.

    A citation is a mark such as `[3]`, `[^3]`, `【3†source】`, `[doc-12]` or `[policy-7]`, or a web address, outside code. A
    number is met by a document of that id, by position when documents are numbered from 1, or by the same mark in the
    evidence; an id or an address by appearing in a document, a tool result or what the user wrote. The score is the share
    that was retrieved. Skipped when the answer
    cites nothing. `unknown` when nothing was retrieved to compare with, or contents are not captured in full.
    """

    _MARK: ClassVar[re.Pattern[str]] = re.compile(
        r"(?<![\w\])])\[\^?(\d{1,3}(?:\s*[,;]\s*\^?\d{1,3}){0,9})\](?!\()|【(\d{1,3})[^】]{0,40}】"
        r"|\[((?:doc|docs|source|ref|chunk|passage|cite)[-_ :#]?[\w.-]{1,60}"
        r"|[a-z]\w{0,40}[-_:#][\w.-]{0,40}\d)\](?!\()",
        re.IGNORECASE,
    )

    _KIND: ClassVar[re.Pattern[str]] = re.compile(r"([A-Za-z]\w*?)[-_:#]")

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return _no_answer(trace)
        if len(trace.answer) > _MAX_ANSWER:
            return unknown("the answer is longer than is read", span_id=trace.answer_span_id)
        text = _without_code(trace.answer)
        cited = list(dict.fromkeys(self._cited(text)))
        if not cited:
            return skip("the answer cites nothing")
        if len(cited) > _MAX_CLAIMS:
            return unknown(
                f"the answer cites {len(cited)} sources, more than are looked up", span_id=trace.answer_span_id
            )
        given = _given(trace)
        if not given.tools:
            return unknown("nothing was retrieved to compare citations with", span_id=trace.answer_span_id)
        haystack = "\n".join(given.texts).casefold()
        numbered = bool(trace.documents) or "[1]" in haystack or "【1" in haystack
        cited = [c for c in cited if self._is_mark(c, haystack, numbered)]
        if not cited:
            return skip("the answer cites nothing")
        ids = {d.id.casefold() for d in trace.documents if d.id}
        count = len(trace.answer_documents)  # numbers count what the answer was given
        wrong = [c for c in cited if not self._known(c, haystack, ids, count)]
        if not wrong:
            reason = f"all {len(cited)} cited sources were retrieved"
            return passed(reason, score=1.0, span_id=trace.answer_span_id)
        shown = ", ".join(wrong[:5])
        if given.gap:
            return unknown(f"cannot find {shown}, but {given.gap}", span_id=trace.answer_span_id)
        return failed(
            f"cited but never retrieved: {shown}",
            severity=Severity.HIGH,
            label="citation_unknown",
            score=1.0 - len(wrong) / len(cited),
            span_id=trace.answer_span_id,
            evidence=[Evidence(trace.answer_span_id, "answer", w) for w in wrong[:10]],
        )

    def _cited(self, text: str) -> Iterator[str]:
        if self._MARK.fullmatch(text.strip()):  # an answer that is a list of one
            return
        for match in self._MARK.finditer(text):
            numbers, bracket, named = match.groups()
            if numbers:
                yield from (n.strip(" ^") for n in re.split("[,;]", numbers))
            else:
                yield bracket or named
        for match in _URL.finditer(text):
            yield match[0].rstrip(".,;:!?*_")

    def _is_mark(self, cited: str, haystack: str, numbered: bool) -> bool:
        """Whether this trace writes citations so: `[3]` may be a list of one, and `[step-2]` a placeholder."""
        if cited.isdecimal():
            return numbered
        kind = self._KIND.match(cited)
        return kind is None or kind[1].casefold() in _MARK_WORDS or kind[0].casefold() in haystack

    @staticmethod
    def _known(cited: str, haystack: str, ids: set[str], count: int) -> bool:
        folded = cited.casefold()
        if cited.isdecimal():
            marks = (f"[{cited}]", f"【{cited}")
            return folded in ids or 1 <= int(cited) <= count or any(m in haystack for m in marks)
        if folded.startswith(("http://", "https://")):
            bare = folded.split("://", 1)[1].rstrip("/").removeprefix("www.")
            return bare in haystack
        name = re.sub(r"^(?:docs?|source|ref|chunk|passage|cite)[-_ :#]?", "", folded)
        return folded in ids or name in ids or folded in haystack or (name.isdecimal() and 1 <= int(name) <= count)


class Numbers(Grader, name="evidence/numbers", version="1"):
    """Amounts, percentages, dates and ids in the answer stand in what tools, documents, the user or the system said.

    Compared by value: thousands separators, currency signs, decimal places and ways to write a date do not matter, and a
    rounded value counts. The score is the share of values that were found. Counts up to ten, list numbers, times of day and
    code are not looked at. A number that is a sum of a listed column, a count of list items, or the sum or difference of two
    of few numbers counts as derived. `fail` only when
    the capture is complete and the number can neither be found nor derived; `unknown` when it might be derived from many
    numbers, or is said to be a total or the like, contents are missing, nothing was retrieved that it could come from, or
    the agent itself gave it to a tool. Skipped when the answer has no such value, or only repeats what it was told without
    any tool result or document.
    """

    tolerated: int = Field(default=0, ge=0)
    """How many unsupported values an answer may hold."""

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return _no_answer(trace)
        if len(trace.answer) > _MAX_ANSWER:
            return unknown("the answer is longer than is read", span_id=trace.answer_span_id)
        claimed = _claimed(_without_code(trace.answer))
        total = len(claimed.numbers) + len(claimed.dates) + len(claimed.ids)
        if not total:
            return skip("the answer has no amounts, dates or ids")
        if total > _MAX_CLAIMS:
            return unknown(f"the answer has {total} values, more than are looked up", span_id=trace.answer_span_id)
        given = _given(trace)
        gap = given.gap or ("" if given.tools else "nothing was retrieved to compare it with")
        haystack = "\n".join(given.texts)
        missing: list[str] = []
        derived: list[str] = []
        doubtful = [n for n in claimed.numbers if not _written(haystack, n)]
        if doubtful:
            numbers = sorted(_numbers(haystack))
            sums = _derivable(given.texts, numbers)
            known_numbers = {round(n, 2) for n in numbers}
            for shown, value, places, percent in doubtful:
                if _near(numbers, value, places) or (percent and _near(numbers, value / 100, places + 2)):
                    continue
                if round(value, 2) not in sums:
                    computed = _possible(numbers, known_numbers, value) or _said_to_be_computed(trace.answer, shown)
                    (derived if computed else missing).append(shown)
        folded = haystack.casefold() if claimed.dates or claimed.ids else ""
        unseen = [(s, d) for s, d in claimed.dates if not any(_stands(folded, form) for form in _date_forms(s, d))]
        if unseen:
            known = {reading for _, readings in _dates(haystack) for reading in readings}
            missing += [s for s, date in unseen if not any(_same_date(date, other) for other in known)]
        for token in claimed.ids:
            if token.casefold() not in folded:
                missing.append(token)
        chosen = _among(missing, claimed, trace) if missing else []
        missing = [m for m in missing if m not in chosen]
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        where = [Evidence(trace.answer_span_id, "answer", m) for m in missing[:10]]
        if len(missing) > self.tolerated:
            shown = ", ".join(missing[:5])
            if gap:
                return unknown(f"cannot find {shown}, but {gap}", evidence=where, **place)
            return failed(
                f"in no tool result, document or message: {shown}",
                label="unsupported",
                score=1.0 - len(missing) / total,
                evidence=where,
                **place,
            )
        if chosen:
            return unknown(f"the agent's own, and a tool took it: {', '.join(chosen[:5])}", label="chosen", **place)
        if derived:
            return unknown(f"may be derived: {', '.join(derived[:5])}", label="derived", **place)
        if not given.tools:
            return skip("no tool results or documents to compare with")
        score = 1.0 - len(missing) / total
        return passed(
            f"{total - len(missing)} of {total} values are supported", label="supported", score=score, **place
        )


def _among(values: Sequence[str], claimed: _Claimed, trace: Trace) -> list[str]:
    """Those of the values that the agent gave to a tool which ran: it reports what it did, whether or not it should have."""
    text = "\n".join(c.arguments_text for c in trace.tool_calls if c.executed and not c.error)[:_MAX_EVIDENCE]
    numbers = sorted(_numbers(text))
    dates = {reading for _, readings in _dates(text) for reading in readings}
    found = {shown for shown, value, places, _ in claimed.numbers if _near(numbers, value, places)}
    found |= {shown for shown, date in claimed.dates if any(_same_date(date, other) for other in dates)}
    folded = text.casefold()
    return [v for v in values if v in found or (v in claimed.ids and v.casefold() in folded)]


class Contains(Grader, name="evidence/contains", version="1"):
    """The answer holds every text the case expects in it, whatever case and spacing.

    Skipped without a case that expects any; `unknown` when the answer is not captured.
    """

    uses_case: ClassVar[bool] = True

    def grade(self, trace: Trace) -> Score:
        wanted = trace.case.expect.answer_contains if trace.case else ()
        if not wanted:
            return skip("the case expects no text in the answer")
        if not trace.answer and trace.answer_state is not ContentState.PRESENT:
            return unknown(f"the answer is {trace.answer_state}")
        answer = _flat(trace.answer)
        missing = [w for w in wanted if _flat(w) not in answer]
        if missing:
            return failed(f"not in the answer: {', '.join(missing)}", span_id=trace.answer_span_id)
        return passed(f"all {len(wanted)} texts are in the answer", span_id=trace.answer_span_id)


def _no_answer(trace: Trace) -> Score:
    if trace.answer_state is ContentState.PRESENT:
        return skip("the agent gave no answer")
    return unknown(f"the answer is {trace.answer_state}")


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())


def _without_code(text: str) -> str:
    return _CODE.sub(" ", text) if "`" in text else text


# --- values in text -------------------------------------------------------------------------------------------------

_MONTH_NAMES = (
    ("january", "jan"), ("february", "feb"), ("march", "mar"), ("april", "apr"), ("may",), ("june", "jun"),
    ("july", "jul"), ("august", "aug"), ("september", "sept", "sep"), ("october", "oct"), ("november", "nov"),
    ("december", "dec"),
)  # fmt: skip
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names}
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
# Patterns begin with a digit where they can: then the engine skips everything else at once.
_NUMBER_DATE = re.compile(r"[0-9]{1,4}([-/.])([0-9]{1,2})\1([0-9]{1,4})(?![0-9])")
_DAY = re.compile(r"[0-9]{1,2}(?:st|nd|rd|th)?(?!\w)", re.IGNORECASE)
_MONTH_BEFORE = re.compile(rf"\b{_MONTH}\.?\s+$", re.IGNORECASE)
_MONTH_AFTER = re.compile(rf"\s+(?:of\s+)?{_MONTH}\b\.?", re.IGNORECASE)
_YEAR = re.compile(r",?\s+([12][0-9]{3})(?![0-9])")
_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(?::\d{2})?(?:\.\d+)?(?:\s?[apAP]\.?[mM]\b\.?|Z|[+-]\d{2}:?\d{2})?")
_CLOCK = re.compile(r"[0-9]{1,2}\s?[apAP]\.?[mM]\b")
_DIGIT = re.compile("[0-9]")
_WORD = re.compile("[A-Za-z0-9_-]{5,64}")
_UNITS = re.compile(
    r"\d+(?:st|nd|rd|th|s|k|m|b|x|h|d|kg|km|mb|gb|tb|ms|min|mins|hrs?|usd|eur|gbp|[a-z]{1,12}|-[a-z]{1,20})",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[0-9](?:[0-9,.'’\u00a0\u202f]*[0-9])?")
_CURRENCIES = frozenset("$€£¥")
# Blanks are possessive and never cross a line: else a page of blank lines takes a time cubic in its length.
_LIST_MARK = re.compile(
    r"\n[^\S\n]*+(?:#++[^\S\n]*+|[-*][^\S\n]++)?(?:step |option |flight |item )?\d{1,3}[.):]\s", re.IGNORECASE
)
_COMPUTED = ("total", "altogether", "in all", "sum of", "average", "difference", "combined")
_SMALL = 10

_Date = tuple[int, int, int]
_Number = tuple[str, float, int, bool]


@dataclass(frozen=True, slots=True)
class _Claimed:
    numbers: tuple[_Number, ...]
    """As shown, value, decimal places, whether a percentage."""
    dates: tuple[tuple[str, _Date], ...]
    """As shown; year (0 if unsaid), month, day."""
    ids: tuple[str, ...]


def _claimed(text: str) -> _Claimed:
    """The values an answer states."""
    if not _DIGIT.search(text):
        return _Claimed((), (), ())
    text = _LIST_MARK.sub("\n", "\n" + (_URL.sub(" ", text) if "://" in text else text))
    dates: list[tuple[str, _Date]] = []
    for shown, readings in list(_dates(text)):
        if len(readings) == 1:  # 04/05/2024 can be read two ways: not judged
            dates.append((shown, readings[0]))
        text = text.replace(shown, " ")
    text = _CLOCK.sub(" ", _TIME.sub(" ", text) if ":" in text else text)
    ids = []
    for word in set(_WORD.findall(text)):
        if not (word.isalpha() or word.isdecimal()) and _is_id(word, text):
            ids.append(word)
            text = text.replace(word, " ")
    numbers: list[_Number] = []
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        before = text[max(0, start - 2) : start]
        if before and (before[-1].isalnum() or before[-1] in "._" or (before[0].isdecimal() and before[-1] == "/")):
            continue
        parsed = list(_parse(match[0]))
        if len(parsed) != 1:
            continue
        value, places = parsed[0]
        behind = text[end : end + 9].lstrip()
        percent = behind.startswith(("%", "percent"))
        money = not _CURRENCIES.isdisjoint(before)
        if value > _SMALL or places or percent or money:
            sign = before.strip()[-1:] if money else ""
            numbers.append((f"{sign}{match[0]}{'%' if percent else ''}", value, places, percent))
    return _Claimed(tuple(dict.fromkeys(numbers)), tuple(dict.fromkeys(dates)), tuple(sorted(ids)))


def _is_id(word: str, text: str) -> bool:
    if not _DIGIT.search(word) or word.strip("0123456789-_") == "" or word[0] in "-_" or _UNITS.fullmatch(word):
        return False
    at = text.find(word)  # part of a path, an address or a longer word is no id of its own
    return (at == 0 or text[at - 1] not in "/.@") and text[at + len(word) : at + len(word) + 1] not in ("/", "@")


def _dates(text: str) -> Iterator[tuple[str, list[_Date]]]:
    """The dates in a text: as written, and how they may be read."""
    for match in _NUMBER_DATE.finditer(text):
        if match.start() and (text[match.start() - 1].isalnum() or text[match.start() - 1] in ".-_"):
            continue
        first, second, third = (int(part) for part in re.findall("[0-9]+", match[0]))
        if 1000 <= first < 3000 and match[1] != ".":
            readings = [(first, second, third)]
        elif match[1] != "-" and (third >= 1000 or len(match[3]) == 2):
            year = third if third >= 1000 else 2000 + third
            readings = [(year, first, second), (year, second, first)] if first != second else [(year, first, second)]
        else:
            continue
        if possible := [r for r in readings if _is_date(r)]:
            yield match[0], possible
    folded = text.lower()
    if not any(names[-1] in folded for names in _MONTH_NAMES):
        return
    for match in _DAY.finditer(text):
        start, end = match.span()
        if start and (text[start - 1].isalnum() or text[start - 1] in "./-"):
            continue
        if month := _MONTH_BEFORE.search(text, max(0, start - 14), start):
            start = month.start()
        elif month := _MONTH_AFTER.match(text, end):
            end = month.end()
        else:
            continue
        year_match = _YEAR.match(text, end)
        end = year_match.end() if year_match else end
        digits = match[0].rstrip("stndrhSTNDRH")
        date = (int(year_match[1]) if year_match else 0, _MONTHS[month[1].lower()], int(digits))
        if _is_date(date):
            yield text[start:end], [date]


def _is_date(date: _Date) -> bool:
    return 1 <= date[1] <= 12 and 1 <= date[2] <= 31


def _written(haystack: str, number: _Number) -> bool:
    """Whether the number stands in the text in a usual form; a miss proves nothing."""
    _, value, places, _ = number
    plain = f"{value:.{places}f}"
    forms = {plain, f"{value:,.{places}f}"}
    if places:
        forms.add(plain.rstrip("0").rstrip("."))
    return any(_stands(haystack, form) for form in forms)


def _stands(haystack: str, form: str) -> bool:
    """Whether the form occurs and is not a part of a longer number."""
    at = haystack.find(form)
    for _ in range(_MAX_PLACES):
        if at < 0:
            break
        before = haystack[at - 1] if at else " "
        after = haystack[at + len(form)] if at + len(form) < len(haystack) else " "
        if not (before.isdecimal() or after.isdecimal() or before in ".,"):
            return True
        at = haystack.find(form, at + 1)
    return False


def _numbers(text: str) -> set[float]:
    """Every number a text may be read to hold."""
    values: set[float] = set()
    for match in _LOOSE_NUMBER.finditer(text):
        raw = match[0]
        if raw.isdecimal():
            if len(raw) < 19:
                values.add(float(raw))
            continue
        values.update(value for value, _ in _parse(raw))
        if len(values) > _MAX_NUMBERS:
            break
    return values


_LOOSE_NUMBER = re.compile(r"\d+(?:[.,'’]\d+)*")


def _parse(raw: str) -> Iterator[tuple[float, int]]:
    """The values a written number may have, with decimal places."""
    if raw.isdecimal():
        if len(raw) < 19:
            yield float(raw), 0
        return
    text = re.sub(r"['’  ]", "", raw).rstrip(".,")
    if len(text) > 30:
        return
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        if text.count(",") == 1 and "." not in text:
            yield float(text.replace(",", "")), 0
            return
        whole, _, fraction = text.replace(",", "").partition(".")
        yield float(f"{whole}.{fraction or 0}"), len(fraction)
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+", text) or re.fullmatch(r"\d{1,3}(\.\d{3}){2,}", text):
        whole, _, fraction = text.replace(".", "").partition(",")
        yield float(f"{whole}.{fraction or 0}"), len(fraction)
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        yield float(text), len(text.partition(".")[2])
    elif re.fullmatch(r"\d+,\d{1,2}", text):
        whole, _, fraction = text.partition(",")
        yield float(f"{whole}.{fraction}"), len(fraction)
    else:  # a list such as 12,15,18, or a version
        for part in re.findall(r"\d+", text)[:20]:
            if len(part) < 19:
                yield float(part), 0


def _date_forms(shown: str, date: _Date) -> Iterator[str]:
    """The usual ways to write a date, in lower case; a miss proves nothing."""
    year, month, day = date
    yield shown.casefold()
    if year:
        yield f"{year:04}-{month:02}-{day:02}"
    for name in _MONTH_NAMES[month - 1]:
        end = f", {year}" if year else ""
        yield f"{name} {day}{end}"


def _same_date(a: _Date, b: _Date) -> bool:
    return a[1:] == b[1:] and (a[0] == b[0] or not a[0] or not b[0])


def _near(numbers: Sequence[float], value: float, places: int) -> bool:
    """Whether some number, rounded to the places that were written, is the value."""
    slack = 0.5 * 10.0**-places if places else 0.5
    slack += 1e-9 * max(1.0, abs(value))
    at = bisect_left(numbers, value - slack)
    return at < len(numbers) and numbers[at] <= value + slack


def _derivable(texts: Sequence[str], numbers: Sequence[float]) -> set[float]:
    """Sums of listed columns, counts of list items; and of few numbers the sum and difference of each two."""
    found: set[float] = set()
    for text in texts:
        if text[:1] in ("{", "["):
            _columns(decode(text), found)
    if len(numbers) <= _FEW_NUMBERS:
        found |= {round(x + y, 2) for x in numbers for y in numbers} | {
            round(x - y, 2) for x in numbers for y in numbers
        }
    return found


def _columns(value: Any, found: set[float]) -> None:
    stack = [value]
    while stack and len(found) < _MAX_NUMBERS:
        item = stack.pop()
        if isinstance(item, dict):
            amounts = [v for v in item.values() if _is_number(v)]
            if amounts:
                found.add(round(sum(amounts), 2))
            stack += item.values()
        elif isinstance(item, list):
            found.add(float(len(item)))
            columns: dict[str, list[float]] = {}
            for row in item:
                if isinstance(row, dict):
                    for key, cell in row.items():
                        if _is_number(cell):
                            columns.setdefault(key, []).append(cell)
                elif _is_number(row):
                    columns.setdefault("", []).append(row)
            for column in columns.values():
                found |= {round(sum(column), 2), round(sum(column) / len(column), 2)}
            stack += item


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _said_to_be_computed(answer: str, shown: str) -> bool:
    """Whether the words around a number call it a total or the like: how it was made up is not checked."""
    at = answer.find(shown)
    around = answer[max(0, at - 80) : at + len(shown) + 20].casefold()
    return at >= 0 and any(word in around for word in _COMPUTED)


def _possible(numbers: Sequence[float], known: set[float], value: float) -> bool:
    """Whether the value might be made from two of the numbers, `known` when rounded: too weak to certify, enough not to
    convict."""
    for n in numbers[:500]:
        if round(value - n, 2) in known or round(value + n, 2) in known:
            return True
        if n and (round(value / n, 4) in known or round(value * n, 2) in known):
            return True
        if n and float(value / n).is_integer() and 1 < value / n <= 20:  # so many times one price
            return True
    return False
