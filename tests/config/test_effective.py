"""The configuration in force, as a file that leaves nothing out."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from crdtbucket.config import Config, load_config
from crdtbucket.config.effective import MASK, effective
from tests.config.article import FILES
from tests.config.test_schema import RIGHT, VALIDATOR

VARIABLES = {"NUMBER": "9", "ON": "true", "EVERY": "5 min", "S": "hunter2-long-enough"}
SECRETS = """
rating:
  webhook: https://u:${env:S}@h
  bucket_backend: {connection: {password: '${env:S}', sentinel:
    {master: m, nodes: [s:1], password: '${env:S}'}}}
mesh: {secret: [hunter2-long-enough, '${env:S}'], hash_secret: hunter2}
"""
MORE = {
    "a cluster": "rating: {bucket_backend: {connection: {cluster: true, nodes: [a:1], tls: true}}}",
    "a url": "rating: {bucket_backend: {connection: {url: 'redis://u:hunter2@h/3'}}}",
    "a sentinel": "rating: {bucket_backend: {connection: {sentinel: {master: m, nodes: [s:1]}}}}",
    "certificates": "rating: {bucket_backend: {connection: {host: h, port: 7, db: 2, username: u, "
    "tls: {ca: ca.pem, cert: c.pem, key: k.pem}}}}",
    "regions": "region: eu\nrating: {bucket_backend: {active_active: true, regions: [us, eu], "
    "connection: {host: h}}}",
    "words": "node: 'no'\nregion: '1e3'\nmesh: {state_dir: '$${HOME}', ended_is_dead: never}\n",
}


def load(folder: Path, text: str) -> Config:
    file = folder / "crdtbucket.yaml"
    file.write_text(text)
    return load_config(file, VARIABLES)


def written(tree: dict[str, Any]) -> str:
    out = io.StringIO()
    YAML().dump(tree, out)
    return out.getvalue()


def unhidden(config: Config) -> dict[str, Any]:
    return effective(config, lambda secret: secret)


@pytest.mark.parametrize("case", [*RIGHT, *MORE])
def test_it_loads_into_the_same_configuration(tmp_path: Path, case: str) -> None:
    config = load(tmp_path, (RIGHT | MORE)[case])
    again = load(tmp_path, written(unhidden(config)))
    inherited = dataclasses.replace(config, buckets=again.buckets)
    assert again == inherited
    assert again.hash == config.hash
    assert [spec.key for spec in again.buckets] == [spec.key for spec in config.buckets]


@pytest.mark.parametrize("case", [*RIGHT, *MORE])
def test_it_fits_the_schema(tmp_path: Path, case: str) -> None:
    tree = effective(load(tmp_path, (RIGHT | MORE)[case]))
    # The masks stand for text of any kind.
    tree.get("rating", {}).pop("webhook", None)
    VALIDATOR.validate(tree)


def test_it_shows_no_secret(tmp_path: Path) -> None:
    config = load(tmp_path, SECRETS)
    assert config.mesh is not None
    shown = effective(config)
    assert "hunter2" not in str(shown)
    assert str(unhidden(config)).count("hunter2") == 6
    assert shown["mesh"]["secret"] == [MASK, MASK]
    assert shown["rating"]["webhook"] == MASK
    assert "hunter2" not in str(effective(load(tmp_path, MORE["a url"])))


def test_what_is_inherited_is_written_out(tmp_path: Path) -> None:
    text = "rating: {on_outage: deny}\ndefaults: {limit: 5/m, bucket: {max_keys: 3}}\n"
    tree = effective(load(tmp_path, text + "services: {a: {keys: {b: 9/s}}}\n"))
    bucket = {"capacity": 5, "refill_rate": 5, "refill_interval": "60s", "max_debt": 5,
              "max_keys": 3, "on_table_full": "deny"}  # fmt: skip
    plan = {**bucket, "capacity": 9, "refill_rate": 9, "refill_interval": "1s", "max_debt": 9}
    rest = {"on_outage": "deny", "shadow": False}
    assert tree["services"] == {
        "a": {"bucket": bucket, **rest, "consistency": "eventual",
              "keys": {"b": {"bucket": plan, **rest}}}
    }  # fmt: skip
    assert tree["rating"]["modes"]["latency_limit"] == "20ms"


def test_the_articles_file_is_whole(tmp_path: Path) -> None:
    trees = [effective(load(tmp_path, text)) for text in FILES.values()]
    assert all(tree == trees[0] for tree in trees)
    assert "version" not in trees[0]
