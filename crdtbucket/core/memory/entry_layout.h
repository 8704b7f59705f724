/* What lies in memory for one entry, a bucket's key; the rest of a table is in layout.h. */
#ifndef CRDTBUCKET_MEMORY_ENTRY_LAYOUT_H
#define CRDTBUCKET_MEMORY_ENTRY_LAYOUT_H

#include <stdint.h>

#define INLINE_COLUMNS 4
#define TOKEN_BITS 55
/* When a column is this large, its owner closes it and opens a new epoch. */
#define TOKEN_ROLL (INT64_C(1) << 52)
#define TOKEN_MASK ((UINT64_C(1) << TOKEN_BITS) - 1)
#define BUSY (UINT64_C(1) << 63) /* in the word of an entry: no take may change it */
#define REVISION_MASK (UINT64_C(0xff) << TOKEN_BITS)
#define REVISION_ONE (UINT64_C(1) << TOKEN_BITS)
#define STAMP_SHIFT 20 /* a stamp is a time in units of 2^20 ns, 1.05 ms */

enum entry_flags {
    ENTRY_USED = 1,
    /* What was taken while peers are silent is noted, and may be hidden; see level/taken.h. */
    ENTRY_NOTED = 2,
    ENTRY_IN_LOG = 4, /* some link has not acknowledged its newest version */
    ENTRY_RATED = 8,  /* some peer advertises a rate for this key */
    ENTRY_FLUSH = 16, /* asked for an early flush */
    ENTRY_NAMED = 32, /* its key was offered to the list of names */
    /* It comes from a snapshot of unknown age: it limits here, and is not sent to anybody. */
    ENTRY_SUSPECT = 64
};

/* The hot cache line of an entry, which a take reads and changes. The level is not stored: it
 * follows from the theoretical arrival time, which is `base` + T * net (see level/units.h). So one
 * compare-and-swap of `word` is the decision and the count at once, and `base` moves only when time
 * passes or an update of a peer arrives.
 *
 * The low bits of `word` are net: the tokens taken less those refunded by `origin` in this
 * `generation`. Above them stands the entry's revision, a number that changes whenever the entry
 * becomes another key's, or its definition or its origin changes. A take that began before such a
 * change finds another revision, and decides anew. The highest bit is BUSY: the entry is being
 * changed, or has no key, and a take waits for the lock. */
typedef struct {
    /* The hash of the key, keyed by `header_t.hash_key`. Of a free entry `hash_lo` is the next free
     * one. */
    uint64_t hash_lo, hash_hi;
    int64_t base; /* local ns; see above */
    uint64_t word;
    /* `net` at the last averaging: the tokens taken since then are net - averaged_net. */
    int64_t averaged_net;
    int64_t denied; /* tokens of the calls denied since the last averaging */
    /* How often the bucket was full, or debt of it was forgiven. A decision notes the number: once
     * it has changed, a refund of that take is worth nothing. */
    uint32_t full_count;
    uint32_t generation;
    uint16_t bucket; /* slot of its definition */
    uint16_t flags;
    /* The epoch whose column `net` is: the one that was running when the entry was last renewed. */
    uint16_t origin;
    /* 0: no prediction; k: peers may take at most 2^(k-1) tokens within the near horizon. */
    uint8_t near_class;
    /* The class (see `cost_class`) of the largest cost that was asked for beside peers, in
     * `take_slow`, since the last averaging. */
    uint8_t wanted;
} hot_t;

/* Four columns of an entry, place i of each array for one of them. `taken` has the number of the
 * origin above the tokens taken; 0 means that the place has no column. */
typedef struct {
    uint64_t taken[INLINE_COLUMNS];
    uint32_t generation[INLINE_COLUMNS];
    /* Time (a stamp) for which the newest update of its owner on this key stands, whether the owner
     * sent it or a relay. */
    uint32_t last_seen[INLINE_COLUMNS];
    /* The rates at which its owner's callers ask, as it advertises them: averages over 50 ms and
     * 120 s, tokens a second, packed (packed_rate.h). */
    uint16_t fast[INLINE_COLUMNS];
    uint16_t slow[INLINE_COLUMNS];
    /* Net tokens of the column at that newest update. What the column has beyond them, others have
     * relayed. */
    uint64_t known[INLINE_COLUMNS];
} columns_t;

/* The cold record of an entry: what a take needs only when it asks for a prediction, and its first
 * columns. It is written under the table's lock. */
typedef struct {
    int64_t rated_ns; /* local ns of the last averaging */
    /* An average over 120 s of the tokens a second that this node's callers ask for, in which time
     * without the entry counts as 0; and the part of that window (0 to 1) that has been seen. The
     * slow rate is slow / weight. */
    float slow, weight;
    /* Tokens of the reserve at rated_ns, see reserve.h; below 0: it is full. */
    float reserve;
    /* Tokens by which this node was behind its guaranteed share at rated_ns, see
     * `behind_tokens`. */
    float behind;
    /* The fast rates, over 50 ms or more, at which this node's callers ask and are admitted. */
    uint16_t fast, granted;
    uint32_t version;  /* low half of its newest version in the log */
    uint32_t overflow; /* first block, or NONE */
    uint32_t peak_at;  /* stamp of `peak` */
    /* The highest fast rate lately: of the peers together (at `peak_at`), and of this node (at
     * rated_ns). */
    uint16_t peak, own_peak;
    /* The node that introduced the entry, see crowding.h: the one that first advertised takes;
     * RELAYED: a relay; 0: a call here asked for it. */
    uint16_t introducer;
    /* For how long, in OWED_PARTS, what this node was behind is still made good; see
     * guaranteed_share.h. */
    uint16_t owed;
    /* The part (0 to 1) of what silent peers asked for that they are predicted to have got up to
     * the time of the stamp `got_at`. */
    float got;
    uint32_t got_at;
    /* Local ns at which all is refilled that was surely taken while peers were silent here; 0:
     * nothing is noted. See taken.h. */
    int64_t taken_until;
    columns_t columns; /* these four have no refunds */
} cold_t;

/* A block: four more columns of an entry. Only columns in blocks have refunds. The entry's first
 * block is `cold_t.overflow`, and `next` leads from one block to the next (NONE: the last). A free
 * block is linked by `next`, too. */
typedef struct {
    columns_t columns;
    uint32_t next;
    uint32_t reserved;
    uint64_t refunded[INLINE_COLUMNS];
    /* The tokens of each column that refunds may still give back, see merge/standing.h: the net
     * tokens that it took last, one capacity at most. */
    uint64_t standing[INLINE_COLUMNS];
} block_t;

#endif
