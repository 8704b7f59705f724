"""What a node does for the slots of each strong bucket while Redis is unreachable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.strong.quota import share_among

EVENTUAL = "give this bucket consistency: eventual"


@dataclass(frozen=True)
class SlotRules:
    """The rules of one definition of one bucket. `ratio`: above 0, at most 1; `fleet`: of all
    nodes together, not of each."""

    slots: int
    on_outage: OnOutage
    ratio: Fraction
    fleet: bool

    def share(self, nodes: int) -> int:
        """The slots of a key that this node alone may hold among `nodes` nodes, as `Quota` has it
        for tokens: its share of all, rounded down. One, where that is none and there is a slot for
        each node. All nodes together never have more than there are."""
        each = share_among(nodes, self.ratio, fleet=self.fleet)
        return math.floor(self.slots * each) or int(nodes <= self.slots)


def check_strong_slots(spec: BucketSpec, shared: bool, replicated: bool) -> None:
    """Raises `InvalidSpec` for strong slots in a process that shares a table, or of a Redis in each
    region."""
    if shared:
        # Each process would have the share of a whole host.
        what = f"bucket {spec.name!r} has strong slots, and this process shares a table"
        raise InvalidSpec(what, f"{EVENTUAL}, or leave out shared and --workers", "consistency")
    if replicated:
        what = f"bucket {spec.name!r} has strong slots, and there is a Redis in each region"
        fix = f"{EVENTUAL}: what one of them decides is not known to the others in time"
        raise InvalidSpec(what, fix, "consistency")
