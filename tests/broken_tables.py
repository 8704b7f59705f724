"""Opens files of shared tables that are damaged: bits flipped, cut, grown, or full of noise."""

from __future__ import annotations

import os
import random
import tempfile
import time

from crdtbucket import BucketSpec
from crdtbucket._core import BucketCore, Table, is_ours
from crdtbucket.errors import SharedTableError
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.shared.table_file import Host, open_table

PAGE = 4096
HOST = Host(bytes(range(16)), 1, 2)
SPECS = [BucketSpec("one", 100, 1), BucketSpec("two", 10, 3)]


def opened(path: str) -> tuple[SharedFile, Table]:
    file = SharedFile(path)
    return file, open_table(
        file, max_keys=64, hash_key=bytes(16), owner="fuzz", host=HOST, virtual=True
    )


class Original:
    """A table with keys, kept as those pages of its file that are not empty."""

    def __init__(self, path: str) -> None:
        file, table = opened(path)
        use(table)
        del table
        file.close()
        self.size = os.path.getsize(path)
        self.pages: list[tuple[int, bytes]] = []
        with open(path, "rb") as data:
            at = 0
            while at < self.size:
                try:
                    at = os.lseek(data.fileno(), at, os.SEEK_DATA) // PAGE * PAGE
                except OSError:  # the rest is a hole
                    break
                if page := os.pread(data.fileno(), PAGE, at).rstrip(b"\0"):
                    self.pages.append((at, page))
                at += PAGE

    def write_broken(self, path: str, rng: random.Random) -> None:
        """Writes a damaged copy of the file."""
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            file.truncate(self.size)
            for at, page in self.pages:
                file.seek(at)
                file.write(page)
            for _ in range(rng.choice([1, 1, 2, 10])):
                self._spoil(file.fileno(), rng)

    def _spoil(self, fd: int, rng: random.Random) -> None:
        at, page = rng.choice([self.pages[0], rng.choice(self.pages)])
        at += rng.randrange(len(page))
        match rng.randrange(8):
            case 0:
                os.ftruncate(fd, rng.choice([0, 1, PAGE, at, self.size - 1, self.size - PAGE]))
            case 1:
                os.ftruncate(fd, self.size + rng.choice([1, PAGE, 1 << 20]))
            case 2:
                os.pwrite(fd, rng.randbytes(rng.choice([1, 8, 64, PAGE])), at)
            case 3:
                os.pwrite(fd, bytes(rng.choice([8, 64, PAGE])), at // 8 * 8)
            case _:
                byte = os.pread(fd, 1, at) or b"\0"
                os.pwrite(fd, bytes([byte[0] ^ 1 << rng.randrange(8)]), at)


def left_as_it_is(path: str) -> bool:
    """Whether the file does not begin as a table does: then it is refused, and left unchanged."""
    with open(path, "rb") as data:
        first = data.read(PAGE)
    if not first or is_ours(first):
        return False
    before = os.stat(path)
    try:
        opened(path)
    except SharedTableError:
        after = os.stat(path)
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        return True
    raise AssertionError("a file that is no table was taken")


def use(table: Table) -> None:
    """Does all that a process does with a table."""
    for spec in SPECS:
        bucket = BucketCore(table, spec)
        for key in range(30):
            bucket.take(f"key {key}")
        bucket.counters()
    table.outbox.collect()
    table.outbox.trim(table.outbox.version // 2)
    table.sweep()
    table.outbox.digest(0, 2**64 - 1, all_entries=True)
    table.survey()
    table.stats()
    table.sharing.read_handoff()
    table.verify()


def open_broken(seconds: float, seed: int, most: int = 1 << 60) -> tuple[int, int]:
    """Opens damaged files for so many seconds, or `most` of them: (files, those whose keys were
    kept)."""
    rng, files, kept = random.Random(seed), 0, 0
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        path = os.path.join(place, "table")
        original = Original(path)
        while time.monotonic() < end and files < most:
            os.unlink(path)
            original.write_broken(path, rng)
            files += 1
            if left_as_it_is(path):
                continue
            file, table = opened(path)
            kept += len(table) > 0
            use(table)
            del table
            file.close()
    return files, kept
