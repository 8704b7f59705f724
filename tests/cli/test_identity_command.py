"""`crdtbucket identity`: prints and makes keys, and replaces none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from crdtbucket.cli.commands import cli
from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.state_dir import StateDir

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
