"""The secrets that a node shares with its mesh and with observers, and how a hello proves that the
sender has one of them."""

from __future__ import annotations

import hashlib
import hmac

from crdtbucket.base.hashing import NO_SECRET, shared_key
from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.hello import KEY_ID_BYTES, MAX_KEY_IDS, Hello
from crdtbucket.mesh.mesh_config import MeshConfig


def hash_key(config: MeshConfig) -> bytes:
    """The mesh's 16-byte key for hashing bucket keys; nodes with another one cannot take part.

    See `hashing.shared_key`, which knows of a Redis too.
    """
    key = shared_key(config, None)
    assert key is not None, "a mesh shares its limits"
    return key


class Keyring:
    """The secrets that a node accepts, the used one first, and its hash key. The secret of
    observers is accepted only from callers, so a process that has only that secret cannot answer a
    call as a node."""

    def __init__(self, config: MeshConfig, key: bytes | None = None) -> None:
        """`key`: of the hash of bucket keys; that of `hash_key` when it is not given."""
        # Without any secret (loopback, or TLS that already proved both sides) the handshake still
        # runs, with a key that everyone knows: it then finds mistakes, not attackers.
        secrets = config.secrets or (NO_SECRET,)
        self.proves = bool(config.secrets)
        """Whether a peer that has one of these keys knows a secret."""
        watching = () if config.observing_secret is None else (config.observing_secret,)
        most = MAX_KEY_IDS - len(watching)
        if len(secrets) > most:
            raise MeshError(
                f"mesh.secret lists {len(secrets)} secrets and at most "
                f"{most} can be accepted: drop those no node uses"
            )
        self._keys, self._watching = (
            tuple(keyed_digest(b"", secret, b"cb-mesh-auth", 32) for secret in several)
            for several in (secrets, watching)
        )
        self._hash_key = hash_key(config) if key is None else key

    def ids(self, nonce: bytes, *, dialer: bool) -> tuple[bytes, ...]:
        """One id for each secret, for this nonce only: only holders of the secret recognize it.
        `dialer`: the ids for a node that calls, else for one that is called."""
        keys = self._accepted(dialer=dialer)
        return tuple(keyed_digest(key, nonce, b"cb-mesh-keyid", KEY_ID_BYTES) for key in keys)

    def fingerprint(self, nonce: bytes) -> bytes:
        """Eight bytes by which a peer sees whether it has the same hash key."""
        return keyed_digest(self._hash_key, nonce, b"cb-mesh-hashid", 8)

    def accepts(self, used: bytes) -> bool:
        """Whether the secret of a handshake, as `Handshake.used` names it, is one of members."""
        return any(hmac.compare_digest(name_of(key), used) for key in self._keys)

    def is_observers(self, used: bytes) -> bool:
        """Whether the secret of a handshake, as `Handshake.used` names it, is that of observers."""
        return any(hmac.compare_digest(name_of(key), used) for key in self._watching)

    def common(self, theirs: Hello, *, dialer: bool) -> bytes | None:
        """The key to use with a peer: the first of the dialer's list that the listener accepts.

        `dialer` says whether this node is the dialer; None when no secret is shared.
        """
        keys = self._accepted(dialer=dialer)
        known = list(zip(self.ids(theirs.nonce, dialer=dialer), keys, strict=True))
        shared = {id_: key for id_, key in known if _any_equal(id_, theirs.key_ids)}
        order = shared if dialer else [id_ for id_ in theirs.key_ids if id_ in shared]
        return next((shared[id_] for id_ in order), None)

    def _accepted(self, *, dialer: bool) -> tuple[bytes, ...]:
        return self._keys if dialer else self._keys + self._watching


def name_of(key: bytes) -> bytes:
    """The name by which a link knows the secret that it was made with."""
    return keyed_digest(key, b"", b"cb-mesh-used", KEY_ID_BYTES)


def keyed_digest(key: bytes, data: bytes, person: bytes, size: int) -> bytes:
    """Keyed BLAKE2b of `data`, for the purpose that `person` names."""
    return hashlib.blake2b(data, key=key, person=person, digest_size=size).digest()


def _any_equal(one: bytes, several: tuple[bytes, ...]) -> bool:
    found = False
    for other in several:  # all are compared, so that the time does not show which one matched
        found |= hmac.compare_digest(one, other)
    return found
