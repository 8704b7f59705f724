"""The demo over NATS, from the command line to its last process."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from crdtbucket.cli.commands import cli
from crdtbucket.demo import server_process
from crdtbucket.demo.processes import DemoError
from crdtbucket.demo.server_process import NatsProcess
from tests.demo.programs import anybody_listens, children, gone, listening, start
from tests.mesh.engines.nats_server import NatsServer


def test_one_limit_over_two_clusters_and_a_gateway(tmp_path: Path) -> None:
    NatsServer().remove()  # or it is not installed
    program = start("--nats", "auto", "--seconds", "10", "--json", tmp=tmp_path)
    processes: set[int] = set()
    sockets: set[str] = set()
    while program.poll() is None and len(processes) < 5:
        processes |= set(children(program.pid))
        sockets |= listening(program.pid)
        time.sleep(0.02)
    out, err = program.communicate(timeout=300)
    assert json.loads(out)["checks"]["no take lost"], err
    assert len(processes) == 5  # three regions, and a server in each cluster
    assert all(gone(one) for one in processes)
    assert not anybody_listens(sockets)


def test_two_runs_at_once_are_refused() -> None:
    done = CliRunner().invoke(cli, ["demo", "--nats", "auto", "--redis", "auto"])
    assert done.exit_code == 2
    assert "give one of them" in done.output


def test_a_machine_without_the_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process.shutil, "which", lambda *_, **__: None)
    with pytest.raises(DemoError, match="nats-server is not installed"):
        NatsProcess()
