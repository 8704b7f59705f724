"""Where the keys are: on one server, by sentinels, by a cluster; and which of these is believed."""

from __future__ import annotations

import asyncio
import binascii
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from crdtbucket import RedisConfig, RedisUnavailable
from crdtbucket.base.address import Address
from crdtbucket.strong.redis.access import Access, tls_context
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.topology import ALL_SLOTS, SLOTS, Primary, Topology, parse_moved, slot
from tests.certificates import Authority
from tests.strong.fake_server import Command, ScriptAnswer, fake, friendly, given_up_at_once
from tests.strong.redis_groups import cluster, watched
from tests.strong.redis_server import PROGRAMS, Server, free_port
from tests.waits import eventually


async def locate(config: RedisConfig) -> Topology:
    return await Locator(config, tls_context(config)).locate()


def at(server: Server) -> Address:
    return Address(server.host, server.port)


# -- slots


@given(st.binary(max_size=40) | st.text("{}ab", max_size=8).map(str.encode))
def test_slots_are_those_of_redis(key: bytes) -> None:
    assert slot(key) == key_slot(key)


@pytest.mark.parametrize(
    ("key", "same"),
    [
        (b"crdtbucket:{api:00ff}", b"api:00ff"),
        (b"{a}{b}", b"a"),
        (b"{{a}}", b"{a"),
        (b"x{}{a}", b"x{}{a}"),
        (b"}{", b"}{"),
    ],
)
def test_what_stands_in_the_first_braces_decides(key: bytes, same: bytes) -> None:
    assert slot(key) == key_slot(key) == binascii.crc_hqx(same, 0) % SLOTS


def test_slots_of_a_layout() -> None:
    one, two = Address("h", 1), Address("h", 2)
    layout = Topology((Primary(one, ((0, 0), (5, 9))), Primary(two, ((1, 4),))))
    owners = layout.owners()
    assert owners[:11] == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0, None]
    assert len(owners) == SLOTS


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", (3999, Address("127.0.0.1", 6381))),
        ("ASK 0 redis.example:6381", (0, Address("redis.example", 6381))),
        ("MOVED 1 fd00::5:6381", (1, Address("fd00::5", 6381))),
        ("MOVED 1 :6381", (1, Address("asked", 6381))),
        ("MOVED 1 ?:6381", (1, Address("asked", 6381))),
    ],
)
def test_a_moved_slot_is_read(message: str, expected: tuple[int, Address]) -> None:
    assert parse_moved(RedisErrorReply(message), Address("asked", 1)) == expected


@pytest.mark.parametrize(
    "message",
    ["ERR", "MOVED", "MOVED x h:1", "MOVED 16384 h:1", "MOVED 1 h", "MOVED 1 h:0", "ASK 1",
     f"MOVED 1 {'h' * 256}:1"],
)  # fmt: skip
def test_a_moved_slot_that_says_nothing_is_refused(message: str) -> None:
    with pytest.raises(RedisUnavailable, match="really one"):
        parse_moved(RedisErrorReply(message), Address("asked", 1))


# -- one server


async def test_a_single_server_is_not_asked() -> None:
    assert await locate(RedisConfig(host="nowhere.invalid")) == Topology(
        (Primary(Address("nowhere.invalid"), ALL_SLOTS),)
    )


# -- sentinels, scripted


def bulks(*texts: bytes) -> bytes:
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(t), t) for t in texts)


def says(name: bytes, reply: bytes) -> ScriptAnswer:
    def answer(command: Command) -> bytes:
        return reply if command[0] == name else friendly(command)

    return answer


MASTER = says(b"ROLE", b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")


async def sentinel_says(reply: bytes, primary: ScriptAnswer = MASTER) -> Topology:
    async with fake(primary) as server, fake(friendly) as sentinel:
        port = b"%d" % server.address.port
        sentinel.answer = says(b"SENTINEL", reply.replace(b"PORT", bulks(port)[4:]))
        return await locate(RedisConfig(sentinel_master="main", sentinels=[str(sentinel.address)]))


async def test_the_sentinels_primary_is_asked_for_its_role() -> None:
    layout = await sentinel_says(b"*2\r\n$9\r\n127.0.0.1\r\nPORT")
    assert [primary.ranges for primary in layout.primaries] == [ALL_SLOTS]


@pytest.mark.parametrize(
    ("reply", "told", "kind"),
    [
        (b"*-1\r\n", "knows no primary 'main'", "down"),
        (b"$-1\r\n", "knows no primary 'main'", "down"),
        (b"*1\r\n:1\r\n", "something else", "script"),
        (b"*2\r\n$1\r\nh\r\n$1\r\nx\r\n", "something else", "script"),
        (b"*2\r\n:5\r\n:6379\r\n", "something else", "script"),
        (b"*2\r\n$1\r\nh\r\n$5\r\n99999\r\n", "something else", "script"),
        (b"*2\r\n$1\r\nh\r\n*0\r\n", "something else", "script"),
        (b"-NOAUTH Authentication required.\r\n", "refuses to say", "auth"),
        (b"+OK\r\n", "something else", "script"),
    ],
)
async def test_a_sentinel_that_names_nobody_is_reported(reply: bytes, told: str, kind: str) -> None:
    with pytest.raises(RedisUnavailable, match=told) as caught:
        await sentinel_says(reply)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "role", [b"*1\r\n$5\r\nslave\r\n", b"*0\r\n", b"+master\r\n", b"*1\r\n:1\r\n"]
)
async def test_who_is_named_and_is_no_primary_is_not_used(role: bytes) -> None:
    with pytest.raises(RedisUnavailable, match="named as the primary") as caught:
        await sentinel_says(b"*2\r\n$9\r\n127.0.0.1\r\nPORT", says(b"ROLE", role))
    assert caught.value.kind == "readonly"


async def test_the_next_sentinel_is_asked_when_one_is_silent_gone_or_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = says(b"ROLE", b"*1\r\n$5\r\nslave\r\n")
    async with fake(MASTER) as server, fake(replica) as old, fake() as good, fake() as behind:
        for sentinel, named in ((good, server), (behind, old)):
            reply = bulks(b"127.0.0.1", b"%d" % named.address.port)
            sentinel.answer = says(b"SENTINEL", reply)
        async with fake(lambda command: b"") as silent:
            asked = [f"127.0.0.1:{free_port()}", silent.address, behind.address, good.address]
            given_up_at_once(silent, monkeypatch)
            config = RedisConfig(
                sentinel_master="main", sentinels=[str(one) for one in asked], connect_timeout=60.0
            )
            assert (await locate(config)).primaries[0].address == server.address
            with pytest.raises(RedisUnavailable) as caught:
                await locate(replace(config, sentinels=config.sentinels[:-1]))
    for reason in ("cannot be reached", "did not answer", "named as the primary"):
        assert reason in str(caught.value)
    assert caught.value.kind == "down"


async def test_a_sentinel_that_is_let_in_and_then_says_nothing_is_given_up() -> None:
    def mute(command: Command) -> bytes:
        return b"" if command[0] == b"SENTINEL" else friendly(command)

    async with fake(mute) as sentinel:
        config = RedisConfig(
            sentinel_master="main", sentinels=[str(sentinel.address)], connect_timeout=0.05
        )
        with pytest.raises(RedisUnavailable, match="did not answer") as caught:
            await locate(config)
        assert caught.value.kind == "timed_out"
        await eventually(lambda: sentinel.clients and sentinel.clients[0].transport.is_closing())


async def test_sentinels_and_servers_have_passwords_of_their_own() -> None:
    async with fake(MASTER) as server, fake() as sentinel:
        reply = bulks(b"127.0.0.1", b"%d" % server.address.port)
        sentinel.answer = says(b"SENTINEL", reply)
        await locate(
            RedisConfig(
                sentinel_master="main",
                sentinels=[str(sentinel.address)],
                sentinel_password="one",
                username="me",
                password="two",
                db=1,
            )
        )
        assert sentinel.commands[0] == [b"AUTH", b"one"]
        assert [b"SELECT", b"1"] not in sentinel.commands
        assert server.commands[:2] == [[b"AUTH", b"me", b"two"], [b"SELECT", b"1"]]


# -- sentinels, real


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_failover_is_followed(program: str) -> None:
    async with watched(program) as (primary, replica, sentinels):
        config = RedisConfig(sentinel_master="main", sentinels=[str(at(one)) for one in sentinels])
        assert (await locate(config)).primaries[0].address == at(primary)
        primary.kill()
        found = await eventually_located(config, at(replica))
        connection = await RedisConnection.open(found, Access(), 5.0)
        assert await ask(connection, "SET", "k", "v") == b"OK"
        connection.abort()


async def eventually_located(config: RedisConfig, wanted: Address, within: float = 60) -> Address:
    deadline = time.monotonic() + within
    while True:
        try:
            found = (await locate(config)).primaries[0].address
        except RedisUnavailable:
            found = Address()  # between the two primaries there is none
        if found == wanted:
            return found
        assert time.monotonic() < deadline, "the failover was not seen"
        await asyncio.sleep(0.02)


# -- a cluster, scripted


async def slots_say(reply: bytes) -> Topology:
    async with fake(says(b"CLUSTER", reply)) as node:
        return await locate(RedisConfig(cluster=True, nodes=[str(node.address)]))


def entry(first: int, last: int, *nodes: bytes) -> bytes:
    return b"*%d\r\n:%d\r\n:%d\r\n" % (2 + len(nodes), first, last) + b"".join(nodes)


def node(host: bytes, port: int) -> bytes:
    return b"*4\r\n" + host + b":%d\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nx\r\n" % port


HOST, OTHER, NO_HOST, EMPTY = b"$2\r\nh1\r\n", b"$2\r\nh2\r\n", b"$-1\r\n", b"$0\r\n\r\n"


async def test_the_slots_of_a_cluster_are_read() -> None:
    layout = await slots_say(
        b"*3\r\n"
        + entry(0, 99, node(HOST, 1), node(OTHER, 2))
        + entry(200, 16_383, node(OTHER, 2))
        + entry(100, 150, node(HOST, 1))
    )
    assert layout == Topology(
        (
            Primary(Address("h1", 1), ((0, 99), (100, 150))),
            Primary(Address("h2", 2), ((200, 16_383),)),
        ),
        (Address("h1", 1), Address("h2", 2)),
    )
    assert layout.owners()[151] is None


@pytest.mark.parametrize("replica", [node(OTHER, 0), node(b":5\r\n", 1), b":1\r\n", b"*0\r\n"])
async def test_a_replica_that_cannot_be_read_is_left_out(replica: bytes) -> None:
    layout = await slots_say(b"*1\r\n" + entry(0, 16_383, node(HOST, 1), replica, node(OTHER, 2)))
    assert layout.primaries[0].address == Address("h1", 1)
    assert layout.nodes == (Address("h1", 1), Address("h2", 2))


@pytest.mark.parametrize("host", [NO_HOST, EMPTY, b"$1\r\n?\r\n"])
async def test_a_node_without_a_name_is_where_it_was_asked(host: bytes) -> None:
    layout = await slots_say(b"*1\r\n" + entry(0, 16_383, node(host, 7)))
    assert layout.primaries[0].address == Address("127.0.0.1", 7)


@pytest.mark.parametrize(
    ("reply", "told", "kind"),
    [
        (b"*0\r\n", "no slot that is served", "down"),
        (b"-ERR This instance has cluster support disabled\r\n", "cluster support", "script"),
        (b"+OK\r\n", "something else", "script"),
        (b"*1\r\n:5\r\n", "something else", "script"),
        (b"*1\r\n*2\r\n:0\r\n:5\r\n", "something else", "script"),
        (b"*1\r\n" + entry(5, 4, node(HOST, 1)), "something else", "script"),
        (b"*1\r\n" + entry(0, 16_384, node(HOST, 1)), "something else", "script"),
        (b"*1\r\n" + entry(-1, 5, node(HOST, 1)), "something else", "script"),
        (b"*1\r\n" + entry(0, 5, node(HOST, 0)), "something else", "script"),
        (b"*1\r\n" + entry(0, 5, node(b":5\r\n", 1)), "something else", "script"),
        (b"*1\r\n" + entry(0, 5, node(b"$1\r\n\xff\r\n", 1)), "something else", "script"),
        (b"*1\r\n" + entry(0, 5, b":1\r\n"), "something else", "script"),
    ],
)
async def test_a_cluster_that_answers_something_else_is_reported(
    reply: bytes, told: str, kind: str
) -> None:
    with pytest.raises(RedisUnavailable, match=told) as caught:
        await slots_say(reply)
    assert caught.value.kind == kind


# -- a cluster, real


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_real_cluster_is_found_from_any_node(program: str) -> None:
    async with cluster(program) as nodes:
        dead = f"127.0.0.1:{free_port()}"
        for one in nodes:
            layout = await locate(RedisConfig(cluster=True, nodes=[dead, str(at(one))]))
            assert {primary.address for primary in layout.primaries} == {at(x) for x in nodes}
            assert None not in layout.owners()
        owners = layout.owners()
        moved = 0
        for number in range(60):
            key = b"crdtbucket:{api:%032x}" % number
            right = layout.primaries[owners[slot(key)] or 0].address
            for one in nodes:
                told = await where(key, at(one))
                assert told in (None, (slot(key), right))
                assert (told is None) == (at(one) == right)
                moved += told is not None
        assert moved == 120


async def where(key: bytes, node: Address) -> tuple[int, Address] | None:
    """The server that holds a key, by the answer of a node; None: the node itself."""
    connection = await RedisConnection.open(node, Access(), 5.0)
    try:
        await ask(connection, "GET", key)
    except RedisErrorReply as error:
        return parse_moved(error, node)
    finally:
        connection.abort()
    return None


async def test_a_single_server_is_no_cluster() -> None:
    with Server() as server, pytest.raises(RedisUnavailable, match="cluster support disabled"):
        await locate(RedisConfig(cluster=True, host=server.host, port=server.port))


async def test_sentinels_behind_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    files = authority.issue("redis")
    port, sentinel_port = free_port(), free_port()
    secured = (
        f"tls-cert-file {files['tls_cert']}",
        f"tls-key-file {files['tls_key']}",
        f"tls-ca-cert-file {authority.file}",
        "tls-auth-clients no",
        "tls-replication yes",
    )
    watch = f"sentinel monitor main 127.0.0.1 {port} 1"
    with (
        Server(f"tls-port {port}", *secured),
        Server(f"tls-port {sentinel_port}", *secured, watch, sentinel=True),
    ):
        config = RedisConfig(
            url=f"rediss+sentinel://127.0.0.1:{sentinel_port}/main", tls_ca=authority.file
        )
        assert (await locate(config)).primaries[0].address == Address("127.0.0.1", port)
