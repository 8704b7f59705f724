"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str) -> str:
    """What an example prints; it must end well, with nothing on stderr."""
    path = [str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_three_regions_keep_one_limit() -> None:
    output = run("three_regions.py")
    each = [int(n) for n in re.findall(r": (\d+) of its calls allowed", output)]
    together = re.search(r"together: (\d+) of 500 tokens", output)
    assert len(each) == 3
    assert min(each) > 0
    assert together is not None
    assert sum(each) == int(together[1])
    # What nobody had heard of when it was taken is within a few of its 500 tokens; a token refills
    # in a minute. Without a mesh it would be 1,000.
    assert 475 <= sum(each) <= 525


def test_an_llm_budget_charges_what_was_used() -> None:
    output = run("llm_budget.py")
    counts = {kind: int(n) for kind, n in re.findall(r"^(\w+): (\d+)$", output, re.MULTILINE)}
    left = re.search(r"left of the budget: (\d+) of 20000 tokens", output)
    assert set(counts) == {"answered", "failed", "denied"}
    assert sum(counts.values()) == 60
    assert counts["answered"] > 0
    assert counts["denied"] > 0
    assert left is not None
    # Unused estimates went back, so there is room for more than the answers alone leave.
    assert 0 < int(left[1]) < 20_000


def test_every_example_is_run() -> None:
    here = Path(__file__).read_text()
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    assert programs
    assert all(f'run("{name}")' in here for name in programs)
