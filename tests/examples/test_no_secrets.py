"""The example of a grader somebody else ships: its own tests pass, and once installed it grades with the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tracegrade.running import find

FOLDER = Path(__file__).parents[2] / "examples" / "no_secrets_grader"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who installed it."""
    pytest.importorskip("hatchling", reason="building the example needs hatchling")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", target, FOLDER], check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": str(target)}


def test_its_own_tests_pass(installed: dict[str, str], tmp_path: Path) -> None:
    # Elsewhere, so that it is the installed module that is tested.
    (tmp_path / "test_no_secrets.py").write_text((FOLDER / "test_no_secrets.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_once_installed_it_grades(installed: dict[str, str], tmp_path: Path) -> None:
    config = {
        "data_dir": str(tmp_path / "data"),
        "collector": {"grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.1, "redaction": {"groups": []}},
        **{name: {"port": 0} for name in ("clickhouse", "admin")},
        "gate": {"port": 0, "grpc_port": 0},
        "grading": {"grace_seconds": 0.1, "graders": {"secrets/leaves": {"outside": ["fetch"]}}},
    }
    file = tmp_path / "tracegrade.yaml"
    file.write_text(yaml.safe_dump(config))
    tracegrade = [sys.executable, "-m", "tracegrade"]
    server = subprocess.Popen([*tracegrade, "serve", "--config", file], env=installed, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while (addresses := find(tmp_path / "data")) is None:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"http://{addresses.otlp_http}/v1/traces")))
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "fetch",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.call.arguments": json.dumps({"url": "https://example.com/?key=AKIA" + "Q" * 16}),
        }
        with provider.get_tracer("t").start_as_current_span("execute_tool fetch", attributes=attributes):
            pass
        provider.shutdown()
        query = "SELECT Outcome, Label, Subject, Severity, Evidence FROM grades_v WHERE Grader = 'secrets/leaves'"
        rows: list[str] = []
        while not rows:
            assert time.monotonic() < deadline
            command = [*tracegrade, "sql", "--json", "--config", file, query]
            rows = subprocess.run(
                command, env=installed, capture_output=True, text=True, timeout=60
            ).stdout.splitlines()
    finally:
        server.terminate()
        server.wait(30)
    (grade,) = [json.loads(row) for row in rows]
    assert (grade["Outcome"], grade["Label"], grade["Subject"]) == ("fail", "AWS access key", "c1")
    assert grade["Severity"] == "critical"
    (evidence,) = json.loads(grade["Evidence"])
    assert (evidence["where"], evidence["text"]) == ("arguments", "")
    assert evidence["end"] - evidence["start"] == 20
