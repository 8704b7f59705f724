# The mapping of a table, its clock and its lock.


cdef ticker_t _TICKER
_TICKER.allowed = ticks_are_sound()


@cython.final
cdef class _Memory:
    """The memory mapping that every part of a table uses. It is unmapped when the last part that
    uses it is gone."""

    cdef table_t t
    cdef bint opened
    cdef bint made
    """Whether the table is new, and not a file that had a table in it."""
    cdef bint leading
    """Whether this process holds the lead, whose lock lies in the mapping."""
    cdef bint placed
    """Whether this process has a place in the table."""

    def __cinit__(self, int64_t max_keys, bytes hash_key, bint virtual, int fd):
        """The arguments are those of `Table`."""
        cdef uint64_t key[2]
        cdef int error
        if not 16 <= max_keys <= 1 << 30:
            raise CrdtbucketError(f"max_keys must be 16 to {1 << 30}, not {max_keys}")
        if fd >= 0 and not SHARED_TABLES:
            raise CrdtbucketError(
                f"tables of several processes need Linux, and this is {os.uname().sysname}: "
                "without `shared` each process has a table of its own"
            )
        hash_key = os.urandom(16) if hash_key is None else hash_key
        if len(hash_key) != 16:
            raise CrdtbucketError(f"hash_key must be 16 bytes, not {len(hash_key)}")
        memcpy(key, PyBytes_AS_STRING(hash_key), 16)
        self.made = fd < 0 or not os.fstat(fd).st_size
        if fd < 0:
            error = table_open(&self.t, max_keys, key, virtual)
        elif self.made:
            error = table_create(&self.t, fd, max_keys, key, virtual)
        else:
            error = table_map(&self.t, fd, max_keys, virtual)
        if error:
            raise OSError(error, os.strerror(error)) if fd >= 0 else MemoryError(
                f"no memory for {max_keys} keys: {os.strerror(error)}")
        self.opened = True
        self.t.ticker = &_TICKER

    def __dealloc__(self):
        # Unmapping a mutex that some thread holds would leave that thread's list of them broken.
        if self.opened and not self.leading:
            if self.placed:
                leave_place(&self.t)
            table_close(&self.t)

    cdef void enter(self) noexcept:
        """Takes the table's lock, without the GIL where it has to wait."""
        if not table_trylock(&self.t):
            with nogil:
                lock_in_line(&self.t)

    cdef void leave(self) noexcept:
        table_unlock(&self.t)

    cdef void pause(self) noexcept:
        """Is called between two slices of long work, without the lock: lets callers that wait for
        the table's lock, or for the interpreter's, come first."""
        with nogil:
            let_others_in(&self.t)
