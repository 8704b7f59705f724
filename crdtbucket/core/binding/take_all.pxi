# Takes from several buckets at once: all of them, or nothing.


cdef enum:
    FEW = 4


cdef struct item_t:
    PyObject *bucket                                    # held until the call ends
    Py_ssize_t part


cdef struct call_t:
    Py_ssize_t count, parts
    item_t *item
    part_t *part
    item_t few_items[FEW]
    part_t few_parts[FEW]


cdef class MultiCore:
    """Finds buckets of one limiter by their names, and takes from several of them.
    `in_force.buckets` has those in force, by name; `in_force.bucket(name)` finds one by any other
    spelling of its name, and `in_force.group(name)` one or more."""

    cdef readonly object in_force

    def __init__(self, in_force not None):
        self.in_force = in_force

    def bucket(self, name):
        """The bucket with this name, whatever kind of hyphens it is spelt with.

        Raises `UnknownBucket`, which lists the names that there are.
        """
        cdef dict buckets = self.in_force.buckets
        cdef PyObject *found = NULL
        if type(name) is str:                           # most callers write the canonical name
            found = PyDict_GetItemWithError(buckets, name)
        return self.in_force.bucket(name) if found is NULL else <object>found

    def take_all(self, wanted):
        """Takes from several buckets, all or nothing: (bucket, key), (bucket, key, cost) or
        (bucket, key, cost, floor) each.

        The name that `BucketSpec.parse_all` was given stands for all its buckets.

        What names the same key counts together. All arguments are checked before anything is taken.
        Raises as `take` and `bucket`, `InvalidKey` when nothing is asked for, and `AcquireRequired`
        for a strong bucket.
        """
        return self.take_named(all_of(wanted), None)

    def _asked(self, wanted):
        """(bucket that decides, key, cost[, floor]) for each (name, key[, cost[, floor]]) in
        `wanted`, and a list that says how many of these each item of `wanted` became. Raises
        InvalidKey."""
        cdef dict buckets = self.in_force.buckets
        cdef list parts = [], sizes = []
        cdef tuple row
        for item in all_of(wanted):
            row = row_of(item)
            name, rest = row[0], row[2:] or (_ONE,)
            bucket = buckets.get(name) if type(name) is str else None
            group = self.in_force.group(name) if bucket is None else (bucket,)
            for bucket in group:
                parts.append((deciding(bucket, row[1]), row[1], *rest))
            sizes.append(len(group))
        if not parts:
            raise InvalidKey("nothing is asked for: pass one (bucket, key, cost) or more")
        return parts, sizes

    cdef AllDecision take_named(self, tuple wanted, list sizes):
        """As `take_all`. `sizes` stays empty where each item is of one bucket; else it gets the
        list of `_asked`."""
        cdef dict buckets = self.in_force.buckets
        cdef tuple rows = rows_of(wanted)
        cdef call_t call
        cdef PyObject *bucket
        cdef Py_ssize_t i
        begin_call(&call, len(rows))
        try:
            for i in range(call.count):
                name = (<tuple>rows[i])[0]
                bucket = PyDict_GetItemWithError(buckets, name) if type(name) is str else NULL
                if bucket is NULL:
                    break
                give_item(&call.item[i], <object>bucket, (<tuple>rows[i])[1])
            else:
                if call.count:
                    return take_call(&call, rows)
        finally:
            end_call(&call)
        parts, of_each = self._asked(rows)
        if sizes is not None:
            sizes.extend(of_each)
        return take_all(parts)


cdef inline tuple all_of(wanted):
    """The items that are asked for, as a tuple. Raises TypeError."""
    return tuple(wanted if type(wanted) is list or type(wanted) is tuple else iterated(wanted))


cdef object iterated(wanted):
    try:
        return iter(wanted)
    except TypeError:
        raise TypeError(
            f"wanted is {wanted!r}: pass a list of (bucket, key), (bucket, key, cost) "
            "or (bucket, key, cost, floor)"
        ) from None


cdef inline tuple row_of(item):
    """One item that is asked for, as a tuple, which nobody changes meanwhile. Raises InvalidKey."""
    cdef tuple row = tuple(item) if isinstance(item, (tuple, list)) else ()  # a tuple is its own
    if not 2 <= len(row) <= 4:
        raise InvalidKey(
            f"{item!r} is no (bucket, key), (bucket, key, cost) or (bucket, key, cost, floor)"
        )
    return row


cdef tuple rows_of(tuple wanted):
    """All items as tuples. Raises InvalidKey."""
    for item in wanted:
        if type(item) is not tuple or not 2 <= len(<tuple>item) <= 4:
            return tuple([row_of(one) for one in wanted])
    return wanted


def take_all(wanted):
    """Takes from several buckets of one table at one moment, all of it or nothing. `wanted`:
    (bucket, key[, cost[, floor]]) each; costs of one key add up. Returns an AllDecision. When one
    is denied, the one that waits longest counts as denied. All arguments are checked before
    anything is taken. Raises as `take`, TypeError for buckets of several tables, and
    AcquireRequired for one that does not decide in this process."""
    cdef tuple rows = rows_of(all_of(wanted))
    cdef call_t call
    cdef Py_ssize_t i
    if not rows:
        return AllDecision(())
    begin_call(&call, len(rows))
    try:
        for i in range(call.count):
            give_item(&call.item[i], (<tuple>rows[i])[0], (<tuple>rows[i])[1])
        return take_call(&call, rows)
    finally:
        end_call(&call)


cdef int begin_call(call_t *call, Py_ssize_t count) except -1:
    """Sets up a call of so many items: a few have room in `call` itself. Raises MemoryError."""
    call.count, call.parts, call.item, call.part = count, 0, call.few_items, call.few_parts
    if count > FEW:
        call.item = <item_t *>PyMem_Calloc(count, sizeof(item_t))
        call.part = <part_t *>PyMem_Malloc(count * sizeof(part_t))
        if call.item is NULL or call.part is NULL:
            call.count = 0
            end_call(call)
            raise MemoryError
    else:
        memset(call.few_items, 0, sizeof(call.few_items))
    return 0


cdef void end_call(call_t *call) noexcept:
    """Releases the buckets and the memory of a call."""
    cdef Py_ssize_t i
    for i in range(call.count):
        Py_XDECREF(call.item[i].bucket)
    if call.item is not call.few_items:
        PyMem_Free(call.item)
        PyMem_Free(call.part)


cdef inline object deciding(bucket, key):
    """The bucket that decides on a key of this one."""
    return bucket if (<BucketCore>bucket).choose is None else bucket.of(key)


cdef inline int give_item(item_t *item, bucket, key) except -1:
    """Gives an item the bucket that decides on its key. Raises TypeError for what is no bucket."""
    if not isinstance(bucket, BucketCore):
        raise TypeError(f"{bucket!r} is no bucket")
    bucket = deciding(bucket, key)
    Py_INCREF(bucket)
    item.bucket = <PyObject *>bucket
    return 0


cdef AllDecision take_call(call_t *call, tuple rows):
    """Makes the takes of a call whose items have their buckets, and returns the answer."""
    cdef AllDecision answer = AllDecision.__new__(AllDecision)
    cdef list made = []
    cdef part_t *part
    cdef Decision decision
    cdef Py_ssize_t i
    read_parts(call, rows)
    take_parts(call.part, call.parts)
    answer.allowed = True
    for i in range(call.parts):
        part = &call.part[i]
        decision = decision_of(
            <BucketCore>part.bucket, <object>part.key, part.cost, part.slot, &part.o
        )
        answer.allowed = answer.allowed and decision.allowed
        made.append(decision)
    answer.decisions = tuple(
        made if call.parts == call.count else [made[call.item[i].part] for i in range(call.count)]
    )
    return answer


cdef int read_parts(call_t *call, tuple rows) except -1:
    """Fills in a part for each key that is named, and for each item which part it belongs to.
    Raises as `take_all`."""
    cdef Py_ssize_t i
    for i in range(call.count):
        read_item(call, &call.item[i], <tuple>rows[i])
    for i in range(call.parts):
        if not (<BucketCore>call.part[i].bucket).immediate:
            raise AcquireRequired(
                (<BucketCore>call.part[i].bucket).spec.name,
                "take_all",
                "await limiter.acquire_all([...])",
            )
    cdef Table table = (<BucketCore>call.part[0].bucket).table
    check_open(table)
    return 0


cdef int read_item(call_t *call, item_t *item, tuple row) except -1:
    """Adds the cost and the floor of an item to the part of its key. Raises as `take_all`."""
    cdef BucketCore bucket = <BucketCore>item.bucket
    cdef uint64_t lo = 0, hi = 0
    cdef int64_t n, capacity
    cdef Py_ssize_t at = 0
    cdef part_t *part
    if bucket.table is not (<BucketCore>call.item[0].bucket).table:
        raise TypeError(
            "only buckets of one table can be taken from together: pass those of one limiter"
        )
    if bucket.d.unpredicted and bucket.spec.slots is not None:
        raise WrongKind.of_slots(bucket.spec.name, "a take")
    key = row[1]
    n = bucket.cost_of(row[2] if len(row) > 2 else _ONE)
    bucket.locate(key, &lo, &hi)
    while at < call.parts and not is_of(&call.part[at], bucket, lo, hi):
        at += 1
    part = &call.part[at]
    if at == call.parts:
        call.parts += 1
        part.bucket, part.key, part.lo, part.hi = item.bucket, <PyObject *>key, lo, hi
        part.cost = part.floor = 0
        part.smooth = False
    item.part = at
    part.cost += n
    if part.cost > bucket.largest:
        refuse_cost(bucket.spec, part.cost, bucket.largest, 0)
    part.slot = bucket.fitting(hi, part.cost)
    capacity = bucket.t.definitions[part.slot].capacity
    if len(row) > 3:
        part.floor = max(part.floor, floor_tokens(row[3], capacity))
        part.smooth |= is_smooth(row[3])
    part.floor = fitting_floor(bucket.spec, part.floor, part.cost, capacity, part.smooth)
    return 0


cdef inline bint is_of(part_t *part, BucketCore bucket, uint64_t lo, uint64_t hi) noexcept:
    """Whether a part is the key with this hash in this bucket."""
    return part.lo == lo and part.hi == hi and (<BucketCore>part.bucket).salt == bucket.salt
