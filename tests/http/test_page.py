"""The page on frameworks: its tables equal the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from crdtbucket.http import Limits, Request, Rule
from crdtbucket.http.request import by_address
from tests.test_docs import ROOT, names, rows

PAGE = "docs/frameworks.md"


def test_a_rule_has_these_attributes() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in rows(PAGE, "Rule")}
    defaults = {
        field.name: "required" if field.default is dataclasses.MISSING else repr(field.default)
        for field in dataclasses.fields(Rule)
    }
    assert told == {**defaults, "key": by_address.__name__}


def test_limits_have_these_options() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in rows(PAGE, "Limits")}
    parameters = inspect.signature(Limits).parameters.values()
    options = {one.name: repr(one.default) for one in parameters if one.kind is one.KEYWORD_ONLY}
    assert told == options


def test_a_request_has_these_attributes() -> None:
    told = {name.partition("(")[0] for name in names(PAGE, "Request")}
    assert told == {name for name in dir(Request) if not name.startswith("_")}


def test_every_example_for_a_framework_is_named() -> None:
    linked = set(re.findall(r"\(\.\./examples/(\w+\.py)\)", (ROOT / PAGE).read_text()))
    programs = {path.name for path in (ROOT / "examples").glob("*_app.py")}
    assert linked == programs | {"decorator.py", "llm_gateway.py"}
    assert all((Path(ROOT) / "examples" / name).exists() for name in linked)
