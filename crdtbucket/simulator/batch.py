"""Many runs, on several processors."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from crdtbucket.simulator.replay import replay
from crdtbucket.simulator.rules import make_rule
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import Outcome, simulate
from crdtbucket.simulator.trace import Trace


@dataclass(frozen=True)
class Job:
    """One run of a scenario, by names, so that another process can do it."""

    scenario: str
    rule: str
    settings: Settings
    scale: float = 1.0
    curve_every_ns: int = 0

    def run(self) -> Outcome:
        """Do it here."""
        scenario = SCENARIOS[self.scenario](self.settings, self.scale)
        rule = make_rule(self.rule)
        return simulate(rule, scenario, self.settings, curve_every_ns=self.curve_every_ns)


@dataclass(frozen=True)
class ReplayJob:
    """One replay of a trace."""

    trace: Trace
    rule: str
    settings: Settings
    speed: float = 1.0

    def run(self) -> Outcome:
        """Do it here."""
        return replay(make_rule(self.rule), self.trace, self.settings, speed=self.speed)


AnyJob = Job | ReplayJob


@contextlib.contextmanager
def _quiet_nodes() -> Iterator[None]:
    """What the nodes of a simulation log is no news to whoever reads the table."""
    logger = logging.getLogger("crdtbucket.mesh")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def run_job(job: AnyJob) -> Outcome:
    """Do one job; a function of its own, so that processes can be sent to it."""
    with _quiet_nodes():
        return job.run()


def run_all(
    jobs: Sequence[AnyJob], processes: int, done: Callable[[AnyJob], None] | None = None
) -> list[Outcome]:
    """All outcomes in the order of the jobs, however many processes share the work.

    `done` is told of each job that ended, in this process. What a job raises is raised here, and
    jobs that have not begun are dropped.
    """
    if processes <= 1 or len(jobs) <= 1:
        return list(_here(jobs, done))
    # Spawned, not forked: a fork copies the locks of whatever threads the caller runs.
    workers = min(processes, len(jobs))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_job, job) for job in jobs]
        try:
            return [_wait(future, job, done) for future, job in zip(futures, jobs, strict=True)]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _here(jobs: Sequence[AnyJob], done: Callable[[AnyJob], None] | None) -> Iterator[Outcome]:
    for job in jobs:
        outcome = run_job(job)
        if done is not None:
            done(job)
        yield outcome


def _wait(future: Future[Outcome], job: AnyJob, done: Callable[[AnyJob], None] | None) -> Outcome:
    outcome = future.result()
    if done is not None:
        done(job)
    return outcome
