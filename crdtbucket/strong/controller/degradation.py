"""The settings for a Redis that is slow or unreachable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal, get_args

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import OnOutage
from crdtbucket.spec.field_checks import check_choice, check_whole, clipped
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.controller.webhook_target import check_webhook

MAX_NODES = 1_000_000
"""Processes that may be said to share the limits."""
Scope = Literal["node", "fleet"]


@dataclass(frozen=True)
class Degradation:
    """Settings for a slow or unreachable Redis: what strong buckets do then, and who is
    notified."""

    on_outage: OnOutage = "quota"
    """What decides in an outage, for buckets that do not say it: a small static `quota`, the mesh's
    level as in `eventual` mode, or `deny` or `allow` for all."""
    fallback_ratio: float = 0.10
    """The quota's share of capacity and rate, above 0 and at most 1; never more than 1 / nodes."""
    fallback_scope: Scope = "node"
    """Whether the share is each `node`'s, or of the whole `fleet`."""
    modes: ControllerSettings = field(default_factory=ControllerSettings)
    """When the mode changes: [every field](modes.md#when-the-mode-changes)."""
    on_mode_change: Callable[[ModeNotice], None] | None = None
    """Called with a `ModeNotice` on the event loop of the limiter at every change; must not
    block."""
    webhook: str | None = field(default=None, repr=False)
    """An http(s) URL to which every change is [posted](configuration.md#webhook), as JSON; with
    `slack+` or `pagerduty+` before it, as these services take it."""
    expected_nodes: int | None = None
    """How many processes share the limits at least, 1 to 1,000,000: with fewer known, the quota is
    divided among so many. A process that starts while Redis is unreachable knows nothing else."""

    def __post_init__(self) -> None:
        """Raises `InvalidSpec`."""
        ratio = self.fallback_ratio
        number = isinstance(ratio, (int, float, Fraction, Decimal)) and not isinstance(ratio, bool)
        if not number or not 0 < ratio <= 1:
            fix = "write a share of the limit above 0 and at most 1, such as 0.1"
            raise InvalidSpec(f"fallback_ratio is {clipped(ratio)}", fix, "fallback_ratio")
        check_choice("fallback_scope", self.fallback_scope, get_args(Scope))
        if self.expected_nodes is not None:
            check_whole("expected_nodes", self.expected_nodes, 1, MAX_NODES)
        if self.webhook is not None:
            check_webhook(self.webhook)
        check_choice("on_outage", self.on_outage, get_args(OnOutage))
