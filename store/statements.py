"""Reads SQL statements as far as the HTTP front needs: where an insert's rows begin, where a result's format is named, what a
read-only client may run.

Pure. Words, strings and comments are told apart as ClickHouse's lexer does; everything that decides about safety reads the
engine's own rendering of a statement (`formatQuerySingleLine`), which has no comments and one way to quote.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

READS = frozenset(("SELECT", "WITH", "(", "SHOW", "DESCRIBE", "EXISTS", "EXPLAIN"))
"""First words, as the engine's parser renders them, of statements that only produce a result."""

# What has no end goes on to the end of the text, as one token, and no repetition gives back what it took: a text of a million
# opening quotes is read once, not once for each of them.
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z))
      |(?P<string>'(?:[^'\\]++|\\.|'')*+(?:'|\\?\Z)|\$(?P<tag>\w*+)\$(?:.*?\$(?P=tag)\$|.*+))
      |(?P<quoted>`(?:[^`\\]++|\\.|``)*+(?:`|\\?\Z)|"(?:[^"\\]++|\\.|"")*+(?:"|\\?\Z))
      |(?P<word>[A-Za-z_][A-Za-z0-9_$]*)
      |(?P<other>[0-9][\w.]*|.)""",
    re.DOTALL | re.VERBOSE,
)


class Refused(Exception):
    """A request that is answered with a ClickHouse error without asking the engine."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message} ({name})")


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int
    depth: int


def tokenize(sql: str) -> Iterator[Token]:
    """The words of a statement without spaces and comments; `depth` counts open parentheses."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = "string" if match.lastgroup == "tag" else str(match.lastgroup)
        if kind == "space":
            continue
        text = match[0]
        depth -= text in ")]}"
        yield Token(kind, text, match.start(), depth)
        depth += text in "([{"


@dataclass(frozen=True, slots=True)
class Insert:
    """An insert whose rows follow the statement: what to run, around the clause that names the rows' file."""

    before: str
    after: str
    data_at: int
    """Where the rows start, in characters of the text that was scanned."""


def split_insert(text: str) -> Insert | None:
    """Where an `INSERT … FORMAT x` or `INSERT … VALUES` ends and its rows begin; None when it is anything else."""
    stream = tokenize(text)
    first = next(stream, None)
    if first is None or first.text.upper() != "INSERT":
        return None
    settings_at = None
    for token in stream:
        word = token.text.upper() if token.kind == "word" and token.depth == 0 else ""
        if token.text == ";" or word in ("SELECT", "WITH", "INFILE"):
            return None
        if word == "SETTINGS":
            settings_at = token.start
        elif word == "VALUES":
            end = token.start + len(token.text)
            head, settings = text[: settings_at or token.start], text[settings_at : token.start] if settings_at else ""
            return Insert(head, f"{settings} FORMAT Values", end)
        elif word == "FORMAT":
            name = next(stream, None)
            if name is None or name.kind != "word":
                return None
            end = name.start + len(name.text)
            cut = token.start if settings_at is None else settings_at
            # ClickHouse's rule: blanks, then at most one line end, belong to the statement.
            data = re.compile(r"[ \t\f]*\r?\n?").match(text, end)
            return Insert(text[:cut], text[cut:end], data.end() if data else end)
    return None


def check(parsed: list[Token], *, readonly: bool, outside: Collection[str], unsafe: Collection[str]) -> None:
    """Refuse what the engine would run and a ClickHouse server, or a read-only one, would not.

    `parsed` must come from the engine's own rendering of the statement. `outside` are table functions that reach beyond the
    database, refused where they are called; `unsafe` are scalar functions, refused wherever their bare name stands, because
    the engine also takes a function by name (`arrayMap(file, …)`, `APPLY file`). All in lower case.
    """
    words = [token.text.upper() if token.kind in ("word", "other") else "" for token in parsed]
    pairs = set(itertools.pairwise(words))
    if ("INTO", "OUTFILE") in pairs or ("FROM", "INFILE") in pairs:
        raise Refused(
            48, "NOT_IMPLEMENTED", "INTO OUTFILE and FROM INFILE name the client's files; not allowed over HTTP"
        )
    if words[0] == "INSERT" and ("INPUT", "(") in pairs:
        raise Refused(
            48, "NOT_IMPLEMENTED", "INSERT … SELECT … FROM input() is not served; insert into a Null table with a view"
        )
    if not readonly:
        return
    if words[0] not in READS or words[:3] == ["EXPLAIN", "TABLE", "OVERRIDE"]:
        raise Refused(164, "READONLY", f"Cannot execute query in readonly mode: {parsed[0].text}")
    for before, token, after in zip([None, *parsed], parsed, [*parsed[1:], None], strict=False):
        if token.kind not in ("word", "quoted"):
            continue
        name = token.text.strip('`"').lower()
        if name in outside and after is not None and after.text == "(":
            raise Refused(
                164, "READONLY", f"Cannot execute query in readonly mode: table function {name} is not allowed"
            )
        if name in unsafe and not (before is not None and before.text == "."):
            message = f"Cannot execute query in readonly mode: {name} is not allowed; qualify a column of that name"
            raise Refused(164, "READONLY", message)


def format_at(tokens: list[Token], end: int) -> int:
    """Where the trailing `FORMAT x [SETTINGS …]` of a rendered statement starts, or `end`."""
    for at in range(len(tokens) - 2, 0, -1):
        token, name, after = tokens[at], tokens[at + 1], tokens[at + 2 : at + 3]
        # The engine quotes a format that is also a keyword: FORMAT `Null`.
        named = name.kind in ("word", "quoted") and (not after or after[0].text == "SETTINGS")
        if token.text == "FORMAT" and token.depth == 0 and named:
            return token.start
    return end


def trailing_format(tokens: list[Token]) -> str:
    """The format a rendered statement names; empty when it names none."""
    at = format_at(tokens, -1)
    return next((name.text.strip("`") for token, name in itertools.pairwise(tokens) if token.start == at), "")


def assignments(tokens: list[Token]) -> dict[str, str]:
    """Names and literals of a rendered `SET a = 1, b = 'x'`."""
    found: dict[str, str] = {}
    for at, token in enumerate(tokens):
        if token.depth == 0 and token.text == "=" and tokens[at - 1].kind == "word":
            literal = []
            for value in tokens[at + 1 :]:
                if value.text == "," and value.depth == 0:
                    break
                literal.append(value.text)
            found[tokens[at - 1].text] = "".join(literal)
    return {name: value for name, value in found.items() if value != "DEFAULT"}
