/* Reads and writes of shared words: what other threads and processes may change at the same time.
 */
#ifndef CRDTBUCKET_MEMORY_ATOMICS_H
#define CRDTBUCKET_MEMORY_ATOMICS_H

#include <stdint.h>

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELEASE)
/* Sequentially consistent: a process that clears the attempt bit afterwards must see what the take
 * has counted. */
#define CAS(x, expected, v) \
    __atomic_compare_exchange_n(&(x), &(expected), (v), 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)
#define ADD(x, v) __atomic_fetch_add(&(x), (v), __ATOMIC_RELAXED)
#define CLEAR(x, bits) __atomic_fetch_and(&(x), ~(bits), __ATOMIC_SEQ_CST)
#define OR(x, v) __atomic_fetch_or(&(x), (v), __ATOMIC_ACQ_REL)
#define AND(x, v) __atomic_fetch_and(&(x), (v), __ATOMIC_ACQ_REL)
/* Reads without the lock what its holder may be writing: rates, and the columns that they stand by.
 * Each is an aligned word, so that old and new ones may be mixed, and no more; a prediction out of
 * such a mixture is wrong for one take. */
#define GLANCES __attribute__((no_sanitize("thread")))
/* What follows is not written before what stands above it: a process may be killed in between. */
#define IN_ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST)
/* What is read below is not read before what stands above it was seen by all. The sanitizer of
 * threads knows no fences; it follows the operations around it. */
#ifdef __SANITIZE_THREAD__
#define FENCE() IN_ORDER()
#else
#define FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif
/* A counter that stays at the end of its range. */
#define ADD_SATURATED(x, v)                             \
    do {                                                \
        int64_t added_ = (v), before_ = ADD(x, added_); \
        if (added_ > 0 && before_ > INT64_MAX - added_) \
            STORE(x, INT64_MAX);                        \
    } while (0)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
/* A function that is called rarely stays out of the code that calls it. */
#define RARELY __attribute__((noinline))

/* Runs once in a while, and is made small. */
#define COLD __attribute__((cold))

#endif
