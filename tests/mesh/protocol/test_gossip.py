"""When a node sends what: rounds that need several ticks, and first rounds."""

from __future__ import annotations

from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from tests.mesh.protocol.lone_node import PEER, SECOND, RecordingTable

CHUNK = 65_536
"""Keys that the core collects in one go."""


class Speaker:
    """A node, and what it sends."""

    def __init__(self, keys: int) -> None:
        self.table = RecordingTable(keys)
        self.node = MeshNode(self.table, MeshConfig(gossip_interval=0.1), name="me", seed=1)  # type: ignore[arg-type]
        self.now = 0

    def take(self, keys: int, of: str = "key") -> None:
        self.table.bucket.take_many([f"{of} {i}" for i in range(keys)])

    def tick(self) -> list[tuple[str, wire.Frame]]:
        self.now = max(self.now + 1, self.node.next_tick(self.now))
        self.table.set_time(self.now)
        return [(name, wire.decode(data)) for name, data in self.node.tick(self.now)]

    def round(self) -> list[tuple[str, wire.Frame]]:
        """Ticks until something is sent."""
        while not (sent := self.tick()):
            pass
        return sent


def test_a_first_round_of_many_keys_collects_some_in_each_tick() -> None:
    speaker = Speaker(4 * CHUNK)
    speaker.tick()
    before = speaker.table.outbox.version
    speaker.take(2 * CHUNK + 10)
    speaker.table.called("collect_some")
    speaker.node.connected(PEER, speaker.now)
    assert speaker.tick() == speaker.tick() == []
    first = speaker.tick()
    assert {name for name, _ in first} == {"peer"}
    assert first[0][1].members is not None
    assert speaker.table.outbox.version - before == 2 * CHUNK + 10
    assert len(speaker.table.called("collect_some")) == 3
    assert speaker.table.called("collect") == []


def test_who_comes_while_a_first_round_is_under_way_gets_its_own() -> None:
    speaker = Speaker(4 * CHUNK)
    speaker.tick()
    speaker.take(CHUNK + 10)
    speaker.node.connected(PEER, speaker.now)
    assert speaker.tick() == []
    speaker.node.connected(NodeInfo("late", "", 10, "", 0), speaker.now)
    assert {name for name, _ in speaker.tick()} == {"peer"}
    late = speaker.tick()
    assert {name for name, _ in late} == {"late"}
    assert late[0][1].members is not None


def test_who_leaves_with_many_keys_collects_some_in_each_step_and_then_goes_to_one_peer() -> None:
    speaker = Speaker(4 * CHUNK)
    for peer in (PEER, NodeInfo("late", "", 10, "", 0)):
        speaker.node.connected(peer, speaker.now)
    speaker.round()
    before = speaker.table.outbox.version
    speaker.take(CHUNK + 10)
    collected, heard = [], []
    for frames in speaker.node.leave(speaker.now):
        collected.append(speaker.table.outbox.version - before)
        heard.append({name for name, _ in frames})
        assert all(wire.decode(data).flags & wire.LEAVING for _, data in frames)
    assert collected[:2] == [CHUNK, CHUNK + 10]
    assert heard == [set(), set(), {"peer"}, {"late"}]


def test_each_round_takes_a_part_of_what_is_acknowledged_out_of_the_log() -> None:
    speaker = Speaker(64)
    speaker.now = SECOND
    speaker.tick()
    ((_, most),) = speaker.table.called("trim")
    assert most == 131_072
