"""Everything in Python that reads what others wrote, each as a function of bytes to fuzz.

Each either takes its bytes or refuses them with the error that it promises; any other exception is
a fault. `tests.fuzz` runs them: with atheris (`python -m tests.outside NAME`) where it is
installed, so that inputs change towards code that was not reached yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None


def _watched() -> contextlib.AbstractContextManager[Any]:
    fuzzing = atheris is not None and __name__ == "__main__"
    return atheris.instrument_imports(["crdtbucket"]) if fuzzing else contextlib.nullcontext()


with _watched():
    from crdtbucket.base.address import Address
    from crdtbucket.config import load_config
    from crdtbucket.errors import ConfigError, CrdtbucketError, InvalidKey, WireError
    from crdtbucket.http.client_address import client_address
    from crdtbucket.http.server import bodies
    from crdtbucket.http.server.refusal import JSON, Refusal, read
    from crdtbucket.mesh.protocol import wire
    from crdtbucket.strong.redis import script, server_facts, topology
    from crdtbucket.strong.redis.beats import read_beat
    from crdtbucket.strong.redis.replicated import read_entry
    from crdtbucket.strong.redis.resp import NOTHING, GarbledReply, RedisErrorReply, ReplyReader
    from crdtbucket.strong.redis.slot_script import parse_slots
    from crdtbucket.upstream.upstream_fields import read_upstream
    from tests.outside_mesh import MESH, Outside

EXAMPLES = Path(__file__).parent.parent / "examples"
PLACE = tempfile.TemporaryDirectory(prefix="crdtbucket-outside-")
BODIES = [
    kind
    for kind in vars(bodies).values()
    if isinstance(kind, type) and issubclass(kind, bodies.RequestBody)
]


def read_file(data: bytes) -> None:
    """Reads a configuration: it has definitions, or all that is wrong with it can be shown."""
    file = Path(PLACE.name, "outside.yaml")
    file.write_bytes(data)
    try:
        load_config(file, env={})
    except ConfigError as error:
        str(error).encode()


def read_body(data: bytes) -> None:
    """Reads a body of the HTTP API; the first byte chooses the call."""
    kind = BODIES[data[0] % len(BODIES)] if data else bodies.Take

    async def raw() -> bytes:
        return data[1:]

    request: Any = types.SimpleNamespace(
        headers={"Content-Type": JSON}, content_type=JSON, read=raw
    )
    with contextlib.suppress(Refusal, StopIteration):
        read(request, kind).send(None)


def read_fields(data: bytes) -> None:
    """Reads header fields: of the answer of a service, and of proxies that forward."""
    lines = [line.partition(":") for line in data.decode("latin-1").split("\n")]
    read_upstream(429, [(name, value.strip()) for name, _, value in lines])
    for _, _, value in lines:
        with contextlib.suppress(InvalidKey):
            client_address("10.0.0.1", value, ["10.0.0.0/8"])


def read_frame(data: bytes) -> None:
    """Reads a frame of a peer."""
    with contextlib.suppress(WireError):
        wire.decode(data)


def read_reply(data: bytes) -> None:
    """Reads what a Redis sends, in two pieces."""
    reader = ReplyReader()
    with contextlib.suppress(GarbledReply):
        for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
            reader.feed(piece)
            while reader.next() is not NOTHING:
                pass


class Answering:
    """A connection on which every command gets the same reply."""

    address = Address("redis.example", 6379)

    def __init__(self, reply: object) -> None:
        self._reply = reply

    def send(self, command: bytes, then: Callable[[object], None]) -> None:
        """Replies at once."""
        then(self._reply)


def read_answer(data: bytes) -> None:
    """Reads a reply of a Redis, as the answer to every command that is ever sent."""
    reader = ReplyReader()
    try:
        reader.feed(data)
        reply = reader.next()
    except GarbledReply:
        return
    if isinstance(reply, RedisErrorReply):
        with contextlib.suppress(CrdtbucketError):
            topology.parse_moved(reply, Answering.address)
    for parse in ANSWERS:
        with contextlib.suppress(CrdtbucketError):
            parse(reply)
    if isinstance(reply, list) and all(isinstance(one, bytes) for one in reply):
        with contextlib.suppress(CrdtbucketError):
            read_entry(dict(zip(reply[::2], reply[1::2], strict=False)))
    connection: Any = Answering(reply)
    with contextlib.suppress(CrdtbucketError):
        asyncio.run(topology.cluster_layout(connection)).owners()


ANSWERS: tuple[Callable[[object], object], ...] = (
    script.parse,
    functools.partial(script.parse, hold=True),
    parse_slots,
    read_beat,
    server_facts.read_facts,
)


def _answers() -> Iterator[bytes]:
    owner = script.owner_name(2**64 - 1, "eu-1")
    level, record = b"17 5 -3 999999999 4 10 7", b"1 60 10 0 0"
    yield encode_reply([1, 3, 5, 70, 10, owner, 1, 60, 10])
    yield encode_reply([0, 3, 5, 70, 10, 9, 8, owner, 1, 60, 10])
    yield encode_reply([1, 3, 5, 70, 10])
    yield encode_reply(b"1 1700000000000000 3|eu 1 2 -3 4 us 5 6 7 8 ")
    yield encode_reply([b"level", level, owner, record])
    yield encode_reply([b"level", level + b" 3 4 0 - - 0|x", owner, b"1 60 10 0 0 3 eu 0 0"])
    yield encode_reply([[0, 16383, [b"h", 7000, b"id", []], [b"", 7001, b"id"]]])
    yield encode_reply(b"run_id:abc\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n")
    yield b"-MOVED 16383 [::1]:7000\r\n"


def encode_reply(value: object) -> bytes:
    """A reply as a Redis writes it."""
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, list):
        return b"*%d\r\n%b" % (len(value), b"".join(map(encode_reply, value)))
    return b":%d\r\n" % value


def _frames() -> Iterator[bytes]:
    from tests.mesh.frames import kinds  # imported here, so that atheris watches what it imports

    yield from map(wire.encode, kinds().values())


def _bodies() -> Iterator[bytes]:
    texts = (
        b'{"bucket": "api", "key": "k", "cost": 2, "floor": 0.5, "refundable": true}',
        b'{"takes": [{"bucket": "api", "key": "k"}], "together": true}',
        b'{"id": "a-1", "tokens": 3}',
        b'{"bucket": "api", "key": "k\\u00e9", "estimate": 3, "ttl": 1.5}',
        b'{"id": "a-1", "actual": 0}',
        b'{"limit": "100/s burst 200"}',
    )
    yield from (bytes([i]) + text for i in range(len(BODIES)) for text in texts)


def _fields() -> Iterator[bytes]:
    yield b'RateLimit-Policy: "day";q=100;w=86400\nRateLimit: "day";r=5;t=3\nRetry-After: 7'
    yield b"x-ratelimit-remaining-requests: 3\nx-ratelimit-reset-requests: 1m2.5s"
    yield b"date: Tue, 01 Jan 2030 00:00:00 GMT\nretry-after: Tue, 01 Jan 2030 00:00:09 GMT"
    yield b"X-Forwarded-For: 192.0.2.1, [2001:db8::1]:80, 10.0.0.2"


OUTSIDE = {
    "config": Outside(
        read_file, lambda: (path.read_bytes() for path in sorted(EXAMPLES.glob("openclaw*.yaml")))
    ),
    "body": Outside(read_body, _bodies),
    "fields": Outside(read_fields, _fields),
    "wire": Outside(read_frame, _frames),
    "reply": Outside(
        read_reply,
        lambda: iter(
            [b"*3\r\n$1\r\na\r\n:-5\r\n*1\r\n$-1\r\n", b"-MOVED 1 a:1\r\n%1\r\n+a\r\n#t\r\n"]
        ),
    ),
    "answer": Outside(read_answer, _answers),
    **MESH,
}


TEXTS = (b"0", b"-", b'"', b"\n  ", b"\xff", b": ", b"9" * 30)
"""Bytes at which numbers, strings and lines break."""


def changed(rng: random.Random, inputs: list[bytes]) -> bytes:
    """An input with bytes flipped, replaced, cut or inserted, or joined with another."""
    data = bytearray(rng.choice(inputs))
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(5):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice([0, 0x7F, 0x80, 0xFF, 0xC0, 0xCF, rng.randrange(256)])
            case 2:
                del data[at : at + rng.choice([1, 2, 9, 200, 1000])]
            case 3:
                data[at:at] = rng.choice([*TEXTS, *map(rng.randbytes, (1, 4, 30))])
            case _:
                data = data[:at] + bytearray(rng.choice(inputs))[at:]
    return bytes(data)


def main() -> None:
    """Runs libFuzzer on one of them; the other arguments are those of libFuzzer."""
    one = OUTSIDE[sys.argv.pop(1)]
    atheris.Setup(sys.argv, one.read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
