"""Envoy's rate limit quota service over gRPC, by its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.http.server.envoy_service import MAX_MESSAGE, EnvoyService
from crdtbucket.http.server.quota_messages import (
    MESSAGES,
    QUOTA_CLASSES,
    QUOTA_METHOD,
    QUOTA_SERVICE,
    read_reports,
    write_actions,
)
from crdtbucket.http.server.quota_subscription import AT_ONCE, QuotaAction, QuotaUsage
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.serve_settings import ServeSettings
from tests.http.server.envoys import bucket_id
from tests.http.server.test_envoy_service import FILE, served
from tests.http.serving import TOKEN
from tests.waits import eventually


def field(number: int, body: bytes) -> bytes:
    """A field of bytes or of a message."""
    return bytes([number << 3 | 2, len(body)]) + body


def entries(*pairs: tuple[bytes, bytes]) -> bytes:
    """A BucketId, as the map that it is."""
    return b"".join(field(1, field(1, name) + field(2, value)) for name, value in pairs)


ID = entries((b"user", b"u"), (b"route", b"api"))
USED = field(1, b"edge") + field(2, field(1, ID) + b"\x12\x02\x08\x05\x18\x02\x20\x03")


@asynccontextmanager
async def opened(channel: grpc.aio.Channel, token: str | None = None) -> AsyncIterator[Any]:
    """A stream as an Envoy opens it."""
    call = channel.stream_stream(f"/{QUOTA_SERVICE}/{QUOTA_METHOD}")
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    stream = call(metadata=metadata)
    try:
        yield stream
    finally:
        stream.cancel()


async def code_of(stream: Any, *sent: bytes) -> tuple[str, str]:
    """The status with which the server ends a stream when it gets these messages. It may arrive
    while the last one is still being written."""

    async def talk() -> None:
        for raw in sent:
            await stream.write(raw)
        await stream.read()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk()
    return caught.value.code().name, str(caught.value.details())


def test_reports_are_read_as_the_protocol_has_them() -> None:
    # An elapsed time of five seconds is not read; an id is the same in any order.
    assert list(read_reports(USED)) == [("edge", [QuotaUsage(bucket_id(), 2, 3)])]
    most = b"\x18" + b"\xff" * 9 + b"\x01"
    raw = field(2, field(1, entries((b"user", b"\xff"), (b"user", b"v"))) + most)
    assert list(read_reports(raw)) == [("", [QuotaUsage(((b"user", b"v"),), 2**64 - 1)])]


def sized(number: int, body: bytes) -> bytes:
    """A field of any length."""
    size = len(body)
    low = [size >> place & 127 | 128 for place in (0, 7, 14)]
    return bytes([number << 3 | 2, *low, size >> 21]) + body


def test_many_reports_are_read_some_at_a_time_and_all_the_same() -> None:
    used = [sized(2, field(1, entries((b"user", b"%d" % n))) + b"\x18\x01") for n in range(999)]
    long = sized(2, sized(1, sized(1, sized(1, b"user") + sized(2, b"x" * 2**16))))
    later = b"\x28\x05" + b"\x31" + b"\xff" * 8 + b"\x3d" + b"\xff" * 4 + field(9, b"later")
    raw = field(1, b"edge") + b"".join(used[:500]) + later + long + b"".join(used[500:])
    parts = list(read_reports(raw))
    assert max(len(usages) for _, usages in parts) == AT_ONCE
    assert [domain for domain, _ in parts] == ["edge"] + [""] * (len(parts) - 1)
    usages = [usage for _, some in parts for usage in some]
    whole = QUOTA_CLASSES["RateLimitQuotaUsageReports"].FromString(raw)
    assert len(usages) == len(whole.bucket_quota_usages) == 1_000
    assert sum(usage.allowed for usage in usages) == 999
    assert usages.index(QuotaUsage(((b"user", b"x" * 2**16),))) == 500
    assert len(list(read_reports(field(1, b"edge") + long * 5))) == 5


@given(st.binary(max_size=40))
def test_whatever_comes_is_read_as_the_protocol_has_it_or_refused(raw: bytes) -> None:
    try:
        parts = list(read_reports(raw))
    except Refusal:
        return
    whole = QUOTA_CLASSES["RateLimitQuotaUsageReports"].FromString(raw)
    assert sum(len(usages) for _, usages in parts) == len(whole.bucket_quota_usages)


def test_a_report_that_is_longer_than_all_headers_is_refused() -> None:
    with pytest.raises(Refusal, match="a report of 131073 bytes, of which 131072 are read"):
        list(read_reports(field(1, b"edge") + sized(2, b"x" * (2**17 + 1))))


def test_actions_are_written_as_the_protocol_has_them() -> None:
    raw = entries(*bucket_id())
    lives = field(2, b"\x08\x1e")
    denies = field(2, lives + field(3, b"\x08\x01"))
    year = b"\x08" + b"\x80\xe7\x84\x0f"
    bucket = b"\x08\x07" + field(2, b"\x08\x01") + field(3, year)
    holds = field(2, lives + field(3, field(3, bucket)))
    admits = field(2, lives + field(3, b"\x08\x00"))
    told = {
        (denies, holds): QuotaAction(bucket_id(), 7),
        (holds,): QuotaAction(bucket_id(), 7, extends=True),
        (denies,): QuotaAction(bucket_id(), 0, extends=True),
        (admits,): QuotaAction(bucket_id()),
        (field(3, b""),): QuotaAction(bucket_id(), abandon=True),
    }
    for parts, action in told.items():
        written = b"".join(field(1, field(1, raw) + part) for part in parts)
        assert write_actions([action]) == written
    assert set(QUOTA_CLASSES) == set(MESSAGES)


async def test_an_envoy_is_assigned_tokens_while_its_stream_is_open(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, channel), opened(channel) as stream:
        file, left = tmp_path / "crdtbucket.yaml", client.limiter.bucket("api").peek
        slow = FILE.replace("100/hour", "1 per 1d")  # nothing refills while this runs
        file.write_text(slow)
        client.limiter.reload()
        await stream.write(USED)
        answer = QUOTA_CLASSES["RateLimitQuotaResponse"].FromString(await stream.read())
        tokens = answer.bucket_action[1].quota_assignment_action.rate_limit_strategy.token_bucket
        assert tokens.max_tokens == 1
        assert left("u").remaining == 5 - 2 - 1
        async with client.session.get(client.url + "/metrics") as metrics:
            text = await metrics.text()
        assert 'crdtbucket_envoy_quota_requests_total{bucket="api",code="OVER_LIMIT"} 3.0' in text
        assert "crdtbucket_envoy_quota_buckets 1.0" in text
        # A changed file comes into force in streams that are open.
        file.write_text(slow.replace("route=api", "route=web"))
        client.limiter.reload()
        await stream.write(field(2, field(1, ID) + b"\x18\x02"))
        answer = QUOTA_CLASSES["RateLimitQuotaResponse"].FromString(await stream.read())
        strategy = answer.bucket_action[0].quota_assignment_action.rate_limit_strategy
        assert strategy.HasField("blanket_rule")
        assert strategy.blanket_rule == 0
        stream.cancel()
        quotas = client.server.api.quotas
        await eventually(lambda: not quotas.streams)
        assert quotas.subscriptions == 0
        assert left("u").remaining == 5 - 2 - 1  # nobody knows what became of the assigned one


async def test_streams_end_with_the_server(tmp_path: Path) -> None:
    async with (
        served(tmp_path, drain_deadline=600.0) as (client, channel),
        opened(channel) as stream,
    ):
        await stream.write(USED)
        await stream.read()
        stopping = asyncio.create_task(client.server.stop())
        while await stream.read() is not grpc.aio.EOF:
            pass  # an assignment that was on its way: the end comes after it
        await asyncio.wait_for(stopping, 120)
        assert await stream.code() is grpc.StatusCode.OK


async def test_a_stream_ends_once_what_is_being_written_is_written() -> None:
    """gRPC cannot end it before, and the Envoy would wait for its end until the last moment."""
    began, goes_on, written = asyncio.Event(), asyncio.Event(), []

    async def write(data: bytes) -> None:
        began.set()
        await goes_on.wait()
        written.append(data)

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.get_running_loop().create_future()
        yield b""

    stream: Any = SimpleNamespace(ready=asyncio.Event(), sent=lambda most: [])
    stream.ready.set()
    quotas: Any = SimpleNamespace(open=lambda: stream, close=lambda one: None)
    tokens: Any = SimpleNamespace(check_call=lambda shown: None)
    context: Any = SimpleNamespace(write=write, invocation_metadata=tuple)
    limits: Any = None
    settings = ServeSettings(grpc="127.0.0.1:0")
    service = EnvoyService(limits, quotas, tokens, settings, shared=False)
    answering = asyncio.create_task(service._stream(nothing(), context))
    await began.wait()
    await service.stop(0.0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not answering.done()
    goes_on.set()
    await answering
    assert len(written) == 1


async def test_what_is_wrong_ends_the_stream_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, token=TOKEN) as (client, channel):
        for token in (None, "another"):
            async with opened(channel, token) as stream:
                assert (await code_of(stream))[0] == "UNAUTHENTICATED"
        too_long = b"x" * (MAX_MESSAGE + 1)
        async with opened(channel, TOKEN) as stream:
            code, text = await code_of(stream, too_long)
            assert (code, str(MAX_MESSAGE) in text) == ("RESOURCE_EXHAUSTED", True), text
        for raw, told in {
            b"\xff": "this is no RateLimitQuotaUsageReports",
            b"": "domain: is empty",
        }.items():
            async with opened(channel, TOKEN) as stream:
                assert await code_of(stream, raw) == ("INVALID_ARGUMENT", told)
        async with opened(channel, TOKEN) as stream:
            await stream.write(USED)
            await stream.read()
            assert await code_of(stream, b"\xff") == (
                "INVALID_ARGUMENT", "this is no RateLimitQuotaUsageReports",
            )  # fmt: skip
        client.server.api.quotas.streams.update(range(1_000))  # type: ignore[arg-type]
        async with opened(channel, TOKEN) as stream:
            assert (await code_of(stream))[0] == "RESOURCE_EXHAUSTED"
    assert not [one for one in caplog.records if one.exc_info]
