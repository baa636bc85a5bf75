"""The counts of the pump, in Prometheus' words, rendered when they are scraped."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numba
import numpy as np
import zmq
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamrnn import __version__
from streamrnn import stats as of
from streamrnn.stats import Stats

# name -> (type, help); beside these a scrape holds only process_* of the process itself
METRICS = {
    "streamrnn_frames_received_total": (
        "counter",
        "Messages that the pump took from the input sockets, or from an adapter.",
    ),
    "streamrnn_adapter_messages_total": (
        "counter",
        "Messages of another format that were read, by adapter; none where frames come.",
    ),
    "streamrnn_frames_rejected_total": (
        "counter",
        "Frames, or single rows of them, and messages of other formats that were not answered, by reason.",
    ),
    "streamrnn_frames_late_total": (
        "counter",
        "Rows dropped because their seq was not above the last one of their stream: late or duplicate.",
    ),
    "streamrnn_rows_missing_total": (
        "counter",
        "Rows that never came, or were rejected: the gaps in seq, summed.",
    ),
    "streamrnn_rows_assembled_total": ("counter", "Rows made of single values."),
    "streamrnn_values_held_total": (
        "counter",
        "Values of assembled rows that stood in for a channel that had said nothing since the row before.",
    ),
    "streamrnn_values_missing_total": (
        "counter",
        "Values that assembled rows had not: of channels silent for longer than a value is held.",
    ),
    "streamrnn_values_late_total": ("counter", "Single values dropped because their row had left."),
    "streamrnn_values_dropped_total": (
        "counter",
        "Single values that no row could be made of, by reason: wild (a time far off those around it), time "
        "(before 1970 or after 2116), nan.",
    ),
    "streamrnn_streams_incomplete": (
        "gauge",
        "Streams that go on, but for channels that had no value in the last assembled row.",
    ),
    "streamrnn_predictions_total": ("counter", "Predictions handed to the output sockets."),
    "streamrnn_anomalies_total": (
        "counter",
        "Events published: times that the score of a stream reached the threshold.",
    ),
    "streamrnn_stage_latency_seconds": (
        "histogram",
        "Time of a row by stage: queue (received to stepped), step, total (received to published).",
    ),
    "streamrnn_frame_age_seconds": (
        "histogram",
        "Age of a row when its prediction was published: now minus its source time.",
    ),
    "streamrnn_batch_size": ("histogram", "Rows taken through one turn of the pump."),
    "streamrnn_streams": ("gauge", "Streams that hold a slot now."),
    "streamrnn_stream_capacity": ("gauge", "Slots: the most streams that can be held at once."),
    "streamrnn_state_resets_total": ("counter", "Times that a stream's state went back to zero, by reason."),
    "streamrnn_snapshot_age_seconds": (
        "gauge",
        "Age of the state on disk, which is what a power loss would cost; NaN without snapshots.",
    ),
    "streamrnn_snapshot_failures_total": ("counter", "Snapshots that could not be written."),
    "streamrnn_events_total": (
        "counter",
        "New entries of the journal by kind: event, reset, gap, silence; none without a journal.",
    ),
    "streamrnn_journal_waiting": ("gauge", "Entries that the journal does not have yet."),
    "streamrnn_journal_lost_total": (
        "counter",
        "Entries that found no room while the journal could not be written, or not fast enough.",
    ),
    "streamrnn_journal_failures_total": ("counter", "Times that the journal could not be written."),
    "streamrnn_journal_bytes": ("gauge", "Size of the journal's file."),
    "streamrnn_webhook_told_total": ("counter", "Begins and ends of events that the webhook took."),
    "streamrnn_webhook_failures_total": ("counter", "Tries that the webhook did not answer with 2xx."),
    "streamrnn_shadow_rows_total": ("counter", "Rows that the model and its shadow both answered."),
    "streamrnn_shadow_rows_compared_total": (
        "counter",
        "Rows of these that both had forecast, with no row missing before them.",
    ),
    "streamrnn_shadow_values_compared_total": ("counter", "Values of these rows that had come."),
    "streamrnn_shadow_squared_error_total": (
        "counter",
        "Squared errors of the forecasts of these values, in standard deviations of the model, by whose they "
        "are: model, shadow or persistence.",
    ),
    "streamrnn_shadow_anomalies_total": (
        "counter",
        "Events that began in these streams, by whose they are: model or shadow.",
    ),
    "streamrnn_shadow_anomalies_met_total": (
        "counter",
        "Of these events those during which the other one had an event, too.",
    ),
    "streamrnn_shadow_seconds_total": ("counter", "Time of the pump's thread that the shadow took."),
    "streamrnn_shadow_info": ("gauge", "1 while there is a shadow; its labels are its model."),
    "streamrnn_build_info": ("gauge", "Always 1; its labels are the versions that run."),
    "streamrnn_model_info": ("gauge", "Always 1; its labels are the model that runs."),
}


class Snapshots(Protocol):
    """What a scrape asks of the snapshots."""

    failures: int

    def age_s(self) -> float: ...


class JournalCounts(Protocol):
    """What a scrape asks of the journal of events."""

    failures: int

    @property
    def counts(self) -> Mapping[str, int]:
        """New entries by kind."""

    def waiting(self) -> int: ...

    def lost(self) -> int: ...

    def file_bytes(self) -> int: ...

    def told(self) -> tuple[int, int]:
        """What the webhook took, and tries that it did not."""


class IntakeCounts(Protocol):
    """What a scrape asks of those who read other formats and make rows of them."""

    adapter: str  # "" = frames come
    messages: int

    def joined(self, others: Mapping[str, int]) -> Mapping[str, int]:
        """How many messages were refused by reason, with those that ``others`` count."""

    def values(self) -> Mapping[str, int]:
        """The assembler's counts by name."""

    def dropped(self) -> Mapping[str, int]:
        """Single values that no row could be made of, by reason."""

    def incomplete(self) -> Sequence[str]:
        """The streams that lack a channel."""


# How a model and its shadow compare, see ``side_by_side``; None where there is no shadow.
Beside = Callable[[], Mapping[str, Any] | None]


def make_registry(
    stats: Stats,
    capacity: int,
    model_info: Mapping[str, str],
    snapshots: Snapshots,
    intake: IntakeCounts,
    journal: JournalCounts | None = None,
    beside: Beside = lambda: None,
) -> CollectorRegistry:
    """A registry of its own with every metric of ``METRICS`` and those of this process.

    ``stats`` stays the pump's: each scrape reads it, nothing here writes. ``model_info``, as it is at a
    scrape, becomes the labels of streamrnn_model_info (fingerprint, cell, hidden, layers, channels, outputs).
    """
    registry = CollectorRegistry()
    registry.register(StatsCollector(stats, capacity, model_info, snapshots, intake, journal))
    registry.register(ShadowCollector(beside))
    ProcessCollector(registry=registry)
    return registry


class StatsCollector(Collector):
    """Turns the arrays of a ``Stats`` into metrics, once per scrape."""

    def __init__(
        self,
        stats: Stats,
        capacity: int,
        model_info: Mapping[str, str],
        snapshots: Snapshots,
        intake: IntakeCounts,
        journal: JournalCounts | None = None,
    ) -> None:
        self._stats, self._capacity, self._model_info = stats, capacity, model_info
        self._snapshots, self._intake, self._journal = snapshots, intake, journal
        self._build_info = {
            "version": __version__,
            "python": platform.python_version(),
            "numba": numba.__version__,
            "libzmq": zmq.zmq_version(),
        }

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        yield _counter("streamrnn_frames_received_total", stats.counters[of.RECEIVED])
        yield from self._intake_metrics()
        yield _counter("streamrnn_frames_late_total", stats.counters[of.LATE])
        yield _counter("streamrnn_rows_missing_total", stats.counters[of.MISSING_ROWS])
        yield _counter("streamrnn_predictions_total", stats.counters[of.PREDICTIONS])
        yield _counter("streamrnn_anomalies_total", stats.counters[of.ANOMALIES])
        latency = HistogramMetricFamily(*_described("streamrnn_stage_latency_seconds"), labels=["stage"])
        for stage, plain, sum_ns in zip(of.STAGES, stats.latency, stats.latency_ns, strict=True):
            latency.add_metric([stage], _cumulative(of.LATENCY_BOUNDS_NS / 1e9, plain), sum_ns / 1e9)
        yield latency
        age = HistogramMetricFamily(*_described("streamrnn_frame_age_seconds"))
        age.add_metric([], _cumulative(of.AGE_BOUNDS_NS / 1e9, stats.age), stats.age_ns[0] / 1e9)
        yield age
        batch = HistogramMetricFamily(*_described("streamrnn_batch_size"))
        batch.add_metric([], _cumulative(of.BATCH_BOUNDS, stats.batch), stats.batch_rows[0])
        yield batch
        yield _gauge("streamrnn_streams", stats.counters[of.STREAMS])
        yield _gauge("streamrnn_stream_capacity", self._capacity)
        yield _by_reason("streamrnn_state_resets_total", _counts(of.RESETS, stats.resets))
        yield _gauge("streamrnn_snapshot_age_seconds", self._snapshots.age_s())
        yield _counter("streamrnn_snapshot_failures_total", self._snapshots.failures)
        yield from self._journal_metrics()
        yield _info("streamrnn_build_info", self._build_info)
        yield _info("streamrnn_model_info", self._model_info)

    def _intake_metrics(self) -> Iterator[Metric]:
        """What came of messages of other formats, and what was refused by whomever."""
        intake = self._intake
        messages = CounterMetricFamily(*_described("streamrnn_adapter_messages_total"), labels=["adapter"])
        if intake.adapter:
            messages.add_metric([intake.adapter], intake.messages)
        yield messages
        refused = intake.joined(_counts(of.REASONS, self._stats.rejected))
        yield _by_reason("streamrnn_frames_rejected_total", refused)
        values = intake.values()
        yield _counter("streamrnn_rows_assembled_total", values["rows"])
        yield _counter("streamrnn_values_held_total", values["held"])
        yield _counter("streamrnn_values_missing_total", values["missing"])
        yield _counter("streamrnn_values_late_total", values["late"])
        yield _by_reason("streamrnn_values_dropped_total", intake.dropped())
        yield _gauge("streamrnn_streams_incomplete", len(intake.incomplete()))

    def _journal_metrics(self) -> Iterator[Metric]:
        """What the journal of events has and lacks; zeros without one."""
        journal = self._journal
        events = CounterMetricFamily(*_described("streamrnn_events_total"), labels=["kind"])
        for kind, count in (journal.counts if journal else {}).items():
            events.add_metric([kind], count)
        yield events
        yield _gauge("streamrnn_journal_waiting", journal.waiting() if journal else 0)
        yield _counter("streamrnn_journal_lost_total", journal.lost() if journal else 0)
        yield _counter("streamrnn_journal_failures_total", journal.failures if journal else 0)
        yield _gauge("streamrnn_journal_bytes", journal.file_bytes() if journal else 0)
        told, failures = journal.told() if journal else (0, 0)
        yield _counter("streamrnn_webhook_told_total", told)
        yield _counter("streamrnn_webhook_failures_total", failures)


class ShadowCollector(Collector):
    """The figures of a shadow, or none; counts begin anew with another shadow, and where the two swap."""

    def __init__(self, beside: Beside) -> None:
        self._beside = beside

    def collect(self) -> Iterator[Metric]:
        found = self._beside()
        models = found["models"] if found else {}
        for name, key in (
            ("rows", "rows"),
            ("rows_compared", "compared"),
            ("values_compared", "values"),
            ("seconds", "seconds"),
        ):
            yield _counter(f"streamrnn_shadow_{name}_total", found[key] if found else None)
        errors = found["squared_error"] if found else {}
        yield _by("of", "streamrnn_shadow_squared_error_total", errors)
        for name, key in (("anomalies", "events"), ("anomalies_met", "met")):
            yield _by("of", f"streamrnn_shadow_{name}_total", {of: models[of][key] for of in models})
        labels = ("fingerprint", "cell", "hidden", "layers")
        info = GaugeMetricFamily(*_described("streamrnn_shadow_info"), labels=labels)
        if found:
            info.add_metric([str(models["shadow"][label]) for label in labels], 1)
        yield info


def _described(name: str) -> tuple[str, str]:
    return name, METRICS[name][1]


def _counter(name: str, value: float | None) -> Metric:
    return CounterMetricFamily(*_described(name), value=value)


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(*_described(name), value=value)


def _counts(reasons: Sequence[str], counts: np.ndarray) -> dict[str, int]:
    return dict(zip(reasons, counts.tolist(), strict=True))


def _by_reason(name: str, counts: Mapping[str, int]) -> Metric:
    return _by("reason", name, counts)


def _by(label: str, name: str, counts: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(*_described(name), labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _info(name: str, labels: Mapping[str, str]) -> Metric:
    family = GaugeMetricFamily(*_described(name), labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family


def _cumulative(bounds: np.ndarray, plain: np.ndarray) -> list[tuple[str, float]]:
    """Prometheus' buckets, (le, count of all values up to it), from one reading of the plain ones."""
    upper = [*map(str, bounds.astype(float).tolist()), "+Inf"]
    return list(zip(upper, np.cumsum(plain).tolist(), strict=True))
