"""Members and observers: each tries, with the real secret, what its role does not allow."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.config import load_config
from crdtbucket.errors import ConfigError
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.reconcile.merging import Columns
from crdtbucket.reconcile.observed_node import ObservationFailed
from crdtbucket.reconcile.observer import Observer
from tests.mesh.network import RecordingNode, running
from tests.waits import eventually

MEMBERS, OBSERVERS = "a secret that members have", "a secret that observers have"
FILE = "services: {api: {bucket: {capacity: 100, refill_interval: 1h, refill_rate: 1}}}\n"


def config(secret: str, *peers: str, observers: str | None = None) -> MeshConfig:
    return MeshConfig(
        listen="127.0.0.1:0",
        secret=secret,
        peers=peers,
        observer_secret=observers,
        hash_secret="for life",
    )


async def test_an_observer_reads_and_neither_writes_nor_becomes_a_member(tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(FILE)
    own = config(MEMBERS, observers=OBSERVERS)
    async with Limiter.from_file(path, node="a", mesh=own) as a:
        a.bucket("api").take("k", 30)
        columns: Columns = {("x", 7): (1, 50, 0)}
        for secret in (OBSERVERS, MEMBERS):
            async with Observer(load_config(path), config(secret), "looks", 5.0) as observer:
                node = await observer.call(a.address)
                ((place, (_, held)),) = (await node.look(0)).keys.items()
                assert [column[1] for column in held.columns.values()] == [30]
                update = {place: (observer.buckets.by_key["api"], columns, Fraction(80))}
                if secret == MEMBERS:  # who has that could be a member just as well
                    assert (await node.send(update)).merged == 1
                else:
                    with pytest.raises(ObservationFailed, match="bad frames"):
                        await node.send(update)
            assert a.bucket("api").peek("k").remaining == (20 if secret == MEMBERS else 70)
        # As a node it calls, and is called: by the secret of observers nobody is a member.
        caller = MeshNetwork(RecordingNode("x"), config(OBSERVERS, a.address))
        async with running(caller):
            await eventually(lambda: caller.counters.refused.get("role"))
            member = MeshNetwork(
                RecordingNode("b"), config(MEMBERS, caller.address, observers=OBSERVERS)
            )
            async with running(member):
                await eventually(lambda: member.counters.refused.get("secret"))
                assert not caller.links.all()
        assert a.stats()["mesh"]["refused"].keys() >= {"role", "frame"}
        assert not a.stats()["peers"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"observer_secret": OBSERVERS, "secret": MEMBERS}, "mesh.hash_secret"),
        ({"observer_secret": OBSERVERS, "secret": [MEMBERS, OBSERVERS], "hash_secret": "h"},
         "mesh.observer_secret"),
        ({"observer_secret": "short", "secret": MEMBERS, "hash_secret": "h"},
         "mesh.observer_secret"),
        ({"observer_secret": OBSERVERS, "hash_secret": "h"}, "mesh.secret"),
    ],
)  # fmt: skip
def test_a_secret_of_observers_that_cannot_be_one_is_refused(
    settings: dict[str, object], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        MeshConfig(**settings)  # type: ignore[arg-type]
    assert [one.path for one in caught.value.problems] == [field]
