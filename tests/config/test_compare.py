"""Two configurations, and their differences in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.config import Config, load_config
from crdtbucket.config.compare import Comparison, compare

BASE = """
version: 1
rating: {on_outage: quota}
services:
  chat: {bucket: {capacity: 100, refill_rate: 10, refill_interval: 1s}}
  login: {limit: 5/minute, keys: {'a*': 6/minute}}
"""


def load(folder: Path, text: str) -> Config:
    file = folder / "crdtbucket.yaml"
    file.write_text(text)
    return load_config(file, {"S": "hunter2-long-enough", "T": "hunter3-long-enough"})


def difference(folder: Path, old: str, new: str) -> Comparison:
    return compare(load(folder, old), load(folder, new))


@pytest.mark.parametrize(
    ("old", "new", "bucket", "change", "words"),
    [
        ("capacity: 100", "capacity: 200", "chat", "changed",
         ("capacity 100 -> 200 (+100%): what was used stays used, so a key that has used 100 has 0 "
         "left now and 100 then")),
        ("capacity: 100", "capacity: 50", "chat", "changed",
         ("capacity 100 -> 50 (-50%): what was used stays used, so a key that has used 25 has 75 "
         "left now and 25 then")),
        ("refill_rate: 10", "refill_rate: 5", "chat", "changed",
         "refill 10/s -> 5/s (-50%): what was used stays used and comes back at that rate"),
        ("refill_interval: 1s", "refill_interval: 3m", "chat", "changed",
         "refill 10/s -> 10 per 3m (-99%): what was used stays used and comes back at that rate"),
        ("refill_interval: 1s", "max_debt: 7", "chat", "changed",
         "max_debt 100 -> 7: late updates may push a key so far below empty"),
        ("refill_interval: 1s", "max_keys: 7", "chat", "changed",
         "max_keys None -> 7: keys that are held stay; None: as many as the table holds"),
        ("refill_interval: 1s", "on_table_full: allow", "chat", "changed",
         "on_table_full deny -> allow: what a new key gets that finds no room"),
        ("5/minute", "5/minute, consistency: strong", "login", "changed",
         "consistency eventual -> strong: this asks for a restart"),
        ("5/minute", "5/minute, on_outage: deny", "login", "changed",
         "on_outage quota -> deny: what decides in an outage of Redis"),
        ("5/minute", "5/minute, shadow: true", "login", "changed",
         "shadow False -> True: denies no more: it decides, counts and admits"),
        ("'a*': 6", "b: 1/s, 'a*': 6", "login", "changed",
         "overrides a* -> b, a*: the first that matches a key decides"),
        ("'a*': 6", "b: 1/s, 'a*': 6", "login[b]", "added",
         "new: 1/s, at most 1 at once; every key starts full"),
        ("'a*': 6", "'a*': 8", "login[a*]", "changed",
         ("refill 6 per 60s -> 8 per 60s (+33%): what was used stays used and comes back at that "
         "rate")),
        ("'a*': 6/minute", "", "login[a*]", "removed",
         ("gone: keys that match a* go to another override or to login, where what they used "
          "here does not count")),
        ("login", "logon", "login", "removed",
         "gone: callers that name it get UnknownBucket"),
        ("login", "logon", "logon", "added",
         "new: 5 per 60s, at most 5 at once; every key starts full"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_bucket(
    tmp_path: Path, old: str, new: str, bucket: str, change: str, words: str
) -> None:
    assert old in BASE
    found = difference(tmp_path, BASE, BASE.replace(old, new))
    told = {one.bucket: one for one in found.buckets}
    assert told[bucket].change == change
    assert words in told[bucket].words
    assert not found.same
    assert not found.settings
    back = {one.bucket: one.change for one in
            difference(tmp_path, BASE.replace(old, new), BASE).buckets}  # fmt: skip
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    assert back == {one.bucket: opposite[one.change] for one in found.buckets}


@pytest.mark.parametrize(("capacity", "used", "left"), [(200, 100, 100), (50, 25, 25)])
def test_usage_is_converted_from_the_old_definition_to_the_new(
    tmp_path: Path, capacity: int, used: int, left: int
) -> None:
    old = load(tmp_path, BASE).buckets[0]
    new = load(tmp_path, BASE.replace("capacity: 100", f"capacity: {capacity}")).buckets[0]
    table = Table(max_keys=16, virtual=True)
    core = BucketCore(table, old)
    core.take("a", used)
    table.definitions.define(new)
    core = BucketCore(table, new)
    assert core.peek("a").remaining == left


def test_a_region_that_is_added_asks_for_a_restart(tmp_path: Path) -> None:
    def file(regions: str) -> str:
        backend = f"active_active: true, regions: {regions}, connection: {{host: h}}"
        return BASE.replace("on_outage: quota", f"bucket_backend: {{{backend}}}")

    found = difference(tmp_path, file("[eu, us]"), file("[eu, us, ap]"))
    (told,) = found.settings
    assert told.path == "rating.bucket_backend.regions"
    assert told.words.endswith("-> ['eu', 'us', 'ap'] (this asks for a restart)")
    assert found.warnings  # it decides about limits, so the version is to rise


def test_equal_files_are_the_same_in_whatever_words(tmp_path: Path) -> None:
    other = BASE.replace("refill_rate: 10, refill_interval: 1s", "refill_rate: 600, "
                         "refill_interval: 1m")  # fmt: skip
    found = difference(tmp_path, BASE, other)
    assert found.same
    assert found.warnings == ()
    assert found.hash[0] == found.hash[1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("on_outage: quota", "fallback_ratio: 20%", "rating.fallback_ratio: 0.1 -> 0.2"),
        ("version: 1", "version: 1\nregion: eu",
         "region: nothing -> eu (this asks for a restart)"),
        ("on_outage: quota", "modes: {outage_after: 1s}",
         "rating.modes.outage_after: 500ms -> 1s (this asks for a restart)"),
        ("version: 1", "version: 1\nmesh: {secret: hunter2-long-enough}",
         "mesh: nothing -> given (this asks for a restart)"),
        ("on_outage: quota", "webhook: 'https://hunter2@h'",
         "rating.webhook: nothing -> *** (this asks for a restart)"),
    ],
)  # fmt: skip
def test_settings_that_differ(tmp_path: Path, old: str, new: str, words: str) -> None:
    found = difference(tmp_path, BASE, BASE.replace(old, new))
    assert [one.words for one in found.settings] == [words]
    assert "hunter2" not in json.dumps(found.as_dict())


def test_a_secret_that_changes_is_not_shown(tmp_path: Path) -> None:
    mesh = "mesh: {secret: '${env:S}'}\n"
    found = difference(tmp_path, BASE + mesh, BASE + mesh.replace("S}", "T}"))
    assert [one.words for one in found.settings] == ["mesh.secret: another secret"]
    assert "hunter" not in json.dumps(found.as_dict())


@pytest.mark.parametrize(("version", "warned"), [(0, True), (1, True), (2, False)])
def test_other_limits_ask_for_a_higher_version(tmp_path: Path, version: int, warned: bool) -> None:
    new = BASE.replace("capacity: 100", "capacity: 9").replace("version: 1", f"version: {version}")
    found = difference(tmp_path, BASE, new)
    assert found.version == (1, version)
    assert bool(found.warnings) is warned
    same = difference(tmp_path, BASE, BASE.replace("version: 1", f"version: {version}"))
    assert same.warnings == ()
    assert same.same is (version == 1)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("{limit: 10}", "capacity 5 -> 10 (+100%): what was used stays used"),
        ("{limit: 10}", "5 per day in UTC -> 10 per day in UTC"),
        ("{limit: 5, per: week}", "period per day in UTC -> per week in UTC: this asks for a"),
    ],
)
def test_what_becomes_of_a_calendar(tmp_path: Path, new: str, words: str) -> None:
    text = "services: {a: {calendar: %s}}"
    found = difference(tmp_path, text % "{limit: 5}", text % new)
    assert words in " ".join(found.buckets[0].words)
    added = difference(tmp_path, "services:", text % "{limit: 5}")
    assert added.buckets[0].words[0] == "new: 5 per day in UTC; every key starts full"


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("concurrency: 10", "slots 5 -> 10 (+100%): what is in flight stays, each for its ttl"),
        ("concurrency: {slots: 5, ttl: 2m}", "ttl 60s -> 2m: what is in flight ends by time alone"),
        ("limit: 5/s", "slots 5 -> None: a limit of another kind, which asks for a restart"),
    ],
)
def test_what_becomes_of_slots(tmp_path: Path, new: str, words: str) -> None:
    text = "services: {a: {%s}}"
    found = difference(tmp_path, text % "concurrency: 5", text % new)
    assert words in " ".join(found.buckets[0].words)
    added = difference(tmp_path, "services:", text % "concurrency: 5")
    assert added.buckets[0].words[0] == (
        "new: 5 in flight at once, each for 60s at most; every key starts full"
    )
