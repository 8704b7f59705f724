"""Warns of reservations that are committed too late, at most once a minute."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crdtbucket._core import Reservation, ReservationBook
from crdtbucket.base.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from crdtbucket.limiter.bucket import Bucket

LOG = logging.getLogger("crdtbucket")
# Late commits come in bursts, when whatever served the calls was slow: one line says it.
REPEAT_NS = 60 * NS_PER_SECOND


class Reservations(ReservationBook):
    """All reservations of one bucket; late commits are logged."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self._quiet_until_ns = 0
        self._unsaid = 0

    def late(self, one: Reservation, actual: int) -> None:
        self._unsaid += 1
        if (now := self.bucket.table.now()) < self._quiet_until_ns:
            return
        LOG.warning(
            "bucket %s: %d reservation(s) committed after their estimate had gone back (ttl %g s); "
            "charged in full, the last one %d tokens. A longer ttl avoids it",
            self.bucket.spec.name,
            self._unsaid,
            one.ttl_ns / NS_PER_SECOND,
            actual,
        )
        self._quiet_until_ns = now + REPEAT_NS
        self._unsaid = 0
