# The outbox: what is sent to peers.

COLLECT_CHUNK = 65_536  # some 3 ms
cdef enum: ENCODED_PLACES = 131_072  # some 2 ms where nothing is owed


cdef _Items places_of(positions):
    """By origin: its position in the announced table of epochs. Raises CrdtbucketError for a list
    that does not have one for each."""
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
    """What is sent: the log of the keys that were attempted, in the order of their versions;
    encoded entries; and digests, by which this node and a peer compare what they have."""

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
        """Whether calls took so much of some key that it should be sent before the next round."""
        return bool(self.t.h.flush_wanted)

    def collect(self, bint flush=False):
        """Computes the rates of the keys that were attempted since the last round, and gives each a
        new version, so that it is sent. With `flush` only those that asked for an early message.
        Returns how many."""
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
        """A part of a round's `collect`: about `most` keys, from `place` on, which is 0 at first.
        Returns how many keys there were, and where to continue, -1 at the end. No take waits longer
        than for a slice of it."""
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
        """Gives these entries new versions, so that they are sent over every link, as after an
        attempt. Relays use it."""
        cdef array places = array("I", entries)
        cdef const uint32_t *place = places.data.as_uints
        cdef Py_ssize_t count = len(places), i
        for i in range(count):
            if place[i] >= self.t.h.bump:
                raise CrdtbucketError(f"no entry {place[i]}")
        self.memory.enter()
        for i in range(count):
            if self.t.hot[place[i]].flags & ENTRY_USED:
                log_append(self.t, place[i])
        self.memory.leave()

    def trim(self, uint64_t version, int64_t most=1 << 62):
        """Takes items out of the log whose versions every link that counts has acknowledged: those
        up to `version`, at most the `most` oldest ones."""
        self.memory.enter()
        log_trim(self.t, version, max(0, most))
        self.memory.leave()

    def encode_log(self, uint64_t after, uint64_t upto, positions, size_t size):
        """Encodes the entries with versions above `after`, up to `upto`, in at most `size` bytes.
        Returns (bytes, last version covered, number of entries). `positions[origin]` is the
        position of an origin in the announced table, 0xffff for none."""
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
        """Encodes the given entries, from item `start` on, in at most `size` bytes. Returns (bytes,
        next item, number of entries)."""
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
        """Encodes the indebted entries, with `full` all entries, from place `start` on, in at most
        `size` bytes; it looks at ENCODED_PLACES places at most. Returns (bytes, next place or -1 at
        the end, number of entries)."""
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
        """Sums up the indebted quiet entries (see `is_quiet`; with `all_entries` all indebted ones)
        whose `hash_hi` lies in [first, last]. Returns (number of entries, sum of their
        fingerprints, sum of their debts in ns, the `hash_hi` to continue with or 0 at the end). It
        ends after about `most` such entries, or after about `looks` entries were looked at."""
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
        """The entries of such a range, with 32 bytes for each: hash (16 bytes), fingerprint, debt
        in ns (little-endian)."""
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
