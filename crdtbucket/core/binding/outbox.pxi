# What is to be sent.

COLLECT_CHUNK = 65_536  # some 3 ms
cdef enum: ENCODED_PLACES = 131_072  # some 2 ms where nothing is owed


cdef _Items places_of(positions):
    """The place of each origin in the announced table."""
    cdef _Items given = items_of(positions, sizeof(uint16_t))
    cdef const uint16_t *place = <const uint16_t *>given.view.buf
    cdef Py_ssize_t i
    if given.count != MAX_ORIGINS:
        raise CrdtbucketError(f"positions must have {MAX_ORIGINS} items")
    for i in range(MAX_ORIGINS):
        if MAX_ORIGINS <= place[i] < 0xffff:
            raise CrdtbucketError(f"positions are below {MAX_ORIGINS}, not {place[i]}")
    return given


@cython.final
cdef class TableOutbox:
    """The keys that were attempted in the order of their versions, and how entries are encoded and
    compared with those of a peer."""

    cdef _Memory memory
    cdef table_t *t
    cdef TableEpochs epochs

    def __cinit__(self, _Memory memory not None, TableEpochs epochs not None):
        self.memory, self.t, self.epochs = memory, &memory.t, epochs

    @property
    def version(self):
        """The newest version in the log."""
        return self.t.h.version

    @property
    def flush_wanted(self):
        """Whether some key has taken so much that it should not wait for the round."""
        return bool(self.t.h.flush_wanted)

    def collect(self, bint flush=False):
        """Gives versions and rates to the keys attempted since the last round (with `flush` to
        those that asked for an early flush). Returns how many."""
        cdef int64_t count = 0, place = 0, some
        if not flush:
            while place >= 0:
                some, place = self.collect_some(place)
                count += some
            return count
        cdef int64_t now = clock_ns(self.t)
        self.memory.enter()
        count = collect_flush(self.t, now)
        self.memory.leave()
        return count

    def collect_some(self, int64_t place, int64_t most=COLLECT_CHUNK):
        """A part of a round's `collect`, of about `most` keys, from `place` on, 0 at first: (how
        many were, where to continue or -1 at the end). No take waits longer than for such a
        part."""
        cdef int64_t count = 0, now = clock_ns(self.t)
        if place < 0 or place % 64:
            raise CrdtbucketError(f"no round continues from {place}")
        while place >= 0 and count < most:
            self.memory.enter()
            count += collect_round(self.t, &place, min(most - count, SLICE), now)
            self.memory.leave()
            self.memory.pause()
        if self.t.h.generations > 0xf0000000u:
            self.epochs.open(self.t.h.spare_epoch)
        return count, place

    def touch(self, entries):
        """Makes entries dirty for every link, as an attempt does (relaying)."""
        cdef array places = array("I", entries)
        cdef uint32_t e
        for e in places:
            if e >= self.t.h.bump:
                raise CrdtbucketError(f"no entry {e}")
        self.memory.enter()
        for e in places:
            if self.t.hot[e].flags & ENTRY_USED:
                log_append(self.t, e)
        self.memory.leave()

    def trim(self, uint64_t version, int64_t most=1 << 62):
        """Every link that counts has acknowledged up to `version`. Takes at most the `most` oldest
        items out of the log."""
        self.memory.enter()
        log_trim(self.t, version, max(0, most))
        self.memory.leave()

    def encode_log(self, uint64_t after, uint64_t upto, positions, size_t size):
        """Entries with a version above `after`, at most `upto`, in at most `size` bytes: (bytes,
        last version covered, entries). `positions[origin]` is its place in the announced table,
        0xffff for none."""
        cdef int64_t count = 0, now = clock_ns(self.t)
        cdef size_t used
        cdef _Items places = places_of(positions)
        cdef _Scratch out = scratch(size)
        with nogil:
            table_lock(self.t)
            used = encode_log(
                self.t,
                &after,
                upto,
                <const uint16_t *>places.view.buf,
                now,
                <uint8_t *>out.at,
                size,
                &count,
            )
            table_unlock(self.t)
        return PyBytes_FromStringAndSize(<char *>out.at, used), after, count

    def encode_entries(self, entries, int64_t start, positions, size_t size):
        """The given entries from position `start` on, in at most `size` bytes: (bytes, next
        position, entries)."""
        cdef _Items given = items_of(entries, sizeof(uint32_t))
        return self._encode(
            <const uint32_t *>given.view.buf if given.count else NULL,
            start,
            given.count,
            positions,
            size,
            False,
        )

    def encode_table(self, int64_t start, positions, size_t size, bint full=False):
        """The indebted entries from place `start` on, with `full` the full ones too, of at most
        ENCODED_PLACES places: (bytes, next place or -1 at the end, entries)."""
        cdef int64_t end = self.t.h.bump
        data, place, count = self._encode(
            NULL,
            start,
            end if end - start < ENCODED_PLACES else start + ENCODED_PLACES,
            positions,
            size,
            full,
        )
        return data, -1 if place >= end else place, count

    cdef _encode(
        self, const uint32_t *entries, int64_t start, int64_t end, positions, size_t size, bint full
    ):
        cdef int64_t count = 0, now = clock_ns(self.t), i
        cdef size_t used = 0
        cdef _Items places = places_of(positions)
        if start < 0:
            raise CrdtbucketError(f"positions start at 0, not {start}")
        if entries:
            for i in range(start, end):
                if entries[i] >= self.t.h.bump:
                    raise CrdtbucketError(f"no entry {entries[i]}")
        cdef _Scratch out = scratch(size)
        if start < end:
            with nogil:
                table_lock(self.t)
                used = encode_entries(
                    self.t,
                    entries,
                    &start,
                    end,
                    <const uint16_t *>places.view.buf,
                    full,
                    now,
                    <uint8_t *>out.at,
                    size,
                    &count,
                )
                table_unlock(self.t)
        return PyBytes_FromStringAndSize(<char *>out.at, used), start, count

    def digest(
        self,
        uint64_t first,
        uint64_t last,
        int64_t most=INT64_MAX,
        bint all_entries=False,
        int64_t looks=INT64_MAX,
    ):
        """Of indebted quiet entries (with `all_entries` of all) whose hash (high half) is in
        [first, last]: (entries, sum of fingerprints, sum of debts in ns, where to continue or 0),
        at most about `most`, and at most about `looks` are looked at."""
        cdef uint64_t total = 0, debt = 0, following = 0
        cdef int64_t count, now = clock_ns(self.t)
        with nogil:
            table_lock(self.t)
            count = digest_range(
                self.t, first, last, most, looks, now, all_entries, NULL, &total, &debt, &following
            )
            table_unlock(self.t)
        return count, total, debt, following

    def digest_items(
        self,
        uint64_t first,
        uint64_t last,
        int64_t most,
        bint all_entries=False,
        int64_t looks=INT64_MAX,
    ):
        """The entries of such a range, 32 bytes each: hash (16), fingerprint, debt in ns
        (little-endian)."""
        cdef uint64_t total = 0, debt = 0, following = 0
        cdef int64_t count, now = clock_ns(self.t)
        most = max(0, min(most, self.t.h.max_keys))
        cdef _Scratch items = scratch((most + DIGEST_SLACK) * sizeof(digest_item_t))
        self.memory.enter()
        count = digest_range(
            self.t,
            first,
            last,
            most,
            looks,
            now,
            all_entries,
            <digest_item_t *>items.at,
            &total,
            &debt,
            &following,
        )
        self.memory.leave()
        return PyBytes_FromStringAndSize(
            <char *>items.at, min(count, most + DIGEST_SLACK) * sizeof(digest_item_t)
        )
