"""Finds what a host lacks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket._core import REMEMBERED_BYTES
from crdtbucket.config import Config, load_config
from crdtbucket.doctor import host_examination
from crdtbucket.doctor.diagnosis import Diagnosis
from crdtbucket.doctor.host_examination import (
    available_memory,
    examine_host,
    memory_answer,
    most_keys,
)
from crdtbucket.limiter.facade import MAX_KEYS
from crdtbucket.shared import shared_file
from tests.disks import full, small_disk
from tests.strong.redis_server import free_port

SECRET = "a secret of these tests"
API = "node: eu-1\nservices: {api: {limit: 100/minute}}\n"
MIB = 1 << 20


def config(folder: Path, text: str = "") -> Config:
    path = folder / "crdtbucket.yaml"
    path.write_text(API + text)
    return load_config(path)


async def examined(
    found: Config,
    *listen: str,
    running: bool = False,
    timeout: float = 20.0,
    max_keys: int = MAX_KEYS,
) -> dict[str, Diagnosis]:
    rows = await examine_host(found, listen, timeout, running=running, max_keys=max_keys)
    return {one.subject.partition(" ")[0] + one.subject.rpartition(" room")[1]: one for one in rows}


async def test_a_free_port_and_one_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = await examined(config(tmp_path), address)
        assert found["port"].subject == f"port {address}"
        assert found["port"].text.startswith("another process listens there: stop it")
        mesh = f"mesh: {{secret: {SECRET}, listen: '{address}'}}\n"
        silent = await examined(config(tmp_path, mesh), timeout=0.5)  # it answers no handshake
        assert silent["port"].level == "wrong"
        assert (await examined(config(tmp_path, mesh), running=True))["port"].level == "ok"
    found = await examined(config(tmp_path), f"127.0.0.1:{free_port()}")
    assert found["port"].text == "is free"


@pytest.mark.parametrize(
    ("address", "text"),
    [("127.0.0.1", "has no port"), ("192.0.2.1:7000", "name an address of this host")],
)
async def test_an_address_that_is_not_of_this_host(tmp_path: Path, address: str, text: str) -> None:
    found = await examined(config(tmp_path), address)
    assert found["port"].level == "wrong"
    assert text in found["port"].text


async def test_the_node_of_the_file_may_run_already(tmp_path: Path) -> None:
    port = free_port()
    file = config(tmp_path, f"mesh: {{secret: {SECRET}, listen: '127.0.0.1:{port}'}}\n")
    for name, level in (("eu-1", "ok"), ("us-1", "wrong")):
        mesh = MeshConfig(listen=f"127.0.0.1:{port}", secret=SECRET)
        async with Limiter.from_file(file.path, node=name, mesh=mesh):
            assert (await examined(file))["port"].level == level


async def test_a_shared_table_is_examined_and_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table"
    file = config(tmp_path, f"shared: {path}\n")
    found = await examined(file)
    assert (found["shared"].level, found["shared room"].level) == ("ok", "ok")
    assert not path.exists()
    with Limiter.from_file(file.path):
        assert (await examined(file))["shared"].text == "is a table"
    path.chmod(0o644)
    assert (await examined(file))["shared"].text.endswith(f": chmod 600 {path}")
    path.chmod(0o600)
    path.write_text("a letter")
    found = await examined(file)
    assert "another program's file" in found["shared"].text
    assert path.read_text() == "a letter"
    found = await examined(config(tmp_path, f"shared: {tmp_path}/none/table\n"))
    assert found["shared"].text == f"{tmp_path}/none is no folder: name a file in /dev/shm"
    monkeypatch.setattr(shared_file, "DIRECTORY", str(tmp_path))
    found = await examined(config(tmp_path, "shared: auto\n"))
    assert found["shared"].text == "does not exist yet, and can be made"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_a_shared_table_that_cannot_grow(tmp_path: Path) -> None:
    at = tmp_path / "disk"
    file = config(tmp_path, f"shared: {at}/table\n")
    with small_disk(at, 256 << 20), Limiter.from_file(file.path) as limiter:
        full(at)
        limiter.bucket("api").take_many([f"key {i}" for i in range(20_000)])
        assert (await examined(file))["shared"].text == (
            "cannot grow (its file system is full), and evicts keys although fewer than max_keys "
            f"are in it: give the file system of {at} more room, or lower max_keys"
        )
        (at / "ballast").unlink()
        limiter._tables.main.sharing.grow()
        assert (await examined(file))["shared"].text == "is a table"
        full(at)
        limiter.bucket("api").take_many([f"other {i}" for i in range(60_000)])
        assert "cannot grow" in (await examined(file))["shared"].text
        limiter.close()
        found = await examined(file)  # nobody evicts now, and the next start asks again
        assert found["shared"].text == "is a table"
        assert found["shared room"].level == "wrong"


async def test_a_folder_for_the_state(tmp_path: Path) -> None:
    for folder, level in ((tmp_path / "new" / "er", "ok"), (tmp_path / "file" / "er", "wrong")):
        (tmp_path / "file").touch()
        mesh = f"mesh: {{secret: {SECRET}, state_dir: {folder}, listen: '127.0.0.1:{free_port()}'}}"
        assert (await examined(config(tmp_path, mesh)))["state_dir"].level == level
        assert not folder.exists()


async def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = os.statvfs(tmp_path)
    full = os.statvfs_result((*space[:4], 3, *space[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    mesh = f"mesh: {{secret: {SECRET}, state_dir: {tmp_path}, listen: '127.0.0.1:{free_port()}'}}"
    found = (await examined(config(tmp_path, mesh)))["state_dir"]
    left = 3 * space.f_frsize // 1024
    assert found.level == "wrong"
    assert found.text.startswith(f"its file system has {left} KiB left, too little for a snapshot")


def test_memory_is_that_of_a_full_table(tmp_path: Path) -> None:
    assert most_keys(config(tmp_path)) == 1_000_000
    path = tmp_path / "small.yaml"
    path.write_text("services: {a: {limit: 1/s, bucket: {max_keys: 1000}}}\n")
    assert most_keys(load_config(path)) == 1_000
    path.write_text(
        "services: {a: {limit: 1/s, bucket: {max_keys: 1000}, keys: {'v*': {limit: 2/s}}}}\n"
    )
    assert most_keys(load_config(path)) == 2_000  # each override has as many keys of its own


async def test_a_node_that_runs_has_a_table_of_its_own_size(tmp_path: Path) -> None:
    assert most_keys(config(tmp_path), 64) == 64
    assert most_keys(config(tmp_path), 2_000_000) == 2_000_000
    small = (await examined(config(tmp_path), running=True, max_keys=64))["memory"].text
    assert small.startswith("a full table takes 0 MiB")


async def test_in_a_mesh_it_is_also_what_is_remembered_of_peers(tmp_path: Path) -> None:
    async def told(text: str) -> int:
        found = (await examined(config(tmp_path, text)))["memory"].text
        return int(found.removeprefix("a full table takes ").partition(" ")[0])

    alone = await told("")
    assert 64 <= alone <= 512
    mesh = f"mesh: {{secret: {SECRET}, listen: '127.0.0.1:{free_port()}'}}\n"
    assert await told(mesh) - alone == pytest.approx(REMEMBERED_BYTES * 1_000_000 / MIB, abs=1)


def test_too_little_memory() -> None:
    assert memory_answer(200 * MIB, 300 * MIB).level == "ok"
    found = memory_answer(200 * MIB, 100 * MIB)
    assert found.level == "wrong"
    assert found.text == (
        "a full table takes 200 MiB, and this host has 100 MiB left: give each bucket max_keys, "
        "or the node more memory"
    )
    assert memory_answer(200 * MIB, 100 * MIB, held=150 * MIB).level == "ok"
    assert memory_answer(200 * MIB, None).level == "note"


def test_the_memory_that_is_left_is_known_here() -> None:
    assert (available_memory() or 0) > MIB


@pytest.mark.parametrize(
    ("own", "limits", "left"),
    [
        ("0::/\n", {"": 300}, 200),  # in a container, which sees its own group as the root
        ("0::/system.slice/edge.service\n", {"system.slice/edge.service": 150}, 50),
        ("0::/system.slice/edge.service\n", {"system.slice": 170}, 70),
        ("0::/a/b\n", {"": 180, "a": 160, "a/b": 170}, 60),
        ("0::/a/b\n", {"a/b": 40}, 0),  # lowered below what is used
        ("1:name=systemd:/\n0::/../outside\n", {"": 190}, 90),
        ("", {"": 120}, 20),
    ],
)
@pytest.mark.parametrize("cache", [0, 30], ids=["without a cache", "beside files that it read"])
def test_the_memory_of_each_control_group_that_this_process_is_in_counts(
    cache: int,
    own: str,
    limits: dict[str, int],
    left: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel takes pages of files back that were not used of late: they are not in use."""
    groups = tmp_path / "cgroup"
    for folder in ("", "a", "a/b", "system.slice", "system.slice/edge.service"):
        (groups / folder).mkdir(parents=True, exist_ok=True)
        limit = str(limits[folder] * MIB) if folder in limits else "max"
        (groups / folder / "memory.max").write_text(f"{limit}\n")
        (groups / folder / "memory.current").write_text(f"{(100 + cache) * MIB}\n")
        stat = f"anon {7 * MIB}\ninactive_file {cache * MIB}\nactive_file {9 * MIB}\n"
        if cache:
            (groups / folder / "memory.stat").write_text(stat)
    (tmp_path / "own").write_text(own)
    (tmp_path / "meminfo").write_text("MemAvailable:    1048576 kB\n")
    monkeypatch.setattr(host_examination, "GROUPS", str(groups))
    monkeypatch.setattr(host_examination, "OWN_GROUP", str(tmp_path / "own"))
    monkeypatch.setattr(host_examination, "MEMORY", str(tmp_path / "meminfo"))
    assert available_memory() == left * MIB
