"""What a transport needs is imported before a fork, and before a process may lead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from crdtbucket import BucketSpec, Limiter, MeshConfig
mesh = {"sockets": MeshConfig(listen="127.0.0.1:0"), "redis": None, "nats": None}
for kind in ("redis", "nats"):
    mesh[kind] = MeshConfig(transport=kind, servers=[f"{kind}://127.0.0.1:1"], secret="s" * 16)
spec = [BucketSpec("a", 1, 1)]
limiter = Limiter(spec, node="n", mesh=mesh[sys.argv[1]], shared=sys.argv[2])
before = set(sys.modules)
assert limiter._node.service(limiter.rollout) is not None
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.mesh.engines import engines
if sys.argv[1] != "sockets":
    import random
    engines.engine_of(mesh[sys.argv[1]], "n", random.Random())
late = {name.split(".")[0] for name in set(sys.modules) - before}
assert "aiohttp" in sys.modules or sys.argv[1] != "sockets"
assert late <= {"crdtbucket", "random"}, late
"""


@pytest.mark.parametrize("kind", ["sockets", "nats", "redis"])
def test_a_limiter_that_is_made_has_imported_its_transport(kind: str, tmp_path: Path) -> None:
    """The same holds for a process that stands by, and for a worker that is forked from one that
    has made it."""
    subprocess.run([sys.executable, "-c", SCRIPT, kind, str(tmp_path / "table")], check=True)
