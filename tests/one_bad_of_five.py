"""What one bad member of five adds and denies: python -m tests.one_bad_of_five prints the table.

Four honest nodes with the real core and protocol, in a network in memory, and a fifth member that
admits what it likes and sends the worst frames that it can. Only what the honest
nodes admit is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import EPOCH, BadMember, Column

CAPACITY, RATE = 100, 20
HONEST, MEMBERS = "ABCD", 5
STEP = 0.05
BURST, AFTER, SECONDS = 15.0, 30.0, 160.0
"""Seconds before the attack begins; until the honest debts of that time are over; and for how long
is measured after that."""
ABSURD = (0xFFFF, 0xFFFF)
MOST_DEBT_NS = 10**12

DEMANDS = {
    "twice the limit": (0.5, 0.5, 0.5, 0.5),
    "a fifth each": (0.2, 0.2, 0.2, 0.2),
    "one asks for twice the limit": (2.0, 0.2, 0.1, 0.05),
}
"""The demand of each honest node, as a multiple of the refill rate."""


class Attacker(BadMember):
    """A bad member that is linked with all honest ones and attacks one key."""

    def __init__(
        self, mesh: SimulatedMesh, honest: str = HONEST, name: str = "bad", epoch: int = EPOCH
    ) -> None:
        super().__init__(mesh, name, epoch)
        self.honest = honest
        self.key = mesh[honest[0]].bucket("api").hash("k")
        self.taken = self.refunded = self.rounds = 0
        self.link(*honest)

    def own(self) -> Column:
        return (self.name, self.epoch, 1, self.taken, self.refunded)

    def round(
        self, debt_ns: int = MOST_DEBT_NS, rates: tuple[int, int] = ABSURD, **values: object
    ) -> None:
        """Sends a complete round to each honest node, with its own column."""
        self.rounds += 1
        values |= {"round": self.rounds, "parts": 1}
        for name in self.honest:
            self.state(name, self.key, debt_ns, [self.own()], rates, **values)

    def lower(self) -> None:
        """Sends all columns that it has received, and no debt."""
        for name in self.honest:
            if shown := self.columns(self.key):
                self.state(name, self.key, 1, shown)

    def hang_up(self) -> None:
        """Its links end."""
        for name in self.honest:
            self.mesh[name].node.disconnected(self.name, self.local(name))


def nothing(attack: Attacker, step: int) -> None:
    if step % 2 == 0:
        attack.round(debt_ns=1, rates=(0, 0))


def rates(attack: Attacker, step: int) -> None:
    """Sends absurd rates in rounds that come rarely, so that much is held back for it."""
    if step % 8 == 0:
        attack.round(debt_ns=1)


def rates_and_silence(attack: Attacker, step: int) -> None:
    """Sends absurd rates once, and then its link ends."""
    if step == 0:
        attack.taken = 1
        attack.round(debt_ns=1)
        attack.hang_up()


def takes(per_second: float) -> Callable[[Attacker, int], None]:
    def evil(attack: Attacker, step: int) -> None:
        attack.taken = round(per_second * (step + 1) * STEP)
        if step % 2 == 0:
            attack.round()

    return evil


def takes_and_silence(attack: Attacker, step: int) -> None:
    """Takes as an honest node might in overload, and then its link ends."""
    attack.taken = round(RATE * (min(step, 200) + 1) * STEP)
    if step <= 200 and step % 2 == 0:
        attack.round()
    if step == 200:
        attack.hang_up()


def debts(attack: Attacker, step: int) -> None:
    """Sends all columns that it has received, and no debt."""
    attack.lower()


def refunds(attack: Attacker, step: int) -> None:
    for refunded in (attack.taken, attack.taken + 10**6):
        attack.taken, attack.refunded = attack.taken + 10**6, refunded
        attack.round()


def columns_of_others(attack: Attacker, step: int) -> None:
    """Sends the columns of the honest nodes, which rise without end."""
    listed = [
        (owner, epoch, generation, taken + 50 * step, refunded)
        for owner, epoch, generation, taken, refunded in attack.columns(attack.key)
    ]
    for name in HONEST:
        shown = [row for row in listed if row[0] != name]
        if shown:
            attack.state(name, attack.key, MOST_DEBT_NS, shown, ABSURD)


def invented_members(attack: Attacker, step: int) -> None:
    """Sends forty members that it alone sees, which ask for everything and take a part of the limit
    each."""
    taken = round(RATE * (step + 1) * STEP / 40)
    invented = [(f"x{i:02}", attack.epoch + 1 + i, 1, taken, 0) for i in range(40)]
    ages = tuple((epoch, 0) for _, epoch, *_ in invented)
    if step % 4 == 0:
        attack.rounds += 1
        for name in HONEST:
            attack.state(
                name,
                attack.key,
                MOST_DEBT_NS,
                [attack.own(), *invented],
                ABSURD,
                ABSURD,
                round=attack.rounds,
                parts=1,
                ages=ages,
            )


def everything(attack: Attacker, step: int) -> None:
    """Sends rates and takes, then debts, then refunds, in turns of a second."""
    turn = step // 20 % 3
    if turn == 0:
        attack.taken += 10**4
        attack.round()
    elif turn == 1:
        debts(attack, step)
    elif step % 8 == 0:
        refunds(attack, step)


ATTACKS: dict[str, Callable[[Attacker, int], None]] = {
    "nothing": nothing,
    "absurd rates": rates,
    "absurd rates once, then silence": rates_and_silence,
    "takes at the limit": takes(RATE),
    "takes a hundred times the limit": takes(100 * RATE),
    "takes at the limit, then silence": takes_and_silence,
    "states no debts": debts,
    "refunds what was never charged": refunds,
    "raises columns of others": columns_of_others,
    "invents members that ask for everything": invented_members,
    "all of it in turns": everything,
}


@dataclass(frozen=True)
class Watched:
    """What the honest nodes admitted."""

    of_limit: float
    """What all nodes together admitted from the beginning on, divided by `C + r * t`."""
    least: float
    """What the worst served node admitted in the last SECONDS, divided by `min(its demand, r /
    members)`."""


def watch(attack: str, demand: str, seconds: float = SECONDS) -> Watched:
    mesh = mesh_of(HONEST)
    evil, bad = ATTACKS[attack], Attacker(mesh)
    asks = dict(zip(HONEST, DEMANDS[demand], strict=True))
    return measured(mesh, lambda step: evil(bad, step), asks, MEMBERS, seconds)


def mesh_of(honest: str) -> SimulatedMesh:
    """A mesh of honest nodes that have met."""
    mesh = SimulatedMesh(honest, [BucketSpec("api", CAPACITY, RATE)], latency=0.04, seed=3)
    mesh.advance(2.0)
    return mesh


def measured(
    mesh: SimulatedMesh,
    evil: Callable[[int], None],
    asks: dict[str, float],
    members: int,
    seconds: float,
) -> Watched:
    """What honest nodes that ask for these multiples of the refill rate admit while `evil` is
    called in each step of the attack. `members`: how many there are, bad ones too."""
    mesh.advance(1.0)
    owed = dict.fromkeys(asks, 0.0)
    total, got = 0, dict.fromkeys(asks, 0)
    before, steps = round(BURST / STEP), round((BURST + AFTER + seconds) / STEP)
    for step in range(steps):
        if step >= before:
            evil(step - before)
        for name, part in asks.items():
            owed[name] += part * RATE * STEP
            calls = int(owed[name])
            owed[name] -= calls
            passed = mesh[name].take_burst("api", "k", calls, 1) if calls else 0
            total += passed
            got[name] += passed if step * STEP >= BURST + AFTER else 0
        mesh.advance(STEP)
    fair = {name: min(part, 1 / members) * RATE * seconds for name, part in asks.items()}
    return Watched(
        total / (CAPACITY + RATE * steps * STEP), min(got[name] / fair[name] for name in asks)
    )


def table() -> Iterator[str]:
    """The rows of docs/security.md; each takes some ten seconds."""
    for attack in ATTACKS:
        seen = [watch(attack, demand) for demand in DEMANDS]
        cells = " | ".join(f"{one.of_limit:.2f} / {one.least:.2f}" for one in seen)
        yield f"| {attack} | {cells} |"


if __name__ == "__main__":
    import logging

    logging.getLogger("crdtbucket").addHandler(logging.NullHandler())
    for row in table():
        print(row, flush=True)
