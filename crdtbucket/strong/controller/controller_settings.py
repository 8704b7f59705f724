"""Settings: when an endpoint counts as slow or unreachable, and what it must show before it is used
again."""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.field_checks import check_whole, clipped

# Lowest and highest seconds of each span.
_SPANS = {
    "latency_limit": (0.000_1, 60.0),
    "latency_window": (0.1, 60.0),
    "outage_after": (0.05, 60.0),
    "stable_after": (0.0, 3_600.0),
    "stable_after_failover": (0.0, 3_600.0),
    "least_return_gap": (0.0, 86_400.0),
    "probe_interval": (0.001, 60.0),
    "longest_probe_interval": (0.001, 600.0),
}


@dataclass(frozen=True)
class ControllerSettings:
    """The settings of a mode controller; spans in seconds.

    Raises `InvalidSpec`, naming the field and the range, for a value that cannot be used.
    """

    latency_limit: float = 0.020
    """Answers that take longer are slow, 0.0001 to 60."""
    latency_quantile: float = 0.99
    """The quantile of the answers that must be within the limit, 0.5 to 0.9999."""
    latency_window: float = 1.0
    """Seconds over which the quantile is taken, and for which it must be too high, 0.1 to 60."""
    least_samples: int = 10
    """Fewer answers than this in a window say nothing about latency, 1 to 1,000,000."""
    outage_after: float = 0.5
    """No answer at all, or only failures, for so long is an outage, 0.05 to 60; above
    `latency_limit`."""
    stable_after: float = 5.0
    """Answers must be good for so long before the return, up to an hour."""
    stable_after_failover: float = 1.0
    """The same when the endpoint has a new primary; at most `stable_after`."""
    least_return_gap: float = 60.0
    """There are at most two switches in this time in the long run, up to a day; 0: no bound."""
    probe_interval: float = 0.1
    """Time between two probes of an endpoint that was left, 0.001 to 60."""
    longest_probe_interval: float = 1.0
    """What it grows to while they fail, up to 600; at least `probe_interval`."""

    def __post_init__(self) -> None:
        for name, (low, high) in _SPANS.items():
            _check_number(name, getattr(self, name), low, high, "seconds")
        _check_number("latency_quantile", self.latency_quantile, 0.5, 0.9999, "a number")
        check_whole("least_samples", self.least_samples, 1, 1_000_000)
        if self.outage_after <= self.latency_limit:
            self._refuse("outage_after", "must be longer than latency_limit", self.latency_limit)
        if self.stable_after_failover > self.stable_after:
            self._refuse("stable_after_failover", "can be at most stable_after", self.stable_after)
        if self.longest_probe_interval < self.probe_interval:
            self._refuse(
                "longest_probe_interval", "must be at least probe_interval", self.probe_interval
            )

    def ns(self, name: str) -> int:
        """The span called `name`, in nanoseconds."""
        seconds: float = getattr(self, name)
        return round(seconds * NS_PER_SECOND)

    def _refuse(self, name: str, rule: str, other: float) -> None:
        raise InvalidSpec(f"{name} is {getattr(self, name)!r}", f"it {rule}, {other!r}", name)


def _check_number(name: str, value: float, low: float, high: float, kind: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and low <= value <= high:  # false for nan
        return
    raise InvalidSpec(f"{name} is {clipped(value)}", f"write {kind} from {low:g} to {high:g}", name)
