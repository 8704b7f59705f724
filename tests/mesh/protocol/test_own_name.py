"""Another process with the name of this node: which goes on, which refuses, and for how long."""

from __future__ import annotations

import itertools
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket._core import Table
from crdtbucket.errors import MeshError, NodeConflict
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.own_name import MET_NS, OwnName
from crdtbucket.mesh.protocol.peer_warnings import BoundedPeers
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import BadMember

SPEC = BucketSpec("b", 100, 1, "1h")
NOW = 10**15
BEGAN = 10**18
CONFLICT = NodeConflict("another one has this name")


def mesh_of(size: int) -> SimulatedMesh:
    mesh = SimulatedMesh("ABCDE"[:size], [SPEC], latency=0.01, seed=5)
    mesh.advance(2.0)
    return mesh


def serves(mesh: SimulatedMesh, name: str) -> bool:
    try:
        return mesh[name].peek("b", "k").allowed
    except NodeConflict:
        return False


@pytest.mark.parametrize("size", [2, 3])
def test_a_stranger_that_says_it_is_older_stops_nobody_that_has_a_link(size: int) -> None:
    mesh = mesh_of(size)
    for name in mesh.nodes:
        node, now = mesh[name].node, mesh[name].local_ns(mesh.now_ns)
        with pytest.raises(NodeConflict):
            node.connected(NodeInfo(name, "there", 99, "", 0, established=True), now)
        assert serves(mesh, name)
        assert node.members.bounded.counts() == {name: {"own_name": 1}}


@pytest.mark.parametrize(("others", "goes_on"), [("", False), ("B", True)])
def test_one_link_is_enough_whoever_else_is_invented(others: str, goes_on: bool) -> None:
    mesh = mesh_of(5)
    for number in range(9):
        BadMember(mesh, f"nobody-{number}", 99 + number).link("A")
    mesh.partition("A" + others, set("BCDE") - set(others))
    mesh.advance(2.0)
    meets_older(mesh, "A")
    assert serves(mesh, "A") is goes_on


def test_who_refused_serves_again_when_a_peer_is_linked() -> None:
    mesh = mesh_of(3)
    mesh.partition("A", "BC")
    mesh.advance(2.0)
    meets_older(mesh, "A")
    assert not serves(mesh, "A")
    assert mesh["A"].table.sharing.refused  # so do the other processes that share the table
    mesh.heal()
    mesh.advance(2.0)
    assert serves(mesh, "A")
    assert not mesh["A"].table.sharing.refused


def test_who_has_no_memory_refuses_for_as_long_as_peers_say_so() -> None:
    """A second process under a name: the peers are linked with the first, and refuse it."""
    mesh = mesh_of(3)
    mesh.partition("A", "BC")
    mesh.restart("A")
    node = mesh["A"].node
    assert not node.memory.complete
    for _ in range(5):
        node.name_reported(CONFLICT, "B")
        mesh.advance(20.0)
        assert not serves(mesh, "A")
    mesh.advance(11.0)
    assert serves(mesh, "A")


def test_who_was_a_part_of_the_mesh_goes_on() -> None:
    mesh = mesh_of(3)
    mesh.partition("A", "BC")
    mesh.advance(2.0)
    mesh["A"].node.name_reported(CONFLICT, "B")
    assert serves(mesh, "A")


def meets_older(mesh: SimulatedMesh, name: str) -> None:
    node = mesh[name].node
    node.duplicate_name(NodeInfo(name, "", 99, "", 0), node.info)


class Alone:
    """The rule by itself: a node that has links to these, alive or not."""

    def __init__(self, **status: str) -> None:
        self.table = Table(max_keys=16, virtual=True)
        self.bounded = BoundedPeers("me")
        members: Any = SimpleNamespace(
            links=status,
            bounded=self.bounded,
            status=lambda link, now: link,
        )
        self.own, self.members = OwnName(self.table, members, "me"), members
        self.refusals: list[NodeConflict] = []
        self.own.subscribe(self.refusals.append)

    @property
    def refuses(self) -> bool:
        assert self.table.sharing.refused is (self.table.refusal is not None)
        return self.table.sharing.refused

    def met(
        self,
        began: int,
        epoch: int,
        now: int = NOW,
        region: str = "there",
        *,
        address: str = "host:1",
        established: tuple[bool, bool] = (False, False),
    ) -> NodeConflict:
        """`established`: whether this node and the peer each stated in the handshake that it is
        established."""
        me = NodeInfo("me", "here", 5, "", 0, established[0], BEGAN)
        peer = NodeInfo("me", region, epoch, address, 0, established[1], began)
        return self.own.met(me, peer, now)


@pytest.mark.parametrize(
    ("began", "epoch", "yields"),
    [(BEGAN - 1, 9, True), (BEGAN + 1, 4, False),
     (BEGAN, 4, True), (BEGAN, 5, False), (BEGAN, 6, False)],
)  # fmt: skip
def test_of_two_that_are_no_part_of_the_mesh_the_younger_yields_or_the_greater_epoch(
    began: int, epoch: int, yields: bool, caplog: pytest.LogCaptureFixture
) -> None:
    alone = Alone()
    conflict = alone.met(began, epoch)
    assert str(conflict).startswith(
        "another running process is called 'me' in region 'there', at host:1: "
        "give each node its own name"
    )
    assert alone.refuses is yields
    assert alone.refusals == [conflict] * yields
    for _ in range(2):
        errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        assert errors == [f"me makes no more decisions: {conflict}"] * yields
        alone.met(began, epoch)


@pytest.mark.parametrize(
    ("region", "address", "where"),
    [("", "", ""), ("us", "", " in region 'us'"), ("", "h:2", ", at h:2")],
)
def test_where_the_other_process_is_is_said_as_far_as_it_says_so(
    region: str, address: str, where: str
) -> None:
    conflict = Alone().met(0, 9, region=region, address=address)
    assert str(conflict).startswith(f"another running process is called 'me'{where}: give each ")


@pytest.mark.parametrize(
    ("established", "began", "yields"),
    [((True, False), 0, False), ((False, True), BEGAN + 1, True),
     ((True, True), BEGAN + 1, False), ((True, True), 0, True)],
)  # fmt: skip
def test_who_is_established_goes_on_whoever_began_first(
    established: tuple[bool, bool], began: int, yields: bool
) -> None:
    """The handshake decides, since this node may have lost its links since."""
    alone = Alone()
    alone.met(began, 9, established=established)
    assert alone.refuses is yields


def test_of_all_that_meet_just_one_goes_on() -> None:
    """This holds in any order and for any number, when each meets each other one."""
    said = [
        NodeInfo("me", f"{at}", epoch, "", 0, established, BEGAN + began)
        for at, (established, began, epoch) in enumerate(
            itertools.product((False, True), (0, 1, 4 * 10**9, 8 * 10**9), (3, 4, 5))
        )
    ]
    for count in (2, 3):
        for some in itertools.combinations(said, count):
            going_on = 0
            for me in some:
                alone = Alone()
                for peer in some:
                    if peer is not me:
                        alone.own.met(me, peer, NOW)
                going_on += not alone.refuses
            assert going_on == 1, some


@pytest.mark.parametrize(
    ("links", "yields"),
    [({"a": "alive"}, False), ({"a": "left", "b": "suspect", "c": "alive"}, False),
     ({"a": "suspect", "b": "dead"}, True), ({}, True)],
)  # fmt: skip
def test_nobody_yields_that_a_peer_is_linked_with(links: dict[str, str], yields: bool) -> None:
    alone = Alone(**links)
    alone.met(0, 9, region="")
    assert alone.refuses is yields
    assert alone.bounded.counts() == ({} if yields else {"me": {"own_name": 1}})


def test_what_is_not_believed_is_said_and_by_whom(caplog: pytest.LogCaptureFixture) -> None:
    alone = Alone(a="alive")
    for _ in range(2):
        alone.met(0, 9)
    for by in ("b", ""):
        alone.own.reported(CONFLICT, by, NOW, memory=False)
    assert alone.bounded.counts() == {
        "me": {"own_name": 2}, "b": {"own_name": 1}, "(others)": {"own_name": 1}
    }  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [
        f"me: {what}: peers are linked with this one, which goes on"
        for what in (
            "me is the name of another process in region 'there', at host:1, too",
            "b says that another process is called 'me'",
            "(others) says that another process is called 'me'",
        )
    ]


def test_a_report_is_believed_by_whom_has_no_memory_or_refuses_already() -> None:
    alone = Alone()
    alone.own.reported(CONFLICT, "b", NOW, memory=True)
    assert not alone.refuses
    alone.own.reported(CONFLICT, "b", NOW, memory=False)
    assert alone.refuses
    alone.own.reported(CONFLICT, "b", NOW + MET_NS, memory=True)
    alone.own.look(NOW + MET_NS)
    assert alone.refuses  # for as long as peers say so
    assert alone.refusals == [CONFLICT, CONFLICT]


def test_it_serves_again_when_the_other_was_not_met_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone = Alone()
    alone.met(0, 9)
    alone.own.look(NOW + MET_NS - 1)
    assert alone.refuses
    alone.own.look(NOW + MET_NS)
    assert not alone.refuses
    told = "me serves again: the other process of this name was not met again"
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [told]


@pytest.mark.parametrize("linked", [True, False])
def test_who_leads_next_in_a_shared_table_lifts_the_refusal_of_who_led_before(linked: bool) -> None:
    """Else the processes of a host refuse for ever."""
    mesh = mesh_of(3)
    mesh.partition("A", "BC")
    mesh.advance(2.0)
    meets_older(mesh, "A")
    table = mesh["A"].table
    table.refuse(CONFLICT)  # as the processes of the table have it that do not lead
    node = mesh["A"].node = MeshNode(table, mesh.config, name="A", shared=True)
    if linked:
        mesh.heal()
        for name in "BC":
            node.connected(mesh[name].node.info, mesh["A"].local_ns(mesh.now_ns))
    mesh.advance(2.0)
    assert serves(mesh, "A") is linked
    mesh.advance(31.0)
    assert serves(mesh, "A")


def test_it_lifts_no_refusal_but_its_own() -> None:
    for refusal in (MeshError("for another reason"), CONFLICT):  # that of another process, too
        alone = Alone()
        alone.table.refuse(refusal)
        alone.table.sharing.refused = True
        alone.own.look(NOW + MET_NS)
        assert alone.refuses
    alone = Alone()
    alone.met(0, 9)
    alone.own.look(NOW + MET_NS)
    alone.table.refuse(CONFLICT)
    alone.table.sharing.refused = True
    alone.own.look(NOW + 3 * MET_NS)
    assert alone.refuses
    alone.own = OwnName(alone.table, alone.members, "me")  # to which nobody listens
    alone.met(0, 9)
