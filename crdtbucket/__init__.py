"""One token bucket across regions: a rate limiter whose nodes share a limit without a store.

>>> from crdtbucket import BucketSpec, Limiter
>>> limiter = Limiter([BucketSpec("api", capacity=100, refill_rate=10)])
>>> limiter.bucket("api").take("tenant-42", cost=3).remaining
97
"""

from __future__ import annotations

from crdtbucket._core import Decision, Decisions
from crdtbucket.bucket import Bucket
from crdtbucket.decorator import limited
from crdtbucket.errors import (
    AcquireRequired,
    ConfigError,
    CostExceedsCapacity,
    CrdtbucketError,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    LimiterClosed,
    LimiterNotOpen,
    LimitExceeded,
    MeshError,
    NodeConflict,
    Problem,
    RedisReplyError,
    RedisUnavailable,
    ReservationDenied,
    ReservationError,
    SharedTableError,
    UnknownBucket,
    WaitTimeout,
    WireError,
)
from crdtbucket.limiter import Limiter
from crdtbucket.mesh.settings import MeshConfig
from crdtbucket.mode import Mode
from crdtbucket.policy import BucketSpec
from crdtbucket.reservation import Reservation
from crdtbucket.several import AllDecision, AllReservation
from crdtbucket.strong.controller_settings import ControllerSettings
from crdtbucket.strong.degradation import Degradation
from crdtbucket.strong.notice import ModeNotice
from crdtbucket.strong.settings import RedisConfig

__version__ = "0.1.0"

__all__ = [
    "Limiter",
    "BucketSpec",
    "MeshConfig",
    "RedisConfig",
    "Degradation",
    "ControllerSettings",
    "ModeNotice",
    "Bucket",
    "Decision",
    "Decisions",
    "Mode",
    "Reservation",
    "AllDecision",
    "AllReservation",
    "limited",
    "CrdtbucketError",
    "AcquireRequired",
    "ConfigError",
    "CostExceedsCapacity",
    "InvalidCost",
    "InvalidKey",
    "InvalidSpec",
    "LimitExceeded",
    "LimiterClosed",
    "LimiterNotOpen",
    "MeshError",
    "NodeConflict",
    "Problem",
    "RedisReplyError",
    "RedisUnavailable",
    "ReservationDenied",
    "ReservationError",
    "SharedTableError",
    "UnknownBucket",
    "WaitTimeout",
    "WireError",
    "__version__",
]
