"""How many of mutmut's mutants the tests noticed, by module: python -m tests.mutants.

`make mutants` runs it. The exit status is 1 when fewer than 90 in 100 were noticed. A mutant that
runs too long, or ends the process, counts as noticed. Those that nobody noticed are listed:
`mutmut show NAME` prints one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PLACE = Path("mutants")
NOTICED_OF_100 = 90
UNNOTICED = {0: "survived", 5: "no test runs it", 33: "no test runs it"}
NOT_RUN = (None, 2, 34)
"""Exit codes of mutants that were not tried: the run was interrupted."""


def results(place: Path) -> dict[str, dict[str, int | None]]:
    """Of each module the exit codes of its mutants' tests."""
    return {
        str(path.relative_to(place)).removesuffix(".meta"): json.loads(path.read_text())[
            "exit_code_by_key"
        ]
        for path in sorted(place.rglob("*.meta"))
    }


def main(place: Path = PLACE) -> int:
    """Prints the score of each module and who survived."""
    total = noticed = left = 0
    for module, codes in results(place).items():
        unnoticed = {name: UNNOTICED[code] for name, code in codes.items() if code in UNNOTICED}
        tried = [code for code in codes.values() if code not in NOT_RUN]
        total, noticed = total + len(tried), noticed + len(tried) - len(unnoticed)
        left += len(codes) - len(tried)
        if tried:
            print(f"{module}: {len(tried) - len(unnoticed)} of {len(tried)} noticed")
        for name, why in unnoticed.items():
            print(f"  {name}: {why}")
    if not total or left:
        print(f"{left} mutants were not tried, of {total + left}")
        return 1
    print(f"{noticed} of {total} mutants noticed, {100 * noticed / total:.1f} %")
    return int(100 * noticed < NOTICED_OF_100 * total)


if __name__ == "__main__":
    sys.exit(main())
