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
from tests.bad_member import BadMember

CAPACITY, RATE = 100, 20
HONEST, MEMBERS = "ABCD", 5
STEP = 0.05
BURST, AFTER, SECONDS = 15.0, 30.0, 160.0
"""Seconds before the attack begins; until the honest debts of that time are over; and for how long
is measured after that."""
ABSURD = (0xFFFF, 0xFFFF)

DEMANDS = {
    "twice the limit": (0.5, 0.5, 0.5, 0.5),
    "a fifth each": (0.2, 0.2, 0.2, 0.2),
    "one asks for twice the limit": (2.0, 0.2, 0.1, 0.05),
}
"""The demand of each honest node, as a multiple of the refill rate."""


class Attack:
    """The attack of the bad member on one key."""

    def __init__(self, mesh: SimulatedMesh) -> None:
        self.bad = BadMember(mesh)
        self.bad.link(*HONEST)
        self.mesh = mesh
        self.key = mesh["A"].bucket("api").hash("k")
        self.taken = 0
        self.refunded = 0
        self.rounds = 0

    def own(self) -> tuple[str, int, int, int, int]:
        return (self.bad.name, self.bad.epoch, 1, self.taken, self.refunded)

    def round(self, debt_ns: int = 1, rates: tuple[int, int] | None = ABSURD) -> None:
        """Sends a complete round to each node, with its own column."""
        self.rounds += 1
        for name in HONEST:
            self.bad.state(name, self.key, debt_ns, [self.own()], rates, round=self.rounds, parts=1)


def nothing(attack: Attack, step: int) -> None:
    if step % 2 == 0:
        attack.round(rates=(0, 0))


def rates(attack: Attack, step: int) -> None:
    """Sends absurd rates in rounds that come rarely, so that much is held back for it."""
    if step % 8 == 0:
        attack.round()


def rates_and_silence(attack: Attack, step: int) -> None:
    """Sends absurd rates once, and then its link ends."""
    if step == 0:
        attack.taken = 1
        attack.round()
        for name in HONEST:
            attack.mesh[name].node.disconnected(attack.bad.name, attack.bad.local(name))


def takes(per_second: float) -> Callable[[Attack, int], None]:
    def evil(attack: Attack, step: int) -> None:
        attack.taken = round(per_second * (step + 1) * STEP)
        if step % 2 == 0:
            attack.round(debt_ns=10**12)

    return evil


def takes_and_silence(attack: Attack, step: int) -> None:
    """Takes as an honest node might in overload, and then its link ends."""
    attack.taken = round(RATE * (min(step, 200) + 1) * STEP)
    if step <= 200 and step % 2 == 0:
        attack.round(debt_ns=10**12)
    if step == 200:
        for name in HONEST:
            attack.mesh[name].node.disconnected(attack.bad.name, attack.bad.local(name))


def debts(attack: Attack, step: int) -> None:
    """Sends all columns that it has received, and no debt."""
    for name in HONEST:
        if attack.bad.columns(attack.key):
            attack.bad.state(name, attack.key, 1, attack.bad.columns(attack.key))


def refunds(attack: Attack, step: int) -> None:
    for refunded in (attack.taken, attack.taken + 10**6):
        attack.taken, attack.refunded = attack.taken + 10**6, refunded
        attack.round(debt_ns=10**12)


def columns_of_others(attack: Attack, step: int) -> None:
    """Sends the columns of the honest nodes, which rise without end."""
    listed = [
        (owner, epoch, generation, taken + 50 * step, refunded)
        for owner, epoch, generation, taken, refunded in attack.bad.columns(attack.key)
    ]
    for name in HONEST:
        shown = [row for row in listed if row[0] != name]
        if shown:
            attack.bad.state(name, attack.key, 10**12, shown, ABSURD)


def invented_members(attack: Attack, step: int) -> None:
    """Sends forty members that it alone sees, which ask for everything and take a part of the limit
    each."""
    taken = round(RATE * (step + 1) * STEP / 40)
    invented = [(f"x{i:02}", attack.bad.epoch + 1 + i, 1, taken, 0) for i in range(40)]
    ages = tuple((epoch, 0) for _, epoch, *_ in invented)
    if step % 4 == 0:
        attack.rounds += 1
        for name in HONEST:
            attack.bad.state(
                name,
                attack.key,
                10**12,
                [attack.own(), *invented],
                ABSURD,
                ABSURD,
                round=attack.rounds,
                parts=1,
                ages=ages,
            )


def everything(attack: Attack, step: int) -> None:
    """Sends rates and takes, then debts, then refunds, in turns of a second."""
    turn = step // 20 % 3
    if turn == 0:
        attack.taken += 10**4
        attack.round(debt_ns=10**12)
    elif turn == 1:
        debts(attack, step)
    elif step % 8 == 0:
        refunds(attack, step)


ATTACKS: dict[str, Callable[[Attack, int], None]] = {
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
    mesh = SimulatedMesh(HONEST, [BucketSpec("api", CAPACITY, RATE)], latency=0.04, seed=3)
    mesh.advance(2.0)
    evil, at_work = ATTACKS[attack], Attack(mesh)
    mesh.advance(1.0)
    asks = dict(zip(HONEST, DEMANDS[demand], strict=True))
    owed = dict.fromkeys(HONEST, 0.0)
    total, got = 0, dict.fromkeys(HONEST, 0)
    before, steps = round(BURST / STEP), round((BURST + AFTER + seconds) / STEP)
    for step in range(steps):
        if step >= before:
            evil(at_work, step - before)
        for name, part in asks.items():
            owed[name] += part * RATE * STEP
            calls = int(owed[name])
            owed[name] -= calls
            passed = mesh[name].take_burst("api", "k", calls, 1) if calls else 0
            total += passed
            got[name] += passed if step * STEP >= BURST + AFTER else 0
        mesh.advance(STEP)
    fair = {name: min(part, 1 / MEMBERS) * RATE * seconds for name, part in asks.items()}
    return Watched(
        total / (CAPACITY + RATE * steps * STEP), min(got[name] / fair[name] for name in HONEST)
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
