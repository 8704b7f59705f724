"""Describes in words the entries of a node's `mesh.peers` at which no node is linked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crdtbucket.cli.answer_values import count_of, list_of, report_of, text_of
from crdtbucket.cli.terminal_text import seconds


@dataclass(frozen=True)
class UnreachedReport:
    """An entry of `mesh.peers` that a node has no link with; `node` is the node that was last met
    there."""

    address: str
    node: str = ""
    seconds: float = 0.0
    reason: str = ""
    left: bool = False
    """Whether that node has said goodbye."""


@dataclass(frozen=True)
class UnreachedPeers:
    """All entries of a node's `mesh.peers` without a link. Without the admin token a node reports
    only how many have not left."""

    missing: int = 0
    known: tuple[UnreachedReport, ...] = ()

    def reasons_of(self, name: str) -> str:
        """Why the node that was last met there is not linked, as the end of a sentence."""
        found = (one for one in self.known if one.node == name and not one.left)
        return "".join(f"; {one.address}: {one.reason}" for one in found)

    def faults(self, node: str, said_of: Collection[str], *, alone: bool) -> Iterator[str]:
        """A sentence for each entry, except those that another sentence covers already."""
        for one in self.known:
            if not (one.left or one.node in said_of):
                who = f" ({one.node})" if one.node else ""
                since = f"for {seconds(one.seconds)}"
                yield f"{node}: no link with {one.address}{who} {since}: {one.reason}"
        if not (self.known or alone) and self.missing > len(said_of):
            yield (
                f"{node}: no link at {self.missing} of its mesh.peers; with the admin token "
                "`status` says which, and why"
            )

    def notes(self, node: str) -> Iterator[str]:
        """A sentence for each entry whose node has left."""
        for one in self.known:
            if one.left:
                since = f"for {seconds(one.seconds)}"
                yield (
                    f"{node}: {one.node or 'the node'} at {one.address} has left, and nobody "
                    f"answers there {since}"
                )


def read_unreached(answer: Mapping[str, Any]) -> UnreachedPeers:
    """Reads the entries from an answer; nodes of an earlier version send none."""
    return UnreachedPeers(
        count_of(answer.get("unreached")),
        tuple(
            report_of(UnreachedReport, one)
            for one in list_of(answer, "unreached_peers")
            if text_of(one.get("address"))
        ),
    )
