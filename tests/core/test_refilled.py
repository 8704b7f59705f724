"""Updates that are old when they arrive: takes that they bring first, and for which a full bucket
had room meanwhile."""

from __future__ import annotations

import pytest

from tests.core.pair import Peer, send
from tests.core.test_apart import SECOND, TOKEN, Apart

LATE_S = 5
"""An update that is older than this (s) only raises columns, by the protocol."""


def held_up(apart: Apart, seconds: int, there: int, here: int) -> None:
    """Takes so many tokens each second; the updates of `a` of each second arrive at the end, in
    their order."""
    a, b = apart.a, apart.b
    updates = []
    for _ in range(seconds):
        apart.each_second(1, there, here)
        updates.append((apart.now, a.payload()))
    for at, payload in updates:
        b.merge(a, payload, at=at, late=apart.now - at > LATE_S * SECOND)


def owed(peer: Peer) -> int:
    return -(-(peer.bucket.debt("k") or 0) // TOKEN)


@pytest.mark.parametrize("seconds", [4, 8, 30])
@pytest.mark.parametrize(("there", "here"), [(5, 1), (1, 5), (4, 4), (8, 0)])
def test_what_was_refilled_while_all_updates_were_held_up_is_no_debt(
    there: int, here: int, seconds: int
) -> None:
    apart = Apart()
    held_up(apart, seconds, there, here)
    assert owed(apart.b) <= there + here


def test_a_peer_that_has_just_begun_to_ask_for_more_takes_what_was_refilled() -> None:
    apart = Apart()
    apart.b_is_known_to_a()
    for _ in range(20):
        apart.each_second(1, 1, 1)
        apart.talk()
    held_up(apart, 5, 7, 1)
    assert owed(apart.b) <= 10


def test_takes_that_come_after_they_were_hidden_are_not_owed_again() -> None:
    """They come with a higher rate, which hides more."""
    apart = Apart()
    a, b = apart.a, apart.b
    updates = []
    for pair in ((4, 4, 4), (4, 8)):
        for tokens in pair:
            apart.each_second(1, tokens, 1)
        updates.append((apart.now, a.payload()))
    apart.each_second(2, 0, 1)
    for at, payload in updates:
        b.merge(a, payload, at=at)
    assert owed(b) <= -5  # the credit for a second and a half


@pytest.mark.parametrize("burst", ["there", "here"])
def test_a_burst_of_one_side_is_owed(burst: str) -> None:
    apart = Apart()
    held_up(apart, 8, 2, 2)
    (apart.a if burst == "there" else apart.b).bucket.take("k", 60)
    send(apart.a, apart.b)
    assert 50 <= owed(apart.b) <= 64


@pytest.mark.parametrize(("there", "here"), [(9, 3), (6, 6), (3, 9)])
def test_where_both_ask_for_more_than_is_refilled_the_rest_is_owed(there: int, here: int) -> None:
    apart = Apart()
    held_up(apart, 20, there, here)
    assert 20 * (12 - 10) - 5 <= owed(apart.b) <= 20 * (12 - 10)


def test_what_is_hidden_and_was_not_taken_is_owed_again_however_often_rates_rise() -> None:
    """Late updates of a peer show that it takes, and then that it takes no more, again and
    again."""
    apart = Apart()
    a, b = apart.a, apart.b
    for _ in range(3):
        taken = 0
        apart.each_second(60, 5, 0)
        for _ in range(5):
            send(a, b, at=apart.now - 4 * SECOND)
            taken += b.bucket.take_burst("k", 40)
            send(a, b)
        assert taken <= 100 + 5 * 4, "a bucket, and once the credit for four seconds"


def test_nor_is_what_was_hidden_before_forgotten_when_rates_rise_a_little_more() -> None:
    apart = Apart()
    a, b = apart.a, apart.b
    taken = 0
    apart.each_second(60, 5, 0)
    for _ in range(5):
        send(a, b, at=apart.now - 4 * SECOND)
        a.bucket.take("k")
        send(a, b, at=apart.now - 4 * SECOND)
        taken += b.bucket.take_burst("k", 40)
        send(a, b)
    assert taken <= 100 + 5 * 4
