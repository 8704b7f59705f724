"""Runs the tests again and again beside processes that keep every processor busy.

    python -m tests.busy [--runs N] [--whole]

What passes only on a quiet machine fails here. Without `--whole` the tests run in which real
processes, sockets and servers decide when something happens. Exit status: 0 when every run passed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from tests.server_process import end_by_signals

# The loop ends with the program that started it, however that ends.
LOOP = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(100_000):
        pass
"""
PROCESSES = ("-m", "processes and not slow")
PYTEST = (sys.executable, "-m", "pytest", "--quiet", "--dist", "worksteal", "--numprocesses")


@contextlib.contextmanager
def busy(processors: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs as many endless loops as there are processors, with the priority of the tests."""
    command = [sys.executable, "-c", LOOP, str(os.getpid())]
    loops = [subprocess.Popen(command) for _ in range(processors)]
    try:
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.busy", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--whole", action="store_true", help="all quick tests")
    options = parser.parse_args(arguments)
    processors = os.cpu_count() or 1
    chosen = ("-m", "not slow") if options.whole else PROCESSES
    failed = 0
    for run in range(1, options.runs + 1):
        begun = time.monotonic()
        with busy(processors), tempfile.TemporaryFile("w+") as output:
            command = [*PYTEST, str(processors + 1), *chosen]
            status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
            output.seek(0)
            text = output.read()
        alone = text.count("failed beside others, passed alone: ")
        verdict = "passed" if status == 0 else f"FAILED (status {status})"
        seconds = time.monotonic() - begun
        print(f"run {run} of {options.runs}: {verdict} in {seconds:.0f} s", end="")
        print(f", {alone} of its tests only when alone" if alone else "", flush=True)
        if status:
            failed += 1
            print(text)
    print("every run passed" if not failed else f"{failed} of {options.runs} runs failed")
    return int(failed > 0)


if __name__ == "__main__":
    end_by_signals()
    sys.exit(main())
