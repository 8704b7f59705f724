"""One run: reads the keys of a range of hashes from all holders, merges their columns, and sends
each holder what it lacks; then the next range.

Ranges are small, so that little changes between reading and sending, and a run may end after any:
what was sent only ever raises counts, and nothing depends on what was not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from crdtbucket.errors import CrdtbucketError
from crdtbucket.reconcile.buckets import KeyUpdate, Place, ReconciledBucket
from crdtbucket.reconcile.findings import Holder, Report
from crdtbucket.reconcile.merging import HeldKey, MergedKey, Owner, merge_key
from crdtbucket.reconcile.observed_node import LAST, WANTED, ObservedNode, RangeAnswer
from crdtbucket.reconcile.records import Records

T = TypeVar("T")
P = TypeVar("P", ObservedNode, Records)
Keys = dict[Place, tuple[ReconciledBucket, HeldKey]]
Party = ObservedNode | Records
"""A holder of keys; each of its methods raises `CrdtbucketError`."""


class Reconciliation:
    """The holders that take part in one run, and its report."""

    def __init__(self, report: Report, nodes: list[ObservedNode], redis: Records | None) -> None:
        """Adds a row to `report` for each holder."""
        self.report = report
        self._parties: dict[Holder, Party] = {}
        for node in nodes:
            self._parties[Holder(node.name, "node", node.address)] = node
        if redis is not None:
            self._parties[Holder(redis.name, "redis", redis.address)] = redis
        report.holders += self._parties
        self._recorded: list[tuple[Place, ReconciledBucket]] = []

    async def run(
        self,
        moved: Callable[[float], None] = lambda part: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Goes over all hashes, or until `stopped()`; `moved` gets the part that is done."""
        began = time.monotonic()
        scans = {holder: one.places() for holder, one in self._of(Records)}
        for found in (await self._all(scans)).values():
            self._recorded += found.items()
        first = 0
        while first <= LAST and self._parties and not stopped():
            first = await self._range(first) + 1
            self.report.done = first / (LAST + 1)
            self.report.seconds = time.monotonic() - began
            moved(self.report.done)

    # ---- reading ----

    async def _range(self, first: int) -> int:
        """Reconciles the keys from this hash on, as many as one answer of each has; returns the
        last hash that was covered."""
        seen = await self._all({holder: one.look(first) for holder, one in self._of(ObservedNode)})
        upto = min([LAST, *(one.upto for one in seen.values())])
        recorded = self._recorded[:WANTED]
        if len(self._recorded) > len(recorded):
            upto = min(upto, recorded[-1][0][1])
        recorded = [item for item in recorded if item[0][1] <= upto]
        del self._recorded[: len(recorded)]
        held, buckets = await self._read(seen, upto, dict(recorded))
        self._strip(held)
        self.report.keys += len(buckets)
        await self._send(self._compare(held, buckets))
        return upto

    async def _read(
        self, seen: Mapping[Holder, RangeAnswer], upto: int, recorded: dict[Place, ReconciledBucket]
    ) -> tuple[dict[Holder, Keys], dict[Place, ReconciledBucket]]:
        """Reads the keys on which some holder has a debt, from each holder."""
        held: dict[Holder, Keys] = {}
        indebted: dict[Place, ReconciledBucket] = {}
        for holder, one in seen.items():
            self.report.unknown_keys += one.unknown
            held[holder] = {p: key for p, key in one.keys.items() if p[1] <= upto}
            indebted |= {place: bucket for place, (bucket, _) in held[holder].items()}
        wanted = recorded | {p: b for p, b in indebted.items() if b.arguments is not None}
        redis = {holder: one.have(wanted) for holder, one in self._of(Records)}
        for holder, keys in (await self._all(redis)).items():
            held[holder] = {p: k for p, k in keys.items() if k[1].debt > 0 or p in indebted}
            indebted |= {place: bucket for place, (bucket, _) in held[holder].items()}
        rest = {
            holder: one.have({p: b for p, b in indebted.items() if p not in held[holder]})
            for holder, one in self._of(ObservedNode)
            if holder in held
        }
        for holder, keys in (await self._all(rest)).items():
            held[holder] |= keys
        return {one: keys for one, keys in held.items() if one in self._parties}, indebted

    def _strip(self, held: dict[Holder, Keys]) -> None:
        """Takes out the columns of epochs that have a tombstone: they stand for nothing."""
        tombstones = set[int]().union(*(one.tombstones for one in self._parties.values()))
        if not tombstones:
            return
        for keys in held.values():
            for place, (bucket, one) in keys.items():
                columns = {o: c for o, c in one.columns.items() if o[1] not in tombstones}
                keys[place] = bucket, replace(one, columns=columns)

    # ---- comparing ----

    def _compare(
        self, held: Mapping[Holder, Keys], buckets: Mapping[Place, ReconciledBucket]
    ) -> dict[Holder, dict[Place, KeyUpdate]]:
        """Reports what each holder lacks, and returns what is to be sent to it."""
        updates: dict[Holder, dict[Place, KeyUpdate]] = {holder: {} for holder in held}
        for place, bucket in buckets.items():
            holding = {
                holder: keys[place][1] if place in keys else None
                for holder, keys in held.items()
                if holder.kind == "node" or bucket.arguments is not None
            }
            for holder, mine in holding.items():
                holder.keys += mine is not None and mine.debt > 0
            if not _agree(list(holding.values())):
                self._differing(place, bucket, holding, updates)
        return {holder: found for holder, found in updates.items() if found}

    def _differing(
        self,
        place: Place,
        bucket: ReconciledBucket,
        holding: Mapping[Holder, HeldKey | None],
        updates: Mapping[Holder, dict[Place, KeyUpdate]],
    ) -> None:
        """Counts one key that is not the same everywhere."""
        found = [one for one in holding.values() if one is not None]
        if not found:
            return  # its holder has failed meanwhile
        merged = merge_key(found, bucket.spec.capacity, bucket.ceiling)
        differs = False
        for holder, mine in holding.items():
            wanted = as_sent(merged, mine, self._parties[holder].owner)
            lack = wanted.lack(mine)
            if not lack:
                continue
            differs = True
            holder.behind(lack, wanted.charge(mine))
            if holder.kind == "redis" and mine is not None and not mine.comparable:
                holder.refused += 1  # the script would turn its level into the file's units
            else:
                updates[holder][place] = bucket, wanted.columns, wanted.debt
        if differs:
            self.report.differs(merged)

    # ---- sending ----

    async def _send(self, updates: Mapping[Holder, dict[Place, KeyUpdate]]) -> None:
        if self.report.dry_run:
            return
        outcomes = await self._all(
            {holder: self._parties[holder].send(one) for holder, one in updates.items()}
        )
        again = {
            holder: self._parties[holder].have(
                {place: one[0] for place, one in updates[holder].items()}
            )
            for holder in outcomes
        }
        for holder, keys in (await self._all(again)).items():
            holder.refused += outcomes[holder].refused
            holder.dropped += outcomes[holder].dropped
            for place, (bucket, columns, owed) in updates[holder].items():
                wanted = MergedKey(columns, owed, bucket.spec.capacity, bucket.ceiling)
                held = keys[place][1] if place in keys else None
                holder.left_tokens += wanted.lack(held).taken

    # ---- who takes part ----

    def _of(self, kind: type[P]) -> list[tuple[Holder, P]]:
        return [(holder, one) for holder, one in self._parties.items() if isinstance(one, kind)]

    async def _all(self, work: Mapping[Holder, Coroutine[Any, Any, T]]) -> dict[Holder, T]:
        """The results of all holders, which are asked together. One that fails is reported, and
        takes no part from then on."""
        done = await asyncio.gather(*work.values(), return_exceptions=True)
        results: dict[Holder, T] = {}
        for holder, result in zip(work, done, strict=True):
            if isinstance(result, CrdtbucketError):
                holder.error = str(result)
                del self._parties[holder]
            elif isinstance(result, BaseException):
                raise result
            else:
                results[holder] = result
        return results


def _agree(holding: list[HeldKey | None]) -> bool:
    """Whether all hold the same columns, as nearly always."""
    first = holding[0] if holding else None
    return first is not None and all(
        one is not None and one.columns == first.columns for one in holding
    )


def as_sent(merged: MergedKey, mine: HeldKey | None, owner: Owner | None) -> MergedKey:
    """The merged key as it is sent to a holder: about its own running process it gets what it said.

    Redis may be ahead of it by what is on its way, and a node that is sent more of itself than it
    knows takes that for another process with its name.
    """
    if owner is None or owner not in merged.columns:
        return merged
    columns = {one: column for one, column in merged.columns.items() if one != owner}
    if mine is not None and owner in mine.columns:
        columns[owner] = mine.columns[owner]
    return replace(merged, columns=columns)
