"""Options that several commands share, and the settings they stand for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from crdtbucket.simulator.rule_catalogue import COMPARED, RULES, check_rules
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.spec.bucket_spec import BucketSpec, canonical_name

F = TypeVar("F", bound=Callable[..., Any])

CAPACITY, RATE = 10_000, 2_000


class FiniteRange(click.FloatRange):
    """Numbers of a range; not-a-number is in none, though no comparison says so."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def mesh_options(command: F) -> F:
    """Regions, network, bucket, rules, seeds, processes and the form of the output."""
    for option in reversed(
        (
            click.option("--regions", type=click.IntRange(1, 64), default=5, show_default=True),
            click.option(
                "--lag", type=FiniteRange(0, 60), default=0.08, show_default=True,
                help="One-way delay between regions, seconds.",
            ),
            click.option(
                "--jitter", type=FiniteRange(0, 1), default=0.5, show_default=True,
                help="Fraction by which a message may be earlier or later.",
            ),
            click.option(
                "--gossip", type=FiniteRange(0.01, 10), default=0.1, show_default=True,
                help="Interval of the rounds, seconds.",
            ),
            click.option(
                "--capacity", type=click.IntRange(1), default=None,
                help=f"Tokens in a full bucket [default: {CAPACITY}].",
            ),
            click.option(
                "--rate", type=click.IntRange(1), default=None,
                help=f"Tokens refilled each second [default: {RATE}].",
            ),
            click.option(
                "--config", type=click.Path(exists=True, dir_okay=False), default=None,
                help="Take the bucket from this configuration file.",
            ),
            click.option("--bucket", default=None, help="Which bucket of the file."),
            click.option(
                "--rules", default=None, show_default=",".join(COMPARED),
                help="Rules to compare, separated by commas.",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="First seed."),
            click.option(
                "--seeds", type=click.IntRange(1), default=1, show_default=True,
                help="How many seeds, one after the other.",
            ),
            click.option(
                "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1,
                help="Processes that share the work [default: one a processor].",
            ),
            click.option("--json", "json_", is_flag=True, help="Print JSON instead of a table."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def settings_of(
    regions: int, lag: float, jitter: float, gossip: float, spec: BucketSpec, seed: int
) -> Settings:
    """The settings that the options stand for."""
    return Settings.of_bucket(
        spec, regions=regions, lag_ns=round(lag * NS), jitter=jitter,
        gossip_ns=round(gossip * NS), seed=seed,
    )  # fmt: skip


def rules_of(text: str | None, default: tuple[str, ...] = COMPARED) -> tuple[str, ...]:
    """Names of rules, from text with commas."""
    if text is None:
        return default
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise SimulationError(f"--rules names none of {', '.join(RULES)}")
    return check_rules(names)


def bucket_of(
    config: str | None, bucket: str | None, capacity: int | None, rate: int | None
) -> BucketSpec:
    """The bucket by options or out of a file. `--capacity` and `--rate` overrule the file."""
    if config is None:
        if bucket is not None:
            raise SimulationError("--bucket names a bucket of a file: give --config as well")
        return BucketSpec("simulated", capacity or CAPACITY, rate or RATE)
    spec = _bucket_in_file(config, bucket)
    if capacity is None and rate is None:
        return spec
    return BucketSpec(
        spec.name,
        capacity or spec.capacity,
        rate or spec.refill_rate,
        "1s" if rate else spec.refill_interval,
    )


def _bucket_in_file(path: str, name: str | None) -> BucketSpec:
    from crdtbucket.config import load_config

    specs = load_config(path).buckets
    if not specs:
        raise SimulationError(f"{path}: no bucket is defined")
    names = ", ".join(spec.name for spec in specs)
    if name is None:
        if len(specs) > 1:
            raise SimulationError(f"{path} has several buckets, choose with --bucket: {names}")
        return specs[0]
    for spec in specs:
        if canonical_name(spec.name) == canonical_name(name):
            return spec
    raise SimulationError(f"{path} has no bucket {name!r}; there are: {names}")
