"""Random and mutated bytes into a running node, files of shared tables, readers, and the core.

python -m tests.fuzz [--minutes N] [--seed S] [--without-libfuzzer]

Each frame is taken or refused with one WireError; a refused one has changed nothing. Each file is
opened, or begun anew. What reads configurations, requests, frames and replies is in
tests/outside.py: by atheris where it is installed, else with changed examples. Then libFuzzer looks
for what breaks the promises of the core, in targets of its own (tests/native/fuzz_*.c). Each part
gets as much of the time.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.protocol import wire
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.broken_tables import open_broken
from tests.mesh.frames import kinds
from tests.mesh.protocol.test_wire import HOSTILE, framed
from tests.native import libfuzzer, seeds
from tests.native.build import NoSanitizer
from tests.outside import OUTSIDE, atheris, changed


class Victim:
    """A node with a few keys, and real frames of its peer to break."""

    def __init__(self, seed: int) -> None:
        self.mesh = SimulatedMesh(["A", "B"], [BucketSpec("b", 100, 7)], seed=seed, latency=0.001)
        self.node = self.mesh["B"].node
        self.frames: list[bytes] = []
        receive = self.mesh["B"].receive

        def recording(source: str, life: int, data: bytes) -> None:
            self.frames.append(data)
            receive(source, life, data)

        self.mesh["B"].receive = recording  # type: ignore[method-assign]
        for i in range(30):
            self.mesh["A"].take("b", f"key {i % 5}", 1 + i)
            self.mesh["B"].take("b", f"key {i % 7}", 1)
            self.mesh.advance(0.05)
        self.frames += map(wire.encode, kinds().values())

    def state(self) -> Any:
        """All state that a frame may change, except the time at which the link was last seen."""
        bucket = self.mesh["B"].bucket("b")
        link = self.node.links["A"]
        keys = [f"key {i}" for i in range(7)]
        levels = [(bucket.debt(key), bucket.columns(key), bucket.credit(key)) for key in keys]
        table = self.node.table
        numbers = (link.received.highest, link.received.bits, link.acked.prefix, len(link.sent))
        return (
            levels,
            len(table),
            table.epochs.running,
            table.outbox.version,
            numbers,
            link.info.epoch,
        )

    def give(self, data: bytes) -> bool:
        """Whether the frame was taken. Raises AssertionError when a refused one left a trace."""
        before = self.state()
        try:
            self.node.receive("A", data, self.mesh["B"].local_ns(self.mesh.now_ns))
        except WireError:
            after = self.state()
            assert after == before, f"{data.hex()}: {before} became {after}"
            return False
        except MeshError as error:  # more names or epochs than can be told apart
            if "more" not in str(error):
                raise
            return False
        assert self.node.table.outbox.digest(0, 2**64 - 1, all_entries=True)[0] <= len(
            self.node.table
        )
        return True


def broken(rng: random.Random, frames: list[bytes]) -> bytes:
    """A frame that was changed; now and then one that is all noise."""
    if rng.random() < 0.01:
        return bytes(framed(rng.choice(list(HOSTILE.values())), rng.randbytes(20)))
    return changed(rng, frames)


def fuzz(seconds: float, seed: int) -> tuple[int, int]:
    """Fuzzes for so many seconds; returns the numbers of frames given and of frames taken."""
    rng = random.Random(seed)
    victim, given, taken = Victim(seed), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = broken(rng, victim.frames[-200:])
        given += 1
        taken += victim.give(data)
        if given % 500 == 0:
            victim.mesh.advance(0.1)
        if given % 5000 == 0:
            victim = Victim(rng.randrange(2**32))
    return given, taken


def read_outside(name: str, seconds: float, seed: int) -> bool:
    """Gives a reader of tests/outside.py bytes for so many seconds; returns False when atheris
    found a fault. Without atheris a fault is raised."""
    one = OUTSIDE[name]
    if atheris is not None:
        libfuzzer.PLACE.mkdir(exist_ok=True)
        seeds.keep(libfuzzer.PLACE / f"{name}.seeds", one.seeds())
        return libfuzzer.drive(name, [sys.executable, "-m", "tests.outside", name], seconds)
    rng, inputs, given = random.Random(seed), list(one.seeds()), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data, given = changed(rng, inputs), given + 1
        try:
            one.read(data)
        except Exception:
            print(f"{name}: FOUND with {data!r}", flush=True)
            raise
    print(f"{name}: nothing found: {given} inputs, without atheris", flush=True)
    return True


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--without-libfuzzer", action="store_true")
    options = parser.parse_args(arguments)
    logging.disable(logging.ERROR)
    programs: dict[str, Path] = {}
    if options.without_libfuzzer:
        print("without libFuzzer, as was asked for: the core's own targets are left out")
    else:
        try:
            programs = libfuzzer.prepare()
        except NoSanitizer as missing:
            print(f"nothing is fuzzed: {missing}", file=sys.stderr)
            return 2
    seconds = options.minutes * 60 / (2 + len(OUTSIDE) + len(programs))
    print(f"seed {options.seed}, {seconds:.0f} s each", flush=True)
    given, taken = fuzz(seconds, options.seed)
    print(f"{given} frames, {taken} taken, the others refused", flush=True)
    files, kept = open_broken(seconds, options.seed)
    print(f"{files} files of tables, {kept} used, the others begun anew", flush=True)
    results = [read_outside(name, seconds, options.seed) for name in OUTSIDE]
    results += [libfuzzer.fuzz(name, program, seconds) for name, program in programs.items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
