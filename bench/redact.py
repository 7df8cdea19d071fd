"""What redaction costs and how well it finds: in front of the same requests, in one run, beside plain `re` and Presidio.

Cost is CPU time of one thread. The door's own work, `accept`, is measured in the same run as the measure of what is added.
Requests are those of the ingest benchmark, as they are and with addresses, cards and tokens written into some of their spans.
Recall and false alarms are those of the labelled list, tests/collector/redaction/corpus.yaml, to which the rules were fitted;
`--data` also counts, by rule, what is replaced in traces nobody fitted them to. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import payload
import peers
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.otlp import accept_traces
from collector.redaction.redactor import Redactor
from collector.redaction.rules import Group, Ruleset
from collector.redaction.text import Texts, Work, keyed

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "collector" / "redaction"))

import corpus  # noqa: E402

KEY = b"a key for measuring only"
SETS = {
    "secrets (default)": [Group.SECRETS],
    "secrets, financial, contact": [Group.SECRETS, Group.FINANCIAL, Group.CONTACT],
    "everything": list(Group),
}
ADVERSARIES = (
    "a",
    "@",
    "a@b.",
    "1",
    "4111 1111 1111 1111 1",
    "phone 1",
    "(1",
    "1.",
    "://a:",
    "password=",
    "eyJaaaaaa.",
    "[{",
    "\\",
    "٣",
)


def seconds(work: Callable[[], object], at_least: float = 0.4) -> float:
    """CPU time of one call: the median of many."""
    work()
    taken: list[float] = []
    while sum(taken) < at_least or len(taken) < 5:
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def seeded(template: bytes, every: int) -> bytes:
    """The request with an address, a card and a token in one of `every` spans, in its longest text."""
    random_ = random.Random(5)
    request = ExportTraceServiceRequest.FromString(template)
    for span in request.resource_spans[0].scope_spans[0].spans:
        if random_.randrange(every):
            continue
        token = random_.randbytes(18).hex()
        text = f" customer{random_.randrange(10**6)}@example.com paid with 4111 1111 1111 1111, Bearer {token}"
        longest = max(span.attributes, key=lambda pair: len(pair.value.string_value))
        value = longest.value.string_value
        longest.value.string_value = value.replace(" ", text + " ", 1) if " " in value else value + text
    return request.SerializeToString()


def texts_of(template: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(template)
    return [
        pair.value.string_value
        for span in request.resource_spans[0].scope_spans[0].spans
        for pair in span.attributes
        if pair.value.HasField("string_value")
    ]


def plain_rules(rules: Ruleset) -> list[re.Pattern[str]]:
    """The same patterns for Python's `re`."""

    def translated(pattern: str) -> str:
        return pattern.replace(r"\pL\pN", r"\w").replace(r"\pL", r"[^\W\d_]").replace(r"\z", r"\Z")

    return [re.compile(translated(matcher.rule.pattern)) for matcher in rules.matchers]


def cost(template: bytes, report: dict[str, Any]) -> None:
    requests = {
        "as they are": template,
        "1 in 64 spans": seeded(template, 64),
        "1 in 8 spans": seeded(template, 8),
        "every span": seeded(template, 1),
    }
    door = seconds(lambda: accept_traces(template))
    each = 1e6 / payload.SPANS
    report["accept_us"] = round(door * each, 2)
    print(f"accept, without redaction: {door * each:.2f} µs a span\n")
    print(f"{'':30} {'personal data in':16} {'µs/span':>8} {'MB/s':>7} {'of accept':>9}")
    for name, groups in SETS.items():
        for kind, body in requests.items():
            by = Redactor(Ruleset(groups, countries=("US", "DE")), keyed(KEY))

            def work(by: Redactor = by, body: bytes = body) -> bytes:
                found = by.screen(body)
                return body if found is None else by.rewrite("traces", body, found)

            took = seconds(work)
            row = {
                "us": round(took * each, 2),
                "mb_s": round(len(body) / took / 1e6, 1),
                "of_accept": round(took / door, 2),
            }
            report.setdefault("door", {}).setdefault(name, {})[kind] = row
            print(f"{name:30} {kind:16} {row['us']:8.2f} {row['mb_s']:7.1f} {row['of_accept']:9.2f}")


def peers_(template: bytes, report: dict[str, Any]) -> None:
    texts = texts_of(seeded(template, 64))
    size = sum(len(text.encode()) for text in texts)
    rules = Ruleset(list(Group), countries=("US", "DE"))
    patterns, by = plain_rules(rules), Texts(rules, keyed(KEY))
    whole = Redactor(rules, keyed(KEY))
    body = seeded(template, 64)
    found = whole.screen(body)
    assert found is not None
    took = {
        "screen, then what it hits": seconds(lambda: whole.rewrite("traces", body, whole.screen(body) or ()))
        * size
        / len(body),
        "every text, one set first": seconds(lambda: [by.redact(text, (), Work()) for text in texts]),
        "plain re, rule by rule": seconds(lambda: [m for text in texts for p in patterns for m in p.finditer(text)], 0),
    }
    try:
        bin_, version = peers.install("presidio-analyzer", 900)
        run = subprocess.run(
            [bin_ / "python", HERE / "presidio_peer.py"],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            check=True,
        )
        took["presidio, patterns alone"] = json.loads(run.stdout.splitlines()[-1])["seconds"]
        report["presidio"] = version
    except (peers.Unavailable, subprocess.CalledProcessError) as reason:
        report["presidio"] = f"left out: {reason}"
        print(f"left out: presidio: {reason}")
    print(f"\nthe texts of one request, personal data in 1 of 64 spans, {len(rules.matchers)} rules")
    for name, one in took.items():
        print(f"{name:30} {size / one / 1e6:8.2f} MB/s")
    report["texts_mb_s"] = {name: round(size / one / 1e6, 2) for name, one in took.items()}
    ours = took["screen, then what it hits"]
    report["ratios"] = {f"{name} / ours": round(one / ours, 1) for name, one in took.items() if one != ours}


def quality(report: dict[str, Any]) -> None:
    found, near = corpus.load()
    rows: dict[str, list[int]] = {}
    by = Texts(Ruleset(list(Group), countries=corpus.COUNTRIES), keyed(KEY))
    for case in found:
        after = by.redact(case.text, (), Work())
        hit = after != case.text and not (case.value and case.value in after)
        for rule in case.rules:
            row = rows.setdefault(rule, [0, 0])
            row[0] += hit
            row[1] += 1
    false: Counter[str] = Counter()
    for case in near:
        work = Work()
        by.redact(case.text, (), work)
        false.update(work.replaced.keys())
    hits, all_ = (sum(row[at] for row in rows.values()) for at in (0, 1))
    print(f"\nlabelled list: {hits} of {all_} found, {sum(false.values())} false alarms in {len(near)} near misses")
    for rule, (hit, of) in sorted(rows.items()):
        if hit < of or false[rule]:
            print(f"  {rule:24} {hit} of {of}, {false[rule]} false alarms")
    report["labelled"] = {"found": hits, "of": all_, "false_alarms": sum(false.values()), "near_misses": len(near)}


def linear(report: dict[str, Any]) -> None:
    by = Redactor(Ruleset(list(Group), countries=("US", "DE")), keyed(KEY))
    slowest = (0.0, "")
    for piece in ADVERSARIES:
        request = ExportTraceServiceRequest()
        span = request.resource_spans.add().scope_spans.add().spans.add()
        span.attributes.add(key="a").value.string_value = piece * (10**7 // len(piece.encode()))
        body = request.SerializeToString()
        started = time.process_time()
        found = by.screen(body)
        if found is not None:
            by.rewrite("traces", body, found)
        slowest = max(slowest, (time.process_time() - started, piece))
    print(
        f"\n10 MB in one attribute, {len(ADVERSARIES)} adversarial ones: at most {slowest[0]:.1f} s ({slowest[1]!r} repeated)"
    )
    report["adversarial_10mb_s"] = round(slowest[0], 2)


def _strings(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield keys, value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, keys)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*keys[-2:], key))


def real(folder: Path, report: dict[str, Any]) -> None:
    by = Texts(Ruleset(list(Group), countries=("DE", "ES", "FR", "GB", "IT", "NL", "PL", "US")), keyed(KEY))
    print(f"\nreal traces: {'set':24} {'MB':>6}  replaced, by rule (different values)")
    for path in sorted(folder.glob("*/*.gz")):
        content = gzip.decompress(path.read_bytes()).decode()
        work, size, values = Work(), 0, set()
        for document in content.splitlines() if path.name.endswith("jsonl.gz") else [content]:
            for keys, text in _strings(json.loads(document)):
                size += len(text)
                before = work.replaced.total()
                after = by.redact(text, keys, work)
                if work.replaced.total() > before:
                    values |= set(re.findall(r"<([A-Z_]+:[a-p]{16})>", after))
        kinds = Counter(value.partition(":")[0] for value in values)
        name = f"{path.parent.name}/{path.name.partition('.')[0]}"
        report.setdefault("real", {})[name] = {
            "mb": round(size / 1e6, 1),
            "replaced": dict(work.replaced),
            "values": dict(kinds),
        }
        said = ", ".join(f"{rule} {n}" for rule, n in work.replaced.most_common()) or "nothing"
        print(f"{name:37} {size / 1e6:6.1f}  {said} ({sum(kinds.values())})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = HERE.parents[1] / "shared" / "data"
    default = Path(os.environ.get("REAL_DATA", shared))
    parser.add_argument(
        "--data", type=Path, default=default, help="a folder of real traces, set by set (default REAL_DATA)"
    )
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": machine.describe(),
        "versions": machine.versions("google-re2", "phonenumberslite"),
    }
    print(", ".join(f"{name} {value}" for name, value in {**report["machine"], **report["versions"]}.items()), "\n")
    template = payload.template()
    cost(template, report)
    peers_(template, report)
    quality(report)
    linear(report)
    if options.data.is_dir():
        real(options.data, report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
