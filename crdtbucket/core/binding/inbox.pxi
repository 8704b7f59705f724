# The inbox: what is received from peers, and what is restored from snapshots.

cdef inline void forget_name(dict names, uint32_t entry):
    if entry != <uint32_t>NONE:
        names.pop(entry, None)


@cython.final
cdef class TableInbox:
    """What is received: the entries of a peer's frames, which are merged, and those of a snapshot,
    which are restored."""

    cdef _Memory memory
    cdef table_t *t
    cdef TableEpochs epochs
    cdef dict names

    def __cinit__(self, _Memory memory not None, TableEpochs epochs not None, dict names not None):
        """`names`: the names of keys by their entries. An entry that is evicted loses its name."""
        self.memory, self.t, self.epochs, self.names = memory, &memory.t, epochs, names

    def merge(
        self,
        payload,
        definitions,
        origins,
        *,
        uint32_t node,
        uint64_t epoch,
        int64_t at,
        bint newer=True,
        answers_since=None,
        bint joining=False,
        bint woke=False,
        bint late=False,
        relays=None,
        bint memory=False,
        bint keeps_credit=False,
        silent=None,
        bint newcomer=False,
        bint reopen=True,
        int64_t start=0,
        int64_t most=1 << 62,
        int64_t crowded=0,
        int64_t room=0,
        int64_t most_room=0,
    ):
        """Merges the entries of a frame, and returns `Merged`. Raises WireError, and changes
        nothing, when any part of the frame is malformed.

        `definitions`: for each of the frame's (slot or -1, same, q, p), where `same` is 1 if it is
        the definition of the bucket here, 2 if that of its candidate, 3 if both. `origins`: the
        origin here at each of the sender's positions. `node` and `epoch`: the sender's. `at`: as
        in `set_last_seen`. `newer`: no later frame of the sender was seen, so its rates count.
        `answers_since`: when (local ns) its first frame came that it made after it was met, or
        seen again after a silence: a column of its own that it has not updated since then becomes
        what it states; None: it only rises. `joining`: the sender has no memory, so answer all
        entries that are held. `woke`: the sender stood still a moment ago. `late`: the frame was
        too long under way, so only columns that are held here rise. `relays`: a byte for each node
        number, not 0 when some peer is not connected to that node: its columns that rise are sent
        on. `memory`: the sender knows the debts of the mesh, which settles what is suspect here.
        `keeps_credit`: this node owes at least what the sender advertises, up to the capacity.
        `silent`: for each origin the ns for which the sender's debts include what it keeps for a
        peer that was silent before this process began. `newcomer`: the sender began after a peer
        fell silent here. `reopen`: where the sender has larger counts of the running epoch, a new
        one is opened; without it such entries are left out.

        The entries from `start` (0 or above) on are merged: at most `most`; fewer where these have
        8 * `most` columns; and no more once about `most_room` of them (0: any number) have looked
        for room in a full table. `crowded` and `room`: the sums of what earlier parts of the frame
        returned under these names."""
        cdef _Items mask = None if relays is None else items_of(relays, 1)
        cdef _Items kept = None if silent is None else items_of(silent, 8)
        cdef int64_t now = clock_ns(self.t), end, i, done
        cdef merge_context_t m
        cdef merge_out_t out
        cdef _Entries f
        cdef _Scratch places
        if mask is not None and mask.count != MAX_NODES:
            raise CrdtbucketError(
                f"{MAX_NODES} bytes say which nodes are relayed, not {mask.count}"
            )
        if kept is not None and kept.count != MAX_ORIGINS:
            raise CrdtbucketError(
                f"{MAX_ORIGINS} times say for whom credit is kept, not {kept.count}"
            )
        if start < 0:
            raise CrdtbucketError(f"entries begin with 0, not {start}")
        memset(&out, 0, sizeof(out))
        f = self.read_entries(payload, definitions, origins)
        places = scratch(3 * f.count * sizeof(uint32_t))
        out.answers = <uint32_t *>places.at
        out.touched, out.gone = out.answers + f.count, out.answers + 2 * f.count
        end = part_end(f, start, most)
        memset(&m, 0, sizeof(m))
        m.source, m.at, m.newer, m.joining, m.late, m.memory = (
            node,
            at,
            newer,
            joining,
            late,
            memory,
        )
        m.keeps_credit, m.newcomer, m.reopen, m.woke = keeps_credit, newcomer, reopen, woke
        m.last_word = answers_since is not None
        m.answers_since = 0 if answers_since is None else answers_since
        m.crowded, m.room, m.most_room = crowded, room, max(0, most_room)
        m.tables = &f.tables
        m.source_origin = self.epochs.origin(node, epoch)
        m.relays = <const uint8_t *>mask.view.buf if mask is not None else NULL
        m.silent = <const int64_t *>kept.view.buf if kept is not None else NULL
        for i in range(start, end, SLICE):
            if i > start:
                self.memory.pause()
            self.memory.enter()
            wire_definitions_follow(self.t, f.definitions, f.tables.definitions)
            done = merge_entries(
                self.t, f.entries + i, min(end - i, SLICE), f.definitions, &m, now, &out
            )
            self.memory.leave()
            if done < min(end - i, SLICE):
                end = i + done
                break
        mixed = mixed_in(f.definitions, f.tables.definitions, f.entries, start, end)
        for i in range(out.r.gone_count):
            forget_name(self.names, out.gone[i])
        if out.r.newly_rated:
            refresh_far(self.t)
        return Merged(
            out.r.merged,
            out.r.ignored,
            out.r.unknown_bucket,
            out.r.refused_columns,
            out.r.capped_columns,
            out.r.dropped_full,
            out.r.gained,
            bool(out.r.duplicate_epoch),
            out.r.own_behind,
            out.r.lowered,
            out.r.adopted,
            out.r.crowded,
            out.r.ahead,
            out.r.of_silent,
            out.r.rates_cut,
            uints(out.answers, out.r.answer_count),
            uints(out.touched, out.r.touched_count),
            mixed,
            out.r.gone_count,
            end if end < f.count else -1,
        )

    cdef _Entries read_entries(self, payload, definitions, origins):
        """Reads the entries of a frame, and the definitions that they name. Raises WireError for
        malformed ones."""
        cdef _Entries f = _Entries.__new__(_Entries)
        cdef int64_t most
        f.payload = items_of(payload, 1)
        f.origins = self.origins_of(origins, &f.tables)
        most = f.payload.count // ENTRY_MIN_BYTES + 1
        f.tables.definitions = len(definitions)
        f.definition = scratch(f.tables.definitions * sizeof(wire_definition_t))
        f.entry = scratch(most * sizeof(wire_entry_t))
        f.column = scratch((f.payload.count // COLUMN_MIN_BYTES + 1) * sizeof(wire_column_t))
        f.definitions, f.entries = <wire_definition_t *>f.definition.at, <wire_entry_t *>f.entry.at
        self.read_definitions(definitions, f.definitions)
        f.count = parse_entries(
            <const uint8_t *>f.payload.view.buf,
            f.payload.count,
            &f.tables,
            f.entries,
            most,
            <wire_column_t *>f.column.at,
        )
        if f.count < 0:
            raise WireError("malformed entries")
        return f

    cdef read_definitions(self, definitions, wire_definition_t *wd):
        """Fills in what the definitions of a frame mean here; `definitions` as in `merge`."""
        cdef uint32_t i = 0
        for slot, same, q, p in definitions:
            if slot >= self.t.h.definitions:
                raise CrdtbucketError(f"no definition {slot}")
            if not (0 < q < 1 << 63 and 0 < p < 1 << 63):
                raise CrdtbucketError(f"{q}/{p} ns a token is no rate")
            wd[i].bucket = <uint32_t>NONE if slot < 0 else <uint32_t>slot
            wd[i].same = same & 1
            wd[i].q, wd[i].p = q, p
            wd[i].candidate_same = same >> 1 & 1
            wd[i].candidate = (
                <uint32_t>NONE if slot < 0 else self.t.definitions[<uint32_t>slot].candidate
            )
            wd[i].candidate_below = 0
            i += 1

    cdef _Items origins_of(self, origins, wire_tables_t *tables):
        """The origin here at each of the sender's positions; `tables` gets them, too. Raises
        CrdtbucketError for one that is not in use."""
        cdef _Items given = items_of(origins, sizeof(uint16_t))
        cdef const uint16_t *origin = <const uint16_t *>given.view.buf
        cdef Py_ssize_t i
        for i in range(given.count):
            if origin[i] >= MAX_ORIGINS or (origin[i] and not self.t.origins[origin[i]].used):
                raise CrdtbucketError(f"no origin {origin[i]}")
        tables.origins, tables.origin = given.count, origin
        return given

    def check(self, payload, definitions, origins):
        """Raises WireError for entries that `merge` or `restore` would refuse as malformed. Changes
        nothing."""
        self.read_entries(payload, definitions, origins)

    def settle_suspects(self, bint cancelled, int64_t start=0, int64_t most=1 << 62):
        """Ends that keys which were restored from a snapshot of unknown age are suspect: their
        debts stand from now on and are sent to all peers; with `cancelled` they are dropped, except
        for what was taken under this epoch. Looks at `most` places from `start` (0 or above) on.
        Returns how many such keys there were, and the next place or -1 at the end. No take waits
        longer than for a slice of them."""
        cdef int64_t settled = 0, place, now = clock_ns(self.t), end = self.t.h.bump
        if start < 0:
            raise CrdtbucketError(f"places begin with 0, not {start}")
        if most < end - start:
            end = start + max(0, most)
        for place in range(start, end, SLICE):
            if place > start:
                self.memory.pause()
            self.memory.enter()
            settled += settle_suspects(self.t, place, min(end - place, SLICE), cancelled, now)
            self.memory.leave()
        return settled, end if end < self.t.h.bump else -1

    @property
    def suspects(self):
        """How many keys are suspect: they were restored from a snapshot of unknown age, and no peer
        with memory has sent their debts."""
        cdef int64_t i, count = 0
        for i in range(self.t.h.bump):
            count += (self.t.hot[i].flags & (ENTRY_USED | ENTRY_SUSPECT)) == (
                ENTRY_USED | ENTRY_SUSPECT
            )
        return count

    def restore(self, payload, definitions, origins, *, age=0):
        """Restores the entries of a snapshot that `encode_table` has written, and that is `age` ns
        old: their debts have fallen since, and what is full by now is left out. With an `age` of
        None it is not known how old they are, and they become suspect. Entries that are held
        already stay as they are. Returns how many were restored."""
        cdef int64_t since = -1 if age is None else min(max(0, age), (1 << 62) - 1)
        cdef int64_t i, first, done = 0, now = clock_ns(self.t)
        cdef _Entries f = self.read_entries(payload, definitions, origins)
        for i in range(f.origins.count):
            if f.tables.origin[i] == self.t.h.own_origin:
                raise CrdtbucketError(
                    "a snapshot of the running epoch cannot be restored: open another epoch"
                )
        for first in range(0, f.count, SLICE):
            if first:
                self.memory.pause()
            self.memory.enter()
            wire_definitions_follow(self.t, f.definitions, f.tables.definitions)
            for i in range(first, min(first + SLICE, f.count)):
                done += restore_entry(
                    self.t, &f.entries[i], f.definitions + f.entries[i].definition, since, now
                )
            self.memory.leave()
        return done
