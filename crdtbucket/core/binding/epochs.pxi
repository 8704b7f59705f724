# The epochs under which takes count, from the first take to the tombstone.


@cython.final
cdef class TableEpochs:
    """The epochs of all nodes whose columns are in the table, each with its number (origin id), and
    the running epoch of this node."""

    cdef _Memory memory
    cdef table_t *t

    def __cinit__(self, _Memory memory not None):
        self.memory, self.t = memory, &memory.t

    cdef begin(self, epoch):
        """Begins to use a table that nobody else uses: takes count under a new epoch, and nothing
        is known of the peers but their columns."""
        cdef uint32_t i
        self.memory.enter()
        for i in range(1, MAX_NODES):
            if self.t.nodes[i].known_by:
                forget_node(self.t, i, clock_ns(self.t))
            memset(&self.t.nodes[i], 0, sizeof(node_t))
        self.t.h.warming_up_until = -(1 << 63)
        self.t.h.members = 1
        self.t.h.open_tokens = 0
        self.t.h.handoff = self.t.h.refused = 0
        self.t.h.view_bytes[0] = self.t.h.view_bytes[1] = 0
        drop_unknown_epochs(self.t)
        self.memory.leave()
        self.t.h.spare_epoch = int.from_bytes(os.urandom(8), "little") | 1
        self.open(epoch)

    @property
    def running(self):
        """The running epoch of this node, under which takes are counted."""
        return self.t.origins[self.t.h.own_origin].epoch

    def open(self, uint64_t epoch):
        """Opens an epoch: takes are counted under `epoch` (64 bits, not 0, never used before) from
        now on. Older counts stay. Raises CrdtbucketError when too many epochs are remembered."""
        cdef int done
        self.t.h.spare_epoch = epoch
        self.memory.enter()
        done = open_epoch(self.t)
        self.memory.leave()
        if not done:
            raise CrdtbucketError("too many epochs are remembered")

    def spare(self, uint64_t epoch):
        """Sets the epoch that is opened when a peer has larger counts of the running one than this
        node."""
        self.t.h.spare_epoch = epoch

    def origin(self, uint32_t node, uint64_t epoch):
        """The origin id of an epoch of `node`, which is added when it is new. Raises WireError when
        the epoch is another node's, or when there is no room for one more."""
        check_node(node)
        self.memory.enter()
        cdef uint32_t found = origin_find(self.t, epoch)
        if not found:
            found = origin_add(self.t, node, epoch)
        self.memory.leave()
        if not found:
            raise WireError("more epochs than can be told apart")
        if self.t.origins[found].node != node:
            raise WireError("two nodes are named as the owner of one epoch")
        return found

    @property
    def released(self):
        """How many origin ids were released: their numbers may mean other epochs by now."""
        return self.t.h.released

    @property
    def origins_version(self):
        """A number that changes whenever the epochs without a tombstone change."""
        return self.t.h.origins_changed

    def origins(self):
        """(origin id, node, epoch, whether it has a tombstone) of each epoch."""
        cdef uint32_t i
        return [
            (i, self.t.origins[i].node, self.t.origins[i].epoch, bool(self.t.origins[i].tombstone))
            for i in range(1, MAX_ORIGINS)
            if self.t.origins[i].used
        ]

    def owing(self, int64_t place):
        """Looks at the entries from `place` on, as many as may be looked at in one go. Returns
        {epoch: the longest time (ns) in which a bucket that has a column of the epoch, and owes,
        fills from its ceiling of debt}, and the next place, -1 at the end. O(entries looked at)."""
        cdef int64_t longest[MAX_ORIGINS]
        cdef uint32_t i
        memset(longest, 0, sizeof(longest))
        place = max(0, place)
        self.memory.enter()
        columns_that_owe(self.t, place, SLICE, clock_ns(self.t), longest)
        self.memory.leave()
        found = {
            self.t.origins[i].epoch: longest[i]
            for i in range(1, MAX_ORIGINS)
            if longest[i] and self.t.origins[i].used
        }
        place += SLICE
        return found, place if place < self.t.h.bump else -1

    def add_tombstones(self, epochs):
        """Gives these dead epochs a tombstone: their columns count no more here, since every live
        peer knows their final counts. Levels do not move. Returns those of the epochs that have a
        tombstone now: not unknown ones, and not the running one. Their columns are removed by
        `prune`."""
        cdef uint32_t origin
        marked = []
        for epoch in epochs:
            origin = origin_find(self.t, epoch)
            if not origin or origin == self.t.h.own_origin:
                continue
            if not self.t.origins[origin].tombstone:
                self.memory.enter()
                self.t.origins[origin].tombstone = TOMBSTONE_NEW
                # else a peer that has released it would get it announced again, as a new one
                self.t.h.origins_changed += 1
                self.memory.leave()
            marked.append(epoch)
        return marked

    def prune(self, int64_t start=0, int64_t most=1 << 62):
        """Removes the columns of epochs with a tombstone from at most `most` places, from `start`
        (0 or above) on. Returns the next place, or -1 when it has looked at all. An epoch that got
        its tombstone after place 0 was looked at waits for the next walk. An epoch of this node
        loses its tombstone when there is no memory to close a column of it."""
        if start < 0:
            raise CrdtbucketError(f"places begin with 0, not {start}")
        self.memory.enter()
        start = prune_some(self.t, start, max(0, most))
        self.memory.leave()
        return start

    def remove_tombstone(self, uint64_t epoch):
        """Withdraws a tombstone, since the process that was taken for dead runs: columns of the
        epoch count again, as peers advertise them, and it is announced to the peers again."""
        cdef uint32_t origin = origin_find(self.t, epoch)
        if origin:
            origin_return(self.t, origin)

    def release(self, uint64_t epoch):
        """Forgets an epoch that has a tombstone, so that its id can be used again. Returns whether
        it has: not before `prune` has removed all its columns."""
        cdef uint32_t origin = origin_find(self.t, epoch)
        return bool(origin and origin_release(self.t, origin))
