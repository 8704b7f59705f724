"""Settings of a mesh on a message engine."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.errors import ConfigError, MeshError
from crdtbucket.mesh.mesh_config import MeshConfig

SECRET = "a secret of these tests"
NATS: dict[str, Any] = {"transport": "nats", "servers": ["nats://h:1"], "secret": SECRET}


def test_a_mesh_on_an_engine_expects_a_peer_and_shows_no_secret() -> None:
    mesh = MeshConfig(**NATS, credentials="eu-1:hidden")
    assert mesh.expected_peers == 1
    assert MeshConfig(peers=["127.0.0.1:1"]).expected_peers == 1
    assert MeshConfig().expected_peers == 0
    assert "hidden" not in repr(mesh)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"transport": "mqtt"}, "mesh.transport: is 'mqtt' (write sockets, nats or redis)"),
        ({"servers": []}, "mesh.servers: names no server (write a list, such as [nats://"),
        ({"servers": "nats://h:1"}, "mesh.servers: is one text and no list"),
        ({"servers": ["h:1"]}, "mesh.servers[0]: begins with none of nats://, tls://"),
        ({"servers": ["nats://"]}, "mesh.servers[0]: has no host and port"),
        ({"servers": ["nats://h:99999"]}, "mesh.servers[0]: is no URL"),
        ({"servers": ["nats://u:pw@h:1"]}, "mesh.servers[0]: has credentials, which belong"),
        ({"servers": [7]}, "mesh.servers[0]: is not text"),
        ({"transport": "redis", "servers": ["redis://a", "redis://b"]}, "names 2 servers"),
        ({"transport": "redis"}, "mesh.servers[0]: begins with none of redis://, rediss://"),
        ({"peers": ["h:1"]}, "mesh.peers: is for a mesh of sockets, and transport is nats"),
        ({"advertise": "h:1"}, "mesh.advertise: is for a mesh of sockets"),
        ({"subject_prefix": "a.b"}, "mesh.subject_prefix: is 'a.b' (use 1 to 64 letters"),
        ({"mesh_name": ""}, "mesh.mesh_name: is ''"),
        ({"credentials": " "}, "mesh.credentials: is empty"),
        ({"transport": "sockets"}, "mesh.servers: is for a mesh on an engine"),
    ],
)
def test_what_is_wrong_is_reported(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        MeshConfig(**{**NATS, **settings})
    assert told in str(wrong.value)
    assert "pw" not in str(wrong.value)


def test_an_engine_needs_a_secret() -> None:
    with pytest.raises(MeshError, match=r"transport is nats.*set mesh\.secret"):
        MeshConfig(**{**NATS, "secret": None})


def test_an_authority_alone_is_enough_to_call_an_engine() -> None:
    assert MeshConfig(**NATS, tls_ca="ca.pem").tls_ca == "ca.pem"
