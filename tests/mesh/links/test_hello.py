"""Hellos: a node accepts only what its own frames can pass on to other nodes."""

from __future__ import annotations

import struct
from dataclasses import asdict, replace

import pytest

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links import hello
from crdtbucket.mesh.links.hello import Hello
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode

INFO = NodeInfo("n", "r", 7, "h:1", 5)
EPOCH = slice(46, 54)


def said(info: NodeInfo) -> bytes:
    return Hello(info, 1, bytes(32), bytes(8), (bytes(8),)).encode()


def told(info: NodeInfo) -> NodeInfo:
    """What the frame of a node that met it contains about it."""
    row = (info.name, info.region, info.epoch, info.address)
    frame = wire.decode(wire.encode(wire.Frame(1, 2, 3, 4, members=(row,))))
    assert frame.members is not None
    return NodeInfo(*frame.members[0], info.age_ns)


@pytest.mark.parametrize("place", ["name", "region", "address"])
@pytest.mark.parametrize("text", ["x" * 200, "\u00e9" * 100, "x" * 201, "\u00e9" * 101])
def test_a_hello_has_room_for_what_frames_have_room_for(place: str, text: str) -> None:
    """A longer name made every frame malformed that contained it: after three of them honest nodes
    had no links to each other any more."""
    info = replace(INFO, **{place: text})
    original = getattr(INFO, place).encode()
    data = said(INFO).replace(
        struct.pack(">H", len(original)) + original,
        struct.pack(">H", len(text.encode())) + text.encode(),
    )
    if len(text.encode()) <= wire.MAX_NAME:
        assert asdict(hello.decode(data).info) == asdict(info) == asdict(told(info))
        assert said(info) == data
        return
    with pytest.raises(WireError, match="too long"):
        hello.decode(data)
    with pytest.raises(MeshError, match="at most 200 bytes"):
        said(info)


def test_a_process_has_an_epoch() -> None:
    data = bytearray(said(INFO))
    assert data[EPOCH] == struct.pack(">Q", INFO.epoch)
    data[EPOCH] = bytes(8)
    with pytest.raises(WireError, match="without an epoch"):
        hello.decode(bytes(data))
    with pytest.raises(WireError, match="members"):
        told(replace(INFO, epoch=0))


@pytest.mark.parametrize("name", ["\u00e9" * 200, "zero\u200bwidth"])
def test_a_node_that_cannot_introduce_itself_does_not_begin(name: str) -> None:
    """It once ran alone, and each of its calls ended in an unexpected error."""
    with pytest.raises(MeshError, match="cannot be said to peers"):
        MeshNetwork(RecordingNode(name), MeshConfig(listen="127.0.0.1:0"))
