"""The configuration that a node reports to run, and its name for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crdtbucket.cli.answer_values import count_of, mapping_of, text_of
from crdtbucket.cli.terminal_text import printable


@dataclass(frozen=True)
class ConfigReport:
    """The configuration that a node runs. `stage` is the stage of its roll-out; "" when it is in
    force everywhere."""

    version: int = 0
    hash: str = ""
    stage: str = ""
    rollout: str = ""
    """The status of the newest version of the node, where it is not simply running."""

    @classmethod
    def of(cls, answer: Any, rollout: Any = None) -> ConfigReport | None:
        """Reads the report; None if nothing is known. `rollout`: the node's report about its newest
        version."""
        if not isinstance(answer, Mapping) or not answer.get("hash"):
            return None
        stage = answer.get("stage")
        newest = mapping_of(rollout)
        status = text_of(newest.get("status"))
        number = count_of(newest.get("version"))
        return cls(
            count_of(answer.get("version")),
            text_of(answer.get("hash")),
            f"stage {printable(str(stage))}" if stage else "",
            {"halted": "halted", "rolled back": f"({number} rolled back)"}.get(status, ""),
        )

    @property
    def name(self) -> str:
        """The version where there is one, the start of the hash, and the stage of a roll-out."""
        number = str(self.version) if self.version else ""
        return " ".join(filter(None, [number, self.hash[:8], self.stage, self.rollout]))
