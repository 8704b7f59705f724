"""What the demo says in words: before, at each phase, and at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtbucket.demo.traffic import BLOCK, BURST, CUT_REGION, LOAD, REGIONS, WEIGHTS, Traffic
from crdtbucket.demo.verdict import Verdict
from crdtbucket.policy import BucketSpec

BANNERS = {
    "normal": f"all regions linked; on average {LOAD:g} x the limit is offered",
    "burst": f"a burst: {BURST:g} times the traffic",
    "cut": f"{CUT_REGION} is cut off; each side goes on leaving the other its usual share",
    "healed": f"{CUT_REGION} is back",
}

AFTER = """\
Next: `crdtbucket demo --seed 1` draws other traffic; `crdtbucket simulate` shows what a partition
of five minutes does, and other rules beside this one; README.md has ten lines of code to start."""


def title(spec: BucketSpec) -> str:
    """What is about to be seen, and how to read it."""
    shares = ", ".join(f"{name} {w:.0%}" for name, w in zip(REGIONS, WEIGHTS, strict=True))
    rate = spec.rate_per_second
    return f"""\
crdtbucket demo: one limit, three regions

Three processes share a bucket of {spec.capacity:,} tokens, refilled {rate:,.0f} a second. Each
decides in its own memory; they only tell each other what they took. Watch a burst, and then
{CUT_REGION} cut off for some seconds.

Traffic: calls of a real LLM service, {shares}. A token of the bucket pays for a
block of {BLOCK} tokens of the model.
How to read it: rates are tokens in the last second. `lag` is the age in seconds of the oldest take
of another region that this one had not heard of; `peers` are those heard within a second."""


def setting(file_mode: str, mode: str, delay_ms: float) -> str:
    """In which mode the regions run, and why."""
    text = f"The links are delayed by {delay_ms:g} ms each way, as if the regions were far apart."
    if file_mode != mode:
        text += (
            f"\nThe configuration asks for {file_mode} consistency over Redis. The demo has no"
            f"\nRedis: the regions run in {mode} mode."
        )
    return text


def source(traffic: Traffic, name: str) -> str:
    """What was done to the trace."""
    text = (
        f"{len(traffic.calls):,} calls from {name}, {traffic.speed:.3g} x as fast as they happened"
    )
    if traffic.rounds > 1:
        text += f"; it is short, so it begins again: {traffic.rounds} rounds"
    if traffic.too_large:
        text += f"; {traffic.too_large} more cost above the capacity and are left out"
    return text + "."


def verdict_lines(verdict: Verdict) -> Iterator[tuple[str, bool | None]]:
    """Lines for people; with each whether its check holds, None for plain words."""
    yield "", None
    yield f"Verdict: of {verdict.offered:,} tokens offered", None
    width = max(len(check.name) for check in verdict.checks)
    for check in verdict.checks:
        yield (
            f"  {'ok  ' if check.holds else 'FAIL'}  {check.name:{width}}  {check.text}",
            check.holds,
        )
    yield (
        "The limit: capacity + rate x time, in any window. The bound: what the best informed",
        None,
    )
    yield "region had not heard of when it admitted.", None
    if verdict.holds:
        yield "The regions kept one limit.", True
    else:
        yield "The regions did not keep one limit.", False


def as_dict(verdict: Verdict, seed: int, traffic: Traffic) -> dict[str, Any]:
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
        "excess_percent": verdict.linked.excess_percent,
        "bound_percent": verdict.linked.bound_percent,
        "excess_percent_cut": verdict.parted.excess_percent,
        "bound_percent_cut": verdict.parted.bound_percent,
        "dark_seconds": verdict.dark_seconds,
        "taken": dict(zip(REGIONS, verdict.told, strict=True)),
        "checks": {check.name: check.holds for check in verdict.checks},
    }


__all__ = ["AFTER", "BANNERS", "as_dict", "setting", "source", "title", "verdict_lines"]
