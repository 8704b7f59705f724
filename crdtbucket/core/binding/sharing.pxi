# A table that several processes of a host use at once: its header, its processes, and the one that
# leads.


cdef bint first_bytes(data, void *into, Py_ssize_t size) except -1:
    """Copies the first `size` bytes of a buffer, which may have no alignment; False when there are
    fewer."""
    cdef _Items given = items_of(data, 1)
    if given.count < size:
        return False
    memcpy(into, given.view.buf, size)
    return True


def read_header(data):
    """What the first bytes of a file say of a table, as a dict; None when the file is no table, or
    was never finished."""
    cdef header_t h
    if not first_bytes(data, &h, sizeof(header_t)):
        return None
    if h.magic != TABLE_MAGIC:
        return None
    return {
        "layout": h.layout,
        "boot": PyBytes_FromStringAndSize(<const char *>h.boot, 16),
        "pid_space": h.pid_space,
        "time_space": h.time_space,
        "owner": h.owner,
        "size": h.size,
        "max_keys": h.max_keys,
        "hash_key": PyBytes_FromStringAndSize(<const char *>h.hash_key, 16),
        "ungrown": h.ungrown,
    }


def is_ours(data):
    """Whether a file that begins with these bytes is a table of this library, of whatever layout
    and state, or was about to become one."""
    cdef uint64_t magic
    return first_bytes(data, &magic, sizeof(magic)) and (
        magic == TABLE_MAGIC or magic == TABLE_UNFINISHED
    )


HEADER_BYTES = sizeof(header_t)
REMEMBERED_BYTES = sizeof(remembered)
LAYOUT = TABLE_LAYOUT
MAX_VIEW_BYTES = VIEW_BYTES


def table_size(int64_t max_keys):
    """(bytes of a table's file, bytes of these for which it needs memory from the start)."""
    cdef plan_t p = plan_table(max_keys)
    return p.size, p.begun


def table_damage(int fd, int64_t max_keys, bint alone):
    """Why the table in a file of the right size cannot be used; None when it can. `alone`: no other
    process uses it. Then all of it is checked, about 0.1 us a key, and what a killed process left
    is repaired."""
    cdef table_t t
    cdef const char *wrong
    cdef int error = table_map(&t, fd, max_keys, 1)
    if error:
        raise OSError(error, os.strerror(error))
    with nogil:
        wrong = table_resume(&t, max_keys) if alone else header_fault(&t, max_keys)
        table_close(&t)
    return None if wrong is NULL else wrong.decode()


cdef int64_t started(int64_t pid) except -2:
    """When a process started, in clock ticks since boot; -1 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return -1


@cython.final
cdef class TableSharing:
    """The processes of a host that use one table: their places in it, which of them leads, and what
    the leader leaves for the others."""

    cdef _Memory memory
    cdef table_t *t

    def __cinit__(self, _Memory memory not None):
        self.memory, self.t = memory, &memory.t

    @property
    def leading(self):
        """Whether this process holds the lead."""
        return self.memory.leading

    @property
    def repairs(self):
        """How often a process died while it held the table's lock, and the next one repaired the
        table."""
        return self.t.h.repairs

    def grow(self):
        """Asks again for the memory that the file system refused: until this has got it, nobody
        asks for more, and keys are evicted instead. Returns why it is refused again; "" when it is
        not."""
        cdef int error = 0
        if self.t.h.ungrown:
            self.memory.enter()
            error = grow_again(self.t)
            self.memory.leave()
        return os.strerror(error) if error else ""

    def claim(self):
        """Finds a place for this process, in which its decisions are counted from now on. Raises
        CrdtbucketError when too many processes use the table."""
        cdef int64_t pid = os.getpid(), since = started(os.getpid())
        cdef int i, free = -1, backed = 1
        cdef worker_t seen
        cdef worker_t *w
        for i in range(MAX_WORKERS):
            w = &self.t.workers[i]
            seen = w[0]
            if seen.pid and started(seen.pid) == seen.started:
                # without the lock, since this reads files
                continue
            self.memory.enter()
            if w.pid == seen.pid and w.started == seen.started:
                backed = back_counts(self.t, i)
                if backed:
                    free = i
                    w.pid, w.started = pid, since
                    self.t.counts = self.t.all_counts + free * MAX_DEFINITIONS
                    self.memory.placed = True
            self.memory.leave()
            if free >= 0 or not backed:
                break
        if not backed:
            raise CrdtbucketError(
                "no memory for the counters of one more process: the file system is full"
            )
        if free < 0:
            raise CrdtbucketError(
                f"{MAX_WORKERS} processes use the table: start fewer, or give each group its own"
            )

    def unclaim(self):
        """Gives up the place of this process; what it counted stays. In the child of a fork that
        has found no place it does nothing: the place is the parent's."""
        cdef worker_t *w = &self.t.workers[(self.t.counts - self.t.all_counts) // MAX_DEFINITIONS]
        if w.pid == os.getpid():
            self.memory.enter()
            w.started = 0
            self.memory.leave()
            self.memory.placed = False

    def workers(self):
        """The process numbers of those that use the table now."""
        return [
            self.t.workers[i].pid
            for i in range(MAX_WORKERS)
            if self.t.workers[i].pid and started(self.t.workers[i].pid) == self.t.workers[i].started
        ]

    def after_fork(self, int fd):
        """Is called in the child of a fork: maps the file under a file description of its own
        (`fd`), and finds a place of its own. Raises CrdtbucketError."""
        self.memory.leading = False
        cdef int error = table_remap(self.t, fd)
        if error:
            raise CrdtbucketError(
                f"the table cannot be mapped in the child of a fork: {os.strerror(error)}"
            )
        self.claim()

    def lead(self):
        """Tries to become the leader, the one process of the host that is connected to the peers;
        True when it is. The thread that called this holds the lead until `yield_lead` or its own
        end. After that another process can get it."""
        if self.memory.leading:
            return True
        if not lead_trylock(self.t):
            return False
        self.memory.leading = True
        self.t.h.leader = os.getpid()
        return True

    def yield_lead(self):
        """Gives up the lead. Call it in the thread that got it."""
        if self.memory.leading:
            self.memory.leading = False
            self.t.h.leader = 0
            lead_unlock(self.t)

    @property
    def leader(self):
        """The process number of the leader, or of the last one; 0 for none."""
        return self.t.h.leader

    @property
    def refused(self):
        """Whether no process may serve under this node's name in this epoch."""
        return bool(self.t.h.refused)

    @refused.setter
    def refused(self, bint yes):
        self.t.h.refused = yes

    def read_handoff(self):
        """The hand-over that the leader, or the last one in this epoch of the node, wrote for the
        next leader; b"" for none."""
        cdef uint32_t at = self.t.h.handoff
        if not at:
            return b""
        return PyBytes_FromStringAndSize(
            <const char *>self.t.handoff + (at - 1) * HANDOFF_BYTES, self.t.h.handoff_bytes[at - 1]
        )

    def write_handoff(self, bytes data not None):
        """Replaces the hand-over to the next leader. A reader sees all of the new one or all of the
        old one."""
        cdef uint32_t place = 1 if self.t.h.handoff == 1 else 0
        cdef uint8_t *at = self.t.handoff + place * HANDOFF_BYTES
        if len(data) > HANDOFF_BYTES or not back(self.t, at, len(data) + 1):
            raise CrdtbucketError(
                f"no room for a hand-over of {len(data)} bytes, at most {HANDOFF_BYTES} in a table"
            )
        memcpy(at, PyBytes_AS_STRING(data), len(data))
        self.t.h.handoff_bytes[place] = len(data)
        set_handoff(self.t.h, place + 1)

    def write_view(self, bytes data not None):
        """Replaces the view of the mesh that this process, the leader, shows to the other processes
        of the host."""
        cdef uint8_t *at = self.t.view + view_next(self.t) * VIEW_BYTES
        if len(data) > VIEW_BYTES or not back(self.t, at, len(data) + 1):
            raise CrdtbucketError(
                f"no room for a view of {len(data)} bytes, at most {MAX_VIEW_BYTES} in a table"
            )
        memcpy(at, PyBytes_AS_STRING(data), len(data))
        view_show(self.t, len(data))

    def read_view(self):
        """The view of the mesh that the leader wrote last in this epoch of the node, whole; b"" for
        none."""
        cdef int64_t got = -1
        cdef _Scratch copy
        if not self.t.h.view_bytes[0] and not self.t.h.view_bytes[1]:
            return b""
        copy = scratch(VIEW_BYTES)
        while got < 0:  # the leader shows one a second
            got = view_copy(self.t, <uint8_t *>copy.at)
        return PyBytes_FromStringAndSize(<const char *>copy.at, got)
