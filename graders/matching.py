"""Whether what a call was given is what a case asks for.

A value a case names fits an equal value: objects as subsets, lists item by item, numbers by value (10 is 10.0, true is not
1), text exactly. What else fits is declared, never guessed: for one value by an object with one key that begins with `$`,
for a whole case by words in `expect.compare`.

| form | fits |
|---|---|
| `{$any: [x, y]}` | what fits one of them |
| `{$optional: x}` | what fits `x`, and nothing at all: the argument may be left out |
| `{$given: true}` | anything; with `false`, only nothing at all |
| `{$contains: x}` | a text that holds the text `x`; a list of which one item fits `x` |
| `{$set: [x, y]}` | the same items in any order |
| `{$only: {…}}` | an object that holds nothing else |
| `{$text: x}` | the text, whatever its case, spaces and punctuation |
| `{$number: 5}` | the number, or a text that is one (`"5"`, `"5.00"`) |
| `{$date: "2024-05-01"}` | the day, or the moment, however it is written (`May 1, 2024`, `1 May 2024`, `2024/05/01`) |
| `{$is: x}` | exactly this value, whatever `expect.compare` says, and even if it looks like one of these forms |

| word in `expect.compare` | as if everywhere stood |
|---|---|
| `loose_text`, `numeric_text`, `dates`, `unordered` | `$text`; `$number`; `$date`; `$set` |
| `json_text` | a list or an object asked for is also found in a text that is its JSON |
| `only` | `$only`, also for the arguments as a whole |
| `loose_names` | names of tools and arguments are compared without case and punctuation: `math.hypot` is `math_hypot` |

`03/04/2024` is two days, so it fits neither as a date. What compares is a pure function in time linear in both values, but
for lists in any order, which are looked at up to 200 items.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from graders.content import decode, number

Word = Literal["loose_text", "numeric_text", "dates", "unordered", "json_text", "only", "loose_names"]
"""What `expect.compare` may hold."""

_MAX_UNORDERED = 200
_MAX_DATE = 40
_MAX_DEPTH = 50
_NOTHING = object()
"""Stands for an argument that was left out."""
_NOISE = re.compile(r"[\W_]+")


def fits(expected: Any, actual: Any, words: Collection[str] = ()) -> bool:
    """Whether `actual` is what `expected` asks for, with the words of `expect.compare`."""
    return _fits(expected, actual, words, 0)


def same_name(expected: str, actual: str, words: Collection[str] = ()) -> bool:
    """Whether two names of tools or arguments are one."""
    return expected == actual or ("loose_names" in words and _bare(expected) == _bare(actual))


def problems(value: Any, path: str = "") -> Iterator[str]:
    """What is wrong with the forms in a value a case names; one line each."""
    todo = [(value, path, 0)]
    while todo:
        current, place, depth = todo.pop()
        if depth > _MAX_DEPTH:
            yield f"{place}: nested more than {_MAX_DEPTH} deep"
            continue
        if isinstance(current, Mapping):
            forms = [k for k in current if isinstance(k, str) and k.startswith("$")]
            if forms and len(current) > 1:
                yield f"{place}: {forms[0]} stands beside other keys; a form is an object with one key"
                continue
            if forms:
                form, inner = forms[0], current[forms[0]]
                if form == "$is":
                    continue
                if wrong := _wrong(form, inner):
                    yield f"{place}.{form}: {wrong}" if place else f"{form}: {wrong}"
                    continue
            todo += [(v, f"{place}.{k}" if place else str(k), depth + 1) for k, v in current.items()]
        elif isinstance(current, list | tuple):
            todo += [(v, f"{place}[{i}]", depth + 1) for i, v in enumerate(current)]


def _wrong(form: str, inner: Any) -> str:
    if form not in _FORMS:
        return f"unknown; known: {', '.join(sorted(_FORMS))}"
    if form in ("$any", "$set") and not isinstance(inner, list | tuple):
        return "needs a list"
    if form == "$any" and not inner:
        return "needs at least one value"
    if form == "$only" and not isinstance(inner, Mapping):
        return "needs an object"
    if form == "$given" and not isinstance(inner, bool):
        return "needs true or false"
    if form == "$text" and not isinstance(inner, str):
        return "needs a text"
    if form == "$number" and number(inner) is None:
        return "needs a number"
    if form == "$date" and _moment(inner) is None:
        return "needs a date such as 2024-05-01 or 2024-05-01T10:00:00Z"
    return ""


def _fits(expected: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    if depth > _MAX_DEPTH:
        return False
    container = isinstance(expected, Mapping | list | tuple)
    if isinstance(expected, Mapping) and len(expected) == 1:
        (key,) = expected
        if key in _FORMS:
            return _FORMS[key](expected[key], actual, words, depth + 1)
    if container and isinstance(actual, str) and "json_text" in words:
        actual = decode(actual)
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and _object(expected, actual, words, depth, "only" in words)
    if actual is _NOTHING:
        return False
    if isinstance(expected, list | tuple):
        if "unordered" in words:
            return _set(expected, actual, words, depth)
        return (
            isinstance(actual, list | tuple)
            and len(expected) == len(actual)
            and all(_fits(e, a, words, depth + 1) for e, a in zip(expected, actual, strict=True))
        )
    return _scalar(expected, actual, words)


def _scalar(expected: Any, actual: Any, words: Collection[str]) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, str) and isinstance(actual, str):
        if expected == actual or ("loose_text" in words and _loosely(expected, actual)):
            return True
    elif expected == actual:
        return True
    if "numeric_text" in words and _number(expected, actual, words, 0):
        return True
    return "dates" in words and _date(expected, actual, words, 0)


def _object(
    expected: Mapping[Any, Any], actual: Mapping[Any, Any], words: Collection[str], depth: int, only: bool
) -> bool:
    if only or "loose_names" in words:
        known = {_bare(str(k)) if "loose_names" in words else k: v for k, v in actual.items()}
        if only and len(known) < len(actual):  # two arguments of one name: one is not asked for
            return False
        wanted = {_bare(str(k)) if "loose_names" in words else k: v for k, v in expected.items()}
        if only and not known.keys() <= wanted.keys():
            return False
        return all(_fits(v, known.get(k, _NOTHING), words, depth + 1) for k, v in wanted.items())
    return all(_fits(v, actual.get(k, _NOTHING), words, depth + 1) for k, v in expected.items())


# --- forms ----------------------------------------------------------------------------------------------------------


def _any(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    return isinstance(inner, list | tuple) and any(_fits(one, actual, words, depth) for one in inner)


def _optional(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    return actual is _NOTHING or _fits(inner, actual, words, depth)


def _given(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    return (actual is not _NOTHING) is inner


def _contains(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    if isinstance(actual, str) and "json_text" in words and actual[:1] == "[":
        actual = decode(actual)
    if isinstance(actual, list | tuple):
        return any(_fits(inner, item, words, depth) for item in actual)
    if not isinstance(inner, str) or not isinstance(actual, str):
        return False
    return inner in actual or ("loose_text" in words and _bare(inner) in _bare(actual))


def _set(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    if isinstance(actual, str) and "json_text" in words:
        actual = decode(actual)
    if not isinstance(actual, list | tuple) or not isinstance(inner, list | tuple) or len(inner) != len(actual):
        return False
    if len(inner) > _MAX_UNORDERED:
        return all(_fits(e, a, words, depth + 1) for e, a in zip(inner, actual, strict=True))
    options = [[i for i, a in enumerate(actual) if _fits(e, a, words, depth + 1)] for e in inner]
    return not unmatched(options)


def _only(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    if isinstance(actual, str) and "json_text" in words:
        actual = decode(actual)
    return isinstance(inner, Mapping) and isinstance(actual, Mapping) and _object(inner, actual, words, depth, True)


def _text(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    return isinstance(inner, str) and isinstance(actual, str) and _loosely(inner, actual)


def _number(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    wanted = number(inner)
    return wanted is not None and actual is not _NOTHING and number(actual) == wanted


def _date(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    wanted = _moment(inner)
    return wanted is not None and _moment(actual) == wanted


def _is(inner: Any, actual: Any, words: Collection[str], depth: int) -> bool:
    return type(inner) is type(actual) and bool(inner == actual)


_FORMS: Mapping[str, Callable[[Any, Any, Collection[str], int], bool]] = {
    "$any": _any, "$optional": _optional, "$given": _given, "$contains": _contains, "$set": _set, "$only": _only,
    "$text": _text, "$number": _number, "$date": _date, "$is": _is,
}  # fmt: skip


# --- text and dates -------------------------------------------------------------------------------------------------


def _loosely(expected: str, actual: str) -> bool:
    bare = _bare(expected)
    return bare == _bare(actual) if bare else expected.strip() == actual.strip()


def _bare(text: str) -> str:
    return _NOISE.sub("", text).casefold()


_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_MONTH_FIRST = re.compile(rf"{_NAMES}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})")
_DAY_FIRST = re.compile(rf"(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_NAMES},?\s+(\d{{4}})")


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[int, int, int] | datetime | None:
    text = text.strip().lower()
    if match := _ISO.fullmatch(text):
        year, month, day = (int(g) for g in match.groups())
    elif match := _MONTH_FIRST.fullmatch(text):
        year, month, day = int(match[3]), _MONTHS.index(match[1]) + 1, int(match[2])
    elif match := _DAY_FIRST.fullmatch(text):
        year, month, day = int(match[3]), _MONTHS.index(match[2]) + 1, int(match[1])
    else:
        try:
            moment = datetime.fromisoformat(text.upper())
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC) if ":" in text else None
        except (ValueError, OverflowError):
            return None
    try:
        datetime(year, month, day)
    except ValueError:
        return None
    return year, month, day


def _moment(value: Any) -> tuple[int, int, int] | datetime | None:
    """A day or a moment out of a text that says one; None when it says none, or could say two."""
    return _parsed(value) if isinstance(value, str) and len(value) <= _MAX_DATE else None


# --- pairing --------------------------------------------------------------------------------------------------------


def unmatched(options: Sequence[Iterable[int]]) -> list[int]:
    """Indices that stay without a partner in a largest matching, where `options[i]` lists the partners i may have."""
    partner: dict[int, int] = {}
    choices = [list(option) for option in options]

    def place(start: int) -> bool:
        tried: set[int] = set()
        path: list[tuple[int, int]] = []
        stack = [(start, iter(choices[start]))]
        while stack:
            index, rest = stack[-1]
            option = next((o for o in rest if o not in tried), None)
            if option is None:
                stack.pop()
                if path:
                    path.pop()
                continue
            tried.add(option)
            path.append((index, option))
            if option not in partner:
                for owner, taken in path:
                    partner[taken] = owner
                return True
            stack.append((partner[option], iter(choices[partner[option]])))
        return False

    return [index for index in range(len(choices)) if not place(index)]
