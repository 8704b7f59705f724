"""A network of namespaces: each node has a network of its own, as if it had a machine of its own.

The only interface of a namespace is a tun device, and this process carries the packets between
them. So packets are lost, late and cut off one by one and in one direction, and the TCP of the
kernel does the rest. It needs root, and no kernel module but `tun`. Nothing is left behind, however
the process ends: a namespace exists only while a process is in it or has it open.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import functools
import os
import random
import struct
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from tests.compositions.member import live
from tests.histories.plan import Pair

PORT = 7946
DEVICE = "nodes0"
PREFIX = "10.77.0."
_NEW_NET, _NEW_TIME = 0x4000_0000, 0x80
_TUN_SET, _TUN_WITHOUT_HEADER = 0x4004_54CA, 0x1001
_AN_HOUR_S = 3600
_DEST_END = 20
"""The offset after the last byte of the destination address in a packet of IPv4."""


class NoNamespaces(Exception):
    """This machine does not let us make networks; the message says why."""


class NamespaceNetwork:
    """A namespace for each node, and the packets between them."""

    told = (
        "network namespaces, whose packets this process carries: lost, late and cut off one by "
        "one; by a time namespace each node's monotonic clocks are hours off the others' (they "
        "cannot be moved while it runs, only the wall clock is)"
    )

    def __init__(self, nodes: int, seed: int = 0) -> None:
        """Makes the namespaces. Raises `NoNamespaces` where that is not possible."""
        self._random = random.Random(seed)
        self._blocked: frozenset[Pair] = frozenset()
        self._delay = self._jitter = self._loss = 0.0
        self._ahead = [(node + 1) * _AN_HOUR_S for node in range(nodes)]
        self._places: list[tuple[int, int]] = []
        """Two open files of each node: its namespace, and the other end of its tun device."""
        try:
            for node in range(nodes):
                self._places.append(_in_a_thread(functools.partial(_make, PREFIX + str(node + 1))))
        except BaseException:
            self._close()
            raise

    async def start(self) -> None:
        """Packets are carried from now on."""
        loop = asyncio.get_running_loop()
        for node, (_, device) in enumerate(self._places):
            loop.add_reader(device, self._carry, node, device)

    async def stop(self) -> None:
        """Closes the namespaces and their devices."""
        loop = asyncio.get_running_loop()
        for _, device in self._places:
            loop.remove_reader(device)
        self._close()

    def mesh(self, node: int) -> dict[str, Any]:
        """Every node calls every other one at its own address."""
        addresses = [f"{PREFIX}{one + 1}:{PORT}" for one in range(len(self._places))]
        return {
            "listen": addresses[node],
            "peers": [one for one in addresses if one != addresses[node]],
        }

    def life(self, node: int) -> Callable[..., None]:
        """A function that runs a process in the namespace of the node, with clocks of its own."""
        namespace = f"/proc/{os.getpid()}/fd/{self._places[node][0]}"
        return functools.partial(live_in, namespace, self._ahead[node])

    def reboot(self, node: int, rng: random.Random) -> None:
        """Sets the clocks of a node up to a day ahead from now on, perhaps behind what they
        were."""
        self._ahead[node] = rng.randrange(24 * _AN_HOUR_S)

    def block(self, blocked: frozenset[Pair]) -> None:
        """Drops packets on these ways, without any sign to either end."""
        self._blocked = blocked

    def weather(self, delay: float, jitter: float, loss: float) -> None:
        """Sets delay, jitter and loss for packets that come from now on."""
        self._delay, self._jitter, self._loss = delay, jitter, loss

    def _carry(self, node: int, device: int) -> None:
        try:
            packet = os.read(device, 65_536)
        except BlockingIOError:
            return
        if packet[0] >> 4 != 4:
            return  # what IPv6 does by itself on a new interface
        to = packet[_DEST_END - 1] - 1
        if not 0 <= to < len(self._places) or (node, to) in self._blocked:
            return
        if self._loss and self._random.random() < self._loss:
            return
        delay = self._delay + self._jitter * self._random.random()
        if delay:
            asyncio.get_running_loop().call_later(delay, self._deliver, to, packet)
        else:
            self._deliver(to, packet)

    def _deliver(self, to: int, packet: bytes) -> None:
        if self._places:  # a late packet may outlive the network
            os.write(self._places[to][1], packet)

    def _close(self) -> None:
        places, self._places = self._places, []
        for both in places:
            for one in both:
                os.close(one)


def live_in(namespace: str, ahead: int, *life: Any) -> None:
    """Runs a process that enters a namespace first, and whose clocks are `ahead` seconds ahead."""
    with open(namespace, "rb") as network:
        _system("setns", network.fileno(), _NEW_NET)
    _system("unshare", _NEW_TIME)
    with open("/proc/self/timens_offsets", "w") as offsets:
        offsets.write(f"monotonic {ahead} 0\nboottime {ahead} 0\n")
    with open("/proc/self/ns/time_for_children", "rb") as clocks:
        _system("setns", clocks.fileno(), _NEW_TIME)
    live(*life)


def _make(address: str) -> tuple[int, int]:
    """Makes a namespace with a device; the calling thread is in it afterwards."""
    _system("unshare", _NEW_NET)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUN_SET, struct.pack("16sH22x", DEVICE.encode(), _TUN_WITHOUT_HEADER))
        for words in (
            f"address add {address}/24 dev {DEVICE}",
            f"link set {DEVICE} up",
            "link set lo up",
        ):
            subprocess.run(["ip", *words.split()], check=True, capture_output=True)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), device
    except BaseException:
        os.close(device)
        raise


def _in_a_thread(make: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """Calls `make` in a thread that ends afterwards, so that no other code is in the namespace that
    it enters."""
    made: list[tuple[int, int] | Exception] = []

    def do() -> None:
        try:
            made.append(make())
        except (OSError, subprocess.CalledProcessError) as error:
            made.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    thread.join()
    found = made[0]
    if isinstance(found, Exception):
        raise NoNamespaces(f"no network namespaces can be made here: {found}")
    return found


def _system(name: str, *words: int) -> None:
    """Calls a function of libc that Python has only from 3.12 on."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
