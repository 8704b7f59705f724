/* The time, read cheaply: the processor's counter of ticks since a moment at which the system was asked.
 *
 * Asking the system costs 20 ns or more and fences, so that misses of the cache before and after it do not overlap. The
 * counter is trusted for one millisecond after each question, and for less than that many ticks: where it jumps (a machine
 * that is moved or woken) the system is asked again, so the time is never wrong by more than that millisecond, and by some
 * nanoseconds as a rule. Only where the kernel itself reckons by the counter; else it is always the system that is asked.
 */
#ifndef CRDTBUCKET_TICKS_H
#define CRDTBUCKET_TICKS_H

#include <stdint.h>
#include <time.h>
#ifdef __x86_64__
#include <x86intrin.h>
#define HAVE_TICKS 1
#else
#define HAVE_TICKS 0
#endif
#include "level.h"

#define TRUSTED_NS (SECOND / 1000)
#define MEASURED_NS (SECOND / 50)      /* the rate of the counter is found over so long at least */
#define RATE_BITS 32

/* Of one process; used by one thread at a time, that of the interpreter. */
typedef struct {
    int64_t ns, first_ns;             /* when the system was asked last, and first for the measurement under way */
    uint64_t ticks, first_ticks;
    uint64_t trusted;                 /* ticks for which the counter is believed; 0: not at all */
    uint64_t rate;                    /* ns a tick, RATE_BITS binary digits after the point; 0 while unknown */
    int allowed;
} ticker_t;

static inline int64_t system_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

/* Whether the kernel reckons by the processor's counter. */
static int ticks_are_sound(void)
{
    char name[16] = {0};
    FILE *file = HAVE_TICKS ? fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re") : NULL;
    if (!file)
        return 0;
    int read = fgets(name, sizeof name, file) != NULL;
    fclose(file);
    return read && !strcmp(name, "tsc\n");
}

#if HAVE_TICKS
static __attribute__((noinline)) int64_t ask_again(ticker_t *k, uint64_t ticks)
{
    int64_t ns = system_ns(), since = ns - k->first_ns;
    if (!k->first_ns || since > 100 * MEASURED_NS || ticks <= k->first_ticks) {
        k->first_ns = ns;                               /* long ago, or the counter was set back: begin to measure anew */
        k->first_ticks = ticks;
    } else if (since >= MEASURED_NS) {
        k->rate = (uint64_t)(((u128)(uint64_t)since << RATE_BITS) / (ticks - k->first_ticks));
        k->trusted = (uint64_t)(((u128)TRUSTED_NS << RATE_BITS) / (k->rate ? k->rate : 1));
        if (k->rate >> (RATE_BITS + 1) || k->rate < 1 << (RATE_BITS - 5))
            k->trusted = 0;                             /* no processor: 0.5 to 32 GHz */
        k->first_ns = ns;
        k->first_ticks = ticks;
    }
    k->ns = ns;
    k->ticks = ticks;
    return ns;
}

static inline int64_t ticks_ns(ticker_t *k)
{
    if (UNLIKELY(!k->allowed))
        return system_ns();
    uint64_t ticks = __rdtsc(), since = ticks - k->ticks;
    if (LIKELY(since < k->trusted))
        return k->ns + (int64_t)((since * k->rate) >> RATE_BITS);
    return ask_again(k, ticks);
}
#else
static inline int64_t ticks_ns(ticker_t *k) { return (void)k, system_ns(); }
#endif

#endif
