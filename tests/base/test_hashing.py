"""Nodes that share a limit hash alike, in any mesh or in none, by a hash without known
collisions."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Table
from crdtbucket.base.hashing import PUBLIC_KEY, fingerprint, key_of, shared_key
from crdtbucket.errors import ConfigError
from crdtbucket.mesh.links.keyring import hash_key
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.redis_config import RedisConfig

REDIS = RedisConfig(host="redis")
SPEC = BucketSpec("api", 10, 10)
SECRET = "a secret of sixteen bytes"
OTHER = "another one, as long as it"


@given(st.binary(min_size=1, max_size=512))
def test_without_a_secret_a_key_is_hashed_by_blake2s(key: bytes) -> None:
    bucket = BucketCore(Table(max_keys=16, hash_key=PUBLIC_KEY), SPEC)
    salt = bucket.name_hash.to_bytes(8, "little")
    digest = hashlib.blake2s(key, digest_size=16, salt=salt, person=PUBLIC_KEY[:8]).digest()
    halves = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
    assert bucket.hash(key) == halves


@pytest.mark.parametrize("size", [1, 63, 64, 65, 127, 128, 129, 512])
def test_all_ways_to_take_find_one_entry(size: int) -> None:
    bucket = BucketCore(Table(max_keys=16, hash_key=PUBLIC_KEY), SPEC)
    key = b"k" * size
    bucket.take(key)
    bucket.take_many([key, key])
    bucket.take_burst(key, 2)
    assert bucket.peek(key).remaining == 5
    assert Table(max_keys=16, hash_key=PUBLIC_KEY).hash_key == PUBLIC_KEY


MESHES = [
    None,
    MeshConfig(),
    MeshConfig(secret=SECRET),
    MeshConfig(secret=OTHER),
    MeshConfig(secret=[OTHER, SECRET]),
]


@pytest.mark.parametrize("mesh", MESHES)
def test_who_has_a_redis_hashes_alike_in_any_mesh_and_in_none(mesh: MeshConfig | None) -> None:
    assert shared_key(mesh, REDIS) == PUBLIC_KEY
    assert shared_key(mesh, RedisConfig(host="redis", prefix="other:")) == PUBLIC_KEY
    keyed = RedisConfig(host="redis", hash_secret=SECRET)
    assert shared_key(mesh, keyed) == key_of(SECRET.encode())


def test_a_secret_for_the_purpose_holds_whoever_has_it() -> None:
    given = MeshConfig(secret=OTHER, hash_secret=SECRET)
    keyed = RedisConfig(host="redis", hash_secret=SECRET.encode())
    assert shared_key(given, REDIS) == shared_key(None, keyed) == shared_key(given, keyed)
    assert shared_key(given, None) == hash_key(given) == key_of(SECRET.encode())
    with pytest.raises(ConfigError, match=r"redis\.hash_secret: is another one"):
        shared_key(given, RedisConfig(host="redis", hash_secret=OTHER))


def test_a_mesh_alone_uses_its_own_secret_and_who_shares_nothing_none() -> None:
    assert shared_key(MeshConfig(secret=SECRET), None) == hash_key(MeshConfig(secret=SECRET))
    assert shared_key(None, None) is None


def test_fingerprints_tell_keys_apart_and_do_not_hold_them() -> None:
    keys = [PUBLIC_KEY, key_of(b"a"), key_of(b"b")]
    prints = {fingerprint(key) for key in keys}
    assert len(prints) == 3
    assert all(key.hex()[:16] not in prints for key in keys)
