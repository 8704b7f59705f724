"""What the end of a connection proves, rule by rule; tests/simulated/test_deaths.py has whole
meshes."""

from __future__ import annotations

import types
from typing import Any

import pytest

from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.ended_connection import RECENT_NS, EndedConnection
from crdtbucket.mesh.protocol.failure_detector import FailureDetector, Places, is_majority
from crdtbucket.mesh.protocol.member_directory import CAUGHT_UP, may_see
from crdtbucket.mesh.protocol.peer_state import PeerState

SECOND = 10**9
PERIOD = 10 * SECOND


def test_calls_must_be_refused_for_the_whole_time() -> None:
    ending = EndedConnection(0)
    assert not ending.refused_for(PERIOD, PERIOD)  # nobody has called
    ending.dialed(SECOND, refused=True)
    assert not ending.refused_for(PERIOD, PERIOD - 1)
    assert ending.refused_for(PERIOD, PERIOD)


def test_a_call_that_nobody_answers_starts_the_time_anew() -> None:
    ending = EndedConnection(0)
    ending.dialed(SECOND, refused=True)
    ending.dialed(4 * SECOND, refused=False)
    ending.dialed(5 * SECOND, refused=True)
    assert not ending.refused_for(PERIOD, 14 * SECOND - 1)
    ending.dialed(13 * SECOND, refused=True)
    assert ending.refused_for(PERIOD, 14 * SECOND)


def test_the_last_refusal_must_be_recent() -> None:
    ending = EndedConnection(0)
    ending.dialed(SECOND, refused=True)
    assert ending.refused_for(PERIOD, SECOND + RECENT_NS)
    assert not ending.refused_for(PERIOD, SECOND + RECENT_NS + 1)


def test_a_place_is_empty_until_somebody_takes_it_or_its_time_is_over() -> None:
    places = Places(100)
    places.taken("a")
    assert set(places.empty(0)) == set()
    for name, now in (("a", 0), ("b", 10), ("c", 20)):
        places.left_empty(name, now)
    assert set(places.empty(20)) == {"a", "b", "c"}
    places.taken("b")
    assert set(places.empty(20)) == {"a", "c"}
    places.taken("d")
    assert set(places.empty(120)) == {"c"}
    assert set(places.empty(121)) == set()


def test_more_than_half_must_be_seen_or_one_alone_be_missing() -> None:
    decided = {(seen, missing) for seen in (1, 2, 3) for missing in (1, 2, 3)
               if is_majority(seen, missing)}  # fmt: skip
    assert decided == {(1, 1), (2, 1), (3, 1), (3, 2)}


def test_a_peer_that_has_advertised_nothing_may_see_anybody() -> None:
    assert may_see(None, (), "a")
    assert may_see({"a", "b"}, ("b",), "a")
    assert not may_see({"a", "b"}, ("b",), "b")
    assert not may_see({"a"}, (), "c")


# ---- all rules together ----

ALIVE = 3 * SECOND
OWNERS = {9: "others", 10: "me", 11: None}
"""Epochs that relays have seen, and whose they are."""


class Around:
    """A detector and what it looks at: some peers are seen, and one whose connection has ended."""

    def __init__(self, *seen: str, period: Any = PERIOD // SECOND) -> None:
        self.links: dict[str, PeerState] = {}
        self.gone: set[str] = set()
        self.advertised: set[str] = set()
        self.elsewhere: dict[int, tuple[int, bool]] = {}
        directory: Any = types.SimpleNamespace(
            links=self.links, alive_ns=ALIVE, running_elsewhere=self.elsewhere,
            is_gone=self.gone.__contains__, only_advertised=lambda: self.advertised,
        )  # fmt: skip
        roster: Any = types.SimpleNamespace(owner=OWNERS.get)
        config = MeshConfig(ended_is_dead=period, forget_after=100)
        self.detector = FailureDetector(config, directory, roster, "me")
        for name in (*seen, "lost"):
            self.links[name] = PeerState(NodeInfo(name, "r", 1, f"{name}:1", 0), 1, 0)
            self.links[name].advertised = {}
            self.detector.connected(self.links[name].info, 0, was=False)

    def lose(self, name: str = "lost", now: int = 0, *, ended: bool = True) -> PeerState:
        link = self.links[name]
        link.connected = False
        self.detector.disconnected(link, now, ended=ended)
        return link

    def refuse(self, now: int, name: str = "lost", address: str = "") -> None:
        self.detector.dial_failed(name, address, now, refused=True)

    def see(self, now: int, *names: str) -> None:
        for name in names:
            self.links[name].last_seen = now

    def dead(self, now: int = PERIOD) -> bool:
        return self.detector.is_dead(self.links["lost"], now)


def lost(*seen: str, period: Any = PERIOD // SECOND) -> Around:
    """Everything that is wanted holds after the period, when the others were seen just now."""
    around = Around(*seen, period=period)
    around.lose()
    around.refuse(PERIOD - 1)
    around.see(PERIOD - 1, *seen)
    return around


def test_a_peer_whose_connection_ended_and_whose_dials_are_refused_is_dead() -> None:
    around = lost("a")
    assert not around.dead(PERIOD - 1)
    assert around.dead()
    assert not lost("a", period="never").dead()
    around.links["lost"].ending = None
    assert not around.dead()


def test_giving_up_proves_nothing() -> None:
    around = Around("a")
    around.lose(ended=False)
    around.refuse(PERIOD - 1)
    around.see(PERIOD - 1, "a")
    assert not around.dead()
    around.lose()
    assert around.links["lost"].ending == EndedConnection(0)


@pytest.mark.parametrize(
    ("name", "address", "counts"),
    [("lost", "", True), ("lost", "x:1", True), ("x", "lost:1", True), ("x", "y:1", False),
     ("x", "", False)],
)  # fmt: skip
def test_a_dial_counts_for_the_peer_of_that_name_or_address(
    name: str, address: str, counts: bool
) -> None:
    around = Around("a")
    around.lose()
    around.see(PERIOD, "a")
    around.links["nowhere"] = PeerState(NodeInfo("nowhere", "r", 1, "", 0), 1, 0, connected=False)
    around.links["nowhere"].ending = EndedConnection(0)
    around.refuse(PERIOD - 1, name, address)
    assert (around.links["lost"].ending == EndedConnection(0, PERIOD - 1)) == counts
    assert around.links["nowhere"].ending == EndedConnection(0)
    around.detector.dial_failed(name, address, PERIOD, refused=False)
    assert (around.links["lost"].ending == EndedConnection(PERIOD)) == counts


def test_another_process_at_its_address_is_as_good_as_a_refusal() -> None:
    around = Around("a")
    around.lose()
    around.see(PERIOD, "a")
    around.detector.connected(NodeInfo("lost", "r", 2, "lost:1", 0), 5, was=True)
    around.detector.connected(NodeInfo("new", "r", 2, "elsewhere:1", 0), 5, was=True)
    assert not around.dead()
    around.detector.connected(NodeInfo("new", "r", 2, "lost:1", 0), PERIOD - 1, was=True)
    assert around.links["lost"].ending == EndedConnection(0, PERIOD - 1)
    assert around.dead()
    around.links["lost"].info = NodeInfo("lost", "r", 1, "", 0)  # it listens nowhere
    around.detector.connected(NodeInfo("new", "r", 2, "", 0), PERIOD, was=True)
    assert around.links["lost"].ending == EndedConnection(0, PERIOD - 1)


def test_whom_a_peer_may_see_is_not_dead() -> None:
    around = lost("a")
    around.links["a"].advertised = {"lost": 1}
    assert not around.dead()
    around.links["a"].unseen = ("lost",)
    assert around.dead()
    around.links["a"].unseen = ()
    around.links["a"].last_seen = PERIOD - ALIVE + 1
    assert not around.dead()
    around.links["a"].last_seen -= 1  # nobody sees it any more
    assert not around.detector.seen_by_any(around.links["lost"], PERIOD, PERIOD)


@pytest.mark.parametrize("what", ["connected", "left"])
def test_who_is_gone_says_nothing_of_others(what: str) -> None:
    around = lost("a")
    around.links["a"].advertised = None
    assert not around.dead()
    setattr(around.links["a"], what, what == "left")
    assert not around.detector.seen_by_any(around.links["lost"], PERIOD, PERIOD)


def test_whom_a_relay_has_seen_within_the_time_is_not_dead() -> None:
    around = lost("a")
    around.links["lost"].relayed_at = 1
    assert not around.dead()
    around.links["lost"].relayed_at = 0
    assert around.dead()


def test_more_than_half_must_have_been_seen_since() -> None:
    around = lost("a", "b", "c")
    assert around.dead()
    around.see(0, "b", "c")  # before it ended: two and itself of five
    assert not around.dead()
    around.see(1, "b")
    around.links["b"].last_seen = PERIOD - ALIVE + 1
    assert around.dead()


@pytest.mark.parametrize(("later", "counts"), [(1, True), (0, False)])
def test_whom_relays_saw_lately_counts_as_seen(later: int, counts: bool) -> None:
    around = lost("a")
    around.advertised |= {"others", "more"}
    now = 2 * CAUGHT_UP * ALIVE
    around.refuse(now - 1)
    around.see(now, "a")
    around.elsewhere.update({10: (now, True), 11: (now, True)})
    assert not around.dead(now)  # two of five: itself again, and nobody
    lately = now - CAUGHT_UP * ALIVE + later
    around.elsewhere[9] = (lately, True)
    assert around.dead(now) == counts
    del around.elsewhere[9]
    around.links["others"] = PeerState(NodeInfo("others", "r", 1, "", 0), 1, 0, connected=False)
    around.links["others"].relayed_at = lately
    assert around.dead(now) == counts


def test_who_left_or_is_gone_is_not_missed() -> None:
    around = lost("a", "b", "c", "d")
    around.see(0, "b", "c", "d")
    assert not around.dead()
    around.gone |= {"b", "c"}
    assert not around.dead()
    around.gone.add("d")
    assert around.dead()  # it is the only one that is missing
    away = around.links["a"]
    away.left = True
    around.lose("a", PERIOD)
    assert "a" not in around.detector._places.empty(PERIOD)


def test_a_place_left_without_a_goodbye_is_missed_until_it_is_taken() -> None:
    around = lost("a")
    around.links["b"] = PeerState(NodeInfo("b", "r", 1, "b:1", 0), 1, 0)
    around.lose("b")
    del around.links["b"]
    assert not around.dead()
    around.detector.connected(NodeInfo("b", "r", 2, "b:1", 0), PERIOD, was=True)
    assert not around.dead()
    around.detector.connected(NodeInfo("b", "r", 2, "b:1", 0), PERIOD, was=False)
    assert around.dead()


def replaced(*seen: str) -> Around:
    """A newcomer took the place of the lost one, of which calls were refused from then on."""
    around = Around(*seen)
    around.lose()
    around.detector.connected(NodeInfo("new", "r", 1, "new:1", 0), 1, was=False)
    around.refuse(2)
    around.see(ALIVE - 1, *seen)
    return around


def test_whose_place_a_newcomer_took_is_dead_as_soon_as_nobody_sees_it() -> None:
    around = replaced("a")
    assert not around.dead(ALIVE - 1)
    assert around.dead(ALIVE)
    around = replaced("a", "b")
    around.links["b"].advertised = {"lost": 1}
    assert not around.dead(ALIVE)
    around = replaced("a")
    around.links["lost"].relayed_at = 1
    around.see(PERIOD, "a")
    around.refuse(PERIOD)
    assert not around.dead(PERIOD)
    assert around.dead(PERIOD + 1)
    around = replaced("a")
    around.detector.dial_failed("lost", "", 3, refused=False)
    assert not around.dead(ALIVE)


def test_a_newcomer_makes_no_majority() -> None:
    around = replaced("a", "b", "c")
    for name in "bc":
        around.lose(name)
    assert not around.dead(ALIVE)


def test_who_comes_back_takes_its_own_place() -> None:
    around = Around("a", "b")
    around.lose("a", 0)
    around.lose("b", 1)
    around.detector.connected(around.links["b"].info, 2, was=False)
    assert set(around.detector._places.empty(2)) == {"a"}


# ---- what a relay saw ----


LATER = SECOND + 4 * ALIVE
"""By then the relay has advertised the state of the peer."""


def relayed() -> Around:
    """A silent peer without an end, which the relay "a" saw later, and does not advertise now."""
    around = Around("a", "b")
    lost = around.lose(ended=False)
    lost.relayed_at, lost.relay = SECOND, "a"
    around.see(LATER - 1, "a", "b")
    around.links["a"].started = SECOND
    return around


def test_whom_the_relay_that_saw_it_last_does_not_advertise_any_more_is_gone() -> None:
    around = relayed()
    lost = around.links["lost"]
    assert around.detector.why_gone(lost, LATER) == "is forgotten: a, which saw it last, saw it go"
    lost.ending = EndedConnection(0)
    around.refuse(LATER - 1)
    assert around.detector.why_gone(lost, LATER).startswith(
        "is dead, and its share is free for others"
    )


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("a", "advertised", None),  # it has said nothing yet
        ("a", "advertised", {"lost": 1}),
        ("a", "started", SECOND + 1),  # another process, which has never known it
        ("a", "last_seen", LATER - ALIVE),
        ("a", "left", True),
        ("b", "advertised", {"lost": 1}),
        ("lost", "relay", ""),
        ("lost", "last_seen", SECOND),  # this node saw it as late
        ("lost", "relayed_at", SECOND + 1),  # the relay has not said yet how it is
    ],
)
def test_otherwise_it_may_be_running(name: str, field: str, value: object) -> None:
    around = relayed()
    setattr(around.links[name], field, value)
    assert around.detector.why_gone(around.links["lost"], LATER) == ""


def test_whom_the_relay_hears_no_more_it_says_nothing_of() -> None:
    around = relayed()
    around.links["a"].advertised, around.links["a"].unseen = {"lost": 1}, ("lost",)
    assert around.detector.why_gone(around.links["lost"], LATER) == ""
