"""Set-up of the whole suite: the tiers of tests, their budget, and the profiles of Hypothesis.

The profile is `dev` unless the environment variable HYPOTHESIS_PROFILE names another.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from crdtbucket.shared import shared_file
from crdtbucket.strong.redis import registry
from tests import long_first
from tests.budget import Budget
from tests.missing_servers import MissingServers
from tests.second_chance import SecondChance
from tests.tiers import pytest_collection_modifyitems
from tests.virtual_loop import VirtualTime

__all__ = ["pytest_collection_modifyitems"]

# Their assertions are the tests, so they explain themselves like those of a test module.
for _module in ("properties", "changes", "contract"):
    pytest.register_assert_rewrite(f"tests.model.{_module}")

# The histories are long and a slow machine is no counterexample, so nothing is timed.
for _name, _examples in (("quick", 20), ("dev", 50), ("ci", 300), ("long", 15_000)):
    settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        # The same examples each time: what fails is the change under test. `long` searches.
        derandomize=_name != "long",
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session", autouse=True)
def tables_of_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is `shared: auto` in this process is removed with the other files of the tests."""
    shared_file.DIRECTORY = str(tmp_path_factory.mktemp("shm"))


@pytest.fixture(scope="session", autouse=True)
def lists_of_processes_are_old() -> None:
    """In an outage of Redis a process of the tests has its share at once. With the seconds for
    which it has none after the first start of a fleet, each test of an outage would wait.
    `tests/strong/redis/test_new_list.py` is about them."""
    registry.SETTLED_S = -1


@pytest.fixture
def time() -> VirtualTime:
    """For tests whose time jumps to the next timer."""
    return VirtualTime()


@pytest.fixture
def nobody_handles_hangups() -> Iterator[None]:
    """SIGHUP ends a program, also where the suite runs under nohup, which has it ignored by all."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """Freezes what is imported and collected, which stays until the end: the garbage collector
    would look at it in a quarter of the time of the collection, and in much of each `gc.collect` of
    a test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    # A shell in the background ignores Ctrl-C, and all that the tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.version_info < (3, 11):  # there TLS is closed only at the end that closes it
        config.addinivalue_line(
            "filterwarnings", "ignore:unclosed transport <asyncio.sslproto:ResourceWarning"
        )
    manager = config.pluginmanager
    manager.register(Budget(), "budget")  # `-p no:budget` leaves it out
    manager.register(MissingServers())
    manager.register(long_first)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        manager.register(SecondChance())
