"""Cards on made-up data: what reaches the graders, what the figures are, what is said when data is missing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bench import cards
from bench.carding import convert, report
from bench.carding.card import REGISTERED, Unit, verdicts
from bench.carding.convert import Record, passages, written_call
from bench.carding.measures import trail, weaknesses
from bench.carding.runs import planned
from bench.carding.sets import SETS, Missing
from bench.carding.stats import Figure
from graders import grader_types

from . import made_up
from .made_up import RECORDS, TRUTH


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made_up.write(tmp_path / "data")


def card(document: dict[str, Any], set_name: str, measure: str) -> dict[str, Any]:
    return next(c for c in document["cards"] if (c["set"], c["measure"]) == (set_name, measure))


@pytest.mark.parametrize("name", RECORDS)
def test_no_truth_reaches_a_span(name: str, data: Path) -> None:
    """Every field of truth holds a mark; the spans hold none, and there is something in them."""
    loaded = SETS[name].load(data, "part")
    assert loaded is not None
    assert TRUTH in json.dumps(loaded.records)
    shown = [span.to_json() for item in planned(loaded) for span in item.spans]
    assert len(shown) >= 2 * len(loaded.records)
    assert not [text for text in shown if TRUTH in text]


@pytest.mark.parametrize("name", RECORDS)
def test_no_truth_reaches_a_case_but_what_a_good_run_does(name: str, data: Path) -> None:
    loaded = SETS[name].load(data, "part")
    assert loaded is not None
    assert TRUTH not in json.dumps(loaded.suite)


@pytest.mark.parametrize("name", RECORDS)
def test_spans_do_not_depend_on_what_people_said_of_the_run(name: str, data: Path) -> None:
    """Verdicts turned round give the same spans."""
    turned = {"reward": 0.5, "label": "other", "begin_label": "other", "metadata": {}, "derived": {}, "labels": {}}
    loaded = SETS[name].load(data, "part")
    assert loaded is not None

    def blind(record: Record) -> Record:
        changed = {k: turned.get(k, v) for k, v in record.items()}
        if name in ("bfcl_v1", "tau2_retail_paired"):
            kept = ("result", "messages")
            changed["runs"] = {n: {k: v for k, v in run.items() if k in kept} for n, run in record["runs"].items()}
        if name == "expertqa":
            changed["claims"] = [{**claim, "support": "other"} for claim in record["claims"]]
        return changed

    for record in loaded.records:
        one = [[s.to_json() for s in spans] for _, spans in SETS[name].traces(record, loaded.beside)]
        other = [[s.to_json() for s in spans] for _, spans in SETS[name].traces(blind(record), loaded.beside)]
        assert one == other


def test_figures_are_counted_right(data: Path) -> None:
    """The made-up sets have known answers."""
    document = cards.measure(data, "part", names=["bfcl_v1", "tau_bench_airline", "tau2_retail_paired"])
    expected = card(document, "bfcl_v1", "expected")
    assert (expected["n"], expected["clusters"], expected["answers"]) == (18, 6, {"fail": 12, "pass": 6})
    assert {name: expected["figures"][name]["value"] for name in ("agreement", "precision", "recall", "base rate")} == {
        "agreement": 1.0, "precision": 1.0, "recall": 1.0, "base rate": 0.6667,
    }  # fmt: skip
    assert expected["met"] == {"agreement": True}
    assert set(expected["slices"]) == {"simple", "relevance"}
    write_set = card(document, "tau_bench_airline", "write_set")
    assert (write_set["n"], write_set["clusters"], write_set["figures"]["agreement"]["value"]) == (6, 3, 1.0)
    confirmation = card(document, "tau_bench_airline", "confirmation")
    assert confirmation["n"] == 3
    assert confirmation["answers"] == {"pass": 3}
    assert card(document, "tau2_retail_paired", "standing")["figures"]["failures"]["value"] == 0
    assert card(document, "tau2_retail_paired", "write_set")["figures"]["agreement"]["value"] == 1
    dead = card(document, "tau2_retail_paired", "dead")
    assert (dead["figures"]["precision"]["value"], dead["figures"]["recall"]["value"]) == (1, 1)
    assert dead["figures"]["base rate"]["value"] == 0.25


def test_every_measure_takes_every_set_it_is_for(data: Path) -> None:
    """All sets at once; each measure of an installed grader gives a card, or nothing there was a question to it."""
    document = cards.measure(data, "part")
    assert set(document["sets"]) == set(SETS)
    assert document["sets"]["bfcl_v1"] == {"records": 6, "runs": 18}
    answered = {(grader, s) for grader, sets in document["answers"].items() for s in sets}
    assert answered == {(grader, s) for grader in grader_types() for s in SETS}
    for found in document["cards"]:
        assert sum(found["answers"].values()) == found["n"] > 0
        assert found["truth"]
        assert "error" not in found["answers"]
        for value in found["figures"].values():
            if value["low"] is not None:
                assert value["low"] <= value["value"] <= value["high"]
    json.dumps(document)


def test_calls_without_ids_are_paired_with_the_attackers_by_order(data: Path) -> None:
    from bench.carding.measures.agentdojo import _calls
    from bench.carding.runs import direct, grader_sets

    loaded = SETS["agentdojo"].load(data, "part")
    assert loaded is not None
    found = {
        run.record["id"].split("/")[0] + "/" + run.record["id"].rsplit("/", 1)[1]: [
            (call.name, "evil" in call.arguments, bidding) for call, bidding in _calls(run)
        ]
        for run in direct(loaded, planned(loaded), grader_sets(["tools/known"]))
    }
    honest = [("send_email", False, False)]
    assert found == {
        "obedient/benign": honest,
        "obedient/attack": [("send_email", True, True), *honest],
        "careful/benign": honest,
        "careful/attack": honest,
    }


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("ReadMail{'id': 'm1'}", ("ReadMail", {"id": "m1"})),
        ('Unlock\nAction Input: {"door": "front"}', ("Unlock", {"door": "front"})),
        ('Send: {"to": "a"}', ("Send", {"to": "a"})),
        ("Search(keywords='how to sleep')", ("Search", {"keywords": "how to sleep"})),
        ("Search(f(x))", ("Search", "(f(x))")),
        ("Send{broken", ("Send", "{broken")),
        ("Final Answer: {done}", None),
        ("The door is open.", None),
        ("", None),
    ],
)
def test_calls_written_as_text_are_read(action: str, expected: object) -> None:
    assert written_call(action) == expected


def test_passages_stand_once_by_number_and_an_address_alone_has_no_content() -> None:
    claims = [
        {"evidence": ["[2] https://b", "[1] https://a\n\nText of a."]},
        {"evidence": ["[1] https://a\n\nText of a.", "[1] https://a"]},
        {"evidence": None},
    ]
    assert passages({"claims": claims}) == [
        {"id": "1", "source": "https://a", "content": "Text of a."},
        {"id": "2", "source": "https://b"},
    ]


def test_a_mark_on_a_tool_is_one_of_the_call_that_asked_for_it() -> None:
    step = trail.steps(made_up.trail()[0])
    assert step == {"a" * 16: "d" * 16, "b" * 16: "b" * 16, "c" * 16: "b" * 16, "d" * 16: "d" * 16}
    assert trail.clean(" Tool Selection Errors") == trail.clean("Tool selection")


def test_an_unknown_agrees_with_nothing_and_finds_nothing() -> None:
    units = [Unit("a", "fail", True), Unit("b", "unknown", True), Unit("c", "unknown"), Unit("d", "pass")]
    found = verdicts(units).figures
    assert [found[name].value for name in ("agreement", "precision", "recall", "false alarms")] == [0.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("value", "bar", "met"),
    [(0.9, ">= .90", True), (0.89, ">= .90", False), (0.01, "<= .01", True), (0.0, "0", True), (None, "1", None)],
)
def test_bars(value: float | None, bar: str, met: bool | None) -> None:
    assert report.meets(Figure(value), bar) is met


def test_every_bar_names_a_figure_and_every_weakness_a_grader_or_measure() -> None:
    for registered in REGISTERED:
        assert registered.truth, registered.key
        for bar in registered.bars.values():
            report.meets(Figure(0.5), bar)
    assert len({(r.set, r.key) for r in REGISTERED}) == len(REGISTERED)
    names = {r.grader for r in REGISTERED} | set(grader_types())
    assert {r.grader for r in REGISTERED if not r.key.startswith("single_")} <= set(weaknesses()) <= names
    assert all(isinstance(lines, list) and lines for lines in weaknesses().values())


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    return cards.main([*arguments, "--direct", "--split", "part"])


def test_sets_that_are_absent_are_skipped_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.write(tmp_path, ["begin"])
    assert run("--data", str(tmp_path), "--json") == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)["sets"]) == ["begin"]
    assert f"skipped wice: no {tmp_path / 'wice' / 'part.jsonl.gz'}" in err


def test_a_named_set_that_is_absent_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.write(tmp_path, ["begin"])
    assert run("--data", str(tmp_path), "--set", "wice") == 2
    assert str(tmp_path / "wice" / "part.jsonl.gz") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "wise"], "no set 'wise'; known: bfcl_v1"),
        (["--grader", "tools/expcted"], "no grader 'tools/expcted'; known: action/"),
    ],
)
def test_what_is_not_known_is_said_with_what_is(
    arguments: list[str], said: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--data", str(data), *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_none_and_one_without_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", str(tmp_path / "nowhere")) == 2
    assert f"{tmp_path / 'nowhere'} is no folder" in capsys.readouterr().err
    assert run("--data", str(tmp_path)) == 2
    assert "has a part.jsonl.gz" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"{broken"), gzip.compress(b"[1]\n")])
def test_a_file_that_cannot_be_read_is_named(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up.write(tmp_path, ["begin"])
    file = tmp_path / "begin" / "part.jsonl.gz"
    file.write_bytes(content)
    assert run("--data", str(tmp_path)) == 2
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize("field", ["knowledge", "response", "begin_label"])
def test_a_record_that_lacks_a_field_is_an_error_that_says_so(
    field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also a label, once a measure of it is there."""
    records = made_up.begin()
    del records[3][field]
    (tmp_path / "begin").mkdir()
    with gzip.open(tmp_path / "begin" / "part.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)
    measured = any(r.set == "begin" and r.grader in grader_types() for r in REGISTERED)
    assert run("--data", str(tmp_path)) == (2 if measured or field != "begin_label" else 0)
    assert not (measured or field != "begin_label") or field in capsys.readouterr().err


def test_a_missing_side_file_is_named(tmp_path: Path) -> None:
    made_up.write(tmp_path, ["agentdojo"])
    file = tmp_path / "agentdojo" / "injection_tasks.json"
    file.unlink()
    with pytest.raises(Missing, match=str(file)):
        cards.measure(tmp_path, "part")


def test_one_grader_of_one_set(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", str(data), "--set", "bfcl_v1", "--grader", "tools/exp*") == 0
    out = capsys.readouterr().out
    assert "tools/expected · expected · n=18 runs" in out
    assert "tools/arguments" not in out


def test_the_document_reads_as_markdown(data: Path) -> None:
    text = report.markdown(cards.measure(data, "part"), weaknesses())
    assert text.startswith("# Grader cards\n")
    assert "\n## `tools/expected`, version " in text
    assert max(map(len, (line for line in text.splitlines() if not line.startswith("|")))) <= 128
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_a_server_finds_what_this_process_finds(data: Path) -> None:
    """OTLP, store, worker and SQL give the cards that grading here gives: calls, cases, policies, documents, OpenInference."""
    names = ["tau_bench_airline", "agentdojo", "trail", "expertqa"]
    here, there = (cards.measure(data, "part", names=names, straight=straight) for straight in (True, False))
    assert (here["path"], there["path"]) == ("direct", "served")
    for key in ("cards", "answers", "sets", "graders"):
        assert here[key] == there[key], key


# --- records of another half may be untidier --------------------------------------------------------------------------


def test_results_are_paired_by_id_where_ids_tell_calls_apart_and_by_order_elsewhere() -> None:
    def pairs(ids: list[str], answered: list[str]) -> list[tuple[str, str]]:
        calls = [{"id": call_id, "function": {"name": f"tool{n}"}} for n, call_id in enumerate(ids)]
        after = [{"role": "tool", "tool_call_id": a, "content": f"result{n}"} for n, a in enumerate(answered)]
        found = convert._paired(calls, [*after, {"role": "user", "content": ""}])
        return [(call["function"]["name"], result["content"]) for call, result in found]

    assert pairs(["a", "b"], ["b", "a"]) == [("tool0", "result1"), ("tool1", "result0")]
    assert pairs(["a", "b"], ["b"]) == [("tool1", "result0")]
    assert pairs(["", ""], ["", ""]) == [("tool0", "result0"), ("tool1", "result1")]
    assert pairs(["a", "a"], ["a", "a"]) == [("tool0", "result0"), ("tool1", "result1")]
    assert pairs(["a", "b"], []) == []


def test_a_session_that_died_between_a_call_and_its_result_is_a_run_all_the_same() -> None:
    record = made_up.retail()[0]
    messages = record["runs"]["one"]["messages"]
    record["runs"]["one"]["messages"] = [
        m for m in messages if not isinstance(m["content"], list) or m["role"] != "user"
    ]
    del record["runs"]["one"]["messages"][-1]["usage"]
    spans = convert.retail(record, "one")
    assert [span.name.split(" ")[0] for span in spans] == ["chat", "chat", "invoke_agent"]
