"""What a version leaves behind for the next one, as its bytes are kept in `golden/`: a snapshot, a
shared table, and the record of a key in Redis. Frames are in `mesh/golden`.

    python -m tests.kept_state

writes files of formats that have none yet. It replaces none, since later versions will find such
bytes.
"""

from __future__ import annotations

import json
import lzma
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from crdtbucket._core import LAYOUT, BucketCore, Table
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.shared.table_file import Host, open_table
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.script import Arguments, ScriptAnswer, ScriptCall
from tests.strong.backends import TimedRedis
from tests.strong.golden import KEY, PLAIN, A
from tests.strong.redis_server import Server

GOLDEN = Path(__file__).parent / "golden"
SPEC = BucketSpec("api", 100, 1, "1h")
SECOND = 10**9
BOOT = b"one boot's bytes"
HOST = Host(BOOT, 1, 2)
RECORDS = 1
"""The format of a key's record in Redis; the level and each column are texts of numbers."""


def node(epoch: int) -> tuple[Table, BucketCore, Roster]:
    """A node of one bucket, at time 0."""
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=epoch)
    return table, BucketCore(table, SPEC), Roster(table, "eu-1")


def make_snapshot() -> bytes:
    """Two keys, of which one has a refund."""
    table, bucket, roster = node(17)
    table.set_time(SECOND)
    bucket.refund(bucket.take("refunded", 60), 10)
    bucket.take("plain", 20)
    with mock.patch.object(snapshot, "boot_id", return_value=BOOT):
        return b"".join(snapshot.dump(table, roster))


def open_shared(path: Path) -> tuple[SharedFile, Table]:
    """The shared table at a path; the caller sets its clock."""
    file = SharedFile(str(path))
    return file, open_table(
        file, max_keys=16, hash_key=bytes(16), owner="eu-1", virtual=True, host=HOST
    )


def make_table() -> bytes:
    """The same two keys in the shared table of a host, which no process uses now."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table")
        file, table = open_shared(path)
        table.set_time(SECOND)
        bucket = BucketCore(table, SPEC)
        bucket.refund(bucket.take("refunded", 60), 10)
        bucket.take("plain", 20)
        del bucket, table
        file.close()
        return lzma.compress(path.read_bytes())


@contextmanager
def timed_redis() -> Iterator[TimedRedis]:
    """A server of its own, whose clock stands still."""
    with Server() as server:
        redis = TimedRedis(server)
        yield redis
        redis.line.close()


def ask(redis: TimedRedis, cost: int, taken: int, refunded: int = 0) -> ScriptAnswer:
    """A call of the node `A`, which has counted so many tokens."""
    call = ScriptCall(KEY, cost, A, 1, 1, taken, refunded, 0)
    return redis.run(Arguments(PLAIN, PLAIN.max_debt, 3_600_000), call)


def make_records() -> bytes:
    """A key of which 60 tokens were taken and 10 refunded, as the script has written it."""
    with timed_redis() as redis:
        ask(redis, 60, 0)
        ask(redis, 0, 60, 10)
        flat = redis.line.ask("HGETALL", KEY)
    fields = {a.hex(): b.hex() for a, b in zip(flat[::2], flat[1::2], strict=True)}
    return json.dumps(fields, indent=1, sort_keys=True).encode()


MADE = {
    f"snapshot.v{snapshot.FORMAT}.bin": make_snapshot,
    f"table.v{LAYOUT}.bin.xz": make_table,
    f"records.v{RECORDS}.json": make_records,
}


def main() -> None:
    """Writes the files that do not exist yet."""
    for name, made in MADE.items():
        if not (GOLDEN / name).exists():
            (GOLDEN / name).write_bytes(made())
            print(GOLDEN / name)


if __name__ == "__main__":
    main()
