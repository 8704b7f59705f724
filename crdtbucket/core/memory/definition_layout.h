/* What lies in memory for one definition of a bucket; the rest of a table is in layout.h. */
#ifndef CRDTBUCKET_MEMORY_DEFINITION_LAYOUT_H
#define CRDTBUCKET_MEMORY_DEFINITION_LAYOUT_H

#include <stdint.h>

#define COUNTED_MODES 2 /* as many as `COUNTED` in mode.py has */

/* What one process decided under one definition. Only that process writes it. `granted` and
 * `refunded` are tokens, all others are numbers of decisions; `shadowed` were denied, but admitted
 * since the definition is in shadow mode. */
typedef struct {
    int64_t allowed, denied, shadowed, granted, refunded;
    /* The decisions again, by the mode in which they were made: [mode][0 denied, 1 allowed, 2
     * shadowed]. */
    int64_t decided[COUNTED_MODES][3];
    int64_t guaranteed; /* admitted by the guaranteed share alone */
} counts_t;

/* A limit that a bucket had before the present one. */
typedef struct {
    int64_t until;            /* local ns: when it was replaced */
    double burst, per_second; /* see `burst_tokens`; the refill, tokens a second */
    /* 1: it was the limit of all keys; 0: of a candidate, and so of some keys only. */
    uint32_t of_all;
    uint32_t reserved;
} earlier_t;

/* How many earlier limits are kept apart; the oldest ones are merged into one. */
#define EARLIER 4

/* The definition of a bucket: its limit, its options, and what is counted for it. T = q / p ns
 * refill one token. */
typedef struct {
    int64_t q, p;
    int64_t capacity, max_debt;
    /* The time, ns rounded down, in which a debt of the capacity, and of the ceiling, is
     * refilled. */
    int64_t full_ns, cap_ns;
    /* `name_hash` names the bucket; 0: the slot is free, or is just being written. */
    uint64_t name_hash, definition_hash;
    double per_second;
    int64_t flush_tokens;   /* so many tokens admitted and unsent of a key ask for an early flush */
    int64_t quota, entries; /* entries that the bucket may have, `max_keys`, and has */
    /* Tokens of debt that were forgiven; takes and merges that found no room for their key. */
    int64_t forgiven, refused_full;
    counts_t past; /* the counts of earlier definitions of the bucket whose slots were used again */
    /* The most tokens by which a debt passed the capacity in the running minute, and in the
     * minute before that; and the number of the running minute, by the local clock. See
     * over_admission.h. */
    int64_t over_admitted, over_admitted_before, over_admitted_minute;
    uint32_t next; /* the definition that replaced this one, or NONE */
    /* `shadow`: calls that are denied are counted so, but admitted. */
    uint16_t allow_when_full, shadow;
    int64_t replaced_ns; /* when `next` replaced it */
    /* Where there is a `candidate`: the keys with hash_hi / 2 below this are under that. 0: none
     * are. */
    uint64_t candidate_below;
    int64_t staged_ns; /* when a roll-out last set `candidate` or `candidate_below` */
    /* 1: this is the candidate of another definition, or was until that one dropped it. */
    uint32_t staged;
    /* The second definition that the bucket has for some of its keys during a roll-out, or NONE. */
    uint32_t candidate;
    uint32_t earlier_count;
    /* 1 for slots and calendar quotas: takes of peers are not predicted, and no rates of theirs
     * kept. */
    uint32_t unpredicted;
    earlier_t earlier[EARLIER]; /* the newest first */
    /* Of a calendar quota: the local ns at which its period ends; until then nothing is refilled.
     * 0: the definition always refills. */
    int64_t still_until;
    /* An entry at which its ring of entries begins, see rings.h; NONE: it has no ring, or no
     * entry. */
    uint32_t ring;
    /* The part of a token that is forgiven beside `forgiven`, in 2^-32 tokens. */
    uint32_t forgiven_part;
} definition_t;

#endif
