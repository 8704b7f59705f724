"""Scenarios for a store that is replicated between regions: replication is cut, demand moves.

`apart` means that no region receives copies of any other. The same demand runs for 20 s before the
cut and for 30 s after the heal, unless the scenario says that it moves.
"""

from __future__ import annotations

from collections.abc import Callable

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import (
    Demand,
    Event,
    Factory,
    NamedFactory,
    Scenario,
    ScenarioFault,
    even,
    healed,
    shared,
    skewed_shares,
)
from crdtbucket.simulator.scenario_catalogue import SCENARIOS, drifting, one_alone

_BEFORE, _AFTER = 20.0, 30.0
_BURST, _BURST_SECONDS = 8.0, 3.0
_OVERTAKEN_S = 0.5

Shape = Callable[[Settings, float, float], Demand]
"""(settings, when the cut begins, when it heals; seconds) -> demand."""


def _even(load: float) -> Shape:
    return lambda s, _cut, _heal: even(s, load)


def _skewed(s: Settings, _cut: float, _heal: float) -> Demand:
    return shared(s, 2.0, skewed_shares(s.regions))


def _two(s: Settings, first: float, second: float) -> Demand:
    """2x: the first two regions have these shares, and no other region has any."""
    return shared(s, 2.0, (first, second) + (0.0,) * s.regions)


def _rare(s: Settings, _cut: float, _heal: float) -> Demand:
    return _two(s, 0.99, 0.01)


def _moving(share: float) -> Shape:
    """The first region has this share of 2x; in the middle of the cut the second one gets it."""

    def shape(s: Settings, cut: float, heal: float) -> Demand:
        before, after = _two(s, share, 1.0 - share), _two(s, 1.0 - share, share)
        return lambda t, node: (before if t < (cut + heal) / 2 else after)(t, node)

    return shape


def _burst(s: Settings, _cut: float, heal: float) -> Demand:
    each, high = 0.5 * s.rate_per_second / s.regions, _BURST * s.rate_per_second

    def demand(t: float, node: int) -> float:
        return high if node == 0 and heal - _BURST_SECONDS <= t < heal else each

    return demand


def _cut(kind: str, s: Settings, cut: float, heal: float) -> tuple[Event, ...]:
    last = s.regions - 1
    if kind == "pair":
        return healed(cut, heal, ScenarioFault.CUT, ways=((0, last), (last, 0)))
    groups = one_alone(s.regions) if kind == "alone" else tuple((n,) for n in range(s.regions))
    return healed(cut, heal, ScenarioFault.PARTITION, groups=groups)


def _apart(
    name: str,
    title: str,
    shape: Shape,
    *,
    seconds: float = 60.0,
    kind: str = "apart",
    light: bool = False,
    overtaken: bool = False,
) -> NamedFactory:
    def make(s: Settings, scale: float) -> Scenario:
        cut, heal = _BEFORE * scale, (_BEFORE + seconds) * scale
        events = _cut(kind, s, cut, heal) if s.regions > 1 else ()
        end = round((_BEFORE + seconds + _AFTER) * scale * NS)
        late_ns = round(_OVERTAKEN_S * NS) if overtaken else 0
        demand = shape(s, cut, heal)
        return Scenario(name, title, end, demand, events, light=light, keys_late_ns=late_ns)

    return name, make


STORE_SCENARIOS: dict[str, Factory] = dict((
    *((name, SCENARIOS[name]) for name in ("balanced", "hot", "skewed", "cold-20x")),
    _apart("apart-60s", "no replication for 60 s, 2x", _even(2.0)),
    _apart("apart-60s-skewed", "the same, skewed", _skewed),
    _apart("apart-60s-rare", "the same, .99 and .01 of it", _rare),
    _apart("apart-60s-light-50", "the same, light load 0.5 r", _even(0.5), light=True),
    _apart("apart-60s-light-90", "the same, light load 0.9 r", _even(0.9), light=True),
    _apart("apart-60s-overtaken", "the same, 0.9 r, beats 0.5 s before keys at the heal",
           _even(0.9), light=True, overtaken=True),
    _apart("apart-60s-pair", "one pair cut for 60 s, 2x", _even(2.0), kind="pair"),
    _apart("apart-60s-pair-light-90", "the same, light load 0.9 r", _even(0.9), kind="pair",
           light=True),
    _apart("apart-60s-alone", "one region alone for 60 s, skewed 2x", _skewed, kind="alone"),
    _apart("apart-60s-burst", "no replication for 60 s, 8x in one region before the heal", _burst),
    _apart("apart-60s-moving", "the same, 0.9 of 2x moves to the second region", _moving(0.9)),
    _apart("apart-60s-moved", "the same, all of 2x moves to the second region", _moving(1.0)),
    _apart("apart-300s", "no replication for 300 s, 2x", _even(2.0), seconds=300.0),
    _apart("apart-300s-skewed", "the same, skewed", _skewed, seconds=300.0),
    drifting("store-clocks", "members' clocks drift +-200 ppm, 2x", 900),
))  # fmt: skip
"""The scenarios that `crdtbucket simulate --store replicated` knows, for any number of regions."""
ALL_SCENARIOS = {**SCENARIOS, **STORE_SCENARIOS}
