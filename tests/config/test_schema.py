"""The JSON Schema accepts every file that loads, and refuses most of those that do not."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from crdtbucket.config import load_config
from crdtbucket.config.layout import SECTIONS
from crdtbucket.config.schema import _Openclaw, json_schema, reference
from crdtbucket.errors import ConfigError
from tests.config.article import FILES, FRAGMENTS
from tests.config.test_services import DEFAULTS
from tests.config.wrong_configs import WRONG

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def faults(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(parsed(text))]


def shown() -> dict[str, str]:
    """Every YAML file and block that the project shows."""
    others = {ROOT / "examples" / name for name in ("compose.yaml", "kubernetes.yaml")}
    files = set(ROOT.glob("examples/*.yaml")) - others
    found = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(files)}
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        blocks = re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
        found |= {f"{path.name} {number}": text for number, text in enumerate(blocks)}
    return found


SHOWN = shown()
RIGHT = {
    **FRAGMENTS,
    **FILES,
    **SHOWN,
    "nothing": "",
    "every form": f"""
openclaw: {{node: eu-1, version: '${{env:NUMBER}}'}}
rating:
  fallback_ratio: 25%
  enabled: ${{env:ON}}
  webhook: https://u:p@hooks.example.com/x
  modes: {{latency_limit: 15ms, latency_quantile: 95%, stable_after: 10, least_samples: 5}}
  bucket_backend:
    deadline: 0.03
    connection: {{tls: true, host: h, port: '${{env:NUMBER}}'}}
mesh: {{peers: 'a:1, b:2', secret: [one of two secrets,
  another of two secrets], gossip_interval: 250 MS, tls: {{verify_peer: }},
  ended_is_dead: Never}}
rollout:
  stages: [{{regions: [eu], percent: '10'}}, {{percent: 50}}, {{}}]
  hold: 10m
  halt_on: {{denied_ratio_rise: 20%}}
{DEFAULTS}
  a: {{bucket: , keys: {{'p-*': 10 per 2 Hours, q: {{limit: 7/s, shadow: true}}}}}}
  b: {{limit: 1_000 / 5m; burst=2_000}}
  c: {{bucket: {{refill_interval: '${{env:EVERY}}'}}}}
envoy:
  descriptors:
    - {{domain: edge, entries: [route=, user], bucket: a, settle: '${{env:ON}}'}}
    - {{entries: [generic_key=all], bucket: b}}
""",
}


# Values that are right somewhere, as people and environments write them.
VALUES: list[Any] = [
    *[None, True, False, 0, 1, 7, 0.5, 1.0, 10**6, "", "x", "7", "10%", "0.5 %", "${env:ON}"],
    *["5/s", "5 PER 2 Minutes", "1_0/h burst=2_0", " 7/s;burst 9 ", "1s", "250 MS", "7\u00b5s"],
    *["strong", "eventual", "deny", "allow", "quota", "fleet", "redis", "https://h", "h:1"],
    *[["h:1", "h:2"], "h:1, h:2", [], {}, [{}]],
]
PATHS = [path for path, _, _ in reference()]
PATHS += [path.rpartition(".")[0] for path in PATHS if path.endswith(".enabled")]
PATHS += ["services.*", "services.*.keys.*", "services.*.bucket", "rating", "mesh", "defaults"]
PATHS += ["rollout.stages"]
# What keys need beside them to be of use.
BESIDE = {
    "services": {"defaults": {"bucket": {"capacity": 9, "refill_rate": 9}}},
    "services.*.concurrency": {"services": {"a": {"concurrency": {"slots": 5}}}},
    "services.*.keys.*.concurrency": {"services": {"a": {"concurrency": {"slots": 5}}}},
    "services.*.calendar": {"services": {"a": {"calendar": {"limit": 5}}}},
    "services.*.keys.*.calendar": {"services": {"a": {"calendar": {"limit": 5}}}},
    "rollout.": {"version": 2, "rollout": {"stages": [{}]}},
    "rollout.stages[]": {"version": 2},
    "rollout.stages": {"version": 2},
    "envoy.descriptors[]": {
        "services": {"x": {"limit": "5/s"}},
        "envoy": {"descriptors": [{"bucket": "x", "entries": ["y"]}]},
    },
    "rating.bucket_backend": {"rating": {"bucket_backend": {"connection": {"host": "h"}}}},
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """A file that has `value` at `path`, and little else."""
    beside = next((tree for start, tree in reversed(BESIDE.items()) if path.startswith(start)), {})
    tree: dict[str, Any] = copy.deepcopy(beside)
    *sections, last = path.replace("*", "a").split(".")
    place = tree
    for step in sections:
        listed = step.endswith("[]")
        place = place.setdefault(step.removesuffix("[]"), [{}] if listed else {})
        place = place[0] if listed else place
    place[last] = value
    return tree


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("case", RIGHT)
def test_what_can_be_loaded_fits_the_schema(tmp_path: Path, case: str) -> None:
    file = tmp_path / "crdtbucket.yaml"
    file.write_text(RIGHT[case])
    load_config(file, {"NUMBER": "9", "ON": "true", "EVERY": "5 min"})
    assert faults(RIGHT[case]) == []


def test_the_docs_show_some() -> None:
    assert len(SHOWN) >= 6


# What goes together, names that are alike, variables, files and addresses are beyond a schema.
SAYABLE = re.compile(
    r"unknown key|is no choice|must be a |must be true or false|must be text|no fixed length"
    r"|write a whole number|tokens>/<interval|no unit is|write a share"
)


@pytest.mark.parametrize(
    "case",
    [
        case
        for case, (text, problems) in WRONG.items()
        # A variable may hold anything, and 1e4 is a whole number to JSON Schema.
        if SAYABLE.search(str(problems)) and "${" not in text and case != "capacity_float"
    ],
)
def test_what_a_schema_can_say_does_not_fit_it(case: str) -> None:
    assert faults(WRONG[case][0])


@pytest.mark.parametrize("path", PATHS)
def test_whatever_value_can_be_loaded_fits_it(tmp_path: Path, path: str) -> None:
    file = tmp_path / "crdtbucket.yaml"
    loaded = 0
    for value in VALUES:
        tree = with_value(path, value)
        file.write_text(json.dumps(tree))  # which is YAML as well
        with contextlib.suppress(ConfigError):
            load_config(file, {"ON": "true"})
            loaded += 1
            assert VALIDATOR.is_valid(tree), value
    assert loaded


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("servces: {}", []),
        ("services: {a: {limit: often}}", ["services", "a", "limit"]),
        ("services: {a: {bucket: {capacity: 0}}}", ["services", "a", "bucket", "capacity"]),
        ("services: {a: {keys: {b: fast}}}", ["services", "a", "keys", "b"]),
        ("openclaw: {rating: {services: {a: {shadow: 2}}}}",
         ["openclaw", "rating", "services", "a", "shadow"]),
        ("rating: {consistency: weak}", ["rating", "consistency"]),
        ("mesh: {gossip_interval: often}", ["mesh", "gossip_interval"]),
        ("mesh: {ended_is_dead: soon}", ["mesh", "ended_is_dead"]),
    ],
)  # fmt: skip
def test_a_fault_is_found_where_it_stands(text: str, path: list[str]) -> None:
    (error,) = VALIDATOR.iter_errors(parsed(text))
    while error.context:  # the alternative that came nearest
        error = max(error.context, key=lambda one: len(one.absolute_path))
    assert list(error.absolute_path) == path


def test_all_sections_are_in_it() -> None:
    assert set(_Openclaw.model_fields) == set(SECTIONS)
    for section in SECTIONS:
        assert SCHEMA["properties"][section].get("description") or "$ref" in str(
            SCHEMA["properties"][section]
        ), section


def test_every_key_says_what_it_means_and_its_default() -> None:
    mesh = SCHEMA["$defs"]["MeshSection"]["properties"]
    assert mesh["gossip_interval"]["default"] == "100ms"
    tls = SCHEMA["$defs"]["MeshTlsSection"]["properties"]
    assert tls["verify_peer"]["default"] is True
    for definition in SCHEMA["$defs"].values():
        section = definition if "properties" in definition else definition["anyOf"][-1]
        for name, one in section["properties"].items():
            alternatives = str(one["anyOf"])
            assert "description" in one or "$ref" in alternatives, name
            assert "](" not in one.get("description", ""), "a link to a page that editors lack"
