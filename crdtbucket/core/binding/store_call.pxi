# Plain calls of the common store's script, and sending them and receiving answers. Everything else
# is left to the caller, which can write and read all that Redis has.

cdef extern from "core/binding/store_call.h" nogil:
    enum:
        MOST_REPLIED
        MOST_CALL
    ctypedef struct text_t:
        const char *data
        size_t size
    ctypedef struct plain_call_t:
        text_t head, key, fixed, owner
        uint64_t[7] numbers
    size_t put_call(char *out, const plain_call_t *)
    int read_numbers(const char *text, size_t size, int64_t *numbers)
    Py_ssize_t exchange(int fd, const char **command, size_t *left, char *got, size_t room)
    bint ready_within(int fd, size_t left, int64_t rest_ns, int64_t step_ns)


cdef inline text_t text_of(bytes text):
    return text_t(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef uint64_t natural(object number):
    """A whole number from 0 on; UINT64_MAX for anything else."""
    cdef int overflow = 0
    cdef int64_t value = -1
    if PyLong_CheckExact(number):
        value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return <uint64_t>value


def store_call(
    bytes head not None,
    bytes key not None,
    bytes fixed not None,
    bytes owner not None,
    tuple numbers not None,
    /,
):
    """The bytes of a plain call; see `plain_call_t`. `numbers`: cost, fence, generation, taken,
    refunded, debt in ns. None when there are others, one is out of its range, or the call is too
    long."""
    cdef plain_call_t call
    cdef char[MOST_CALL] out
    cdef size_t size
    cdef uint64_t debt
    cdef int i
    if PyTuple_GET_SIZE(numbers) != 6:
        return None
    call.head, call.key = text_of(head), text_of(key)
    call.fixed, call.owner = text_of(fixed), text_of(owner)
    for i in range(6):
        call.numbers[i] = natural(<object>PyTuple_GET_ITEM(numbers, i))
    debt = call.numbers[5]
    call.numbers[5], call.numbers[6] = debt // 1000000000, debt % 1000000000
    size = put_call(out, &call)
    return PyBytes_FromStringAndSize(out, size) if size else None


def ask_store(int fd, bytes command not None, int64_t until_ns, int64_t patience_ns, /):
    """Sends a command over a blocking socket, and waits for bytes, in all for `patience_ns`, which
    began that long before `until_ns` (as `now_ns`). Returns the list of numbers that the bytes are;
    the bytes where they are anything else, none of them when the connection has ended; or `errno`
    after an error of the system. The time-out is that of the socket; where a signal interrupts the
    wait, it goes on for the rest of that time. A stop of the process interrupts it as well: the
    time between two looks at the socket counts for no more than a quarter of `patience_ns`. An
    exception comes from the handler of a signal."""
    cdef char[4096] got
    cdef int64_t[MOST_REPLIED] numbers
    cdef const char *data = PyBytes_AS_STRING(command)
    cdef size_t left = PyBytes_GET_SIZE(command)
    cdef int64_t now, seen = until_ns - patience_ns, rest = patience_ns, step = patience_ns // 4
    cdef Py_ssize_t size
    cdef int count, i
    with nogil:
        size = exchange(fd, &data, &left, got, sizeof(got))
    while size < 0:
        if errno != EINTR:
            return <int>errno
        PyErr_CheckSignals()
        now = system_ns()
        rest -= min(now - seen, step)
        seen = now
        with nogil:
            if ready_within(fd, left, rest, step):
                size = exchange(fd, &data, &left, got, sizeof(got))
    count = read_numbers(got, size, numbers)
    return [numbers[i] for i in range(count)] if count else PyBytes_FromStringAndSize(got, size)
