"""The machine, the versions and the commit of a run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crdtbucket", "limits", "throttled-py", "pyrate-limiter", "token-bucket", "aiolimiter",
            "msgpack", "aiohttp", "redis", "hiredis", "starlette", "fastapi", "flask", "slowapi",
            "flask-limiter", "fastapi-limiter", "uvloop")  # fmt: skip
PROGRAMS = {"redis-server": ["redis-server", "--version"], "wrk": ["wrk", "--version"]}
WRITTEN = ("benchmarks/results", "docs/benchmarks.md", "docs/img", "README.md")
"""The files that a report writes; they do not count as changed."""

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""The cores that this process may use, read before it is pinned to one of them."""


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive has no history
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _program(command: list[str]) -> str | None:
    """The first number of what a program says of its version."""
    try:
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError:
        return None
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else None


def describe() -> dict[str, Any]:
    """Commit (and how many files differ from it), processor, system, versions, date."""
    changes = _git("status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN))
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": None if changes is None else len(changes.splitlines()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: _version(name) for name in PACKAGES},
        "programs": {name: _program(command) for name, command in PROGRAMS.items()},
    }


def pin() -> int | None:
    """Pins this process to one core, the last that it may use; None where the system cannot do
    that."""
    if not CORES:
        return None
    os.sched_setaffinity(0, {CORES[-1]})
    return CORES[-1]


def place(process: int, *, beside: bool) -> None:
    """Pins a process to the core of this one, or to the others (`beside`) if there are any."""
    if not CORES:
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(process, (set(CORES) - own or own) if beside else own)
