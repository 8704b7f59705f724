"""Each way to run a limiter, through each event of a process' life: one limit, counted once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crdtbucket import CrdtbucketError, Limiter
from tests.compositions.events import CELLS, EVENTS, FEATURES, absent, play
from tests.compositions.fleet import EXACT, Bound, Feature, Fleet
from tests.compositions.process import Failed


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("feature", "event"), CELLS)
async def test_cell(feature: str, event: str, tmp_path: Path) -> None:
    await play(Fleet(FEATURES[feature], tmp_path), EVENTS[event])


def test_every_pair_is_played_or_says_why_not() -> None:
    for name, feature in FEATURES.items():
        for event, happens in EVENTS.items():
            why = absent(feature, happens)
            assert ((name, event) in CELLS) == (not why)
    assert len(CELLS) > 140


@pytest.mark.timeout(400)
@pytest.mark.parametrize("feature", ["shared", "mesh", "strong", "serve_workers"])
async def test_what_is_forgotten_is_seen(
    feature: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle of the cells fails when all memory of a fleet is lost."""

    async def everything_forgotten(fleet: Fleet) -> Bound:
        await asyncio.gather(*(one.close() for one in fleet.processes))
        fleet.forget()
        await asyncio.gather(*(one.start() for one in fleet.processes))
        await fleet.serve()
        monkeypatch.setattr("tests.compositions.fleet.BOUND_S", 1.0)
        return EXACT

    with pytest.raises(AssertionError, match=r"\d+ of 300.* were granted"):
        await play(Fleet(FEATURES[feature], tmp_path), everything_forgotten)


# -- what cannot be put together is refused, with what to do


REPLICATED = """
shared: auto
rating:
  consistency: strong
  bucket_backend:
    {active_active: true, regions: [eu, us], connection: {url: "redis://127.0.0.1:1"}}
"""


@pytest.mark.parametrize(("lines", "told"), [(REPLICATED, "region is missing, .* one of eu, us")])
def test_what_cannot_be_is_refused(lines: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(f"node: a\nservices: {{api: {{limit: 5/hour}}}}\n{lines}")
    with pytest.raises(CrdtbucketError, match=told):
        Limiter.from_file(file)


@pytest.mark.parametrize("serve", [False, True])
async def test_two_processes_of_a_node_without_a_table_are_refused(
    serve: bool, tmp_path: Path
) -> None:
    fleet = Fleet(Feature(processes=2, mesh=True, serve=serve), tmp_path)
    with pytest.raises(Failed, match="set `shared: auto`"):
        async with fleet:
            pass
