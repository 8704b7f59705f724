"""Keys of nodes: their files, and which are refused."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.node_key import NodeKey, fingerprint_of, is_signed
from crdtbucket.mesh.state_dir import StateDir

KEY = NodeKey.make()
PEM = KEY.pem()


def test_a_key_is_read_back_and_signs() -> None:
    again = NodeKey.from_pem(PEM, "a file")
    assert again.fingerprint == KEY.fingerprint == fingerprint_of(KEY.public)
    assert is_signed(b"text", again.sign(b"text"), KEY.public)
    for text, signature, public in (
        (b"other", KEY.sign(b"text"), KEY.public),
        (b"text", KEY.sign(b"text"), NodeKey.make().public),
        (b"text", b"", KEY.public),
        (b"text", KEY.sign(b"text"), b"too short"),
    ):
        assert not is_signed(text, signature, public)


def test_a_fingerprint_is_always_the_same() -> None:
    assert fingerprint_of(bytes(32)) == "ed25519:e0d9ed1ae08b673e4599a39b0191f070"


def pem_of(private: Any, password: bytes | None = None) -> bytes:
    hidden: Any = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password)
    pem: bytes = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden
    )
    return pem


@pytest.mark.parametrize(
    ("pem", "told"),
    [
        (b"", "no key that can be read"),
        (PEM[:-40], "no key that can be read"),
        (PEM.replace(b"MC4C", b"MC4D"), "no key that can be read"),
        (pem_of(ed25519.Ed25519PrivateKey.generate(), b"hidden"), "no key that can be read"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "a key of another kind"),
    ],
    ids=["empty", "cut", "damaged", "with a password", "ecdsa"],
)
def test_what_is_no_key_is_refused_without_repeating_it(pem: bytes, told: str) -> None:
    with pytest.raises(MeshError, match=f"my file holds {told}.*openssl genpkey") as caught:
        NodeKey.from_pem(pem, "my file")
    assert b"MC4" not in str(caught.value).encode()


def test_a_missing_package_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for attempt in (NodeKey.make, lambda: NodeKey.from_pem(PEM, "a file")):
        with pytest.raises(MeshError, match=r"pip install 'crdtbucket\[identity\]'"):
            attempt()


def test_the_file_of_a_key_is_not_replaced(tmp_path: Path) -> None:
    state = StateDir(tmp_path, "eu-1")
    state.open()
    assert state.key.load() is None
    state.key.save(PEM)
    assert state.key.load() == PEM
    with pytest.raises(MeshError, match=r"eu-1\.key is there already"):
        state.key.save(NodeKey.make().pem())
    assert state.key.load() == PEM
    state.close()


def test_a_file_that_is_no_file_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"something of another program")
    (tmp_path / "eu-1.key").symlink_to(tmp_path / "mine")
    (tmp_path / "eu-2.key").symlink_to(tmp_path / "nowhere")
    (tmp_path / "eu-3.key").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "eu-4.key")
    for name in ("eu-1", "eu-2", "eu-3", "eu-4"):
        state = StateDir(tmp_path, name)
        with pytest.raises(MeshError, match=rf"{name}\.key cannot be read"):
            state.key.load()
        with pytest.raises(MeshError, match="is there already"):
            state.key.save(PEM)
    assert (tmp_path / "mine").read_bytes() == b"something of another program"


def test_a_key_that_every_user_may_read_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateDir(tmp_path, "eu-1")
    state.key.save(PEM)
    for mode in (0o604, 0o602, 0o777):
        (tmp_path / "eu-1.key").chmod(mode)
        with pytest.raises(MeshError, match=rf"mode {mode:03o}.*chmod 600"):
            state.key.load()
    (tmp_path / "eu-1.key").chmod(0o660)  # as a volume of Kubernetes with fsGroup has it
    assert state.key.load() == PEM
    assert "its group has this node's key" in caplog.text
