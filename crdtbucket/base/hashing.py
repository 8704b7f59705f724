"""The key of the hash under which nodes, and Redis, know a bucket's keys.

The hash hides the names of keys from peers and from Redis, and all who share a limit must hash
alike. A secret key keeps callers, who choose the names, from building two names of one hash, which
would share one limit. Nodes that share a Redis need not share a mesh, nor its secret. Unless they
are given one secret for this purpose, they use a key that everybody knows, with a hash of which
nobody can build collisions even so (see `core/memory/hash.h`).
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from crdtbucket.errors import ConfigError, Problem

NO_SECRET = b"crdtbucket mesh without a secret"
PUBLIC_KEY = b"crdtbkt1" + b"\xff" * 8
"""The second half shows the core that this key is no secret."""


class HashSettings(Protocol):
    """Settings of what several nodes share, a mesh or a Redis."""

    @property
    def hash_secret(self) -> str | bytes | None:
        """The secret that all who share it hash by."""


class MeshHashSettings(HashSettings, Protocol):
    """The settings of a mesh that decide about its hash."""

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets that authenticate its nodes; the last one is the oldest."""


def key_of(secret: bytes) -> bytes:
    """The 16-byte key that a secret stands for."""
    inner = hashlib.blake2b(secret, digest_size=32, key=b"", person=b"cb-hash-secret").digest()
    return hashlib.blake2b(b"", digest_size=16, key=inner, person=b"cb-hash-key").digest()


def shared_key(mesh: MeshHashSettings | None, redis: HashSettings | None) -> bytes | None:
    """The key of a node with this mesh and this Redis; None for a node that shares nothing.

    From `hash_secret`, of either. Without it, with a Redis: `PUBLIC_KEY`. In a mesh alone from the
    last, that is oldest, accepted secret, so that adding a secret in front changes nothing (to drop
    the last one does); without any, well known. Raises `ConfigError` when the two are different.
    """
    given = [one.hash_secret for one in (mesh, redis) if one is not None and one.hash_secret]
    secrets = {one.encode() if isinstance(one, str) else one for one in given}
    if len(secrets) > 1:
        fix = "write the same secret, or leave it out: that of the mesh holds then"
        path = "redis.hash_secret"
        raise ConfigError([Problem("is another one than mesh.hash_secret", fix, path=path)])
    if secrets:
        return key_of(secrets.pop())
    if redis is not None:
        return PUBLIC_KEY
    if mesh is None:
        return None
    return key_of(mesh.secrets[-1] if mesh.secrets else NO_SECRET)


def fingerprint(key: bytes) -> str:
    """A text by which users of one Redis see that they hash alike; it does not reveal the key."""
    return hashlib.blake2b(b"", digest_size=8, key=key, person=b"cb-redis-hash").hexdigest()
