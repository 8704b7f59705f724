"""What the build must know about the files that there are."""

from __future__ import annotations

import re
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


def test_every_included_file_is_included_once() -> None:
    """The patterns of setup.py and the Makefile name these two kinds of files."""
    kinds = {path.suffix for path in ROOT.glob("crdtbucket/core/**/*") if path.is_file()}
    assert kinds == {".h", ".pxi"}
    source = (ROOT / "crdtbucket" / "_core.pyx").read_text()
    there = {
        str(path.relative_to(ROOT / "crdtbucket")) for path in ROOT.glob("crdtbucket/**/*.pxi")
    }
    assert sorted(re.findall(r'^include "(.*)"$', source, re.MULTILINE)) == sorted(there)


def test_this_python_is_a_supported_one(pyproject: dict[str, Any]) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Programming Language :: Python :: {version}" in pyproject["project"]["classifiers"]
