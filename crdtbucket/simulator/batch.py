"""Runs many simulations on several processors."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process, resource_tracker
from threading import Thread

from crdtbucket.simulator.replay import replay
from crdtbucket.simulator.rule_catalogue import make_rule
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario_run import Outcome, simulate
from crdtbucket.simulator.store_scenarios import ALL_SCENARIOS
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
        """Runs the job in this process."""
        scenario = ALL_SCENARIOS[self.scenario](self.settings, self.scale)
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
        """Runs the job in this process."""
        return replay(make_rule(self.rule), self.trace, self.settings, speed=self.speed)


AnyJob = Job | ReplayJob


@contextlib.contextmanager
def _quiet_nodes() -> Iterator[None]:
    """Silences the logs of simulated nodes, which mean nothing to a reader of the results."""
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


def run_all(jobs: Sequence[AnyJob], processes: int) -> Iterator[Outcome]:
    """Yields all outcomes in the order of the jobs, however many processes share the work.

    Raises what a job raises; then the other jobs are given up at once.
    """
    if processes <= 1 or len(jobs) <= 1:
        yield from map(run_job, jobs)
        return
    # Spawned, not forked: a fork copies the locks of whatever threads the caller runs.
    workers = min(processes, len(jobs))
    # Not in a `with` block: leaving that shuts down once more, which takes the cancelling back.
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_the_parent)
    others = set(active_children())
    try:
        with _deaf_to_signals():
            futures = [pool.submit(run_job, job) for job in jobs]
        for future in futures:
            yield future.result()
    except BaseException:  # such as an interrupt, or a caller that stops early
        for worker in set(active_children()) - others:
            worker.kill()  # what they have begun would keep this process from ending
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()  # a process that ends while the interpreter does may write a traceback


def end_with_the_parent() -> None:
    """Ends this worker as soon as the process that started it has ended, killed or not. A worker
    that waits for jobs holds the queue open itself, so without this it would wait for ever."""
    parent = parent_process()
    assert parent is not None, "only a process that multiprocessing started is a worker"

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, name="crdtbucket parent", daemon=True).start()


@contextlib.contextmanager
def _deaf_to_signals() -> Iterator[None]:
    """Makes the processes that are started in this block ignore Control-C and SIGTERM. A terminal
    or `timeout` sends them to all processes of a command, but only the one that started the others
    decides what becomes of them."""
    resource_tracker.ensure_running()  # if it started later, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
