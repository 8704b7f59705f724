"""Which of the tokens that a node's callers consumed no store needs to know any more."""

from __future__ import annotations


class Generations:
    """Of the entries of one node.

    An entry that is full and idle leaves its node, and the next take begins another generation:
    what the one before counted is history, and the stores forget it when they learn of the new one.
    That the key was full is not the node's word: it is shown by the time since the last take. An
    earlier generation that was not surely full when it ended is missed where its tokens are gone.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[int, int]] = {}

    def take(self, line: tuple[str, str], generation: int, now_ns: int, full_ns: int) -> bool:
        """A take of a bucket's key was allowed; whether all before it is history.

        `full_ns`: within so long any level of the key refills."""
        before, taken_ns = self._last.get(line, (generation, now_ns))
        self._last[line] = generation, now_ns
        return generation != before and now_ns - taken_ns >= full_ns
