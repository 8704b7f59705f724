"""A mesh in memory: real core, real protocol, real codec; only clock and network are simulated.

    >>> from crdtbucket import BucketSpec
    >>> from crdtbucket.testing import SimulatedMesh
    >>> mesh = SimulatedMesh(["eu", "us"], [BucketSpec("api", capacity=100, refill_rate=1)])
    >>> mesh["eu"].take("api", "tenant-42", 60).allowed
    True
    >>> mesh.advance(1.0)
    >>> mesh["us"].peek("api", "tenant-42").remaining
    40

The same seed gives the same trace, byte for byte.
"""

from __future__ import annotations

from crdtbucket.testing.reset_fixture import reset_fixture
from crdtbucket.testing.simulated_mesh import SimulatedMesh
from crdtbucket.testing.simulated_node import SimulatedNode
from crdtbucket.testing.simulation_settings import SimulationSettings

__all__ = ["SimulatedMesh", "SimulatedNode", "SimulationSettings", "reset_fixture"]
