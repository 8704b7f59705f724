"""The members that a node has learned of: their addresses, and which of them run."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import member_directory, wire
from crdtbucket.mesh.protocol.member_directory import (
    ALIVE_NS,
    DIALS,
    TURN_NS,
    MemberDirectory,
    may_see,
)
from crdtbucket.mesh.protocol.member_updates import GOSSIP_NS
from crdtbucket.mesh.protocol.membership import DEAD_NS
from crdtbucket.mesh.protocol.peer_state import PeerState
from tests.mesh.protocol.lone_node import CONFIG, ME, PEER, SECOND, frame, membership, named


def test_who_a_silent_peer_sees_is_not_taken_for_dead() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    members.receive(members.links["peer"], frame(members=(("third", "", 3, ""),), unseen=()), 0)
    members.age(DEAD_NS)
    assert 3 in members.directory.running(ME.epoch)
    members.forget(members.links["peer"], "is gone")
    assert 3 not in members.directory.running(ME.epoch)


def test_what_peers_say_of_others_is_known_within_bounds() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.receive(link, frame(members=(("third", "", 3, "h:1"), ("me", "", 4, "h:2"))), 0)
    assert set(members.directory.known) == {"peer", "third"}
    members.receive(link, frame(members=(("third", "ap", 5, ""),)), 0)
    assert members.directory.known["third"] == ("third", "ap", 5, "h:1")
    many = tuple((f"n{i}", "", 1, "") for i in range(wire.MAX_MEMBERS))
    members.receive(link, frame(members=many), 0)
    assert len(members.directory.known) == wire.MAX_MEMBERS - 1


def test_what_others_advertise_ends_when_nobody_sees_the_member_any_more() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    row = ("third", "", 3, "h:1")
    members.receive(link, frame(members=(row,), unseen=()), 0)
    members.receive(link, frame(members=(row,), unseen=("third",)), GOSSIP_NS)
    members.prepare_updates(lambda: ME, CONFIG.forget_after_ns)
    assert "third" in members.directory.known
    members.prepare_updates(lambda: ME, CONFIG.forget_after_ns + GOSSIP_NS)
    assert set(members.directory.known) == {"peer"}  # a link's own silence decides for its member


class Directory(MemberDirectory):
    """The directory of `me`; a test makes links and lets peers advertise members by their names."""

    def __init__(self, config: MeshConfig = CONFIG) -> None:
        super().__init__(config, "me")

    def link(self, name: str, epoch: int = 1, **fields: Any) -> PeerState:
        link = self.links[name] = PeerState(named(name, epoch), 1, 0)
        for field, value in fields.items():
            setattr(link, field, value)
        return link

    def advertise(self, names: str, by: str = "", now: int = 0) -> str:
        """A peer advertises members, or they are linked. The names of those that find no room."""
        rows = {name: (name, "", ord(name), f"at {name}") for name in names}
        who = (by,) if by else ()
        return "".join(name for name in names if not self.learn(rows[name], now, *who))

    @property
    def names(self) -> str:
        return "".join(self.known)


@pytest.mark.parametrize(("interval", "alive_ns"), [(0.1, ALIVE_NS), (1.0, 3 * SECOND)])
def test_a_peer_is_silent_after_a_second_or_three_rounds(interval: float, alive_ns: int) -> None:
    assert Directory(MeshConfig(gossip_interval=interval)).alive_ns == alive_ns


def test_the_newest_that_is_said_of_a_member_is_kept_and_its_address_until_there_is_another() -> (
    None
):
    directory = Directory()
    rows = [("a", "eu", 1, "h:1"), ("a", "us", 2, ""), ("a", "us", 2, "h:2"), ("a", "", 3, "")]
    for row, address in zip(rows, ("h:1", "h:1", "h:2", "h:2"), strict=True):
        assert directory.learn(row, 0, "b")
        assert directory.known == {"a": (*row[:3], address)}
    assert directory.learn(("me", "", 4, "h:3"), 0, "b")
    assert directory.learn(("c", "", 4, ""), 0)
    assert directory.known == {"a": ("a", "", 3, "h:2"), "c": ("c", "", 4, "")}


def test_what_nobody_advertises_is_forgotten_and_nothing_kept_of_it() -> None:
    directory, after = Directory(), CONFIG.forget_after_ns
    directory.advertise("abcdefg", "b")
    directory.link("b")
    for name, gone in (("c", "left"), ("d", "forgotten")):
        directory.link(name, **{gone: True})
    directory.advertise("e", "b", now=1)
    directory.advertise("f", now=1)
    directory.relayed(7, 0, "b")
    directory.relayed(8, 1, "b")
    directory.expire(after)
    assert (directory.names, sorted(directory.running_elsewhere)) == ("abcdefg", [7, 8])
    directory.expire(after + 1)
    assert (directory.names, sorted(directory.running_elsewhere)) == ("bef", [8])
    directory.expire(after + 2)
    assert (directory.names, sorted(directory.running_elsewhere)) == ("b", [])
    directory.forget("stranger")
    directory.forget("b")
    assert directory.names == ""
    assert (directory._advertised_at, directory._introduced_by) == ({}, {})


def test_the_newest_sight_of_a_process_behind_a_relay_is_kept_and_the_first_of_equal_ones() -> None:
    directory = Directory()
    for at, relay in ((5, "a"), (5, "b"), (4, "c")):
        directory.relayed(7, at, relay)
    assert directory.running_elsewhere == {7: (5, "a")}
    directory.relayed(7, 6, "b")
    assert directory.running_elsewhere == {7: (6, "b")}


def test_of_the_members_that_one_peer_introduced_some_are_dialed_at_a_time() -> None:
    directory = Directory()
    many = [f"a{i}" for i in range(DIALS + 8)]
    for name in many:
        directory.learn((name, "", 1, f"at {name}"), 0, "a")
    directory.learn(("nowhere", "", 1, ""), 0, "a")
    directory.advertise("bcde", "b")
    directory.link("c")
    directory.advertise("d")
    every = [f"at {name}" for name in many]
    first, others = every[:DIALS], ["at b", "at e"]
    last = every[DIALS:] + every[: DIALS - 8]
    assert directory.addresses(0) == ["at c", "at d", *first, *others]
    assert directory.addresses(TURN_NS - 1) == directory.addresses(0)
    assert directory.addresses(TURN_NS) == ["at c", "at d", *last, *others]
    assert directory.addresses(5 * TURN_NS) == directory.addresses(0)


def test_who_is_gone_and_which_process_said_so() -> None:
    directory = Directory()
    directory.link("a", 5)
    directory.link("b", 6, left=True)
    directory.link("c", 7, forgotten=True)
    assert [directory.is_gone(name) for name in "abcd"] == [False, True, True, False]
    said = {("b", 6)}
    every = [(name, epoch) for name in "abcd" for epoch in (5, 6, 7)]
    assert {(name, epoch) for name, epoch in every if directory.has_left(name, epoch)} == said


def test_a_member_without_a_link_counts_when_a_peer_that_is_not_gone_sees_it() -> None:
    directory = Directory()
    directory.advertise("abcxyz", "a")
    assert directory.only_advertised() == set()
    directory.link("a", 1, advertised=frozenset("xyb"), unseen=("y",))
    directory.link("b", 2)  # has said nothing
    gone = directory.link("c", 3, advertised=frozenset("z"), left=True)
    assert directory.only_advertised() == {"x"}
    assert directory.running(9) == {1, 2, 9, ord("x")}
    gone.left = False
    directory.relayed(77, 0, "a")
    assert directory.only_advertised() == {"x", "z"}
    assert directory.running(9) == {1, 2, 3, 9, ord("x"), ord("z"), 77}


def test_where_there_is_hardly_room_those_go_first_whom_no_peer_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that was advertised longest ago. One whose peers are silent may be running."""
    monkeypatch.setattr(member_directory, "CROWDED_MEMBERS", 4)
    members, _ = membership()
    members.connected(PEER, 0)
    for now, names in ((0, "abc"), (1, "bcde"), (2, "cde")):
        rows = tuple((name, "", 1, "") for name in names)
        members.receive(members.links["peer"], frame(members=rows, unseen=()), now)
    members.directory.expire(2)
    assert {*members.directory.known} == {"peer", *"cde"}
    rows = tuple((name, "", 1, "") for name in "cdefg")
    members.receive(members.links["peer"], frame(members=rows, unseen=()), 3)
    members.disconnected(members.links["peer"], 3)
    members.directory.expire(DEAD_NS)
    assert {*members.directory.known} == {"peer", *"cdefg"}


def test_of_those_whom_no_peer_sees_no_more_go_than_there_is_need_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(member_directory, "CROWDED_MEMBERS", 4)
    directory = Directory()
    for now, name in ((3, "a"), (2, "b"), (1, "c"), (4, "d"), (5, "e")):
        directory.advertise(name, "x", now)
    directory.expire(5)
    assert directory.names == "abde"
    directory.expire(5)
    assert directory.names == "abde"


def test_who_is_given_up_is_not_advertised_until_somebody_advertises_it() -> None:
    directory = Directory()
    directory.advertise("abc", "x")
    directory.link("b")
    for name in "abcz":  # a linked one speaks for itself, and z is no member
        directory.give_up(name)
    assert directory.given_up == {"a", "c"}
    assert "".join(name for name, *_ in directory.rows(())) == "b"
    directory.advertise("a", "y")
    assert "".join(name for name, *_ in directory.rows(())) == "ba"
    directory.forget("c")
    assert not directory.given_up


@pytest.fixture
def six_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """For `me` and five members."""
    monkeypatch.setattr(wire, "MAX_MEMBERS", 6)


def test_whoever_has_a_link_here_speaks_for_itself() -> None:
    """Else one bad peer could say where it is called, and under which epoch it runs."""
    directory = Directory()
    directory.advertise("a")
    link = directory.link("a", connected=True)
    elsewhere = ("a", "there", 5, "elsewhere:1")
    assert directory.learn(elsewhere, 1, "bad")
    assert directory.known["a"] == ("a", "", ord("a"), "at a")
    assert directory.learn(elsewhere, 1, "a")
    assert directory.known["a"] == elsewhere
    assert directory.learn(("a", "", 7, "here:1"), 1)
    assert directory.known["a"] == ("a", "", 7, "here:1")
    link.connected = False
    directory.learn(("a", "", 6, "at last:1"), 1, "bad")
    assert directory.known["a"] == ("a", "", 6, "at last:1")


@pytest.mark.usefixtures("six_places")
def test_who_is_silent_makes_room_the_one_first_that_was_advertised_longest_ago() -> None:
    directory = Directory()
    for name, now in (("a", 3), ("b", 2), ("c", 1)):
        directory.advertise(name, now=now)
        directory.link(name, connected=name == "a")
    assert directory.advertise("de", "a") == ""
    assert directory.advertise("f", "a") == ""
    assert directory.names == "abdef"
    assert directory.advertise("g") == ""
    assert directory.names == "adefg"
    assert directory.advertise("hd", "g") == ""  # known already, but for h
    assert directory.names == "adegh"


@pytest.mark.usefixtures("six_places")
def test_who_made_room_for_others_is_advertised_before_them() -> None:
    """Otherwise nodes behind this one took a peer that is cut off for one that this node saw go."""
    directory = Directory()
    directory.advertise("bcd", "x")
    for name, left in (("s", False), ("l", True), ("a", False)):
        directory.advertise(name)
        directory.link(name, left=left, connected=name == "a")
    directory.advertise("e", "y")
    directory.advertise("f", "z")
    assert "s" not in directory.names
    directory.given_up.add("c")
    assert "".join(name for name, *_ in directory.rows({"a"})) == "asbef"


@pytest.mark.usefixtures("six_places")
def test_who_introduced_most_makes_room_by_the_newest_for_others_and_for_who_is_linked() -> None:
    directory = Directory()
    assert directory.advertise("abc", "x") == ""
    assert directory.advertise("de", "y") == ""
    assert directory.advertise("f", "x") == "f"  # it has most itself
    assert directory.advertise("f", "y") == "f"  # it would have as many
    assert directory.advertise("f", "z") == ""
    assert directory.names == "abdef"
    assert directory.advertise("g") == ""  # it is linked, and of nobody
    assert directory.names == "adefg"
    assert directory.advertise("b", "x") == "b"  # it would have as many
    assert directory.advertise("b", "z") == "b"
    assert directory.advertise("b", "w") == ""
    assert directory.names == "adfgb"


@pytest.mark.usefixtures("six_places")
def test_who_is_linked_all_of_them_leaves_no_room() -> None:
    directory = Directory()
    for name in "abcde":
        directory.advertise(name)
        directory.link(name)
    assert directory.advertise("f", "a") == "f"
    assert directory.advertise("f") == "f"
    assert directory.names == "abcde"


@pytest.mark.usefixtures("six_places")
def test_who_was_forgotten_does_not_count_against_its_peer() -> None:
    directory = Directory()
    assert directory.advertise("abc", "x") == ""
    for name in "abc":
        directory.forget(name)
    assert directory.advertise("d", "x") == ""
    assert directory.advertise("efgh", "y") == ""
    assert directory.advertise("i", "x") == ""
    assert directory.names == "defgi"


@pytest.mark.parametrize(
    ("advertised", "unseen", "seen"),
    [
        (None, (), True),
        (None, ("a",), True),
        ("ab", (), True),
        ("b", (), False),
        ("ab", "a", False),
    ],
)
def test_a_peer_may_see_whom_it_advertises_and_does_not_call_unseen(
    advertised: str | None, unseen: str, seen: bool
) -> None:
    assert may_see(advertised, unseen, "a") == seen
