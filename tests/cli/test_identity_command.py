"""`crdtbucket identity`: prints and makes keys, and replaces none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from crdtbucket.cli.commands import cli
from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.links.ejections import Ejections, EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.state_dir import StateDir
from tests.cli.fake_node import TOKEN, fake_node, run
from tests.strong.redis_server import free_port

FILE = """
node: eu-1
mesh:
  secret: a secret of these tests
  identity: pinned
  state_dir: STATE
"""


def identity(*words: str) -> str:
    done = CliRunner().invoke(cli, ["identity", *words], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output.strip()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(FILE.replace("STATE", str(tmp_path / "state")))
    return str(path)


def test_the_key_of_a_node_is_made_once_and_shown(file: str, tmp_path: Path) -> None:
    first = identity("show", file)
    pem = (tmp_path / "state" / "eu-1.key").read_bytes()
    assert first == f"eu-1: {NodeKey.from_pem(pem, 'it').fingerprint}"
    assert identity("show", file) == first
    other = identity("show", file, "--node", "us-1")
    assert other.startswith("us-1: ed25519:")
    assert other.removeprefix("us-1") != first.removeprefix("eu-1")


def test_the_key_of_a_running_node_is_shown(file: str, tmp_path: Path) -> None:
    shown = identity("show", file)
    state = StateDir(tmp_path / "state", "eu-1")
    state.open()
    assert identity("show", file) == shown
    state.close()


def test_a_key_that_was_made_is_used_by_a_file(file: str, tmp_path: Path) -> None:
    path = tmp_path / "eu-1.pem"
    made = identity("make", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    with open(file, "a") as more:
        more.write(f"  identity_key: ${{file:{path}}}\n")
    assert identity("show", file) == f"eu-1: {made}"
    assert "is there already: it is not replaced" in identity("make", str(path))
    assert identity("show", file) == f"eu-1: {made}"
    assert "cannot be written" in identity("make", str(tmp_path / "no folder" / "key"))


async def test_an_order_is_given_to_every_node_and_one_that_is_gone_keeps_none_from_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ops.pem"
    operator = identity("make", str(path))
    gone = f"http://127.0.0.1:{free_port()}"
    command = ["identity", "eject", "us-1", "--key", str(path), "--url", gone]
    async with fake_node(POST_admin_order={"new": True}) as node:
        done = await run(*command, "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 0
        assert f"{node.url}: taken, and passed on" in done.output
        assert f"{gone}: is not reachable" in done.output
        later = str(2**62)  # the time of this machine may go back meanwhile
        back = ["identity", "readmit", *command[2:-1], node.url, "--json", "--counter", later]
        done = await run(*back, CRDTBUCKET_TOKEN=TOKEN)
        assert json.loads(done.output) == {node.url: "taken, and passed on"}
        new = f"ed25519:{1:032x}"
        given = ["identity", "rebind", "us-1", new, *command[3:-1], node.url]
        assert (await run(*given, CRDTBUCKET_TOKEN=TOKEN)).exit_code == 0
        sent = [EjectOrder.from_text(body["order"]) for _, body in node.calls]
    assert [(one.subject, one.said) for one in sent] == [
        ("us-1", True), ("us-1", False), ("us-1", new),
    ]  # fmt: skip
    orders = Ejections([operator], "mesh")
    for one in sent:
        assert orders.take(one)
    done = await run(*command, CRDTBUCKET_TOKEN=TOKEN)
    assert done.exit_code == 2


def test_a_file_without_keys_or_a_name_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text("node: eu-1\nmesh: {secret: a secret of these tests}\n")
    assert "set mesh.identity: pinned, or allowed" in identity("show", str(path))
    path.write_text(FILE.replace("node: eu-1\n", "").replace("STATE", str(tmp_path)))
    assert "give it with --node NAME" in identity("show", str(path))
    (tmp_path / "eu-1.key").write_bytes(b"no key")
    (tmp_path / "eu-1.key").chmod(0o600)
    with pytest.raises(CrdtbucketError, match=r"eu-1\.key holds no key that can be read"):
        identity("show", str(path), "--node", "eu-1")
