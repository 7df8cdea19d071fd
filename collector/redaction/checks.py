"""Tells a value from what only looks like one: checksums, lengths, entropy.

Each check takes what a pattern found and answers how many of its characters are the value: none, when it is not one.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from ipaddress import ip_address
from typing import Any, Final

import orjson
import re2

Check = Callable[[str], int]

_NO_SECRET: Final = re2.compile(
    r"(?i)^[$%*x._-]*$|^[$%*<]|\*{3}|x{5}|\.{3}|your|example|dummy|sample|placeholder|change.?me|redacted|masked|hidden"
    r"|^(?:none|null|nil|true|false|undefined|string|str|required|optional|empty|unknown|missing|n/a)$"
    r"|^(?:os\.|process\.|env\.|self\.|config\.|settings\.|secrets?\.)|^https?://"
)
_NOT_DIALLED: Final = re2.compile(  # dates, seconds and milliseconds since 1970, versions
    r"(?:19|20)[0-9]{2}([-/. ]?)(?:0?[1-9]|1[0-2])([-/. ]?)(?:0?[1-9]|[12][0-9]|3[01])(?:[ -]?[0-9]{2,6})?"
    r"|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:19|20)[0-9]{2}(?:[ -][0-9]{1,4})?"
    r"|1[5-9][0-9]{8}(?:[0-9]{3})?|[0-9]\.[0-9.]*"
)
_IBAN_LENGTHS: Final[Mapping[str, int]] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TN": 24,
    "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""Digits times two, and the digits of that added up."""
_SYMBOLS: Final = frozenset("+/=_!@#$%^&*~")
_FILES: Final = frozenset(("png", "jpg", "jpeg", "gif", "svg", "webp", "js", "ts", "css", "html", "json", "yaml", "md"))


def digits(text: str) -> str:
    """The digits alone."""
    return "".join(filter(str.isdecimal, text))


def entropy(text: str) -> float:
    """Bits a character, by how often each occurs."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def luhn(text: str) -> int:
    """A card number's last digit agrees with the others."""
    number = list(map(int, digits(text)))
    total = sum(number[::-2]) + sum(_DOUBLED[digit] for digit in number[-2::-2])
    return len(text) if total % 10 == 0 and len(set(number)) > 1 else 0


def iban(text: str) -> int:
    """As long as its country's are, and 1 modulo 97. What the pattern took too much is left off."""
    length = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    kept = [(at, char) for at, char in enumerate(text) if char.isalnum()][:length]
    number = "".join(char for _, char in kept).upper()
    if not length or len(number) < length or int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 != 1:
        return 0
    end = kept[-1][0] + 1
    return 0 if end < len(text) and text[end].isalnum() else end


def aba(text: str) -> int:
    """A routing number of a bank in the USA."""
    weighted = sum(int(digit) * weight for digit, weight in zip(text, (3, 7, 1) * 3, strict=False))
    return len(text) if len(text) == 9 and weighted % 10 == 0 and text != "0" * 9 else 0


def ssn(text: str) -> int:
    """Parts that the social security administration gives out, or the tax authority instead of it."""
    number = digits(text)
    return 0 if number[:3] in ("000", "666") or number[3:5] == "00" or number[5:] == "0000" else len(text)


def email(text: str) -> int:
    """Not a picture for high resolutions, and not a repository's address."""
    local, _, domain = text.replace("%40", "@").partition("@")
    fits = len(local) <= 64 and len(domain) <= 253 and domain[0] != "-"
    return len(text) if fits and local != "git" and domain.rpartition(".")[2].lower() not in _FILES else 0


def ip(text: str) -> int:
    """An address of one machine, and not this one."""
    try:
        address = ip_address(text)
    except ValueError:
        return 0
    return 0 if address.is_loopback or address.is_unspecified or address.is_multicast else len(text)


def jwt(text: str) -> int:
    """The first part is a JSON object that names an algorithm."""
    header = text.partition(".")[0]
    try:
        return len(text) if "alg" in orjson.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))) else 0
    except (ValueError, TypeError):
        return 0


def basic(text: str) -> int:
    """User and password in base64."""
    try:
        return len(text) if b":" in base64.b64decode(text + "=" * (-len(text) % 4), validate=True) else 0
    except binascii.Error:
        return 0


def literal(text: str) -> int:
    """Not a word that stands for a secret."""
    return 0 if _NO_SECRET.search(text) else len(text)


def secret(text: str) -> int:
    """Random enough, and mixed as words are not."""
    text = text.rstrip(".:!?")
    mixed = any(map(str.isdecimal, text)) and any(map(str.isalpha, text))
    if not mixed:
        mixed = len(text) >= 16 and text != text.lower() and text != text.upper() and not _SYMBOLS.isdisjoint(text)
    return len(text) if mixed and entropy(text) >= 3 and literal(text) else 0


def regions() -> frozenset[str]:
    """Countries by their ISO codes: those that have telephones."""
    import phonenumbers

    return frozenset(phonenumbers.SUPPORTED_REGIONS)


def phone(text: str, regions: tuple[str | None, ...] = (None,)) -> int:
    """A number that can be dialled from anywhere, or within `regions`."""
    return len(text) if not _NOT_DIALLED.fullmatch(text) and dialled(text, regions) else 0


def dialled(text: str, regions: tuple[str | None, ...]) -> str:
    """The number as E.164, empty if there is none like it."""
    # Its tables take longer to load than the rest of this package, and phone numbers are off by default.
    import phonenumbers

    number = text.replace("%2B", "+")
    if number.startswith("00"):
        number = "+" + number[2:]
    for region in (None,) if number.startswith("+") else regions:
        try:
            parsed = phonenumbers.parse(number, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed):
            return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
    return ""


def phone_here(text: str) -> int:
    """Where no country is known: seven to fifteen digits that are no date or version."""
    number = digits(text)
    return len(text) if 7 <= len(number) <= 15 and len(set(number)) > 1 and not _NOT_DIALLED.fullmatch(text) else 0


CHECKS: Final[Mapping[str, Check]] = {
    check.__name__: check for check in (luhn, iban, aba, ssn, email, ip, jwt, basic, literal, secret, phone, phone_here)
}


@cache
def find_check(name: str) -> Check:
    """The check of that name; `stdnum:de.idnr` is one of python-stdnum's, `|` between several means any."""
    if name in CHECKS:
        return CHECKS[name]
    scheme, _, modules = name.partition(":")
    if scheme != "stdnum" or not modules:
        raise ValueError(f"no check is called {name!r}; known: {', '.join(CHECKS)}, stdnum:COUNTRY.NUMBER")
    try:
        found: list[Any] = [import_module(f"stdnum.{module}") for module in modules.split("|")]
        valid = [module.is_valid for module in found]
    except (ImportError, AttributeError):
        raise ValueError(f"python-stdnum knows no {modules}; its modules are named like de.idnr") from None
    return lambda text: len(text) if any(test(text) for test in valid) else 0
