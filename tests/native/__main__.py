"""The long run of the native tests: python -m tests.native [--kills N] [--rounds N].

N real processes are killed in each operation, evenly spread over its instructions (with a large N
after every one of them); hammer and noise run with every sanitizer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.native.build import ADDRESSES, OPTIMIZED, THREADS, NoSanitizer, build

SEEDS = 5
SLOWER = {OPTIMIZED: 1, ADDRESSES: 10, THREADS: 20}
"""The factor by which the hammer does less under each sanitizer."""


WAYS: dict[str, list[list[str]]] = {
    "hammer": [[], ["--flow"], ["--processes"], ["--processes", "--flow"]],
    "noise": [[]],
}


def run(name: str, directory: Path, rounds: int) -> None:
    """Runs a program with all sanitizers, seeds and options."""
    for flags, slower in SLOWER.items():
        try:
            program = build(name, directory / f"{name}{slower}", flags)
        except NoSanitizer as missing:
            print(f"left out, the compiler has none: {missing}")
            continue
        for seed in range(SEEDS):
            for options in WAYS[name]:
                command = [program, "--seed", str(seed), "--rounds", str(rounds // slower)]
                print(name, *flags, *options, f"seed {seed}:", end=" ", flush=True)
                subprocess.run([*command, *options], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.native", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=500_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        everykill = build("everykill", Path(place) / "everykill")
        subprocess.run([everykill, "--kills", str(options.kills)], check=True)
        for name in WAYS:
            run(name, Path(place), options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
