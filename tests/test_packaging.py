"""What the build must know about the files that there are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11")
    loaded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return loaded


def test_the_core_depends_on_every_header(pyproject: dict[str, Any]) -> None:
    (core,) = pyproject["tool"]["setuptools"]["ext-modules"]
    headers = (ROOT / "crdtbucket" / "core").glob("*.h")
    assert sorted(core["depends"]) == sorted(str(h.relative_to(ROOT)) for h in headers)


def test_this_python_is_a_supported_one(pyproject: dict[str, Any]) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Programming Language :: Python :: {version}" in pyproject["project"]["classifiers"]
