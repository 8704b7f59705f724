"""The inputs with which the fuzz targets begin: real frames, a script of each operation, kept
inputs."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.entries import HIDDEN, RELAYED
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

CORPUS = Path(__file__).parent / "corpus"
DEEDS = [*range(32), 253, 254, 255]
"""The first byte of each operation."""
WORDS = (80, 16, 45, 4, 4, 4, 4, 1, 20, 1, 12, 24, 60, 8, 4, 66)
"""Of each region of a table file, how many words of 8 bytes are worth writing over, one by one."""
JOURNAL = 1
WRITTEN = (2**64 - 1, 0x00FF_00FF_00FF_00FF, 0x1_0000_0001)
Receive = Callable[[str, int, bytes], None]
THREE_DEFINITIONS = 0x80
"""The bit in the first byte of a frame input that announces three definitions."""


def _recording(receive: Receive, payloads: list[bytes]) -> Receive:
    def recording(source: str, epochs: int, data: bytes) -> None:
        payloads.append(wire.decode(data).payload)
        receive(source, epochs, data)

    return recording


def frames() -> Iterator[bytes]:
    """The frames that three nodes sent each other: each one alone, and one after the other."""
    specs = [BucketSpec("a", 100, 7), BucketSpec("b", 10, 3), BucketSpec("c", 5, 1)]
    mesh = SimulatedMesh(["A", "B", "C"], specs, seed=1, latency=0.001)
    payloads: list[bytes] = []
    for name in mesh.nodes:
        mesh[name].receive = _recording(mesh[name].receive, payloads)  # type: ignore[method-assign]
    for i in range(20):
        decision = mesh["A"].bucket("a").take(f"key {i % 3}", 1 + i)
        if decision.allowed and i % 2:
            mesh["A"].bucket("a").refund(decision, 1)
        mesh["C"].take("b", f"key {i % 4}", 1)
        mesh.advance(0.05)
    mesh.drop_frames(("A", "C"), ("C", "A"))  # B relays their rates
    for i in range(40):
        mesh["A"].take("a", f"key {i % 3}", 1)
        mesh["C"].take("a", f"key {i % 3}", 1)
        mesh.advance(0.1)
    mesh.partition("AB", "C")  # credit for C hides debt
    for i in range(30):
        mesh["A"].take("a", f"key {i % 3}", 1)
        mesh.advance(0.1)
    told = [payload for payload in payloads if payload]
    twice = bytes(range(16)) + bytes([0, 0, 9, 2, 3, 1, 5, 3, 1, 5])  # names an epoch two times
    later = [payload for payload in told if payload[16] & (RELAYED | HIDDEN)]
    for how, payload in enumerate([*told[:12], b"".join(told[:8]), twice]):
        yield bytes([THREE_DEFINITIONS | how % 64, 0]) + payload
    for how, payload in enumerate(later[::10]):
        yield bytes([THREE_DEFINITIONS | how % 64, how % 16 * 16]) + payload


def scripts() -> Iterator[bytes]:
    """A script of each operation, amid some that are drawn."""
    rng = random.Random(1)
    for deed in DEEDS:
        yield b"".join(bytes([deed, *rng.randbytes(7)]) for _ in range(8)) + rng.randbytes(40)


def place(region: int, word: int, value: int) -> bytes:
    """An input that writes over one word of a file, all 8 bytes."""
    return struct.pack("<BBHQ", region, 3, word, value)


def files() -> Iterator[bytes]:
    """Inputs that write over each word with a meaning; those of the journal also while it holds a
    change."""
    rng = random.Random(1)
    for region, words in enumerate(WORDS):
        for word in range(words):
            for value in WRITTEN:
                yield bytes([0, 1]) + place(region, word, value) + rng.randbytes(30)
    for kind in (1, 2, 3):
        for word in range(1, 16):
            begun = bytes([0, 2]) + place(JOURNAL, 0, kind)
            yield begun + place(JOURNAL, word, WRITTEN[kind - 1]) + rng.randbytes(30)
    for word in range(WORDS[0]):
        yield bytes([3, 1]) + place(0, word, WRITTEN[word % 3])


def kept(target: str) -> list[bytes]:
    """Inputs that once found a fault or that reach far, a line of hexadecimal each."""
    lines = (CORPUS / f"{target}.txt").read_text().splitlines()
    return [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]


MADE = {"frame": frames, "script": scripts, "file": files}


def write(target: str, directory: Path) -> list[Path]:
    """Writes the seeds of a target to files."""
    return keep(directory, [*kept(target), *MADE[target]()])


def keep(directory: Path, inputs: Iterable[bytes]) -> list[Path]:
    """Writes inputs to files, one each."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, seed in enumerate(inputs):
        path = directory / f"{number:04d}"
        path.write_bytes(seed)
        paths.append(path)
    return paths
