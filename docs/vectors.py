"""Writes docs/vectors/merge.json: what every implementation of the merge must compute.

    python docs/vectors.py [--check]

A case is one key as two holders have it, and the same key after one has merged what the other
sent. The rules (docs/model.md) are written here once more, in whole tokens: the core in C, the
script in Lua and `crdtbucket reconcile` in Python are held against the file, and so may be an
implementation in any other language.

Where `level` is false, columns are new to the holder or of another generation. What such a column
is worth depends on refill, of which it says nothing, so only the merged columns stand there.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

PATH = Path(__file__).parent / "vectors/merge.json"
VERSION = 1
CASES = 200
CAPACITY, MAX_DEBT = 1_000, 500
OWNERS = [f"{epoch:016x}:{node}" for epoch, node in enumerate("aabbcc", 1)]
Column = tuple[int, int, int]
Holder = tuple[int, dict[str, Column]]
"""Tokens of debt, and columns (generation, taken, refunded) by owner."""


def net(column: Column) -> int:
    """Tokens that a column says were consumed."""
    return column[1] - column[2]


def merged_column(one: Column, other: Column | None) -> Column:
    """The higher generation wins whole; within one generation each count is the larger one."""
    if other is None or one[0] > other[0]:
        return one
    if other[0] > one[0]:
        return other
    return one[0], max(one[1], other[1]), max(one[2], other[2])


def gain(columns: dict[str, Column], known: dict[str, Column]) -> int:
    """Consumed tokens in columns that a holder of `known` has not counted."""
    return sum(net(column) - net(known.get(owner, (0, 0, 0))) for owner, column in columns.items())


def merge(held: Holder, sent: Holder) -> Holder:
    """The level is the lower one of two that both cover every column: what is owed here and what
    the message brings, or what the message owes and what it lacks."""
    columns = dict(held[1])
    for owner, column in sent[1].items():
        columns[owner] = merged_column(column, held[1].get(owner))
    debts = [debt + gain(columns, known) for debt, known in (held, sent)]
    return min(max(min(debts), 0), CAPACITY + MAX_DEBT), columns


def drawn(dice: random.Random, owners: list[str], base: dict[str, Column], other: bool) -> Holder:
    """A holder of some columns, that has counted more or less of some of `base`; refill has paid a
    part of what it knows to be consumed. `other`: columns may be of other generations."""
    columns = {}
    for owner in owners:
        generation, taken, refunded = base.get(owner, (dice.randint(1, 3), 1, 0))
        generation = max(1, generation + (dice.choice((-1, 0, 1)) if other else 0))
        taken = dice.choice((taken, taken + dice.randint(1, 5), dice.randint(1, 300)))
        refunded = dice.choice((min(refunded, taken), dice.randint(0, taken)))
        columns[owner] = generation, taken, refunded
    owed = max(0, sum(map(net, columns.values())))
    return min(dice.choice((owed, dice.randint(0, owed), 0)), CAPACITY + MAX_DEBT), columns


def document() -> str:
    """The file, the same for every run."""
    dice = random.Random(20_261)
    cases = []
    for number in range(CASES):
        generations = number % 2 == 1
        held = drawn(dice, dice.sample(OWNERS, dice.randint(1, 5)), {}, False)
        known = dice.sample(sorted(held[1]), dice.randint(1, len(held[1])))
        more = dice.sample(OWNERS, 2) if generations else []
        sent = drawn(dice, sorted({*known, *more}), held[1], generations)
        merged = merge(held, sent)
        case: dict[str, object] = {"level": not generations}
        for name, (debt, columns) in (("held", held), ("sent", sent), ("merged", merged)):
            case[name] = {"debt": debt, "columns": dict(sorted(columns.items()))}
        cases.append(case)
    head = {
        "version": VERSION,
        "capacity": CAPACITY,
        "max_debt": MAX_DEBT,
        "units": "tokens; a column is [generation, taken, refunded], its owner is epoch:node",
    }
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    return json.dumps(head)[:-1] + ', "cases": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PATH.read_text() == document() else f"{PATH} is not what this command writes")
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(document())
