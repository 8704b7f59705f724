"""Makes a failing plan small: as many dimensions plain, and as few events, as the failure
allows."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.run import run
from tests.simulated.view import Broken


class Small(NamedTuple):
    """A smaller plan that fails in the same way as the whole one."""

    seed: int
    plain: tuple[str, ...]
    dropped: tuple[int, ...]
    error: str

    @property
    def command(self) -> str:
        """The command that runs it again."""
        parts = [f"python -m tests.soak --seed {self.seed}"]
        parts += [f"--plain {','.join(self.plain)}"] if self.plain else []
        parts += [f"--drop {','.join(map(str, self.dropped))}"] if self.dropped else []
        return " ".join(parts)


def failure(seed: int, plain: tuple[str, ...] = (), dropped: tuple[int, ...] = ()) -> Small | None:
    """How a plan fails, or None."""
    try:
        run(draw(seed, plain, dropped))
    except Exception as error:  # noqa: BLE001 - whatever breaks is looked for
        return Small(seed, plain, dropped, f"{type(error).__name__}: {error}")
    return None


def _kind(error: str) -> str:
    """The rule that is broken, or the type of the error."""
    head, rest = error.split(":", 1)
    return rest.split(":", 1)[0] if head == Broken.__name__ else head


def shrink(seed: int) -> Small | None:
    """The smallest plan that was found, or None when the seed does not fail."""
    found = failure(seed)
    if found is None:
        return None
    kind = _kind(found.error)

    def same(plain: tuple[str, ...], dropped: tuple[int, ...]) -> Small | None:
        smaller = failure(seed, plain, dropped)
        return smaller if smaller is not None and _kind(smaller.error) == kind else None

    for name in reversed(DIMENSIONS):
        found = same((*found.plain, name), ()) or found
    number = len(draw(seed, found.plain).events)
    for i in reversed(range(number)):
        found = same(found.plain, (*found.dropped, i)) or found
    return found
