"""The metrics of the server itself; those of its limiter are in `metrics.catalogue`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from crdtbucket.base.histogram import Histogram
from crdtbucket.http.server.calls import Calls
from crdtbucket.http.server.connections import Connections
from crdtbucket.http.server.descriptor_limits import DescriptorLimits
from crdtbucket.http.server.quota_server import QuotaServer
from crdtbucket.metrics.metric import MetricSpec, Read, Sample, Stats


def _times(stats: Stats) -> list[Sample]:
    return [((path,), (one.cumulative(), one.sum_ns / 1e9)) for path, one in stats["times"]]


def _rows(name: str) -> Read:
    return lambda stats: stats[name]


def _one(name: str) -> Read:
    return lambda stats: [((), stats[name])]


SERVER: tuple[MetricSpec, ...] = (
    MetricSpec(
        "http_requests_total",
        "Requests answered, by path and status; the path is empty where there is none.",
        _rows("requests"),
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
        "Connections and requests refused: full (no place was free), slow (past a deadline), "
        "malformed (no HTTP).",
        _rows("refused"),
        ("reason",),
    ),
    MetricSpec("http_connections", "Connections that are open.", _one("connections")),
    MetricSpec(
        "http_requests_open", "Requests that are not answered yet, this one too.", _one("open")
    ),
    MetricSpec("http_refundable_takes", "Takes that can be given back by their id.", _one("takes")),
    MetricSpec(
        "http_reservations",
        "Reservations known by their id, ended ones included.",
        _one("reservations"),
    ),
    MetricSpec(
        "envoy_descriptors_total",
        "Descriptors answered, by bucket and code: OK, OVER_LIMIT, or UNLIMITED for those that no "
        "rule is about, which have no bucket.",
        _rows("descriptors"),
        ("bucket", "code"),
    ),
    MetricSpec(
        "envoy_quota_requests_total",
        "Requests that Envoys report to have decided, by bucket and code: OK, or OVER_LIMIT. Those "
        "that no rule is about have no bucket.",
        _rows("quota_requests"),
        ("bucket", "code"),
    ),
    MetricSpec(
        "envoy_quota_buckets",
        "Bucket ids of Envoys that have assignments.",
        _one("quota_buckets"),
    ),
)
COUNTS = "/internal/counts"
"""Where the workers of one server read what each of them counts."""


class ServerMetrics:
    """The counters of a server."""

    def __init__(
        self,
        connections: Connections,
        calls: Calls,
        descriptors: DescriptorLimits,
        quotas: QuotaServer,
    ) -> None:
        self.open_requests = 0
        self.requests: Counter[tuple[str, str]] = Counter()
        self._times: defaultdict[str, Histogram] = defaultdict(Histogram)
        self._connections = connections
        self._calls = calls
        self._descriptors = descriptors
        self._quotas = quotas
        self._others: list[dict[str, Any]] = []

    def begun(self) -> None:
        """A request has come; `ended` follows in any case."""
        self.open_requests += 1

    def ended(self) -> None:
        """A request has got its answer, or gets none."""
        self.open_requests -= 1

    def answered(self, path: str, status: int, ns: int) -> None:
        """Counts an answer. `path` as the OpenAPI document has it, "" for others, so that there are
        few; `ns`: what it took."""
        self.requests[path, str(status)] += 1
        self._times[path].add(ns)

    def stats(self) -> dict[str, Any]:
        """What this process and the other workers count, as the metrics read it."""
        return _sum([self.counts(), *self._others])

    def add_up(self, others: list[dict[str, Any]]) -> None:
        """From now on `stats` adds these `counts` of other workers."""
        self._others = others

    def counts(self) -> dict[str, Any]:
        """What this process counts, as it goes to another worker."""
        rows: dict[str, Mapping[Any, int]] = {
            "requests": self.requests,
            "refused": {(reason,): count for reason, count in self._connections.refused.items()},
            "descriptors": self._descriptors.counts,
            "quota_requests": self._quotas.requests,
        }
        return {
            "rows": {
                name: [(*labels, count) for labels, count in list(one.items())]
                for name, one in rows.items()
            },
            "times": [(path, one.counts, one.sum_ns) for path, one in list(self._times.items())],
            "numbers": {
                "connections": len(self._connections.open),
                "open": self.open_requests,
                "takes": len(self._calls.takes),
                "reservations": len(self._calls.reservations),
                "quota_buckets": self._quotas.subscriptions,
            },
        }


def _sum(each: list[dict[str, Any]]) -> dict[str, Any]:
    rows: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    times: defaultdict[str, Histogram] = defaultdict(Histogram)
    numbers: Counter[str] = Counter()
    for one in each:
        for name, listed in one["rows"].items():
            rows[name].update({tuple(labels): count for *labels, count in listed})
        for path, counts, sum_ns in one["times"]:
            times[path].counts = [a + b for a, b in zip(times[path].counts, counts, strict=True)]
            times[path].sum_ns += sum_ns
        numbers.update(one["numbers"])
    return {
        "times": times.items(),
        **{name: counter.items() for name, counter in rows.items()},
        **numbers,
    }
