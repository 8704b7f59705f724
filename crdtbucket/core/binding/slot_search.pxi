# The search for a free slot of a key. Each slot is a key of an ordinary bucket, as docs/model.md,
# "Slots", explains.

MAX_SLOT_KEY_BYTES = MAX_KEY_BYTES - len(f"#{bucket_kinds.MAX_SLOTS - 1}")
cdef object _SLOT_TOKENS = bucket_kinds.SLOT_TOKENS
cdef Py_ssize_t _MAX_SLOT_KEY = MAX_SLOT_KEY_BYTES
cdef Py_ssize_t _REMEMBERED_KEYS = 65_536


cdef struct slots_t:
    # the key and "#"; the number of a slot is written behind that
    uint8_t text[512]
    Py_ssize_t size
    # slots of the key; number with which the order begins; `first`: as in `SlotSearch.first`
    int64_t count, start, first


def slot_of(object name):
    """(key, number) of a slot, by the name that it has as a key of its bucket."""
    cdef const uint8_t *data = NULL
    cdef Py_ssize_t size = 0, digits = 0
    cdef int64_t number = 0, place = 1
    key_view(name, &data, &size)
    while digits < size and data[size - 1 - digits] != b"#":
        number += place * (data[size - 1 - digits] - 48)
        digits, place = digits + 1, 10 * place
    return name[:-1 - digits], number


cdef class SlotSearch:
    """Finds free slots of the keys of one bucket, in an order that belongs to this process.

    The order begins at another slot on each node, so that nodes meet only where a key is nearly
    full. Slots that were released here come first. A search looks at each slot that is held and of
    which this process did not know; where none is free, at all of them."""

    cdef BucketCore bucket
    cdef int64_t start
    cdef dict first
    """{key: how many places of the order were held when it was last searched}, for some keys."""

    def __cinit__(self, BucketCore bucket not None):
        """`bucket`: the ordinary bucket in which each slot is a key."""
        self.bucket, self.first = bucket, {}
        self.start = (bucket.table.epochs.running >> 1) % bucket_kinds.MAX_SLOTS  # epochs are odd

    def take(self, object key, object cost=_SLOT_TOKENS, mode=None):
        """Takes a free slot: all of its tokens. Where none is free, returns the denial of the slot
        that is free first. `mode`: the mode that the decision names, for a bucket that changes
        it."""
        cdef BucketCore bucket = self.bucket
        cdef slots_t slots
        cdef outcome_t o
        cdef uint64_t lo = 0, hi = 0
        cdef uint32_t slot
        cdef int64_t n = bucket.cost_of(cost), now, soonest = 0, least = INT64_MAX, i
        self.open(key, &slots)
        now = clock_ns(bucket.t)
        for i in range(slots.count):
            slot = self.place(&slots, i, n, &lo, &hi)
            o.allowed = fits_at_sight(bucket.t, lo, hi, slot, n, now)
            if not o.allowed:
                bucket.look(lo, hi, &slot, n, 0, now, &o)
            if o.allowed:
                name = self.name(key, number_at(&slots, i))
                # unless another process was quicker
                if bucket.decide(name, lo, hi, &slot, n, 0, now, &o):
                    bucket.count(slot, True, n)
                    self.remember(key, place_at(&slots, i) + 1)
                    return bucket.in_mode(decision_of(bucket, name, n, slot, &o), mode)
            if o.wait_ns < least:
                soonest, least = i, o.wait_ns
        # this counts the denial, which a shadow bucket admits all the same
        return bucket.take_as(self.name(key, number_at(&slots, soonest)), cost, mode)

    def peek(self, object key, object cost=_SLOT_TOKENS):
        """The Decision that a take would get now. Nothing changes."""
        cdef slots_t slots
        cdef outcome_t o
        cdef int64_t n = self.bucket.cost_of(cost), soonest = 0, least = INT64_MAX, i
        self.open(key, &slots)
        for i in range(slots.count):
            self.look(&slots, i, n, &o)
            if o.allowed or o.wait_ns < least:
                soonest, least = i, o.wait_ns
            if o.allowed:
                break
        return BucketCore.peek(self.bucket, self.name(key, number_at(&slots, soonest)), cost)

    def held(self, object key):
        """How many slots of a key are held, on all nodes, as far as this one knows. O(slots)."""
        cdef slots_t slots
        cdef outcome_t o
        cdef int64_t n = self.bucket.cost_of(_SLOT_TOKENS), count = 0, i
        self.open(key, &slots)
        for i in range(slots.count):
            self.look(&slots, i, n, &o)
            count += not o.allowed
        return count

    def refund(self, Decision decision not None, object tokens=None):
        """Gives back `tokens` of the slot of a decision, or all that are left. Returns those that
        came back."""
        return self.give_back(
            decision, decision.cost - decision.given_back if tokens is None else tokens
        )

    cdef int64_t give_back(self, Decision decision, int64_t tokens) except -1:
        cdef int64_t slots = self.bucket.spec.slots, place
        key, number = slot_of(decision._key)
        place = (<int64_t>number - self.start) % slots
        if place < 0:
            place += slots
        if place < <int64_t>self.first.get(key, 0):
            self.first[key] = place
        return self.bucket.put_back(decision, tokens)

    def check(self, object key):
        """Raises `InvalidKey` for what cannot be the key of slots, and the error with which the
        table refuses."""
        cdef slots_t slots
        self.open(key, &slots)

    def name(self, object key, int64_t number):
        """The name that a slot has as a key of its bucket."""
        if isinstance(key, bytes):
            return b"%b#%d" % (key, number)
        # The text of a key, and not what a subclass of str shows instead.
        return f"{str.__str__(key)}#{number}"

    def hash(self, object key):
        """The hash that names a key, as `hash` of a bucket."""
        return self.bucket.hash(key)

    def spec_of(self, object key):
        """The definition of the key's slots."""
        return self.bucket.spec

    cdef int open(self, object key, slots_t *slots) except -1:
        """Begins a search for a key. Raises InvalidKey, and the error with which the table
        refuses."""
        cdef const uint8_t *data = NULL
        cdef Py_ssize_t size = 0
        key_view(key, &data, &size)
        if size > _MAX_SLOT_KEY:
            raise InvalidKey(
                f"a key of slots has at most {MAX_SLOT_KEY_BYTES} bytes, as the number of the slot "
                f"is added to it, and this one has {size}: hash or shorten it"
            )
        check_open(self.bucket.table)
        memcpy(slots.text, data, size)
        slots.text[size] = b"#"
        slots.size = size + 1
        slots.count, slots.start = self.bucket.spec.slots, self.start
        slots.first = min(<int64_t>self.first.get(key, 0), slots.count)
        return 0

    cdef uint32_t place(
        self, slots_t *slots, int64_t i, int64_t n, uint64_t *lo, uint64_t *hi
    ) except? 0xffffffff:
        """Hashes the name of the slot that is looked at after `i` others. Returns the slot of its
        definition."""
        cdef Py_ssize_t size = written(slots, number_at(slots, i))
        keyed_hash(self.bucket.t.h.hash_key, self.bucket.key_salt, slots.text, size, lo, hi)
        return self.bucket.fitting(hi[0], n)

    cdef int look(self, slots_t *slots, int64_t i, int64_t n, outcome_t *o) except -1:
        """Writes to `o` what a take of `n` tokens of that slot would get now."""
        cdef uint64_t lo = 0, hi = 0
        cdef uint32_t slot = self.place(slots, i, n, &lo, &hi)
        self.bucket.look(lo, hi, &slot, n, 0, clock_ns(self.bucket.t), o)
        return 0

    cdef int remember(self, object key, int64_t first) except -1:
        """Notes where the next search for a key begins."""
        if len(self.first) >= _REMEMBERED_KEYS:
            # that makes some searches begin at the beginning
            self.first.clear()
        self.first[key] = first
        return 0


cdef inline int64_t place_at(slots_t *slots, int64_t i) noexcept:
    """The place in the order that is looked at after `i` others. Places that were held at the last
    search come last."""
    return (slots.first + i) % slots.count


cdef inline int64_t number_at(slots_t *slots, int64_t i) noexcept:
    """The number of the slot that is looked at after `i` others."""
    return (slots.start + place_at(slots, i)) % slots.count


cdef Py_ssize_t written(slots_t *slots, int64_t number) noexcept:
    """Writes the number of a slot behind the key. Returns the bytes of both."""
    cdef int64_t least = 1
    cdef Py_ssize_t size = slots.size
    while number // least >= 10:
        least *= 10
    while least:
        slots.text[size] = <uint8_t>(48 + number // least % 10)
        size, least = size + 1, least // 10
    return size
