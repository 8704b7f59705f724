"""Compiles the native tests: C programs around the core, without an interpreter at run time."""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from unittest import mock

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LINES = "-g1"
"""With it reports name lines. Names of variables, which nobody reads, would take a quarter more
time."""
OPTIMIZED = ("-O2",)
ADDRESSES = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
QUICKLY = (*ADDRESSES, "-O0")
"""These flags compile in a fifth of the time; a run takes longer, but by less than that."""
THREADS = ("-O1", "-fsanitize=thread")
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-function",
    "-Wno-missing-field-initializers",
)
NOTHING = """#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size) { return !data && size; }
#else
int main(void) { return 0; }
#endif
"""


class NoSanitizer(Exception):
    """This compiler has no library for the flags."""


def compiler() -> list[str]:
    """The C compiler by which Python's extensions are built."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shlex.split(command)[:1]


def probe(command: list[str], target: Path) -> bool:
    """Whether a program that does nothing can be compiled and run."""
    source = target.with_suffix(".c")
    source.write_text(NOTHING)
    made = subprocess.run(
        [*command, str(source), "-o", str(target)], capture_output=True, check=False
    )
    source.unlink()
    if made.returncode:
        return False
    return not subprocess.run([target, "-runs=0"], capture_output=True, check=False).returncode


def build(
    program: str,
    target: Path,
    flags: tuple[str, ...] = OPTIMIZED,
    command: list[str] | None = None,
) -> Path:
    """Compiles one of the programs here; returns its path. Raises NoSanitizer."""
    include = f"-I{sysconfig.get_path('include')}"
    base = [*(command or compiler()), "-std=gnu11", "-D_GNU_SOURCE", LINES, *flags, include]
    if any("sanitize" in flag for flag in flags) and not probe(base, target):
        raise NoSanitizer(" ".join(flags))
    base += [*WARNINGS, str(HERE / f"{program}.c"), "-o", str(target)]
    subprocess.run([*base, "-Wl,-z,now", "-lm", "-lpthread"], check=True)
    return target


def build_core(place: Path, command: list[str], name: str, flags: tuple[str, ...] = ()) -> None:
    """Copies the package and its tests to `place`, with a core of that file name: it is compiled
    with the flags of setup.py and, after them, those that are given."""
    ignored = shutil.ignore_patterns("*.so", "_core.c", "__pycache__")
    for folder in ("crdtbucket", "tests"):
        shutil.copytree(ROOT / folder, place / folder, ignore=ignored, dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", place)
    with mock.patch("setuptools.setup") as setup:
        functions = runpy.run_path(str(ROOT / "setup.py"))
    (core,) = setup.call_args.kwargs["ext_modules"]
    source, include = place / "_core.c", f"-I{place}/crdtbucket"
    cython = [sys.executable, "-m", "cython", "-3", str(ROOT / core.sources[0]), "-o", str(source)]
    subprocess.run(cython, check=True)
    functions["rewrite"](source)
    compiled = [*command, "-shared", "-fPIC", *core.extra_compile_args, *flags, include]
    target = place / "crdtbucket" / name
    subprocess.run([*compiled, source, *core.extra_link_args, "-o", target], check=True)
