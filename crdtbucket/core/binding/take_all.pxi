# Takes of several buckets at once: all of them, or none.


cdef struct part_t:
    PyObject *bucket
    PyObject *key
    uint64_t lo, hi
    int64_t cost, floor
    bint smooth
    uint32_t slot
    outcome_t o


cdef class AllDecision:
    """The answer of `take_all` and `acquire_all`: truthy when everything was taken.

    decisions: one of each bucket that was asked, in order; what names the same key shares one. When the whole is denied nothing was
    taken: then each says what it would get alone.
    """

    cdef readonly tuple decisions
    cdef readonly bint allowed
    """Whether everything was taken."""

    def __init__(self, tuple decisions not None):
        self.decisions = decisions
        self.allowed = all(decisions)

    @property
    def binding(self):
        """The one to look at: denied, it takes longest; allowed, it has the least of its limit left. A shadow binds only where
        all are shadows."""
        denied = [decision for decision in self.decisions if not decision.allowed]
        if denied:
            return max(denied, key=lambda one: one.retry_after_ns)
        real = [one for one in self.decisions if not one.spec.shadow]
        return min(real or self.decisions, key=lambda one: one.remaining / one.limit)

    @property
    def retry_after(self):
        """Seconds until all could pass if nothing else happened, 0 when allowed."""
        return self.binding.retry_after

    def __bool__(self):
        return self.allowed

    def __repr__(self):
        return f"AllDecision(allowed={self.allowed}, binding={self.binding!r})"


cdef tuple _COST_ONE = (_ONE,)


def asked(wanted, dict buckets not None, find):
    """(bucket that decides, key, cost[, floor]) of each (name, key[, cost[, floor]]) in `wanted`, and how many of these each of them
    became. `buckets` has buckets by name; `find(name)` returns those of any other name, one or more. Raises InvalidKey."""
    cdef list parts = [], sizes = []
    cdef tuple fields
    cdef object name, key
    cdef tuple rest
    cdef Py_ssize_t size
    for item in wanted:
        fields = tuple(item) if isinstance(item, (tuple, list)) else ()  # a tuple is its own
        size = len(fields)
        if not 2 <= size <= 4:
            raise InvalidKey(f"{item!r} is no (bucket, key), (bucket, key, cost) or (bucket, key, cost, floor)")
        name, key = fields[0], fields[1]
        rest = fields[2:] if size > 2 else _COST_ONE
        bucket = buckets.get(name) if type(name) is str else None
        if bucket is not None:
            parts.append((bucket.of(key) if (<BucketCore?>bucket).choose is not None else bucket, key, *rest))
            sizes.append(1)
            continue
        group = find(name)
        parts.extend([(bucket.of(key), key, *rest) for bucket in group])
        sizes.append(len(group))
    if not parts:
        raise InvalidKey("nothing is asked for: pass one (bucket, key, cost) or more")
    return parts, sizes


def take_all(wanted):
    """Takes from several buckets of one table at one moment, all of it or nothing. `wanted`: a (bucket, key, cost) each; costs of
    one key add up. Returns an AllDecision. When one is denied, the one that waits longest counts as denied.
    All arguments are checked before anything is taken. Raises as `take`, TypeError for buckets of several tables, and
    AcquireRequired for one that does not decide in this process."""
    cdef tuple items = tuple(wanted)
    cdef Py_ssize_t count = len(items), parts, i
    if not count:
        return AllDecision(())
    cdef part_t *part = <part_t *>PyMem_Calloc(count, sizeof(part_t))
    cdef Py_ssize_t *place = <Py_ssize_t *>PyMem_Malloc(count * sizeof(Py_ssize_t))
    cdef AllDecision answer = AllDecision.__new__(AllDecision)
    held = []
    try:
        if not part or not place:
            raise MemoryError
        parts = read_parts(items, part, place, held)
        take_parts(part, parts)
        answers = [(<BucketCore>part[i].bucket).answer(<object>part[i].key, part[i].cost, part[i].slot, &part[i].o)
                   for i in range(parts)]
        answer.decisions, answer.allowed = tuple([answers[place[i]] for i in range(count)]), all(answers)
        return answer
    finally:
        PyMem_Free(part)
        PyMem_Free(place)


cdef Py_ssize_t read_parts(tuple items, part_t *part, Py_ssize_t *place, list held) except -1:
    """Fills in a part for each key that is named, and which part each item is of. Returns how many parts there are. `held` keeps
    alive what they point to and `items` does not."""
    cdef BucketCore bucket
    cdef Table table = None
    cdef Py_ssize_t parts = 0, at, i
    cdef uint64_t lo = 0, hi = 0
    cdef int64_t n
    for i in range(len(items)):
        one = items[i]
        bucket, key, cost = one if len(one) == 3 else one[:3]
        if bucket is not None and bucket.choose is not None:
            bucket = bucket.of(key)
            held.append(bucket)
        if type(items[i]) is not tuple:                 # what it says now it may not hold on to
            held.append((bucket, key))
        if bucket is None or (table is not None and bucket.table is not table):
            raise TypeError("only buckets of one table can be taken from together: pass those of one limiter")
        table = bucket.table
        if bucket.spec.slots is not None:
            raise WrongKind.of_slots(bucket.spec.name, "a take")
        n = bucket.cost_of(cost)
        bucket.locate(key, &lo, &hi)
        at = 0
        while at < parts and not (part[at].lo == lo and part[at].hi == hi and (<BucketCore>part[at].bucket).salt == bucket.salt):
            at += 1
        if at == parts:
            part[at].bucket, part[at].key, part[at].lo, part[at].hi = <PyObject *>bucket, <PyObject *>key, lo, hi
            parts += 1
        part[at].cost += n
        if part[at].cost > bucket.largest:
            raise CostExceedsCapacity(part[at].cost, bucket.largest)
        part[at].slot = bucket.fitting(hi, part[at].cost)
        if len(one) > 3:
            part[at].floor = max(part[at].floor, floor_tokens(one[3], bucket.t.definitions[part[at].slot].capacity))
            part[at].smooth |= is_smooth(one[3])
        if part[at].smooth:
            part[at].floor = min(part[at].floor, bucket.t.definitions[part[at].slot].capacity - part[at].cost)
        elif part[at].floor:
            bucket.floor_of(part[at].floor / <double>bucket.t.definitions[part[at].slot].capacity, part[at].slot, part[at].cost)
        place[i] = at
    for i in range(parts):
        if not (<BucketCore>part[i].bucket).immediate:
            raise AcquireRequired((<BucketCore>part[i].bucket).spec.name, "take_all", "limiter.acquire_all([...])")
    if table.refusal is not None:
        raise table.refusal
    return parts


cdef int take_parts(part_t *part, Py_ssize_t parts) except -1:
    """Takes all of the parts or none, and leaves the outcome of each. What would be denied, as it seems, is asked first, so that
    hardly ever is anything taken for it that has to be given back."""
    cdef int64_t now = clock_ns((<BucketCore>part[0].bucket).t)
    cdef Py_ssize_t first = 0, taken = 0, i, at
    for i in range(parts):
        look_at_part(&part[i], now)
        if part[i].o.wait_ns > part[first].o.wait_ns:
            first = i
    try:
        while taken < parts and take_part(&part[turn(taken, first)], now):
            taken += 1
    except BaseException:
        give_back_parts(part, taken, first)
        raise
    if taken < parts:
        give_back_parts(part, taken, first)
    for i in range(min(taken + 1, parts)):              # last, since it may call for a flush
        at = turn(i, first)
        (<BucketCore>part[at].bucket).count(part[at].slot, part[at].o.allowed, part[at].cost)
    if taken and taken < parts:
        for i in range(parts):
            if i != taken:
                look_at_part(&part[turn(i, first)], now)
    return 0


cdef Py_ssize_t turn(Py_ssize_t step, Py_ssize_t first) noexcept:
    """Which part is taken at a step: `first`, then the others in their order."""
    return first if not step else step - 1 if step <= first else step


cdef bint is_shadow(part_t *part) noexcept:
    return (<BucketCore>part.bucket).t.definitions[part.slot].shadow


cdef void look_at_part(part_t *part, int64_t now) noexcept:
    """The outcome that a take would have now. A shadow denies nobody, so nobody waits for it."""
    (<BucketCore>part.bucket).look(part.lo, part.hi, &part.slot, part.cost + part.floor, now, &part.o)
    if is_shadow(part):
        part.o.wait_ns = 0


cdef int take_part(part_t *part, int64_t now) except -1:
    """One take. 0 when it is denied, and its bucket is no shadow."""
    cdef BucketCore bucket = <BucketCore>part.bucket
    if part.floor:
        bucket.decide_above(<object>part.key, part.lo, part.hi, &part.slot, part.cost, part.floor, now, &part.o)
    else:
        bucket.decide(<object>part.key, part.lo, part.hi, &part.slot, part.cost, now, &part.o)
    return part.o.allowed or is_shadow(part)


cdef int give_back_parts(part_t *part, Py_ssize_t taken, Py_ssize_t first) except -1:
    cdef Py_ssize_t step
    cdef part_t *one
    for step in range(taken):
        one = &part[turn(step, first)]
        if one.o.allowed:
            (<BucketCore>one.bucket).give_back(one.lo, one.hi, one.o.generation, one.o.origin, one.o.full_count, one.cost)
    return 0
