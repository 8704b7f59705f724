"""Settings: when an endpoint counts as slow or unreachable, and what it must show before it is used
again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NoReturn

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.setting_checks import NumberRange, SecondsRange, WholeRange, ranges_of
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.field_checks import check_fields


@dataclass(frozen=True)
class ControllerSettings:
    """The settings of a mode controller; spans in seconds.

    Raises `InvalidSpec`, naming the field and the range, for a value that cannot be used.
    """

    latency_limit: Annotated[float, SecondsRange(0.0001, 60.0)] = 0.020
    """Answers of Redis that take longer are slow, 0.0001 to 60 seconds."""
    latency_quantile: Annotated[float, NumberRange(0.5, 0.9999)] = 0.99
    """The quantile of the answers that must be within the limit, 0.5 to 0.9999."""
    latency_window: Annotated[float, SecondsRange(0.1, 60.0)] = 1.0
    """The time over which the quantile is taken, and for which it must be above the limit before
    the mode changes, 0.1 to 60 seconds."""
    least_samples: Annotated[int, WholeRange(1, 1_000_000)] = 10
    """Fewer answers than this in a window say nothing about latency, 1 to 1,000,000."""
    outage_after: Annotated[float, SecondsRange(0.05, 60.0)] = 0.5
    """No answer at all, or only failures, for this long count as an outage, 0.05 to 60 seconds;
    above `latency_limit`."""
    stable_after: Annotated[float, SecondsRange(0.0, 3_600.0)] = 5.0
    """Answers must be good for this long before Redis decides again, up to an hour."""
    stable_after_failover: Annotated[float, SecondsRange(0.0, 3_600.0)] = 1.0
    """The same when Redis has a new primary; at most `stable_after`."""
    least_return_gap: Annotated[float, SecondsRange(0.0, 86_400.0)] = 60.0
    """There are at most two switches in this time in the long run, up to a day; 0: no bound."""
    probe_interval: Annotated[float, SecondsRange(0.001, 60.0)] = 0.1
    """Time between two probes of a Redis that was left, 0.001 to 60 seconds."""
    longest_probe_interval: Annotated[float, SecondsRange(0.001, 600.0)] = 1.0
    """How far `probe_interval` grows while probes fail, up to 600 seconds; at least
    `probe_interval`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.outage_after <= self.latency_limit:
            self._refuse("latency_limit", "shorter than", "outage_after", "longer than")
        if self.stable_after_failover > self.stable_after:
            self._refuse("stable_after_failover", "at most", "stable_after", "at least")
        if self.longest_probe_interval < self.probe_interval:
            self._refuse("probe_interval", "at most", "longest_probe_interval", "at least")

    def ns(self, name: str) -> int:
        """The span called `name`, in nanoseconds."""
        seconds: float = getattr(self, name)
        return round(seconds * NS_PER_SECOND)

    def _refuse(self, low: str, below: str, high: str, above: str) -> NoReturn:
        """Names the span of the two that is not its default; the longer one if both are."""
        name, rule, other = high, above, low
        if getattr(self, high) == getattr(ControllerSettings, high):
            name, rule, other = low, below, high
        value, bound = getattr(self, name), getattr(self, other)
        hint = SecondsRange(ranges_of(ControllerSettings)[name].low, bound).hint(value)
        raise InvalidSpec(
            f"{name} is {value!r}", f"it must be {rule} {other}, {bound:g} s{hint}", name
        )
