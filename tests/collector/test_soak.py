"""The short form of `make soak`: every fault once or twice, while clients of different kinds send."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


@pytest.mark.timeout(280)
def test_stopped_and_killed_for_a_while_every_acknowledged_span_is_stored_once_and_the_books_balance() -> None:
    done = subprocess.run([sys.executable, SOAK, "--seconds", "12"], capture_output=True, text=True, timeout=270)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["ok"] is True
    assert len(told["faults"]) >= 3
    assert told["snapshots"] > 20
    for kind, counts in told["clients"].items():
        assert counts["acknowledged"] > 0, kind
        assert counts["lost"] == counts["doubled"] == counts["torn"] == 0, kind
    assert told["clients"]["poison"]["quarantined"] > 0
    assert told["clients"]["raw-json"]["stored"] >= told["clients"]["raw-json"]["items"]
