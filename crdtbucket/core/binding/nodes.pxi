# The nodes of the mesh.


cdef int check_node(uint32_t node) except -1:
    if node >= MAX_NODES:
        raise CrdtbucketError(f"node ids are below {MAX_NODES}, not {node}")
    return 0


cdef void refresh_flush(table_t *t) noexcept:
    """Computes, for each definition, how many tokens of a key ask for an early message: that
    depends on the number of members."""
    cdef uint32_t i
    for i in range(t.h.definitions):
        t.definitions[i].flush_tokens = max(
            1, t.definitions[i].capacity // (20 * max(1, t.h.members))
        )


@cython.final
cdef class TableNodes:
    """The nodes of the mesh by their numbers, 0 for this one: their names, when each was last seen,
    and whether their takes are predicted."""

    cdef _Memory memory
    cdef table_t *t
    cdef TableEpochs epochs

    def __cinit__(self, _Memory memory not None, TableEpochs epochs not None):
        self.memory, self.t, self.epochs = memory, &memory.t, epochs

    def node_names(self):
        """{number of a node: its name}, whichever process gave the name."""
        cdef uint32_t i
        return {
            i: PyBytes_FromStringAndSize(
                <const char *>self.t.names[i].text, self.t.names[i].bytes
            ).decode()
            for i in range(self.t.h.named)
            if self.t.names[i].bytes
        }

    def name_node(self, uint32_t node, str name not None):
        """Gives a number that has no name the name of a node, before the first epoch of that node
        is added to the table. "" takes the name back, when no epoch needs it any more. Raises
        CrdtbucketError when there is no memory for it, or the number is another node's."""
        check_node(node)
        cdef bytes text = name.encode()
        cdef node_name_t *at = &self.t.names[node]
        if len(text) > NAME_BYTES:
            raise CrdtbucketError(f"a node's name has at most {NAME_BYTES} bytes, not {len(text)}")
        if node >= self.t.h.named:
            if not text:
                return
            if not back(
                self.t,
                &self.t.names[self.t.h.named],
                (node + 1 - self.t.h.named) * sizeof(node_name_t),
            ):
                raise CrdtbucketError(
                    "no memory for the name of one more node: the file system is full"
                )
            memset(
                &self.t.names[self.t.h.named], 0, (node + 1 - self.t.h.named) * sizeof(node_name_t)
            )
            self.t.h.named = node + 1
        if text and at.bytes:
            raise CrdtbucketError(f"node {node} has a name already")
        if text:
            self.t.nodes[node].last_seen = 0  # of the node that had the number before
            memcpy(at.text, PyBytes_AS_STRING(text), len(text))
        set_name_bytes(at, len(text))

    def set_node(self, uint32_t node, uint64_t epoch, bint connected, began=None):
        """Records a member with its running epoch, and whether it is connected here directly.
        `began`: when that process and this one began (local ns, both). A member that is met for the
        first time, or again after it was forgotten, counts as silent since both processes ran, or
        since it was last seen if that is later. Returns its origin id."""
        cdef uint32_t origin = self.epochs.origin(node, epoch)
        cdef node_t *n = &self.t.nodes[node]
        cdef bint changed = not n.known_by or n.connected != connected
        cdef int64_t now = clock_ns(self.t)
        if not n.known_by:
            n.last_seen = now if began is None else min(now, max(n.last_seen, *began))
            n.unmet = began is not None and began[0] + self.t.h.near_ns < n.last_seen
        n.known_by, n.unproven = BY_LINK, 0
        n.origin = <uint16_t>origin
        n.connected = connected
        if changed:  # a process that was killed may have stored `last_seen` without this
            refresh_far(self.t)
        return origin

    def set_disconnected(self, uint32_t node):
        """Records that a member is not connected here directly any more. This needs no origin, so
        there is always room for it."""
        check_node(node)
        self.t.nodes[node].connected = 0

    def set_relayed(self, uint32_t node, uint64_t epoch, int64_t at):
        """Records a member without a link here. A relay has passed on all that it took up to the
        time `at` (local ns). Of a member that is known by a link, only that time is recorded."""
        cdef uint32_t origin = self.epochs.origin(node, epoch)
        cdef node_t *n = &self.t.nodes[node]
        if n.known_by != BY_LINK and node:
            if not n.known_by:
                n.last_seen, n.unproven = at, 1
            n.known_by = BY_RELAYS
            n.origin = <uint16_t>origin if at >= n.last_seen else n.origin
        self.set_last_seen(node, at)

    def count_relayed(self, uint32_t node, bint yes):
        """Sets whether a member that relays alone see is counted among those who divide the
        guaranteed shares. At first it is not."""
        check_node(node)
        self.t.nodes[node].unproven = self.t.nodes[node].known_by == BY_RELAYS and not yes

    def relayed_members(self):
        """(number, running epoch, last seen (local ns)) of the members that relays alone see. An
        epoch of 0: its number is another epoch's by now."""
        cdef uint32_t i
        cdef origin_t *o
        cdef list found = []
        for i in range(1, MAX_NODES):
            if self.t.nodes[i].known_by == BY_RELAYS:
                o = &self.t.origins[self.t.nodes[i].origin]
                found.append(
                    (i, o.epoch if o.used and o.node == i else 0, self.t.nodes[i].last_seen)
                )
        return found

    def set_last_seen(self, uint32_t node, int64_t at):
        """Records that a complete round of `node` shows what it had taken up to the time `at`
        (local ns): receipt less the age of the frame."""
        check_node(node)
        set_last_seen(self.t, &self.t.nodes[node], at)

    def relay(self, uint32_t node, bint yes):
        """Sets whether the rates of `node` are relayed with entries that are sent, since some peer
        is not connected to it."""
        check_node(node)
        self.memory.enter()
        self.t.h.relayed += yes - self.t.nodes[node].relayed
        self.t.nodes[node].relayed = yes
        self.memory.leave()

    def forget(self, uint32_t node, int64_t start=0, int64_t most=1 << 62):
        """Gives a node up: what is predicted of it becomes debt. Looks at `most` places from
        `start` (0 or above) on. Returns the next place, or -1 when it has looked at all."""
        check_node(node)
        if start < 0:
            raise CrdtbucketError(f"places begin with 0, not {start}")
        self.memory.enter()
        cdef int64_t place = forget_some(self.t, node, clock_ns(self.t), start, max(0, most))
        self.t.nodes[node].connected = 0
        if place < 0:
            self.t.nodes[node].known_by = 0
            refresh_far(self.t)
        self.memory.leave()
        return place

    def configure(
        self,
        *,
        members=None,
        warming_up_until=None,
        predict=None,
        trust_ns=None,
        near_ns=None,
        shared_bursts=None,
    ):
        """Sets what the mesh knows. `members`: live members, this node included;
        `warming_up_until`: until when (local ns) this node serves its share only; `predict`:
        whether takes of peers are predicted; `trust_ns`: up to which age of its newest update a
        silent peer is predicted; `near_ns`: from which age on, above 0, a peer counts as silent;
        `shared_bursts`: whether the sides of a partition share the capacity of a full bucket."""
        if members is not None:
            self.t.h.members = max(1, members)
            refresh_flush(self.t)
        if warming_up_until is not None:
            self.t.h.warming_up_since = clock_ns(self.t)
            self.t.h.warming_up_until = warming_up_until
        if predict is not None:
            self.t.h.predict = predict
        if trust_ns is not None:
            self.t.h.trust_ns = trust_ns
        if shared_bursts is not None:
            self.t.h.shared_bursts = shared_bursts
        if near_ns is not None:
            self.move_near(near_ns)

    def move_near(self, int64_t near_ns, int64_t start=0, int64_t most=1 << 62):
        """Sets `near_ns`, as `configure` does. A longer one is in force once all places have been
        looked at: at most `most` of them from `start` on, 0 at first. Returns the next place, or -1
        at the end."""
        if near_ns <= 0:
            raise CrdtbucketError(f"near_ns is {near_ns}: it must be above 0")
        if start < 0:
            raise CrdtbucketError(f"places begin with 0, not {start}")
        self.memory.enter()
        start = set_near(self.t, near_ns, start, max(0, most))
        self.memory.leave()
        return start

    @property
    def near_ns(self):
        """A peer counts as silent when its newest update is older than this (ns)."""
        return self.t.h.near_ns

    def silent_before(self, int64_t began, uint32_t node):
        """(node, for how long (ns) credit is kept for it) of each peer that has rates and was
        silent before a process of `node` began, at the local ns `began`."""
        cdef int64_t near = self.t.h.near_ns, now = clock_ns(self.t), i
        cdef list silent = []
        if now < self.t.h.far_free_until:
            return silent
        for i in range(1, MAX_NODES):
            if (
                i != node
                and self.t.nodes[i].known_by
                and self.t.nodes[i].rated
                and self.t.nodes[i].last_seen + near <= now
                and self.t.nodes[i].last_seen < began
            ):
                silent.append((i, now - near - self.t.nodes[i].last_seen))
        return silent

    @property
    def warming_up_until(self):
        return self.t.h.warming_up_until
