"""The tests of the core with a core that watches its own memory and arithmetic.

python -m tests.native.sanitized [arguments of pytest]

AddressSanitizer and UndefinedBehaviorSanitizer end the process at the first read beyond what was
allocated, overflow that is not defined, or misplaced pointer. They are loaded before Python, which
takes its objects from malloc, so that each object has bounds of its own. Processes that tests start
inherit all of that; programs of others do not (tests/http/server/test_proxies.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig

from tests.native.build import ADDRESSES, ROOT, build_core, compiler

PLACE = ROOT / "build" / "sanitized"
OF_MEMORY = "test_a_log_that_is_never_empty_does_not_go_through_all_of_its_memory"
"""This test looks at the memory of the process, in which a sanitizer keeps what was freed."""
READ = ("docs", "benchmarks", "examples")
"""Folders that some tests read, and the files beside them."""
LIBRARIES = ("libasan.so", "libubsan.so")
OPTIONS = {
    # Python frees little at its end, and a test itself reports its fault. A process whose table was
    # cut off must end by SIGBUS, as tests expect.
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_sigbus=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "PYTHONMALLOC": "malloc",
    "HYPOTHESIS_PROFILE": "quick",
}


def main(arguments: list[str]) -> int:
    """Compiles the core and runs the tests; returns their exit status."""
    include = f"-I{sysconfig.get_path('include')}"
    name = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    build_core(PLACE, [*compiler(), include], name, ("-U_FORTIFY_SOURCE", "-g", *ADDRESSES))
    for folder in READ:
        shutil.copytree(ROOT / folder, PLACE / folder, dirs_exist_ok=True)
    for file in (one for one in ROOT.glob("[!.]*") if one.is_file()):
        shutil.copy(file, PLACE)
    found = [
        subprocess.check_output([*compiler(), f"-print-file-name={one}"], text=True).strip()
        for one in LIBRARIES
    ]
    environment = {**os.environ, **OPTIONS, "LD_PRELOAD": ":".join(found), "PYTHONPATH": str(PLACE)}
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest += ["--capture=sys"]  # else the last words of a sanitizer are lost
    pytest += ["--deselect", f"tests/core/test_dirty.py::{OF_MEMORY}"]
    pytest += ["-o", "timeout=3000", *(arguments or ["tests/core", "tests/shared"])]
    return subprocess.run(pytest, cwd=PLACE, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
