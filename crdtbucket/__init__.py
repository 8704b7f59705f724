"""One token bucket across regions: a rate limiter whose nodes share a limit without a store.

>>> from crdtbucket import BucketSpec, Limiter
>>> limiter = Limiter([BucketSpec("api", capacity=100, refill_rate=10)])
>>> limiter.bucket("api").take("tenant-42", cost=3).remaining
97
"""

from __future__ import annotations

try:
    from crdtbucket._core import AllDecision, AllReservation, Decision, Decisions, Reservation
except ModuleNotFoundError as missing:
    if missing.name != "crdtbucket._core":
        raise
    raise ImportError(
        f"the compiled core is not in {__path__[0]}, which is a checkout that is not built: start "
        "Python in another folder, or build it there: pip install -e '.[cli]'",
        name=missing.name,
    ) from None
from crdtbucket.errors import (
    AcquireRequired,
    ConfigError,
    CostExceedsCapacity,
    CrdtbucketError,
    Denied,
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
    SlotDenied,
    UnknownBucket,
    WaitTimeout,
    WireError,
    WrongKind,
)
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.decorator import limited
from crdtbucket.limiter.facade import Limiter
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.spec.asked_overrides import AskedOverrides
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.redis.redis_config import RedisConfig

__version__ = "0.1.0"

__all__ = [
    "Limiter",
    "AskedOverrides",
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
    "Slot",
    "AllDecision",
    "AllReservation",
    "limited",
    "CrdtbucketError",
    "AcquireRequired",
    "ConfigError",
    "CostExceedsCapacity",
    "Denied",
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
    "SlotDenied",
    "UnknownBucket",
    "WaitTimeout",
    "WireError",
    "WrongKind",
    "__version__",
]
