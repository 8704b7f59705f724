"""The texts that the demo prints: before the run, at each phase, and at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.demo_network import DELAY_S
from crdtbucket.demo.limit_figures import LINKED, PARTED
from crdtbucket.demo.modes import DEADLINE_S, PATIENCE, PER_REGION, SLOW_S, Switch
from crdtbucket.demo.traffic import BLOCK, BURST, CUT_REGION, LOAD, REGIONS, WEIGHTS, Traffic
from crdtbucket.demo.verdict import RunVerdict
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing.fault_proxy import HOST

BANNERS = {
    "normal": f"all regions linked; on average {LOAD:g} x the limit is offered",
    "burst": f"a burst: {BURST:g} times the traffic",
    "cut": f"region {CUT_REGION} is cut off; each side leaves the other its usual share",
    "healed": f"region {CUT_REGION} is back",
    "stalled": "the server of the others stands still for a second",
    "slow": f"Redis answers {2000 * SLOW_S:g} ms late: the regions go on in the mesh alone",
    "gone": "Redis is gone: each region gives out its own small share",
    "back": "Redis is back: what it missed is settled, then it decides again",
}

_DELAY = f"{1000 * DELAY_S:g} ms each way"
_LINKS = f"The links are delayed by {_DELAY}, as if the regions were far apart"

AFTER = """\
Next: `crdtbucket demo --seed 1` draws other traffic; `crdtbucket simulate` shows
what a partition of five minutes does, and other rules beside this one; README.md
has five lines of code to start."""

_NOTE_OF_A_CUT = """\
The limit: capacity + rate x time, in any window. The bound: what the best informed
region did not know of when it admitted."""
_NOTE_OF_ACTS = """\
Admitted: outside of fallback. The limit: capacity + rate x time, in any window that ends
in that mode; in fallback, in any window, the shares of all regions together. The bound:
what neither the region that admitted nor, in strong mode, Redis knew of."""


def title(spec: BucketSpec, redis: str | None = None) -> str:
    """Says what the demo shows, and how to read it. `redis`: as in the demo's options."""
    shares = ", ".join(f"{name} {w:.0%}" for name, w in zip(REGIONS, WEIGHTS, strict=True))
    rate = spec.rate_per_second
    course = f"""\
decides in its own memory; they only tell each other what they took. Watch a
burst, and then region {CUT_REGION} cut off for some seconds."""
    if redis == PER_REGION:
        course = f"""\
asks the Redis of its own region, and each Redis is replicated to the others.
Watch a burst, and then region {CUT_REGION} cut off for some seconds: its process, and
the replication of its Redis."""
    elif redis is not None:
        course = """\
asks one Redis, and tells the others what it took. Watch a burst, and then Redis
grow slow, go away, and come back."""
    return f"""\
crdtbucket demo: one limit, three regions

Three processes share a bucket of {spec.capacity:,} tokens, refilled {rate:,.0f} a second. Each
{course}

Traffic: calls of a real LLM service, {shares}. A token of the
bucket pays for a block of {BLOCK} tokens of the model.
How to read it: rates are tokens in the last second. `lag`, where it is shown, is the
age in seconds of the oldest take of another region that this one did not know of."""


def setting(file_mode: str, mode: str) -> str:
    """Says in which mode the regions run, and why."""
    text = f"{_LINKS}."
    if file_mode != mode:
        text += (
            f"\nThe demo's configuration file asks for {file_mode} consistency, by a Redis. There"
            f"\nis none in this run (--redis auto starts one): the regions run in {mode} mode."
        )
    return text


def nats_setting() -> str:
    """Says how the regions are linked."""
    return f"""\
The regions meet at NATS: region {CUT_REGION} at a server of its own, the others at a second
one. The gateway between the two clusters is delayed by {_DELAY}, and it is what is
cut. Some time after that the server of the others stands still for a second."""


def redis_setting(program: str | None) -> str:
    """Which Redis the regions use, and how patient they are with it."""
    limit_ms = 1000 * PATIENCE["latency_limit"]
    stable, gap = PATIENCE["stable_after"], PATIENCE["least_return_gap"]
    at = "the Redis at the URL" if program is None else f"a {program} of this run's own"
    return f"""\
{_LINKS}. Strong
consistency, as the configuration asks for it, by {at}.
By default the third switch of mode would wait for a minute after the first. So here answers over
{limit_ms:g} ms are slow, a decision waits {1000 * DEADLINE_S:g} ms at most, and Redis decides again
{stable:g} s after it is back, at the earliest {gap:g} s after it was left."""


def regions_setting(program: str) -> str:
    """Says which servers the regions use."""
    return f"""\
{_LINKS}, and so are
copies from one Redis to another. Strong consistency, as the configuration asks for it, by a
{program} of this run's own in each region. The demo itself copies their keys, as an
Active-Active Redis does."""


def console_of(port: int) -> str:
    """The address of a console."""
    return f"http://{HOST}:{port}/console"


def consoles(ports: dict[str, int]) -> str:
    """Says at which address each region has its console."""
    places = ", ".join(f"{name} {console_of(port)}" for name, port in ports.items())
    return f"Open in a browser, before the cut: {places}"


def switch_line(switch: Switch, start_ns: int) -> str:
    """One change of mode, with its time and its reason."""
    at = (switch.at_ns - start_ns) / NS_PER_SECOND
    return (
        f"{at:5.1f}s {REGIONS[switch.region]}: {switch.before} -> {switch.after}: {switch.reason}"
    )


def source(traffic: Traffic, name: str) -> str:
    """Says which calls are made, and what was done to the trace."""
    text = (
        f"{len(traffic.calls):,} calls from {name}, {traffic.speed:.3g} x as fast as they happened"
    )
    if traffic.rounds > 1:
        text += f"; it is short, so it begins again: {traffic.rounds} rounds"
    if traffic.too_large:
        text += f"; {traffic.too_large} more cost above the capacity and are left out"
    return text + "."


def verdict_lines(verdict: RunVerdict) -> Iterator[tuple[str, bool | None]]:
    """Lines for people; with each whether its check holds, None for plain words."""
    yield "", None
    yield f"Verdict: of {verdict.offered:,} tokens offered", None
    width = max(len(check.name) for check in verdict.checks)
    for check in verdict.checks:
        kept = "ok  " if check.holds else "FAIL"
        yield f"  {kept}  {check.name:{width}}  {check.text}", check.holds
    for line in (_NOTE_OF_ACTS if verdict.followed else _NOTE_OF_A_CUT).splitlines():
        yield line, None
    did = "kept" if verdict.holds else "did not keep"
    yield f"The regions {did} one limit.", verdict.holds


def as_dict(verdict: RunVerdict, seed: int, traffic: Traffic) -> dict[str, Any]:
    """The verdict for programs. Percentages are of the capacity."""
    return {
        "holds": verdict.holds,
        "seed": seed,
        "calls": len(traffic.calls),
        "too_large": traffic.too_large,
        "offered": verdict.offered,
        "admitted": verdict.admitted,
        "ideal": verdict.ideal,
        "ratio": verdict.ratio,
        **_figures(verdict),
        "starved_seconds": verdict.starved_seconds,
        "taken": dict(zip(REGIONS, verdict.reported, strict=True)),
        "checks": {check.name: check.holds for check in verdict.checks},
    }


def _figures(verdict: RunVerdict) -> dict[str, Any]:
    recorded = [dict(zip(REGIONS, one, strict=True)) for one in verdict.records or []]
    if not verdict.followed:
        figures: dict[str, Any] = {
            f"{figure}{part}": getattr(verdict.limits[name], figure)
            for name, part in ((LINKED, ""), (PARTED, "_cut"))
            for figure in ("over_admission_percent", "bound_percent")
        }
        if recorded:
            figures["recorded"] = dict(zip(REGIONS, recorded, strict=True))
        return figures
    return {
        "limits": {name: asdict(limit) for name, limit in verdict.limits.items()},
        "recorded": recorded[0],
        "modes": {
            name: {"path": followed.path, "delay_seconds": followed.delays}
            for name, followed in zip(REGIONS, verdict.followed, strict=True)
        },
    }
