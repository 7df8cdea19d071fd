"""The hash that names the arguments of a call without showing them: SHA-256 over canonical JSON (RFC 8785).

`same_arguments` also accepts what JSON libraries write when they are only told to sort the keys: whoever hashes another text
of the same arguments has still hashed these arguments, and no other arguments have that text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

_EXACT = 2**53


def arguments_hash(arguments: object) -> str:
    """SHA-256, in hex, over RFC 8785; empty for what JSON cannot say."""
    try:
        return hashlib.sha256(_written(arguments).encode()).hexdigest()
    except (TypeError, ValueError, RecursionError):
        return ""


def hashes_of(arguments: object) -> list[str]:
    """All the hashes these arguments may be named by."""
    return [h for h in dict.fromkeys([arguments_hash(arguments), *_other_hashes(arguments)]) if h]


def same_arguments(stated: str, arguments: object) -> bool:
    """Whether a hash that somebody stated is that of these arguments."""
    return stated.strip().lower().removeprefix("sha256:") in hashes_of(arguments)


def _other_hashes(arguments: object) -> list[str]:
    """Sorted JSON as Python writes it, with and without blanks, in ASCII or not."""
    found = []
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_only in (False, True):
            try:
                text = json.dumps(arguments, sort_keys=True, separators=separators, ensure_ascii=ascii_only)
                found.append(hashlib.sha256(text.encode()).hexdigest())
            except (TypeError, ValueError, RecursionError):
                pass
    return found


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = sorted((str(key) for key in value), key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_written(key)}:{_written(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT):
        return _number(float(value))
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """A number as ECMAScript writes it, which RFC 8785 asks for."""
    if not math.isfinite(value):
        raise ValueError("JSON has no such number")
    if value == 0:
        return "0"
    if value.is_integer() and abs(value) < 1e21:
        digits, _, exponent = repr(value).partition("e")
        # repr has the shortest digits, which int() of a large float has not.
        return digits.removesuffix(".0") if not exponent else _shifted(digits, int(exponent))
    text = repr(value)
    digits, _, exponent = text.partition("e")
    if not exponent:
        return text
    if -7 < int(exponent) < 21:
        return _shifted(digits, int(exponent))
    return f"{digits.removesuffix('.0')}e{'+' if int(exponent) > 0 else '-'}{abs(int(exponent))}"


def _shifted(digits: str, exponent: int) -> str:
    """Digits with a point and an exponent, without the exponent."""
    sign = "-" if digits.startswith("-") else ""
    whole, _, part = digits.removeprefix("-").partition(".")
    part = "" if part == "0" else part
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{whole}{part}"
    return f"{sign}{whole}{part.ljust(exponent, '0')}"
