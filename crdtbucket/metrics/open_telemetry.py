"""A limiter's numbers for OpenTelemetry, and an event in the span of a request that is denied.

The instruments are those of the catalogue, under the same names as in Prometheus. They are observed
when the application's exporter collects: a decision costs nothing more. Needs
`opentelemetry-api` (`pip install 'crdtbucket[otel]'`); without an SDK all of it does nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.extras import extra
from crdtbucket.base.forks import ForkLock
from crdtbucket.metrics.catalogue import METRICS, PREFIX
from crdtbucket.metrics.collector import surveyed
from crdtbucket.metrics.metric import MetricSpec, Stats

with extra("otel"):
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

if TYPE_CHECKING:
    from crdtbucket.http.answers import Verdict
    from crdtbucket.http.request import Request
    from crdtbucket.limiter.facade import Limiter

SCOPE = "crdtbucket"
EVENT = "crdtbucket.denied"
ONE_COLLECTION_NS = NS_PER_SECOND // 2
"""Instruments are asked one after the other: within this time all of them read the same stats."""


def instrument(limiter: Limiter, meter: Meter | None = None) -> None:
    """Observes a limiter through `meter`, by default that of the global provider.

    Call it once for each limiter, after the provider was set. A limiter that is gone is observed no
    more. Goes over all keys at a collection, in the exporter's thread: some 4 ms for a million.
    """
    meter = metrics.get_meter(SCOPE) if meter is None else meter
    stats = SharedStats(limiter)
    for metric in METRICS:
        for name, kind, read in instruments_of(metric):
            made = (
                meter.create_observable_counter
                if kind == "counter"
                else meter.create_observable_gauge
            )
            made(name, callbacks=[_observing(stats, metric.labels, read)], description=metric.help)


def span_event(decision: Decision) -> None:
    """Notes a denial in the span that is current, if one is being recorded: the bucket, the mode
    and the numbers of the decision. Never the key."""
    span = trace.get_current_span()
    if decision.allowed or not span.is_recording():
        return
    span.add_event(
        EVENT,
        {
            "crdtbucket.bucket": decision.bucket.spec.name,
            "crdtbucket.mode": decision.mode.value,
            "crdtbucket.cost": decision.cost,
            "crdtbucket.limit": decision.limit,
            "crdtbucket.remaining": decision.remaining,
            "crdtbucket.retry_after": decision.retry_after,
        },
    )


def note_denial(_: Request, verdict: Verdict) -> None:
    """`span_event` for all decisions of a request: for the `on_denied` of `Limits`, whose usual
    answer stays."""
    for decision in verdict.decisions:
        span_event(decision)


class SharedStats:
    """Reads the stats of a limiter once for each collection."""

    def __init__(self, limiter: Limiter, now: Callable[[], int] = now_ns) -> None:
        self._limiter = weakref.ref(limiter)
        self._now = now
        self._lock = ForkLock()  # several readers may collect at once
        self._read_at: int | None = None
        self._stats: dict[str, Any] | None = None

    def read(self) -> Stats | None:
        """The stats of the limiter, None once it is gone."""
        with self._lock:
            limiter, now = self._limiter(), self._now()
            if limiter is None:
                self._stats = None
            elif self._read_at is None or now - self._read_at >= ONE_COLLECTION_NS:
                self._stats, self._read_at = surveyed(limiter), now
            return self._stats


Numbers = Callable[[Stats], Iterable[tuple[tuple[str, ...], float]]]


def instruments_of(metric: MetricSpec) -> Iterator[tuple[str, str, Numbers]]:
    """Name, kind and reading of each instrument. OpenTelemetry has no observed histogram, so a
    histogram becomes two instruments: its count and its sum."""
    name = PREFIX + metric.name
    if not metric.histogram:
        yield name, metric.kind, metric.read
        return
    read = metric.read
    yield name + "_count", "counter", lambda stats: [(at, one[0][-1][1]) for at, one in read(stats)]
    yield name + "_sum", "counter", lambda stats: [(at, one[1]) for at, one in read(stats)]


def _observing(
    stats: SharedStats, labels: tuple[str, ...], read: Numbers
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        found = stats.read()
        for values, number in () if found is None else read(found):
            yield Observation(number, dict(zip(labels, values, strict=True)))

    return observe
