/* Reads and writes of shared words: what other threads and processes may change at the same time.
 */
#ifndef CRDTBUCKET_MEMORY_ATOMICS_H
#define CRDTBUCKET_MEMORY_ATOMICS_H

#include <stdint.h>

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELEASE)
/* Compares and swaps: 1 when it has replaced `expected` by `v`, else 0, and `expected` is what was
 * found. It is sequentially consistent, since whoever clears an attempt bit afterwards
 * (`collect_round`) must see what the take has counted. */
#define CAS(x, expected, v) \
    __atomic_compare_exchange_n(&(x), &(expected), (v), 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)
#define ADD(x, v) __atomic_fetch_add(&(x), (v), __ATOMIC_RELAXED)
#define CLEAR(x, bits) __atomic_fetch_and(&(x), ~(bits), __ATOMIC_SEQ_CST)
#define OR(x, v) __atomic_fetch_or(&(x), (v), __ATOMIC_ACQ_REL)
#define AND(x, v) __atomic_fetch_and(&(x), (v), __ATOMIC_ACQ_REL)
/* Marks a function that reads, without the lock, what the holder of the lock may be writing: rates,
 * and the columns beside them. Each of these is an aligned word, so a reader may see some words of
 * before and some of after, but never half of a word. A prediction that is computed from such a
 * mixture is wrong for one take. */
#define GLANCES __attribute__((no_sanitize("thread")))
/* Keeps the compiler from moving writes across this line. That is enough here: a process may be
 * killed between two writes, and then what another process sees must be written in this order. */
#define IN_ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST)
/* Keeps reads below this line from being done before the writes above it are visible to all
 * processors. The thread sanitizer does not understand fences, but it checks the operations around
 * them. */
#ifdef __SANITIZE_THREAD__
#define FENCE() IN_ORDER()
#else
#define FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif
/* Adds to a counter, which stays at INT64_MAX instead of wrapping around. */
#define ADD_SATURATED(x, v)                             \
    do {                                                \
        int64_t added_ = (v), before_ = ADD(x, added_); \
        if (added_ > 0 && before_ > INT64_MAX - added_) \
            STORE(x, INT64_MAX);                        \
    } while (0)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Keeps a function that is called rarely out of line, so that its callers stay small. */
#define RARELY __attribute__((noinline))

/* The function runs seldom: the compiler optimises it for size. */
#define COLD __attribute__((cold))

#endif
