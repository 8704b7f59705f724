# The mapping of a table, its clock and its lock.


cdef ticker_t _TICKER
_TICKER.allowed = ticks_are_sound()


cdef class Table


cdef class _Memory:
    """What every part of a table uses. A compiled class can stand neither in several files nor in included ones, so each part
    of `Table` inherits from the one before it; nothing else does."""

    cdef table_t t
    cdef int64_t surveyed
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
        if not isinstance(self, Table):  # a part alone has no memory
            raise TypeError("only a whole Table can be made")

    def __dealloc__(self):
        # Unmapping a mutex that some thread holds would leave that thread's list of them broken.
        if self.opened and not self.leads():
            table_close(&self.t)

    cdef bint leads(self) noexcept:
        return False

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
        """Takes the table's lock."""
        if not table_trylock(&self.t):
            with nogil:
                lock_in_line(&self.t)

    cdef void leave(self) noexcept:
        table_unlock(&self.t)

    cdef void pause(self) noexcept:
        """Between two slices of long work: callers that wait for the table's lock, or the interpreter's, come first."""
        with nogil:
            let_others_in(&self.t)

    cdef void forget_name(self, uint32_t entry):
        if entry != <uint32_t>NONE:
            self.names.pop(entry, None)
