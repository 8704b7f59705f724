"""The version and the hash of a configuration: what they cover, and what they leave out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from crdtbucket.config import Config, load_config
from crdtbucket.config.fingerprint import spec_content
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

BASE = """
rating: {consistency: eventual, on_outage: quota}
services:
  chat: {bucket: {capacity: 100, refill_rate: 10, refill_interval: 1s}}
  login: {limit: 5/minute}
"""


def load(folder: Path, text: str, **env: str) -> Config:
    file = folder / "crdtbucket.yaml"
    file.write_text(text)
    return load_config(file, env)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("", 0),
        ("version:\n", 0),
        ("version: 7\n", 7),
        ("openclaw: {version: 8}\n", 8),
        ("version: ${env:BUILD}\n", 12),
        ("version: 9007199254740992\n", 2**53),
    ],
)
def test_the_version_is_that_of_the_file(tmp_path: Path, text: str, version: int) -> None:
    assert load(tmp_path, text, BUILD="12").version == version


def test_the_hash_is_the_same_in_every_process_and_release(tmp_path: Path) -> None:
    assert load(tmp_path, BASE).hash == "5e9768d7dd622518"


@pytest.mark.parametrize(
    "text",
    [
        "version: 3\nnode: eu-1\nregion: eu\n" + BASE,
        BASE + "mesh: {listen: 127.0.0.1:1, secret: '${env:SECRET}'}\n",
        BASE.replace(
            "on_outage: quota",
            "bucket_backend: {connection: {host: h, password: '${env:SECRET}'}}, "
            "webhook: 'https://u:${env:SECRET}@h'",
        ),
        BASE.replace("refill_rate: 10, refill_interval: 1s", "refill_rate: 1, "
                     "refill_interval: 100ms, max_debt: 100, on_table_full: deny"),
        BASE.replace("limit: 5/minute", "limit: 5 per 60 s burst 5, consistency: eventual, "
                     "on_outage: quota"),
        "services:\n  login: {limit: 5/minute}\n  chat: {limit: 10/s burst 100}\n",
    ],
    ids=["identity", "mesh", "Redis", "rate", "words", "order"],
)  # fmt: skip
def test_what_decides_nothing_about_limits_is_not_in_it(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text, SECRET="hunter2-long-enough").hash == load(tmp_path, BASE).hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("capacity: 100", "capacity: 101"),
        ("refill_rate: 10", "refill_rate: 11"),
        ("refill_interval: 1s", "refill_interval: 2s"),
        ("refill_interval: 1s", "max_debt: 0"),
        ("refill_interval: 1s", "max_keys: 9"),
        ("refill_interval: 1s", "on_table_full: allow"),
        ("5/minute", "5/minute, on_outage: deny"),
        ("5/minute", "5/minute, consistency: strong"),
        ("5/minute", "5/minute, shadow: true"),
        ("5/minute", "5/minute, keys: {'a*': 6/minute}"),
        ("login", "logon"),
        ("  login: {limit: 5/minute}\n", ""),
        ("consistency: eventual", "consistency: strong"),
        ("on_outage: quota", "on_outage: allow"),
        ("on_outage: quota", "enabled: false"),
        ("on_outage: quota", "fallback_ratio: 20%"),
        ("on_outage: quota", "fallback_scope: fleet"),
        ("on_outage: quota", "expected_nodes: 20"),
        ("on_outage: quota", "modes: {latency_limit: 5ms}"),
    ],
)
def test_what_decides_about_limits_is_in_it(tmp_path: Path, old: str, new: str) -> None:
    assert old in BASE
    assert load(tmp_path, BASE.replace(old, new)).hash != load(tmp_path, BASE).hash


def test_the_regions_of_a_replicated_redis_are_in_it_in_any_order(tmp_path: Path) -> None:
    def hash_of(regions: str, more: str = "") -> str:
        backend = f"active_active: true, regions: {regions}, connection: {{host: h}}"
        place = f"on_outage: quota, bucket_backend: {{{backend}}}"
        return load(tmp_path, BASE.replace("on_outage: quota", place) + more).hash

    assert hash_of("[eu, us]", "region: eu\n") == hash_of("[us, eu]", "region: us\n")
    assert hash_of("[eu, us]") != hash_of("[eu, us, ap]")
    assert hash_of("[eu, us]") != load(tmp_path, BASE).hash


def test_the_order_of_overrides_is_in_it(tmp_path: Path) -> None:
    plans = "  a: {limit: 1/s, keys: {'a*': 2/s, '*b': 3/s}}\n"
    other = "  a: {limit: 1/s, keys: {'*b': 3/s, 'a*': 2/s}}\n"
    assert load(tmp_path, BASE + plans).hash != load(tmp_path, BASE + other).hash


def test_every_field_of_a_definition_is_in_it() -> None:
    content = spec_content(BucketSpec("a", 1, 1), (Mode.EVENTUAL, "quota"))
    spelt = {"refill_rate", "refill_interval", "interval_ns"}  # as `emission`
    # Of some kinds alone, and a function, which no file can name.
    apart = {"slots", "period", "overrides_from"}
    fields = {field.name for field in dataclasses.fields(BucketSpec)}
    assert set(content) == (fields - spelt - apart) | {"emission"}
    slots = spec_content(BucketSpec.concurrency("a", 5), (Mode.EVENTUAL, "quota"))
    assert set(slots) == set(content) | {"slots"}
    quota = spec_content(BucketSpec.calendar("a", 5), (Mode.EVENTUAL, "quota"))
    assert set(quota) == set(content) | {"period"}
