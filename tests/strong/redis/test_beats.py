"""Beats: what regions know of each other's clocks and versions, on real servers at a test's
time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from crdtbucket.errors import RedisReplyError
from crdtbucket.strong.redis.beats import (
    Beat,
    BeatArguments,
    RegionBeat,
    RegionBeats,
    read_beat,
)
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import SILENT_US
from tests.strong.redis_server import PROGRAMS, Server
from tests.strong.replicated.region_server import RegionServer

NAMES = "ABC"
START = 1_700_000_000_000_000
MS, SECOND, HOUR = 1_000, 1_000_000, 3_600_000_000


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RegionServer]:
    with Server(program=request.param) as one, contextlib.closing(RegionServer(one)) as members:
        yield members


class Fleet:
    """Three regions that beat every 100 ms; their beats arrive 20 ms later, or not at all."""

    def __init__(self, server: RegionServer, offsets: tuple[int, ...] = (0, 0, 0)) -> None:
        server.flush()
        self.server, self.t, self.offsets = server, START, list(offsets)
        self.members = [BeatArguments(Regions(n, NAMES), prefix=n.encode() + b"/") for n in NAMES]
        self.known: list[RegionBeats] = []
        self.sent: dict[str, list[bytes]] = {n: [] for n in NAMES}
        self.cut: set[tuple[int, int]] = set()
        """Reader and writer."""

    def key(self, at: int, of: int) -> str:
        return f"{NAMES[at]}/{{0}}:beat@{NAMES[of]}"

    def deliver(self, at: int, of: int, back: int = -1) -> None:
        """A beat of a region, by default its newest."""
        self.server.line.ask("SET", self.key(at, of), self.sent[NAMES[of]][back])

    def beat(self, i: int, nodes: int = 2) -> RegionBeats:
        beats = self.server.beat(self.members[i], nodes, self.t + self.offsets[i])
        self.sent[NAMES[i]].append(self.server.line.ask("GET", self.key(i, i)))
        return beats

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.known = [self.beat(i) for i in range(3)]
            self.t += 20 * MS
            for at in range(3):
                for of in range(3):
                    if at != of and (at, of) not in self.cut:
                        self.deliver(at, of)
            self.t += 80 * MS

    def late(self, at: int, of: int) -> int:
        late = self.known[at].late_us(NAMES[of].encode())
        assert late is not None
        return late


def test_nothing_is_known_before_the_first_beat(server: RegionServer) -> None:
    beats = Fleet(server).beat(0)
    assert beats.late_us(b"B") is None
    assert beats.silent() == frozenset()
    assert beats.nodes == 2
    assert beats.own == Beat(122_163_200_000, START, 2, {})


def test_one_process_writes_and_the_others_read(server: RegionServer) -> None:
    fleet = Fleet(server)
    first = fleet.beat(0, nodes=2)
    fleet.t += 99 * MS
    assert fleet.beat(0, nodes=3) == first
    fleet.t += MS
    assert fleet.beat(0, nodes=3).own.version == first.own.version + 100
    assert server.line.ask("PTTL", fleet.key(0, 0)) > 23 * HOUR // MS


def test_who_does_not_know_how_many_nodes_there_are_leaves_their_number(
    server: RegionServer,
) -> None:
    fleet = Fleet(server)
    assert fleet.beat(0, nodes=0).nodes == 1  # itself
    for nodes, seen in ((3, 3), (0, 3), (2, 2)):
        fleet.t += 100 * MS
        assert fleet.beat(0, nodes=nodes).nodes == seen


@pytest.mark.parametrize("offsets", [(0, 0, 0), (HOUR, 0, -HOUR)])
def test_clocks_may_be_hours_apart(server: RegionServer, offsets: tuple[int, ...]) -> None:
    fleet = Fleet(server, offsets)
    fleet.run(2)
    for at in range(3):
        for of in {0, 1, 2} - {at}:
            assert fleet.late(at, of) <= 100 * MS
    assert [one.nodes for one in fleet.known] == [6, 6, 6]


def test_a_region_whose_beats_do_not_come_is_silent(server: RegionServer) -> None:
    fleet = Fleet(server, (0, HOUR, 0))
    fleet.run(1)
    fleet.cut = {(0, 1), (2, 1)}
    fleet.run(3)
    assert fleet.known[0].silent() == {b"B"}
    assert 2 * SECOND <= fleet.late(0, 1) <= 3 * SECOND
    assert fleet.known[1].silent() == frozenset()
    assert fleet.known[0].nodes == 6
    fleet.cut = set()
    fleet.run(1)
    assert fleet.known[0].silent() == frozenset()


def test_what_a_third_region_has_seen_counts(server: RegionServer) -> None:
    fleet = Fleet(server)
    fleet.run(1)
    fleet.cut = {(0, 1), (1, 0)}
    fleet.run(5)
    assert all(one.silent() == frozenset() for one in fleet.known)
    assert fleet.late(0, 1) <= 250 * MS


def test_a_clock_that_is_set_back_is_followed_by_way_of_a_third_region(
    server: RegionServer,
) -> None:
    fleet = Fleet(server)
    fleet.cut = {(0, 1), (1, 0)}
    fleet.run(1)
    fleet.offsets[1] -= HOUR
    fleet.run(1)
    assert [one.silent() for one in fleet.known] == [frozenset()] * 3


def test_a_clock_that_drifts_is_followed_by_way_of_a_third_region(server: RegionServer) -> None:
    """1,000 ppm for 30 s."""
    fleet = Fleet(server)
    fleet.cut = {(0, 1), (1, 0)}
    fleet.run(1)
    before = fleet.late(0, 1)
    for _ in range(30):
        fleet.offsets[0] += MS
        fleet.run(1)
    assert abs(fleet.late(0, 1) - before) <= 2 * MS


def test_an_older_beat_changes_nothing(server: RegionServer) -> None:
    fleet = Fleet(server)
    fleet.run(2)
    before = fleet.beat(0).own.regions[b"B"]
    fleet.deliver(0, 1, back=-10)
    fleet.t += 100 * MS
    assert fleet.beat(0).own.regions[b"B"].stamp_us == before.stamp_us


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("step", [-HOUR, -30 * SECOND, 900 * MS, 30 * SECOND, HOUR])
def test_a_clock_that_is_set_makes_nobody_silent_for_long(
    server: RegionServer, which: int, step: int
) -> None:
    fleet = Fleet(server)
    fleet.run(2)
    fleet.offsets[which] += step
    fleet.run(0.5)
    fleet.run(0.1)
    assert [one.silent() for one in fleet.known] == [frozenset()] * 3
    fleet.cut = {(0, 1), (2, 1)}
    fleet.run(2)
    assert [one.silent() for one in fleet.known] == [{b"B"}, frozenset(), {b"B"}]


def test_a_silence_is_as_long_after_the_own_clock_was_set(server: RegionServer) -> None:
    fleet = Fleet(server)
    fleet.run(1)
    fleet.cut = {(0, 1), (2, 1)}
    fleet.run(5)
    before = fleet.late(0, 1)
    fleet.offsets[0] += HOUR
    fleet.run(0.2)
    assert before <= fleet.late(0, 1) <= before + 300 * MS


def test_a_long_replay_is_late_until_it_is_through(server: RegionServer) -> None:
    """Half a minute of beats comes in order, each 30 s old, for 20 s."""
    fleet = Fleet(server)
    fleet.run(2)
    fleet.cut = {(0, 1), (2, 1)}
    fleet.run(30)
    behind = len(fleet.sent["B"]) - 300
    for _ in range(200):
        behind += 1
        fleet.deliver(0, 1, behind - len(fleet.sent["B"]))
        fleet.run(0.1)
        assert 29 * SECOND <= fleet.late(0, 1) <= 31 * SECOND
    fleet.cut = set()
    fleet.run(0.2)
    assert fleet.late(0, 1) <= 200 * MS


def test_drifting_clocks_are_followed(server: RegionServer) -> None:
    """500 ppm apart for 200 s."""
    fleet = Fleet(server)
    fleet.run(1)
    for _ in range(20):
        fleet.offsets[0] += 500 * 10
        fleet.offsets[2] -= 500 * 10
        fleet.run(10)
        assert [one.silent() for one in fleet.known] == [frozenset()] * 3
        assert fleet.late(0, 1) <= 120 * MS


def test_what_was_lost_is_known_from_the_others(server: RegionServer) -> None:
    """A member whose key is lost, and whose clock is set back, still writes newer versions."""
    fleet = Fleet(server)
    fleet.run(2)
    before = fleet.known[1].own.version
    server.line.ask("DEL", fleet.key(1, 1))
    fleet.offsets[1] -= HOUR
    assert fleet.beat(1).own.version > before
    fleet.run(1)
    assert [one.silent() for one in fleet.known] == [frozenset()] * 3


def test_the_words_of_a_call() -> None:
    regions = Regions("A", "ABC")
    beats = RegionBeats(regions, Beat(7, 1_000_000, 2, {b"C": RegionBeat(5, 400_000, -3, 4)}))
    text = b"0 1000000 0 0 -3 400000"
    assert beats.words == b"$%d\r\n%b\r\n" % (len(text), text), "C is silent at the own beat"
    assert beats.late_us(b"C") == 600_003 > SILENT_US
    beats = RegionBeats(regions, Beat(8, 1_000_000, 2, {b"C": RegionBeat(6, 700_000, -3, 4)}))
    assert beats.words == b"$29\r\n1199997 1000000 0 0 -3 700000\r\n"
    assert beats.nodes == 6


@pytest.mark.parametrize("text", [None, b"", b"1 2|", b"1 2 3", b"1 2 3|A 1 2 3 4", [b"1 2 3|"]])
def test_what_is_no_beat(text: object) -> None:
    with pytest.raises(RedisReplyError, match="is no beat of a region"):
        read_beat(text)


def test_a_beat_reads_as_it_was_written() -> None:
    known = {b"eu-1": RegionBeat(3, 4, -5, 6)}
    assert read_beat(b"1 2 3|eu-1 3 4 -5 6 ") == Beat(1, 2, 3, known)
