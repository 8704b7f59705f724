"""The metrics of the server itself; those of its limiter are in `metrics.catalogue`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from crdtbucket.base.histogram import Histogram
from crdtbucket.http.server.calls import Calls
from crdtbucket.http.server.connections import Doors
from crdtbucket.metrics.collector import family
from crdtbucket.metrics.metric import MetricSpec, Sample, Stats


def _times(stats: Stats) -> list[Sample]:
    return [((path,), (one.cumulative(), one.sum_ns / 1e9)) for path, one in stats["times"]]


SERVER: tuple[MetricSpec, ...] = (
    MetricSpec(
        "http_requests_total",
        "Requests answered, by path and status; the path is empty where there is none.",
        lambda stats: stats["requests"],
        ("path", "status"),
    ),
    MetricSpec(
        "http_request_seconds",
        "Time from the head of a request to its answer, by path.",
        _times,
        ("path",),
        histogram=True,
    ),
    MetricSpec(
        "http_refused_total",
        "Connections refused: full (too many), slow (past a deadline), malformed (no HTTP).",
        lambda stats: [((reason,), count) for reason, count in stats["refused"].items()],
        ("reason",),
    ),
    MetricSpec(
        "http_connections",
        "Connections that are open.",
        lambda stats: [((), stats["connections"])],
    ),
    MetricSpec(
        "http_requests_open",
        "Requests that are not answered yet, this one too.",
        lambda stats: [((), stats["open"])],
    ),
    MetricSpec(
        "http_refundable_takes",
        "Takes that can be given back by their id.",
        lambda stats: [((), stats["tickets"])],
    ),
    MetricSpec(
        "http_reservations",
        "Reservations known by their id, ended ones included.",
        lambda stats: [((), stats["reservations"])],
    ),
)
"""All of them; every name gets `crdtbucket.metrics.catalogue.PREFIX`."""


class Numbers(Collector):
    """What a server counts."""

    def __init__(self, doors: Doors, calls: Calls) -> None:
        self.open_requests = 0
        self.requests: Counter[tuple[str, str]] = Counter()
        self._times: defaultdict[str, Histogram] = defaultdict(Histogram)
        self._doors = doors
        self._calls = calls

    def answered(self, path: str, status: int, ns: int) -> None:
        """Counts an answer. `path` as the OpenAPI document has it, "" for others, so that there are
        few; `ns`: what it took."""
        self.requests[path, str(status)] += 1
        self._times[path].add(ns)

    def describe(self) -> Iterator[Metric]:
        """Every metric's name and help, without numbers."""
        return (family(metric, None) for metric in SERVER)

    def collect(self) -> Iterator[Metric]:
        """Every metric as it stands at this moment; any thread may ask."""
        stats: dict[str, Any] = {
            "requests": list(self.requests.items()),
            "times": list(self._times.items()),
            "refused": self._doors.refused,
            "connections": len(self._doors.open),
            "open": self.open_requests,
            "tickets": len(self._calls.tickets),
            "reservations": len(self._calls.reservations),
        }
        return (family(metric, stats) for metric in SERVER)


__all__ = ["SERVER", "Numbers"]
