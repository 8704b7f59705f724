"""Compiles the native tests: C programs around the core, without an interpreter at run time."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
OPTIMIZED = ("-O2",)
ADDRESSES = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREADS = ("-O1", "-fsanitize=thread")
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-function",
    "-Wno-missing-field-initializers",
)


class NoSanitizer(Exception):
    """The compiler here has no library for the flags."""


def compiler() -> list[str]:
    """The C compiler that Python's extensions are built with."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shlex.split(command)[:1]


def build(program: str, target: Path, flags: tuple[str, ...] = OPTIMIZED) -> Path:
    """Compiles one of the programs here; returns its path. Raises NoSanitizer."""
    base = [*compiler(), "-std=gnu11", "-g", *flags, f"-I{sysconfig.get_path('include')}"]
    if any("sanitize" in flag for flag in flags):
        probe = target.with_suffix(".c")
        probe.write_text("int main(void) { return 0; }\n")
        made = subprocess.run(
            [*base, str(probe), "-o", str(target)], capture_output=True, check=False
        )
        if (
            made.returncode
            or subprocess.run([str(target)], capture_output=True, check=False).returncode
        ):
            raise NoSanitizer(" ".join(flags))
    command = [*base, *WARNINGS, str(HERE / f"{program}.c"), "-o", str(target)]
    subprocess.run([*command, "-Wl,-z,now", "-lm", "-lpthread"], check=True)
    return target


__all__ = ["ADDRESSES", "OPTIMIZED", "THREADS", "NoSanitizer", "build"]
