"""What must hold at the end of a run of the demo, each with what was seen in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crdtbucket.demo.limit_figures import LimitFigures
from crdtbucket.demo.modes import ACTS, Followed

LEAST_RATIO = 0.9
"""Of what one bucket that sees every call admits. Real calls are large: one or two that come at
another moment make some per cent of a short run."""
MOST_STARVED_S = 3.0
"""Seconds for which a region that calls may get nothing."""


@dataclass(frozen=True)
class RunCheck:
    """One thing that must hold, with what was seen."""

    name: str
    holds: bool
    text: str


def modes_check(regions: Sequence[str], followed: Sequence[Followed]) -> RunCheck:
    """Every region came into the mode that each act leads to before the next one."""
    faults = [
        f"{name} {one.fault()}" for name, one in zip(regions, followed, strict=True) if one.fault()
    ]
    if faults:
        return RunCheck("modes", False, "; ".join(faults))
    seen = []
    for act in ACTS:
        delays = [one.delays[act.name] for one in followed]
        seen.append(f"{act.name} -> {act.mode} in {max(delays):.1f} s")
    return RunCheck("modes", True, f"{', '.join(seen)} at most")


def amount_check(admitted: int, ideal: int) -> RunCheck:
    """Enough was admitted."""
    ratio = admitted / ideal if ideal else 1.0
    text = f"{admitted:,}; one bucket that sees every call admits {ideal:,}: {100 * ratio:.1f} %"
    return RunCheck("admitted", ratio >= LEAST_RATIO, f"{text}, at least {100 * LEAST_RATIO:.0f} %")


def limit_check(name: str, limit: LimitFigures) -> RunCheck:
    """The limit was kept in a part of the run."""
    over = limit.over_admission_percent
    if over is None:
        return RunCheck(name, True, "nothing was admitted")
    seen = f"the worst window passed it by {over:.1f} % of the capacity"
    if over <= 0:
        seen = f"no window passed it; the nearest stayed {-over:.1f} % of the capacity below"
    return RunCheck(name, limit.holds, f"{seen}; the bound is {limit.bound_percent:.1f} %")


def tokens_check(
    reported: tuple[int, ...],
    columns: Sequence[tuple[int, ...] | None],
    records: Sequence[tuple[int, ...]] | None,
    strangers: Sequence[int],
    made: str,
) -> RunCheck:
    """Every token is counted once, by all. `records`: what each Redis holds of the regions,
    `strangers`: and of anybody else; `made`: what is wrong with the number of calls."""
    name = "no take lost" if records is None else "every token"
    if made:
        return RunCheck(name, False, made)
    own = " + ".join(f"{one:,}" for one in reported)
    if all(one == reported for one in (*columns, *(records or ()))) and not any(strangers):
        who = ", and all three hold just that"
        if records is not None:
            stores = "and Redis" if len(records) == 1 else f"and the Redis of all {len(records)}"
            who = f": so say the callers, all three nodes, {stores}"
        return RunCheck(name, True, f"{own} = {sum(reported):,}{who}")
    held = "; ".join("nothing" if one is None else str(list(one)) for one in columns)
    if records is None:
        return RunCheck(name, False, f"the processes took {own}, and hold {held}")
    kept = "; ".join(str([*one, more]) for one, more in zip(records, strangers, strict=True))
    text = f"the callers took {own}, the nodes hold {held}, Redis holds {kept}"
    return RunCheck(name, False, text)


def starvation_check(starved: dict[str, float]) -> RunCheck:
    """No region was denied for long."""
    worst = max(starved, key=starved.__getitem__)
    text = f"nobody was denied for longer than {starved[worst]:.1f} s on end ({worst})"
    return RunCheck(
        "no starvation", starved[worst] <= MOST_STARVED_S, f"{text}; at most {MOST_STARVED_S:g} s"
    )
