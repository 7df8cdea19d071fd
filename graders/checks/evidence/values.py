"""Values in text: numbers, amounts, dates, ids, and how they may have been written, rounded or derived.

Promises offsets into the text it was given and every reading a way of writing allows (`1.234,56`, `10, 000`, `04/05/2024`).
Whether a value is supported is for `numbers` and `findings` to say. Texts are those of `text.fold`: ASCII digits, one way to
write a blank.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from graders.checks.evidence.text import STEMS
from graders.checks.evidence.words import words
from graders.content import decode

MAX_NUMBERS = 20_000
_MAX_PLACES = 1000
"""Places of a text that are looked at before the next is taken for a miss."""
FEW_NUMBERS = 12
"""Among this many numbers a chance sum or difference is rare (about one in twelve); among more it proves nothing."""

CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
URL = re.compile(r"https?://[^\s<>\"'\])}|]+")
PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]{0,31}(?::[A-Za-z0-9]{4,64})?>", re.IGNORECASE)
"""What redaction put in place of a value: the same value has the same placeholder in answer and evidence."""

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
_TIME = re.compile(
    r"[0-9]{1,2}:[0-9]{2}(?::\d{2})?(?:\.\d+)?(?:\s?[apAP]\.?[mM]\b\.?|Z|[+-]\d{2}:?\d{2})?", re.IGNORECASE
)
_CLOCK = re.compile(r"[0-9]{1,2}\s?[apAP]\.?[mM]\b")
_DIGIT = re.compile("[0-9]")
_TOKEN = re.compile("(?<![A-Za-z0-9_-])[A-Za-z_-]*+[0-9][A-Za-z0-9_-]*+")
_UNITS = re.compile(
    r"\d+(?:st|nd|rd|th|s|k|m|b|x|h|d|kg|km|mb|gb|tb|ms|min|mins|hrs?|usd|eur|gbp|[a-z]{1,12}|-[a-z]{1,20})",
    re.IGNORECASE,
)
_AGED = re.compile(r"\d{1,4}(?:st|nd|rd|th)?(?:-\d{1,4})?(?:-[a-z]{1,20}){1,4}")
"""`14-year-old`, `9th-grade`, `18-49-year-old`: words with a number, no ids."""
_MODEL = re.compile(r"[a-z]{4,64}-[0-9]{1,3}", re.IGNORECASE)
"""A name with a number: `Boeing-747`."""
_MIXED = re.compile(r"[a-z][0-9]+[a-z]", re.IGNORECASE)
_ID_DIGITS = 3
"""Digits of an id: with fewer, letters and digits may be a formula or the name of a model, unless they are mixed."""
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,4}")
_VERSION = re.compile(r"(?<![\w.,])v?[0-9]{1,4}(?:\.[0-9]{1,5}){2,3}(?![\w]|\.[0-9])")
_DOTTED = re.compile(r"[0-9]\.[0-9]{1,5}\.")
_SPACED = r"[0-9]{1,3}(?:[.,] [0-9]{3})+(?![0-9])"
_NUMBER = re.compile(rf"{_SPACED}|[0-9](?:[0-9,.'’\u00a0\u202f]*[0-9])?")
_CURRENCIES = frozenset("$€£¥")
# Blanks are possessive and never cross a line: else a page of blank lines takes a time cubic in its length.
_LIST_MARK = re.compile(
    r"\n[^\S\n]*+(?:#++[^\S\n]*+|[-*][^\S\n]++)?(?:step |option |flight |item )?\d{1,3}[.):]\s", re.IGNORECASE
)
_NAME = re.compile(r"([a-z]+)[ -]$")
_SMALL = 10

Date = tuple[int, int, int]


class Number(NamedTuple):
    """A number an answer states."""

    start: int
    end: int
    """In the text that was read."""
    readings: tuple[tuple[float, int], ...]
    """Value and decimal places; two where the way of writing is read differently in different countries."""
    percent: bool
    money: bool

    @property
    def value(self) -> float:
        """The likelier reading."""
        return self.readings[0][0]

    @property
    def places(self) -> int:
        """Its decimal places."""
        return self.readings[0][1]


@dataclass(frozen=True, slots=True)
class Values:
    """What a text states. Positions are offsets into it."""

    numbers: tuple[Number, ...] = ()
    dates: tuple[tuple[int, int, Date], ...] = ()
    """Start, end; year (0 if unsaid), month, day."""
    ids: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.numbers) + len(self.dates) + len(self.ids)


_NONE = Values()


def claimed(text: str) -> Values:
    """The values an answer states, in a folded text; offsets are into it."""
    ids: list[tuple[int, int]] = []
    if "@" in text:
        ids += [match.span() for match in _MAIL.finditer(text)]
        text = _MAIL.sub(_blank, text)
    if "<" in text:
        ids += [match.span() for match in PLACEHOLDER.finditer(text) if ":" in match[0]]
        text = PLACEHOLDER.sub(_blank, text)
    if not _DIGIT.search(text):
        return Values(ids=tuple(ids)) if ids else _NONE
    if "://" in text:
        text = URL.sub(_blank, text)
    text = _LIST_MARK.sub(_blank_line, "\n" + text)[1:]
    dates: list[tuple[int, int, Date]] = []
    for start, end, readings in list(dates_in(text)):
        if len(readings) == 1:  # 04/05/2024 can be read two ways: not judged
            dates.append((start, end, readings[0]))
        text = text[:start] + " " * (end - start) + text[end:]
    if ":" in text:
        text = _TIME.sub(_blank, text)
    text = _CLOCK.sub(_blank, text)
    versions = [match.span() for match in _VERSION.finditer(text)] if _DOTTED.search(text) else []
    for match in _TOKEN.finditer(text):
        word = match[0]
        if 5 <= len(word) <= 64 and not word.isdecimal() and _is_id(word, text, match.start()):
            ids.append(match.span())
    ids += versions
    for start, end in ids:
        text = text[:start] + " " * (end - start) + text[end:]
    numbers: list[Number] = []
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        before = text[max(0, start - 2) : start]
        if before and (before[-1].isalnum() or before[-1] in "._" or (before[0].isdecimal() and before[-1] == "/")):
            continue
        if before[-1:] == "-" and before[0].isalpha():  # a name
            continue
        if (name := _NAME.search(text, max(0, start - 12), start)) and name[1] in words().named:
            continue
        readings_ = _readings(match[0])
        if not readings_:
            continue
        behind = text[end : end + 9].lstrip()
        percent = behind.startswith(("%", "percent", "per cent"))
        money = not _CURRENCIES.isdisjoint(before) or behind[:1] in _CURRENCIES
        value, places = readings_[0]
        if value > _SMALL or places or percent or money:
            numbers.append(Number(start, end, readings_, percent, money))
    return Values(tuple(numbers), tuple(dates), tuple(sorted(set(ids))))


def shown(text: str, number: Number) -> str:
    """The number as a reader sees it, with the sign of a currency or percent."""
    before = text[max(0, number.start - 2) : number.start].strip()[-1:]
    sign = before if before in _CURRENCIES else ""
    return f"{sign}{text[number.start : number.end]}{'%' if number.percent else ''}"


def unit_of(text: str, number: Number) -> tuple[str, float] | None:
    """What the number measures and the size of its unit; for other things, the stem of the word behind it."""
    if number.percent:
        return "%", 1.0
    table = words().unit
    before = text[max(0, number.start - 2) : number.start].strip()[-1:]
    if before in _CURRENCIES:
        return table.get(before)
    if found := _UNIT_WORD.match(text, number.end):
        word = found[1]
        known = table.get(word) or (table.get(word[:-1]) if word.endswith("s") else None)
        if known:
            return known
        return (STEMS[word], 1.0) if word.isalpha() and word not in words().stop and len(word) > 1 else None
    return None


_UNIT_WORD = re.compile(r"[ -]?([^\W\d_]+|[$€£¥])")


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _blank_line(match: re.Match[str]) -> str:
    return "\n" + " " * (len(match[0]) - 1)


def _is_id(word: str, text: str, at: int) -> bool:
    if not _DIGIT.search(word) or word.strip("0123456789-_") == "" or word[0] in "-_":
        return False
    if _UNITS.fullmatch(word) or _AGED.fullmatch(word) or _MODEL.fullmatch(word):
        return False
    if sum(map(str.isdecimal, word)) < _ID_DIGITS and not (len(word) > 5 and _MIXED.search(word)):
        return False
    # Part of a path, an address or a longer word is no id of its own.
    return (at == 0 or text[at - 1] not in "/.@") and text[at + len(word) : at + len(word) + 1] not in ("/", "@")


# --- dates ----------------------------------------------------------------------------------------------------------


def dates_in(text: str) -> Iterator[tuple[int, int, list[Date]]]:
    """The dates in a text: where, and how they may be read."""
    for match in _NUMBER_DATE.finditer(text):
        if match.start() and (text[match.start() - 1].isalnum() or text[match.start() - 1] in ".-_"):
            continue
        first, second, third = (int(part) for part in re.findall("[0-9]+", match[0]))
        if 1000 <= first < 3000 and match[1] != ".":
            readings = [(first, second, third)]
        elif match[1] == "." and third >= 1000:
            readings = [(third, second, first)]
        elif match[1] != "-" and (third >= 1000 or len(match[3]) == 2):
            year = third if third >= 1000 else 2000 + third
            readings = [(year, first, second), (year, second, first)] if first != second else [(year, first, second)]
        else:
            continue
        if possible := [r for r in readings if _is_date(r)]:
            yield match.start(), match.end(), possible
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
            yield start, end, [date]


def every_date(text: str) -> set[Date]:
    """Every date in a text, in every reading."""
    return {reading for _, _, readings in dates_in(text) for reading in readings}


def _is_date(date: Date) -> bool:
    return 1 <= date[1] <= 12 and 1 <= date[2] <= 31


def date_forms(written: str, date: Date) -> Iterator[str]:
    """The usual ways to write a date, in lower case; a miss proves nothing."""
    year, month, day = date
    yield written
    if year:
        yield f"{year:04}-{month:02}-{day:02}"
    for name in _MONTH_NAMES[month - 1]:
        end = f", {year}" if year else ""
        yield f"{name} {day}{end}"


def same_date(a: Date, b: Date) -> bool:
    """Whether two dates may be the same day; one without a year may be of any."""
    return a[1:] == b[1:] and (a[0] == b[0] or not a[0] or not b[0])


# --- numbers --------------------------------------------------------------------------------------------------------


def written(haystack: str, number: Number) -> bool:
    """Whether the number stands in the text in a usual form; a miss proves nothing."""
    value, places = number.readings[0]
    plain = f"{value:.{places}f}"
    if stands(haystack, plain) or (value >= 1000 and stands(haystack, f"{value:,.{places}f}")):
        return True
    return bool(places) and stands(haystack, plain.rstrip("0").rstrip("."))


def stands(haystack: str, form: str) -> bool:
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


_LOOSE_NUMBER = re.compile(r"[0-9]+(?:[.,'’] ?[0-9]+)*")
_SPACED_NUMBER = re.compile(_SPACED)


def numbers_in(text: str) -> set[float]:
    """Every number a folded text may be read to hold."""
    values: set[float] = set()
    for raw in set(_LOOSE_NUMBER.findall(text)):
        if raw.isdecimal():
            if len(raw) < 19:
                values.add(float(raw))
            continue
        if " " in raw:  # a list, or one number that a blank split
            for spaced in _SPACED_NUMBER.findall(raw):
                values.update(value for value, _ in _readings(spaced))
            for piece in re.split("[.,'’] ", raw):
                values.update(value for value, _ in _readings(piece) or _parts(piece))
        else:
            values.update(value for value, _ in _readings(raw) or _parts(raw))
        if len(values) > MAX_NUMBERS:
            break
    return values


@lru_cache(maxsize=4096)
def _readings(raw: str) -> tuple[tuple[float, int], ...]:
    """The values one written number may have, with decimal places; none when it is a list or a version."""
    if raw.isdecimal():
        return ((float(raw), 0),) if len(raw) < 19 else ()
    text = re.sub(r"['’\s]", "", raw).rstrip(".,")
    if len(text) > 30:
        return ()
    if re.fullmatch(r"\d{1,3}[.,]\d{3}", text):
        grouped, fraction = (float(re.sub("[.,]", "", text)), 0), (float(text.replace(",", ".")), 3)
        return (grouped, fraction) if "," in text else (fraction, grouped)
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        whole, _, rest = text.replace(",", "").partition(".")
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+", text) or re.fullmatch(r"\d{1,3}(\.\d{3}){2,}", text):
        whole, _, rest = text.replace(".", "").partition(",")
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        whole, _, rest = text.partition(".")
    elif re.fullmatch(r"\d+,\d{1,2}", text):
        whole, _, rest = text.partition(",")
    else:
        return ()
    return ((float(f"{whole}.{rest or 0}"), len(rest)),)


def spelled_out(haystack: str, value: float) -> bool:
    """Whether a small whole number stands in the text as a word."""
    forms = words().number_words.get(int(value), ()) if value == int(value) else ()
    return any(re.search(rf"(?<![^\W_]){form}(?![^\W_])", haystack) for form in forms)


def _parts(raw: str) -> Iterator[tuple[float, int]]:
    """The numbers of a list such as 12,15,18, or of a version."""
    for part in re.findall(r"\d+", raw)[:20]:
        if len(part) < 19:
            yield float(part), 0


def near(numbers: Sequence[float], value: float, places: int) -> bool:
    """Whether some of the sorted numbers, rounded to the places that were written, is the value."""
    slack = 0.5 * 10.0**-places if places else 0.5
    slack += 1e-9 * max(1.0, abs(value))
    at = bisect_left(numbers, value - slack)
    return at < len(numbers) and numbers[at] <= value + slack


def supported(numbers: Sequence[float], number: Number) -> bool:
    """Whether the number, in one of its readings, is among the sorted numbers; a percentage also as a fraction of one."""
    return any(
        near(numbers, value, places) or (number.percent and near(numbers, value / 100, places + 2))
        for value, places in number.readings
    )


def listed(texts: Sequence[str]) -> set[float]:
    """Sums and means of listed columns, counts of list items."""
    found: set[float] = set()
    for text in texts:
        if text[:1] in ("{", "["):
            _columns(decode(text), found)
    return found


def sum_of_few(numbers: Sequence[float], known: set[float], value: float) -> bool:
    """Whether the value is the sum or difference of two of the numbers, `known` when rounded, and they are few."""
    return len(numbers) <= FEW_NUMBERS and any(
        round(value - n, 2) in known or round(value + n, 2) in known for n in numbers
    )


def _columns(value: Any, found: set[float]) -> None:
    stack = [value]
    while stack and len(found) < MAX_NUMBERS:
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


def said_with(text: str, start: int, end: int, cues: Sequence[str] | frozenset[str], before: int, after: int) -> bool:
    """Whether one of the cues stands close to a part of a folded text."""
    around = text[max(0, start - before) : end + after]
    return any(cue in around for cue in cues)


def possible(numbers: Sequence[float], known: set[float], value: float) -> bool:
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


def converted(text: str, number: Number, numbers: Sequence[float]) -> bool:
    """Whether the number is one of the others in another unit of the same measure: 2 hours for 120 minutes."""
    unit = unit_of(text, number)
    sizes = words().units.get(unit[0]) if unit else None
    if not unit or not sizes:
        return False
    for size in set(sizes.values()) - {unit[1]}:
        value = number.value * unit[1] / size
        at = bisect_left(numbers, value * 0.995)
        if at < len(numbers) and numbers[at] <= value * 1.005:
            return True
    return False
