"""The image and the compose file: their commands are run here, without containers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

import crdtbucket
from crdtbucket.cli.commands import cli
from tests.strong.redis_server import Server, free_port

ROOT = Path(__file__).parents[2]
IMAGE = f"ghcr.io/crdtbucket/crdtbucket:{crdtbucket.__version__}"
COMPOSE = YAML(typ="safe").load(ROOT / "examples" / "compose.yaml")
SERVICES = COMPOSE["services"]
REGIONS = [name for name, one in SERVICES.items() if one["image"] == IMAGE]
BOUND_S = 60


def dockerfile(instruction: str) -> list[str]:
    """The text after an instruction of the Dockerfile, each time that it is used."""
    text = (ROOT / "Dockerfile").read_text()
    return re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)


def content(name: str) -> str:
    """A configuration of the compose file, as a container gets it."""
    text: str = COMPOSE["configs"][name]["content"]
    assert not re.search(r"(?<!\$)\$(?!\$)", text), "compose would replace this"
    return text.replace("$$", "$")


# ---- the image ----


def test_the_image_runs_without_root_and_without_a_compiler() -> None:
    build, run = dockerfile("FROM")
    assert build == f"{run} AS build"
    assert [user.partition(":")[0] for user in dockerfile("USER")] == ["10001"]
    assert dockerfile("RUN")[-1].startswith("useradd --uid 10001 ")


def test_the_image_copies_only_what_the_build_needs() -> None:
    kept = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert {"crdtbucket", "LICENSE", "README.md", "pyproject.toml"} <= set(kept)


def test_the_command_of_the_image_is_one_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(dockerfile("ENTRYPOINT")[0]) == ["crdtbucket"]
    command = json.loads(dockerfile("CMD")[0])
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)
    serve = cli.get_command(click.Context(cli), command[0])
    assert serve is not None
    with serve.make_context("serve", command[1:]) as context:
        assert context.params["listen"] == ("0.0.0.0:7980",)


def test_the_manifest_names_the_image() -> None:
    assert f"image: {IMAGE}\n" in (ROOT / "examples" / "kubernetes.yaml").read_text()
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert IMAGE.rpartition(":")[0] + ":${{ steps.version.outputs.version }}" in workflow


# ---- compose ----


def asked(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@contextmanager
def served(region: str, moved: dict[str, str], place: Path) -> Iterator[str]:
    """A region of the compose file as a process of this machine, and where it is asked."""
    text = content("limits").replace("0.0.0.0:7946", "${env:REGION}:7946")
    text = text.replace("${env:REGION}:7946", moved[f"{region}:7946"])
    environment = {"REGION": region, "MESH_SECRET": "16 bytes or more of a test"}
    for name, value in environment.items():
        text = text.replace(f"${{env:{name}}}", value)
    for old, new in moved.items():
        text = text.replace(old, new)
    file = place / f"{region}.yaml"
    file.write_text(text)
    here = f"127.0.0.1:{free_port()}"
    words = [
        word.replace("/etc/crdtbucket/crdtbucket.yaml", str(file)).replace("0.0.0.0:7980", here)
        for word in SERVICES[region]["command"]
    ]
    with (place / f"{region}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "crdtbucket", *words], stderr=log)
        try:
            yield f"http://{here}"
            process.terminate()
            assert process.wait(BOUND_S) == 0, (place / f"{region}.log").read_text()
        finally:
            process.kill()
            process.wait()


def until(what: Any, place: Path) -> None:
    """Waits until `what` is true; a server that does not answer yet is one more reason to wait."""
    deadline = time.monotonic() + BOUND_S
    while True:
        try:
            if what():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        logs = "\n".join(path.read_text() for path in place.glob("*.log"))
        assert time.monotonic() < deadline, logs
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_the_regions_of_the_compose_file_share_one_limit(tmp_path: Path) -> None:
    assert REGIONS == ["eu", "us", "ap"]
    with ExitStack() as stack:
        redis = stack.enter_context(Server())
        moved = {f"{region}:7946": f"127.0.0.1:{free_port()}" for region in REGIONS}
        moved["host: redis, port: 6379"] = f"host: {redis.host}, port: {redis.port}"
        urls = {one: stack.enter_context(served(one, moved, tmp_path)) for one in REGIONS}
        for region, url in urls.items():
            others = set(REGIONS) - {region}

            def linked(url: str = url, others: set[str] = others) -> bool:
                return {peer["name"] for peer in asked(f"{url}/v1/peers")["peers"]} == others

            until(linked, tmp_path)
            until(lambda url=url: asked(f"{url}/readyz"), tmp_path)
        took = {"bucket": "billing", "key": "a", "cost": 60}
        assert asked(f"{urls['eu']}/v1/take", took)["mode"] == "strong"
        seen = {"bucket": "billing", "key": "a"}
        until(lambda: asked(f"{urls['ap']}/v1/peek", seen)["remaining"] == 40, tmp_path)
        # The health check of the image, at the port where this one listens.
        check = json.loads(dockerfile("HEALTHCHECK")[0].partition("CMD ")[2])
        check[0] = sys.executable
        for status, url in ((0, urls["eu"]), (1, f"http://127.0.0.1:{free_port()}")):
            words = [word.replace("http://127.0.0.1:7980", url) for word in check]
            done = subprocess.run(words, capture_output=True, timeout=BOUND_S, check=False)
            assert done.returncode == status


def test_redis_is_started_by_a_command_that_it_takes(tmp_path: Path) -> None:
    words = SERVICES["redis"]["command"]
    server = shutil.which(words[0])
    if server is None:
        pytest.skip("there is no redis-server")
    options = [str(word) for word in words[1:]]
    with subprocess.Popen([server, *options, "--port", str(free_port())], cwd=tmp_path,
                          stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            assert any("Ready to accept connections" in line for line in process.stdout)
        finally:
            process.kill()


def test_every_file_and_configuration_that_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for one in service.get("volumes", []):
            assert (ROOT / "examples" / one.partition(":")[0]).is_file(), one
        for one in service.get("configs", []):
            assert content(one["source"])


def test_prometheus_scrapes_every_region_and_reads_the_alerts(tmp_path: Path) -> None:
    loaded = YAML(typ="safe").load(content("prometheus"))
    (job,) = loaded["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{region}:7980" for region in REGIONS]
    assert all(f"--allow-host={region}" in SERVICES[region]["command"] for region in REGIONS)
    (mount,) = SERVICES["prometheus"]["volumes"]
    target = Path(mount.split(":")[1])
    assert [target.name] == loaded["rule_files"]
    assert target.parent == Path(SERVICES["prometheus"]["configs"][0]["target"]).parent
    promtool = shutil.which("promtool") or shutil.which(
        "promtool", path=Path(sys.executable).parent
    )
    if promtool is not None:
        shutil.copy(ROOT / "crdtbucket" / "deploy" / "alerts.yml", tmp_path)
        (tmp_path / "prometheus.yml").write_text(content("prometheus"))
        command = shlex.split(f"{promtool} check config {tmp_path}/prometheus.yml")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (source,) = YAML(typ="safe").load(content("datasource"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = YAML(typ="safe").load(content("dashboards"))["providers"]
    (mount,) = SERVICES["grafana"]["volumes"]
    assert Path(mount.split(":")[1]).parent == Path(provider["options"]["path"])
