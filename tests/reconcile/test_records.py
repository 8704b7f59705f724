"""Records of a Redis whose answers are not those of a Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdtbucket import MeshConfig
from crdtbucket.config import load_config
from crdtbucket.errors import RedisReplyError
from crdtbucket.reconcile.buckets import BucketIndex, Place
from crdtbucket.reconcile.records import Records
from tests.reconcile.fleet import SECRET, config_file
from tests.strong.fake_server import Command, fake, friendly

PLACE: Place = (1, 2)
SCAN = b"*2\r\n$1\r\n0\r\n%b"
TIME = b"*2\r\n$10\r\n1700000000\r\n$1\r\n5\r\n"
HASH = b"*2\r\n$5\r\nlevel\r\n$%d\r\n%b\r\n"


async def look(folder: Path, **answers: bytes) -> int:
    """Reads one key, and lists all, of a server that gives these answers; how many are held."""

    def answer(command: Command) -> bytes:
        return answers.get(command[0].decode()) or friendly(command)

    async with fake(answer) as server:
        config = load_config(config_file(folder, f"redis://{server.address}"))
        assert config.redis is not None
        buckets = BucketIndex(config, MeshConfig(secret=SECRET))
        records = Records(config.redis, buckets, 60.0)
        await records.open()
        try:
            found = await records.places()
            strong = next(one for one in buckets.by_key.values() if one.arguments is not None)
            return len(await records.have({**found, PLACE: strong}))
        finally:
            records.close()


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("SCAN", b"+OK\r\n"),
        ("SCAN", SCAN % b"+OK\r\n"),
        ("SCAN", SCAN % b"*1\r\n:5\r\n"),
        ("TIME", b"+OK\r\n"),
        ("TIME", b"*2\r\n+now\r\n+then\r\n"),
        ("TIME", b"*2\r\n*0\r\n:5\r\n"),
        ("TIME", b"*2\r\n+%b\r\n+5\r\n" % (b"9" * 5_000)),
        ("HGETALL", b"*1\r\n+level\r\n"),
        ("HGETALL", b"*2\r\n$5\r\nlevel\r\n:5\r\n"),
        ("HGETALL", b"*2\r\n*0\r\n:5\r\n"),
        ("HGETALL", HASH % (4, b"full")),
    ],
)
async def test_another_answer_is_an_error_that_says_so(
    command: str, reply: bytes, tmp_path: Path
) -> None:
    level = b"17 5 0 999999999 4 10 7"
    good = {"SCAN": SCAN % b"*0\r\n", "TIME": TIME, "HGETALL": HASH % (len(level), level)}
    assert await look(tmp_path, **good) == 1
    with pytest.raises(RedisReplyError):
        await look(tmp_path, **{**good, command: reply})
