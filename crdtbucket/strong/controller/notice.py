"""The notice of a change of mode, and the check of the URL that notices are posted to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import urlsplit

from crdtbucket.errors import InvalidSpec
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
        """The body of the webhook; `time` is ISO 8601 in UTC with milliseconds."""
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


def check_webhook(url: str) -> str:
    """`url`, when notices can be posted to it; else `InvalidSpec`, which does not repeat it."""
    if not isinstance(url, str) or not _is_http(url):
        # Addresses of webhooks hold tokens, in their paths as well.
        raise InvalidSpec(
            "webhook is no http:// or https:// address",
            'write it whole, such as "https://alerts.example.com/crdtbucket"',
            "webhook",
        )
    return url


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port  # to read it is to check its range
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url  # urlsplit drops what is not
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def masked_url(url: str) -> str:
    """Scheme, host and port of a checked URL: what may stand in a log."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}/..."
