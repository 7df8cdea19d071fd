"""`tracegrade quarantine`, as a person uses it: with a server running on the buffer and without."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.segments import SegmentLog, varint
from tracegrade.cli import cli

Run = Callable[..., Result]
SEGMENT = "18c0ffee00000000deadbeefdeadbeef"


def request(name: str) -> bytes:
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add(name=name, trace_id=b"t" * 16, span_id=b"s" * 8)
    span.attributes.add(key="said").value.string_value = "the secret word"
    payload = message.SerializeToString()
    return varint(len(payload)) + payload


def set_aside(data_dir: Path, **pieces: bytes) -> None:
    """Put pieces into the quarantine as a collector does."""
    log = SegmentLog(
        data_dir / "buffer", disk_budget_bytes=10**9, segment_bytes=1, segment_age_seconds=1, segment_records=1
    )
    for part, data in pieces.items():
        log.quarantine(SEGMENT, "traces", part, data, count=1, reason="Code: 26. [red]cannot[/red] parse \x1b[2J")
    log.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory with one good piece, one that cannot be read, and nobody running."""
    (tmp_path / "tracegrade.yaml").write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data")}))
    set_aside(tmp_path / "data", good=request("a\x1b]0;x\x07"), noise=b"\xff\x1b[2J")
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    """Run `tracegrade quarantine …` in this process."""

    def invoke(*arguments: str, answer: str = "") -> Result:
        command, *rest = arguments
        return CliRunner().invoke(
            cli, ["quarantine", command, "--config", str(home / "tracegrade.yaml"), *rest], input=answer
        )

    return invoke


GOOD, NOISE = f"{SEGMENT}-good", f"{SEGMENT}-noise"


def test_list_is_a_table_or_json_and_never_payload(run: Run) -> None:
    table = run("list")
    assert table.exit_code == 0
    assert GOOD in table.output
    assert "[red]cannot[/red] parse" in table.output
    assert "\x1b" not in table.output
    rows = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    assert [(row["id"], row["signal"], row["items"]) for row in rows] == [(GOOD, "traces", 1), (NOISE, "traces", 1)]
    for output in (table.output, run("list", "--json").output):
        assert "secret" not in output


def test_show_tells_the_payload_only_when_asked_and_escaped(run: Run) -> None:
    plain = run("show", GOOD)
    assert (plain.exit_code, "secret" in plain.output) == (0, False)
    for flags in (("--payload",), ("--payload", "--json")):
        told = run("show", GOOD, *flags)
        assert "the secret word" in told.output
        assert "\x1b" not in told.output
    assert json.loads(run("show", NOISE, "--payload", "--json").output)["payload"] == r"\xff\x1b[2J"


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
@pytest.mark.parametrize("name", ["nothing-0", "../../../../etc/passwd", "*", f"{SEGMENT}-good.traces.pb", ""])
def test_a_name_that_is_none_is_a_usage_error_and_touches_nothing(run: Run, command: str, name: str) -> None:
    done = run(command, name, *(["--yes"] if command == "drop" else []))
    assert done.exit_code == 2
    assert "nothing is in quarantine under" in done.output
    assert len(run("list", "--json").output.splitlines()) == 2


@pytest.mark.parametrize(
    "arguments", [("retry",), ("drop", "--yes"), ("retry", GOOD, "--all"), ("drop", GOOD, "--all")]
)
def test_ids_or_all_of_them(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "--all" in done.output


def test_drop_asks_first(run: Run) -> None:
    assert run("drop", GOOD, answer="n\n").exit_code != 0
    assert run("drop", GOOD, answer="").exit_code != 0
    assert len(run("list", "--json").output.splitlines()) == 2
    assert run("drop", GOOD, answer="y\n").exit_code == 0
    assert run("drop", "--all", "--yes").exit_code == 0
    assert run("list", "--json").output == ""


def test_without_a_buffer_the_way_out_is_named(run: Run, home: Path) -> None:
    (home / "tracegrade.yaml").write_text(yaml.safe_dump({"data_dir": str(home / "elsewhere")}))
    done = run("list")
    assert (done.exit_code, "name it with --config" in done.output) == (2, True)
    assert not (home / "elsewhere").exists()


def test_retry_without_a_server_stores_what_can_be_stored(home: Path, tracegrade: Any) -> None:
    config = home / "tracegrade.yaml"
    done = tracegrade("quarantine", "retry", "--all", "--json", "--config", config)
    assert done.returncode == 4, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["id"], answer["stored"]) for answer in answers] == [(GOOD, True), (NOISE, False)]
    assert "1 of 2 stay in quarantine" in done.stderr
    count = tracegrade("sql", "--json", "--config", config, "SELECT count() AS n FROM otel_traces").stdout
    assert int(json.loads(count)["n"]) == 1
    assert tracegrade("quarantine", "retry", GOOD, "--config", config).returncode == 2


def test_retry_of_all_leaves_what_the_disk_spoilt(home: Path, tracegrade: Any) -> None:
    spoilt = f"{SEGMENT}-damaged-0-1"
    set_aside(home / "data", **{"damaged-0-1": request("not what was sent")})
    config = home / "tracegrade.yaml"
    done = tracegrade("quarantine", "retry", "--all", "--json", "--config", config)
    assert spoilt not in done.stdout
    assert "left alone because they are damaged: 1" in done.stderr
    assert tracegrade("quarantine", "retry", spoilt, "--config", config).returncode == 0


def test_retry_beside_a_running_server_is_done_by_it(start: Any, tracegrade: Any, tmp_path: Path) -> None:
    set_aside(tmp_path, good=request("a"), noise=b"\xff")
    server = start(tmp_path)

    def quarantine(*arguments: str) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = tracegrade("quarantine", *arguments, "--config", server.config_file)
        return done

    done = quarantine("retry", GOOD, NOISE)
    assert done.returncode == 4
    assert f"{GOOD}  stored" in done.stdout
    assert f"{NOISE}  stays: no readable record" in done.stdout
    with server.store() as store:
        assert store.query("SELECT SpanName FROM otel_traces") == [{"SpanName": "a"}]
    assert quarantine("drop", NOISE, "--yes").returncode == 0
    assert quarantine("list", "--json").stdout == ""
    assert server.kill(signal.SIGTERM) == 0
