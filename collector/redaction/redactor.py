"""What the collector does with a request before it reaches the disk.

    screen    one pass over the raw bytes for all rules at once; most requests end here, untouched
    locate    where in the bytes something was found
    rewrite   the attributes and texts at those places are read, judged and written anew; see `wire` and `text`

A failure on the way drops the content and keeps the structure: ids, times, kinds, parents, the attributes that say what a span
is. Such requests carry the attribute `tracegrade.content_dropped` on every span and are counted. No value is ever part of a
count, a log line or an error.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.otlp import Signal
from collector.redaction.key import load_key
from collector.redaction.rules import Ruleset, compiled, pattern_set
from collector.redaction.settings import Mode, RedactionSettings
from collector.redaction.text import Detector, Texts, Work, keyed, typed
from collector.redaction.wire import Hits, Leaves, rewrite
from collector.stamp import ARM, TENANT
from store import StoreError

DETECTORS: Final = "tracegrade.redactors"
"""Entry points: each names something that is called without arguments and returns a `Detector`."""
DROPPED: Final = "tracegrade.content_dropped"
_MAX_STRUCTURE: Final = 128
"""Characters of an attribute that still says what a span is."""
_ORIGIN: Final = ("service.name", ARM, TENANT, "deployment.environment.name")
"""Attributes that say whose it is; without them a shadow's traces would count as production's."""
_SHADOW: Final = "tracegrade=shadow"
"""What trace state says of it."""
_MAX_LOCATED: Final = 20_000
"""Places after which the whole request is read instead."""

_log = logging.getLogger(__name__)


class RedactionUnavailable(StoreError):
    """Redaction cannot do what the configuration promises; nothing was started."""


@dataclass(slots=True)
class RedactionCounts:
    """What was done since the start; no value is in it."""

    requests: int = 0
    """Screened."""
    read: int = 0
    """Those in which the screen found something, so that parts of them were read."""
    changed: int = 0
    """Those in which something was replaced."""
    dropped: int = 0
    """Those whose content was dropped because redaction failed."""
    replaced: Counter[str] = field(default_factory=Counter)
    """Values replaced, by rule."""


class Redactor:
    """Applies the configured rules to serialised requests. Safe to call from several threads."""

    def __init__(
        self,
        rules: Ruleset,
        placeholder: Callable[[str, str], str],
        detectors: Mapping[str, Detector] | None = None,
        *,
        detector_seconds: float = 5.0,
    ) -> None:
        self.digest = rules.digest
        self._rules = rules
        self._texts = Texts(rules, placeholder, tuple((detectors or {}).items()))
        self._set = pattern_set(rules.screens)
        self._screens = [compiled(screen) for screen in rules.screens]
        self._seconds = detector_seconds
        self._pool = ThreadPoolExecutor(1, "collector-redact") if detectors else None
        self._counts = RedactionCounts()
        self.patient = bool(detectors)
        """Whether it takes so long that nobody else should have to wait for it."""
        self._lock = threading.Lock()

    def screen(self, payload: bytes) -> Sequence[int] | None:
        """The screens that found something; None lets the request pass as it is."""
        found: Sequence[int] | None = self._set.Match(payload)
        with self._lock:
            self._counts.requests += 1
        return (found or ()) if self._pool is not None else found

    def rewrite(self, signal: Signal, payload: bytes, found: Sequence[int]) -> bytes:
        """`payload` redacted, or without its content if that fails."""
        work = Work()
        dropped = False
        try:
            if self._pool is None:
                result = self._rewritten(signal, payload, found, work)
            else:
                result = self._pool.submit(self._rewritten, signal, payload, found, work).result(self._seconds)
        except Exception as error:
            # Whatever it was, its message may quote the content.
            _log.error("redaction failed (%s); the content of this request is dropped", type(error).__name__)
            result, dropped = self._stripped(signal, payload), True
        with self._lock:
            counts = self._counts
            counts.read += 1
            counts.dropped += dropped
            counts.changed += result is not payload
            if not dropped:
                counts.replaced.update(work.replaced)
        return result

    def text(self, text: str) -> str:
        """One text as it would be stored; raises what the detectors raise."""
        return self._texts.redact(text, (), Work())

    def counts(self) -> RedactionCounts:
        """A copy of the counts."""
        with self._lock:
            c = self._counts
            return RedactionCounts(c.requests, c.read, c.changed, c.dropped, Counter(c.replaced))

    def close(self) -> None:
        """Let go of the detectors' thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # --- reading

    def _rewritten(self, signal: Signal, payload: bytes, found: Sequence[int], work: Work) -> bytes:
        leaves = Leaves(
            text=lambda text: self._texts.redact(text, (), work),
            attribute=lambda pair: self._attribute(pair, (), work),
            body=lambda value: self._value(value, (), work),
        )
        return rewrite(signal, payload, self._hits(payload, found), leaves)

    def _hits(self, payload: bytes, found: Sequence[int]) -> Hits:
        if self._pool is not None:
            return Hits([(0, len(payload))])
        ranges: list[tuple[int, int]] = []
        for number in found:
            for match in self._screens[number].finditer(payload):
                ranges.append(match.span())
                if len(ranges) > _MAX_LOCATED:
                    return Hits([(0, len(payload))])
        return Hits(ranges)

    def _attribute(self, pair: Any, above: tuple[str, ...], work: Work) -> bool:
        # A key is text like any other: one that is an address would be stored as one.
        key = self._texts.redact(pair.key, (), work)
        changed = bool(key != pair.key)
        inside = self._value(pair.value, (*above[-2:], pair.key), work)
        pair.key = key
        return inside or changed

    def _value(self, value: Any, keys: tuple[str, ...], work: Work) -> bool:
        kind = value.WhichOneof("value")
        if kind == "string_value":
            return _set(value, value.string_value, self._texts.redact(value.string_value, keys, work))
        if kind == "kvlist_value":
            return sum(self._attribute(pair, keys, work) for pair in value.kvlist_value.values) > 0
        if kind == "array_value":
            return sum(self._value(item, keys, work) for item in value.array_value.values) > 0
        if kind == "int_value":
            text = str(value.int_value)
            return _set(value, text, self._texts.number(text, keys, work))
        if kind == "double_value" and math.isfinite(value.double_value):
            whole = value.double_value.is_integer() and abs(value.double_value) < 2**63
            text = str(int(value.double_value) if whole else value.double_value)
            return _set(value, text, self._texts.number(text, keys, work))
        if kind == "bytes_value":
            encoding = "utf-8" if _is_utf8(value.bytes_value) else "latin-1"
            text = value.bytes_value.decode(encoding)
            new = self._texts.redact(text, keys, work)
            if new == text:
                return False
            value.bytes_value = new.encode(encoding)
            return True
        return False

    # --- failing

    def _stripped(self, signal: Signal, payload: bytes) -> bytes:
        if signal == "traces":
            request: Any = ExportTraceServiceRequest.FromString(payload)
        else:
            request = ExportLogsServiceRequest.FromString(payload)
        request.DiscardUnknownFields()
        for holder in request.resource_spans if signal == "traces" else request.resource_logs:
            holder.schema_url = ""
            self._strip(holder.resource)
            for scope in holder.scope_spans if signal == "traces" else holder.scope_logs:
                scope.schema_url = ""
                self._strip(scope.scope)
                for item in scope.spans if signal == "traces" else scope.log_records:
                    self._strip(item)
                    item.attributes.add(key=DROPPED).value.bool_value = True
        return bytes(request.SerializeToString())

    def _strip(self, message: Any) -> None:
        """Leave ids, times, numbers, and attributes that say what this is."""
        kept = [pair for pair in message.attributes if self._is_structure(pair)]
        for part in message.DESCRIPTOR.fields:
            if part.name == "attributes":
                del message.attributes[:]
            elif part.name in ("events", "links"):
                for inner in getattr(message, part.name):
                    self._strip(inner)
            elif part.name == "status":
                message.status.message = ""
            elif part.name == "trace_state":
                message.trace_state = _SHADOW if _SHADOW in message.trace_state else ""
            elif part.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
                message.ClearField(part.name)
        message.attributes.extend(kept)

    def _is_structure(self, pair: Any) -> bool:
        kind = pair.value.WhichOneof("value")
        if pair.key not in self._rules.structure and pair.key not in _ORIGIN:
            return False
        return kind in ("bool_value", "int_value", "double_value") or (
            kind == "string_value" and len(pair.value.string_value) <= _MAX_STRUCTURE
        )


def _set(value: Any, before: str, after: str) -> bool:
    if before == after:
        return False
    value.string_value = after
    return True


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- from the configuration ---------------------------------------------------------------------------------------


def make_redactor(settings: RedactionSettings, key_file: Path) -> Redactor | None:
    """None if nothing is to be replaced; `key_file` stands in where the settings name none.

    Raises `ConfigError` for a rules file that cannot be used, `StoreError` for a key or a detector.
    """
    rules = Ruleset(
        settings.groups,
        countries=settings.countries,
        deny=settings.deny,
        allow=settings.allow,
        own=settings.rules,
    )
    if rules.empty and not settings.detectors:
        return None
    detectors = {name: _detector(name) for name in settings.detectors}
    placeholder = typed if settings.mode is Mode.TYPE else keyed(load_key(settings, key_file))
    return Redactor(rules, placeholder, detectors, detector_seconds=settings.detector_seconds)


def _detector(name: str) -> Detector:
    points = {point.name: point for point in entry_points(group=DETECTORS)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none is installed"
        raise RedactionUnavailable(f"`collector.redaction.detectors`: no detector is called {name!r}; known: {known}")
    try:
        made: Detector = points[name].load()()
    except Exception as error:
        raise RedactionUnavailable(
            f"`collector.redaction.detectors`: {name} ({points[name].value}) cannot be used: {type(error).__name__}: {error}"
        ) from error
    return made
