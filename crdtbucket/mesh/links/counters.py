"""Counters of the network side of the mesh, and a log of refusals that repeats do not flood."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.repeated_lines import RepeatedLines

LOG = logging.getLogger("crdtbucket.mesh")
REPEAT_S = 5.0


@dataclass
class MeshCounters:
    """Totals since the mesh was made; read them at any time, from any thread."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    """Sealed frames, without the headers of WebSocket and TCP; so is `bytes_out`."""
    bytes_out: int = 0
    frames_dropped: int = 0
    """Frames not sent because a peer read too slowly; later rounds carry the same counts."""
    connections: int = 0
    """Authenticated links made."""
    dials_failed: int = 0
    last_failure: str = ""
    """The address that the last failed dial called, and why it made no link."""
    engine_connections: int = 0
    """Connections made with the message engine: one more than were lost, while it can be
    reached."""
    engine_losses: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Connections and frames turned away, by reason."""


class Refusals:
    """Counts what is turned away and logs it: the first of a reason at once, repeats summed up."""

    def __init__(self, counters: MeshCounters) -> None:
        self._counters = counters
        self._lines = RepeatedLines(round(REPEAT_S * NS_PER_SECOND))

    def add(self, reason: str, text: str, level: int = logging.WARNING) -> None:
        """Counts one refusal; `reason` is a label of a small fixed set, `text` the log line."""
        refused = self._counters.refused
        refused[reason] = refused.get(reason, 0) + 1
        if (more := self._lines.add(reason, now_ns())) is not None:
            LOG.log(level, "%s%s", text, more)
