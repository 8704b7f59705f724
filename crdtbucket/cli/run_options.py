"""The options of the commands that simulate, and the settings that are made of them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import click

from crdtbucket.cli.options import FiniteRange, gathered, with_options
from crdtbucket.simulator.rule_catalogue import COMPARED, RULES, check_rules
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import canonical_name

CAPACITY, RATE = 10_000, 2_000


@dataclass(frozen=True)
class RunOptions:
    """The values of the options of `mesh_options`."""

    regions: int
    lag: float
    jitter: float
    gossip: float
    capacity: int | None
    rate: int | None
    config: str | None
    bucket: str | None
    rules: str | None
    seed: int
    seeds: int
    jobs: int
    json_: bool

    def settings(self) -> list[Settings]:
        """The settings of the simulation, one for each seed."""
        spec = self._spec()
        return [
            Settings.of_bucket(
                spec,
                regions=self.regions,
                lag_ns=round(self.lag * NS),
                jitter=self.jitter,
                gossip_ns=round(self.gossip * NS),
                seed=self.seed + k,
            )
            for k in range(self.seeds)
        ]

    def chosen(self, default: tuple[str, ...] = COMPARED) -> tuple[str, ...]:
        """The names of the rules."""
        if self.rules is None:
            return default
        names = [name.strip() for name in self.rules.split(",") if name.strip()]
        if not names:
            raise SimulationError(f"--rules names none of {', '.join(RULES)}")
        return check_rules(names)

    def _spec(self) -> BucketSpec:
        # `--capacity` and `--rate` overrule the file.
        if self.config is None:
            if self.bucket is not None:
                raise SimulationError("--bucket names a bucket of a file: give --config as well")
            return BucketSpec("simulated", self.capacity or CAPACITY, self.rate or RATE)
        spec = _bucket_in_file(self.config, self.bucket)
        if spec.slots is not None or spec.period is not None:
            kind = "calendar" if spec.slots is None else "concurrency"
            raise SimulationError(
                f"{self.config}: bucket {spec.name} is of kind {kind}: only buckets of tokens that "
                "refill are simulated, choose one with --bucket"
            )
        return BucketSpec(
            spec.name,
            self.capacity or spec.capacity,
            self.rate or spec.refill_rate,
            "1s" if self.rate else spec.refill_interval,
            max_debt=None if spec.max_debt == spec.capacity else spec.max_debt,
        )


mesh_options = with_options(
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
    gathered(RunOptions, "runs"),
)  # fmt: skip
"""Regions, network, bucket, rules, seeds, processes and the form of the output, which the command
gets as one `runs`."""


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
