"""Presidio's patterns beside the built-in rules, where Presidio is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from collector.redaction.rules import Group, Ruleset
from collector.redaction.text import Texts, Work, keyed

FOLDER = Path(__file__).parents[2] / "examples" / "presidio"


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_presidio_joins_in(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("presidio_analyzer", reason="needs Presidio: pip install ./examples/presidio")
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delenv("PRESIDIO_SPACY", raising=False)
    import presidio_redactor

    texts = Texts(Ruleset([Group.SECRETS]), keyed(b"k" * 32), [("presidio", presidio_redactor.presidio())])
    work = Work()
    after = texts.redact('{"to": "jane@example.com", "card": "4111 1111 1111 1111", "order": "A-100"}', (), work)
    assert "jane" not in after
    assert "4111" not in after
    assert "<EMAIL_ADDRESS:" in after
    assert "<CREDIT_CARD:" in after
    assert '"order": "A-100"' in after
    assert texts.redact(after, (), Work()) == after
    sys.modules.pop("presidio_redactor")
