"""What members of a cluster count, in Prometheus' words, rendered when it is scraped."""

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamrnn.cluster.tally import GatewayTally, ShardTally, WorkerTally
from streamrnn.stats import REASONS
from streamrnn.web.metrics import METRICS

# name -> (type, help); a worker has those of a daemon beside them
WORKER_METRICS = {
    "streamrnn_worker_shards": ("gauge", "Shards that it has."),
    "streamrnn_worker_rows_total": ("counter", "Rows of its shards that it stepped."),
    "streamrnn_worker_commits_total": ("counter", "Commits of predictions and position that the log took."),
    "streamrnn_worker_commits_refused_total": (
        "counter",
        "Commits that the log refused, as another worker had the shard meanwhile.",
    ),
    "streamrnn_worker_takeovers_total": ("counter", "Times that it found a shard again and went on with it."),
    "streamrnn_worker_failures_total": ("counter", "Times that it could not take a shard up, and left it."),
    "streamrnn_worker_blocks_dropped_total": (
        "counter",
        "Blocks of the input, by reason: repeated (there twice, stepped once), missing (numbered, and not "
        "there), unreadable (no block).",
    ),
    "streamrnn_worker_checkpoint_failures_total": ("counter", "Checkpoints that could not be written."),
    "streamrnn_worker_lag_blocks": ("gauge", "Blocks that wait, by shard."),
    "streamrnn_worker_lag_seconds": (
        "gauge",
        "Age of the last row done while blocks wait, by shard; else 0.",
    ),
    "streamrnn_worker_checkpoint_rows": (
        "gauge",
        "Rows since the last checkpoint, by shard: what a takeover steps again.",
    ),
    "streamrnn_worker_checkpoint_age_seconds": (
        "gauge",
        "Age of the last checkpoint, by shard; NaN for none.",
    ),
    "streamrnn_worker_held": ("gauge", "1 while the log has no room for predictions, by shard."),
}
GATEWAY_METRICS = {
    "streamrnn_gateway_messages_total": ("counter", "Messages that it took."),
    "streamrnn_gateway_rows_total": ("counter", "Rows that the log has acknowledged."),
    "streamrnn_gateway_blocks_total": ("counter", "Blocks that the log has acknowledged."),
    "streamrnn_gateway_blocks_waiting": ("gauge", "Blocks that were sent and are not acknowledged."),
    "streamrnn_gateway_retries_total": ("counter", "Times that a block was not acknowledged and sent again."),
    "streamrnn_gateway_held": ("gauge", "1 while the log takes nothing, so that publishers are held back."),
    "streamrnn_gateway_held_seconds_total": ("counter", "How long it took nothing, as blocks were full."),
    "streamrnn_gateway_predictions_total": ("counter", "Predictions and events that it published."),
}
REJECTED = "streamrnn_frames_rejected_total"  # which a gateway has, too
_TABLE = METRICS | WORKER_METRICS | GATEWAY_METRICS


def _metric(name: str, value: float) -> Metric:
    kind, text = _TABLE[name]
    family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    return family(name, text, value=value)


def _by(label: str, name: str, values: Mapping[str, float]) -> Metric:
    kind, text = _TABLE[name]
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _age_s(since_ns: int) -> float:
    return max(time.time_ns() - since_ns, 0) / 1e9 if since_ns else float("nan")


class WorkerCollector(Collector):
    """Of a worker."""

    def __init__(self, tally: WorkerTally):
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        tally = self._tally
        yield _metric("streamrnn_worker_shards", len(tally.shards))
        yield _metric("streamrnn_worker_rows_total", tally.rows)
        yield _metric("streamrnn_worker_commits_total", tally.commits)
        yield _metric("streamrnn_worker_commits_refused_total", tally.refused)
        yield _metric("streamrnn_worker_takeovers_total", tally.takeovers)
        yield _metric("streamrnn_worker_failures_total", tally.failures)
        dropped = {"repeated": tally.repeated, "missing": tally.missed, "unreadable": tally.no_blocks}
        yield _by("reason", "streamrnn_worker_blocks_dropped_total", dropped)
        yield _metric("streamrnn_worker_checkpoint_failures_total", tally.checkpoint_failures)
        shards = dict(tally.shards)  # which may change meanwhile

        def of_each(value: Callable[[ShardTally], float]) -> dict[str, float]:
            return {str(shard): value(each) for shard, each in sorted(shards.items())}

        yield _by("shard", "streamrnn_worker_lag_blocks", of_each(lambda each: each.pending))
        yield _by("shard", "streamrnn_worker_lag_seconds", of_each(lag_s))
        since = of_each(lambda each: each.all_rows - each.checkpoint_rows)
        yield _by("shard", "streamrnn_worker_checkpoint_rows", since)
        age = of_each(lambda each: _age_s(each.checkpoint_ns))
        yield _by("shard", "streamrnn_worker_checkpoint_age_seconds", age)
        yield _by("shard", "streamrnn_worker_held", of_each(lambda each: float(each.held)))


def lag_s(shard: ShardTally) -> float:
    """Age of the last row done, while others wait."""
    return _age_s(shard.time_ns) if shard.pending and shard.time_ns else 0.0


class GatewayCollector(Collector):
    """Of a gateway; ``rejected`` says how many messages were turned away, by reason."""

    def __init__(self, tally: GatewayTally, rejected: Callable[[], Mapping[str, float]]):
        self._tally, self._rejected = tally, rejected

    def collect(self) -> Iterator[Metric]:
        tally = self._tally
        yield _metric("streamrnn_gateway_messages_total", tally.received)
        yield _metric("streamrnn_gateway_rows_total", tally.rows)
        yield _metric("streamrnn_gateway_blocks_total", tally.blocks)
        yield _metric("streamrnn_gateway_blocks_waiting", tally.waiting)
        yield _metric("streamrnn_gateway_retries_total", tally.retries)
        yield _metric("streamrnn_gateway_held", float(tally.held))
        yield _metric("streamrnn_gateway_held_seconds_total", tally.held_ns / 1e9)
        yield _metric("streamrnn_gateway_predictions_total", tally.published)
        yield _by("reason", REJECTED, dict.fromkeys(REASONS, 0.0) | dict(self._rejected()))


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """A registry of these, and of the process."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    return registry
