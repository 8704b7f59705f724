"""Files of a node's state carry a checksum: a flipped bit is an error, and never another value."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.config import Config
from crdtbucket.errors import MeshError
from crdtbucket.limiter.saved_state import SavedState
from crdtbucket.mesh.links.command_orders import CommandBook, CommandOrder
from crdtbucket.mesh.links.ejections import Ejections, EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.peer_keys import peer_keys_of
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.rollout_store import begun, kept
from crdtbucket.rollout.staged import Position
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong import previous_epoch
from crdtbucket.strong.kept_quotas import KeptQuotas
from crdtbucket.strong.previous_epoch import PreviousEpoch

OPERATOR = NodeKey.make()
OPERATORS = [OPERATOR.fingerprint]
BEFORE = Config("v1", (BucketSpec.parse("api", "12/s"),), version=1)
NEXT = Config("v2", (BucketSpec.parse("api", "24/s"),), version=2)
PINS = MeshConfig(
    secret="x" * 32, identity="pinned", identity_key=OPERATOR.pem().decode(), state_dir="none"
)
PEER = "ed25519:c2b7a01f5e8d4936a1f07c5be3d92840"


def saved(state: StateDir) -> dict[str, Callable[[], object]]:
    """Each file, saved, and how a node that starts reads it."""
    state.owed.save(previous_epoch.dump(PreviousEpoch(((1, 2, 3, 40),), (("r:6379", "a" * 40),))))
    state.rollout.save(kept(BEFORE, Position(2, NEXT.version_id[1])))
    state.pins.save(json.dumps({"pins": {"b": PEER}}).encode())
    ejection = EjectOrder.sign(OPERATOR, "m", "b", 1, ejected=True)
    Ejections(OPERATORS, "m", state.orders).take(ejection)
    reset = CommandOrder.reset(OPERATOR, "m", "api", "k", 3)
    CommandBook(OPERATORS, "m", state.commands).take(reset)
    left_by_a_process(state)
    state.begin_epoch(7)
    return {
        "quotas": lambda: KeptQuotas(Table(max_keys=16), "me").begin(state.quotas),
        "owed": partial(start_of_a_strong_node, state),
        "rollout": partial(begun, NEXT, None, state),
        "pins": partial(peer_keys_of, PINS, "me", state),
        "orders": partial(Ejections, OPERATORS, "m", state.orders),
        "commands": partial(CommandBook, OPERATORS, "m", state.commands),
        "epoch": partial(state.begin_epoch, 8),
    }


def left_by_a_process(state: StateDir) -> None:
    """Its quotas, of which one is charged."""
    table = Table(max_keys=16)
    quotas = KeptQuotas(table, "me")
    quotas.begin(state.quotas)
    BucketCore(table, BucketSpec("api", 12, 1, "1h")).take("k", 5)
    quotas.end()


def start_of_a_strong_node(state: StateDir) -> None:
    strong: Any = SimpleNamespace(
        resume=lambda owed, _: previous_epoch.load(owed),
        kept_quotas=KeptQuotas(Table(max_keys=16), "me"),
    )
    memory: Any = SimpleNamespace(restore=lambda _: 1)
    state.snapshot.save(b"any")
    one = SavedState(Table(max_keys=16), strong)
    try:
        one.begin(state, memory, "me", shared=False, goes_on=False)
    finally:
        one.give_up()


FILES = ["owed", "quotas", "rollout", "pins", "orders", "commands", "epoch"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_stops_the_start_and_names_the_file_and_what_to_do(
    name: str, tmp_path: Path
) -> None:
    read = saved(StateDir(tmp_path, "me"))[name]
    path = tmp_path / f"me.{name}"
    sound = path.read_bytes()
    for place, byte in enumerate(sound):
        flipped = byte ^ 1 << place % 8
        path.write_bytes(sound[:place] + bytes([flipped]) + sound[place + 1 :])
        with pytest.raises(MeshError, match=rf"me\.{name} is damaged \(.*\): .*remove it"):
            read()
    path.write_bytes(sound)
    read()


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_an_earlier_version_has_no_checksum_and_is_read(
    name: str, tmp_path: Path
) -> None:
    read, path = saved(StateDir(tmp_path, "me"))[name], tmp_path / f"me.{name}"
    content, mark, _ = path.read_bytes().rpartition(b"\ncrc32 ")
    assert mark
    path.write_bytes(content)
    read()


def test_pins_are_edited_without_their_checksum(tmp_path: Path) -> None:
    read, path = saved(StateDir(tmp_path, "me"))["pins"], tmp_path / "me.pins"
    edited = path.read_bytes().replace(b'"b"', b'"c"')
    path.write_bytes(edited)
    with pytest.raises(MeshError, match="if you have edited it, remove its last line, too"):
        read()
    path.write_bytes(b"".join(edited.splitlines(keepends=True)[:-1]))
    read()
