# What a bucket has counted: for one key, and for all calls.


cdef dict columns_of(_Decider bucket, object key):
    cdef uint64_t lo = 0, hi = 0
    cdef column_t c
    cdef uint32_t e, origin
    bucket.locate(key, &lo, &hi)
    e = table_find(bucket.t, lo, hi)
    out = {}
    if e == <uint32_t>NONE:
        return out
    cdef hot_t *hot = &bucket.t.hot[e]
    refunded = own_refunded(bucket.t, e)
    taken = entry_net(bucket.t, e) + refunded
    if taken:
        out[(bucket.t.origins[hot.origin].node, bucket.t.origins[hot.origin].epoch)] = (
            hot.generation,
            taken,
            refunded,
        )
    memset(&c, 0, sizeof(c))
    while column_next(bucket.t, e, &c):
        origin = column_origin(&c)
        if origin == hot.origin or not column_taken(&c):
            continue
        out[(bucket.t.origins[origin].node, bucket.t.origins[origin].epoch)] = (
            column_generation(&c), column_taken(&c), column_refunded(&c))
    return out


cdef dict counters_of(_Decider bucket):
    cdef definition_t *d
    cdef definition_t *other
    cdef counts_t c
    cdef int i
    bucket.memory.enter()
    bucket.follow()
    counts_total(bucket.t, bucket.slot, &c)
    bucket.memory.leave()
    d = other = bucket.d
    if d.candidate != <uint32_t>NONE:
        other = &bucket.t.definitions[d.candidate]
    modes = {str(mode): dict(zip(("denied", "allowed", "shadowed"), c.decided[i]))
             for i, mode in enumerate(_COUNTED)}
    sums = {"allowed": c.allowed, "denied": c.denied, "shadowed": c.shadowed}
    modes[str(Mode.EVENTUAL)] = {
        name: total - sum(one[name] for one in modes.values()) for name, total in sums.items()
    }
    both = 0 if other is d else 1
    return {
        **sums,
        "modes": modes,
        "guaranteed": c.guaranteed,
        "granted": c.granted,
        "refunded": c.refunded,
        "forgiven": d.forgiven + both * other.forgiven,
        "refused_full": d.refused_full + both * other.refused_full,
        "keys": d.entries + both * other.entries,
        "over_admission": max(
            over_admitted_tokens(d, clock_ns(bucket.t)),
            over_admitted_tokens(other, clock_ns(bucket.t)),
        ),
    }


cdef tuple decided_by(_Decider bucket):
    cdef counts_t all, c
    bucket.memory.enter()
    bucket.follow()
    counts_total(bucket.t, bucket.slot, &all)
    cdef uint32_t other = bucket.d.candidate
    if other != <uint32_t>NONE:
        c = bucket.t.definitions[other].past
        counts_gather(bucket.t, other, &c)
    bucket.memory.leave()
    total = all.allowed + all.shadowed, all.denied
    if other == <uint32_t>NONE:
        return total, None
    its = c.allowed + c.shadowed, c.denied
    return (total[0] - its[0], total[1] - its[1]), its
