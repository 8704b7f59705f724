"""The settings for a Redis that is slow or unreachable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal

from crdtbucket.base.clipped import clipped
from crdtbucket.base.setting_checks import RATIO, WEBHOOK, WholeRange
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import OnOutage
from crdtbucket.spec.field_checks import check_fields
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.controller.webhook_target import check_webhook

Scope = Literal["node", "fleet"]


@dataclass(frozen=True)
class Degradation:
    """Settings for a slow or unreachable Redis: what strong buckets do then, and who is
    notified."""

    on_outage: OnOutage = "quota"
    """What decides in an outage, for buckets that do not set it: `quota` (a reduced quota, and the
    mesh's level), `eventual` (the mesh's level), `deny` or `allow`."""
    fallback_ratio: Annotated[float, RATIO] = 0.1
    """The size of the quota in an outage: the share of capacity and rate which a node may grant,
    above 0, up to 1 (in a file also text such as `10%`). With N known nodes, a node never grants
    more than one part in N."""
    fallback_scope: Scope = "node"
    """Whether the ratio is each node's (`node`), or that of all known nodes together (`fleet`)."""
    modes: ControllerSettings = field(default_factory=ControllerSettings)
    """When the mode changes: [every field](modes.md#when-the-mode-changes)."""
    on_mode_change: Callable[[ModeNotice], None] | None = None
    """Called with a `ModeNotice` on the event loop of the limiter at every change; must not
    block."""
    webhook: Annotated[str, WEBHOOK] | None = field(default=None, repr=False)
    """An `https://` or `http://` URL to which changes of mode are
    [posted](configuration.md#webhook); put `slack+` or `pagerduty+` before it to post to these
    services."""
    expected_nodes: Annotated[int, WholeRange(1, 1_000_000)] | None = None
    """How many processes share the limits at least, 1 to 1,000,000: while fewer are known, the
    quota is computed for this number. A process that starts while Redis is gone knows of no
    others, unless a `state_dir` says how many the last process of its node knew."""

    def __post_init__(self) -> None:
        """Raises `InvalidSpec`."""
        ratio = self.fallback_ratio
        number = isinstance(ratio, (int, float, Fraction, Decimal)) and not isinstance(ratio, bool)
        if not number or not 0 < ratio <= 1:
            fix = "write a share of the limit above 0 and at most 1, such as 0.1"
            raise InvalidSpec(f"fallback_ratio is {clipped(ratio)}", fix, "fallback_ratio")
        check_fields(self)
        if self.webhook is not None:
            check_webhook(self.webhook)
