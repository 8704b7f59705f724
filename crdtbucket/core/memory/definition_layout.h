/* What lies in memory for one definition of a bucket; the rest of a table is in layout.h. */
#ifndef CRDTBUCKET_MEMORY_DEFINITION_LAYOUT_H
#define CRDTBUCKET_MEMORY_DEFINITION_LAYOUT_H

#include <stdint.h>

#define COUNTED_MODES 2 /* as many as `COUNTED` in mode.py has */

/* Decisions under one definition in one process, which alone writes them. */
typedef struct {
    int64_t allowed, denied, shadowed, granted, refunded;
    /* Of the decisions those in each of these modes: denied, allowed, shadowed. */
    int64_t decided[COUNTED_MODES][3];
    int64_t guaranteed; /* admitted by the guaranteed share alone */
} counts_t;

/* A limit that a bucket had before. */
typedef struct {
    int64_t until;            /* local ns: its keys came under another one */
    double burst, per_second; /* tokens at once, and refill */
    /* It was that of all keys; 0: of a candidate's share of them, which came back. */
    uint32_t of_all;
    uint32_t reserved;
} earlier_t;

/* How many earlier limits are kept apart; the oldest ones are merged into one. */
#define EARLIER 4

/* A bucket's definition. T = q / p ns a token. */
typedef struct {
    int64_t q, p;
    int64_t capacity, max_debt;
    int64_t full_ns, cap_ns; /* floor(T * capacity), floor(T * (capacity + max_debt)) */
    uint64_t name_hash, definition_hash;
    double per_second;
    int64_t flush_tokens;   /* admitted and unsent tokens that ask for an early flush */
    int64_t quota, entries; /* entries allowed and held */
    int64_t forgiven, refused_full;
    counts_t past; /* under earlier definitions whose slots are used again */
    /* Most tokens of debt beyond the capacity: this minute, the one before. */
    int64_t over_admitted, over_admitted_before, over_admitted_minute;
    uint32_t next;                    /* the definition that replaced this one, or NONE */
    uint16_t allow_when_full, shadow; /* shadow: what is denied is admitted all the same */
    int64_t replaced_ns;              /* when `next` replaced it */
    /* Keys whose hash (high half, halved) lies below it are the candidate's; 0: none are. */
    uint64_t candidate_below;
    int64_t staged_ns; /* when that last changed */
    /* This one is another's candidate, or was until that was dropped. */
    uint32_t staged;
    /* A second definition of the bucket, of some of its keys, or NONE. */
    uint32_t candidate;
    uint32_t earlier_count;
    uint32_t unpredicted; /* what peers will take is not predicted: no rates of theirs are kept */
    earlier_t earlier[EARLIER]; /* the newest first */
    /* Local ns until which nothing comes back: the end of a calendar period; 0: it always does. */
    int64_t still_until;
    /* Where the ring of its entries begins, see rings.h; NONE: it has none. */
    uint32_t ring;
    uint32_t forgiven_part; /* beside `forgiven`, in 2^-32 of a token */
} definition_t;

#endif
