"""Webhooks: what arrives at a real server, and that a bad one costs the limiter nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.webhook import MAX_QUEUED, PAUSES_S, Webhook
from tests.strong.controller.test_notice import notice
from tests.waits import eventually


class Receiver:
    """A server that keeps what was posted, and answers what the test says."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.statuses: list[int] = []
        """Answers in order; 200 when there are none left."""
        self.hang = asyncio.Event()
        self.hang.set()
        self.url = ""
        self.answer: Callable[[Any], int] = lambda _: 200

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        await self.hang.wait()
        status = self.statuses.pop(0) if self.statuses else self.answer(self.bodies[-1])
        return web.Response(status=status, headers={"Location": "/elsewhere"})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    receiver.url = f"http://user:hunter2@{host}:{port}/hook?token=hunter2"
    yield receiver
    receiver.hang.set()
    await runner.cleanup()


class Pauses:
    """Sleeps that take no time, and are noted."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)


async def test_a_notice_arrives_as_json_and_in_order(receiver: Receiver) -> None:
    webhook = Webhook(receiver.url)
    for number in range(3):
        webhook.post(notice(reason=str(number)))
    await eventually(lambda: webhook.sent == 3)
    assert receiver.bodies == [notice(reason=str(number)).as_json() for number in range(3)]
    assert (webhook.failed, webhook.dropped) == (0, 0)
    await webhook.aclose()


def slack(body: Any) -> int:
    """Answers as Slack documents it: a text is needed, and unknown fields are refused."""
    return 200 if list(body) == ["text"] and 0 < len(body["text"]) <= 40_000 else 400


def pagerduty(body: Any) -> int:
    """Answers as PagerDuty documents it: which fields are required, and how long they may be."""
    payload = body["payload"]
    fits = (
        len(body["routing_key"]) == 32
        and body["event_action"] in ("trigger", "acknowledge", "resolve")
        and 0 < len(body["dedup_key"]) <= 255
        and 0 < len(payload["summary"]) <= 1024
        and len(payload["source"]) > 0
        and payload["severity"] in ("critical", "error", "warning", "info")
        and datetime.fromisoformat(payload["timestamp"].replace("Z", "+00:00"))
    )
    return 202 if fits else 400


@pytest.mark.parametrize(
    ("prefix", "key", "answer"),
    [("slack+", "user:hunter2", slack), ("pagerduty+", "hunter20" * 4, pagerduty)],
)
async def test_services_take_every_notice(
    receiver: Receiver, prefix: str, key: str, answer: Callable[[Any], int]
) -> None:
    receiver.answer = answer
    webhook = Webhook(prefix + receiver.url.replace("user:hunter2", key))
    for after in Mode:
        webhook.post(notice(after, region="", reason="x" * 2_000))
    await eventually(lambda: webhook.sent + webhook.failed == len(Mode))
    assert webhook.failed == 0
    await webhook.aclose()


async def test_a_server_in_trouble_is_tried_again_with_growing_pauses(receiver: Receiver) -> None:
    receiver.statuses = [500, 429]
    pauses = Pauses()
    webhook = Webhook(receiver.url, pause=pauses)
    webhook.post(notice())
    await eventually(lambda: webhook.sent == 1)
    assert pauses.asked == list(PAUSES_S) == sorted(PAUSES_S)
    assert len(receiver.bodies) == 3
    await webhook.aclose()


async def test_after_the_last_try_it_is_logged_without_the_secrets(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500] * 3
    webhook = Webhook(receiver.url, pause=Pauses())
    webhook.post(notice())
    await eventually(lambda: webhook.failed == 1)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("crdtbucket", logging.WARNING)
    assert "127.0.0.1" in record.getMessage()
    assert "strong -> fallback at 10.0.0.1:6379: it answered 500" in record.getMessage()
    assert "hunter2" not in caplog.text
    # The next one is sent all the same.
    webhook.post(notice())
    await eventually(lambda: webhook.sent == 1)
    assert len(receiver.bodies) == 4
    await webhook.aclose()


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404])
async def test_an_answer_that_will_not_change_is_not_asked_for_again(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [status]
    webhook = Webhook(receiver.url, pause=Pauses())
    webhook.post(notice())
    await eventually(lambda: webhook.failed == 1)
    assert len(receiver.bodies) == 1  # and no redirect was followed
    assert f"it answered {status}" in caplog.text
    await webhook.aclose()


async def test_a_server_that_never_answers_costs_the_deadline(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.hang.clear()
    pauses = Pauses()
    webhook = Webhook(receiver.url, deadline=0.05, pause=pauses)
    webhook.post(notice())
    await eventually(lambda: webhook.failed == 1)
    assert len(pauses.asked) == 2  # a busy machine may end a try before it is received
    assert "no answer within 0.05 s" in caplog.text
    await webhook.aclose()


async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/9.9 what\r\n\r\n")
    writer.close()


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("behave", [garbage, hang_up, None], ids=["garbage", "hangs up", "refuses"])
async def test_what_is_no_web_server_is_one_warning(
    behave: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.start_server(behave or hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pauses = Pauses()
    async with server:
        if behave is None:
            server.close()
        webhook = Webhook(f"http://user:hunter2@127.0.0.1:{port}/?token=hunter2", pause=pauses)
        webhook.post(notice())
        await eventually(lambda: webhook.failed == 1)
        await webhook.aclose()
    assert len(pauses.asked) == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "hunter2" not in caplog.text


async def test_the_queue_is_bounded_and_drops_the_oldest(receiver: Receiver) -> None:
    receiver.hang.clear()
    webhook = Webhook(receiver.url)
    webhook.post(notice(reason="first"))
    await eventually(lambda: len(receiver.bodies) == 1)
    for number in range(MAX_QUEUED + 3):
        webhook.post(notice(reason=str(number)))
    assert webhook.dropped == 3
    receiver.hang.set()
    await eventually(lambda: webhook.sent == MAX_QUEUED + 1)
    assert [body["reason"] for body in receiver.bodies[:3]] == ["first", "3", "4"]
    await webhook.aclose()


async def test_closing_ends_at_once_and_says_what_was_not_sent(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.hang.clear()
    webhook = Webhook(receiver.url)
    for _ in range(3):
        webhook.post(notice())
    await eventually(lambda: len(receiver.bodies) == 1)
    before = asyncio.all_tasks()
    await webhook.aclose()
    assert webhook.dropped == 3
    assert "closed before 3 notices reached http://127.0.0.1" in caplog.text
    assert len(asyncio.all_tasks()) < len(before)
    await webhook.aclose()  # again, for nothing
    webhook.post(notice())
    assert webhook.dropped == 4
    assert len(asyncio.all_tasks()) < len(before)


async def test_closing_one_that_was_never_used() -> None:
    await Webhook("http://127.0.0.1:1").aclose()


async def test_a_bug_is_logged_and_does_not_end_it(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhook = Webhook(receiver.url)
    webhook.post(notice(time=1e300))  # no date
    webhook.post(notice())
    await eventually(lambda: webhook.sent == 1)
    assert webhook.failed == 1
    assert "a bug in posting a notice" in caplog.text
    assert "hunter2" not in caplog.text
    await webhook.aclose()


def test_a_wrong_url_is_refused_when_it_is_made() -> None:
    with pytest.raises(InvalidSpec, match="webhook"):
        Webhook("hooks.example.com")
