# The codec of plain frames of the mesh: those that hold nothing but numbers, bits, a few pairs and
# a payload, as nearly all do. The caller says which fields there are.

cdef enum:
    MOST_NUMBERS = 32  # of fields, 0 is none
    MOST_PLAIN = 15  # fields in one frame: so many fit into the shortest map of msgpack
    MOST_BITS = 32  # bytes of bits
    MOST_PAIRS = 15
    LONGEST_PLAIN = 1 + MOST_NUMBERS * (1 + 9) + MOST_BITS + MOST_PAIRS * (1 + 2 * 9)


cdef class PlainFrames:
    """Reads and writes frames whose fields are numbers in their range, bits, and pairs of numbers.

    Both methods return None for every other frame: what is wrong with it, or what else stands in
    it, is for the full codec.
    """

    cdef bytes prefix
    cdef Py_ssize_t most
    cdef uint32_t known, required
    cdef int bits, pairs
    cdef list names
    cdef frozenset mine
    cdef int64_t low[MOST_NUMBERS]
    cdef uint64_t high[MOST_NUMBERS]
    cdef bint optional[MOST_NUMBERS]  # left out where it is None; any other field where it is 0

    def __cinit__(self, bytes prefix not None, Py_ssize_t most, fields, int bits, int pairs):
        """`prefix`: the 4 bytes before the length of the header. `most`: bytes that a frame may
        have. `fields`: the number, name, lowest value, highest value and default of each; a default
        of 0 or None may be left out, a field with any other must be there. `bits` and `pairs`: the
        numbers of the field that holds bits, and of the one that holds pairs. The highest value of
        bits is in bytes. The first number of a pair is 1 at least, and the range is that of the
        second. Raises CrdtbucketError for what there is no room for."""
        if len(prefix) != 4:
            raise CrdtbucketError(f"a frame begins with 4 bytes, not {prefix!r}")
        self.prefix, self.most, self.bits, self.pairs = prefix, most, bits, pairs
        self.names = [None] * MOST_NUMBERS
        for number, name, low, high, default in fields:
            if not 0 < number < MOST_NUMBERS:
                raise CrdtbucketError(
                    f"fields have numbers from 1 to {MOST_NUMBERS - 1}, not {number}"
                )
            if number == bits and high > MOST_BITS:
                raise CrdtbucketError(f"bits have at most {MOST_BITS} bytes, not {high}")
            self.names[number] = name
            self.low[number], self.high[number] = low, high
            self.optional[number] = default is None
            self.known |= 1u << number
            if default is not None and default != 0:
                self.required |= 1u << number
        self.mine = frozenset([name for name in self.names if name is not None] + ["payload"])

    def read(self, data):
        """The fields of a frame by name. Fields that have their default may be left out."""
        cdef const uint8_t *at
        cdef const uint8_t *end
        cdef Py_ssize_t size
        cdef uint32_t header, seen = 0
        cdef int left, number, rows
        cdef uint64_t first, value
        cdef bint negative
        cdef list pairs
        if type(data) is not bytes:
            return None
        at, size = <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        if not 9 <= size <= self.most or memcmp(at, PyBytes_AS_STRING(self.prefix), 4):
            return None
        header = at[4] | at[5] << 8 | at[6] << 16 | <uint32_t>at[7] << 24
        if not 0 < header <= size - 8 or at[8] & 0xf0 != 0x80:
            return None
        end, left = at + 8 + header, at[8] & 0x0f
        at += 9
        cdef dict fields = {"payload": data[8 + header:]}
        while left:
            left -= 1
            if end - at < 2:
                return None
            number = at[0]
            at += 1
            if number >= MOST_NUMBERS or not (self.known & ~seen) >> number & 1:
                return None
            seen |= 1u << number
            if number == self.bits:
                if (
                    at[0] != 0xC4
                    or end - at < 2
                    or at[1] > self.high[number]
                    or end - at < 2 + at[1]
                ):
                    return None
                fields[self.names[number]] = int.from_bytes(at[2:2 + at[1]], "little")
                at += 2 + at[1]
            elif number == self.pairs:
                rows = at[0] ^ 0x90
                if rows > MOST_PAIRS:
                    return None
                at, pairs = at + 1, []
                for _ in range(rows):
                    if end - at < 1 or at[0] != 0x92:
                        return None
                    at = take_number(at + 1, end, &first, &negative)
                    if at == NULL or negative or not first:
                        return None
                    at = take_number(at, end, &value, &negative)
                    if at == NULL or not self.fits(number, value, negative):
                        return None
                    pairs.append((first, value))
                fields[self.names[number]] = tuple(pairs)
            else:
                at = take_number(at, end, &value, &negative)
                if at == NULL or not self.fits(number, value, negative):
                    return None
                fields[self.names[number]] = <int64_t>value if negative else value
        return fields if at == end and not self.required & ~seen else None

    def write(self, dict fields):
        """The frame with these fields, by name. Fields that are left out have their default."""
        cdef uint8_t out[LONGEST_PLAIN]
        cdef uint8_t *at = out + 1
        cdef Py_ssize_t count = 0, mine = 0, header
        cdef int number
        cdef uint64_t first, value
        cdef bint negative
        cdef PyObject *found
        cdef bytes packed, payload = b""
        for number in range(1, MOST_NUMBERS):
            if not self.known >> number & 1:
                continue
            found = PyDict_GetItemWithError(fields, self.names[number])
            if found is NULL:
                if self.required >> number & 1:
                    return None
                continue
            mine += 1
            if self.optional[number] and <object>found is None:
                continue
            if number == self.bits:
                if type(<object>found) is not int:
                    return None
                if not <object>found:
                    continue
                try:
                    packed = (<object>found).to_bytes(self.high[number], "little").rstrip(b"\0")
                except OverflowError:
                    return None
                at[0], at[1], at[2] = number, 0xc4, <uint8_t>len(packed)
                memcpy(at + 3, PyBytes_AS_STRING(packed), len(packed))
                at += 3 + len(packed)
            elif number == self.pairs:
                if type(<object>found) is not tuple or len(<tuple>found) > MOST_PAIRS:
                    return None
                at[0], at[1] = number, <uint8_t>(0x90 | len(<tuple>found))
                at += 2
                for pair in <tuple>found:
                    if type(pair) is not tuple or len(<tuple>pair) != 2:
                        return None
                    if not whole(pair[0], &first, &negative) or negative or not first:
                        return None
                    if not whole(pair[1], &value, &negative) or not self.fits(
                        number, value, negative
                    ):
                        return None
                    at[0] = 0x92
                    at = put_number(put_number(at + 1, first, False), value, False)
            else:
                if not whole(<object>found, &value, &negative) or not self.fits(
                    number, value, negative
                ):
                    return None
                if not value and not (self.optional[number] or self.required >> number & 1):
                    continue
                at[0] = number
                at = put_number(at + 1, value, negative)
            count += 1
        if "payload" in fields:
            mine += 1
            if type(fields["payload"]) is not bytes:
                return None
            payload = fields["payload"]
        if mine != len(fields):
            for name, other in fields.items():
                if other is not None and name not in self.mine:
                    return None
        header = at - out
        if count > MOST_PLAIN or 8 + header + len(payload) > self.most:
            return None
        out[0] = <uint8_t>(0x80 | count)
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, 8 + header + len(payload))
        at = <uint8_t *>PyBytes_AS_STRING(frame)
        memcpy(at, PyBytes_AS_STRING(self.prefix), 4)
        at[4], at[5], at[6], at[7] = <uint8_t>header, <uint8_t>(header >> 8), 0, 0
        memcpy(at + 8, out, header)
        memcpy(at + 8 + header, PyBytes_AS_STRING(payload), len(payload))
        return frame

    cdef bint fits(self, int number, uint64_t value, bint negative):
        return number_fits(value, negative, self.low[number], self.high[number])


cdef bint whole(object number, uint64_t *value, bint *negative) except -1:
    """Whether an object is a whole number that 64 bits hold, with a sign or without one. Sets
    `value` and `negative`, as in packed_number.h."""
    cdef int overflow
    cdef int64_t small
    if not PyLong_CheckExact(number):
        return False
    small = PyLong_AsLongLongAndOverflow(number, &overflow)
    value[0], negative[0] = <uint64_t>small, not overflow and small < 0
    if overflow > 0 and number <= 0xffffffffffffffff:
        value[0] = number
        return True
    return not overflow
