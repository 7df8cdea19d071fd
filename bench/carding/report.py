"""Cards as JSON, as a table for people, and as docs/cards.md."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any

from bench.carding.card import Measured, Registered
from bench.carding.sets import SETS
from bench.carding.stats import Figure
from graders import grader_types

Json = dict[str, Any]


def figure(found: Figure) -> Json:
    """A figure, rounded to what its interval can mean."""
    rounded = {
        k: None if v is None else round(v, 4)
        for k, v in (("value", found.value), ("low", found.low), ("high", found.high))
    }
    return {**rounded, "n": found.n}


def as_json(registered: Registered, measured: Measured) -> Json:
    """One card."""
    kind = grader_types().get(registered.grader)
    n = measured.n
    return {
        "set": registered.set,
        "grader": registered.grader,
        "version": kind.grader_version if kind else "",
        "measure": registered.key,
        "unit": registered.unit,
        "informative": registered.informative,
        "truth": registered.truth,
        "n": n,
        "clusters": measured.clusters,
        "answers": dict(sorted(measured.answers.items())),
        "unknown": round(measured.answers.get("unknown", 0) / n, 4) if n else None,
        "skip": round(measured.answers.get("skip", 0) / n, 4) if n else None,
        "figures": {name: figure(found) for name, found in measured.figures.items()},
        "bars": dict(registered.bars),
        "met": {
            name: meets(measured.figures[name], bar)
            for name, bar in registered.bars.items()
            if name in measured.figures
        },
        "slices": {
            part: {name: figure(found) for name, found in figures.items()} for part, figures in measured.slices.items()
        },
        "counts": dict(measured.counts),
        "notes": list(measured.notes),
    }


def meets(found: Figure, bar: str) -> bool | None:
    """Whether the figure itself, not its interval, reaches a bar such as `>= .90`; `0` and `1` want just that."""
    if found.value is None:
        return None
    match = re.fullmatch(r"(>=|<=|)\s*([\d.]+)", bar)
    if not match:
        raise ValueError(f"not a bar: {bar!r}")
    limit = float(match[2])
    if not match[1]:
        return found.value == limit
    return found.value >= limit if match[1] == ">=" else found.value <= limit


def shown(found: Mapping[str, Any]) -> str:
    """A figure with its interval, for people."""
    value, low, high = found["value"], found["low"], found["high"]
    if value is None:
        return "-"
    text = _short(value)
    return f"{text} [{_short(low)}, {_short(high)}]" if low is not None and high is not None else text


def _short(value: float) -> str:
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text


def table(document: Json) -> str:
    """The cards for a terminal."""
    lines = []
    last = ""
    for found in document["cards"]:
        if found["set"] != last:
            last = found["set"]
            lines += [
                "",
                f"{last}: {document['sets'][last]['records']} records" if last in document["sets"] else f"{last}:",
            ]
        mark = " (informs only)" if found["informative"] else ""
        lines.append(
            f"  {found['grader']} · {found['measure']} · n={found['n']} {found['unit']}, "
            f"{found['clusters']} clusters · unknown {_percent(found['unknown'])}, skip {_percent(found['skip'])}{mark}"
        )
        for name, value in found["figures"].items():
            bar = found["bars"].get(name, "")
            verdict = {True: "  met", False: "  NOT MET", None: ""}[found["met"].get(name)]
            lines.append(
                f"      {name:26} {shown(value):22} n={value['n']:<6} {f'bar {bar}{verdict}' if bar else ''}".rstrip()
            )
        for part, figures in found["slices"].items():
            lines.append(f"        {part}: " + ", ".join(f"{name} {shown(value)}" for name, value in figures.items()))
        lines += [f"        {count:6} {name}" for name, count in found["counts"].items()]
        lines += [f"        {note}" for note in found["notes"]]
    lines += ["", "Answers by grader and set (pass / fail / unknown / skip / error):"]
    for grader, sets in document["answers"].items():
        lines.append(f"  {grader}")
        lines += [
            f"      {name:20} " + " / ".join(f"{answers.get(o, 0):,}" for o in OUTCOMES)
            for name, answers in sets.items()
        ]
    return "\n".join(lines).lstrip("\n")


OUTCOMES = ("pass", "fail", "unknown", "skip", "error")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


# --- docs/cards.md ---------------------------------------------------------------------------------------------------


def markdown(document: Json, weaknesses: Mapping[str, Sequence[str]]) -> str:
    """docs/cards.md."""
    types = grader_types()
    by_grader: dict[str, list[Json]] = {}
    for found in document["cards"]:
        by_grader.setdefault(found["grader"], []).append(found)
    parts = [_HEAD.format(split=document["split"], way=_WAYS[document["path"]])]
    parts.append(_sets(document))
    unlabelled = [name for name in types if name not in by_grader]
    for name in sorted(by_grader):
        parts.append(_grader(name, by_grader[name], weaknesses.get(name, ())))
    parts.append(
        "## Graders without a card\n\n"
        + _wrap(
            "Nobody has labelled data here on which these could be right or wrong. Some only count or measure; others are "
            "checked by the cases in `tests/graders/cases` alone. What each answered over all runs of all sets:"
        )
    )
    parts.append(_answers(document, unlabelled))
    return "\n\n".join(parts) + "\n"


_HEAD = """# Grader cards

What each grader claims, and how right it is on data that people labelled. Made by `make cards` from the `{split}` half of the
sets below, {way}; do not edit.

A figure stands with its 95 % interval: Wilson's for shares, with fewer units where those of one cluster (runs of one case,
calls of one task) repeat each other; DeLong's for AUC; a bootstrap over clusters for kappa and balanced accuracy. `unknown` and
`skip` find nothing and agree with nothing: a grader gains nothing by not answering. A card that informs only has no label that
settles the question.

To read one: the base rate is the share that is bad by the label. A `fail` is a find; precision is the share of finds that are
bad, recall the share of the bad that were found, false alarms the share of the good that were found too, kappa the agreement
beyond chance (1 is all of it). `bar` is what the figure itself, not its interval, is held to; `not met` is said."""

_WAYS = {
    "served": "sent over OTLP to a server, stored, graded by its worker and read back by SQL",
    "direct": "assembled and graded in one process, without a store",
}


def _sets(document: Json) -> str:
    rows = ["| set | records | runs | what it is, whose labels |", "|---|---:|---:|---|"]
    rows += [
        f"| {name} | {size['records']:,} | {size['runs']:,} | {SETS[name].about} |"
        for name, size in document["sets"].items()
    ]
    return "\n".join(rows)


def _grader(name: str, cards: Iterable[Json], weaknesses: Sequence[str]) -> str:
    kind = grader_types().get(name)
    lines = [f"## `{name}`" + (f", version {kind.grader_version}" if kind else "")]
    if kind:
        lines.append(_wrap(re.split(r"\n\s*\n", cleandoc(kind.__doc__ or ""))[0]))
    for found in cards:
        head = f"**{found['set']}**: {found['n']:,} {found['unit']} in {found['clusters']:,} clusters"
        if found["informative"]:
            head += "; informs only"
        lines.append(_wrap(f"{head}. {found['truth']}"))
        rows = ["| figure | | n | bar |", "|---|---|---:|---|"]
        for label, value in found["figures"].items():
            bar = found["bars"].get(label, "")
            missed = ", not met" if found["met"].get(label) is False else ""
            rows.append(f"| {label} | {shown(value)} | {value['n']:,} | {bar}{missed} |")
        rows.append(f"| answered `unknown` | {_percent(found['unknown'])} | {found['n']:,} | |")
        rows.append(f"| answered `skip` | {_percent(found['skip'])} | {found['n']:,} | |")
        lines.append("\n".join(rows))
        if found["slices"]:
            heads = list(dict.fromkeys(label for figures in found["slices"].values() for label in figures))
            rows = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
            for part, figures in found["slices"].items():
                rows.append(
                    f"| {part} | " + " | ".join(shown(figures[h]) if h in figures else "" for h in heads) + " |"
                )
            lines.append("\n".join(rows))
        if found["counts"]:
            rows = ["| counted | |", "|---|---:|"] + [
                f"| {label} | {count:,} |" for label, count in found["counts"].items()
            ]
            lines.append("\n".join(rows))
        lines += [_wrap(note[0].upper() + note[1:] + ".") for note in found["notes"]]
    if weaknesses:
        lines.append("Known weaknesses:\n\n" + "\n".join(_wrap(w, "- ", "  ") for w in weaknesses))
    return "\n\n".join(lines)


def _answers(document: Json, names: Iterable[str]) -> str:
    rows = ["| grader | answers | `pass` | `fail` | `unknown` | `skip` |", "|---|---:|---:|---:|---:|---:|"]
    for name in names:
        total: dict[str, int] = {}
        for answers in document["answers"].get(name, {}).values():
            for said, count in answers.items():
                total[said] = total.get(said, 0) + count
        n = sum(total.values())
        shares = " | ".join(_percent(total.get(o, 0) / n) if n else "-" for o in OUTCOMES[:4])
        rows.append(f"| `{name}` | {n:,} | {shares} |")
    return "\n".join(rows)


def _wrap(text: str, first: str = "", rest: str = "") -> str:
    flat = re.sub(r"\s+", " ", text).strip()
    return textwrap.fill(
        flat, 128, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
