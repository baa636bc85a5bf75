"""/metrics/events: the streams that have an event now, for whoever wants to be told of them one by one.

By themselves, as a stream is a label here: a series for each that ever had an event. Nobody scrapes them who
does not ask for them.
"""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MOST = 100  # streams that are named
# how many streams have an event, and the names and scores of those with the highest, MOST of them
OpenEvents = Callable[[int], tuple[int, Sequence[tuple[str, float]]]]


def make_events_registry(open_events: OpenEvents) -> CollectorRegistry:
    """A registry of these alone."""
    registry = CollectorRegistry()
    registry.register(EventsCollector(open_events))
    return registry


class EventsCollector(Collector):
    """Looks at the streams once per scrape."""

    def __init__(self, open_events: OpenEvents) -> None:
        self._open_events = open_events

    def collect(self) -> Iterator[Metric]:
        count, scores = self._open_events(MOST)
        yield GaugeMetricFamily(
            "streamrnn_events_open", "Streams that have an event now, named here or not.", value=count
        )
        family = GaugeMetricFamily(
            "streamrnn_event_score",
            f"Score of a stream that has an event now; of the {MOST} with the highest.",
            labels=["stream"],
        )
        for stream, score in scores:
            family.add_metric([stream], score)
        yield family
