"""The base of the buckets whose decisions a common store makes: those of tokens and of slots."""

from __future__ import annotations

from crdtbucket._core import Table
from crdtbucket.errors import LimiterNotOpen
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.waiting import Waited
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.store import Store
from crdtbucket.strong.strong_waiting import StrongWaiters


class AskingBucket(Bucket):
    """A bucket that every node asks the same Redis for. Each kind has a slot `_store`."""

    __slots__ = ()

    waiters: StrongWaiters
    _store: Store | None

    def __init__(
        self,
        table: Table,
        spec: BucketSpec,
        *,
        min_debt: int = 0,
        update_interval_ns: int | None = None,
    ) -> None:
        """As `Bucket`."""
        super().__init__(table, spec, min_debt=min_debt, update_interval_ns=update_interval_ns)
        self.waiters = StrongWaiters(self, self.seen())
        self._store = None
        self.mode = Mode.STRONG
        self.immediate = False

    def seen(self) -> Waited:
        """What callers that wait peek at."""
        return self

    def attach(self, store: Store) -> None:
        """Decide by this store from now on."""
        self._store = store

    @property
    def store(self) -> Store:
        """What decides. Raises `LimiterNotOpen` before the limiter is open."""
        if self._store is None:
            raise self.table.refusal or LimiterNotOpen(
                f"bucket {self.spec.name!r} asks Redis, and the limiter is not open: decide inside "
                "`async with limiter:`, or `with limiter:` where there is no event loop"
            )
        return self._store
