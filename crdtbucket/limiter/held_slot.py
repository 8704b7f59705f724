"""One slot of a key, as a block that holds it."""

from __future__ import annotations

import asyncio

from crdtbucket._core import Decision, SlotCore
from crdtbucket.base.across import check_no_loop
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import patience_ns
from crdtbucket.errors import WaitTimeout
from crdtbucket.limiter.waiting import Lines
from crdtbucket.spec.bucket_kinds import SLOT_TOKENS
from crdtbucket.spec.bucket_spec import BucketSpec


class Slot(SlotCore):
    """A slot of a key, held while a `with` or `async with` block runs.

    The slot is released when the block or its ttl ends. Safe to use from several threads.
    """

    __slots__ = ()

    def __enter__(self) -> Slot:
        """Holds a slot. Raises `SlotDenied`."""
        self.check_new()
        decision = self.bucket.search.take(self.key)
        if decision.allowed or patience_ns(self.timeout) == 0:
            return self.hold(decision)
        check_no_loop("a slot that is waited for", "`async with bucket.slot(...)`")
        return self.hold(asyncio.run(self._wait()))

    async def __aenter__(self) -> Slot:
        """Holds a slot; it awaits nothing if a slot is free, or without a timeout. Raises
        `SlotDenied`."""
        self.check_new()
        if patience_ns(self.timeout) == 0:
            return self.hold(self.bucket.search.take(self.key))
        return self.hold(await self._wait())

    async def _wait(self) -> Decision:
        try:
            decision = await self._turn()
        except WaitTimeout as error:
            decision = error.decision
        return self.follow(decision)

    def follow(self, decision: Decision) -> Decision:
        """Returns the decision. From now on the slot counts in the bucket of the decision, since
        the key may have got another limit after the slot was made."""
        if decision.bucket is not self.bucket:
            ttl_ns = self.ttl_under(decision.bucket.spec)
            SlotCore.__init__(self, decision.bucket, self.key, ttl_ns, self.timeout)
        return decision

    def ttl_under(self, spec: BucketSpec) -> int:
        """The ttl (ns) under a definition: the one that was asked for, but at most that of the
        definition, which is also the default."""
        most: int = spec.interval_ns
        return most if self.ttl_ns == self.bucket.spec.interval_ns else min(self.ttl_ns, most)

    async def _turn(self) -> Decision:
        waiters: Lines = self.bucket.named.waiters
        return await waiters.wait(self.key, SLOT_TOKENS, self.timeout)

    def __repr__(self) -> str:
        return f"Slot(key={self.key!r}, ttl={self.ttl_ns / NS_PER_SECOND:g})"
