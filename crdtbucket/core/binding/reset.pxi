# Resets: a bucket gives its keys back what they lack, one key or all.


cdef int64_t reset_key(BucketCore bucket, object key, int64_t most=MAX_SETTLE) except -1:
    """Resets a key of this bucket by at most `most` tokens. Returns those that came back. Raises
    InvalidKey."""
    cdef uint64_t lo = 0, hi = 0
    cdef int64_t n, now = clock_ns(bucket.t)
    cdef uint32_t e, slot
    cdef definition_t *d
    check_open(bucket.table)
    bucket.locate(key, &lo, &hi)
    bucket.memory.enter()
    e = table_find(bucket.t, lo, hi)
    bucket.follow()
    d = bucket.definition(hi, &slot)
    n = (
        reset(bucket.t, d, e, most, now)
        if e != <uint32_t>NONE and entry_renew(bucket.t, e, slot, now)
        else 0
    )
    bucket.memory.leave()
    bucket.t.counts[slot].refunded += n
    bucket.wake()
    if n:
        bucket.returned(key, n)
    return n


cdef list reset_keys(BucketCore bucket):
    """Resets all keys of this bucket. Returns the hashes of those to which tokens came back."""
    found, place = [], 0
    while place >= 0:
        if place:
            bucket.memory.pause()
        some, place = bucket.reset_some(place)
        found += some
    return found


cdef tuple reset_places(BucketCore bucket, int64_t place):
    """Resets the keys from `place` on. Returns the hashes of those to which tokens came back, and
    the next place or -1 at the end."""
    cdef uint32_t e, slot = 0
    cdef uint64_t lo, hi
    cdef int64_t end, n
    cdef hot_t *hot
    cdef definition_t *d
    found = []
    check_open(bucket.table)
    if place < 0:
        raise CrdtbucketError(f"places begin with 0, not {place}")
    end = min(place + SLICE, bucket.t.h.bump)
    for e in range(place, end):
        bucket.memory.enter()
        bucket.follow()
        hot, n = &bucket.t.hot[e], 0
        if hot.flags & ENTRY_USED and bucket.t.definitions[hot.bucket].name_hash == bucket.salt:
            d = bucket.definition(hot.hash_hi, &slot)
            if entry_renew(bucket.t, e, slot, clock_ns(bucket.t)):
                n = reset(bucket.t, d, e, MAX_SETTLE, clock_ns(bucket.t))
        lo, hi = hot.hash_lo, hot.hash_hi
        bucket.memory.leave()
        # objects of Python are made without the lock: their finalizers may take
        if n:
            bucket.t.counts[slot].refunded += n
            found.append((lo, hi))
    bucket.wake()
    return found, end if end < bucket.t.h.bump else -1
