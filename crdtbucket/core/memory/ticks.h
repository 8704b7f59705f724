/* The time, read cheaply: the system is asked for it from time to time, and in between the
 * processor's counter of ticks says how much has passed.
 *
 * Asking the system costs 20 ns or more, and it fences, so that cache misses before and after it do
 * not overlap. The counter is trusted for one millisecond after each question, and for no more
 * ticks than that is: where the counter jumps (a machine that is moved or woken) the system is
 * asked again. So the time is never wrong by more than that millisecond, and as a rule by some
 * nanoseconds. The counter is used only where the kernel itself uses it as its clock; elsewhere the
 * system is always asked. */
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
#define MEASURED_NS (SECOND / 50) /* shortest measurement of its rate */
#define RATE_BITS 32
#define AGREE_BITS 12    /* two measurements agree to 1 in 4096: 250 ns in a millisecond */
#define CLOSE_TICKS 4000 /* about a microsecond: most ticks that asking may take */

/* The clock of one process. One thread at a time uses it: the one that holds the interpreter's
 * lock. */
typedef struct {
    /* What the system and the counter said when the system was asked last, and at the beginning of
     * the measurement of the rate. */
    int64_t ns, first_ns;
    uint64_t ticks, first_ticks;
    uint64_t trusted; /* ticks for which the counter is believed; 0: not at all */
    /* Ns a tick, RATE_BITS binary digits after the point; 0 while unknown. */
    uint64_t rate;
    int64_t last; /* the last answer: the time never goes back */
    /* Whether the counter may be used at all, see `ticks_are_sound`. */
    int allowed;
} ticker_t;

/* The time in ns, asked from the system. */
static inline int64_t system_ns(void)
{
    struct timespec now;
    clock_gettime(BOOT_CLOCK, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

/* Whether the kernel uses the processor's counter as its clock. */
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
/* Takes a moment (`ns` and `ticks`) into the measurement of the counter's rate. Once MEASURED_NS
 * have passed, the rate is computed; it is believed when it agrees with the one before. */
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

/* Asks the system for the time, and notes the ticks of that moment. */
RARELY static int64_t ask_again(ticker_t *k)
{
    uint64_t before, after;
    int64_t ns;
    int tries = 0;
    /* The time and the ticks must belong to one moment. Where the process was interrupted in
     * between, try again. */
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
        /* The two do not belong together: the next call asks the system, too. */
        k->ticks = after - k->trusted;
    return ns;
}

/* The time in ns. It never goes back. */
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
