/* The time, read cheaply: the processor's counter of ticks since a moment at which the system was
 * asked.
 *
 * Asking the system costs 20 ns or more and fences, so that misses of the cache before and after it
 * do not overlap. The counter is trusted for one millisecond after each question, and for less than
 * that many ticks: where it jumps (a machine that is moved or woken) the system is asked again, so
 * the time is never wrong by more than that millisecond, and by some nanoseconds as a rule. Only
 * where the kernel itself reckons by the counter; else it is always the system that is asked.
 */
#ifndef CRDTBUCKET_MEMORY_TICKS_H
#define CRDTBUCKET_MEMORY_TICKS_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "atomics.h"
#include "layout.h"
#include "platform.h"
#if defined(__linux__) && defined(__x86_64__)
#define HAVE_TICKS 1
#else
#define HAVE_TICKS 0
#endif

#define TRUSTED_NS (SECOND / 1000)
#define MEASURED_NS (SECOND / 50) /* the rate of the counter is found over so long at least */
#define RATE_BITS 32
#define AGREE_BITS 12    /* to 1 in 4096: 250 ns within the millisecond */
#define CLOSE_TICKS 4000 /* a question and its answer, about a microsecond */

/* Of one process; used by one thread at a time, that of the interpreter. */
typedef struct {
    /* When the system was asked last, and first for the measurement under way. */
    int64_t ns, first_ns;
    uint64_t ticks, first_ticks;
    uint64_t trusted; /* ticks for which the counter is believed; 0: not at all */
    /* Ns a tick, RATE_BITS binary digits after the point; 0 while unknown. */
    uint64_t rate;
    int64_t last; /* the last answer: the time never goes back */
    int allowed;
} ticker_t;

static inline int64_t system_ns(void)
{
    struct timespec now;
    clock_gettime(BOOT_CLOCK, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

/* Whether the kernel reckons by the processor's counter. */
static int ticks_are_sound(void)
{
    char name[16] = {0};
    FILE *file =
        HAVE_TICKS ? fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re")
                   : NULL;
    if (!file)
        return 0;
    int read = fgets(name, sizeof name, file) != NULL;
    fclose(file);
    return read && !strcmp(name, "tsc\n");
}

#if HAVE_TICKS
/* Measures the rate of the counter anew; it is believed when two measurements agree. */
static void measure_rate(ticker_t *k, int64_t ns, uint64_t ticks)
{
    int64_t since = ns - k->first_ns;
    if (k->first_ns && since < MEASURED_NS && ticks > k->first_ticks)
        return;
    if (k->first_ns && since <= 100 * MEASURED_NS && ticks > k->first_ticks) {
        uint64_t rate = (uint64_t)(((u128)(uint64_t)since << RATE_BITS) / (ticks - k->first_ticks));
        uint64_t off = rate > k->rate ? rate - k->rate : k->rate - rate;
        /* 0.5 to 32 GHz. */
        int sound =
            off <= rate >> AGREE_BITS && rate >> (RATE_BITS - 5) && !(rate >> (RATE_BITS + 1));
        k->trusted = sound ? (uint64_t)(((u128)TRUSTED_NS << RATE_BITS) / rate) : 0;
        k->rate = rate;
    } else
        k->trusted = 0; /* long ago, or the counter was set back */
    k->first_ns = ns;
    k->first_ticks = ticks;
}

RARELY static int64_t ask_again(ticker_t *k)
{
    uint64_t before, after;
    int64_t ns;
    int tries = 0;
    /* Both at one moment: not where something came between. */
    do {
        before = __builtin_ia32_rdtsc();
        ns = system_ns();
        after = __builtin_ia32_rdtsc();
    } while (after - before > CLOSE_TICKS && ++tries < 3);
    k->ns = ns;
    if (after - before <= CLOSE_TICKS) {
        measure_rate(k, ns, after);
        k->ticks = after;
    } else
        /* Not to be believed: the next one asks, too. */
        k->ticks = after - k->trusted;
    return ns;
}

static inline int64_t ticks_ns(ticker_t *k)
{
    if (UNLIKELY(!k->allowed))
        return system_ns();
    uint64_t ticks = __builtin_ia32_rdtsc(), since = ticks - k->ticks;
    int64_t ns = LIKELY(since < k->trusted) ? k->ns + (int64_t)((since * k->rate) >> RATE_BITS)
                                            : ask_again(k);
    return k->last = ns > k->last ? ns : k->last; /* a step back would add a token of debt */
}
#else
static inline int64_t ticks_ns(ticker_t *k) { return (void)k, system_ns(); }
#endif

#endif
