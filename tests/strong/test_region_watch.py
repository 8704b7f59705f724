"""The watch of regions: its requests to a server, and its conclusions from the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from crdtbucket.strong.redis.beats import BeatArguments
from crdtbucket.strong.redis.redis_connection import RedisConnectionLost
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.region_watch import TRIES, RegionWatch
from crdtbucket.strong.server_link import ServerLink

REGIONS = Regions("eu", ["eu", "us", "ap"])
HOUR_US = 3_600_000_000


class Connection:
    """A connection that keeps what was sent, and who waits for the answers."""

    closed = congested = False

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Callable[[object], None]]] = []

    def send(self, command: bytes, replied: Callable[[object], None]) -> None:
        self.sent.append((command, replied))

    def answer(self, reply: object) -> None:
        """The answer to the oldest command."""
        _, replied = self.sent.pop(0)
        replied(reply)


class Link:
    """The parts of a server that the watch uses."""

    address = "10.0.0.5:6379"

    def __init__(self) -> None:
        self.connection: Any = Connection()
        self.beats = b""

    def note_beats(self, words: bytes) -> None:
        self.beats = words


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def watch(link: Link) -> RegionWatch:
    return RegionWatch(REGIONS, b"p:", cast("ServerLink", link), lambda: 3)


def beat(late_us: int, nodes: int = 4) -> bytes:
    """The text of this region's beat, in which the beats of us are so late."""
    now = 2 * HOUR_US
    return b"9 %d 3|us 5 %d %d %d " % (now, now - HOUR_US - late_us, HOUR_US, nodes)


def words(tag: int, *, source: bool = False) -> bytes:
    arguments = BeatArguments(REGIONS, b"p:", b"%d" % tag)
    return arguments.command(3, source)


def test_one_beat_at_a_time_and_its_words_are_those_of_every_call(
    watch: RegionWatch, link: Link
) -> None:
    assert watch.states()["us"] == {"state": "unknown", "late": None, "nodes": 0}
    for _ in range(3):
        watch.beat()
    ((command, _),) = link.connection.sent
    assert command == words(0)
    link.connection.answer(beat(20_000))
    assert watch.beats is not None
    assert link.beats == watch.beats.words
    assert watch.states() == {
        "us": {"state": "seen", "late": 0.02, "nodes": 4},
        "ap": {"state": "unknown", "late": None, "nodes": 0},
    }
    assert watch.nodes_elsewhere() == 4
    watch.beat()
    assert len(link.connection.sent) == 1


def test_a_server_without_the_script_gets_it(watch: RegionWatch, link: Link) -> None:
    watch.beat()
    link.connection.answer(RedisErrorReply("NOSCRIPT No matching script"))
    ((command, _),) = link.connection.sent
    assert command == words(0, source=True)
    link.connection.answer(beat(0))
    assert link.beats


def test_the_beat_is_at_the_first_tag_that_the_server_holds(watch: RegionWatch, link: Link) -> None:
    watch.beat()
    for tag in (1, 2):
        link.connection.answer(RedisErrorReply("MOVED 99 10.0.0.6:6379"))
        assert link.connection.sent[0][0] == words(tag)
    link.connection.answer(beat(0))
    watch.beat()
    assert link.connection.sent[0][0] == words(2)
    link.connection = Connection()  # the slots may be others' by now
    watch.beat()
    assert link.connection.sent[0][0] == words(0)


def test_a_server_that_holds_no_tag_is_not_flooded(watch: RegionWatch, link: Link) -> None:
    for beat in range(3):
        watch.beat()
        assert link.connection.sent[0][0] == words(TRIES * beat)
        asked = 0
        while link.connection.sent:
            asked += 1
            link.connection.answer(RedisErrorReply("MOVED 99 10.0.0.6:6379"))
        assert asked == TRIES


def test_what_comes_over_an_earlier_connection_says_nothing(watch: RegionWatch, link: Link) -> None:
    before = link.connection
    watch.beat()
    link.connection = Connection()
    watch.beat()
    before.answer(beat(0))
    assert watch.beats is None
    link.connection.answer(RedisConnectionLost("it ended", "down"))
    watch.beat()
    assert len(link.connection.sent) == 1


def test_nothing_is_sent_without_a_connection(watch: RegionWatch, link: Link) -> None:
    link.connection.closed = True
    watch.beat()
    assert not link.connection.sent
    link.connection = None
    watch.beat()


def test_silence_is_reported_once_and_so_is_its_end(
    watch: RegionWatch, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.strong")
    for late in (0, 600_000, 900_000, 10_000, 0):
        watch.beat()
        link.connection.answer(beat(late))
    told = [(record.levelname, record.message) for record in caplog.records]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert "region us is silent: nothing new of it has come for 0.6 s" in told[0][1]
    assert "region us is seen again" in told[1][1]
    assert watch.silent() == frozenset()


def test_a_region_of_which_nothing_ever_comes_is_reported_after_a_minute(
    watch: RegionWatch, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.strong")
    start = 2 * HOUR_US
    for seconds, others in ((0, b""), (59, b""), (60, b""), (61, b""), (62, b"us 5 1 1 4 ")):
        watch.beat()
        now = start + seconds * 1_000_000
        link.connection.answer(b"9 %d 3|ap 5 %d 0 4 %b" % (now, now, others))
        if seconds < 60:
            assert not caplog.records
    told = [(record.levelname, record.message) for record in caplog.records]
    assert "region us is unknown: no beat of it has come" in told[0][1]
    assert "region us is known now" in told[1][1]
    assert [level for level, _ in told[:2]] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    "reply", [RedisErrorReply("OOM command not allowed"), 17, b"a text that is no beat"]
)
def test_what_fails_is_reported_once_and_tried_again(
    watch: RegionWatch, link: Link, reply: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.strong")
    for _ in range(3):
        watch.beat()
        link.connection.answer(reply)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "the beat of this region was not written" in record.message
    watch.beat()
    link.connection.answer(beat(0))
    assert watch.beats is not None
