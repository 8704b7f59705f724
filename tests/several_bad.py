"""What several bad members that work together add and deny: python -m tests.several_bad prints the
table.

It is like `tests.one_bad_of_five`, with the attack divided among several members; one process with
several names counts as several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.protocol import wire
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import EPOCH
from tests.one_bad_of_five import (
    ABSURD,
    MOST_DEBT_NS,
    RATE,
    SECONDS,
    STEP,
    Attacker,
    Watched,
    measured,
    mesh_of,
)

MESHES = ((3, 2), (5, 2), (6, 3), (3, 8))
"""Numbers of honest and of bad members."""
INVENTED = 40


class Colluder(Attacker):
    """One of several bad members."""

    def __init__(self, mesh: SimulatedMesh, honest: str, number: int) -> None:
        super().__init__(mesh, honest, f"bad{number}", EPOCH + number)
        self.number = number

    def leave(self) -> None:
        for name in self.honest:
            self.send(name, flags=wire.LEAVING)

    def come_back(self) -> None:
        """Comes back as another process."""
        self.epoch, self.taken, self.refunded = self.epoch + 1000, 0, 0
        for name in self.honest:
            with suppress(CrdtbucketError):  # on nodes that have not noticed that it left
                self.link(name)


Evil = Callable[[Sequence[Colluder], int], None]


def takes(bad: Sequence[Colluder], step: int) -> None:
    for one in bad:
        one.taken = round(100 * RATE * (step + 1) * STEP)
        if step % 2 == 0:
            one.round()


def lower(bad: Sequence[Colluder], step: int) -> None:
    for one in bad:
        one.lower()


def refunds(bad: Sequence[Colluder], step: int) -> None:
    for one in bad:
        one.taken += 10**6
        for refunded in (one.taken - 10**6, one.taken):
            one.refunded = refunded
            one.round()


def vouch(bad: Sequence[Colluder], step: int) -> None:
    """All of them claim links with the same members, which nobody else sees and which take
    everything."""
    taken = round(RATE * (step + 1) * STEP / INVENTED)
    invented = [(f"x{at:02}", EPOCH + 10**6 + at, 1, taken, 0) for at in range(INVENTED)]
    linked = (*((one.name, one.epoch) for one in bad), *(row[:2] for row in invented))
    members = tuple((name, "", epoch, "") for name, epoch in linked)
    ages = tuple((epoch, 0) for _, epoch, *_ in invented)
    for one in bad if step % 4 == 0 else ():
        one.rounds += 1
        values = {"round": one.rounds, "parts": 1, "ages": ages, "members": members, "unseen": ()}
        for name in one.honest:
            rows = [one.own(), *invented]
            one.state(name, one.key, MOST_DEBT_NS, rows, ABSURD, ABSURD, **values)


def goodbyes(bad: Sequence[Colluder], step: int) -> None:
    """In turns each takes up to the limit, says goodbye, and comes back as another process."""
    for one in bad:
        turn = (step + 20 * one.number) % 40
        if turn == 39 and step > 40:
            one.come_back()
        if turn == 38:
            one.leave()
        if turn < 38:
            one.taken += 2 * RATE
            one.round()


def predicted(bad: Sequence[Colluder], step: int) -> None:
    """The last one asks for much, is silent and says goodbye, while the others state no debts."""
    turn = step % 200
    if turn == 0 and step:
        bad[-1].come_back()
    if turn < 10:
        bad[-1].taken += RATE
        bad[-1].round()
    if turn == 180:
        bad[-1].leave()
    lower(bad[:2], step)


def turns(bad: Sequence[Colluder], step: int) -> None:
    """Takes, then debts, then takes up to the limit and goodbyes, in turns."""
    (takes, lower, goodbyes)[step // 20 % 3](bad, step)


ATTACKS: dict[str, Evil] = {
    "take a hundred times the limit": takes,
    "state no debts": lower,
    "refund what was never charged": refunds,
    "vouch for members that ask for everything": vouch,
    "say goodbye and come back, in turns": goodbyes,
    "one is silent and leaves, two state no debts": predicted,
    "all of it in turns": turns,
}


def watch(
    attack: str, honest: int, bad: int, demand: float = 0.5, seconds: float = SECONDS
) -> Watched:
    """Does as `watch` of `tests.one_bad_of_five`; each honest node asks for `demand` of the
    limit."""
    mesh = mesh_of("ABCDEFGH"[:honest])
    names = "".join(mesh.nodes)
    members = [Colluder(mesh, names, number) for number in range(bad)]
    asks = dict.fromkeys(names, demand)
    return measured(mesh, lambda step: ATTACKS[attack](members, step), asks, honest + bad, seconds)


def table() -> Iterator[str]:
    """The figures that docs/security.md sums up; each row takes a minute."""
    for attack in ATTACKS:
        seen = [watch(attack, *size) for size in MESHES]
        cells = " | ".join(f"{one.of_limit:.2f} / {one.least:.2f}" for one in seen)
        yield f"| {attack} | {cells} |"


if __name__ == "__main__":
    import logging

    logging.getLogger("crdtbucket").addHandler(logging.NullHandler())
    for row in table():
        print(row, flush=True)
