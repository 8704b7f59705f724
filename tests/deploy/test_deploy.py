"""The alerts and the dashboard that are shipped: the metrics that they use are exported, and alerts
fire."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.deploy.promql import EXPORTED, known_labels, labels, metrics
from tests.test_docs import rows

HERE = Path(__file__).parent
DEPLOY = files("crdtbucket") / "deploy"
CASES = sorted(HERE.glob("*.yml"))
PLOTS = ("timeseries", "stat", "table")


def loaded(text: str) -> Any:
    return YAML(typ="safe").load(text)


ALERTS_TEXT = (DEPLOY / "alerts.yml").read_text()
RULES = [rule for group in loaded(ALERTS_TEXT)["groups"] for rule in group["rules"]]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((DEPLOY / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool") or shutil.which("promtool", path=Path(sys.executable).parent)
    if found is None:
        pytest.skip("there is no promtool: `make promtool` brings it where it can")
    return found


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# ---- alerts ----


def test_promtool_finds_no_fault_in_the_rules(promtool: str, tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yml"
    rules.write_text(ALERTS_TEXT)
    done = ran(promtool, "check", "rules", rules)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_do_not_fire(promtool: str, case: Path) -> None:
    done = ran(promtool, "test", "rules", case)
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def expectations(case: Path) -> dict[str, list[bool]]:
    """For each alert whether it is expected to fire, of every moment that is looked at."""
    found: dict[str, list[bool]] = {}
    for one in loaded(case.read_text())["tests"]:
        for moment in one.get("alert_rule_test", []):
            found.setdefault(moment["alertname"], []).append(bool(moment["exp_alerts"]))
    return found


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    seen = Counter(
        (name, fires)
        for case in CASES
        for name, all_ in expectations(case).items()
        for fires in all_
    )
    assert set(seen) == {(name, fires) for name in ALERTS for fires in (True, False)}


def cleared(case: Path) -> set[str]:
    """The alerts of which one fires and is silent at a later moment of the same test."""
    found = set()
    for one in loaded(case.read_text())["tests"]:
        fired: dict[str, list[str]] = {}
        for moment in sorted(
            one.get("alert_rule_test", []), key=lambda each: at(each["eval_time"])
        ):
            name, now = (
                moment["alertname"],
                [str(each["exp_labels"]) for each in moment["exp_alerts"]],
            )
            found |= {name} if set(fired.get(name, ())) - set(now) else set()
            fired.setdefault(name, []).extend(now)
    return found


def at(time: str) -> int:
    """Seconds of a time such as 1h30m."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", time))


def test_every_alert_is_seen_to_clear() -> None:
    assert set().union(*map(cleared, CASES)) == set(ALERTS)


@pytest.mark.parametrize("wrong", ["vector(0) > 1", "vector(1)"], ids=["never", "always"])
def test_a_rule_that_is_wrong_fails_its_test(promtool: str, tmp_path: Path, wrong: str) -> None:
    """All of its alerts are replaced at once: every file of tests must complain about each of
    them."""
    for case in CASES:
        spoilt = loaded(ALERTS_TEXT)
        for group in spoilt["groups"]:
            group["rules"] = [r for r in group["rules"] if r.get("alert") in expectations(case)]
            for rule in group["rules"]:
                rule["expr"] = wrong
                rule.pop("for", None)
        (tmp_path / "alerts.yml").write_text(json.dumps(spoilt))
        copy = tmp_path / case.name
        copy.write_text(
            case.read_text().replace("../../crdtbucket/deploy/alerts.yml", "alerts.yml")
        )
        done = ran(promtool, "test", "rules", copy)
        complained = set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr))
        assert done.returncode == 1
        assert set(expectations(case)) <= complained


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_rules_name_what_is_exported(rule: dict[str, Any]) -> None:
    names = metrics(rule["expr"])
    assert names
    assert names <= EXPORTED.keys() | RECORDED.keys()
    assert labels(rule["expr"]) <= known_labels(rule["expr"], RECORDED)


def test_alerts_say_what_is_wrong_and_how_bad_it_is() -> None:
    for name, rule in ALERTS.items():
        assert name.startswith("Crdtbucket")
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert shown <= known_labels(rule["expr"], RECORDED)
        kept = re.findall(r"by \(([^)]*)\)", "".join([rule["expr"], *_behind(rule["expr"])]))
        assert all(any(label in one.split(", ") for one in kept) for label in shown), name


def _behind(expr: str) -> list[str]:
    return [RECORDED[name] for name in metrics(expr) if name in RECORDED]


def test_every_alert_is_explained() -> None:
    told = {row[0].strip("`"): row[1] for row in rows("docs/monitoring.md", "The alerts")}
    assert told == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}
    text = (HERE.parents[1] / "docs" / "monitoring.md").read_text()
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert headings == list(ALERTS)


# ---- the dashboard ----


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=lambda one: str(one)[:40])
def test_every_query_names_exported_metrics(title: str, target: dict[str, Any]) -> None:
    names = metrics(target["expr"])
    assert names
    assert names <= EXPORTED.keys()
    known = known_labels(target["expr"], {})
    assert labels(target["expr"]) <= known
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known
    assert 'job=~"$job"' in target["expr"]


def test_variables_come_from_exported_metrics() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$(?:\{(\w+)\}|(\w+))", json.dumps(DASHBOARD["panels"])))
    assert {a or b for a, b in used} == {*variables, "__rate_interval"}
    for one in variables.values():
        if one["type"] == "query":
            metric, label = re.fullmatch(
                r"label_values\((\w+).*, (\w+)\)", one["definition"]
            ).groups()  # type: ignore[union-attr]
            assert label in (*EXPORTED[metric], "job")


def test_promtool_can_read_every_query(promtool: str, tmp_path: Path) -> None:
    values = [("$__rate_interval", "5m"), ("$job", ".*"), ("$bucket", ".*")]
    written = []
    for number, (_, target) in enumerate(QUERIES):
        expr = target["expr"]
        for variable, value in values:
            expr = expr.replace(variable, value)
        written.append({"record": f"query:{number}", "expr": expr})
    rules = tmp_path / "queries.yml"
    rules.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": written}]}))
    done = ran(promtool, "check", "rules", rules)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    assert DASHBOARD["schemaVersion"] >= 41
    assert DASHBOARD["id"] is None  # it is given by the Grafana that imports it
    ids = Counter(panel["id"] for panel in DASHBOARD["panels"])
    assert set(ids.values()) == {1}
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        pos = panel["gridPos"]
        assert 0 <= pos["x"] < pos["x"] + pos["w"] <= 24
        cells = {(pos["x"] + x, pos["y"] + y) for x in range(pos["w"]) for y in range(pos["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["type"] in PLOTS
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_each_part_has_its_row() -> None:
    titles = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    parts = ["Overview", "Per bucket", "Modes", "Mesh", "Redis", "Table and configuration"]
    assert titles == [*parts, "HTTP server"]
