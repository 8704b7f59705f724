"""Who of the processes of a shared table speaks to the peers, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.shared import leadership
from crdtbucket.shared.shared_file import SharedFile
from tests.waits import eventually

SPEC = BucketSpec("api", 100, 1)


async def test_a_node_whose_processes_end_at_once_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As gunicorn and `serve --workers` end them; here the leader is the first."""
    asked: list[bool] = []
    alone = SharedFile.alone

    def ask(file: SharedFile) -> bool:
        asked.append(alone(file))
        return asked[-1]

    caplog.set_level(logging.INFO, "crdtbucket.mesh")
    monkeypatch.setattr(leadership, "ALL_END_S", 60.0)
    mesh, path = MeshConfig(listen="127.0.0.1:0"), tmp_path / "table"
    leader, other = (Limiter([SPEC], node="a", mesh=mesh, shared=path) for _ in "12")
    await leader.__aenter__()
    await other.__aenter__()
    monkeypatch.setattr(SharedFile, "alone", ask)
    closing = asyncio.create_task(leader.aclose())
    await eventually(lambda: asked, "the leader ends")
    await other.aclose()
    await closing
    assert not asked[0]
    assert "node a has left" in caplog.text
