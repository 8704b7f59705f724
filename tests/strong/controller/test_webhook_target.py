"""URLs to which a change of mode may be posted, and what the services receive."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.webhook_target import WebhookTarget, check_webhook, masked_url
from tests.strong.controller.test_notice import notice

KEY = "hunter20" * 4
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/T0/hunter2", "https://hooks.example.com/..."),
        ("http://u:hunter2@127.0.0.1:8080/?token=hunter2#hunter2", "http://127.0.0.1:8080/..."),
        ("http://[::1]:8080", "http://[::1]:8080/..."),
        ("slack+https://hooks.slack.com/services/hunter2", "slack+https://hooks.slack.com/..."),
        (
            f"pagerduty+https://{KEY}@events.pagerduty.com/v2/enqueue",
            "pagerduty+https://events.pagerduty.com/...",
        ),
    ],
)
def test_only_the_host_of_a_url_is_shown(url: str, shown: str) -> None:
    assert masked_url(check_webhook(url)) == shown
    assert "hunter2" not in repr(WebhookTarget.of(url))


@pytest.mark.parametrize(
    "url",
    [
        *["", "hunter2", "hooks.example.com/hunter2", "ftp://h/hunter2", "https://", "https:///x"],
        *["http://:80/", "http://h:99999/", "http://h:0/", "http://h:x/", "http://[::1/"],
        *["slack+ftp://h/hunter2", "teams+https://h/hunter2", "slack+slack+https://h/hunter2"],
        *["http://h/hunter 2", "http://h/\nhunter2", "http://h/\x00", None, 5, b"http://h"],
    ],
)
def test_what_is_no_url_is_refused_and_not_repeated(url: Any) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check_webhook(url)
    assert caught.value.field == "webhook"
    assert "hunter" not in str(caught.value)
    assert "https://" in caught.value.fix


@pytest.mark.parametrize(
    "user", ["", "hunter2@", f"{KEY}0@", f"{KEY}:@", f":{KEY}@", "ü" * 32 + "@"]
)
def test_pagerduty_needs_its_key(user: str) -> None:
    with pytest.raises(InvalidSpec, match="no integration key") as caught:
        check_webhook(f"pagerduty+https://{user}events.pagerduty.com/v2/enqueue")
    assert "hunter" not in str(caught.value)


def test_other_services_get_the_notice_as_it_is() -> None:
    target = WebhookTarget.of("https://u:p@h:81/x?y#z")
    assert (target.url, target.body(notice())) == ("https://u:p@h:81/x?y#z", notice().as_json())


def test_slack_gets_a_text_without_marks() -> None:
    target = WebhookTarget.of("slack+https://hooks.slack.com/services/T0/B0/x")
    assert target.url == "https://hooks.slack.com/services/T0/B0/x"
    assert target.body(notice(reason="p99 > 30 ms & <!channel>", region="")) == {
        "text": "critical: eu-1 went from strong to fallback mode at 10.0.0.1:6379: "
        "p99 &gt; 30 ms &amp; &lt;!channel&gt;"
    }


@pytest.mark.parametrize(
    ("after", "action"),
    [(Mode.FALLBACK, "trigger"), (Mode.EVENTUAL, "trigger"), (Mode.STRONG, "resolve")],
)
def test_pagerduty_gets_an_event_that_is_resolved_when_strong_is_back(
    after: Mode, action: str
) -> None:
    target = WebhookTarget.of(f"pagerduty+https://{KEY}@events.pagerduty.com/v2/enqueue")
    assert target.url == PAGERDUTY
    event: dict[str, Any] = target.body(notice(after, before=Mode.EVENTUAL))
    assert (event["event_action"], event["routing_key"]) == (action, KEY)
    assert event["dedup_key"] == "crdtbucket eu-1 10.0.0.1:6379"  # of all events of one Redis
    assert event["payload"]["custom_details"] == notice(after, before=Mode.EVENTUAL).as_json()


def test_the_page_shows_what_slack_and_pagerduty_get() -> None:
    page = Path(__file__).parents[3] / "docs/configuration.md"
    shown = [
        json.loads(text) for text in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    details = shown[1]["payload"]["custom_details"]
    time = datetime.fromisoformat(details["time"].replace("Z", "+00:00")).timestamp()
    said = notice(region=details["region"], reason=details["reason"], time=time)
    key = shown[1]["routing_key"]
    urls = ("slack+https://hooks.slack.com/x", f"pagerduty+https://{key}@events.pagerduty.com/x")
    assert shown == [WebhookTarget.of(url).body(said) for url in urls]


def test_an_event_is_never_longer_than_pagerduty_takes() -> None:
    target = WebhookTarget.of(f"pagerduty+https://{KEY}@events.pagerduty.com/v2/enqueue")
    event: dict[str, Any] = target.body(notice(reason="x" * 2_000, node="n" * 300))
    assert (len(event["payload"]["summary"]), len(event["dedup_key"])) == (1_024, 255)
