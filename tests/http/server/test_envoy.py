"""The example for Envoy, with Envoy itself, and the configuration on its page."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc.aio
import pytest

from crdtbucket import Limiter, Mode
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.http.server import quota_messages, quota_server
from crdtbucket.http.server.descriptor_limits import Descriptor, DescriptorLimits
from crdtbucket.http.server.quota_subscription import QuotaUsage
from crdtbucket.http.server.serve_settings import ServeSettings
from tests.cli.test_serve import started
from tests.http.server.test_envoy_service import QUESTION, asked, raw_of
from tests.http.server.test_proxies import EXAMPLES, START_S, application, found, proxy_process
from tests.http.serving import Asker, serving
from tests.strong.redis_server import Server, free_port
from tests.waits import eventually

PAGE = (EXAMPLES.parents[1] / "docs/proxies.md").read_text()
RULES = """
services: {api: {limit: 40/day}}
envoy: {descriptors: [{domain: edge, entries: [route=api, user], bucket: api}]}
"""
PATIENT = """
rating:
  consistency: strong
  bucket_backend: {deadline: 10s}
  modes: {latency_limit: 9s, outage_after: 60s}
"""
"""Redis decides, however busy the machine is."""
CONNECTIONS = 40
FALLBACK = {"tokens_per_fill: 1, fill_interval: 36s": "tokens_per_fill: 10, fill_interval: 1s"}
"""What Envoy admits while the node is gone, in less time than in the example."""
SENT = {"X-Forwarded-For": "198.51.100.7"}


def limits() -> str:
    """The configuration of the page, with less to spend."""
    text = (EXAMPLES / "envoy-limits.yaml").read_text()
    return text.replace("100/hour", "5/day").replace("100000/hour", "100/day")


PATIENT_ENVOY = {
    # However busy the machine is, no request may pass without a decision.
    "timeout: 0.1s": f"timeout: {START_S}s",
    "failure_mode_deny: false": "failure_mode_deny: true",
}


@asynccontextmanager
async def envoy(
    folder: Path, app: int, service: str, example: str, changes: Mapping[str, str]
) -> AsyncIterator[str]:
    """Envoy with an example's configuration, other ports and these changes; its address."""
    program = found("envoy")
    if program is None:
        pytest.skip("there is no envoy")
    port = free_port()
    text = (EXAMPLES / example).read_text()
    ports = {"8080": str(port), "8081": str(app), "7981": service}
    for old, new in {**ports, **changes}.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "envoy.yaml").write_text(text)
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    command = [program, "-c", str(folder / "envoy.yaml"), *options]
    async with proxy_process(command, folder, port) as url:
        yield url


async def test_envoy_passes_on_what_the_limit_admits(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(limits())
    limiter = Limiter.from_file(file)
    async with serving(limiter, grpc="127.0.0.1:0") as client, application() as (app, came):
        service = client.server.addresses[-1].rpartition(":")[2]
        async with (
            envoy(tmp_path, app, service, "envoy.yaml", PATIENT_ENVOY) as url,
            aiohttp.ClientSession() as session,
        ):
            limiter.reset_all()
            came.clear()
            statuses = []
            for _ in range(7):
                async with session.get(url + "/a?b=c", headers=SENT) as answer:
                    statuses.append(answer.status)
                    fields, text = answer.headers, await answer.text()
            assert statuses == [200] * 5 + [429] * 2
            assert came == ["/a"] * 5
            assert int(fields["Retry-After"]) > 0
            assert fields["RateLimit"].startswith('"api";r=0;t=')
            assert fields["Content-Type"] == "application/problem+json"
            assert "quota-exceeded" in text
            assert limiter.keys("api") == ["127.0.0.1"]  # not what the client wrote
            await charged_afterwards(client, int(url.rpartition(":")[2]))


@pytest.mark.slow
async def test_envoy_admits_what_it_is_assigned_and_its_fallback_without_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_messages, "ASSIGNED_S", 3)
    monkeypatch.setattr(quota_server, "EXTEND_NS", NS_PER_SECOND)
    file = tmp_path / "limits.yaml"
    file.write_text(
        (EXAMPLES / "envoy-limits.yaml").read_text().replace("100/hour", "1 per 1d burst 200")
    )
    limiter = Limiter.from_file(file)
    async with serving(limiter, grpc="127.0.0.1:0") as client, application() as (app, came):
        service = client.server.addresses[-1].rpartition(":")[2]
        async with (
            envoy(tmp_path, app, service, "envoy-quota.yaml", FALLBACK) as url,
            aiohttp.ClientSession() as session,
        ):

            async def status() -> int:
                async with session.get(url, headers=SENT) as answer:
                    return answer.status

            # What passes before the first assignment depends on the machine, and is charged.
            while await status() == 200:
                pass
            quotas, passed = client.server.api.quotas, len(came)
            (stream,) = quotas.streams
            (one,) = stream.ids.values()
            await eventually(lambda: quotas.requests["api", "OK"] == passed)  # Envoy's next report
            assert quotas.requests["api", "OVER_LIMIT"] == 1
            key = one.bucket_id[0][1].decode()
            assert key == "127.0.0.1"  # not what the client wrote
            # Nothing refills, so each token was used, is assigned, or is left; or they are debt.
            left = limiter.bucket("api").peek(key).remaining
            assert left == max(0, 200 - passed - one.unreported)
            await client.server.stop()
            came.clear()
            begun = time.monotonic()

            async def fallen_back() -> None:
                while len(came) < one.size + 5:
                    await status()

            await asyncio.wait_for(fallen_back(), START_S)
            taken = time.monotonic() - begun
            assert len(came) <= one.size + 10 + 10 * taken + 1


async def said(port: int, user: bytes, cost: int) -> str:
    """The head of the answer to a user whose name may be any bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-user: " + user)
    writer.write(b"\r\nx-cost: %d\r\n\r\n" % cost)
    head = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
    writer.close()
    return head


async def charged_afterwards(client: Asker, port: int) -> None:
    """What an answer costs is known with it, and charged even if it is more than is left. A name
    that is no UTF-8 is a key like any other, and no way around the limit."""
    chat = client.limiter.bucket("chat")
    for left, then in ((100, lambda level: level.remaining == 40), (40, lambda level: not level)):
        head = await said(port, b"u\xff", 60)
        assert head.startswith("HTTP/1.1 200 ")
        assert f'ratelimit: "chat";r={left};' in head
        await eventually(lambda then=then: then(chat.peek("u\\xff")))  # type: ignore[misc]
    head = await said(port, b"u\xff", 60)
    assert head.startswith("HTTP/1.1 429 ")
    wait = re.search(r"retry-after: (\d+)", head)
    assert wait is not None
    assert int(wait[1]) > 20 * 864  # 20 below empty


@pytest.mark.slow
async def test_all_workers_answer_at_one_port_and_have_one_limit(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = f"node: eu-1\nshared: {tmp_path / 'table'}\n" + RULES
    options = ("--workers", "2", "--grpc", address)
    async with started(tmp_path, *options, config=config) as server:
        await server.line(" on http://")  # the second one serves as well
        left = []
        for _ in range(CONNECTIONS):
            # Each has a connection of its own, so that the system chooses its worker.
            own = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(address, options=own) as channel:
                told = await asked(channel, raw_of(QUESTION))
            left.append(told["statuses"][0]["limitRemaining"])
        assert left == [*range(CONNECTIONS - 1, -1, -1)]
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as all_:
            line = 'crdtbucket_envoy_descriptors_total{bucket="api",code="OK"}'
            assert f"{line} {CONNECTIONS}.0\n" in await all_.text()
        server.process.terminate()
        assert await server.ended() == 0


async def test_a_strong_bucket_is_decided_by_redis(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(f"{RULES}{PATIENT}\n")
    with Server() as redis:
        nodes = [Limiter.from_file(file, node=node, redis=redis.url) for node in ("a", "b")]
        async with nodes[0], nodes[1]:
            services = [DescriptorLimits(one, ServeSettings(), lambda *_: None) for one in nodes]
            pair = [Descriptor((("route", "api"), ("user", "u")), cost) for cost in (2, 1)]
            answers = [await services[number % 2].decide("edge", pair) for number in range(14)]
    decisions = [one.statuses[0].decision for one in answers]
    assert {one.mode for one in decisions if one is not None} == {Mode.STRONG}
    # In eventual mode these two, which know nothing of each other, would admit twice as much.
    assert [one.code for one in answers] == ["OK"] * 13 + ["OVER_LIMIT"]


async def test_tokens_of_a_strong_bucket_are_assigned_by_redis(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(f"{RULES}{PATIENT}\n")
    usage = QuotaUsage(((b"route", b"api"), (b"user", b"u")), 3)
    with Server() as redis:
        nodes = [Limiter.from_file(file, node=node, redis=redis.url) for node in ("a", "b")]
        async with nodes[0], nodes[1]:
            left = 40
            for node in nodes:
                limits = DescriptorLimits(node, ServeSettings(), lambda *_: None)
                quotas = quota_server.QuotaServer(node, limits, lambda *_: None)
                stream = quotas.open()
                quotas.report(stream, "edge", [usage])
                quotas.tick()
                await asyncio.wait(quotas.schedule.assigning)
                (action,) = stream.sent()
                assert action.tokens
                left -= action.tokens + 3
            api = nodes[0].bucket("api")
            assert not (await api.acquire("u", left + 1)).allowed
            assert (await api.acquire("u", left)).allowed


def test_the_page_has_the_examples() -> None:
    rules = (EXAMPLES / "envoy-limits.yaml").read_text()
    assert f"\n{rules}```\n" in PAGE, "docs/proxies.md has another envoy-limits.yaml"
    for name in ("envoy.yaml", "envoy-quota.yaml"):
        assert f"(../examples/proxies/{name})" in PAGE
