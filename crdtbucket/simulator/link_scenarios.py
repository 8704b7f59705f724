"""Scenarios of meshes that are connected, but in which not every two regions are linked."""

from __future__ import annotations

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import (
    Event,
    NamedFactory,
    Scenario,
    ScenarioFault,
    even,
    healed,
    joining,
)


def cut_links(name: str, title: str, load: float, *, both: bool) -> NamedFactory:
    """For two minutes nothing of the first region reaches the last one and, with `both`, nothing of
    the last reaches the first; all others are linked with both. With fewer than three regions
    nothing is cut, since nobody could relay."""
    if load < 1:
        name, title = f"{name}-light-{round(load * 100)}", f"{title}, light load {load} r"

    def make(s: Settings, scale: float) -> Scenario:
        first, last = 0, s.regions - 1
        ways = ((first, last), (last, first)) if both else ((first, last),)
        cut = healed(20 * scale, 140 * scale, ScenarioFault.CUT, ways=ways)
        events = cut if s.regions > 2 else ()
        seconds = 180 * scale
        return Scenario(name, title, round(seconds * NS), even(s, load), events, light=load < 1)

    return name, make


def late_frames(s: Settings, scale: float) -> Scenario:
    """All links hold what is sent for three seconds. Within six more seconds it arrives, each
    message a little less late than the one before."""
    stall = Event(
        round(20 * scale * NS), ScenarioFault.STALL,
        duration_ns=round(3 * scale * NS), drain_ns=round(6 * scale * NS),
    )  # fmt: skip
    title = f"messages held {3 * scale:g} s, and drained over {6 * scale:g} s"
    seconds = 60 * scale
    return Scenario("late-frames", title, round(seconds * NS), even(s, 2.0), (stall,))


def joiner_beside_dead(s: Settings, scale: float) -> Scenario:
    """The first region is killed for good, and a second later the last one joins."""
    last = s.regions - 1
    absent, joins = joining(last, 41 * scale)
    events = absent, Event(round(40 * scale * NS), ScenarioFault.CRASH, 0), joins
    return Scenario(
        "joiner-beside-dead", "one killed, one joins, light load 0.6 r", round(160 * scale * NS),
        even(s, 0.6), events if last else (), light=True,
    )  # fmt: skip


def joiner_beside_silent(s: Settings, scale: float) -> Scenario:
    """The first region asks for most of the limit and falls silent, as its host is gone. A minute
    later the last region joins, which keeps no credit for it, and asks for ten times the limit."""
    last, rate = s.regions - 1, s.rate_per_second
    silent, start = 20 * scale, 80 * scale

    def demand(t: float, node: int) -> float:
        if node == 0:
            return 0.6 * rate if t < silent else 0.0
        if node == last:
            return 10 * rate if t >= start + scale else 0.0
        return 0.05 * rate

    groups = (0,), tuple(range(1, s.regions))
    absent, joins = joining(last, start)
    events = absent, Event(round(silent * NS), ScenarioFault.PARTITION, groups=groups), joins
    return Scenario(
        "joiner-beside-silent", "one falls silent, a greedy one joins", round(120 * scale * NS),
        demand, events if last else (),
    )  # fmt: skip
