"""The server's own numbers for Prometheus; those of its limiter stand in `crdtbucket.figures`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crdtbucket.figures import PREFIX
from crdtbucket.http.calls import Calls
from crdtbucket.http.doors import Doors


class Numbers(Collector):
    """What a server counts."""

    def __init__(self, doors: Doors, calls: Calls) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        """By path as the OpenAPI document has it, "" for others, and status."""
        self.open_requests = 0
        self._doors = doors
        self._calls = calls

    def collect(self) -> Iterator[Metric]:
        """Every metric as it stands at this moment."""
        requests = CounterMetricFamily(
            f"{PREFIX}http_requests_total",
            "Requests answered, by path and status; the path is empty where there is none.",
            labels=("path", "status"),
        )
        for labels, count in list(self.requests.items()):
            requests.add_metric(labels, count)
        yield requests
        refused = CounterMetricFamily(
            f"{PREFIX}http_refused_total",
            "Connections refused: full (too many), slow (past a deadline), malformed (no HTTP).",
            labels=("reason",),
        )
        for reason, count in self._doors.refused.items():
            refused.add_metric((reason,), count)
        yield refused
        yield GaugeMetricFamily(
            f"{PREFIX}http_connections", "Connections that are open.", len(self._doors.open)
        )
        yield GaugeMetricFamily(
            f"{PREFIX}http_requests_open",
            "Requests that are not answered yet, this one too.",
            self.open_requests,
        )
        yield GaugeMetricFamily(
            f"{PREFIX}http_refundable_takes",
            "Takes that can be given back by their id.",
            len(self._calls.tickets),
        )
        yield GaugeMetricFamily(
            f"{PREFIX}http_reservations",
            "Reservations known by their id, ended ones included.",
            len(self._calls.reservations),
        )


__all__ = ["Numbers"]
