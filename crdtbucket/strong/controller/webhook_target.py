"""The URL that notices are posted to, and the form that the service there asks for.

The services' documents say what they need:
https://api.slack.com/messaging/webhooks and
https://developer.pagerduty.com/docs/events-api-v2/trigger-events/
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.notice import ModeNotice

SCHEME = re.compile(r"(?:(slack|pagerduty)\+)?(https?)")
KEY = re.compile("[0-9A-Za-z]{32}")
"""The name that PagerDuty has for an integration key."""
MAX_SUMMARY = 1_024
MAX_DEDUP_KEY = 255


@dataclass(frozen=True)
class WebhookTarget:
    """A URL that notices are posted to, and what the service there asks for."""

    url: str = field(repr=False)
    service: str
    """"slack", "pagerduty", or "" for all others."""
    key: str = field(repr=False)
    """The integration key by which PagerDuty knows its customer."""

    @classmethod
    def of(cls, webhook: str) -> WebhookTarget:
        """The target that a webhook names. Raises `InvalidSpec`, which does not repeat it."""
        parts = _parts(webhook)
        scheme = None if parts is None else SCHEME.fullmatch(parts.scheme)
        if parts is None or scheme is None:
            # Addresses of webhooks hold tokens, in their paths as well.
            raise InvalidSpec(
                "webhook is no http:// or https:// address",
                'write it whole, such as "https://alerts.example.com/crdtbucket"',
                "webhook",
            )
        if scheme[1] is None:
            return cls(webhook, "", "")
        plain = webhook.partition("+")[2]
        if scheme[1] == "slack":
            return cls(plain, "slack", "")
        key = parts.netloc.rpartition("@")[0]
        if KEY.fullmatch(key) is None:
            raise InvalidSpec(
                "webhook has no integration key of PagerDuty",
                "write its 32 characters before the host: "
                '"pagerduty+https://KEY@events.pagerduty.com/v2/enqueue"',
                "webhook",
            )
        return cls(plain.replace(f"{key}@", "", 1), "pagerduty", key)

    def body(self, notice: ModeNotice) -> dict[str, object]:
        """A notice as the service takes it."""
        if self.service == "slack":
            # "&", "<" and ">" are marks there: "<!channel>" would call everybody.
            return {"text": html.escape(_sentence(notice), quote=False)}
        if self.service == "pagerduty":
            return self._event(notice)
        return {**notice.as_json()}

    def _event(self, notice: ModeNotice) -> dict[str, object]:
        details = notice.as_json()
        return {
            "routing_key": self.key,
            "event_action": "resolve" if notice.after is Mode.STRONG else "trigger",
            "dedup_key": f"crdtbucket {notice.node} {notice.endpoint}"[:MAX_DEDUP_KEY],
            "payload": {
                "summary": _sentence(notice)[:MAX_SUMMARY],
                "source": notice.node,
                "severity": notice.severity,
                "timestamp": details["time"],
                "component": notice.endpoint,
                "group": notice.region,
                "class": "mode",
                "custom_details": details,
            },
        }


def check_webhook(webhook: str) -> str:
    """`webhook`, when notices can be posted to it; else `InvalidSpec`, which does not repeat it."""
    WebhookTarget.of(webhook)
    return webhook


def masked_url(url: str) -> str:
    """Scheme, host and port of a checked URL: what may stand in a log."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}/..."


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL that can be posted to; None for what is none."""
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        return None  # urlsplit drops what is not printable
    try:
        parts = urlsplit(url)
        port = parts.port  # to read it is to check its range
    except ValueError:
        return None
    return parts if parts.hostname and port != 0 else None


def _sentence(notice: ModeNotice) -> str:
    node = f"{notice.node} ({notice.region})" if notice.region else notice.node
    return (
        f"{notice.severity}: {node} went from {notice.before} to {notice.after} mode at "
        f"{notice.endpoint}: {notice.reason}"
    )
