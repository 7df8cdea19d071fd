"""Values in the arguments of a call, and whether a text that people read shows them: ids, addresses, days, amounts of money.

Everything here takes text of unknown origin; every pattern is linear in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

_MAX_VALUES = 200
_MAX_AMOUNTS = 12

_ID = re.compile(r"#?[A-Za-z0-9](?:[\w@.+-]*[A-Za-z0-9])?")
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T.*)?")
_MARK = re.compile(r"[\d@]")
_DIGIT = re.compile(r"\d")
_CLOCK = re.compile(r"\d{1,2}(?::\d\d)?(?:am|pm)?|\d+(?:st|nd|rd|th)|\d{1,3}%", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.,-])([$€£¥]|usd |eur |gbp )?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,15}(?:\.\d{1,15})?)(?![\w]|[.,-]\d)"
    r"( ?(?:[€£¥]|(?:usd|eur|gbp|dollars?|euros?|pounds?)\b))?",
    re.IGNORECASE,
)
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_MONEY = frozenset({
    "amount", "price", "cost", "sum", "fee", "fees", "charge",
    "fare", "budget", "balance", "deposit", "salary", "usd", "eur",
})  # fmt: skip
_EACH = re.compile(r"\b(?:each|per|apiece|every)\b", re.IGNORECASE)
_BIRTH = re.compile(r"birth|\bdob\b", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_AMEND = re.compile(r"\b(?:make (?:it|that)|instead|rather|change (?:it|that)|only|just)\b", re.IGNORECASE)


class Value(NamedTuple):
    """One scalar of the arguments, and the name of the argument it stands in."""

    key: str
    text: str
    number: float | None
    is_id: bool
    is_date: bool

    @property
    def days(self) -> set[tuple[str, int, int]]:
        """A date with and without its year."""
        month, day = int(self.text[5:7]), int(self.text[8:10])
        return {(self.text[:4], month, day), ("", month, day)}

    @property
    def checkable(self) -> bool:
        """Whether a text that speaks of the value would have to spell it."""
        return self.is_id or self.is_date or (self.number is not None and abs(self.number) >= 10)

    def stands_in(self, text: str) -> bool:
        """Whether a text shows the value, in one of the ways people write it."""
        if self.number is not None:
            return self.number in (number for number, _ in _numbers(text))
        if self.is_date:
            return not self.days.isdisjoint(_days(text))
        if self.is_id:
            return stands(self.text, text)
        return self.text.casefold() in text.casefold()


@lru_cache(maxsize=1024)
def is_money(key: str) -> bool:
    """Whether an argument is an amount of money, by the words of its name."""
    words = {word.lower() for word in _PARTS.findall(key)}
    return not words.isdisjoint(_MONEY) or words == {"total"}


def values_of(arguments: Mapping[str, Any]) -> Iterator[Value]:
    """The scalars of a call's arguments."""
    left = _MAX_VALUES
    stack: list[tuple[str, object]] = [(str(k), v) for k, v in reversed(list(arguments.items()))]
    while stack and left:
        key, value = stack.pop()
        if isinstance(value, Mapping):
            stack += [(str(k), v) for k, v in reversed(list(value.items()))]
        elif isinstance(value, list):
            stack += [(key, v) for v in reversed(value)]
        elif value is not None and not isinstance(value, bool) and value != "":
            left -= 1
            yield _value(key, value)


def _value(key: str, value: object) -> Value:
    if isinstance(value, int | float):
        return Value(key, str(value), float(value), False, False)
    text = str(value).strip()[:500]
    plain = text.replace(",", "").lstrip("$€£")
    if is_money(key) and re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", plain):
        return Value(key, text, float(plain), False, False)
    date = _DATE.fullmatch(text) is not None
    return Value(key, text, None, not date and _is_id(text), date)


def _is_id(text: str) -> bool:
    """Whether a word names one thing among many: it has a digit and is no time, date or small number; or it is an address."""
    if text.isalpha() or len(text) < 3 or len(text) > 120 or not _ID.fullmatch(text):
        return False
    if "@" in text:
        return "." in text
    if text.isdecimal() or text[1:].isdecimal():
        return len(text) >= 5 or not text[0].isalnum()
    return _DIGIT.search(text) is not None and not _DATE.fullmatch(text) and not _CLOCK.fullmatch(text)


@lru_cache(maxsize=256)
def ids_in(text: str) -> tuple[str, ...]:
    """The ids that a text shows, without repetition."""
    marked = (word for word in text.split() if _MARK.search(word))  # most words are only that
    found = (part.strip("*_`") for word in marked for part in _ID.findall(word))
    return tuple(dict.fromkeys(part for part in found if _is_id(part)))


@lru_cache(maxsize=4096)
def shape(text: str) -> str:
    """What ids of one kind share: the letters before the first digit, and how letters and digits follow one another."""
    folded = text.casefold()
    first = re.search(r"\d", folded)
    head = folded[: first.start()] if first else folded
    if "@" in folded:
        return "@"
    if len(folded) >= 12 and folded.isalnum() and not folded.isdecimal():
        return "long"  # account numbers of another country or kind
    if head.rstrip("#-_:") == "" or len(head.rstrip("-_:#")) < 2:
        return (
            f"{head}\0{len(folded)}\0{re.sub(r'[a-z0-9]+', 'x', folded)}" if not head.isalpha() else f"\0{len(folded)}"
        )
    return f"{head}{re.sub('[0-9]', '9', re.sub('[a-z]', 'a', folded[len(head) :]))}"


def stands(value: str, text: str) -> bool:
    """Whether a text shows an id: whole, or by its last four digits where it says that it ends so."""
    folded, said = value.casefold(), text.casefold()
    at = said.find(folded)
    while at >= 0:
        before, after = said[at - 1 : at], said[at + len(folded) : at + len(folded) + 1]
        if not (before.isalnum() or after.isalnum()):
            return True
        at = said.find(folded, at + 1)
    if folded[-4:].isdecimal() and folded[-4:] in _endings(text):
        return True
    digits = _TAIL.search(folded)
    return digits is not None and digits.start() > 0 and digits[0] in ids_in(said)


_TAIL = re.compile(r"\d{5,}\Z")
_ENDING = re.compile(r"\b(?:ending|ends)(?: in| with)? \W{0,3}(\d{4})\b", re.IGNORECASE)
_NAMED = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAY = re.compile(
    rf"\b({_NAMED})[a-z]{{0,6}}\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (\d{{4}})\b)?|\b(\d{{4}})-(\d\d)-(\d\d)"
    rf"|\b(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({_NAMED})|\b(\d{{1,2}})/(\d{{1,2}})\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=256)
def _endings(text: str) -> frozenset[str]:
    """The last digits a text shows of numbers that it does not spell."""
    return frozenset(found[1] for found in _ENDING.finditer(text))


@lru_cache(maxsize=256)
def _days(text: str) -> frozenset[tuple[str, int, int]]:
    """The days that a text names, as year, month and day; the year is empty where it is left out, and 1/2 is two days."""
    found: set[tuple[str, int, int]] = set()
    for match in _DAY.finditer(text):
        month, day, year, iso_year, iso_month, iso_day, other_day, other_month, first, second = match.groups()
        if iso_year:
            found.add((iso_year, int(iso_month), int(iso_day)))
        elif first:
            found |= {("", int(first), int(second)), ("", int(second), int(first))}
        else:
            found.add((year or "", _MONTHS.index((month or other_month).lower()) + 1, int(day or other_day)))
    return frozenset(found)


def other_day(shown: str, values: Sequence[Value]) -> str:
    """A day that is none of those shown; empty when none of its years are, or when an id says what the call is about."""
    dates = [v for v in values if v.is_date and not _BIRTH.search(v.key)]
    if not dates or any(v.is_id and stands(v.text, shown) for v in values):
        return ""
    years = {"", *(v.text[:4] for v in dates)}
    others = any(day[0] in years for day in _days(shown))
    return (
        ""
        if not others or any(v.stands_in(shown) for v in dates)
        else f"{dates[0].key} is {dates[0].text}, not what was shown"
    )


def _numbers(text: str) -> list[tuple[float, bool]]:
    """The numbers of a text, and whether each is money by its sign."""
    return [(float(m[2].replace(",", "")), bool(m[1] or m[3])) for m in _NUMBER.finditer(text)]


def other_amount(proposal: str, reply: str, key: str, amounts: Sequence[float], counts: Collection[int]) -> str:
    """An amount that is none of those shown, nor made of them: a sum, a difference, the price of as many as the call is for.

    Empty also when none are shown.
    """
    text = f"{proposal}\n{reply}"
    replied = _amounts(reply)
    if replied and _AMEND.search(reply) and not set(replied) & set(_amounts(proposal)):
        text = reply
    shown = _amounts(text)
    if not shown or len(shown) > _MAX_AMOUNTS:
        return ""
    wanted = [*amounts, sum(amounts)]
    made = {0.0, *shown, sum(shown)}
    made |= {round(abs(a + sign * b), 2) for i, a in enumerate(shown) for b in shown[i + 1 :] for sign in (1, -1)}
    times = {*counts, *range(2, 10)} if _EACH.search(text) else counts
    made |= {round(a * n, 2) for a in list(made) for n in times}
    if any(round(a, 2) in made for a in wanted):
        return ""
    return f"{key} is {amounts[0]:g}, and {shown[0]:g} was shown"


def lengths(arguments: Mapping[str, Any] | None) -> set[int]:
    """How many of something a call is for."""
    return {len(value) for value in (arguments or {}).values() if isinstance(value, list) and 1 < len(value) < 100}


def _amounts(text: str) -> list[float]:
    """The money in a text; where none has a sign, its other numbers."""
    numbers = list(dict.fromkeys(_numbers(text)))
    money = [number for number, signed in numbers if signed]
    return money or ([number for number, _ in numbers] if len(numbers) == 1 else [])
