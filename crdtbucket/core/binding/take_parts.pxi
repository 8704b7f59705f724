# Takes of several keys at one moment: either all of them are allowed, or nothing is taken. Each key
# is a *part*.


cdef struct part_t:
    PyObject *bucket
    PyObject *key
    uint64_t lo, hi
    int64_t cost, floor
    bint smooth
    uint32_t slot
    outcome_t o


cdef int take_parts(part_t *part, Py_ssize_t parts) except -1:
    """Takes all parts or none, and writes the outcome of each to it. The part that would be denied
    for the longest is taken first, so that tokens of the others are hardly ever taken in vain."""
    cdef int64_t now = clock_ns((<BucketCore>part[0].bucket).t)
    cdef Py_ssize_t first = 0, taken = 0, i, at
    cdef bint looked = parts > 1 and not all_fit(part, parts, now)
    if looked:
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
    if taken < parts and (taken or not looked):
        for i in range(parts):
            if i != taken:
                look_at_part(&part[turn(i, first)], now)
    return 0


cdef bint all_fit(part_t *part, Py_ssize_t parts, int64_t now) noexcept:
    """Whether each part has its tokens at sight, so that none has to be looked at closely."""
    cdef Py_ssize_t i
    for i in range(parts):
        if part[i].floor or not fits_at_sight(
            (<BucketCore>part[i].bucket).t, part[i].lo, part[i].hi, part[i].slot, part[i].cost, now
        ):
            return False
    return True


cdef Py_ssize_t turn(Py_ssize_t step, Py_ssize_t first) noexcept:
    """Which part is taken at a step: at the first the part `first`, then the others in their
    order."""
    return first if not step else step - 1 if step <= first else step


cdef bint is_shadow(part_t *part) noexcept:
    return (<BucketCore>part.bucket).t.definitions[part.slot].shadow


cdef void look_at_part(part_t *part, int64_t now) noexcept:
    """Writes to the part the outcome that a take would have now. A shadow denies nobody, so nobody
    waits for it."""
    (<BucketCore>part.bucket).look(
        part.lo, part.hi, &part.slot, part.cost, part.floor, now, &part.o
    )
    if is_shadow(part):
        part.o.wait_ns = 0


cdef int take_part(part_t *part, int64_t now) except -1:
    """Makes the take of one part. Returns 0 when it is denied, unless its bucket is a shadow."""
    cdef BucketCore bucket = <BucketCore>part.bucket
    bucket.decide(
        <object>part.key, part.lo, part.hi, &part.slot, part.cost, part.floor, now, &part.o
    )
    return part.o.allowed or is_shadow(part)


cdef int give_back_parts(part_t *part, Py_ssize_t taken, Py_ssize_t first) except -1:
    """Gives back what the first `taken` steps have taken."""
    cdef Py_ssize_t step
    cdef part_t *one
    for step in range(taken):
        one = &part[turn(step, first)]
        if one.o.allowed:
            (<BucketCore>one.bucket).give_back(
                one.lo, one.hi, one.o.generation, one.o.origin, one.o.full_count, one.cost
            )
    return 0
