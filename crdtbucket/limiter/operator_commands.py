"""Obeys commands that an operator has given to all nodes of the mesh."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crdtbucket.base.counted import counted
from crdtbucket.errors import CrdtbucketError
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.live_rollout import LiveRollout

if TYPE_CHECKING:
    from crdtbucket.mesh.links.command_orders import CommandOrder

AUDIT = logging.getLogger("crdtbucket.audit")


class OperatorCommands:
    """Obeys commands whose signatures have been checked. From any thread."""

    def __init__(self, in_force: InForce, rolling: LiveRollout) -> None:
        self._in_force = in_force
        self._rolling = rolling

    def check(self, order: CommandOrder) -> None:
        """Raises `CrdtbucketError` for a command that this node could not obey: it must be given to
        a node that can."""
        position = order.position
        if position is None:
            _, bucket, key = order.subject
            self._in_force.bucket(bucket).peek(key)
        else:
            self._rolling.check(position)

    def obey(self, orders: Sequence[CommandOrder]) -> None:
        """Carries out new commands, each once."""
        for order in orders:
            position = order.position
            if position is not None:
                self._rolling.obey()
                continue
            _, bucket, key = order.subject
            try:
                given_back = self._in_force.bucket(bucket).reset(key)
            except CrdtbucketError as error:  # another file may define other buckets
                AUDIT.warning("not done here (%s): %s", error, order.in_words())
            else:
                AUDIT.warning(
                    "%s: %s given back here", order.in_words(), counted(given_back, "token")
                )
