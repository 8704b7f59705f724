"""Envoy's rate limit service over gRPC, and the same in JSON."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import MessageToDict

from crdtbucket import Limiter
from crdtbucket.errors import CrdtbucketError, InvalidSpec
from crdtbucket.http.server import envoy_service
from crdtbucket.http.server.descriptor_limits import OK, UNITS, RateLimitAnswer
from crdtbucket.http.server.envoy_messages import CLASSES, METHOD, SERVICE
from crdtbucket.http.server.listening import CannotListen
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.serving import SidecarServer
from crdtbucket.http.server.workers import run_workers
from tests.certificates import Authority
from tests.http.serving import HEADERS, TOKEN, Asker, serving
from tests.waits import eventually

FILE = """
services: {api: {limit: 100/hour burst 5}}
envoy: {descriptors: [{domain: edge, entries: [route=api, user], bucket: api}]}
"""
QUESTION: dict[str, Any] = {
    "domain": "edge",
    "descriptors": [{"entries": [{"key": "route", "value": "api"}, {"key": "user", "value": "u"}]}],
}
DESCRIPTOR = QUESTION["descriptors"][0]
CODES = (None, "OK", "OVER_LIMIT")


def encoded(question: Any) -> Any:
    """With bytes in the place of texts, as the messages have them."""
    if isinstance(question, dict):
        return {name: encoded(value) for name, value in question.items()}
    if isinstance(question, list):
        return [encoded(one) for one in question]
    return question.encode() if isinstance(question, str) else question


def raw_of(question: dict[str, Any]) -> bytes:
    raw: bytes = CLASSES["RateLimitRequest"](**encoded(question)).SerializeToString()
    return raw


async def asked(channel: grpc.aio.Channel, raw: bytes, token: str | None = None) -> dict[str, Any]:
    """The answer, as the protocol's JSON form has it."""
    call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    answer = CLASSES["RateLimitResponse"].FromString(await call(raw, metadata=metadata))
    told = MessageToDict(answer, always_print_fields_with_no_presence=True)
    told["overallCode"] = CODES[told["overallCode"]]
    for status in told["statuses"]:
        status["code"] = CODES[status["code"]]
        if "currentLimit" in status:
            limit, reset = status["currentLimit"], status["durationUntilReset"]
            limit["unit"] = UNITS[limit["unit"] - 1][0]
            status["durationUntilReset"] = int(reset["seconds"])
    return told


async def status_of(channel: grpc.aio.Channel, raw: bytes, **options: Any) -> tuple[str, str]:
    """The code and the text of an error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked(channel, raw, **options)
    return caught.value.code().name, str(caught.value.details())


@asynccontextmanager
async def served(
    folder: Path, credentials: grpc.ChannelCredentials | None = None, **settings: Any
) -> AsyncIterator[tuple[Asker, grpc.aio.Channel]]:
    """A server with a file, and a channel to it."""
    file = folder / "crdtbucket.yaml"
    file.write_text(FILE)
    settings.setdefault("grpc", "127.0.0.1:0")
    async with serving(Limiter.from_file(file), **settings) as client:
        address = client.server.addresses[-1]
        address = address.removeprefix("grpc://").removeprefix("grpc+")
        if credentials is None:
            opened = grpc.aio.insecure_channel(address)
        else:
            opened = grpc.aio.secure_channel(address, credentials)
        async with opened as channel:
            yield client, channel


async def test_requests_pass_until_their_tokens_are_gone(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, channel):
        for left in range(4, -1, -1):
            told = await asked(channel, raw_of(QUESTION))
            assert (told["overallCode"], told["rawBody"]) == ("OK", "")
            assert told["statuses"][0]["limitRemaining"] == left
        told = await asked(channel, raw_of(QUESTION))
        assert told["overallCode"] == "OVER_LIMIT"
        fields = {one["key"]: one["value"] for one in told["responseHeadersToAdd"]}
        assert fields["RateLimit-Policy"] == '"api";q=5;w=180'
        assert 30 <= int(fields["Retry-After"]) <= 36  # less what all this took
        assert fields["Content-Type"] == "application/problem+json"
        assert told["rawBody"]
        async with client.session.get(client.url + "/metrics") as metrics:
            text = await metrics.text()
        assert 'crdtbucket_envoy_descriptors_total{bucket="api",code="OK"} 5.0' in text


async def test_connections_beyond_the_most_are_refused_and_an_ended_one_makes_room(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, max_connections=2) as (client, first), AsyncExitStack() as stack:
        address = client.server.addresses[-1].removeprefix("grpc://")
        alone = [("grpc.use_local_subchannel_pool", 1)]  # else channels share a connection

        def another() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(address, options=alone)

        await asked(first, raw_of(QUESTION))
        second = another()
        await asked(second, raw_of(QUESTION))
        third = await stack.enter_async_context(another())
        assert (await status_of(third, raw_of(QUESTION)))[0] == "UNAVAILABLE"
        await second.close()
        await third.channel_ready()  # it tries again by itself
        assert (await asked(third, raw_of(QUESTION)))["overallCode"] == "OK"


async def test_no_call_is_cancelled_when_the_server_ends_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC has received most of them, and has not handed them over."""
    monkeypatch.setattr(envoy_service, "QUIET_S", 0.5)
    monkeypatch.setattr(envoy_service, "GATHER_S", 20.0)
    answered, failed = [0] * 40, []

    async def ask(caller: int) -> None:
        while True:
            try:
                await asked(channel, raw_of(QUESTION))
            except grpc.aio.AioRpcError as error:
                failed.append((error.code(), str(error.details())))
                return
            answered[caller] += 1

    async with served(tmp_path) as (client, channel):
        callers = [asyncio.create_task(ask(caller)) for caller in range(40)]
        await eventually(lambda: min(answered) >= 3)
        await client.server.stop()
        await asyncio.gather(*callers)
    assert [(code, "failed to connect" in text) for code, text in failed] == [
        (grpc.StatusCode.UNAVAILABLE, True)
    ] * 40, failed


async def test_no_answer_is_held_after_an_end_that_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy_service, "QUIET_S", 60.0)
    async with served(tmp_path) as (client, channel):
        await asked(channel, raw_of(QUESTION))
        service = client.server._envoy
        assert service is not None
        ending = asyncio.create_task(service.stop(1.0))
        await eventually(lambda: service._holding)
        asking = asyncio.create_task(asked(channel, raw_of(QUESTION)))
        await eventually(lambda: service._begun == 2)
        assert not asking.done()
        ending.cancel()
        assert (await asking)["overallCode"] == "OK"


async def test_what_it_reads_is_what_the_protocol_says(tmp_path: Path) -> None:
    # By hand: domain edge; hits_addend 2; a descriptor whose own hits_addend is 3 and whose user is
    # no UTF-8; one of a cost of 0; and an override of the limit, which is not read.
    def descriptor(user: bytes, rest: bytes) -> bytes:
        route = b"\x0a\x0c\x0a\x05route\x12\x03api"
        name = b"\x0a\x04user\x12" + bytes([len(user)]) + user
        body = route + b"\x0a" + bytes([len(name)]) + name + rest
        return b"\x12" + bytes([len(body)]) + body

    raw = b"\x0a\x04edge\x18\x02"
    raw += descriptor(b"\xff", b"\x1a\x02\x08\x03") + descriptor(b"b", b"\x1a\x00")
    raw += descriptor(b"c", b"\x12\x04\x08\x01\x10\x01")
    async with served(tmp_path) as (_, channel):
        told = await asked(channel, raw)
        assert [one["limitRemaining"] for one in told["statuses"]] == [2, 5, 3]


@pytest.mark.parametrize(
    ("own", "status"), [({}, 200), ({"hitsAddend": 0}, 200), ({"hits_addend": "6"}, 429)]
)
async def test_json_says_the_same(tmp_path: Path, own: dict[str, Any], status: int) -> None:
    async with served(tmp_path) as (client, channel):
        question = {"domain": "edge", "hitsAddend": 2, "descriptors": [{**DESCRIPTOR, **own}]}
        async with client.session.post(client.url + "/json", json=question) as answer:
            assert (answer.status, answer.content_type) == (status, "application/json")
            told = await answer.json()
            headers = answer.headers
        descriptor = {"entries": [DESCRIPTOR["entries"][0], {"key": "user", "value": "other"}]}
        if own:
            descriptor["hits_addend"] = {"value": int(*own.values())}
        one = {"domain": "edge", "hits_addend": 2, "descriptors": [descriptor]}
        second = await asked(channel, raw_of(one))
        assert second.pop("rawBody") == ""  # 6 could never be had: there is no denial to explain
        for reset in told["statuses"]:
            seconds = float(reset["durationUntilReset"].removesuffix("s"))
            reset["durationUntilReset"] = int(seconds)
        assert told == second
        for field in told["responseHeadersToAdd"]:
            assert headers[field["key"]] == field["value"]


async def test_errors_say_what_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as (client, channel):
        assert await status_of(channel, b"\xff") == (
            "INVALID_ARGUMENT", "this is no RateLimitRequest")  # fmt: skip
        assert await status_of(channel, b"") == ("INVALID_ARGUMENT", "domain: is empty")
        negative = {**DESCRIPTOR, "is_negative_hits": True}
        code, told = await status_of(channel, raw_of({**QUESTION, "descriptors": [negative]}))
        assert code == "INVALID_ARGUMENT"
        assert told.startswith("descriptors.0.is_negative_hits: ")
        status, problem = await client.refused("/json", domain="edge", descriptors=[])
        assert (status, problem["errors"][0]["field"]) == (400, "descriptors")
        with monkeypatch.context() as patch:
            patch.setattr(client.server.api.descriptors, "decide", lambda *_: 1 // 0)
            assert await status_of(channel, raw_of(QUESTION)) == (
                "INTERNAL", "a bug of the server: its log has it")  # fmt: skip
        assert "ZeroDivisionError" in caplog.text
        await client.limiter.aclose()
        assert (await status_of(channel, raw_of(QUESTION)))[0] == "UNAVAILABLE"


async def test_it_asks_for_the_token(tmp_path: Path) -> None:
    async with served(tmp_path, token=TOKEN) as (client, channel):
        raw = raw_of(QUESTION)
        for wrong in (None, "another"):
            assert await status_of(channel, raw, token=wrong) == (
                "UNAUTHENTICATED", "send the token: Authorization: Bearer ...")  # fmt: skip
        assert (await asked(channel, raw, TOKEN))["overallCode"] == "OK"
        assert (await client.refused("/json", **QUESTION))[0] == 401
        status, *_ = await client.ask("POST", "/json", json=QUESTION, headers=HEADERS)
        assert status == 200


def trusting(authority: Authority) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(Path(authority.file).read_bytes())


async def test_a_changed_certificate_comes_into_use(tmp_path: Path) -> None:
    first, second = (Authority(tmp_path, name) for name in ("first", "second"))
    files = first.issue("127.0.0.1")
    async with served(tmp_path, trusting(first), **files) as (client, channel):
        assert client.server.addresses[-1].startswith("grpc://")
        assert (await asked(channel, raw_of(QUESTION)))["overallCode"] == "OK"
        other = second.issue("other")
        for name, file in files.items():
            os.replace(other[name], file)
        address = client.server.addresses[-1].removeprefix("grpc://")
        for _ in range(2):
            async with grpc.aio.secure_channel(address, trusting(second)) as again:
                assert (await asked(again, raw_of(QUESTION)))["overallCode"] == "OK"
            os.truncate(files["tls_key"], 0)  # half a pair: what is in use stays


async def test_a_unix_socket_is_for_owner_and_group_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "envoy.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    async with served(tmp_path, grpc=f"unix:{path}") as (client, channel):
        assert client.server.addresses[-1] == f"grpc+unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (await asked(channel, raw_of(QUESTION)))["overallCode"] == "OK"
    assert not path.exists()


async def refuses(port: int) -> None:
    """Waits until nobody listens on the port any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)


async def test_what_is_under_way_is_answered_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def decide(*_: object) -> RateLimitAnswer:
        begun.set()
        await go_on.wait()
        return RateLimitAnswer(OK, (), {}, b"")

    async with served(tmp_path) as (client, channel):
        monkeypatch.setattr(client.server.api.descriptors, "decide", decide)
        call = asyncio.ensure_future(asked(channel, raw_of(QUESTION)))
        await begun.wait()
        ending = asyncio.ensure_future(client.server.stop())
        port = int(client.server.addresses[-1].rpartition(":")[2])
        await refuses(port)
        assert not call.done()
        assert not ending.done()
        go_on.set()
        assert (await call)["overallCode"] == "OK"
        await ending


async def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = SidecarServer(Limiter([]), ServeSettings(("127.0.0.1:0",), grpc=address))
        with pytest.raises(CannotListen, match=f"cannot listen on '{address}': .* with --grpc$"):
            server.bind()
        with pytest.raises(CannotListen, match=r"Address already .* with --grpc$"):
            run_workers(2, lambda: Limiter([]), ServeSettings(grpc=address))
    for address in ("127.0.0.1:0", f"unix:{tmp_path}/x"):
        with pytest.raises(CannotListen, match="each worker listens for itself, so name a port"):
            run_workers(2, lambda: Limiter([]), ServeSettings(grpc=address))


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "crdtbucket.http.server.envoy_service", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    server = SidecarServer(Limiter([]), ServeSettings(("127.0.0.1:0",), grpc="127.0.0.1:0"))
    with pytest.raises(CrdtbucketError, match=r"pip install 'crdtbucket\[envoy\]'"):
        server.bind()


def test_an_address_that_other_hosts_reach_asks_for_token_and_tls() -> None:
    with pytest.raises(InvalidSpec, match=r"'0\.0\.0\.0:7981'"):
        ServeSettings(grpc="0.0.0.0:7981")
    ServeSettings(grpc="0.0.0.0:7981", insecure=True)
