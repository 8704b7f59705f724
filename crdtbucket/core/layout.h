/* What lies in memory: no pointers, so that the same bytes can be mapped by several processes.
 *
 * One mapping holds, one after the other: the header, the journal, the definitions, the nodes, the origins, the processes
 * that use it, the flushes asked for, the marks of attempts, the index, the names of the nodes, the leader's notes, what it
 * shows the others, the counters of each process, and per entry (a bucket's key) a hot cache line, a cold record and two slots in the log of unsent versions, and last the
 * overflow blocks. Regions are sized for `max_keys` at
 * creation and touched only as they are used, so the table grows without ever moving an entry.
 *
 * Who may write what: a take, in any process and without a lock, moves an entry's `word` and `base` by compare-and-swap and
 * adds to its counters. Everything else is written under the table's lock. A process may be killed at any instruction: the
 * next one to take the lock is told, and repairs (repair.h).
 */
#ifndef CRDTBUCKET_LAYOUT_H
#define CRDTBUCKET_LAYOUT_H

#include <pthread.h>
#include <stdint.h>

#define INLINE_COLUMNS 4
#define MAX_DEFINITIONS 4096
#define MAX_NODES 1024                /* more than origins: a life that is remembered never lacks a number */
#define MAX_COLUMNS 512               /* of one entry in a frame */
#define MAX_WORKERS 128               /* processes that use a table at once */
#define NAME_BYTES 800                /* of a node's name: 200 characters */
#define NOTES_BYTES (2 << 20)         /* what the leader may leave to the next */
#define VIEW_BYTES (1 << 20)          /* what the leader shows the others of the mesh */
#define MAX_ORIGINS 512               /* 9 bits beside 55 bits of tokens */
#define TOKEN_BITS 55
#define TOKEN_ROLL (INT64_C(1) << 52) /* a column this large is closed and its owner opens a new epoch */
#define TOKEN_MASK ((UINT64_C(1) << TOKEN_BITS) - 1)
#define BUSY (UINT64_C(1) << 63)      /* of an entry's word */
#define LIFE_MASK (UINT64_C(0xff) << TOKEN_BITS)
#define LIFE_ONE (UINT64_C(1) << TOKEN_BITS)
#define STAMP_SHIFT 20                /* a stamp is a time in units of 2^20 ns, 1.05 ms */
#define SLICE 8192                    /* entries of long work, some 0.5 ms, for which other threads and processes wait */
#define NONE UINT32_MAX
#define SECOND INT64_C(1000000000)
#define MILLISECOND INT64_C(1000000)

typedef __int128 i128;
typedef unsigned __int128 u128;

enum entry_flags {
    ENTRY_USED = 1,
    ENTRY_IN_LOG = 4,                 /* its newest version is not acknowledged by every link */
    ENTRY_RATED = 8,                  /* some peer states that it takes from this key */
    ENTRY_FLUSH = 16,                 /* asked for an early flush */
    ENTRY_NAMED = 32,                 /* its key was offered to the list of names */
    ENTRY_SUSPECT = 64                /* out of a snapshot of unknown age: binds here, and is told to nobody */
};

/* The line that a take touches. The level is never stored: the theoretical arrival time is base + T * net, so one
 * compare-and-swap of `word` is the decision and the count at once, and `base` moves only when time or peers move it.
 *
 * `word` is net, the tokens taken less refunded by `origin` since `birth`, and above it the entry's life: a number that
 * changes whenever the entry becomes another key's, or its definition or origin changes. A take that began before finds
 * another life and decides anew. BUSY: it is being changed, or no key's, and a take waits for the lock. */
typedef struct {
    uint64_t hash_lo, hash_hi;
    int64_t base;                     /* local ns */
    uint64_t word;
    int64_t mark;                     /* `net` at the last averaging: net - mark was admitted since */
    int64_t denied;                   /* tokens denied since then */
    uint32_t full_count;              /* times this entry was full or forgiven: a refund is worth nothing after */
    uint32_t birth;
    uint16_t bucket;                  /* definition */
    uint16_t flags;
    uint16_t origin;                  /* whose column `net` is: this process' origin when it last took */
    uint8_t near_class;               /* 0: no prediction; k: peers may take at most 2^(k-1) tokens within the near horizon */
    uint8_t wanted;                   /* largest cost denied beside peers since the last averaging, see `cost_class` */
} hot_t;

/* A column: tokens taken by one origin. `taken` packs the origin above the count, 0 means no column. */
typedef struct {
    uint64_t taken[INLINE_COLUMNS];
    uint32_t birth[INLINE_COLUMNS];
    uint32_t heard[INLINE_COLUMNS];   /* stamp of the owner's newest own entry, or of the news that `known` belongs to */
    uint16_t fast[INLINE_COLUMNS];    /* its stated offered rates: 50 ms and 120 s averages, tokens/s, small floats */
    uint16_t slow[INLINE_COLUMNS];
    uint64_t known[INLINE_COLUMNS];   /* net tokens in its owner's newest news of this key: beyond are others' */
} columns_t;

typedef struct {
    int64_t rated_ns;                 /* last averaging */
    float slow, weight;               /* own offered rate over 120 s, and how much of the window has been seen */
    float reserve;                    /* what a small caller may take past the prediction, tokens, at rated_ns */
    uint16_t fast, granted;           /* own offered and admitted rates over 50 ms */
    uint32_t version;                 /* low half of the newest version in the log */
    uint32_t overflow;                /* first block, or NONE */
    uint32_t peak_at;                 /* stamp of `peak` */
    uint16_t peak, own_peak;          /* highest fast rates of late, of the peers together and of this node */
    columns_t columns;                /* never with refunds */
} cold_t;

typedef struct {
    columns_t columns;
    uint32_t next;
    uint32_t reserved;
    uint64_t refunded[INLINE_COLUMNS];
} block_t;

/* Decisions under one definition in one process, which alone writes them. */
typedef struct {
    int64_t allowed, denied, shadowed, granted, refunded;
    int64_t decided[2][3];            /* of the decisions those in strong, then in fallback mode: denied, allowed, shadowed */
    int64_t reserved;
} counts_t;

/* A process that uses the table. */
typedef struct {
    int64_t pid, started;             /* as in /proc/PID/stat, so that a number used again is another process; 0 is free */
} worker_t;

/* A limit that a bucket had before. */
typedef struct {
    int64_t until;                    /* local ns: its keys came under another one */
    double burst, per_second;         /* tokens at once, and refill */
    uint32_t of_all;                  /* it was that of all keys; 0: of a candidate's share of them, which came back */
    uint32_t reserved;
} earlier_t;

#define EARLIER 4                     /* changes of a rate that are told apart; of more the oldest are taken together */

/* A bucket's definition. T = q / p ns a token. */
typedef struct {
    int64_t q, p;
    int64_t capacity, max_debt;
    int64_t full_ns, cap_ns;          /* floor(T * capacity), floor(T * (capacity + max_debt)) */
    uint64_t name_hash, definition_hash;
    double per_second;
    int64_t flush_tokens;             /* admitted and unsent tokens that ask for an early flush */
    int64_t quota, entries;           /* entries allowed and held */
    int64_t forgiven, refused_full;
    counts_t past;                    /* under earlier definitions whose slots are used again */
    int64_t excess, excess_before, excess_minute; /* most tokens of debt beyond the capacity: this minute, the one before */
    uint32_t next;                    /* the definition that replaced this one, or NONE */
    uint16_t allow_when_full, shadow; /* shadow: what is denied is admitted all the same */
    int64_t replaced_ns;              /* when it did */
    uint64_t candidate_below;         /* keys whose hash (high half, halved) lies below it are the candidate's; 0: none are */
    int64_t staged_ns;                /* when that last changed */
    uint32_t staged;                  /* this one is another's candidate, or was until that was dropped */
    uint32_t candidate;               /* a second definition of the bucket, of some of its keys, or NONE */
    uint32_t earliers, reserved;
    earlier_t earlier[EARLIER];       /* the newest first */
} definition_t;

typedef struct {
    int64_t heard;                    /* local ns, receipt of the newest complete round less half the round trip */
    uint16_t origin;                  /* its running one */
    uint8_t known, connected, rated;
    uint8_t relayed;                  /* some connected peer does not hear it: its rates go on from here */
    uint8_t reserved[2];
} node_t;

/* The name of a node. It is written before the first epoch of the node is, so that an epoch in the table never lacks its owner,
 * and `bytes` last: 0 is a number that names nobody. */
typedef struct {
    uint32_t bytes;
    uint8_t text[NAME_BYTES];
} node_name_t;

typedef struct {
    uint64_t epoch;
    uint16_t node;
    uint8_t used, marked;
    uint32_t reserved;
} origin_t;

/* A column as frames and the journal hold it. */
typedef struct {
    uint32_t origin, birth;           /* its place on the wire; read, the origin here, 0 when it is not followed */
    int64_t taken, refunded;
} wire_column_t;

/* A change of several words that must happen whole: written here first, so that a repair can finish it. */
enum journal_kind { JOURNAL_NONE, JOURNAL_JOIN, JOURNAL_REWRITE, JOURNAL_DEFINE };

typedef struct {
    uint32_t kind;
    uint32_t entry;
    int64_t base;
    int64_t mark;                     /* of a rewrite, as the word, bucket, origin and birth are */
    uint64_t word;
    uint32_t birth;
    uint16_t bucket, origin;
    uint32_t columns;                 /* that rise to what stands here */
    wire_column_t column[MAX_COLUMNS];
    uint32_t slot, old;               /* of a definition, and of the one that it replaces, or NONE */
    uint32_t heir, onward;            /* of who is in the slot now: its newest definition, or NONE, and its next one */
    uint32_t defined;
    counts_t past;                    /* of the heir, with what was counted in the slot */
    definition_t made;
} journal_t;

typedef struct {
    uint64_t magic, layout;           /* the magic is written last */
    uint8_t boot[16];                 /* times are of this boot, and numbers of processes of these namespaces */
    uint64_t pid_space, time_space;
    uint64_t owner;                   /* names whose table it is */
    uint64_t size;
    uint64_t hash_key[2];
    int64_t max_keys, index_slots, max_blocks;

    /* Read by every take, rarely written. */
    __attribute__((aligned(64))) int64_t grace_ns;
    int64_t near_ns, trust_ns;
    int64_t far_free_until;           /* until then no peer is silent, and no entry has far credit */
    int64_t cautious_since, cautious_until; /* a node without memory serves its share until then */
    int64_t members;                  /* live peers and this node */
    uint32_t own_origin;
    uint32_t predict;
    uint32_t shared_bursts;           /* sides of a partition share the capacity, too */
    __attribute__((aligned(64))) uint32_t flush_wanted;

    __attribute__((aligned(64))) pthread_mutex_t lock;
    int32_t waiting;                  /* in line for the lock now */
    uint32_t served;                  /* those that ever got it so */
    __attribute__((aligned(64))) pthread_mutex_t lead; /* held by the one process that speaks to the peers */

    __attribute__((aligned(64))) int64_t averaged_ns; /* last round */
    int64_t leader;                   /* number of the process that has the lead, or had it when it died */
    int64_t open_tokens;              /* asked of a common store, which may have counted them before they are here */
    uint64_t log_head, log_tail, version;
    uint64_t spare_epoch;             /* what to run under when larger counts of the own epoch are heard */
    int64_t entries, bump, blocks_bump, blocks_used;
    int64_t backed_entries, backed_blocks, backed_log; /* for which there is memory */
    uint32_t free_entry, free_last, free_block;
    uint32_t births;
    uint32_t definitions;             /* slots in use */
    uint32_t defined;                 /* definitions ever made */
    uint32_t sweep_cursor;
    uint32_t flush_count;
    uint32_t origins_changed;         /* counts changes of the set of origins */
    uint32_t released;                /* origins given up: their ids may mean others now */
    uint32_t named;                   /* numbers below it may have names, and memory for them */
    uint32_t relayed;                 /* nodes whose rates go on from here */
    uint32_t refused;                 /* another running process has this node's name */
    uint32_t notes;                   /* 0: none; else 1 + which of two places has the leader's notes */
    int64_t notes_bytes[2];
    uint64_t view_version;            /* of what the leader shows; the last bit says in which of two places it is */
    int64_t view_bytes[2];
    uint32_t repairs;                 /* after a process died with the lock */
    int64_t evicted_full, evicted_indebted, inserted, refused_columns, refused_full, forgotten, unlogged;
} header_t;

#endif
