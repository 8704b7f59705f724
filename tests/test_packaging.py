"""What the build must know about the files of the project."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import traceback
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

import crdtbucket._core

ROOT = Path(__file__).parent.parent
KEPT = ("benchmarks", "crdtbucket", "docs", "examples", "tests", ".github")
"""Folders that an sdist has whole."""

PACKAGE_DATA = (".py", ".pyi", ".lua", ".yml", ".yaml", ".json", ".csv", ".md", "py.typed")
PACKAGE_DATA += (".css", ".html", ".js", ".svg", "/LICENSE", "/SHA256SUMS")


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


def test_a_file_holds_one_idea() -> None:
    kinds = (".py", ".pyx", ".pxi", ".h")
    files = [path for path in ROOT.glob("crdtbucket/**/*") if path.suffix in kinds]
    lengths = {str(path): path.read_text().count("\n") for path in files}
    assert len(lengths) > 400
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_files_of_cython_are_as_narrow_as_others() -> None:
    """Neither ruff nor clang-format reads them."""
    files = [*ROOT.glob("crdtbucket/**/*.pxi"), *ROOT.glob("crdtbucket/**/*.pyx")]
    lines = {path.name: path.read_text().split("\n") for path in files}
    wide = [(name, line) for name, found in lines.items() for line in found if len(line) > 100]
    assert wide == []


def test_this_python_is_a_supported_one(pyproject: dict[str, Any]) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Programming Language :: Python :: {version}" in pyproject["project"]["classifiers"]


# ---- what is built ----


def tracked() -> set[str]:
    """The files of the project; without git there is nothing to compare with."""
    command = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("this is no checkout")
    return {name for name in done.stdout.split("\n") if name and (ROOT / name).exists()}


class Built(NamedTuple):
    """What was built of a copy of the project."""

    source: Path
    archive: Path
    sdist: set[str]
    wheel: set[str]
    commands: str


def build(place: Path) -> Built:
    """The names in an sdist of a copy of the project, and in the wheel that is built from it."""
    source = place / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    # Which files there are is what counts: the core is read, and no code is made of it.
    compiler = place / "cc"
    usual = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    compiler.write_text(f"""#!/bin/sh -e
case "$*" in *" -c "*) echo "$*" > {place}/commands; {usual} "$@" -fsyntax-only ;; esac
while [ "$1" != -o ]; do shift; done
touch "$2"
""")
    compiler.chmod(0o755)
    pytest.importorskip("build")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", source]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CC": str(compiler), "CFLAGS": "-g0", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (sdist,) = (place / "dist").glob("*.tar.gz")
    (wheel,) = (place / "dist").glob("*.whl")
    with tarfile.open(sdist) as inside:
        files = {one.name.partition("/")[2] for one in inside.getmembers() if one.isfile()}
    named = set(zipfile.ZipFile(wheel).namelist())
    return Built(source, sdist, files, named, (place / "commands").read_text())


@pytest.mark.timeout(600)
def test_what_is_built(tmp_path: Path) -> None:
    """All in one test, since processes that share the tests would each build it."""
    built = build(tmp_path)
    an_sdist_has_the_sources_the_tests_and_the_documents(built)
    an_sdist_has_equal_bytes_whenever_and_by_whomever_it_is_built(built)
    a_wheel_has_what_runs_and_nothing_else(built)
    # CFLAGS of a builder's environment take the place of all flags of the interpreter.
    assert "-DNDEBUG" in built.commands.split(), "Python's own assertions are part of each take"


def an_sdist_has_the_sources_the_tests_and_the_documents(built: Built) -> None:
    expected = {name for name in tracked() if name.startswith(tuple(f"{one}/" for one in KEPT))}
    assert expected <= built.sdist
    assert {"README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "Makefile"} <= built.sdist
    made = [name for name in built.sdist if re.search(r"\.(so|pyc)$|_core\.c$", name)]
    assert made == []


def an_sdist_has_equal_bytes_whenever_and_by_whomever_it_is_built(built: Built) -> None:
    for path in built.source.rglob("*"):
        os.utime(path, (2e9, 2e9))
        path.chmod(path.stat().st_mode & ~0o077)
    out = built.source.parent / "again"
    command = [sys.executable, "setup.py", "-q", "sdist", "--formats=gztar", "--dist-dir", out]
    subprocess.run(command, cwd=built.source, check=True, capture_output=True)
    (again,) = out.iterdir()
    assert again.read_bytes() == built.archive.read_bytes()


def a_wheel_has_what_runs_and_nothing_else(built: Built) -> None:
    inside = {name for name in built.wheel if ".dist-info/" not in name}
    (core,) = (name for name in inside if re.fullmatch(r"crdtbucket/_core\..*\.(so|pyd)", name))
    expected = {
        name for name in tracked() if name.startswith("crdtbucket/") and name.endswith(PACKAGE_DATA)
    } | {"crdtbucket_command.py"}
    assert inside - {core} - expected == set()
    assert expected - inside == set()


def test_type_checkers_find_the_package_of_a_checkout(tmp_path: Path) -> None:
    """They run no code, so they follow a path that `pip install -e` leaves, and no import hook."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "README.md").touch()
    for license_file in ("LICENSE", "crdtbucket/http/server/console/static/vendor/LICENSE"):
        (tmp_path / license_file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / license_file).touch()
    (tmp_path / "crdtbucket" / "__init__.py").touch()
    (tmp_path / "crdtbucket_command.py").touch()
    code = "from setuptools import build_meta; build_meta.build_editable('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("dist/*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if "/" not in name]
        assert Path(archive.read(path).decode().strip()) == tmp_path


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="another size there"
)
def test_the_core_is_small_without_its_symbols(tmp_path: Path) -> None:
    """As a wheel has it. Typed memoryviews alone would add 120 KB, `binding=True` 70 KB. By GCC 12
    it has 795 KB for Python 3.11 and 824 KB for 3.12 and 3.13, and by GCC 16 885 KB for 3.14."""
    core = tmp_path / "core.so"
    subprocess.run(["strip", "-o", core, crdtbucket._core.__file__], check=True)
    assert core.stat().st_size <= 920_000


class Unprintable:
    """A caller's value that raises in the middle of one of the core's statements."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_in_the_core_names_the_line_on_which_its_statement_begins() -> None:
    """Which is what lets calls be written on many lines without being larger."""
    with pytest.raises(RuntimeError) as raised:
        crdtbucket._core.take_all(Unprintable())  # type: ignore[arg-type]
    place = traceback.extract_tb(raised.tb)[-2]
    line = (ROOT / place.filename).read_text().split("\n")[(place.lineno or 0) - 1]
    assert line.strip() == "raise TypeError("


@pytest.mark.parametrize("kind", ["COLD_CLASSES", "COLD_METHODS", "MADE_IN_CALLS"])
def test_what_setup_names_as_cold_or_not_is_in_the_core(kind: str) -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "crdtbucket/core").rglob("*.pxi"))
    said = re.search(
        rf'^{kind} = "+(.*?)"', (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL
    )
    assert said
    for name in said.group(1).split():
        assert re.search(
            rf"^ *(?:cdef|async def|def|cdef class) (?:[^=(]* )?_?{name}[(:]", source, re.MULTILINE
        ), name


# ---- what is promised ----


def test_the_extra_fast_is_optional_and_the_base_has_no_tools_of_the_command_line(
    pyproject: dict[str, Any],
) -> None:
    project = pyproject["project"]
    base = {re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]}
    assert not base & {"click", "rich", "uvloop", "matplotlib"}
    assert all(">=" in line for line in project["dependencies"])
    cli = {re.split(r"[^\w.-]", line)[0] for line in project["optional-dependencies"]["cli"]}
    assert cli == {"click", "rich"}


IMPORTED_AS = {"prometheus-client": "prometheus_client", "ruamel.yaml": "ruamel.yaml"}


WITHOUT_HEADERS = """
import runpy, sysconfig
paths = sysconfig.get_path
sysconfig.get_path = lambda name, *rest: "/nowhere" if name == "include" else paths(name, *rest)
runpy.run_path("setup.py")
"""


@pytest.mark.parametrize(
    ("code", "compiler", "fix"),
    [
        ("import runpy; runpy.run_path('setup.py')", "/nowhere/cc", "apt-get install gcc"),
        (WITHOUT_HEADERS, sys.executable, "apt-get install python3-dev"),
    ],
    ids=["compiler", "headers"],
)
def test_what_a_machine_lacks_to_compile_the_core_is_named_with_its_package(
    code: str, compiler: str, fix: str
) -> None:
    command = [sys.executable, "-c", code, "build_ext"]
    environ = {**os.environ, "CC": compiler}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert fix in done.stderr.splitlines()[-1]


def test_every_dependency_of_the_base_is_imported(pyproject: dict[str, Any]) -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "crdtbucket").rglob("*.py"))
    imported = set(re.findall(r"^ *(?:import|from) ([\w.]+)", source, re.MULTILINE))
    for line in pyproject["project"]["dependencies"]:
        name = re.split(r"[^\w.-]", line)[0]
        assert any(
            f"{module}.".startswith(f"{IMPORTED_AS.get(name, name)}.") for module in imported
        ), name


def test_all_ways_to_name_the_supported_pythons_agree(pyproject: dict[str, Any]) -> None:
    told = [
        line.rpartition(" ")[2]
        for line in pyproject["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    wheels = pyproject["tool"]["cibuildwheel"]["build"].split()
    assert [f"cp{version.replace('.', '')}-*" for version in told] == wheels
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "test.yml")
    assert workflow["jobs"]["suite"]["strategy"]["matrix"]["python"] == told
    assert f"for version in {' '.join(told)}; do" in (ROOT / ".ci" / "run").read_text()
    assert pyproject["project"]["requires-python"] == f">={told[0]}"


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_there_is(path: Path) -> None:
    jobs = YAML(typ="safe").load(path)["jobs"]
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [
        line
        for job in jobs.values()
        for step in job["steps"]
        for line in str(step.get("run", "")).splitlines()
    ]
    assert lines
    for line in lines:
        words = line.split()
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        for word in words:
            if word.startswith(("tests/", ".ci/")):
                assert (ROOT / word).exists(), line
    for job in jobs.values():
        assert set(job.get("needs", [])) <= set(jobs)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_named_by_their_content_as_a_tag_can_be_moved(path: Path) -> None:
    used = set(re.findall(r"uses: (\S+)", path.read_text()))
    named = {one for one in used if re.search("@[0-9a-f]{40}$", one)}
    assert named
    assert used - named <= {"pypa/gh-action-pypi-publish@release/v1"}


def test_only_publishing_may_write_to_the_index() -> None:
    release = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "release.yml")
    trusted = [
        name for name, job in release["jobs"].items() if "id-token" in job.get("permissions", {})
    ]
    assert trusted == ["publish"]
    assert release["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".pre-commit-config.yaml"],
    ids=lambda path: path.name,
)
def test_files_for_the_forge_are_yaml(path: Path) -> None:
    assert YAML(typ="safe").load(path)
