"""The rules of strong buckets: how each talks to the store, and what it does in an outage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from crdtbucket._core import BucketCore
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.strong.quota import Quota, share_among
from crdtbucket.strong.redis.script import Arguments

_EVENTUAL = "give this bucket consistency: eventual"
Place = tuple[int, int]
"""The two halves of a key's hash."""


@dataclass(frozen=True)
class Rules:
    """The rules of one definition of a bucket of tokens."""

    arguments: Arguments
    on_outage: OnOutage
    quota: Quota


@dataclass(frozen=True)
class SlotRules:
    """The rules of one definition of a bucket of slots. `ratio`: above 0, at most 1; `fleet`:
    `ratio` is of all nodes together, not of each."""

    slots: int
    on_outage: OnOutage
    ratio: Fraction
    fleet: bool

    def share(self, nodes: int) -> int:
        """The slots of a key that this node alone may hold among `nodes` nodes, as `Quota` does for
        tokens: its share of all slots, rounded down; one if the share is none and there is a slot
        for each node. All nodes together never have more than all slots."""
        each = share_among(nodes, self.ratio, fleet=self.fleet)
        return math.floor(self.slots * each) or int(nodes <= self.slots)


def check_strong_slots(spec: BucketSpec, shared: bool, replicated: bool) -> None:
    """Raises `InvalidSpec` for strong slots in a process that shares a table, or of a Redis in each
    region."""
    if shared:
        # Each process would have the share of a whole host.
        what = f"bucket {spec.name!r} has strong slots, and this process shares a table"
        raise InvalidSpec(what, f"{_EVENTUAL}, or leave out shared and --workers", "consistency")
    if replicated:
        what = f"bucket {spec.name!r} has strong slots, and there is a Redis in each region"
        fix = f"{_EVENTUAL}: what one of them decides is not known to the others in time"
        raise InvalidSpec(what, fix, "consistency")


class RuleBook:
    """The rules of all strong buckets.

    Any thread may read; during a change it may see the old rules of some keys."""

    def __init__(self, rules: Mapping[BucketCore, Rules] | None = None) -> None:
        self.by_name: dict[int, BucketCore] = {}
        """The buckets of tokens by the hashes of their names."""
        self.slots: dict[BucketCore, SlotRules] = {}
        """The rules of buckets of slots."""
        self._rules: dict[BucketCore, Rules] = {}
        self._candidates: dict[BucketCore, Rules] = {}
        for bucket, its in (rules or {}).items():
            self.follow(bucket, its)

    def follow(self, bucket: BucketCore, rules: Rules, candidate: Rules | None = None) -> None:
        """From now on a bucket, new or redefined, follows `rules`, and on the keys of its candidate
        definition those of `candidate`. Requests in flight keep their rules."""
        if candidate is None:
            self._candidates.pop(bucket, None)
        else:
            self._candidates[bucket] = candidate
        self._rules[bucket] = rules
        self.by_name[bucket.name_hash] = bucket

    def of(self, bucket: BucketCore, place: Place) -> Rules:
        """The rules of one key, by its hash."""
        if self._candidates:
            candidate = self._candidates.get(bucket)
            if candidate is not None and bucket.on_candidate(place[1]):
                return candidate
        return self._rules[bucket]

    def of_key(self, bucket: BucketCore, key: str | bytes) -> Rules:
        """The rules of one key. It is hashed only while some bucket has a candidate."""
        return self.of(bucket, bucket.hash(key) if self._candidates else (0, 0))

    @property
    def quotas(self) -> bool:
        """Whether a bucket falls back to its quota."""
        rules = (one.on_outage for one in self._rules.values())
        return "quota" in itertools.chain(rules, (one.on_outage for one in self.slots.values()))
