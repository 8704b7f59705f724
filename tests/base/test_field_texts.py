"""The texts below the fields of a class, as documents show them."""

from __future__ import annotations

import importlib
import py_compile
from pathlib import Path

import pytest

from crdtbucket.base.field_texts import field_texts

SOURCE = '''class Told:
    name: str = ""
    """Who it is."""
    age: int = 0
'''


def test_a_text_stands_below_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with_source.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    assert field_texts(importlib.import_module("with_source").Told) == {"name": "Who it is."}


def test_a_module_without_its_source_has_no_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "without_source.py"
    source.write_text(SOURCE)
    py_compile.compile(str(source), cfile=str(tmp_path / "without_source.pyc"))
    source.unlink()
    monkeypatch.syspath_prepend(tmp_path)
    assert field_texts(importlib.import_module("without_source").Told) == {}
