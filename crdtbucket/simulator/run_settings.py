"""The mesh and the bucket on which a scenario runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.spec.bucket_spec import BucketSpec

NS = 1_000_000_000


@dataclass(frozen=True)
class Settings:
    """The settings that are the same for all scenarios: regions, network, bucket, seed.

    `lag_ns` is the mean one-way delay, `jitter` the fraction by which a single message may be
    earlier or later, `refill_rate` whole tokens per `interval_ns`, `max_debt` tokens (None: the
    capacity, never below four times what is refilled within a delay and a gossip interval).
    Raises SimulationError naming the field that is out of range.
    """

    regions: int = 5
    lag_ns: int = 80_000_000
    jitter: float = 0.5
    gossip_ns: int = 100_000_000
    capacity: int = 10_000
    refill_rate: int = 2_000
    interval_ns: int = NS
    max_debt: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.regions <= 64:
            raise SimulationError(f"regions must be 1 to 64, not {self.regions}")
        if self.lag_ns < 0:
            raise SimulationError("lag must not be negative")
        if not 0.0 <= self.jitter <= 1.0:
            raise SimulationError(f"jitter is a fraction from 0 to 1, not {self.jitter}")
        for field in ("gossip_ns", "capacity", "refill_rate", "interval_ns"):
            if getattr(self, field) < 1:
                raise SimulationError(f"{field} must be at least 1, not {getattr(self, field)}")

    @classmethod
    def of_bucket(cls, spec: BucketSpec, **others: Any) -> Settings:
        """The settings for a bucket's definition. `others`: fields of the network, and the seed."""
        return cls(
            capacity=spec.capacity,
            refill_rate=spec.refill_rate,
            interval_ns=spec.interval_ns,
            max_debt=spec.max_debt,
            **others,
        )

    def bucket(self) -> BucketSpec:
        """The definition of the bucket, for rules that run on the library itself."""
        return BucketSpec(
            "simulated", self.capacity, self.refill_rate, f"{self.interval_ns}ns",
            max_debt=self.max_debt,
        )  # fmt: skip

    @property
    def rate_per_second(self) -> float:
        """Tokens refilled in one second."""
        return self.refill_rate * NS / self.interval_ns

    @property
    def debt_limit(self) -> int:
        """Tokens of debt that a node keeps at most; what lies above is forgiven."""
        floor = 4 * self.refill_rate * (self.lag_ns + self.gossip_ns) // self.interval_ns
        return max(self.capacity if self.max_debt is None else self.max_debt, floor)

    def node_names(self) -> tuple[str, ...]:
        """One name for each region, in the order of the demand's node numbers."""
        return tuple(f"region-{number}" for number in range(1, self.regions + 1))
