"""Generated histories, and the register of properties that are checked on them.

A check gets the factory of the node under test, the number of nodes, and what its strategy drew.
`PROPERTIES` lists them by name; `hold` runs one, so that planted bugs meet the very same checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from .world import MILLISECOND, PLAIN, SECOND, UNEVEN, Factory, Step

Check = Callable[..., None]
PROPERTIES: dict[str, tuple[Check, dict[str, st.SearchStrategy[Any]]]] = {}


def prop(**drawn: st.SearchStrategy[Any]) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        PROPERTIES[check.__name__] = (check, drawn)
        return check

    return register


def hold(name: str, factory: Factory, size: int, profile: settings | None = None) -> None:
    """Checks one property. Raises the assertion of the smallest counterexample, if there is one."""
    check, drawn = PROPERTIES[name]

    def case(**values: Any) -> None:
        check(factory, size, **values)

    case.__name__ = case.__qualname__ = f"{name}_{size}"
    run = given(**drawn)(case)
    (run if profile is None else profile(run))()


# --- histories ---
NODE = st.integers(0, 4)
GAPS = st.sampled_from([MILLISECOND, 100 * MILLISECOND, 500 * MILLISECOND, 2 * SECOND])
STEPS: dict[str, st.SearchStrategy[Step]] = {
    "take": st.tuples(st.just("take"), NODE, st.sampled_from([1, 20, 60])),
    "advance": st.tuples(st.just("advance"), GAPS),
    "send": st.tuples(st.just("send"), NODE),
    "deliver": st.tuples(st.just("deliver"), st.integers(0, 10), NODE, st.booleans()),
    "push": st.tuples(st.just("push"), NODE, NODE),
    "sync": st.just(("sync",)),
    "far": st.tuples(st.just("far"), NODE, st.sampled_from([0, 1, 20, 60, 100, 200])),
    "refund": st.tuples(st.just("refund"), st.integers(0, 3)),
    "settle": st.tuples(st.just("settle"), NODE, st.sampled_from([1, 60, 250])),
    "evict": st.tuples(st.just("evict"), NODE),
    "restart": st.tuples(st.just("restart"), NODE),
    "snapshot": st.tuples(st.just("snapshot"), st.just(0)),
    "restore": st.tuples(st.just("restore"), st.just(0)),
    "prune": st.tuples(st.just("prune"), NODE, st.integers(0, 3)),
}
TALK = ("take", "advance", "send", "deliver", "push", "sync")


def histories(*more: str, longest: int = 28) -> st.SearchStrategy[list[Step]]:
    """Histories: short ones, which shrink well, and long ones, which reach further."""
    step = st.one_of(*(STEPS[kind] for kind in (*TALK, *more)))
    return st.one_of(
        st.lists(step, max_size=longest), st.lists(step, min_size=longest // 2, max_size=longest)
    )


DEFINITIONS = st.sampled_from([PLAIN, UNEVEN])
DRIFTS = st.one_of(
    st.just([0]), st.lists(st.sampled_from([-500, 0, 200, 500]), min_size=5, max_size=5)
)
