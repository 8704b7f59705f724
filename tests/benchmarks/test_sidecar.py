"""The output of wrk is read, and any error in it fails the benchmark."""

from __future__ import annotations

import sys

import pytest

from benchmarks import sidecar
from benchmarks.sidecar import Load, batched, parsed, single
from tests.strong.redis_server import free_port

PRINTED = """\
Running 2s test @ http://127.0.0.1:7980
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.06ms  516.07us   8.75ms   94.35%
    Req/Sec     7.70k   533.21     8.24k    90.48%
  Latency Distribution
     50%    0.98ms
     75%    1.01ms
     90%    1.22ms
     99%  843.00us
  16083 requests in 2.10s, 5.63MB read
Requests/sec:   7658.14
Transfer/sec:      2.68MB
"""
REFUSED = PRINTED.replace("Requests/sec", "  Non-2xx or 3xx responses: 16083\nRequests/sec")


def test_figures_are_read_in_their_units() -> None:
    assert parsed(PRINTED, single("plenty")) == (
        7658.14,
        7658.14,
        0.98,
        pytest.approx(0.843),
    )
    assert parsed(PRINTED, batched("plenty")) == (
        765814.0,
        7658.14,
        0.98,
        pytest.approx(0.843),
    )
    assert parsed(REFUSED, single("spent", denied=True))[0] == 7658.14


@pytest.mark.parametrize(
    ("text", "load"),
    [
        (REFUSED, single("plenty")),
        (PRINTED, single("spent", denied=True)),
        (REFUSED.replace("responses: 16083", "responses: 3"), single("spent", denied=True)),
        (PRINTED + "  Socket errors: connect 0, read 1, write 0, timeout 0\n", single("plenty")),
    ],
)
def test_answers_that_should_not_be_are_no_measurement(text: str, load: Load) -> None:
    with pytest.raises(AssertionError, match="Requests/sec"):
        parsed(text, load)


def test_something_else_is_shown_as_it_is() -> None:
    with pytest.raises(AssertionError, match="unable to connect"):
        parsed("unable to connect to 127.0.0.1", single("plenty"))


def test_a_load_has_all_keys() -> None:
    assert len({body["key"] for body in single("plenty").bodies}) == sidecar.KEYS
    takes = [take["key"] for body in batched("plenty").bodies for take in body["takes"]]
    assert len(set(takes)) == len(takes) == sidecar.KEYS
    assert len(set(sidecar.forwarded("plenty").addresses)) == sidecar.KEYS
    assert len({str(body) for body in sidecar.described().bodies}) == sidecar.KEYS


def test_a_server_that_ends_at_once_is_reported() -> None:
    with (
        pytest.raises(RuntimeError, match=r"platform .*does not answer"),
        sidecar.started(free_port(), "platform"),
    ):
        raise AssertionError(sys.executable)
