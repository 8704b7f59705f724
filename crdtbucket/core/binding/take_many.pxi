# Many takes of one bucket in one call.

Decisions = namedtuple("Decisions", "allowed remaining retry_after", module="crdtbucket._core")
Decisions.__doc__ = """Answers of `take_many`, in the order of the keys: `allowed` (array of 0 and
1), `remaining` (array of whole tokens) and `retry_after` (array of float seconds, 0 where
allowed)."""


cdef take_keys(BucketCore bucket, keys, costs):
    """Does what `BucketCore.take_many` says."""
    check_open(bucket.table)
    if type(keys) is not list and type(keys) is not tuple:
        if isinstance(keys, (str, bytes)):
            raise InvalidKey(f"keys is one key, {keys!r}: pass a sequence of keys")
        if not hasattr(keys, "__iter__") and not hasattr(keys, "__getitem__"):
            raise TypeError(f"keys is {keys!r}: pass a sequence of keys")
    cdef tuple all_keys = tuple(keys)
    cdef Py_ssize_t count = len(all_keys)
    if hasattr(costs, "__iter__"):
        costs = tuple(costs)
        if len(costs) != count:
            raise InvalidCost(
                f"{len(costs)} costs for {count} keys: pass one for each, or one number"
            )
    cdef array allowed = clone(_BYTES, count, False), remaining = clone(_INTS, count, False)
    cdef array retry = clone(_FLOATS, count, False)
    if not count:
        return Decisions(allowed, remaining, retry)
    cdef many_t m
    memset(&m, 0, sizeof(m))
    m.items = <take_item_t *>PyMem_Malloc(count * sizeof(take_item_t))
    if not m.items:
        raise MemoryError
    try:
        read_items(bucket, all_keys, costs, m.items)
        m.t, m.slot, m.salt, m.count, m.now = (
            bucket.t,
            bucket.slot,
            bucket.key_salt,
            count,
            clock_ns(bucket.t),
        )
        m.allowed, m.remaining, m.retry = (
            allowed.data.as_schars,
            <int64_t *>remaining.data.as_longlongs,
            retry.data.as_doubles,
        )
        take_all_items(bucket, all_keys, &m)
        count_items(bucket, &m)
    finally:
        PyMem_Free(m.items)
    bucket.wake()
    return Decisions(allowed, remaining, retry)


cdef int read_items(BucketCore bucket, tuple keys, costs, take_item_t *items) except -1:
    """Reads and checks all keys and costs. `keys` keeps the memory alive to which the items
    point."""
    cdef Py_ssize_t count = len(keys), i
    cdef bint several = type(costs) is tuple
    cdef int64_t one = 0 if several else bucket.cost_of(costs)
    for i in range(count):
        key_view(<object>PyTuple_GET_ITEM(keys, i), &items[i].data, &items[i].size)
        items[i].cost = one
    if several:
        for i in range(count):
            items[i].cost = bucket.cost_of(costs[i])
    if bucket.d.candidate_below:  # no cost may be above the capacity of its own key
        for i in range(count):
            keyed_hash(
                bucket.t.h.hash_key,
                bucket.key_salt,
                items[i].data,
                items[i].size,
                &items[i].lo,
                &items[i].hi,
            )
            bucket.fitting(items[i].hi, items[i].cost)
    return 0


cdef int take_all_items(BucketCore bucket, tuple keys, many_t *m) except -1:
    """Makes all takes in order, then notes the names of keys whose entries have none."""
    cdef take_item_t *item
    cdef Py_ssize_t i
    while m.at < m.count:
        m.stopped = 0
        take_items(m)
        if m.stopped:
            take_item(bucket, keys[m.at], m)
        elif m.at < m.count:
            bucket.memory.pause()
    for i in range(m.count):
        item = &m.items[i]
        # another process may have evicted its entry since
        if item.unnamed and entry_holds(m.t, item.entry, item.lo, item.hi):
            bucket.note_name(item.entry, keys[i])
    return 0


cdef int take_item(BucketCore bucket, object key, many_t *m) except -1:
    """Makes the next take, which needs the lock."""
    cdef outcome_t o
    cdef take_item_t *item = &m.items[m.at]
    cdef uint32_t slot = definition_for(bucket.t, bucket.slot, item.hi)
    memset(&o, 0, sizeof(o))
    bucket.decide(key, item.lo, item.hi, &slot, item.cost, 0, m.now, &o)
    item.unnamed, item.side = 0, slot != bucket.slot
    many_store(m, &bucket.t.definitions[slot], item.side, &o)
    m.slot = bucket.slot
    return 0


cdef void count_items(BucketCore bucket, many_t *m):
    """Counts what each of the bucket's two definitions has decided, in the slots where these
    definitions stand by now."""
    cdef counts_t *counts
    cdef uint32_t slot
    cdef int side
    cdef int64_t i
    for side in range(2):
        slot = bucket.d.candidate if side and bucket.d.candidate != <uint32_t>NONE else bucket.slot
        counts = &bucket.t.counts[slot]
        counts.allowed += m.allowed_sum[side]
        counts.granted += m.granted[side]
        if not bucket.t.definitions[slot].shadow:
            counts.denied += m.denied_sum[side]
            continue
        counts.shadowed += m.denied_sum[side]
        for i in range(m.count):
            if m.items[i].side == side:
                m.allowed[i], m.retry[i] = 1, 0.0
