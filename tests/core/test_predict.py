"""What is held back for peers, seen from outside: by the answers of a node that hears one."""

from __future__ import annotations

import pytest

from crdtbucket.policy import BucketSpec
from tests.core.pair import Peer, send

MS = 1_000_000
DAY = 86_400_000 * MS
SPEC = BucketSpec("b", 1000, 100)


def heard(peer: Peer, now: int) -> None:
    """A complete round of node 0, 100 ms after it was sent."""
    peer.table.set_time(now)
    peer.table.heard(peer.node_of(0), now - 100 * MS)


@pytest.mark.parametrize("days", [1, 24, 27, 40, 51])
def test_a_rate_that_was_not_stated_again_is_forgotten_for_good(days: int) -> None:
    """However long ago: the times of columns are kept in 32 bits, which wrap after 52 days."""
    a, b = Peer(0, SPEC), Peer(1, SPEC)
    b.table.configure(predict=True)
    for now in range(DAY, DAY + 2000 * MS, 100 * MS):
        heard(b, now)
        a.table.set_time(now)
        b.bucket.take("k", 5)
        b.table.collect()
        a.bucket.take_burst("k", 1000)  # far above the refill, denied for the most part
        send(a, b)
    assert b.bucket.peek("k", 500).allowed is False
    for now in range((1 + days) * DAY, (1 + days) * DAY + 10_000 * MS, 100 * MS):
        heard(b, now)
        b.bucket.take("k", 5)  # its entry is never idle, so never evicted
        b.table.collect()
    assert b.bucket.peek("k", 900).allowed
