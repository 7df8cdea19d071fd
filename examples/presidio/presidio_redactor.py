"""Presidio as a detector: what patterns and its language models find joins what the built-in rules find.

Install it beside tracegrade (`pip install ./examples/presidio`) and name it: `collector: {redaction: {detectors: [presidio]}}`.
Without a model it uses Presidio's patterns alone; set `PRESIDIO_SPACY` to a spaCy model that is installed to find names and
places too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from presidio_analyzer import AnalyzerEngine, PatternRecognizer, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngineProvider

from collector.redaction import Finding

LOWEST_SCORE = 0.5
"""Presidio's own measure; most of its patterns start below and are raised by a checksum or by context."""


class Patterns:
    """Presidio's patterns and checksums, without a language model."""

    def __init__(self) -> None:
        registry = RecognizerRegistry()
        registry.load_predefined_recognizers(languages=["en"])
        self._recognizers = [one for one in registry.recognizers if isinstance(one, PatternRecognizer)]

    def detect(self, text: str, /) -> Iterator[Finding]:
        """What any of its patterns finds."""
        for recognizer in self._recognizers:
            for found in recognizer.analyze(text, recognizer.supported_entities, None):
                if found.score >= LOWEST_SCORE:
                    yield Finding(found.start, found.end, found.entity_type)


class Models:
    """All of Presidio, with a spaCy model for names, places and organisations."""

    def __init__(self, model: str) -> None:
        settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
        self._analyzer = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine())

    def detect(self, text: str, /) -> Iterator[Finding]:
        """What the analyzer finds."""
        for found in self._analyzer.analyze(text, language="en", score_threshold=LOWEST_SCORE):
            yield Finding(found.start, found.end, found.entity_type)


def presidio() -> Patterns | Models:
    """The entry point."""
    model = os.environ.get("PRESIDIO_SPACY")
    return Models(model) if model else Patterns()
