"""Gives a dead epoch its tombstone at once, which the mesh does in many steps."""

from __future__ import annotations

from crdtbucket import _core


def add_tombstone(table: _core.Table, epoch: int) -> bool:
    """Gives the epoch a tombstone, and removes its columns. Returns whether it has one now."""
    table.epochs.add_tombstones((epoch,))
    table.epochs.prune()
    return any(has for _, _, one, has in table.epochs.origins() if one == epoch)
