"""The examples of running nodes, under systemd and Kubernetes, are sound."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from crdtbucket.cli.commands import cli
from crdtbucket.config import Config, load_config
from crdtbucket.config.outlook import bytes_of_a_key
from crdtbucket.doctor.host_examination import most_keys

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "examples" / "crdtbucket.service"
MANIFEST = ROOT / "examples" / "kubernetes.yaml"


def check_serve(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line is one that `crdtbucket serve` takes; files in it are elsewhere."""
    serve = cli.get_command(click.Context(cli), "serve")
    assert serve is not None
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)
    with serve.make_context("serve", list(words)):
        pass


def unit_lines() -> list[tuple[str, str]]:
    found = re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)
    return [(name, value) for name, value in found]


def test_the_unit_runs_a_command_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    command = shlex.split(dict(unit_lines())["ExecStart"])
    assert command[:2] == ["/opt/crdtbucket/bin/crdtbucket", "serve"]
    check_serve(command[2:], monkeypatch)
    loaded = {value.partition(":")[0] for name, value in unit_lines() if name == "LoadCredential"}
    used = re.findall(r"(?:CREDENTIALS_DIRECTORY}|crdtbucket\.service)/([\w-]+)", UNIT.read_text())
    assert loaded == set(used)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/crdtbucket/bin/crdtbucket", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60, check=False
    )
    found = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert found == []
    assert done.returncode == 0, done.stderr


def manifests() -> dict[str, Any]:
    return {f"{one['kind']}/{one['metadata']['name']}": one
            for one in YAML(typ="safe").load_all(MANIFEST)}  # fmt: skip


def pod() -> dict[str, Any]:
    found: dict[str, Any] = manifests()["StatefulSet/crdtbucket"]["spec"]["template"]["spec"]
    return found


def test_the_manifest_is_of_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    every = manifests()
    nodes = every["StatefulSet/crdtbucket"]["spec"]
    (container,) = pod()["containers"]
    assert container["command"] == ["crdtbucket", "serve"]
    check_serve(container["args"], monkeypatch)
    assert f"Service/{nodes['serviceName']}" in every
    labels = nodes["template"]["metadata"]["labels"]
    selectors = [nodes["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"] for name, one in every.items() if "Service/" in name]
    selectors += [every["NetworkPolicy/crdtbucket"]["spec"]["podSelector"]["matchLabels"]]
    assert all(one == labels for one in selectors)
    ports = {port["name"] for port in container["ports"]}
    probes = [container[f"{what}Probe"]["httpGet"] for what in ("readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/readyz", "/healthz"]
    assert {probe["port"] for probe in probes} <= ports
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod()["volumes"]}


def test_the_manifest_reads_the_secrets_that_its_head_makes() -> None:
    made = set(re.findall(r"--from-literal=([\w-]+)=", MANIFEST.read_text()))
    sources = [one.get("valueFrom", {}) for one in pod()["containers"][0]["env"]]
    read = {one["secretKeyRef"]["key"] for one in sources if "secretKeyRef" in one}
    read |= {
        item["key"]
        for one in pod()["volumes"]
        for item in one.get("secret", {"items": ()})["items"]
    }
    assert read == made


def test_the_unit_tells_both_secrets_of_the_mesh() -> None:
    told = re.findall(r"^#   (\w+): \${file:", UNIT.read_text(), re.MULTILINE)
    assert told == ["secret", "hash_secret"]
    loaded = [value.partition(":")[2] for name, value in unit_lines() if name == "LoadCredential"]
    page = (ROOT / "docs" / "deploying.md").read_text()
    assert all(f"openssl rand -hex 32 > {path}" in page for path in loaded)


def configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """That of the manifest, as a node of it reads it."""
    for variable in pod()["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], "10.0.0.5-a-value-of-this-test")
    monkeypatch.setenv("POD_IP", "10.0.0.5")
    path = folder / "crdtbucket.yaml"
    path.write_text(manifests()["ConfigMap/crdtbucket"]["data"][path.name])
    return load_config(path)


def test_the_configuration_in_the_manifest_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, monkeypatch)
    assert config.mesh is not None
    assert config.mesh.advertise == "10.0.0.5:7946"
    assert config.mesh.hash_secret is not None  # docs/security.md: from the first day
    (host,) = (peer.removeprefix("dns+").partition(":")[0] for peer in config.mesh.peers)
    assert f"Service/{host}" in manifests()


def test_a_pod_goes_on_to_accept_until_no_client_is_sent_to_it_any_more() -> None:
    """SIGTERM closes the port at once, and the Service forgets the pod some time after it: without
    a pause in between each rolling update refuses connections."""
    (container,) = pod()["containers"]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    drain = float(next(one for one in container["args"] if "--drain=" in one).partition("=")[2])
    assert 5 <= int(seconds) <= pod()["terminationGracePeriodSeconds"] - drain - 5


def test_a_client_comes_back_to_the_node_that_gave_it_an_id() -> None:
    """Another node answers 404 to a commit, and the true cost would be charged nowhere."""
    assert manifests()["Service/crdtbucket"]["spec"]["sessionAffinity"] == "ClientIP"


def test_a_full_table_fits_into_the_memory_of_a_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, monkeypatch)
    (container,) = pod()["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    table = most_keys(config) * bytes_of_a_key(config)
    # As measured, three nodes with a million keys each had 80 MB besides, 150 with a state_dir.
    assert table + 256 * 2**20 <= int(limit.removesuffix("Gi")) * 2**30
