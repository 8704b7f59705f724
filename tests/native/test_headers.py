"""The headers of the core: each compiles alone, and none includes from a higher folder."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.native.build import WARNINGS, compiler

CORE = Path(__file__).parents[2] / "crdtbucket" / "core"
HEADERS = sorted(str(path.relative_to(CORE)) for path in CORE.rglob("*.h"))
FOLDERS = ["memory", "level", "merge", "repair"]
"""Lowest first. `binding` stands beside them, and `core.h` above all."""


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_compiles_alone(header: str) -> None:
    include = f"-I{sysconfig.get_path('include')}"
    flags = ("-std=gnu11", "-D_GNU_SOURCE", *WARNINGS)  # the second as of Python.h
    command = [*compiler(), *flags, include, "-fsyntax-only", "-x", "c", "-"]
    source = f'#include "{CORE / header}"\n'
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_includes_only_from_its_own_folder_and_lower_ones(header: str) -> None:
    folder = header.partition("/")[0]
    for included in re.findall(r'^#include "(.*)"$', (CORE / header).read_text(), re.MULTILINE):
        other = (CORE / header).parent / included
        assert other.is_file(), included
        place = other.resolve().relative_to(CORE).parts[0]
        if folder in FOLDERS:
            assert FOLDERS.index(place) <= FOLDERS.index(folder), included


def test_headers_are_found() -> None:
    assert {header.partition("/")[0] for header in HEADERS} == {*FOLDERS, "binding", "core.h"}
