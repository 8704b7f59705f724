/* SipHash-1-3 with 128 bits of output (Aumasson and Bernstein, 2012). It is keyed, so nobody
 * without the key can build collisions. It promises nothing against somebody who knows the key, so
 * keys are hashed by BLAKE2s where there is no secret. */
#ifndef CRDTBUCKET_MEMORY_HASH_H
#define CRDTBUCKET_MEMORY_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "blake2s.h"

/* A hash key whose second half is this is no secret. A secret, random one has this half once in
 * 2^64. */
#define PUBLIC_HASH UINT64_MAX

#define ROTL64(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIP_ROUND            \
    do {                     \
        v0 += v1;            \
        v1 = ROTL64(v1, 13); \
        v1 ^= v0;            \
        v0 = ROTL64(v0, 32); \
        v2 += v3;            \
        v3 = ROTL64(v3, 16); \
        v3 ^= v2;            \
        v0 += v3;            \
        v3 = ROTL64(v3, 21); \
        v3 ^= v0;            \
        v2 += v1;            \
        v1 = ROTL64(v1, 17); \
        v1 ^= v2;            \
        v2 = ROTL64(v2, 32); \
    } while (0)

/* The last `size & 7` bytes of an input of `size` bytes, as the low bytes of a word; `at` is where
 * they begin. It reads them by overlapping loads: copying them one by one to memory and reading
 * eight bytes back would stall the processor. */
static inline uint64_t tail_word(const uint8_t *at, size_t size)
{
    size_t left = size & 7;
    uint64_t word;
    if (size >= 8) {
        memcpy(&word, at + left - 8, 8);
        return left ? word >> (64 - 8 * left) : 0;
    }
    if (left >= 4) {
        uint32_t low, high;
        memcpy(&low, at, 4);
        memcpy(&high, at + left - 4, 4);
        return low | ((uint64_t)high << (8 * (left - 4)));
    }
    return left ? at[0] | ((uint64_t)at[left >> 1] << (8 * (left >> 1)))
                      | ((uint64_t)at[left - 1] << (8 * (left - 1)))
                : 0;
}

/* Hashes `size` bytes to 128 bits, `lo` and `hi`. `salt` separates buckets: the same key has
 * unrelated hashes in two buckets. */
static inline void keyed_hash(const uint64_t key[2], uint64_t salt, const uint8_t *data,
                              size_t size, uint64_t *lo, uint64_t *hi)
{
    if (__builtin_expect(key[1] == PUBLIC_HASH, 0)) {
        blake2s_128(salt, key[0], data, size, lo, hi);
        return;
    }
    uint64_t k0 = key[0] ^ salt, k1 = key[1];
    uint64_t v0 = k0 ^ UINT64_C(0x736f6d6570736575), v1 = k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xee;
    uint64_t v2 = k0 ^ UINT64_C(0x6c7967656e657261), v3 = k1 ^ UINT64_C(0x7465646279746573);
    const uint8_t *end = data + (size & ~(size_t)7);
    uint64_t word;

    for (; data != end; data += 8) {
        memcpy(&word, data, 8);
        v3 ^= word;
        SIP_ROUND;
        v0 ^= word;
    }
    word = ((uint64_t)size << 56) | tail_word(end, size);
    v3 ^= word;
    SIP_ROUND;
    v0 ^= word;
    v2 ^= 0xee;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    *lo = v0 ^ v1 ^ v2 ^ v3;
    v1 ^= 0xdd;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    *hi = v0 ^ v1 ^ v2 ^ v3;
}

#endif
