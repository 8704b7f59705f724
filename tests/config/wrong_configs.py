"""Wrong configurations, and what a user is told about each: place, path, fault, fix.

They stand in the texts of the folder `wrong`: after `==` the name of a case, then the file, and
after each `=>` a line that the user gets. The words of `FIXES` stand for a longer text there.

The secrets of the environment are `hunter2` and a longer one; no message may hold them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ENV = {"SECRET": "hunter2", "LONG": "hunter2" * 20, "BYTES": "\udcffhunter2"}

FIXES = {
    "(GRAMMAR)": '(write "<tokens>/<interval>" with an optional burst: "100/minute", '
    '"10/s burst 20", "5 per second", "200 per 2 hours" or "100/15m")',
    "(REFERENCES)": "(write ${env:NAME}, ${env:NAME:-default} or ${file:/path}, and $${ for a "
    "plain ${)",
    "(SHELL)": "(write ${env:NAME}; a value that begins so may come from there, or from ${file:})",
}
TOO_MANY = (
    "is one of more than 1000 buckets and overrides (at most 1000 buckets and overrides, of which "
    "a calendar bucket counts for four; a glob can stand for a group of keys)"
)


def _written() -> Iterator[tuple[str, tuple[str, list[str]]]]:
    for path in sorted((Path(__file__).parent / "wrong").glob("*.txt")):
        for case in re.split("^== ", path.read_text(), flags=re.MULTILINE)[1:]:
            name, _, rest = case.partition("\n")
            text, *told = re.split("^=> ", rest, flags=re.MULTILINE)
            for word, fix in FIXES.items():
                told = [line.replace(word, fix) for line in told]
            yield name, (text, [line.strip() for line in told])


_CASES = list(_written())
WRONG: dict[str, tuple[str, list[str]]] = {
    **dict(_CASES),
    "too_many_buckets": (
        "services:\n" + "".join(f"  b{number}: {{limit: 1/s}}\n" for number in range(1_002)),
        [f"1002:3: services.b1000: {TOO_MANY}"],
    ),
    "too_many_plans": (
        "services:\n  a:\n    limit: 1/s\n    keys:\n"
        + "".join(f"      k{number}: 2/s\n" for number in range(999))
        + "  b: {limit: 1/s}\n",
        [f"1004:3: services.b: {TOO_MANY}"],
    ),
}
assert len(WRONG) == len(_CASES) + 2, "two cases have one name"
