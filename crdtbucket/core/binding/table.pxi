# The table: how it is opened, looked after and examined, and its parts.


cdef class Table:
    """The keys that one node holds of all its buckets, in one memory mapping. Times are whole ns of
    CLOCK_BOOTTIME, or of `set_time`.

    Each subject is a part of the table, which may be used without it: the processes that share it,
    epochs, nodes, definitions, what is sent (`outbox`) and what is received (`inbox`)."""

    cdef _Memory memory
    cdef table_t *t
    cdef readonly TableSharing sharing
    cdef readonly TableEpochs epochs
    cdef readonly TableNodes nodes
    cdef readonly TableDefinitions definitions
    cdef readonly TableOutbox outbox
    cdef readonly TableInbox inbox
    cdef readonly dict names
    """{entry: (name of its bucket, key)} of the entries whose names are kept, `max_names` at
    most."""
    cdef readonly int max_names
    cdef public object on_wake
    """Is called without arguments when a take asks for an early message."""
    cdef readonly object refusal
    """The exception that every operation raises, or None: see `refuse`."""
    cdef int64_t surveyed
    cdef object __weakref__

    def __cinit__(
        self,
        *,
        int64_t max_keys=1_000_000,
        bytes hash_key=None,
        bint virtual=False,
        int64_t now=0,
        double grace=15.0,
        int max_names=10_000,
        epoch=None,
        int fd=-1,
        host=None,
        bint join=False,
    ):
        """`now`: the time of a virtual table at first (ns). `grace`: for how long (s) a full key is
        idle before it is evicted. `fd`: a file that other processes map, too; the table does not
        close it. It is empty, and then `host` says what goes into its header: (boot id, pid space,
        time space, owner); or it holds a table that was checked. `join`: other processes use it
        now, so its epoch continues."""
        if not 0 <= grace <= 1e9:
            raise CrdtbucketError(f"grace must be 0 to 1e9 s, not {grace}")
        self.names = {}
        self.memory = _Memory(max_keys, hash_key, virtual, fd)
        self.t = &self.memory.t
        self.t.virtual_ns = now
        self.sharing = TableSharing(self.memory)
        self.epochs = TableEpochs(self.memory)
        self.nodes = TableNodes(self.memory, self.epochs)
        self.definitions = TableDefinitions(self.memory)
        self.outbox = TableOutbox(self.memory, self.epochs)
        self.inbox = TableInbox(self.memory, self.epochs, self.names)
        self.max_names = max_names
        if self.memory.made:
            self.t.h.grace_ns = <int64_t>(grace * 1e9)
            if host is not None:
                boot, pid_space, time_space, owner = host
                self.describe(boot, pid_space, time_space, owner)
        if fd >= 0:
            self.sharing.claim()
        else:
            self.t.workers[0].pid = 1
        if not join:
            self.epochs.begin(
                int.from_bytes(os.urandom(8), "little") | 1 if epoch is None else epoch
            )

    cdef describe(self, bytes boot, uint64_t pid_space, uint64_t time_space, uint64_t owner):
        memcpy(self.t.h.boot, PyBytes_AS_STRING(boot), 16)
        self.t.h.pid_space, self.t.h.time_space, self.t.h.owner = pid_space, time_space, owner

    # ---- whether it decides ----

    def refuse(self, error):
        """Makes every operation raise `error` from now on. After LimiterClosed no other error takes
        its place."""
        if not isinstance(self.refusal, LimiterClosed):
            self.refusal = error

    def admit(self, kind):
        """Ends a refusal if its error is of this kind. A refusal for another reason stays."""
        if isinstance(self.refusal, kind):
            self.refusal = None

    # ---- time ----

    def now(self):
        """Local time in ns."""
        return clock_ns(self.t)

    def set_time(self, int64_t now):
        """Sets the time of a virtual table, in ns."""
        if not self.t.is_virtual:
            raise CrdtbucketError(
                "the time of a real table cannot be set: create it with virtual=True"
            )
        self.t.virtual_ns = now

    # ---- upkeep ----

    def sweep(self, int64_t most=4096):
        """Looks at the next `most` entries, and evicts those that are full, sent and idle. Returns
        how many."""
        most = max(0, min(most, self.t.h.bump))
        cdef _Scratch gone = scratch(most * sizeof(uint32_t))
        cdef int64_t n, i
        self.memory.enter()
        n = sweep(self.t, most, clock_ns(self.t), <uint32_t *>gone.at)
        self.memory.leave()
        for i in range(n):
            forget_name(self.names, (<uint32_t *>gone.at)[i])
        return n

    def shift(self, int64_t ns, int64_t since=0):
        """Moves the levels with a clock that jumped by `ns` against those of the peers, so that
        debts stay what they were, but not above their ceiling. Peers that were last seen before the
        local ns `since`, the middle of what the clock jumped over, have been silent for `ns` less,
        and takes that are refilled before it are refilled `ns` later. The time that the clock
        jumped over does not count in the rates at which this node is asked."""
        self.memory.enter()
        shift_all(self.t, ns, since, clock_ns(self.t))
        self.memory.leave()

    def hashes(self, entries):
        """(name hash of the bucket, low half and high half of the key's hash) of each of these
        entries that is still in use."""
        cdef uint32_t e
        out = []
        for e in entries:
            if e < self.t.h.bump and self.t.hot[e].flags & ENTRY_USED:
                out.append(
                    (
                        self.t.definitions[self.t.hot[e].bucket].name_hash,
                        self.t.hot[e].hash_lo,
                        self.t.hot[e].hash_hi,
                    )
                )
        return out

    def find(self, uint64_t lo, uint64_t hi):
        """The entry with this hash, or -1."""
        cdef uint32_t e = table_find(self.t, lo, hi)
        return -1 if e == <uint32_t>NONE else <int64_t>e

    # ---- looking ----

    def verify(self):
        """Checks all that must be true of the table, for tests and diagnosis. Raises
        CrdtbucketError."""
        cdef const char *wrong
        self.memory.enter()
        wrong = table_verify(self.t)
        self.memory.leave()
        if wrong:
            raise CrdtbucketError(f"the table is damaged: {wrong.decode()}")

    @property
    def shared(self):
        """Whether other processes may use the table."""
        return bool(is_shared(self.t))

    @property
    def hash_key(self):
        """The secret by which keys are hashed: 16 bytes."""
        return PyBytes_FromStringAndSize(<const char *>self.t.h.hash_key, 16)

    @property
    def open_tokens(self):
        """Tokens, of all keys, of calls that a common store has not answered yet: the store may
        have counted them, and this node has not."""
        return self.t.h.open_tokens

    @open_tokens.setter
    def open_tokens(self, int64_t tokens):
        self.t.h.open_tokens = tokens

    def __len__(self):
        return self.t.h.entries

    @property
    def max_keys(self):
        """How many keys the table can hold."""
        return self.t.h.max_keys

    @property
    def places(self):
        """How many places for entries were ever used: `encode_table` goes over these."""
        return self.t.h.bump

    def survey(self, int64_t most=1 << 22):
        """How full the keys of each bucket are: {name hash: (keys without a whole token, tokens
        that all keys together lack until they are full, tokens that the key lacks that lacks
        most)}. Looks at `most` keys. Of a larger table it looks at others each time, and takes
        these for a sample of all. It takes about 4 ns a key, without the interpreter's lock; no
        take waits longer than for some 20 us of it."""
        cdef int64_t places = self.t.h.bump, now = clock_ns(self.t), at = self.surveyed, done
        cdef uint32_t i, count = self.t.h.definitions
        cdef double share = 1.0
        cdef _Scratch room = scratch(count * sizeof(survey_t))
        cdef survey_t *s = <survey_t *>room.at
        most = max(1, min(most, places))
        survey_open(self.t, s, count)
        if places:
            share = <double>most / <double>places
            self.surveyed = (at + most) % places
            for done in range(0, most, SURVEY_CHUNK):
                with nogil:
                    table_lock(self.t)
                    survey_places(self.t, at + done, min(most - done, SURVEY_CHUNK), now, s, count)
                    table_unlock(self.t)
                    let_others_in(self.t)
        return {
            self.t.definitions[i].name_hash: (
                round(s[i].empty / share),
                s[i].debt / share,
                s[i].highest,
            )
            for i in range(count)
            if s[i].owner == i
        }

    def stats(self):
        """Counters of the table: a dict of integers."""
        cdef header_t *h = self.t.h
        return {
            "keys": h.entries,
            "max_keys": h.max_keys,
            "bytes": table_bytes(self.t) + remembered_bytes(self.t),
            "inserted": h.inserted,
            "evicted_full": h.evicted_full,
            "evicted_indebted": h.evicted_indebted,
            "refused_full": h.refused_full,
            "refused_columns": h.refused_columns,
            "forgotten": h.forgotten,
            "unlogged": h.unlogged,
            "version": h.version,
        }


cdef inline int check_open(Table table) except -1:
    """Raises the error by which the table refuses every operation, if there is one."""
    if table.refusal is not None:
        raise _copy(table.refusal)  # one that is raised again keeps the frames of all its callers
    return 0
