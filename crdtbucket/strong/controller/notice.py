"""The notice that callbacks and webhooks get when a mode changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from crdtbucket.spec.mode import Mode

_SEVERITY = {Mode.STRONG: "info", Mode.EVENTUAL: "warning", Mode.FALLBACK: "critical"}


@dataclass(frozen=True)
class ModeNotice:
    """One change of mode, as it is handed to callbacks and webhooks."""

    node: str
    region: str
    endpoint: str
    """Host and port of the Redis that is slow, gone or back."""
    before: Mode
    after: Mode
    reason: str
    """One sentence for people, with the figures that decided."""
    time: float
    """Seconds since 1970, of this machine's wall clock."""

    @property
    def severity(self) -> str:
        """critical (fallback), warning (eventual) or info (strong again)."""
        return _SEVERITY[self.after]

    def as_json(self) -> dict[str, str]:
        """The body of a plain webhook; `time` is ISO 8601 in UTC with milliseconds."""
        moment = datetime.fromtimestamp(self.time, timezone.utc)
        return {
            "node": self.node,
            "region": self.region,
            "endpoint": self.endpoint,
            "before": str(self.before),
            "after": str(self.after),
            "reason": self.reason,
            "severity": self.severity,
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
