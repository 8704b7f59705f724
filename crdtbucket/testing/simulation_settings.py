"""Settings of a simulated mesh: its network, its members' configuration, and its clocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from crdtbucket.errors import CrdtbucketError, InvalidSpec
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.spec.field_checks import check_flag, check_listed, check_whole


@dataclass(frozen=True)
class SimulationSettings:
    """Checked when made: raises `CrdtbucketError` for a value that its field cannot have.

    Times are seconds; probabilities and the jitter are fractions from 0 to 1.
    """

    latency: float = 0.08
    """How long a frame takes one way, up to 60."""
    jitter: float = 0.5
    """A frame takes less or more than the latency by up to this fraction of it."""
    loss: float = 0.0
    """Probability that a frame is lost."""
    duplication: float = 0.0
    """Probability that a frame arrives twice."""
    reordering: float = 0.0
    """Probability that a frame may overtake earlier ones; the others wait for these, as on TCP."""
    seed: int = 0
    """The same seed gives the same run."""
    clock_offsets: Mapping[str, float] = field(default_factory=dict)
    """By node: how far its clock is ahead at the start."""
    clock_drift_ppm: Mapping[str, float] = field(default_factory=dict)
    """By node: how much too fast its clock runs."""
    gossip_interval: float = MeshConfig.gossip_interval
    """This and the next five are settings of `MeshConfig`."""
    partition_trust: float | None = MeshConfig.partition_trust
    partition_burst: Literal["whole", "share"] = MeshConfig.partition_burst
    forget_after: float = MeshConfig.forget_after
    ended_is_dead: float | Literal["never"] = MeshConfig.ended_is_dead
    expected_nodes: int = MeshConfig.expected_nodes
    prediction: bool = True
    """False switches the prediction of peers off, for comparison."""
    max_keys: int = 10_000
    """Keys that each node has room for."""
    down: Iterable[str] = ()
    """Nodes that do not run at the start."""

    def __post_init__(self) -> None:
        fractions = ("jitter", "loss", "duplication", "reordering")
        for name, most in {"latency": 60.0, **dict.fromkeys(fractions, 1.0)}.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise CrdtbucketError(f"{name} is {value!r}: it must be 0 to {most:g}")
        for name in ("clock_offsets", "clock_drift_ppm"):
            _check_clocks(name, getattr(self, name))
        if not isinstance(self.seed, int):
            raise InvalidSpec(f"seed is {self.seed!r}", "write a whole number", "seed")
        check_flag("prediction", self.prediction)
        check_whole("max_keys", self.max_keys, 16, 2**30)
        object.__setattr__(self, "down", check_listed("down", self.down))
        self.mesh_config(1)  # raises for a field of it

    def mesh_config(self, members: int) -> MeshConfig:
        """The configuration of each of so many members."""
        shared = {one.name for one in fields(self)} & {one.name for one in fields(MeshConfig)}
        peers = [f"127.0.0.1:{i + 1}" for i in range(members - 1)]
        return MeshConfig(peers=peers, **{name: getattr(self, name) for name in shared})


def _check_clocks(name: str, given: object) -> None:
    numbers = given.values() if isinstance(given, Mapping) else [None]
    if not all(isinstance(one, (int, float)) and math.isfinite(one) for one in numbers):
        raise InvalidSpec(f"{name} is {given!r}", "write a number for each node's name", name)
