"""The rule that an owner's word stands, under attack: owners that contradict themselves, relays
that help them, and replays of what honest owners said before."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from crdtbucket.errors import SlotDenied
from crdtbucket.limiter.slots import SlotBucket
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.bad_member import BadMember, Column
from tests.mesh.test_bad_members import C, R, linked, mesh_of

NAMES = "ABC"
MUCH_NS = 10**10
S, TTL = 3, 10.0

Attack = Callable[[Sequence[BadMember], int], None]


def say(bad: BadMember, to: str, debt_ns: int, rows: Sequence[Column], number: int) -> None:
    """A complete round with the bucket's key."""
    key = bad.mesh[to].bucket("api").hash("k")
    bad.state(to, key, debt_ns, rows, round=number, parts=1)


def meet_again(bad: BadMember, name: str) -> None:
    bad.mesh[name].node.disconnected(bad.name, bad.local(name))
    bad.link(name)


def watch(attack: Attack, seconds: float = 30.0, bad: int = 2) -> tuple[float, float]:
    """The part of `C + R * t` that three honest nodes admit that are asked for twice the limit
    each, and the part of an equal share that the least one gets."""
    mesh = mesh_of(len(NAMES))
    members = [linked(mesh, f"bad{number}", 2**40 + number) for number in range(bad)]
    got = dict.fromkeys(NAMES, 0)
    for step in range(round(seconds * 10)):
        attack(members, step)
        for name in NAMES:
            got[name] += mesh[name].take_burst("api", "k", 4, 1)
        mesh.advance(0.1)
    return sum(got.values()) / (C + R * seconds), min(got.values()) * (3 + bad) / (R * seconds)


def back_and_forth(again: bool) -> Attack:
    """It takes a bucket and gives that back. While it is silent, or before it is met again, the
    other one states takes and refunds of a later generation; then it says what it said at first."""

    def attack(members: Sequence[BadMember], step: int) -> None:
        (owner, relay), phase = members, step % (10 if again else 20)
        for name in NAMES:
            mine = (owner.name, owner.epoch, 1, C)
            if phase == 0:
                say(owner, name, MUCH_NS, [(*mine, 0)], step + 1)
            elif phase == 1:
                say(owner, name, 1, [(*mine, C)], step + 1)
            elif phase in (4, 5):
                later = (owner.name, owner.epoch, 2, C, C * (phase - 4))
                relay.state(name, owner.mesh[name].bucket("api").hash("k"), 1, [later])
            elif phase == 7 and again:
                meet_again(owner, name)

    return attack


def contradictions(seed: int) -> Attack:
    """A few acts in turns: the owner, or the other one, states counts of any generation; or the
    owner is silent, or is met again."""
    rng = random.Random(seed)
    acts = [
        (
            rng.choice(["owner", "owner", "relay", "relay", "silent", "again"]),
            (rng.choice([1, 1, 2, 5, 1000]), rng.choice([1, 50, C, 3 * C, 10**6])),
            rng.choice([0.0, 0.0, 0.5, 1.0]),
            rng.choice([1, MUCH_NS]),
        )
        for _ in range(rng.randrange(2, 9))
        for _ in range(rng.choice([1, 1, 2, 5, 15]))
    ]

    def attack(members: Sequence[BadMember], step: int) -> None:
        who, (generation, taken), refunded, debt_ns = acts[step % len(acts)]
        owner, relay = members
        row = (owner.name, owner.epoch, generation, taken, int(taken * refunded))
        for name in NAMES:
            if who == "again":
                meet_again(owner, name)
            elif who != "silent":
                say(owner if who == "owner" else relay, name, debt_ns, [row], step + 1)

    return attack


@pytest.mark.parametrize("again", [False, True])
def test_what_an_owner_takes_back_gives_nothing_out(again: bool) -> None:
    """Takes that it corrects are not given back a second time."""
    of_limit, least = watch(back_and_forth(again))
    assert of_limit <= 1.02
    assert least >= 0.5


@pytest.mark.parametrize("seed", [2, 3, 7, 10, 11])
def test_an_owner_that_contradicts_itself_gives_nothing_out_and_leaves_the_shares(
    seed: int,
) -> None:
    of_limit, least = watch(contradictions(seed))
    assert of_limit <= 1.02
    assert least >= 0.5


@pytest.mark.parametrize("bad", [1, 2])
def test_other_counts_for_each_node_and_then_silence_leave_the_shares(bad: int) -> None:
    """The nodes pass them on to each other, a little more with each round: as if it went on."""

    def attack(members: Sequence[BadMember], step: int) -> None:
        for number, name in enumerate(NAMES, 1):
            for one in members:
                if step == 20:
                    row = (one.name, one.epoch, 1, number * 10**6, 0)
                    say(one, name, MUCH_NS, [row], 1)
                elif step == 30:
                    one.mesh[name].node.disconnected(one.name, one.local(name))

    of_limit, least = watch(attack, 40.0, bad)
    assert of_limit <= 1.02
    assert least >= 0.5


@pytest.mark.parametrize("remembers", [False, True])
def test_replays_of_what_an_owner_said_before_it_began_again_hide_nothing(remembers: bool) -> None:
    """Before others meet it again, and for as long as they do not hear it: what it had counted at
    any earlier time, under the epoch of then and of now."""
    mesh = mesh_of(len(NAMES))
    bad, total = linked(mesh), 0
    key, said = mesh["A"].bucket("api").hash("k"), list[tuple[int, int, int]]()
    for step in range(600):
        said += [column for (name, _), column in bad.known.get(key, {}).items() if name == "A"]
        if step in (100, 300):
            mesh.restart("A", "snapshot" if remembers else "empty")
            bad.link("A")
        if step == 200:
            mesh.partition("A", "BC")
        if step == 240:
            mesh.heal()
        if step in (100, 101, 210, 230, 239, 240, 241, 300, 301, 302):
            epochs = {epoch for name, epoch in bad.known[key] if name == "A"}
            epochs.add(mesh["A"].table.epochs.running)
            for number, counts in enumerate(said[:: max(1, len(said) // 5)]):
                rows = [("A", epoch, *counts) for epoch in sorted(epochs)]
                for name in "BC":
                    bad.state(name, key, 1, rows, round=1000 * step + number + 1, parts=1)
        if step == 310:
            total = 0
        for name in NAMES:
            total += mesh[name].take_burst("api", "k", 4, 1)
        mesh.advance(0.1)
    assert total <= 1.05 * R * 29 + C / 5


@pytest.mark.parametrize("bad", [1, 2])
def test_slots_are_given_out_a_fifth_of_their_time_early_at_most(bad: int) -> None:
    """By each bad member; and where two agree, each slot once more on each node. A slot may owe 64
    holds, and was given out as often."""
    mesh = mesh_of(len(NAMES), BucketSpec.concurrency("api", S, ttl=f"{TTL:.0f}s"))
    members = [linked(mesh, f"bad{number}", 2**40 + number) for number in range(bad)]
    bucket = mesh["A"].bucket("api")
    keys = [bucket.hash(f"k#{number}") for number in range(S)]
    seconds, held = 20.0, 0.0
    for step in range(round(seconds * 10)):
        for one in members:
            for name in NAMES:
                for key in keys:
                    own = (one.name, one.epoch, 1 + step % 3, 1000, 1000 * (step % 2))
                    if step % 2:
                        rows = [*(row for row in one.columns(key) if row[0] != one.name), own]
                        one.state(name, key, 1, rows, round=S * step + 1, parts=1)
        for name in NAMES:
            slots = mesh[name].bucket("api")
            assert isinstance(slots, SlotBucket)
            try:
                slots.slot("k", TTL).__enter__()
            except SlotDenied:
                continue
            held += min(TTL, seconds - step / 10)
        mesh.advance(0.1)
    once = S * TTL * len(NAMES) if bad > 1 else 0.0
    assert held <= (1 + bad / 5) * S * (seconds + TTL) + once


def test_two_that_agree_may_free_a_slot_again_once_it_could_have_been_held_15_times() -> None:
    """Each of three members has a 15th of the rate at which a hold refills."""
    mesh = mesh_of(1, BucketSpec.concurrency("api", 1, ttl="4s"))
    members = [linked(mesh, f"bad{number}", 2**40 + number) for number in range(2)]
    slots = mesh["A"].bucket("api")
    assert isinstance(slots, SlotBucket)
    key, freed = slots.hash("k#0"), []
    for pause in (0.0, 1.0, 18 * 4.0):
        mesh.advance(pause)
        slots.slot("k", 4.0).__enter__()
        for number in range(4):
            one = members[number % 2]
            one.state("A", key, 1, one.columns(key), round=mesh.now_ns, parts=1)
            mesh.advance(0.1)
        freed.append((slots.debt("k#0") or 0) <= 0)
    assert freed == [True, False, True]
