"""What is told of a change of mode, and which URLs it may be posted to."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.notice import ModeNotice, check_webhook, masked_url


def notice(after: Mode = Mode.FALLBACK, **other: Any) -> ModeNotice:
    told = {"node": "eu-1", "region": "eu", "endpoint": "10.0.0.1:6379", "before": Mode.STRONG}
    told |= {"reason": "no answer for 0.5 s", "time": 1_780_000_000.125}
    return ModeNotice(**{**told, "after": after, **other})


def test_a_notice_as_json() -> None:
    assert notice().as_json() == {
        "node": "eu-1",
        "region": "eu",
        "endpoint": "10.0.0.1:6379",
        "before": "strong",
        "after": "fallback",
        "reason": "no answer for 0.5 s",
        "severity": "critical",
        "time": "2026-05-28T20:26:40.125Z",
    }


@pytest.mark.parametrize(
    ("after", "severity"),
    [(Mode.FALLBACK, "critical"), (Mode.EVENTUAL, "warning"), (Mode.STRONG, "info")],
)
def test_severity_goes_by_where_it_ends(after: Mode, severity: str) -> None:
    assert notice(after).severity == severity


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/T0/hunter2", "https://hooks.example.com/..."),
        ("http://u:hunter2@127.0.0.1:8080/?token=hunter2#hunter2", "http://127.0.0.1:8080/..."),
        ("http://[::1]:8080", "http://[::1]:8080/..."),
    ],
)
def test_only_the_host_of_a_url_is_shown(url: str, shown: str) -> None:
    assert masked_url(check_webhook(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        *["", "hunter2", "hooks.example.com/hunter2", "ftp://h/hunter2", "https://", "https:///x"],
        *["http://:80/", "http://h:99999/", "http://h:0/", "http://h:x/", "http://[::1/"],
        *["http://h/hunter 2", "http://h/\nhunter2", "http://h/\x00", None, 5, b"http://h"],
    ],
)
def test_what_is_no_url_is_refused_and_not_repeated(url: Any) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check_webhook(url)
    assert caught.value.field == "webhook"
    assert "hunter" not in str(caught.value)
    assert "https://" in caught.value.fix
