"""Answers in one piece are correct HTTP."""

from __future__ import annotations

import email.utils
import json
import time

import pytest

from crdtbucket.http.server.json_answer import json_text
from tests.http.serving import serving
from tests.http.waits import in_minutes

HEAD = b"POST /v1/take HTTP/%b\r\nHost: localhost\r\nContent-Type: application/json\r\n%b"
BODY = '{"bucket": "api", "key": "é"}'.encode()


@pytest.mark.parametrize(
    ("version", "more", "stays"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", False),
    ],
)
async def test_the_head_says_whether_the_connection_stays(
    version: bytes, more: bytes, stays: bool
) -> None:
    async with serving() as client:
        reader, writer = await client.connect()
        length = b"Content-Length: %d\r\n\r\n" % len(BODY)
        writer.write(HEAD % (version, more) + length + BODY)
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode().strip().split("\r\n")
        fields = dict(one.split(": ", 1) for one in lines)
        assert line == "HTTP/1.1 200 OK"
        assert in_minutes(fields["RateLimit"]) == '"api";r=99;t=3600'
        assert fields["Content-Type"] == "application/json"
        sent = email.utils.parsedate_to_datetime(fields["Date"]).timestamp()
        assert abs(sent - time.time()) < 60
        assert (fields.get("Connection") != "close") == stays
        body = await reader.readexactly(int(fields["Content-Length"]))
        assert body.startswith(b'{"allowed":true')
        if not stays:
            assert await reader.read() == b""


def test_text_without_utf_8_is_escaped() -> None:
    document = {"file": "/srv/\udcff.yaml", "é": [1]}
    assert json.loads(json_text(document)) == document
