# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=False
"""The compiled core: one table of keys, decisions, merges. Rules are in core/*.h; here arguments are checked and the
interpreter is spoken to.

A take of a key that is held is lock-free and runs under the GIL. Whatever adds, removes or rewrites entries holds the GIL and
the table's lock; bulk calls hold only the lock.
"""

from cpython.array cimport array, clone
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLong, PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport INT64_MAX, UINT32_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtbucket.errors import CostExceedsCapacity, CrdtbucketError, InvalidCost, InvalidKey, WireError
from crdtbucket.mode import Mode

import os
from collections import namedtuple
from operator import index


cdef extern from "core/core.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_trylock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)

    enum: NONE
    enum: MAX_DEFINITIONS
    enum: MAX_NODES
    enum: MAX_ORIGINS
    enum: DIGEST_SLACK
    enum: ENTRY_USED
    enum: ENTRY_NAMED
    enum: ENTRY_MIN_BYTES
    int ALLOWED, DENIED

    ctypedef struct hot_t:
        uint64_t hash_lo, hash_hi
        int64_t net
        uint32_t full_count, birth
        uint16_t bucket, flags, origin
    ctypedef struct cold_t:
        int64_t rated_ns
    ctypedef struct definition_t:
        int64_t q, p, capacity, max_debt, full_ns, cap_ns
        uint64_t name_hash, definition_hash
        double per_second
        int64_t flush_tokens, quota, entries
        int64_t allowed, denied, granted, refunded, forgiven, refused_full
        uint32_t next, allow_when_full
        int64_t replaced_ns
    ctypedef struct node_t:
        int64_t heard
        uint16_t origin, silences
        uint8_t known, connected, rated
    ctypedef struct origin_t:
        uint64_t epoch
        uint16_t node
        uint8_t used, marked
    ctypedef struct header_t:
        uint64_t hash_key[2]
        int64_t max_keys, grace_ns, near_ns, trust_ns, far_free_until, cautious_since, cautious_until, averaged_ns, members
        uint64_t version, spare_epoch
        int64_t entries, bump, blocks_used
        uint32_t births, definitions, own_origin, predict, flush_wanted, merging, origins_changed, released
        int64_t evicted_full, evicted_indebted, inserted, refused_columns, refused_full, forgotten
    ctypedef struct table_t:
        header_t *h
        definition_t *definitions
        node_t *nodes
        origin_t *origins
        uint64_t *index
        hot_t *hot
        cold_t *cold
        int64_t virtual_ns
        int is_virtual
    ctypedef struct outcome_t:
        int64_t debt_ns, rest, wait_ns
        uint32_t entry, full_count, birth
        uint16_t origin
        int allowed
    ctypedef struct column_t:
        int i
    ctypedef struct wire_definition_t:
        uint32_t bucket, same
        int64_t q, p
    ctypedef struct wire_entry_t:
        uint64_t lo, hi
    ctypedef struct merge_context_t:
        uint32_t source, source_origin
        int64_t at
        int newer, joining, alone
    ctypedef struct merge_result_t:
        int64_t merged, ignored, unknown_bucket, refused_columns, dropped_full, gained
        uint32_t answer_count, touched_count, deferred_count, gone_count
        int twin
    ctypedef struct merge_out_t:
        uint32_t *answers
        uint32_t *touched
        uint32_t *deferred
        uint32_t *gone
        merge_result_t r
    ctypedef struct digest_item_t:
        uint64_t lo, hi, fingerprint, debt_ns
    ctypedef long long i128 "__int128"

    int table_open(table_t *, int64_t, const uint64_t *, int)
    void table_close(table_t *)
    int64_t table_bytes(const table_t *)
    int64_t clock_ns(const table_t *)
    uint32_t table_find(const table_t *, uint64_t, uint64_t)
    void keyed_hash(const uint64_t *, uint64_t, const uint8_t *, size_t, uint64_t *, uint64_t *)
    uint32_t origin_find(const table_t *, uint64_t)
    uint32_t origin_add(table_t *, uint32_t, uint64_t)
    int open_epoch(table_t *)
    int column_next(const table_t *, uint32_t, column_t *)
    uint32_t column_origin(const column_t *)
    int64_t column_taken(const column_t *)
    int64_t column_refunded(const column_t *)
    int64_t own_refunded(const table_t *, uint32_t)
    int entry_for_take(table_t *, definition_t *, uint32_t, uint64_t, uint64_t, int64_t, int, int64_t, uint32_t *, uint32_t *)
    int entry_current(const table_t *, uint32_t, uint32_t)
    int64_t caution_wait(const table_t *, const definition_t *, int64_t, int64_t)
    int entry_renew(table_t *, uint32_t, uint32_t, int64_t)
    int take(table_t *, definition_t *, uint32_t, int64_t, int64_t, outcome_t *)
    void peek(table_t *, const definition_t *, uint32_t, int64_t, int64_t, outcome_t *)
    int refund(table_t *, definition_t *, uint32_t, int64_t, int64_t)
    int64_t settle(table_t *, definition_t *, uint32_t, int64_t, int64_t)
    int64_t tokens_left_ns(const definition_t *, int64_t, int64_t)
    int64_t signed_debt_ns(const table_t *, uint32_t, int64_t)
    void log_trim(table_t *, uint64_t)
    int64_t collect_round(table_t *, int64_t)
    int64_t collect_flush(table_t *, int64_t)
    void log_append(table_t *, uint32_t)
    size_t encode_log(const table_t *, uint64_t *, uint64_t, const uint16_t *, int64_t, uint8_t *, size_t, int64_t *)
    size_t encode_entries(const table_t *, const uint32_t *, int64_t *, int64_t, const uint16_t *, int64_t, uint8_t *, size_t,
                          int64_t *)
    int64_t parse_entries(const uint8_t *, size_t, uint32_t, uint32_t, wire_entry_t *, int64_t)
    void merge_entries(table_t *, const wire_entry_t *, const uint32_t *, int64_t, const wire_definition_t *,
                       const uint16_t *, const merge_context_t *, int64_t, merge_out_t *)
    int restore_entry(table_t *, const wire_entry_t *, const wire_definition_t *, const uint16_t *, int64_t)
    int64_t sweep(table_t *, int64_t, int64_t, uint32_t *)
    void refresh_far(table_t *)
    void forget_node(table_t *, uint32_t, int64_t)
    void shift_all(table_t *, int64_t)
    int64_t prune(table_t *, uint32_t, int64_t, int64_t)
    int64_t digest_range(const table_t *, uint64_t, uint64_t, int64_t, int64_t, int, digest_item_t *, uint64_t *,
                         uint64_t *, uint64_t *)
    int text_view(PyObject *, const uint8_t **, Py_ssize_t *)
    void prefetch_slot(const table_t *, uint64_t)
    void atomic_or(uint16_t *, uint16_t)
    uint32_t column_birth(const column_t *)
    uint32_t wire_definition(const wire_entry_t *)
    int still_charged(const table_t *, uint32_t, uint32_t, uint16_t, uint32_t)
    int64_t refund_if_charged(table_t *, definition_t *, uint32_t, uint32_t, int64_t, int64_t)
    ctypedef struct take_item_t:
        const uint8_t *data
        Py_ssize_t size
        int64_t cost
        uint64_t lo, hi
        uint32_t entry
        int unnamed
    ctypedef struct many_t:
        table_t *t
        definition_t *d
        uint32_t slot
        uint64_t salt
        take_item_t *items
        int64_t count, at, now, hashed
        int alone
        signed char *allowed
        int64_t *remaining
        double *retry
        int64_t allowed_sum, denied_sum, granted
    void many_store(many_t *, const outcome_t *)
    void take_items(many_t *)
    int many_holds(const many_t *, const take_item_t *)
    double far_tokens(const table_t *, uint32_t, int64_t)


MAX_KEY_BYTES = 512
MAX_COST = 2**53
MAX_SETTLE = 2**62
cdef int64_t _MAX_COST = 1 << 53
cdef Py_ssize_t _MAX_KEY = 512
cdef array _BYTES = array("b")
cdef array _INTS = array("q")
cdef array _FLOATS = array("d")
cdef array _UINTS = array("I")

Decisions = namedtuple("Decisions", "allowed remaining retry_after", module="crdtbucket._core")
Decisions.__doc__ = """Answers of `take_many`, in the order of the keys: `allowed` (array of 0 and 1), `remaining` (array of whole
tokens) and `retry_after` (array of float seconds, 0 where allowed)."""
Merged = namedtuple("Merged", "merged ignored unknown_bucket refused_columns dropped gained twin answers touched",
                    module="crdtbucket._core")
Merged.__doc__ = """What a bulk merge did: counts, whether the own epoch was heard with larger counts (`twin`), and arrays of
entries that the sender should hear (`answers`) and that were merged (`touched`)."""


cdef inline int key_view(object key, const uint8_t **data, Py_ssize_t *size) except -1:
    if not text_view(<PyObject *>key, data, size) or not 0 < size[0] <= _MAX_KEY:
        refuse_key(key)
    return 0


cdef int refuse_key(object key) except -1:
    """Says what is wrong with a key."""
    if not isinstance(key, (str, bytes)):
        raise InvalidKey(f"key must be str or bytes, not {type(key).__name__}: pass str(key)")
    try:
        size = len(key.encode() if isinstance(key, str) else key)
    except UnicodeEncodeError as error:
        raise InvalidKey(f"key {key!r} cannot be encoded as UTF-8: {error.reason}") from None
    raise InvalidKey(
        "key is empty: name what is limited" if not size
        else f"key has {size} bytes, at most {_MAX_KEY} are allowed: hash or shorten it"
    )


cdef int64_t whole_tokens(object value, int64_t low, object high, str what) except -1:
    if PyLong_CheckExact(value):
        if low <= value <= high:
            return PyLong_AsLongLong(value)
        raise InvalidCost(f"{what} must be {low} to {high} tokens, not {value}")
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidCost(f"{what} must be a whole number of tokens (int), not {value!r}")
    # Twice, since a subclass of int is its own index.
    return whole_tokens(int.__index__(index(value)), low, high, what)


cdef class Table:
    """One node's keys of all buckets, in one memory mapping. Times are integer ns of CLOCK_BOOTTIME, or of `set_time`."""

    cdef table_t t
    cdef pthread_mutex_t lock
    cdef int opened
    cdef readonly dict names
    cdef readonly int max_names
    cdef public object on_wake
    """Called without arguments when a take asks for an early flush."""
    cdef public object refusal
    """An exception that every operation raises from now on, or None."""
    cdef dict slots
    cdef object __weakref__

    def __cinit__(self):
        self.opened = 0

    def __init__(self, *, int64_t max_keys=1_000_000, bytes hash_key=None, bint virtual=False, double grace=15.0,
                 int max_names=10_000, epoch=None):
        cdef uint64_t key[2]
        if self.opened:
            raise CrdtbucketError("a table is opened once")
        if not 16 <= max_keys <= 1 << 30:
            raise CrdtbucketError(f"max_keys must be 16 to {1 << 30}, not {max_keys}")
        if not 0 <= grace <= 1e9:
            raise CrdtbucketError(f"grace must be 0 to 1e9 s, not {grace}")
        hash_key = os.urandom(16) if hash_key is None else hash_key
        if len(hash_key) != 16:
            raise CrdtbucketError(f"hash_key must be 16 bytes, not {len(hash_key)}")
        memcpy(key, PyBytes_AS_STRING(hash_key), 16)
        cdef int error = table_open(&self.t, max_keys, key, virtual)
        if error:
            raise MemoryError(f"no memory for {max_keys} keys: {os.strerror(error)}")
        self.opened = 1
        pthread_mutex_init(&self.lock, NULL)
        self.t.h.grace_ns = <int64_t>(grace * 1e9)
        self.t.h.spare_epoch = int.from_bytes(os.urandom(8), "little") | 1
        self.names = {}
        self.max_names = max_names
        self.slots = {}
        if virtual:
            self.t.virtual_ns = 0
        self.open_epoch(int.from_bytes(os.urandom(8), "little") | 1 if epoch is None else epoch)

    def __dealloc__(self):
        if self.opened:
            table_close(&self.t)

    # ---- time ----

    def now(self):
        """Local time in ns."""
        return clock_ns(&self.t)

    def set_time(self, int64_t now):
        """Sets the time of a virtual table, in ns."""
        if not self.t.is_virtual:
            raise CrdtbucketError("the time of a real table cannot be set: create it with virtual=True")
        self.t.virtual_ns = now

    # ---- exclusion ----

    cdef void enter(self) noexcept:
        """Takes the lock, for the interpreter's thread: no bulk call is inside, so the table is its alone."""
        if pthread_mutex_trylock(&self.lock) != 0:
            with nogil:
                pthread_mutex_lock(&self.lock)

    cdef void leave(self) noexcept:
        pthread_mutex_unlock(&self.lock)

    cdef void forget_name(self, uint32_t entry):
        if entry != <uint32_t>NONE:
            self.names.pop(entry, None)

    # ---- definitions ----

    def define(self, spec, *, int64_t min_debt=0):
        """Makes `spec` the definition of its bucket and returns its slot. An earlier one of the same name is replaced, and
        its keys follow when they are next touched: debt in tokens is kept. `min_debt`: tokens that `max_debt` is raised to.
        """
        cdef header_t *h = self.t.h
        q, p = spec.emission
        cdef int64_t debt = max(spec.max_debt, min_debt)
        if q * (spec.capacity + debt) >= p << 62:
            debt = max(spec.max_debt, (p << 62) // q - spec.capacity - 1)
        if h.definitions == <uint32_t>MAX_DEFINITIONS:
            raise CrdtbucketError(f"at most {MAX_DEFINITIONS} definitions in the life of a table")
        name = spec.key.encode()
        cdef uint32_t slot = h.definitions
        cdef definition_t *d = &self.t.definitions[slot]
        memset(d, 0, sizeof(definition_t))
        d.q, d.p = q, p
        d.capacity, d.max_debt = spec.capacity, debt
        d.full_ns = q * spec.capacity // p
        d.cap_ns = q * (spec.capacity + debt) // p
        d.per_second = spec.rate_per_second
        d.name_hash = name_hash(name)
        d.definition_hash = spec.definition_hash
        d.quota = spec.max_keys if spec.max_keys is not None else INT64_MAX
        d.allow_when_full = spec.on_table_full == "allow"
        d.next = <uint32_t>NONE
        h.definitions += 1
        if name in self.slots:
            self.t.definitions[<uint32_t>self.slots[name]].replaced_ns = clock_ns(&self.t)
            self.t.definitions[<uint32_t>self.slots[name]].next = slot
        self.slots[name] = slot
        self._refresh_flush()
        return slot

    cdef void _refresh_flush(self):
        cdef uint32_t i
        for i in range(self.t.h.definitions):
            self.t.definitions[i].flush_tokens = max(1, self.t.definitions[i].capacity // (20 * max(1, self.t.h.members)))

    def definitions(self):
        """The current ones: (slot, name hash, definition hash, q, p) each."""
        cdef uint32_t i
        cdef definition_t *d
        out = []
        for i in self.slots.values():
            d = &self.t.definitions[i]
            out.append((i, d.name_hash, d.definition_hash, d.q, d.p))
        return out

    @property
    def definition_count(self):
        """Definitions ever made."""
        return self.t.h.definitions

    def all_definitions(self):
        """Of every slot, replaced ones too: (name hash, definition hash, q, p)."""
        cdef uint32_t i
        return [(self.t.definitions[i].name_hash, self.t.definitions[i].definition_hash, self.t.definitions[i].q,
                 self.t.definitions[i].p) for i in range(self.t.h.definitions)]

    # ---- identity, nodes, origins ----

    @property
    def epoch(self):
        """The running epoch: takes count under it."""
        return self.t.origins[self.t.h.own_origin].epoch

    def open_epoch(self, uint64_t epoch):
        """Takes count under `epoch` (64 bits, not 0, never used before) from now on; older counts stay."""
        cdef int done
        self.t.h.spare_epoch = epoch
        self.enter()
        done = open_epoch(&self.t)
        self.leave()
        if not done:
            raise CrdtbucketError("too many epochs are remembered")

    def spare_epoch(self, uint64_t epoch):
        """The epoch to open when larger counts of the running one are heard."""
        self.t.h.spare_epoch = epoch

    def origin(self, uint32_t node, uint64_t epoch):
        """The id of (node, epoch), made when it is new. Raises WireError when the epoch is another node's, or when there is
        no room for more."""
        self.check_node(node)
        self.enter()
        cdef uint32_t found = origin_find(&self.t, epoch)
        if not found:
            found = origin_add(&self.t, node, epoch)
        self.leave()
        if not found:
            raise WireError("more epochs than can be told apart")
        if self.t.origins[found].node != node:
            raise WireError("an epoch is stated of two nodes")
        return found

    @property
    def released(self):
        """How many origin ids were given up."""
        return self.t.h.released

    @property
    def origins_version(self):
        """Changes whenever the set of origins does."""
        return self.t.h.origins_changed

    def origins(self):
        """(id, node, epoch, marked) of each."""
        cdef uint32_t i
        return [(i, self.t.origins[i].node, self.t.origins[i].epoch, bool(self.t.origins[i].marked))
                for i in range(1, MAX_ORIGINS) if self.t.origins[i].used]

    cdef check_node(self, uint32_t node):
        if node >= MAX_NODES:
            raise CrdtbucketError(f"node ids are below {MAX_NODES}, not {node}")

    def set_node(self, uint32_t node, uint64_t epoch, bint connected):
        """A member: its running epoch, and whether it is heard here directly. Returns its origin id."""
        cdef uint32_t origin = self.origin(node, epoch)
        cdef node_t *n = &self.t.nodes[node]
        if not n.known:
            n.known = 1
            n.heard = clock_ns(&self.t)
        n.origin = <uint16_t>origin
        n.connected = connected
        refresh_far(&self.t)
        return origin

    def heard(self, uint32_t node, int64_t at):
        """A complete round of `node` stood for the time `at` (receipt less half the round trip, local ns)."""
        self.check_node(node)
        cdef node_t *n = &self.t.nodes[node]
        if at <= n.heard:
            return
        if at - n.heard > self.t.h.near_ns:
            n.silences += 1
        n.heard = at
        refresh_far(&self.t)

    def forget(self, uint32_t node):
        """The node is given up: what is predicted of it becomes debt."""
        self.check_node(node)
        self.enter()
        forget_node(&self.t, node, clock_ns(&self.t))
        self.t.nodes[node].connected = 0
        self.t.nodes[node].known = 0
        refresh_far(&self.t)
        self.leave()

    def configure(self, *, members=None, cautious_until=None, predict=None, trust_ns=None):
        """Sets what the mesh knows: live members with this one, until when (ns) only a share is served, whether peers are
        predicted, for how long (ns) a silent one is."""
        if members is not None:
            self.t.h.members = max(1, members)
            self._refresh_flush()
        if cautious_until is not None:
            self.t.h.cautious_since = clock_ns(&self.t)
            self.t.h.cautious_until = cautious_until
        if predict is not None:
            self.t.h.predict = predict
        if trust_ns is not None:
            self.t.h.trust_ns = trust_ns

    @property
    def cautious_until(self):
        return self.t.h.cautious_until

    # ---- what is to be sent ----

    @property
    def version(self):
        """The newest version in the log."""
        return self.t.h.version

    @property
    def flush_wanted(self):
        """Whether some key has taken so much that it should not wait for the round."""
        return bool(self.t.h.flush_wanted)

    def collect(self, bint flush=False):
        """Gives versions and rates to the keys attempted since the last round (with `flush` to those that asked for an early
        flush). Returns how many."""
        cdef int64_t count, now = clock_ns(&self.t)
        with nogil:
            pthread_mutex_lock(&self.lock)
            count = collect_flush(&self.t, now) if flush else collect_round(&self.t, now)
            pthread_mutex_unlock(&self.lock)
        if self.t.h.births > 0xf0000000u:
            self.open_epoch(self.t.h.spare_epoch)
        return count

    def touch(self, entries):
        """Makes entries dirty for every link, as an attempt does (relaying)."""
        cdef array places = array("I", entries)
        cdef uint32_t e
        for e in places:
            if e >= self.t.h.bump:
                raise CrdtbucketError(f"no entry {e}")
        self.enter()
        for e in places:
            if self.t.hot[e].flags & ENTRY_USED:
                log_append(&self.t, e)
        self.leave()

    def trim(self, uint64_t version):
        """Every link that counts has acknowledged up to `version`."""
        self.enter()
        log_trim(&self.t, version)
        self.leave()

    def encode_log(self, uint64_t after, uint64_t upto, const uint16_t[::1] positions, size_t size):
        """Entries with a version above `after`, at most `upto`, in at most `size` bytes: (bytes, last version covered,
        entries). `positions[origin]` is its place in the announced table, 0xffff for none."""
        cdef int64_t count = 0, now = clock_ns(&self.t)
        cdef size_t used
        self.check_positions(positions)
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(size)
        if not out:
            raise MemoryError
        try:
            with nogil:
                pthread_mutex_lock(&self.lock)
                used = encode_log(&self.t, &after, upto, &positions[0], now, out, size, &count)
                pthread_mutex_unlock(&self.lock)
            return PyBytes_FromStringAndSize(<char *>out, used), after, count
        finally:
            PyMem_Free(out)

    def encode_entries(self, const uint32_t[::1] entries, int64_t start, const uint16_t[::1] positions, size_t size):
        """The given entries from position `start` on, in at most `size` bytes: (bytes, next position, entries)."""
        return self._encode(&entries[0] if entries.shape[0] else NULL, start, entries.shape[0], positions, size)

    def encode_indebted(self, int64_t start, const uint16_t[::1] positions, size_t size):
        """All indebted entries from place `start` on: (bytes, next place or -1 at the end, entries)."""
        cdef int64_t end = self.t.h.bump
        data, place, count = self._encode(NULL, start, end, positions, size)
        return data, -1 if place >= end else place, count

    cdef _encode(self, const uint32_t *entries, int64_t start, int64_t end, const uint16_t[::1] positions, size_t size):
        cdef int64_t count = 0, now = clock_ns(&self.t), i
        cdef size_t used = 0
        self.check_positions(positions)
        if start < 0:
            raise CrdtbucketError(f"positions start at 0, not {start}")
        if entries:
            for i in range(start, end):
                if entries[i] >= self.t.h.bump:
                    raise CrdtbucketError(f"no entry {entries[i]}")
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(size)
        if not out:
            raise MemoryError
        try:
            if start < end:
                with nogil:
                    pthread_mutex_lock(&self.lock)
                    used = encode_entries(&self.t, entries, &start, end, &positions[0], now, out, size, &count)
                    pthread_mutex_unlock(&self.lock)
            return PyBytes_FromStringAndSize(<char *>out, used), start, count
        finally:
            PyMem_Free(out)

    cdef check_positions(self, const uint16_t[::1] positions):
        cdef Py_ssize_t i
        if positions.shape[0] != MAX_ORIGINS:
            raise CrdtbucketError(f"positions must have {MAX_ORIGINS} items")
        for i in range(MAX_ORIGINS):
            if MAX_ORIGINS <= positions[i] < 0xffff:
                raise CrdtbucketError(f"positions are below {MAX_ORIGINS}, not {positions[i]}")

    cdef check_origins(self, const uint16_t[::1] origins):
        cdef Py_ssize_t i
        for i in range(origins.shape[0]):
            if origins[i] >= MAX_ORIGINS or (origins[i] and not self.t.origins[origins[i]].used):
                raise CrdtbucketError(f"no origin {origins[i]}")

    # ---- what is received ----

    def merge(self, const uint8_t[::1] payload, definitions, const uint16_t[::1] origins, *, uint32_t node, uint64_t epoch,
              int64_t at, bint newer=True, bint joining=False):
        """Merges the entries of a frame. `definitions`: (slot or -1, same, q, p) for each of the frame's; `origins`: local
        origin ids at the sender's positions; `node` and `epoch` of the sender; `at` as in `heard`; `newer`: its rates count;
        `joining`: answer all that is held. Raises WireError, and changes nothing, when malformed. Returns `Merged`."""
        cdef int64_t n, most = payload.shape[0] // ENTRY_MIN_BYTES + 1, now = clock_ns(&self.t), i
        cdef merge_context_t m
        cdef merge_out_t out
        cdef wire_definition_t *wd
        cdef wire_entry_t *parsed
        cdef uint32_t *scratch
        cdef uint32_t count = len(definitions), known = origins.shape[0]
        cdef int bulk
        if not payload.shape[0]:
            return Merged(0, 0, 0, 0, 0, 0, False, clone(_UINTS, 0, False), clone(_UINTS, 0, False))
        self.check_origins(origins)
        memset(&out, 0, sizeof(out))
        wd = <wire_definition_t *>PyMem_Malloc((count + 1) * sizeof(wire_definition_t))
        parsed = <wire_entry_t *>PyMem_Malloc(most * sizeof(wire_entry_t))
        scratch = <uint32_t *>PyMem_Malloc(4 * most * sizeof(uint32_t))
        try:
            if not wd or not parsed or not scratch:
                raise MemoryError
            self.read_definitions(definitions, wd)
            n = parse_entries(&payload[0], payload.shape[0], count, known, parsed, most)
            if n < 0:
                raise WireError("malformed entries")
            out.answers, out.touched, out.deferred, out.gone = scratch, scratch + most, scratch + 2 * most, scratch + 3 * most
            m.source, m.at, m.newer, m.joining, m.alone = node, at, newer, joining, 0
            m.source_origin = self.origin(node, epoch)
            if n >= 64:
                self.t.h.merging += 1
                with nogil:
                    pthread_mutex_lock(&self.lock)
                    merge_entries(&self.t, parsed, NULL, n, wd, &origins[0] if known else NULL, &m, now, &out)
                    pthread_mutex_unlock(&self.lock)
                self.t.h.merging -= 1
                bulk = out.r.deferred_count
            else:
                bulk = -1
            if bulk:
                m.alone = 1
                self.enter()
                merge_entries(&self.t, parsed, out.deferred if bulk > 0 else NULL, bulk if bulk > 0 else n, wd,
                              &origins[0] if known else NULL, &m, now, &out)
                self.leave()
            for i in range(out.r.gone_count):
                self.forget_name(out.gone[i])
            if out.r.merged:
                refresh_far(&self.t)
            return Merged(out.r.merged, out.r.ignored, out.r.unknown_bucket, out.r.refused_columns, out.r.dropped_full,
                          out.r.gained, bool(out.r.twin), uints(out.answers, out.r.answer_count),
                          uints(out.touched, out.r.touched_count))
        finally:
            PyMem_Free(wd)
            PyMem_Free(parsed)
            PyMem_Free(scratch)

    cdef read_definitions(self, definitions, wire_definition_t *wd):
        cdef uint32_t i = 0
        for slot, same, q, p in definitions:
            if slot >= self.t.h.definitions:
                raise CrdtbucketError(f"no definition {slot}")
            if not (0 < q < 1 << 63 and 0 < p < 1 << 63):
                raise CrdtbucketError(f"{q}/{p} ns a token is no rate")
            wd[i].bucket = <uint32_t>NONE if slot < 0 else <uint32_t>slot
            wd[i].same = same
            wd[i].q, wd[i].p = q, p
            i += 1

    def restore(self, const uint8_t[::1] payload, definitions, const uint16_t[::1] origins):
        """Entries of a snapshot, encoded by `encode_indebted`; their debt is not aged. Entries that are held stay as they
        are. Returns how many were restored."""
        cdef int64_t n, most = payload.shape[0] // ENTRY_MIN_BYTES + 1, i, done = 0, now = clock_ns(&self.t)
        if not payload.shape[0]:
            return 0
        self.check_origins(origins)
        for i in range(origins.shape[0]):
            if origins[i] == self.t.h.own_origin:
                raise CrdtbucketError("a snapshot of the running epoch cannot be restored: open another epoch")
        cdef wire_definition_t *wd = <wire_definition_t *>PyMem_Malloc((len(definitions) + 1) * sizeof(wire_definition_t))
        cdef wire_entry_t *parsed = <wire_entry_t *>PyMem_Malloc(most * sizeof(wire_entry_t))
        try:
            if not wd or not parsed:
                raise MemoryError
            self.read_definitions(definitions, wd)
            n = parse_entries(&payload[0], payload.shape[0], len(definitions), origins.shape[0], parsed, most)
            if n < 0:
                raise WireError("malformed snapshot")
            self.enter()
            for i in range(n):
                done += restore_entry(&self.t, &parsed[i], wd + wire_definition(&parsed[i]), &origins[0] if origins.shape[0] else NULL, now)
            self.leave()
            return done
        finally:
            PyMem_Free(wd)
            PyMem_Free(parsed)

    # ---- upkeep ----

    def sweep(self, int64_t most=4096):
        """Looks at the next `most` entries and evicts full ones that were sent and are idle. Returns how many."""
        most = max(0, min(most, self.t.h.bump))
        cdef uint32_t *gone = <uint32_t *>PyMem_Malloc(most * sizeof(uint32_t))
        cdef int64_t n, i
        if not gone:
            raise MemoryError
        self.enter()
        n = sweep(&self.t, most, clock_ns(&self.t), gone)
        self.leave()
        for i in range(n):
            self.forget_name(gone[i])
        PyMem_Free(gone)
        return n

    def shift(self, int64_t ns):
        """The clock jumped by `ns` against the peers': levels stay where they were."""
        self.enter()
        shift_all(&self.t, ns)
        self.leave()

    @property
    def longest_debt(self):
        """The longest time to full of any definition, in ns: after it a take is history."""
        cdef uint32_t i
        return max((self.t.definitions[i].cap_ns for i in range(self.t.h.definitions)), default=0)

    def mark(self, uint64_t epoch):
        """Columns of this dead epoch count no more, here: every live peer knows its final counts. Levels do not move."""
        cdef uint32_t origin = origin_find(&self.t, epoch)
        if not origin or origin == self.t.h.own_origin:
            return False
        cdef int64_t pruned
        self.enter()
        pruned = prune(&self.t, origin, 0, self.t.h.bump)
        self.t.origins[origin].marked = pruned >= 0
        self.leave()
        return pruned >= 0

    def release(self, uint64_t epoch):
        """Forgets a marked epoch; its id may be used again."""
        cdef uint32_t origin = origin_find(&self.t, epoch)
        if origin and self.t.origins[origin].marked:
            self.t.origins[origin].used = 0
            self.t.h.origins_changed += 1
            self.t.h.released += 1

    def digest(self, uint64_t first, uint64_t last, int64_t most=INT64_MAX, bint loud=False):
        """Of indebted quiet entries (with `loud` of all) whose hash (high half) is in [first, last]: (entries, sum of fingerprints, sum of debts in ns,
        where to go on or 0), at most about `most`."""
        cdef uint64_t total = 0, debt = 0, following = 0
        cdef int64_t count, now = clock_ns(&self.t)
        with nogil:
            pthread_mutex_lock(&self.lock)
            count = digest_range(&self.t, first, last, most, now, loud, NULL, &total, &debt, &following)
            pthread_mutex_unlock(&self.lock)
        return count, total, debt, following

    def digest_items(self, uint64_t first, uint64_t last, int64_t most):
        """The entries of such a range, 32 bytes each: hash (16), fingerprint, debt in ns (little-endian)."""
        cdef uint64_t total = 0, debt = 0, following = 0
        cdef int64_t count, now = clock_ns(&self.t)
        most = max(0, min(most, self.t.h.max_keys))
        cdef digest_item_t *items = <digest_item_t *>PyMem_Malloc((most + DIGEST_SLACK) * sizeof(digest_item_t))
        if not items:
            raise MemoryError
        try:
            self.enter()
            count = digest_range(&self.t, first, last, most, now, 0, items, &total, &debt, &following)
            self.leave()
            count = min(count, most + DIGEST_SLACK)
            return PyBytes_FromStringAndSize(<char *>items, count * sizeof(digest_item_t))
        finally:
            PyMem_Free(items)

    def find(self, uint64_t lo, uint64_t hi):
        """The entry with this hash, or -1."""
        cdef uint32_t e = table_find(&self.t, lo, hi)
        return -1 if e == <uint32_t>NONE else <int64_t>e

    # ---- looking ----

    def __len__(self):
        return self.t.h.entries

    @property
    def places(self):
        """Entries ever used at once: `encode_indebted` goes over so many places."""
        return self.t.h.bump

    def stats(self):
        """Counters of the table: a dict of integers."""
        cdef header_t *h = self.t.h
        return {
            "keys": h.entries, "max_keys": h.max_keys, "bytes": table_bytes(&self.t), "inserted": h.inserted,
            "evicted_full": h.evicted_full, "evicted_indebted": h.evicted_indebted, "refused_full": h.refused_full,
            "refused_columns": h.refused_columns, "forgotten": h.forgotten, "version": h.version,
        }


cdef uint64_t name_hash(bytes name):
    cdef uint64_t lo, hi
    cdef uint64_t key[2]
    key[0] = 0x6372647462756b65u
    key[1] = 0x6275636b65746e61u
    keyed_hash(key, 0, <const uint8_t *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &lo, &hi)
    return lo


cdef array uints(uint32_t *items, uint32_t count):
    cdef array out = clone(_UINTS, count, False)
    if count:
        memcpy(out.data.as_voidptr, items, count * sizeof(uint32_t))
    return out


import cython


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Decision:
    """One answer: truthy when allowed.

    allowed; limit: the capacity in tokens; remaining: whole tokens left; retry_after: seconds until the same cost would pass
    if nothing else happened, 0 when it passed; reset_after: seconds until the bucket is full; mode: how it was decided.
    """

    cdef readonly bint allowed
    cdef readonly int64_t cost
    cdef BucketCore _bucket
    cdef object _key
    cdef int64_t debt_ns, rest, wait_ns, given_back
    cdef uint32_t full_count, birth, slot
    cdef uint16_t origin
    cdef readonly object mode

    def __init__(self):
        raise TypeError("decisions come from a bucket")

    def __bool__(self):
        return self.allowed

    @property
    def key(self):
        return self._key

    @property
    def bucket(self):
        return self._bucket

    @property
    def limit(self):
        return self._bucket.t.definitions[self.slot].capacity

    @property
    def remaining(self):
        cdef int64_t left = tokens_left_ns(&self._bucket.t.definitions[self.slot], self.debt_ns, self.rest)
        return left if left > 0 else 0

    @property
    def retry_after(self):
        return self.wait_ns / 1e9

    @property
    def reset_after(self):
        return self.debt_ns / 1e9

    @property
    def retry_after_ns(self):
        return self.wait_ns

    @property
    def debt(self):
        """The confirmed debt in ns: the time until the bucket is full."""
        return self.debt_ns + (self.rest > 0)

    def __repr__(self):
        return (f"Decision(allowed={self.allowed}, limit={self.limit}, remaining={self.remaining}, "
                f"retry_after={self.retry_after:.6g}, reset_after={self.reset_after:.6g}, mode={str(self.mode)!r})")


cdef class BucketCore:
    """A bucket of a table: decisions on its keys. Safe to call from any thread."""

    cdef readonly Table table
    cdef readonly object spec
    cdef public object mode
    cdef table_t *t
    cdef definition_t *d
    cdef uint32_t slot
    cdef uint64_t salt

    def __init__(self, Table table not None, spec, *, int64_t min_debt=0):
        self.table = table
        self.t = &table.t
        self.mode = Mode.EVENTUAL
        self.define(spec, min_debt=min_debt)

    def define(self, spec, *, int64_t min_debt=0):
        """Gives the bucket a new definition; tokens of debt are kept."""
        self.slot = self.table.define(spec, min_debt=min_debt)
        self.d = &self.t.definitions[self.slot]
        self.salt = self.d.name_hash
        self.spec = spec

    cdef inline int locate(self, object key, uint64_t *lo, uint64_t *hi) except -1:
        cdef const uint8_t *data = NULL
        cdef Py_ssize_t size = 0
        key_view(key, &data, &size)
        keyed_hash(self.t.h.hash_key, self.salt, data, size, lo, hi)
        return 0

    cdef inline int64_t cost_of(self, object cost) except -1:
        cdef int overflow
        cdef int64_t n
        if PyLong_CheckExact(cost):
            n = PyLong_AsLongLongAndOverflow(cost, &overflow)
            if 0 < n <= self.d.capacity:
                return n
        n = whole_tokens(cost, 1, MAX_COST, "cost")
        if n > self.d.capacity:
            raise CostExceedsCapacity(n, self.d.capacity)
        return n

    cdef inline Decision answer(self, object key, int64_t n, outcome_t *o):
        cdef Decision decision = Decision.__new__(Decision)
        decision._bucket = self
        decision._key = key
        decision.mode = self.mode
        decision.allowed = o.allowed
        decision.cost = n
        decision.debt_ns = o.debt_ns
        decision.rest = o.rest
        decision.wait_ns = 0 if o.allowed else o.wait_ns
        decision.given_back = 0
        decision.full_count = o.full_count
        decision.birth = o.birth
        decision.origin = o.origin
        decision.slot = self.slot
        return decision

    cdef int new_entry(self, uint64_t lo, uint64_t hi, int64_t n, int64_t now, uint32_t *e, outcome_t *o) except -2:
        """The rare half of a take: an entry is made or renewed. ALLOWED, or DENIED with the outcome filled in."""
        cdef uint32_t gone
        cdef int got
        self.table.enter()
        got = entry_for_take(self.t, self.d, self.slot, lo, hi, n, 1, now, e, &gone)
        self.table.leave()
        self.table.forget_name(gone)
        if got == ALLOWED:
            return ALLOWED
        memset(o, 0, sizeof(outcome_t))
        o.wait_ns = caution_wait(self.t, self.d, n, now)
        if o.wait_ns > 0:
            return DENIED
        if self.d.allow_when_full:
            o.allowed = 1
        else:
            o.wait_ns = self.t.h.grace_ns
        return DENIED

    cdef inline void note_name(self, uint32_t e, object key):
        if not self.t.hot[e].flags & ENTRY_NAMED:
            atomic_or(&self.t.hot[e].flags, ENTRY_NAMED)
            if len(self.table.names) < self.table.max_names:
                self.table.names[e] = (self.spec.name, key)

    cdef inline int decide(self, object key, uint64_t lo, uint64_t hi, int64_t n, int64_t now, outcome_t *o) except -2:
        cdef uint32_t e = table_find(self.t, lo, hi)
        if e == <uint32_t>NONE or not entry_current(self.t, e, self.slot):
            if self.new_entry(lo, hi, n, now, &e, o) == DENIED:
                return o.allowed
        take(self.t, self.d, e, n, now, o)
        self.note_name(e, key)
        return o.allowed

    cdef inline void count(self, int allowed, int64_t n):
        if allowed:
            self.d.allowed += 1
            self.d.granted += n
        else:
            self.d.denied += 1
        self.wake()

    cdef inline void wake(self):
        if self.t.h.flush_wanted == 1 and self.table.on_wake is not None:
            self.t.h.flush_wanted = 2
            self.table.on_wake()

    def take(self, object key, object cost=1):
        """Takes `cost` tokens (1 to the capacity) of `key` (str or bytes, 1 to 512 bytes; a str is its UTF-8). In process,
        no I/O. Returns a Decision. Raises InvalidKey, InvalidCost, CostExceedsCapacity."""
        cdef uint64_t lo = 0, hi = 0
        cdef outcome_t o
        cdef int64_t n = self.cost_of(cost)
        if self.table.refusal is not None:
            raise self.table.refusal
        self.locate(key, &lo, &hi)
        prefetch_slot(self.t, hi)
        self.decide(key, lo, hi, n, clock_ns(self.t), &o)
        self.count(o.allowed, n)
        return self.answer(key, n, &o)

    def peek(self, object key, object cost=1):
        """The Decision that a take would get now; nothing changes."""
        cdef uint64_t lo = 0, hi = 0
        cdef outcome_t o
        cdef int64_t n = self.cost_of(cost), now = clock_ns(self.t)
        cdef uint32_t e
        if self.table.refusal is not None:
            raise self.table.refusal
        self.locate(key, &lo, &hi)
        e = table_find(self.t, lo, hi)
        if e != <uint32_t>NONE and self.t.hot[e].bucket != self.slot:
            self.table.enter()
            entry_renew(self.t, e, self.slot, now)
            self.table.leave()
        peek(self.t, self.d, e, n, now, &o)
        return self.answer(key, n, &o)

    def refund(self, Decision decision not None, object tokens=None):
        """Gives back `tokens` (default: all that is left) of an allowed decision of this bucket. Returns the tokens that came
        back: 0 when the bucket has been full or forgiven since (they were back already), or the key or epoch is gone.
        Raises InvalidCost when more would come back than was taken."""
        cdef int64_t n, left = decision.cost - decision.given_back, now = clock_ns(self.t)
        cdef uint64_t lo = 0, hi = 0
        cdef uint32_t e
        if decision._bucket is not self:
            raise InvalidCost(f"the decision is of bucket {decision._bucket.spec.name!r}, not of {self.spec.name!r}")
        if not decision.allowed:
            raise InvalidCost("a denied decision took nothing that could be refunded")
        if tokens is None and not left:
            return 0
        n = left if tokens is None else whole_tokens(tokens, 1, MAX_COST, "refund")
        if n > left:
            raise InvalidCost(f"refund of {n} tokens, but only {left} of the {decision.cost} taken are left to give back")
        decision.given_back += n
        self.locate(decision._key, &lo, &hi)
        e = table_find(self.t, lo, hi)
        if e == <uint32_t>NONE or not still_charged(self.t, e, decision.birth, decision.origin, self.slot):
            return 0
        self.table.enter()
        # full meanwhile: the advance inside settles it
        n = refund_if_charged(self.t, self.d, e, decision.full_count, n, now)
        self.table.leave()
        self.d.refunded += n
        return n

    def settle(self, object key, object tokens):
        """Charges `tokens` (1 to 2^62) to `key` whatever its level: the true cost of something already served. May go into
        debt, down to `max_debt` below empty; what would go beyond is forgiven. Returns the tokens charged."""
        cdef uint64_t lo = 0, hi = 0
        cdef int64_t n = whole_tokens(tokens, 1, MAX_SETTLE, "settle"), now = clock_ns(self.t), charged
        cdef uint32_t e
        cdef outcome_t o
        if self.table.refusal is not None:
            raise self.table.refusal
        self.locate(key, &lo, &hi)
        e = table_find(self.t, lo, hi)
        if e == <uint32_t>NONE or not entry_current(self.t, e, self.slot):
            if self.new_entry(lo, hi, 1, now, &e, &o) == DENIED:
                return 0
        charged = settle(self.t, self.d, e, n, now)
        self.note_name(e, key)
        self.d.granted += charged
        self.wake()
        return charged

    def take_burst(self, object key, int64_t calls, object cost=1):
        """`calls` takes of `cost` at one moment, in one call: returns how many were allowed."""
        cdef uint64_t lo = 0, hi = 0
        cdef outcome_t o
        cdef int64_t n = self.cost_of(cost), now = clock_ns(self.t), i, allowed = 0
        if self.table.refusal is not None:
            raise self.table.refusal
        self.locate(key, &lo, &hi)
        for i in range(calls):
            if self.decide(key, lo, hi, n, now, &o):
                allowed += 1
            self.count(o.allowed, n)
        return allowed

    def take_many(self, keys, costs=1):
        """A take of each key, in order, at one moment: `costs` is one cost or a sequence of as many. All arguments are checked
        before anything is taken. Returns `Decisions` of arrays."""
        if self.table.refusal is not None:
            raise self.table.refusal
        if isinstance(keys, (str, bytes)):
            raise InvalidKey(f"keys is one key, {keys!r}: pass a sequence of keys")
        keys = tuple(keys)
        cdef Py_ssize_t count = len(keys), i
        cdef bint single = not hasattr(costs, "__iter__")
        if not single:
            costs = tuple(costs)
            if len(costs) != count:
                raise InvalidCost(f"{len(costs)} costs for {count} keys")
        cdef array allowed = clone(_BYTES, count, False), remaining = clone(_INTS, count, False)
        cdef array retry = clone(_FLOATS, count, False)
        if not count:
            return Decisions(allowed, remaining, retry)
        cdef take_item_t *items = <take_item_t *>PyMem_Malloc(count * sizeof(take_item_t))
        if not items:
            raise MemoryError
        cdef many_t m
        cdef int64_t one = self.cost_of(costs) if single else 0
        try:
            for i in range(count):
                key_view(<object>PyTuple_GET_ITEM(keys, i), &items[i].data, &items[i].size)
                items[i].cost = one
            if not single:
                for i in range(count):
                    items[i].cost = self.cost_of(costs[i])
            m.t, m.d, m.slot, m.salt = self.t, self.d, self.slot, self.salt
            m.items, m.count, m.now = items, count, clock_ns(self.t)
            m.allowed, m.remaining, m.retry = allowed.data.as_schars, <int64_t *>remaining.data.as_longlongs, retry.data.as_doubles
            m.allowed_sum = m.denied_sum = m.granted = m.at = m.hashed = 0
            while m.at < count:
                m.alone = 0
                with nogil:
                    pthread_mutex_lock(&self.table.lock)
                    take_items(&m)
                    pthread_mutex_unlock(&self.table.lock)
                if m.alone:
                    self.take_item(keys[m.at], &m)
            for i in range(count):
                if m.items[i].unnamed and many_holds(&m, &m.items[i]):
                    self.note_name(m.items[i].entry, keys[i])
        finally:
            PyMem_Free(items)
        self.d.allowed += m.allowed_sum
        self.d.denied += m.denied_sum
        self.d.granted += m.granted
        self.wake()
        return Decisions(allowed, remaining, retry)

    cdef int take_item(self, object key, many_t *m) except -1:
        cdef outcome_t o
        cdef take_item_t *item = &m.items[m.at]
        memset(&o, 0, sizeof(o))
        self.decide(key, item.lo, item.hi, item.cost, m.now, &o)
        item.unnamed = 0
        many_store(m, &o)
        return 0

    def columns(self, object key):
        """What is counted for the key: {(node id, epoch): (birth, taken, refunded)}."""
        cdef uint64_t lo = 0, hi = 0
        cdef column_t c
        cdef uint32_t e, origin
        self.locate(key, &lo, &hi)
        e = table_find(self.t, lo, hi)
        out = {}
        if e == <uint32_t>NONE:
            return out
        cdef hot_t *hot = &self.t.hot[e]
        refunded = own_refunded(self.t, e)
        if hot.net + refunded:
            out[(self.t.origins[hot.origin].node, self.t.origins[hot.origin].epoch)] = (hot.birth, hot.net + refunded, refunded)
        memset(&c, 0, sizeof(c))
        while column_next(self.t, e, &c):
            origin = column_origin(&c)
            if origin == hot.origin or not column_taken(&c):
                continue
            out[(self.t.origins[origin].node, self.t.origins[origin].epoch)] = (
                column_birth(&c), column_taken(&c), column_refunded(&c))
        return out

    def debt(self, object key):
        """The signed debt of a key in ns, as held (not advanced); None when it has no entry. For tests and diagnosis."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        cdef uint32_t e = table_find(self.t, lo, hi)
        return None if e == <uint32_t>NONE else signed_debt_ns(self.t, e, clock_ns(self.t))

    def credit(self, object key):
        """Tokens that are kept free now for what silent peers may be taking of the key."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        cdef uint32_t e = table_find(self.t, lo, hi)
        return 0.0 if e == <uint32_t>NONE else far_tokens(self.t, e, clock_ns(self.t))

    def hash(self, object key):
        """The keyed hash of a key in this bucket, (low, high) 64 bits each."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        return lo, hi

    def counters(self):
        """Since the definition was made: a dict of integers (decisions, and tokens granted, refunded, forgiven)."""
        cdef definition_t *d = self.d
        return {"allowed": d.allowed, "denied": d.denied, "granted": d.granted, "refunded": d.refunded,
                "forgiven": d.forgiven, "refused_full": d.refused_full, "keys": d.entries}
