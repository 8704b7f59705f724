"""`crdtbucket config` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from crdtbucket.cli.commands import cli
from crdtbucket.config import load_config
from crdtbucket.config.schema import json_schema
from crdtbucket.errors import ConfigError

OLD = "version: 1\nservices:\n  chat: {limit: 10/s burst 100}\n"
NEW = OLD.replace("10/s", "20/s").replace("version: 1", "version: 2")
WRONG = "services:\n  chat: {limit: often}\nmesh:\n  secrets: hunter2\n"


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("old", OLD), ("new", NEW), ("wrong", WRONG)):
        Path(f"{name}.yaml").write_text(text)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["config", *words])


def test_check_tells_every_fault_with_its_place_and_fix() -> None:
    result = run("check", "old.yaml", "wrong.yaml")
    assert result.exit_code == 1
    first, *faults = result.output.splitlines()
    assert first == f"old.yaml: 1 bucket, version 1, hash {load_config('old.yaml').hash}"
    assert [line.partition(": ")[0] for line in faults] == ["wrong.yaml:2:17", "wrong.yaml:4:3"]
    assert faults[1] == (
        "wrong.yaml:4:3: mesh.secrets: unknown key 'secrets' (did you mean 'secret'?)"
    )
    assert "hunter2" not in result.output


def test_a_port_alone_does_not_hide_the_other_faults() -> None:
    Path("port.yaml").write_text("mesh:\n  listen: 7946\n  secret: short\n  peers: [7947]\n")
    lines = run("check", "port.yaml").output.splitlines()
    assert [line.split(" ")[1] for line in lines] == [
        "mesh.listen:",
        "mesh.secret:",
        "mesh.peers[0]:",
    ]
    assert "is '7946', which has no host (write \"host:port\"" in lines[0]


def test_check_of_files_that_are_fine_has_status_0() -> None:
    assert run("check", "old.yaml", "new.yaml").exit_code == 0


def test_check_of_a_file_that_is_not_there() -> None:
    result = run("check", "none.yaml")
    assert result.exit_code == 1
    assert result.output.startswith("none.yaml: cannot be read: No such file or directory")


STRONG = "rating: {consistency: strong, bucket_backend: {connection: {host: redis}}}\n"
QUOTA = STRONG + "services: {q: {calendar: {limit: 5, per: day}}}\n"
AWAY = "node: a\nmesh: {peers: ['10.0.0.2:7946'], secret: only-for-this-test}\n"
SLOTS = "services: {s: {concurrency: {slots: 5, ttl: 10s}}}\n"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("rating: {enabled: false}\n" + OLD, "nothing is denied"),
        ("node: a\n", "no bucket is defined"),
        ("mesh: {}\n" + OLD, "note: no node is named: add node:, or give --node"),
        (STRONG + OLD, "note: no node is named"),
        ("shared: auto\n" + OLD, "note: no node is named"),
        (AWAY + OLD, "mesh.listen is 127.0.0.1:7946, where nodes of other machines cannot call"),
        ("rating: {consistency: strong}\n" + OLD, "no Redis is named"),
        (OLD.replace("}", ", consistency: strong}"), "no Redis is named"),
        (QUOTA, "note: q: calendar quotas are never strong, and without a mesh each"),
        ("node: a\nmesh: {}\n" + QUOTA, "q: calendar quotas are never strong\n"),
    ],
)
def test_check_notes_what_may_not_be_meant(text: str, note: str) -> None:
    Path("noted.yaml").write_text(text)
    result = run("check", "noted.yaml")
    assert result.exit_code == 0
    assert note in result.output


REGIONS = "active_active: true, regions: [eu, us, ap], connection: {host: redis}"
REPLICATED = f"rating: {{consistency: strong, bucket_backend: {{{REGIONS}}}}}\n{OLD}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("shared: auto\n" + STRONG + SLOTS, "shares a table"),
        (REPLICATED.partition("\n")[0] + "\n" + SLOTS, "there is a Redis in each region"),
    ],
)
def test_check_refuses_strong_slots_that_cannot_be_kept(text: str, fault: str) -> None:
    Path("slots.yaml").write_text(text)
    result = run("check", "slots.yaml")
    assert result.exit_code == 1
    assert "services.s.concurrency" in result.output
    assert fault in result.output
    assert "consistency: eventual" in result.output


def test_check_accepts_strong_slots() -> None:
    Path("slots.yaml").write_text("node: a\n" + STRONG + SLOTS)
    result = run("check", "slots.yaml")
    assert (result.exit_code, "note:" in result.output) == (0, False)


def test_check_tells_which_regions_are_read_and_what_is_assumed() -> None:
    Path("eu.yaml").write_text(f"node: a\nregion: eu\n{REPLICATED}")
    result = run("check", "eu.yaml")
    assert result.exit_code == 0
    first, *assumed = result.output.splitlines()[1:]
    assert first == (
        "eu.yaml: note: keys of region eu are written to this Redis, and copies of us, ap are read "
        "there"
    )
    assert [line.partition(": note: ")[2][:3] for line in assumed] == [
        f"A{n}:" for n in range(1, 7)
    ]


def test_check_of_a_file_for_all_regions_says_that_a_region_is_missing() -> None:
    Path("all.yaml").write_text(REPLICATED)
    result = run("check", "all.yaml")
    assert result.exit_code == 0
    assert "region is missing: add region: with one of eu, us, ap" in result.output


@pytest.mark.parametrize("text", ["", "# later\n", "services:\n", "rating: {}\n"])
def test_check_refuses_a_file_that_says_nothing(text: str) -> None:
    Path("empty.yaml").write_text(text)
    result = run("check", "empty.yaml")
    assert result.exit_code == 1
    assert result.output == (
        "empty.yaml:1:1: says nothing (add services: with a bucket, such as "
        "{api: {limit: 100/minute}})\n"
    )


def test_show_prints_a_file_that_can_be_loaded() -> None:
    result = run("show", "old.yaml")
    assert result.exit_code == 0
    Path("shown.yaml").write_text(result.output)
    assert load_config("shown.yaml").hash == load_config("old.yaml").hash
    assert "refill_interval: 1s" in result.output


def test_show_as_json() -> None:
    Path("secret.yaml").write_text(OLD + "mesh: {secret: hunter2-long-enough}\n")
    result = run("show", "secret.yaml", "--json")
    told = json.loads(result.output)
    assert told["version"] == 1
    assert told["hash"] == load_config("old.yaml").hash
    assert told["config"]["mesh"]["secret"] == "***"
    assert "hunter2" not in result.output


def test_what_cannot_be_loaded_is_not_shown() -> None:
    for words in (("show", "wrong.yaml"), ("diff", "old.yaml", "wrong.yaml"),
                  ("plan", "wrong.yaml")):  # fmt: skip
        assert isinstance(run(*words).exception, ConfigError)


def test_the_schema_is_printed() -> None:
    schema = json.loads(run("schema").output)
    assert schema == json_schema()
    for name, valid in (("old", True), ("wrong", False)):
        tree = YAML(typ="safe").load(Path(f"{name}.yaml"))
        assert jsonschema.Draft202012Validator(schema).is_valid(tree) is valid


def test_diff_in_words() -> None:
    result = run("diff", "old.yaml", "new.yaml")
    assert result.exit_code == 1
    old, new = load_config("old.yaml").hash, load_config("new.yaml").hash
    assert result.output.splitlines() == [
        f"version 1 -> 2, hash {old} -> {new}",
        "chat: changed",
        "  refill 10/s -> 20/s (+100%): what was used stays used and comes back at that rate",
    ]


def test_diff_of_what_is_the_same() -> None:
    result = run("diff", "old.yaml", "old.yaml")
    assert result.exit_code == 0
    assert result.output.startswith("nothing changes: version 1")


def test_diff_as_json_and_with_a_warning() -> None:
    Path("new.yaml").write_text(NEW.replace("version: 2", "version: 1"))
    assert "warning: the limits differ" in run("diff", "old.yaml", "new.yaml").output
    result = run("diff", "old.yaml", "new.yaml", "--json")
    told = json.loads(result.output)
    assert result.exit_code == 1
    assert told["same"] is False
    assert told["buckets"][0]["values"] == {"emission": [[100_000_000, 1], [50_000_000, 1]]}
    assert len(told["warnings"]) == 1


def test_plan_tells_what_changes_and_what_holds_then() -> None:
    result = run("plan", "new.yaml", "--against", "old.yaml", "--nodes", "1, 4")
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.output.splitlines()]
    assert lines[1] == "chat: changed"
    assert "chat: 20/s, at most 100 at once, of all nodes together (eventual)" in lines
    assert lines[-3:] == [
        "  nodes    static split, each node    without links, sum",
        "      1                 100 + 20/s            100 + 20/s",
        "      4                   25 + 5/s            400 + 80/s",
    ]


def test_plan_speaks_in_the_units_of_the_file() -> None:
    Path("hours.yaml").write_text("services:\n  batch: {limit: 60/h}\n  calls: {limit: 6/90s}\n")
    printed = run("plan", "hours.yaml", "--nodes", "3").output
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "3 20 + 20 per 1h 180 + 180 per 1h" in lines
    assert "3 2 + 2 per 90s 18 + 18 per 90s" in lines
    told = json.loads(run("plan", "hours.yaml", "--nodes", "3", "--json").output)
    assert [one["refill_interval"] for one in told["buckets"]] == ["1h", "90s"]


def test_plan_as_json() -> None:
    told = json.loads(run("plan", "new.yaml", "--nodes", "3", "--json").output)
    assert told["changes"] is None
    assert told["version"] == 2
    assert told["buckets"][0]["fleets"][0]["cut_off"] == {"capacity": 300, "per_second": 60.0}


@pytest.mark.parametrize("nodes", ["0", "x", "1,,2", "-1", "100001", "", "1" * 5_000])
def test_plan_refuses_fleets_that_there_are_not(nodes: str) -> None:
    result = run("plan", "new.yaml", "--nodes", nodes)
    assert result.exit_code == 2
    assert "numbers of nodes" in result.output


def test_plan_tells_of_outages() -> None:
    backend = "rating: {consistency: strong, bucket_backend: {connection: {host: h}}}\n"
    Path("strong.yaml").write_text(
        backend
        + "services:\n  a: {limit: 9/s, bucket: {max_keys: 5000}}\n"
        + "  b: {limit: 9/s, on_outage: deny}\n  c: {limit: 9/s, on_outage: allow}\n"
    )
    output = run("plan", "strong.yaml").output
    assert "in an outage of Redis: nothing is admitted" in output
    assert "in an outage of Redis: all is admitted" in output
    assert "outage, each" in output
    assert "5,000 keys take" in output


STAGED = """
rollout:
  stages: [{regions: [eu], percent: 10}, {}]
"""


@pytest.mark.parametrize(
    ("more", "first", "last"),
    [
        ("", "until the command", "it never halts by itself"),
        (
            "  hold: 10m\n  halt_on: {denied_ratio_rise: 20%}\n",
            "for 10m each",
            "it halts where it denies 20% of its calls more than the version before",
        ),
    ],
)
def test_plan_shows_the_stages(more: str, first: str, last: str) -> None:
    Path("staged.yaml").write_text(NEW + STAGED + more)
    lines = run("plan", "staged.yaml", "--against", "old.yaml").output.splitlines()
    assert "  rollout: nothing -> given" in lines
    at = lines.index(f"comes into force by stages, {first}:")
    stages = ["  1. 10% of the keys in eu", "  2. all keys in all regions", f"  {last}"]
    assert lines[at + 1 : at + 4] == stages
    told = json.loads(run("plan", "staged.yaml", "--json").output)
    assert told["rollout"]["stages"] == [{"regions": ["eu"], "percent": 10}, {"percent": 100}]
    assert json.loads(run("plan", "new.yaml", "--json").output)["rollout"] is None


def test_stages_decide_about_no_limit_so_they_are_not_in_the_hash() -> None:
    Path("staged.yaml").write_text(NEW + STAGED)
    assert load_config("staged.yaml").hash == load_config("new.yaml").hash
