"""Calls of the store's script as bytes, and their way over a socket and back."""

from __future__ import annotations

import contextlib
import errno
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from crdtbucket._core import ask_store, store_call
from crdtbucket.base.clock import now_ns
from tests.interrupted import signals_on_and_on

HIGHEST = (10**16 - 1, 10**10 - 1, 10**10 - 1, 10**16 - 1, 10**16 - 1, 2**63 - 1)
"""The highest cost, fence, generation, taken, refunded, and debt in ns that a call can say."""
WIDTHS = (16, 10, 10, 16, 16)
NAMES = ("cost", "fence", "generation", "taken", "refunded", "debt_ns")
NEVER = 2**62, 2**61
"""A moment (`now_ns`) that does not come."""
Numbers = tuple[int, int, int, int, int, int]


def word(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def written(key: bytes, owner: bytes, numbers: Numbers) -> bytes:
    cost, *counts = (
        word(str(one).zfill(width).encode()) for one, width in zip(numbers, WIDTHS, strict=False)
    )
    seconds, ns = divmod(numbers[5], 10**9)
    debt = word(b"%010d" % seconds) + word(b"%09d" % ns)
    return b"".join((b"head", word(key), b"fixed", cost, word(owner), *counts, debt, word(b"0")))


def test_a_call_is_written_as_words_of_fixed_widths() -> None:
    dice = random.Random(1)
    for size in (0, 1, 9, 10, 99, 100, 700):
        key, owner = b"k" * size, b"o" * (size // 2)
        for highest in (HIGHEST, (9, 1, 1, 9, 9, 10**9), (0,) * 6):
            numbers: Numbers = tuple(dice.randint(0, one) for one in highest)  # type: ignore[assignment]
            assert store_call(b"head", key, b"fixed", owner, numbers) == written(
                key, owner, numbers
            )
    assert store_call(b"head", b"k", b"fixed", b"o", HIGHEST) == written(b"k", b"o", HIGHEST)


@pytest.mark.parametrize("name", NAMES)
def test_a_number_out_of_range_is_not_written(name: str) -> None:
    place = NAMES.index(name)
    for wrong in (-1, HIGHEST[place] + 1, 2**63, 2**64 - 1, 10**30, 1.0, None):
        numbers: Numbers = (1,) * place + (wrong,) + (1,) * (5 - place)  # type: ignore[assignment]
        assert store_call(b"head", b"k", b"fixed", b"o", numbers) is None, wrong


def test_a_call_that_is_too_long_is_not_written() -> None:
    numbers = (1, 1, 1, 1, 1, 1)
    for size in range(1_700, 2_100):
        key = b"k" * size
        made = store_call(b"head", key, b"fixed", b"o", numbers)
        assert made is None or made == written(key, b"o", numbers)
    assert made is None
    assert store_call(b"head", b"k" * 100_000, b"fixed", b"o", numbers) is None


def test_what_is_no_call_is_refused() -> None:
    good: list[Any] = [b"head", b"k", b"fixed", b"o", (1,) * 6]
    for place in range(5):
        wrong = [*good[:place], None, *good[place + 1 :]]
        with pytest.raises(TypeError):
            store_call(*wrong)
    assert store_call(*good[:4], (1,) * 5) is None  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ask_store(1, None, *NEVER)  # type: ignore[arg-type]


# ---- there and back ----


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with contextlib.closing(here), contextlib.closing(there):
        yield here, there


Line = tuple[socket.socket, socket.socket]


def answered(line: Line, reply: bytes) -> object:
    here, there = line
    there.sendall(reply)
    came = ask_store(here.fileno(), b"ask", *NEVER)
    assert there.recv(10) == b"ask"
    return came


@pytest.mark.parametrize(
    "numbers", [[0], [1, 0, 999_999_999, 2**53, 7], [10**18 - 1] * 9], ids=["one", "usual", "most"]
)
def test_numbers_are_read(line: Line, numbers: list[int]) -> None:
    reply = hiredis.pack_command(
        tuple(numbers)
    )  # as a list of texts, which differs in the heads alone
    plain = b"*%d\r\n" % len(numbers) + b"".join(b":%d\r\n" % one for one in numbers)
    assert answered(line, plain) == numbers
    assert answered(line, reply) == reply


@pytest.mark.parametrize(
    "reply",
    [
        b"*0\r\n",
        b"*2\r\n:1\r\n",
        b"*2\r\n:1\r\n:2",
        b"*2\r\n:1\r\n:2\r",
        b"*2\r\n:1\r\n:2\r\n:",
        b"*2\r\n:1\r\n:2\r\n+more\r\n",
        b"*2\r\n:1\r\n$1\r\n2\r\n",
        b"*2\r\n:1\r\n:\r\n",
        b"*2\r\n:1\r\n:-2\r\n",
        b"*2\r\n:1\r\n:2\n\r",
        b"*2\n\r:1\r\n:2\r\n",
        b"*1\r\n:1000000000000000000\r\n",
        b"*10\r\n" + b":1\r\n" * 10,
        b"*:\r\n" + b":1\r\n" * 10,
        b"~1\r\n:1\r\n",
        b"-NOSCRIPT No matching script.\r\n",
        b"*",
        b"*1\r\n",
    ],
)
def test_what_is_no_list_of_a_few_numbers_is_for_the_caller(line: Line, reply: bytes) -> None:
    assert answered(line, reply) == reply


def test_a_connection_that_has_ended_gives_no_bytes(line: Line) -> None:
    here, there = line
    there.shutdown(socket.SHUT_WR)
    assert ask_store(here.fileno(), b"", *NEVER) == b""


def test_what_the_system_refuses_is_a_number(line: Line) -> None:
    here, there = line
    here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 1_000))
    assert ask_store(here.fileno(), b"ask", *NEVER) == errno.EAGAIN
    there.close()
    assert ask_store(here.fileno(), b"ask", *NEVER) == errno.EPIPE
    assert ask_store(-1, b"ask", *NEVER) == errno.EBADF


def test_a_command_that_a_signal_cuts_arrives_whole(line: Line) -> None:
    here, there = line
    command, came = random.Random(2).randbytes(3_000_000), bytearray()
    handled = threading.Event()

    def read() -> None:
        assert handled.wait(60)
        while len(came) < len(command):
            came.extend(there.recv(100_000))
        there.sendall(b"*1\r\n:1\r\n")

    reader = threading.Thread(target=read)
    before = signal.signal(signal.SIGALRM, lambda *_: handled.set())
    try:
        reader.start()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert ask_store(here.fileno(), command, *NEVER) == [1]
    finally:
        signal.signal(signal.SIGALRM, before)
    reader.join()
    assert came == command


def test_a_signal_is_handled_while_an_answer_is_waited_for(line: Line) -> None:
    here, there = line
    seen = []

    def handler(*_: object) -> None:
        seen.append(there.recv(10))
        there.sendall(b"*1\r\n:1\r\n")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert ask_store(here.fileno(), b"ask", *NEVER) == [1]
        assert seen == [b"ask"], "and nothing is sent twice"
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            ask_store(here.fileno(), b"ask", *NEVER)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_signals_that_come_on_and_on_make_no_wait_longer(line: Line) -> None:
    """They come more often than the time-out of the socket ends."""
    here, _ = line
    here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
    with signals_on_and_on():
        assert ask_store(here.fileno(), b"ask", now_ns() + 50_000_000, 50_000_000) == errno.EAGAIN


def test_time_in_which_this_process_stood_still_is_not_the_servers(line: Line) -> None:
    """A stop ends a wait as a signal does, and the server may have stood still with it."""
    here, there = line
    patience = 200_000_000

    def handler(*_: object) -> None:
        time.sleep(0.3)
        later.start()

    later = threading.Timer(0.07, there.sendall, [b"*1\r\n:1\r\n"])
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert ask_store(here.fileno(), b"ask", now_ns() + patience, patience) == [1]
    finally:
        signal.signal(signal.SIGALRM, before)
    later.join()
