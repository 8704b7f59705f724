"""Corrects what a quota charged while other processes might still have had this one's share."""

from __future__ import annotations

from crdtbucket._core import BucketCore, BucketReplica, Table

MOST_KEYS = 100_000
"""Keys whose charges can be corrected at a time. The oldest ones beyond them are not corrected."""


class DoubtedCharges:
    """The debts that the keys of one quota would have without the doubt.

    While other processes may still grant the share of this one, tokens cost more parts of its
    quota. That keeps what it grants small, but the price must not outlast the doubt: where the
    share is nothing, one token costs all parts. So the debt at the usual price is kept beside the
    true one, refills alike, and replaces it at the first use of the key after the doubt. It is
    never too small while this process alone charges the quota; in a shared table others do, so
    there nothing is corrected. All amounts are parts of a token.
    """

    def __init__(self) -> None:
        self._debts: dict[tuple[int, int], tuple[int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._debts)

    def clear(self) -> None:
        """The quota has another definition: what was charged stays charged."""
        self._debts.clear()

    def begin(self, table: Table, core: BucketCore, key: str | bytes) -> None:
        """Something may be charged to a key in doubt: notes what it owes before."""
        place = core.hash(key)  # "k" and b"k" are one key
        if place not in self._debts and not table.shared:
            if len(self._debts) >= MOST_KEYS:
                del self._debts[next(iter(self._debts))]
            debt = _debt(core, key)
            self._debts[place] = debt, table.now()  # not before the look, so it refills no earlier

    def add(self, table: Table, core: BucketCore, key: str | bytes, parts: int) -> None:
        """A key was charged `parts` at the usual price, or got them back (below 0)."""
        place = core.hash(key)
        if place in self._debts:
            now = table.now()
            debt = self._now(core, place, now) + parts
            self._debts[place] = min(max(0, debt), core.spec.capacity), now

    def end(self, table: Table, core: BucketCore, key: str | bytes) -> None:
        """The doubt is over: a key owes what it would owe without it."""
        place = core.hash(key)
        if place in self._debts:
            usual = self._now(core, place, table.now())
            del self._debts[place]
            BucketReplica(core).give_back(key, max(0, _debt(core, key) - usual))

    def _now(self, core: BucketCore, place: tuple[int, int], now: int) -> int:
        debt, since = self._debts[place]
        spec = core.spec
        return max(0, debt - max(0, now - since) * spec.refill_rate // spec.interval_ns)


def _debt(core: BucketCore, key: str | bytes) -> int:
    return core.spec.capacity - core.peek(key, 1).remaining
