"""A property soon fails when a rule that it needs is switched off.

The histories are drawn with seeds from 0 on, of operations that concern the rule. Rules that need a
story (torn copies, clocks that are set back, refunds, other definitions) have it in
`test_traces.py`, and those of predictions in `test_prediction.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.strong.replicated.region_model import Rules
from tests.strong.replicated.regions import HOUR
from tests.strong.replicated.test_properties import charges_no_history, is_never_above

SEEDS = 100
Draw = Callable[[random.Random], tuple[Any, ...]]
Property = Callable[[Any, Any, Rules], None]


def take(dice: random.Random) -> tuple[Any, ...]:
    return "take", dice.randrange(4), dice.randint(1, 9)


def take_in_a(dice: random.Random) -> tuple[Any, ...]:
    return "take", dice.randrange(2), dice.randint(1, 9)


def copy(dice: random.Random) -> tuple[Any, ...]:
    return "copy", *dice.sample(range(3), 2), -1


def look(dice: random.Random) -> tuple[Any, ...]:
    return "look", dice.randrange(3)


def flush(dice: random.Random) -> tuple[Any, ...]:
    return "flush", 0, True


def old_fields(dice: random.Random) -> tuple[Any, ...]:
    return "mix", 0, -dice.randint(2, 4)


def lose_all(dice: random.Random) -> tuple[Any, ...]:
    return ("lose_all",)


RULES: list[tuple[str, bool, Property, tuple[Draw, ...]]] = [
    ("adopts", False, charges_no_history, (take, take, copy, look, flush)),
    ("ages", False, charges_no_history, (copy, look, flush)),
    ("ages_by_own_clock", True, is_never_above, (take, copy, look)),
    ("looks_at_generations", False, is_never_above, (take_in_a, take_in_a, flush, old_fields)),
    ("writes_bases", False, charges_no_history, (take, take, take, lose_all)),
]


def fails(seed: int, holds: Property, draws: tuple[Draw, ...], rules: Rules) -> bool:
    """Whether the property fails in this history."""
    dice = random.Random(seed)
    clocks = [dice.randint(-HOUR, HOUR) for _ in range(3)]
    history = [dice.choice(draws)(dice) for _ in range(dice.randint(4, 16))]
    try:
        holds(history, clocks, rules)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(("rule", "value", "holds", "draws"), RULES, ids=[r[0] for r in RULES])
def test_a_property_fails_without_the_rule(
    rule: str, value: bool, holds: Property, draws: tuple[Draw, ...]
) -> None:
    off = Rules(**{rule: value})
    found = next((seed for seed in range(SEEDS) if fails(seed, holds, draws, off)), None)
    assert found is not None
    assert not fails(found, holds, draws, Rules())
