"""The program's own metrics, for Prometheus.

Read from the books of each part at the moment they are asked for, so that they agree with each other; for each signal

    received + recovered = stored + rejected + buffered + quarantined

can be checked on any one answer. Labels have few values, all known in advance: transports, signals, outcomes, verdicts, rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import chain

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector as Source

from collector.ledger import Durations
from collector.service import Collector
from gate.service import GateService
from graders.outward import Emitter
from graders.worker import Worker

_ITEMS = {
    "received": "Spans or log records that arrived in a readable request.",
    "recovered": "Spans or log records found on disk at start, or driven again out of quarantine.",
    "stored": "Spans or log records brought into the store.",
    "rejected": "Spans or log records refused after being read.",
    "quarantined": "Spans or log records set aside.",
}
_VERDICTS = ("promote", "hold", "rollback")


class OwnMetrics(Source):
    """Whatever of the program runs; parts that come up later are set when they do."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.worker: Worker | None = None
        self.gate: GateService | None = None
        self.emitter: Emitter | None = None

    def collect(self) -> Iterator[Metric]:
        yield _gauge("tracegrade_build_info", "Always 1.", [({"version": version("tracegrade")}, 1)])
        yield from _collector(self._collector)
        if self.worker is not None:
            yield from _worker(self.worker)
        if self.emitter is not None:
            yield from _emitter(self.emitter)
        if self.gate is not None:
            decided = self.gate.decided
            yield _counter(
                "tracegrade_gate_decisions",
                "Decisions stored.",
                [({"decision": verdict}, decided[verdict]) for verdict in _VERDICTS],
            )


def registry(own: OwnMetrics) -> CollectorRegistry:
    """The program's metrics and those of its process."""
    made = CollectorRegistry()
    made.register(own)
    ProcessCollector(registry=made)
    return made


Samples = Iterable[tuple[dict[str, str], float]]


def _collector(collector: Collector) -> Iterator[Metric]:
    stats = collector.stats()
    prefix = "tracegrade_collector"
    for name, text in _ITEMS.items():
        samples: list[tuple[dict[str, str], float]] = [
            ({"signal": signal}, getattr(counts, name)) for signal, counts in stats.signals.items()
        ]
        yield _counter(f"{prefix}_{name}_items", text, samples)
    buffered: Samples = [({"signal": signal}, counts.buffered) for signal, counts in stats.signals.items()]
    yield _gauge(f"{prefix}_buffered_items", "Spans or log records on disk, or on the way there.", buffered)
    answers = [
        ({"transport": transport, "signal": signal, "outcome": outcome}, float(count))
        for (transport, signal, outcome), count in sorted(stats.answers.items())
    ]
    yield _counter(f"{prefix}_requests", "Requests answered.", answers)
    waiting, oldest = collector.waiting
    for gauge, text, value in (
        ("buffer_bytes", "Disk used by segments and quarantine.", stats.buffer_bytes),
        ("buffer_budget_bytes", "Disk the buffer may use.", collector.settings.disk_budget_bytes),
        ("request_memory_bytes", "Memory held by the bodies of requests being handled.", collector.memory.held),
        ("waiting_segments", "Sealed segments that wait for the store.", waiting),
        ("oldest_segment_age_seconds", "How long the oldest of them has waited.", oldest),
    ):
        yield _gauge(f"{prefix}_{gauge}", text, [({}, value)])
    for counter, text, value in (
        ("torn_bytes", "Unacknowledged remains of a crash, cut at start.", stats.torn_bytes),
        ("damaged_records", "Pieces of segments found corrupt at start and quarantined.", stats.damaged_records),
        ("load_retries", "Loads the store failed that are tried again.", stats.load_retries),
    ):
        yield _counter(f"{prefix}_{counter}", text, [({}, value)])
    yield _histogram(f"{prefix}_commit_duration_seconds", "Writing and fsyncing a group of requests.", stats.commits)
    yield _histogram(f"{prefix}_load_duration_seconds", "Bringing a segment into the store.", stats.loads)
    redaction = collector.redaction()
    if redaction is not None:
        counts = redaction[1]
        replaced = [({"rule": rule}, float(count)) for rule, count in sorted(counts.replaced.items())]
        yield _counter(f"{prefix}_redacted_values", "Values replaced.", replaced)
        yield _counter(
            f"{prefix}_redaction_dropped_requests",
            "Requests whose content was dropped because redaction failed.",
            [({}, counts.dropped)],
        )


def _worker(worker: Worker) -> Iterator[Metric]:
    progress = worker.progress
    for name, text, value in (
        ("graded_traces", "Traces graded, each time they were.", progress.graded),
        ("failed_traces", "Traces that could not be graded; each has an error grade.", progress.failed),
        ("paused_batches", "Batches given up because the store failed; they are tried again.", progress.paused),
        ("replaced_processes", "Grading processes that died, or that a grader had made unusable.", worker.replaced),
    ):
        yield _counter(f"tracegrade_grader_{name}", text, [({}, value)])
    yield _gauge(
        "tracegrade_grader_lag_seconds",
        "Since the last span of the oldest trace of the latest batch arrived, the wait for its close included.",
        [({}, progress.lag_seconds)],
    )


def _emitter(emitter: Emitter) -> Iterator[Metric]:
    results = (("emitted", emitter.emitted), ("failed", emitter.failed), ("dropped", emitter.dropped))
    yield _counter(
        "tracegrade_grader_events",
        "Grades told to another collector, refused by it, and left out for want of room.",
        [({"result": result}, count) for result, count in results],
    )
    yield _gauge("tracegrade_grader_waiting_events", "Grades that wait to be told.", [({}, emitter.waiting)])


def _counter(name: str, text: str, samples: Samples) -> Metric:
    return _filled(CounterMetricFamily, name, text, samples)


def _gauge(name: str, text: str, samples: Samples) -> Metric:
    return _filled(GaugeMetricFamily, name, text, samples)


def _filled(
    family: Callable[..., CounterMetricFamily | GaugeMetricFamily], name: str, text: str, samples: Samples
) -> Metric:
    listed = list(samples)
    labels = list(dict.fromkeys(chain.from_iterable(labels for labels, _ in listed)))
    metric = family(name, text, labels=labels)
    for values, value in listed:
        metric.add_metric([values[label] for label in labels], value)
    return metric


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    metric = HistogramMetricFamily(name, text)
    buckets = [("+Inf" if length == float("inf") else repr(length), count) for length, count in durations.within]
    metric.add_metric([], buckets, durations.seconds)
    return metric
