"""How much memory does a key take, and how many bytes on the wire?"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.environment import ROOT
from benchmarks.measure import Case, Comparison, Scale
from benchmarks.memory_probe import SUBJECTS

QUESTION = "what does a key take in memory, and an entry on the wire?"


def _probe(subject: str, keys: int) -> Callable[[], tuple[float, ...]]:
    def run() -> tuple[float, ...]:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory_probe", subject, str(keys)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return tuple(json.loads(done.stdout))

    return run


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields the resident memory of fresh processes."""
    keys = scale.pick(1_000_000, 200_000, 20_000)
    here = {name: module is None or bool(importlib.util.find_spec(module))
            for name, (module, _) in SUBJECTS.items()}  # fmt: skip
    yield Comparison(
        f"{keys:,} new keys in a fresh process",
        ("resident bytes a key", "bytes a key by its own count", "wire bytes an entry"),
        [
            Case(name, _probe(name, keys), peer=SUBJECTS[name][0] is not None)
            for name in SUBJECTS
            if here[name]
        ],
        [(name, "is not installed") for name in SUBJECTS if not here[name]],
        note="0: has no such figure. A table of crdtbucket holds no keys but their hashes, and the "
        "names of 10,000; an entry carries the columns of all regions and its sender's rates",
        repeats=1,
    )
