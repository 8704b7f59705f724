"""Finds each fault of a Redis, at real servers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crdtbucket.doctor.diagnosis import Diagnosis
from crdtbucket.doctor.redis_examination import examine_redis
from crdtbucket.doctor.redis_questions import clock_answer, latency_answer
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis.redis_config import RedisConfig
from tests.certificates import Authority
from tests.strong.redis_server import Server, free_port
from tests.waits import eventually

PATIENT = ControllerSettings(latency_limit=20.0, outage_after=30.0)
"""Settings by which a busy machine is not taken for a slow Redis."""


async def examined(
    modes: ControllerSettings = PATIENT, seconds: float = 20.0, **fields: Any
) -> dict[str, Diagnosis]:
    """What was found, by the last word of the subject."""
    fields.setdefault("deadline", 10.0)
    found = await examine_redis(RedisConfig(**fields), modes, seconds)
    return {one.subject.rpartition(" ")[2]: one for one in found}


async def fault(**fields: Any) -> Diagnosis:
    """The one thing that is wrong."""
    (found,) = [one for one in (await examined(**fields)).values() if one.level == "wrong"]
    return found


async def test_a_redis_that_is_in_order() -> None:
    with Server("maxmemory 64mb") as server:
        found = await examined(url=server.url)
        assert [*found] == [
            "name", "port", "password", "version", "role", "replication", "memory", "rights",
            "script", "clock", "latency",
        ]  # fmt: skip
        assert {one.level for name, one in found.items() if name != "replication"} == {"ok"}
        assert found["replication"].level == "note"
        assert re.fullmatch(r"p50 .* ms, p99 .* ms, within .* ms", found["latency"].text)
        (left,) = server.call("KEYS", "*")
        assert 0 < server.call("PTTL", left) <= 120_000


async def test_a_unix_socket_has_no_name_to_resolve() -> None:
    with Server() as server:
        found = await examined(url=server.unix_url)
        assert "name" not in found
        assert found["script"].level == "ok"


async def test_a_name_that_does_not_resolve() -> None:
    found = await fault(host="nobody.invalid")
    assert found.subject == "redis nobody.invalid:6379 name"
    assert "correct host" in found.text


async def test_a_port_where_nobody_listens() -> None:
    found = await fault(host="127.0.0.1", port=free_port())
    assert found.subject.endswith(" port")
    assert "start it, or correct host and port" in found.text


async def test_a_server_that_says_nothing() -> None:
    with Server() as server:
        server.freeze()
        found = await fault(url=server.url, seconds=0.3)
        assert found.subject.endswith(" password")
        assert "did not answer within 0.3 s" in found.text


@pytest.mark.parametrize("asked", [True, False])
async def test_the_certificate_of_a_server_is_examined(tmp_path: Path, asked: bool) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    files = authority.issue("server")
    port = free_port()
    options = (
        f"tls-port {port}", f"tls-cert-file {files['tls_cert']}",
        f"tls-key-file {files['tls_key']}", f"tls-ca-cert-file {authority.file}",
        "tls-auth-clients no",
    )  # fmt: skip
    with Server(*options):
        where = {"host": "127.0.0.1", "port": port}
        if asked:
            found = await examined(**where, tls=True, tls_ca=authority.file)
            assert found["TLS"].level == "ok"
            assert "certificate until" in found["TLS"].text
            wrong = await fault(**where, tls=True, tls_ca=other.file)
            assert wrong.subject.endswith(" TLS")
            assert "certificate verify failed" in wrong.text
            assert "in a file as ca of its tls" in wrong.text
            wrong = await fault(**where, tls=True, tls_ca=str(tmp_path / "none.pem"))
            assert "redis.tls_ca: " in wrong.text
            assert "none.pem' cannot be loaded" in wrong.text
        else:
            assert "does its port want TLS" in (await fault(**where)).text


@pytest.mark.parametrize(
    ("rules", "fields", "subject", "text"),
    [
        (("requirepass right",), {}, "password", "asks for a password"),
        (("requirepass right",), {"password": "wrong"}, "password", "WRONGPASS: check password"),
        (("maxmemory 64mb", "maxmemory-policy allkeys-lru"), {}, "memory", "noeviction"),
        (("user default on nopass ~other:* +@all",), {}, "rights", "the keys of a limiter: allow"),
    ],
)
async def test_settings_of_the_server(
    rules: tuple[str, ...], fields: dict[str, Any], subject: str, text: str
) -> None:
    with Server(*rules) as server:
        found = await examined(host=server.host, port=server.port, **fields)
        assert found[subject].level == "wrong"
        assert text in found[subject].text
        assert "right" not in found[subject].text


async def test_the_certificate_for_redis_should_have_been_renewed(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    for hours, late in (((-100, 20), True), ((-100, 30), False)):
        files = authority.issue("node", hours=hours)
        found = await examined(url="rediss://127.0.0.1:9", tls_ca=authority.file, **files)
        assert ("certificate" in found) is late
        if late:
            assert found["certificate"].level == "wrong"
            said = f"redis.tls_cert '{files['tls_cert']}' expires in 19 hours: put a new"
            assert said in found["certificate"].text


async def test_every_command_that_is_not_allowed_is_named() -> None:
    with Server("user default on nopass ~* +@all -hset -hdel -evalsha -script|load") as server:
        found = await examined(url=server.url)
        assert found["rights"].text == (
            "SCRIPT LOAD, EVALSHA, HSET, HDEL may not be run: allow them "
            "(ACL SETUSER ... +script|load +evalsha +hset +hdel)"
        )


async def test_a_policy_of_eviction_without_a_bound_is_no_fault() -> None:
    with Server("maxmemory-policy allkeys-lru") as server:
        found = (await examined(url=server.url))["memory"]
    assert found.level == "ok"
    text = "allkeys-lru, which without maxmemory means nothing: it forgets no keys"
    assert found.text == text


async def test_facts_that_this_user_may_not_see() -> None:
    with Server("user default on nopass ~* +@all -info") as server:
        found = await examined(url=server.url)
        assert (found["facts"].level, found["script"].level) == ("note", "ok")


async def test_a_replica_is_no_primary_and_a_primary_tells_of_it() -> None:
    with Server() as primary, Server(f"replicaof 127.0.0.1 {primary.port}") as replica:
        await eventually(lambda: b"state=online" in primary.call("INFO", "replication"))
        found = await examined(url=primary.url)
        assert found["replication"].text == "it has 1 replica"
        found = await examined(url=replica.url)
        assert found["role"].text.startswith(f"it is a replica of 127.0.0.1:{primary.port}")
        assert found["script"].level == "wrong"


async def test_nobody_names_the_primary() -> None:
    port = free_port()
    found = await examine_redis(
        RedisConfig(sentinels=[f"127.0.0.1:{port}"], sentinel_master="main"), PATIENT, 5.0
    )
    assert [(one.subject, one.level) for one in found] == [
        (f"sentinel 127.0.0.1:{port} name", "ok"),
        (f"sentinel 127.0.0.1:{port} port", "wrong"),
        ("redis", "wrong"),
    ]
    assert "no sentinel names a primary 'main'" in found[-1].text


async def test_a_slow_network_is_measured() -> None:
    slow = ControllerSettings(latency_limit=0.001)
    with Server() as server:
        async with delayed(server.port, 0.003) as port:
            found = await examined(slow, host="127.0.0.1", port=port)
            assert found["latency"].level == "wrong"
            assert "modes.latency_limit is 1 ms" in found["latency"].text
            found = await examined(host="127.0.0.1", port=port, deadline=0.001)
            assert "bucket_backend.deadline is 1 ms" in found["latency"].text


def test_latencies_and_what_they_are_compared_with() -> None:
    samples = [1_000_000] * 98 + [30_000_000] * 2
    assert latency_answer(samples, 0.04, 0.05)[1:] == (
        "ok", "p50 1.0 ms, p99 30.0 ms, within 40 ms",
    )  # fmt: skip
    assert latency_answer(samples, 0.02, 0.05)[1] == "wrong"
    assert latency_answer(samples, 0.04, 0.02)[1] == "wrong"
    assert latency_answer(samples[:99], 0.02, 0.05)[1] == "wrong"
    assert latency_answer(samples[:98] * 2, 0.001, 0.05)[1] == "ok"


@pytest.mark.parametrize(
    ("theirs", "text"),
    [
        (99.0, ""),
        (102.0, ""),
        (98.5, "it is 1.5 s behind this host's"),
        (103.0, "it is 2.0 s ahead of this host's"),
    ],
)
def test_a_clock_counts_as_wrong_beyond_what_the_network_explains(theirs: float, text: str) -> None:
    _, level, told = clock_answer(theirs, 100.0, 101.0)
    assert level == ("wrong" if text else "ok")
    assert told.startswith(text)


@asynccontextmanager
async def delayed(port: int, seconds: float) -> AsyncIterator[int]:
    """A port whose answers come so much later than those of another."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait: float) -> None:
        while data := await reader.read(65_536):
            await asyncio.sleep(wait)
            writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, back))
        tasks.add(asyncio.create_task(copy(reader, back, 0)))
        tasks.add(asyncio.create_task(copy(there, writer, seconds)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(one.wait_closed() for one in writers), return_exceptions=True)
