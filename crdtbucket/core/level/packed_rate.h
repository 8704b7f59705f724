/* Rates in two bytes, as entries and frames hold them. */
#ifndef CRDTBUCKET_LEVEL_PACKED_RATE_H
#define CRDTBUCKET_LEVEL_PACKED_RATE_H

#include <stdint.h>

#include "../memory/atomics.h"

/* Packs a number into a small unsigned float: 6 bits of exponent, from 2^-24 on, and 10 of
 * mantissa. 0 stands for 0, and for all up to 2^-24; what is above 2^38 counts as that. */
static inline uint16_t pack_float(float value)
{
    union {
        float f;
        uint32_t u;
    } word = {value};
    if (!(value > 0x1p-24f))
        return 0;
    if (UNLIKELY(value > 0x1p38f))
        word.f = 0x1p38f;
    word.u += UINT32_C(1) << 12; /* round half up */
    return (uint16_t)((word.u >> 13) - ((UINT32_C(127) - 25) << 10));
}

static inline uint16_t pack_rate(double value) { return pack_float((float)value); }

/* The number that a small float stands for. */
static inline double unpack_rate(uint16_t packed)
{
    union {
        float f;
        uint32_t u;
    } word;
    if (!packed)
        return 0.0;
    word.u = ((uint32_t)packed + ((UINT32_C(127) - 25) << 10)) << 13;
    return word.f;
}

#endif
