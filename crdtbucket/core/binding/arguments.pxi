# Keys, costs and floors that callers pass. They are checked here, before any rule sees them.

MAX_KEY_BYTES = 512
MAX_COST = 2**53
MAX_SETTLE = 2**62
MAX_BURST = 1_000_000
cdef object _ONE = 1  # small integers are each one object
cdef object _ZERO = 0
cdef dict _PRIORITIES = priority.PRIORITIES
cdef Py_ssize_t _MAX_KEY = 512


cdef inline int key_view(object key, const uint8_t **data, Py_ssize_t *size) except -1:
    """Points `data` and `size` to the bytes of a key. Raises InvalidKey."""
    if not text_view(<PyObject *>key, data, size) or not 0 < size[0] <= _MAX_KEY:
        refuse_key(key)
    return 0


cdef int refuse_key(object key) except -1:
    """Raises InvalidKey, which says what is wrong with a key."""
    if key is None:  # str(None) would be one key for everybody
        raise InvalidKey("key is None: name what is limited")
    if not isinstance(key, (str, bytes)):
        raise InvalidKey(f"key must be str or bytes, not {type(key).__name__}: pass str(key)")
    try:
        size = len(key.encode() if isinstance(key, str) else key)
    except UnicodeEncodeError as error:
        raise InvalidKey(f"key {key!r} cannot be encoded as UTF-8: pass bytes") from None
    raise InvalidKey(
        "key is empty: name what is limited" if not size
        else f"key has {size} bytes, at most {_MAX_KEY} are allowed: hash or shorten it"
    )


@cython.final
cdef class _Items:
    """The items of an object's buffer, which cannot be resized as long as this exists. A typed
    memoryview does the same, with ten times as much code."""

    cdef Py_buffer view
    cdef Py_ssize_t count

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


@cython.final
@cython.freelist(8)
cdef class _Scratch:
    """Memory that is freed together with this object."""
    cdef void *at

    def __dealloc__(self):
        PyMem_Free(self.at)


cdef _Scratch scratch(size_t size):
    """Memory of `size` bytes. Raises MemoryError."""
    cdef _Scratch made = _Scratch.__new__(_Scratch)
    made.at = PyMem_Malloc(size)
    if made.at is NULL:
        raise MemoryError
    return made


cdef _Items items_of(object data, Py_ssize_t size):
    """The items of an object with a buffer. Raises CrdtbucketError for items that have not `size`
    bytes each."""
    cdef _Items items = _Items.__new__(_Items)
    PyObject_GetBuffer(data, &items.view, PyBUF_SIMPLE)
    if items.view.itemsize != size:
        raise CrdtbucketError(f"items of {items.view.itemsize} bytes where {size} are expected")
    items.count = items.view.len // size
    return items


cdef int64_t whole_tokens(object value, int64_t low, object high, str what) except -1:
    """A whole number of tokens from `low` to `high`. Raises InvalidCost, which calls it `what`."""
    return whole_number(value, low, high, what, " tokens")


cdef int64_t whole_number(object value, int64_t low, object high, str what, str unit) except -1:
    """A whole number from `low` to `high`. Raises InvalidCost, which calls it `what` and names the
    `unit`."""
    if PyLong_CheckExact(value):
        if low <= value <= high:
            return PyLong_AsLongLong(value)
        raise InvalidCost(f"{what} must be {low} to {high}{unit}, not {value}")
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        of = f" of{unit}" if unit else ""
        raise InvalidCost(f"{what} must be a whole number{of} (int), not {value!r}")
    # Converted twice, since a subclass of int is its own index.
    return whole_number(int.__index__(index(value)), low, high, what, unit)


cdef int refuse_cost(object spec, int64_t n, int64_t capacity, int64_t floor) except -1:
    raise CostExceedsCapacity(spec.name, n, capacity, floor)


cdef bint is_smooth(object floor) except -1:
    """Whether a floor is "smooth": drawn anew for each call. Then no cost is too high for it."""
    return isinstance(floor, str) and floor == "smooth"


cdef int64_t floor_tokens(object floor, int64_t capacity) except -1:
    """The whole tokens of a floor, which is a share of the capacity or the name of a priority.
    Raises InvalidCost."""
    cdef bint smooth = is_smooth(floor)
    share = floor
    if isinstance(floor, str):
        share = priority.share_of(floor) if smooth else _PRIORITIES.get(floor)
    if type(share) is not float and (
        type(share) is bool or not isinstance(share, (int, float)) or not 0 <= share < 1
    ):
        share = -1.0
    cdef double given = share, tokens = given * <double>capacity
    if not 0 <= given < 1:
        raise InvalidCost(
            "floor must be a share of the capacity from 0 up to 1, or one of "
            f"{', '.join(_PRIORITIES)}, not {floor!r}"
        )
    if smooth:
        return <int64_t>tokens
    # The product with a decimal share may be larger by a rounding error, which must not become one
    # token more.
    return llrint(ceil(tokens - 1e-9 * tokens))


cdef int64_t fitting_floor(
    object spec, int64_t floor, int64_t n, int64_t capacity, bint smooth
) except -1:
    """The floor of a take of `n`: a full bucket must have both. A smooth floor is lowered to what
    is left; for any other one that is too high this raises CostExceedsCapacity."""
    if n + floor <= capacity:
        return floor
    if smooth:
        return capacity - n
    return refuse_cost(spec, n, capacity - floor, floor)


cdef int64_t _LONGEST_TTL = 1 << 62


cdef int64_t ttl_ns(object ttl) except -1:
    """The ns after which an estimate goes back, 146 years at most. Raises InvalidSpec."""
    cdef int64_t ns
    cdef double seconds
    if type(ttl) is float:
        seconds = ttl
        if 0 < seconds < 1e6:
            ns = llrint(seconds * 1e9)
            if ns:
                return ns
    exact = duration_ns(ttl, "ttl")
    if exact == 0:
        raise InvalidSpec("ttl is 0", "give the seconds after which the work is lost", "ttl")
    return min(exact, _LONGEST_TTL)
