"""In every story of regions the script does on real servers what its model does, call by call.

Each story is about a single rule, so they find what random histories seldom reach.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given

from crdtbucket.strong.redis.beats import Beat, RegionBeat, RegionBeats
from crdtbucket.strong.redis.script import ScriptAnswer, ScriptCall
from tests.strong.redis_server import PROGRAMS, Server
from tests.strong.replicated import test_prediction, test_traces
from tests.strong.replicated.region_model import Hash, Rules
from tests.strong.replicated.region_server import RegionServer
from tests.strong.replicated.regions import KEY, Region
from tests.strong.replicated.test_properties import anything, counts_every_take_once, offsets

TRACES = {trace.__name__: trace for trace, off, _ in test_traces.TRACES if not off}
PREDICTED = {trace.__name__: trace for trace, off, *_ in test_prediction.TRACES if off is None}
TOLD = (
    test_prediction.test_a_denied_caller_learns_what_silent_regions_hold,
    test_prediction.test_a_region_that_is_removed_is_predicted_no_longer,
    test_prediction.test_a_region_that_is_silent_for_too_long_is_predicted_no_longer,
    test_prediction.test_denied_calls_are_counted_as_offered,
    test_traces.test_a_late_call_in_the_region_before_is_refused,
    test_traces.test_a_process_that_moved_and_was_pushed_counts_once,
    test_traces.test_a_pushed_column_that_comes_late_changes_nothing,
    test_traces.test_a_region_that_is_set_back_hides_nothing,
    test_traces.test_a_renamed_region_counts_once,
    test_traces.test_records_are_forgotten_everywhere_when_there_are_many,
)


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RegionServer]:
    with Server(program=request.param) as one, contextlib.closing(RegionServer(one)) as members:
        yield members


class Checked:
    """`Region.run` which asks the server as well."""

    def __init__(self, server: RegionServer) -> None:
        server.flush()
        self.server = server
        self.run = Region.run
        self.held: dict[tuple[bytes, bytes], Hash] = {}
        """By member and region, what the server has."""

    def __call__(self, region: Region, t: int, call: ScriptCall) -> ScriptAnswer:
        now, made = region.clock(t), region.arguments
        for name in (region.name, *made.regions.others):
            fields = region.held if name == region.name else region.copies.get(name, {})
            if self.held.get((region.name, name), {}) is not fields:
                self.server.put(region.name, KEY + b"@" + name, fields)
                self.held[region.name, name] = fields
        known = {n: RegionBeat(1, k.stamp_us, k.base_us, 1) for n, k in region.known.items()}
        call.beats = RegionBeats(made.regions, Beat(1, now, 1, known)).words
        found = self.server.run(region.name, made, call, now)
        answer = self.run(region, t, call)
        assert found._replace(columns=()) == answer._replace(columns=())
        assert set(found.columns) == set(answer.columns)
        assert self.server.read(region.name, KEY + b"@" + region.name) == region.held
        self.held[region.name, region.name] = region.held
        return answer


@contextlib.contextmanager
def checked(server: RegionServer) -> Iterator[None]:
    """Every call of a region runs on the server, too."""
    both = Checked(server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Region, "run", lambda region, t, call: both(region, t, call))
        yield


@pytest.mark.parametrize("trace", TRACES | PREDICTED)
def test_the_script_agrees_in_every_story(trace: str, server: RegionServer) -> None:
    with checked(server):
        (TRACES | PREDICTED)[trace](Rules())


@pytest.mark.parametrize("story", TOLD, ids=lambda story: story.__name__)
def test_the_script_agrees_in_all_other_fields_of_its_answers(
    story: Callable[[], None], server: RegionServer
) -> None:
    with checked(server):
        story()


@given(anything, offsets)
def test_the_script_agrees_in_histories_of_every_kind(
    server: RegionServer, ops: Any, clocks: Any
) -> None:
    with checked(server):
        counts_every_take_once(ops, clocks, Rules())
