"""Each way to run a limiter, with each event in the life of a process: one limit, counted once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, CrdtbucketError, Limiter, Mode
from crdtbucket.mesh.transport import mesh_network
from tests.compositions.events import CELLS, EVENTS, FEATURES, absent, play
from tests.compositions.fleet import EXACT, Bound, Feature, Fleet
from tests.compositions.load_events import HOSTS, LOADED_EVENTS, loaded_cells, unloaded
from tests.compositions.loaded import (
    HEAVY,
    LIGHT,
    REFILL,
    UNSEEN_S,
    Cost,
    Figures,
    Limit,
    LoadedFleet,
    measure,
    play_loaded,
)
from tests.compositions.member import live
from tests.compositions.process import Answered, Failed, LibraryProcess, Process
from tests.http.serving import HEADERS, serving

ALL = FEATURES | HOSTS
SELDOM = {
    *((name, "linked_in_every_order") for name in FEATURES),
    *(("serve_strong_workers", event) for event in EVENTS),
    *product(("serve_workers", "serve_strong"), ("clock_stepped", "spawned")),
} - {
    ("serve_strong_workers", "killed_and_restarted"),
    ("serve_strong_workers", "all_at_once"),
    ("serve_strong_workers", "redis_away_and_back"),
    ("serve_workers", "spawned"),
}
PLAYED = [*(cell for cell in CELLS if cell not in SELDOM), ("hosts", "linked_in_every_order")]
"""The others, and those of `HOSTS`, are left to `python -m tests.compositions`."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("feature", "event"), PLAYED)
async def test_cell(feature: str, event: str, tmp_path: Path) -> None:
    await play(Fleet(ALL[feature], tmp_path), EVENTS[event])


def test_every_pair_is_played_or_says_why_not() -> None:
    for name, feature in FEATURES.items():
        for event, happens in EVENTS.items():
            why = absent(feature, happens)
            assert ((name, event) in CELLS) == (not why)
    assert len(PLAYED) > 140


def test_every_pair_under_a_load_is_played_or_says_why_not() -> None:
    played = loaded_cells(ALL)
    for name, feature in ALL.items():
        for event, happens in LOADED_EVENTS.items():
            assert ((name, event) in played) == (not unloaded(feature, happens))
    assert {feature for feature, _ in played} == set(ALL)


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


# -- buckets that refill, while their callers go on asking


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("feature", "event", "load"),
    [
        ("chain", "hub_killed", HEAVY),
        ("hubs", "link_cut", LIGHT),
        ("local", "limit_changed", HEAVY),
        ("mesh", "process_killed", HEAVY),
        ("file_watched", "all_stood_still", HEAVY),
        ("strong", "redis_lost", HEAVY),
        ("serve", "hosts_replaced", LIGHT),
    ],
)
async def test_a_load_goes_on(feature: str, event: str, load: float, tmp_path: Path) -> None:
    fleet = LoadedFleet(Fleet(ALL[feature], tmp_path), load)
    await play_loaded(fleet, LOADED_EVENTS[event])


def impatient(*words: Any) -> None:
    """The life of a process that gives its links up after a short silence."""
    mesh_network.SILENT_S = 2.0
    live(*words)


def gave_a_link_up(folder: Path) -> bool:
    """Whether a process whose log is in this folder gave up a link that was silent."""
    return any("it was silent for 2 s" in log.read_text() for log in folder.glob("*.log"))


class ImpatientFleet(Fleet):
    """Its connections end while all processes stand still."""

    def _process(self, node: int, place: int) -> Process:
        config, log = self._config(node), self._folder / f"node-{node}-{place}.log"
        return LibraryProcess(config, log, watch=False, life=impatient)


@pytest.mark.timeout(400)
async def test_bursts_after_a_pause_are_owed_although_the_links_have_ended(tmp_path: Path) -> None:
    loaded = LoadedFleet(ImpatientFleet(Feature(nodes=2, mesh=True), tmp_path), HEAVY)
    await play_loaded(loaded, LOADED_EVENTS["all_stood_still"])
    assert gave_a_link_up(tmp_path)


def answered(second: float, *granted: int, late: float = 0.0) -> list[Answered]:
    return [Answered(second + number / 1000, tokens, late) for number, tokens in enumerate(granted)]


def test_what_all_callers_were_given_is_measured() -> None:
    limits = [Limit(0.0, 100, 10), Limit(20.0, 200, 20)]
    one = answered(10.0, 90, 0, 0) + answered(12.0, 0, 40) + answered(21.0, 0)
    figures = measure(limits, [one, answered(12.5, 10, late=0.25), []])
    assert figures.over == pytest.approx(90 + 40 + 10 - 2.5 * 10 - 100)
    assert figures.used == pytest.approx(140 / (100 + 2.5 * 10 + 8.5 * 20))
    assert figures.denied == 1  # at 21 s, when all has been refilled
    assert figures.starved == pytest.approx(2.0)
    assert figures.late == 0.25
    assert figures.repaid == 0.0


def test_what_is_owed_beyond_a_lowered_limit_starves_nobody() -> None:
    """Of 90 tokens 80 are owed when the limit is lowered to 20: 60 of them are refilled first."""
    limits = [Limit(0.0, 100, 10), Limit(11.0, 20, 10)]
    figures = measure(limits, [answered(10.0, 90) + answered(11.0, 0)])
    assert figures.repaid == pytest.approx(60 / 10)


@pytest.mark.parametrize(
    ("over", "used", "denied", "starved", "load", "wrong"),
    [
        (REFILL * UNSEEN_S, 0.9, 7, 3.0, HEAVY, ""),
        (REFILL * UNSEEN_S + 1, 0.9, 0, 0.0, HEAVY, "more was granted than the limit"),
        (REFILL * UNSEEN_S + 1, 0.4, 0, 0.0, LIGHT, "more was granted than the limit"),
        (0.0, 0.7, 0, 0.0, HEAVY, "less was granted than the limit"),
        (0.0, 0.9, 0, 3.1, HEAVY, "a process was starved"),
        (0.0, 0.4, 0, 0.0, LIGHT, ""),
        (0.0, 0.4, 1, 0.0, LIGHT, "a call within the limit was denied"),
    ],
)
def test_what_must_not_be_under_a_load(
    over: float, used: float, denied: int, starved: float, load: float, wrong: str
) -> None:
    figures = Figures(over, used, denied, starved, late=0.0, repaid=0.0)
    assert figures.wrong(load) == wrong
    assert replace(figures, repaid=0.2).wrong(load) == wrong.replace("a process was starved", "")


def test_an_event_may_cost_what_it_says() -> None:
    cost = Cost(beyond=50, least=0.1, denies=True)
    figures = Figures(50, 0.1, 9, 0.0, late=0.0, repaid=0.0)
    assert {figures.wrong(load, cost) for load in (HEAVY, LIGHT)} == {""}
    assert replace(figures, over=51).wrong(LIGHT, cost) == "more was granted than the limit"
    assert replace(figures, used=0.09).wrong(HEAVY, cost) == "less was granted than the limit"


@pytest.mark.parametrize(
    ("feature", "forgotten", "beyond"),
    [("mesh", 0, 80), ("strong", 0, 3), ("local", 100, 101), ("local", 1_000, 241)],
)
def test_what_a_feature_may_grant_beyond_the_limit(
    feature: str, forgotten: int, beyond: int, tmp_path: Path
) -> None:
    """A mesh what it has not seen yet, others a call of each; what is forgotten is a capacity."""
    loaded = LoadedFleet(Fleet(FEATURES[feature], tmp_path), HEAVY)
    assert loaded.cost(Bound(beyond=forgotten)).beyond == beyond


# -- what cannot be put together is refused, with what to do


REPLICATED = """
shared: auto
rating:
  consistency: strong
  bucket_backend:
    {active_active: true, regions: [eu, us], connection: {url: "redis://127.0.0.1:1"}}
"""


PEERS = 'peers: ["127.0.0.1:7946"]\n'


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (REPLICATED, "region is missing, .* one of eu, us"),
        (PEERS, r"unknown key 'peers' \(write it as mesh: \{peers: \.\.\.\}\)"),
    ],
)
def test_what_cannot_be_is_refused(lines: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(CrdtbucketError, match=told):
        Limiter.from_file(written(lines, tmp_path))


def written(lines: str, folder: Path) -> Path:
    file = folder / "edge.yaml"
    file.write_text(f"node: a\nservices: {{api: {{limit: 5/hour}}}}\n{lines}")
    return file


def test_what_asks_no_redis_says_so_where_strong_was_wished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CrdtbucketError, match='strong consistency without a Redis: pass redis="'):
        Limiter([BucketSpec("api", 5, 1, consistency="strong")])
    limiter = Limiter.from_file(written("rating: {consistency: strong}\n", tmp_path))
    assert limiter.bucket("api").mode is Mode.EVENTUAL
    assert "names no Redis" in caplog.text
    assert "give bucket_backend.connection a host or a url" in caplog.text


async def test_a_server_is_asked_for_decisions_and_runs_nothing_else() -> None:
    async with serving() as client:
        status, problem, _ = await client.ask("POST", "/v1/fork", headers=HEADERS)
    assert status == 404
    assert "there is no such path: /openapi.json lists them" in problem["detail"]


def test_every_reason_has_a_test() -> None:
    """Those above, and what is not wrong: graphs without a link to cut, nodes of one process, and
    forks, which have cells without a load."""
    told = {absent(feature, event) for feature in ALL.values() for event in EVENTS.values()}
    assert told - {""} == {
        "nobody runs code in the process of a server",
        "there are no peers to link",
        "no Redis is asked",
    }
    loaded = {unloaded(one, event) for one in ALL.values() for event in LOADED_EVENTS.values()}
    assert loaded - told == {
        "every node reaches every other one",
        "nobody speaks to peers for others",
        "a child may decide, and may be denied",
    }


@pytest.mark.parametrize("serve", [False, True])
async def test_two_processes_of_a_node_without_a_table_are_refused(
    serve: bool, tmp_path: Path
) -> None:
    fleet = Fleet(Feature(processes=2, mesh=True, serve=serve), tmp_path)
    with pytest.raises(Failed, match="set `shared: auto`"):
        async with fleet:
            pass
