/* Whole numbers in the format of msgpack. In memory each is `value`, 64 bits, and whether it is
 * `negative`: then `value` is its two's complement. */
#ifndef CRDTBUCKET_BINDING_PACKED_NUMBER_H
#define CRDTBUCKET_BINDING_PACKED_NUMBER_H

#include <stddef.h>
#include <stdint.h>

/* Reads the number at `at` and returns where it ends; NULL for anything else, and for a number that
 * is cut off at `end`. */
static inline const uint8_t *take_number(const uint8_t *at, const uint8_t *end, uint64_t *value,
                                         int *negative)
{
    *negative = 0;
    if (at >= end)
        return NULL;
    uint8_t kind = *at++;
    if (kind < 0x80) {
        *value = kind;
        return at;
    }
    if (kind >= 0xe0) {
        *negative = 1;
        *value = (uint64_t)(int64_t)(int8_t)kind;
        return at;
    }
    if (kind < 0xcc || kind > 0xd3)
        return NULL;
    int width = 1 << ((kind - 0xcc) & 3);
    if (end - at < width)
        return NULL;
    *negative = kind >= 0xd0 && (*at & 0x80);
    *value = *negative ? ~(uint64_t)0 : 0;
    while (width--)
        *value = *value << 8 | *at++;
    return at;
}

/* Writes a number in the fewest bytes, and returns where it ends. */
static inline uint8_t *put_number(uint8_t *at, uint64_t value, int negative)
{
    /* A number with as many bits as this one needs, the sign of a negative one among them. */
    uint64_t size = negative ? ~value << 1 : value;
    if (negative ? value >= (uint64_t)-32 : value < 0x80) {
        *at = (uint8_t)value;
        return at + 1;
    }
    int power = size <= 0xff ? 0 : size <= 0xffff ? 1 : size <= 0xffffffffu ? 2 : 3;
    *at++ = (uint8_t)((negative ? 0xd0 : 0xcc) + power);
    for (int left = 1 << power; left--;)
        *at++ = (uint8_t)(value >> (8 * left));
    return at;
}

/* Whether a number is in a range, of which only the upper end may need more than 63 bits. */
static inline int number_fits(uint64_t value, int negative, int64_t low, uint64_t high)
{
    if (negative)
        return (int64_t)value >= low;
    return value <= high && (low <= 0 || value >= (uint64_t)low);
}

#endif
