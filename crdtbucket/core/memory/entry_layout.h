/* What lies in memory for one entry, a bucket's key; the rest of a table is in layout.h. */
#ifndef CRDTBUCKET_MEMORY_ENTRY_LAYOUT_H
#define CRDTBUCKET_MEMORY_ENTRY_LAYOUT_H

#include <stdint.h>

#define INLINE_COLUMNS 4
#define TOKEN_BITS 55
/* A column this large is closed and its owner opens a new epoch. */
#define TOKEN_ROLL (INT64_C(1) << 52)
#define TOKEN_MASK ((UINT64_C(1) << TOKEN_BITS) - 1)
#define BUSY (UINT64_C(1) << 63) /* of an entry's word */
#define REVISION_MASK (UINT64_C(0xff) << TOKEN_BITS)
#define REVISION_ONE (UINT64_C(1) << TOKEN_BITS)
#define STAMP_SHIFT 20 /* a stamp is a time in units of 2^20 ns, 1.05 ms */

enum entry_flags {
    ENTRY_USED = 1,
    ENTRY_IN_LOG = 4, /* its newest version is not acknowledged by every link */
    ENTRY_RATED = 8,  /* some peer advertises that it takes from this key */
    ENTRY_FLUSH = 16, /* asked for an early flush */
    ENTRY_NAMED = 32, /* its key was offered to the list of names */
    /* It comes from a snapshot of unknown age: it limits here, and is not sent to anybody. */
    ENTRY_SUSPECT = 64
};

/* The cache line that a take touches. The level is never stored: the theoretical arrival time is
 * `base` + T * net. So one compare-and-swap of `word` is the decision and the count at once, and
 * `base` moves only when time or peers move it.
 *
 * The low bits of `word` are net: the tokens taken less those refunded by `origin` in this
 * `generation`. Above them stands the entry's revision, a number that changes whenever the entry
 * becomes another key's, or its definition or origin changes. A take that began before finds
 * another revision and decides anew. BUSY: the entry is being changed, or has no key, and a take
 * waits for the lock. */
typedef struct {
    uint64_t hash_lo, hash_hi;
    int64_t base; /* local ns */
    uint64_t word;
    /* `net` at the last averaging: the tokens since then are net - averaged_net. */
    int64_t averaged_net;
    int64_t denied; /* tokens denied since then */
    /* Times this entry was full or forgiven: a refund is worth nothing after. */
    uint32_t full_count;
    uint32_t generation;
    uint16_t bucket; /* definition */
    uint16_t flags;
    /* Whose column `net` is: this process' origin when it last took. */
    uint16_t origin;
    /* 0: no prediction; k: peers may take at most 2^(k-1) tokens within the near horizon. */
    uint8_t near_class;
    /* Largest cost denied beside peers since the last averaging, see `cost_class`. */
    uint8_t wanted;
} hot_t;

/* A column: tokens taken by one origin. `taken` packs the origin above the count, 0 means no
 * column. */
typedef struct {
    uint64_t taken[INLINE_COLUMNS];
    uint32_t generation[INLINE_COLUMNS];
    /* Stamp of the newest update of the owner, to which `known` belongs. */
    uint32_t last_seen[INLINE_COLUMNS];
    /* The offered rates that it advertises: averages over 50 ms and 120 s, tokens/s, small floats.
     */
    uint16_t fast[INLINE_COLUMNS];
    uint16_t slow[INLINE_COLUMNS];
    /* Net tokens in the newest update of the owner; what is beyond them was relayed by others. */
    uint64_t known[INLINE_COLUMNS];
} columns_t;

typedef struct {
    int64_t rated_ns; /* last averaging */
    /* Own offered rate over 120 s, and how much of the window has been seen. */
    float slow, weight;
    /* What a small caller may take past the prediction, tokens, at rated_ns. */
    float reserve;
    /* Tokens that this node is behind its guaranteed share, at rated_ns, see `behind_tokens`. */
    float behind;
    uint16_t fast, granted; /* own offered and admitted rates over 50 ms */
    uint32_t version;       /* low half of the newest version in the log */
    uint32_t overflow;      /* first block, or NONE */
    uint32_t peak_at;       /* stamp of `peak` */
    /* Highest fast rates of late, of the peers together and of this node. */
    uint16_t peak, own_peak;
    /* The node that stated takes of it first, see crowding.h; 0: it was asked for here. */
    uint16_t introducer;
    /* For how long what this node was behind is made good, see guaranteed_share.h. */
    uint16_t owed;
    /* Of what silent peers ask for, the part that they are predicted to have got until the stamp.
     */
    float got;
    uint32_t got_at;
    columns_t columns; /* never with refunds */
} cold_t;

typedef struct {
    columns_t columns;
    uint32_t next;
    uint32_t reserved;
    uint64_t refunded[INLINE_COLUMNS];
    /* Net tokens that each column took last, a capacity at most: what refunds may give back. */
    uint64_t standing[INLINE_COLUMNS];
} block_t;

#endif
