"""Bugs are planted in code that exists. `make check` runs the tests that must find them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.mutations import ROOT, place, share_of, sources
from tests.native.build import compiler
from tests.planted import MUTATIONS
from tests.planted_core import CHOICE, switch, switched


def test_every_planted_bug_of_python_parses_and_knows_all_its_names(tmp_path: Path) -> None:
    """A name that does not exist fails in each test that comes there, so any would find the bug."""
    read = functools.cache(sources)
    for mutation in MUTATIONS:
        path = place(mutation, ROOT, read)
        if path.suffix == ".py":
            text = read(ROOT / "crdtbucket" / mutation.folder)[path]
            (tmp_path / f"{mutation.name}.py").write_text(text.replace(mutation.old, mutation.new))
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet"]
    unknown = [*ruff, "--select", "F821", "--output-format", "concise", "."]
    found = subprocess.run(unknown, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_all_planted_bugs_of_the_core_compile_together(tmp_path: Path) -> None:
    core = Path("crdtbucket/core")
    shutil.copytree(ROOT / core, tmp_path / core)
    mutations = [(m, place(m, ROOT).relative_to(ROOT)) for m in MUTATIONS if m.folder == "core"]
    switch(tmp_path, {n: (path, m.old, m.new) for n, (m, path) in enumerate(mutations, 1)})
    (tmp_path / "choice.h").write_text(CHOICE)
    include = f"-I{sysconfig.get_path('include')}"
    command = [
        *compiler(),
        "-std=gnu11",
        "-D_GNU_SOURCE",
        "-w",
        "-include",
        "choice.h",
        include,
        "-fsyntax-only",
    ]
    headers = sorted({tmp_path / path for _, path in mutations})
    source = "".join(f'#include "{header}"\n' for header in headers)
    subprocess.run([*command, "-x", "c", "-"], cwd=tmp_path, input=source, text=True, check=True)


def test_names_are_unique() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_all_bugs_come_round() -> None:
    planted = [m.name for turn in range(40, 56) for m in share_of(MUTATIONS, 16, turn)]
    assert sorted(planted) == sorted(m.name for m in MUTATIONS)


HEADER = """
#define LOW 1
/* Not { a function. */
static const int some[] = {1, 2};
static inline int twice(int value, const int *unused)
{
    if (value == '{') { value += some[0]; }
    return value + value;
}
static int four(void) { return twice(2, some); }
"""
PROGRAM = '#include "it.h"\nint main(void) { return 10 * four() + twice(LOW, some); }\n'


@pytest.mark.parametrize(("chosen", "status"), [("0", 42), ("1", 62), ("2", 44), ("3", 52)])
def test_one_of_several_bugs_in_one_compilation_is_chosen(
    chosen: str, status: int, tmp_path: Path
) -> None:
    header = Path("it.h")
    (tmp_path / header).write_text(HEADER)
    (tmp_path / "it.c").write_text(PROGRAM)
    (tmp_path / "choice.h").write_text(CHOICE)
    bugs = {
        1: (header, "value + value", "value + 2 * (value > 1) + value"),
        2: (header, "if (value == '{')", "if (value == LOW)"),
        3: (header, "twice(2, some)", "twice(2, some) + 1"),
    }
    switch(tmp_path, bugs)
    command = ["gcc", "-include", "choice.h", "it.c", "-o", "it"]
    subprocess.run(command, cwd=tmp_path, check=True)
    env = {**os.environ, "PLANTED": chosen}
    assert subprocess.run([tmp_path / "it"], env=env, check=False).returncode == status


def test_a_bug_outside_of_any_function_is_refused() -> None:
    with pytest.raises(ValueError, match="LOW"):
        switched(HEADER, {1: ("LOW 1", "LOW 2")})
