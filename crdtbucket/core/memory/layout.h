/* What lies in memory; see entry_layout.h for one entry and definition_layout.h for a bucket. There
 * are no pointers in it, so that several processes can map the same bytes.
 *
 * One mapping holds, one after the other: the header, the journal, the definitions, the nodes, the
 * origins, the processes that use it, the flushes that were asked for, the attempt bits, the index,
 * the names of the nodes, the leader's hand-over, the leader's view of the mesh, the counters of
 * each process, and per entry (a bucket's key) a hot cache line, a cold record, its place in a ring
 * and two slots in the log of unsent versions, and last the overflow blocks. Regions are sized for
 * `max_keys` at creation and touched only as they are used, so the table grows and no entry ever
 * moves.
 *
 * A take, in any process and without a lock, moves an entry's `word` and `base` by compare-and-swap
 * and adds to its counters. Everything else is written under the table's lock. A process may be
 * killed at any instruction: the next process that takes the lock is told, and repairs the table
 * (repair/repair.h). */
#ifndef CRDTBUCKET_MEMORY_LAYOUT_H
#define CRDTBUCKET_MEMORY_LAYOUT_H

#include <pthread.h>
#include <stdint.h>

#include "definition_layout.h"
#include "entry_layout.h"

#define MAX_DEFINITIONS 4096
/* More than origins, so that an epoch that is remembered never lacks a number. */
#define MAX_NODES 1024
#define MAX_COLUMNS 512         /* of one entry in a frame */
#define MAX_WORKERS 128         /* processes that use a table at once */
#define NAME_BYTES 800          /* of a node's name: 200 characters */
#define HANDOFF_BYTES (2 << 20) /* what the leader may leave to the next */
#define VIEW_BYTES (1 << 20)    /* what the leader shows the others of the mesh */
#define MAX_ORIGINS 512         /* 9 bits beside 55 bits of tokens */
/* Entries of long work, some 0.5 ms, for which other threads and processes wait. */
#define SLICE 8192
#define NONE UINT32_MAX
/* Instead of a node: an entry was introduced by others than those who took from it. */
#define RELAYED MAX_NODES
#define SECOND INT64_C(1000000000)
#define MILLISECOND INT64_C(1000000)

typedef __int128 i128;
typedef unsigned __int128 u128;

/* A process that uses the table. */
typedef struct {
    /* As in /proc/PID/stat, so that a number used again is another process; 0 is free. */
    int64_t pid, started;
} worker_t;

/* The neighbours of an entry in the ring of its definition. */
typedef struct {
    uint32_t next, before;
} ring_t;

/* What a node is known by: there is, or was, a link to it, or relays alone see it. */
enum known { UNKNOWN, BY_LINK, BY_RELAYS };

typedef struct {
    /* Local ns, receipt of the newest complete round less its age. */
    int64_t last_seen;
    uint16_t origin; /* its running one */
    uint8_t known_by;
    uint8_t connected, rated;
    /* Some connected peer is not connected to it, so this node relays its rates. */
    uint8_t relayed;
    /* No guaranteed share is smaller for it: a relay may have invented it. */
    uint8_t unproven;
    /* It was met, or met again after it was forgotten, and no round of it has come since: what it
     * took before it was silent is in its columns, too. */
    uint8_t unmet;
} node_t;

/* The name of a node. It is written before the first epoch of the node is, so that an epoch in the
 * table never lacks its owner, and `bytes` last: 0 is a number that names nobody. */
typedef struct {
    uint32_t bytes;
    uint8_t text[NAME_BYTES];
} node_name_t;

/* Of an origin whose columns count no more. They are removed part by part: those of a new tombstone
 * by the walk over all entries that begins next. */
enum tombstone_kind { TOMBSTONE_NONE, TOMBSTONE_PRUNED, TOMBSTONE_NEW, TOMBSTONE_IN_WALK };

/* An epoch of a node. Its place is the number by which its columns name it; 0 is none. */
typedef struct {
    uint64_t epoch;
    uint16_t node;
    uint8_t used, tombstone; /* tombstone_kind */
    uint32_t generation;     /* the highest that its owner stated here */
} origin_t;

/* A column as frames and the journal hold it. */
typedef struct {
    /* Its place on the wire; read, the origin here, 0 when it is not followed. */
    uint32_t origin, generation;
    int64_t taken, refunded;
} wire_column_t;

/* A change of several words that must happen whole: written here first, so that a repair can finish
 * it. */
enum journal_kind { JOURNAL_NONE, JOURNAL_MERGE, JOURNAL_REWRITE, JOURNAL_DEFINE };

/* A word as it was: where it stands, from the table's start. */
typedef struct {
    uint64_t at, old;
    uint64_t bytes;
} undo_word_t;

#ifndef UNDO_WORDS
#define UNDO_WORDS 256
#endif
/* Instead of taking a change back, all that follows from the entries is to be computed anew: until
 * the change ends, or until that is done. */
enum { REBUILD_UNTIL_END = 1, REBUILD_UNTIL_DONE };

/* What the change that is being made has overwritten, see undo.h. */
typedef struct {
    uint32_t noted, rebuild;
    /* The entry that was made BUSY last. */
    uint32_t busy, reserved;
    undo_word_t word[UNDO_WORDS];
} undo_t;

typedef struct {
    uint32_t kind;
    uint32_t entry;
    int64_t base;
    /* Of a rewrite, as the word, bucket, origin and generation are. */
    int64_t averaged_net;
    uint64_t word;
    uint32_t generation;
    uint16_t bucket, origin;
    uint32_t columns; /* that rise to what stands here */
    wire_column_t column[MAX_COLUMNS];
    /* Of a definition, and of the one that it replaces, or NONE. */
    uint32_t slot, old;
    /* Of the definition that is in the slot now: the one that is in force in its place, or NONE,
     * and its next one. */
    uint32_t successor, successor_next;
    uint32_t defined;
    counts_t past; /* of the successor, with what was counted in the slot */
    definition_t made;
    undo_t undo;
} journal_t;

typedef struct {
    uint64_t magic, layout; /* the magic is written last */
    /* Times are of this boot, and numbers of processes of these namespaces. */
    uint8_t boot[16];
    uint64_t pid_space, time_space;
    uint64_t owner; /* names whose table it is */
    uint64_t size;
    uint64_t hash_key[2];
    int64_t max_keys, index_slots, max_blocks;

    /* Read by every take, rarely written. */
    __attribute__((aligned(64))) int64_t grace_ns; /* a full entry is idle so long before it goes */
    /* From which age on a peer is silent, and up to which one it is predicted. */
    int64_t near_ns, trust_ns;
    int64_t near_bound_ns; /* at least `near_ns`: what `near_class` of an entry is bounded by */
    /* Until then no peer is silent, and no entry has far credit. */
    int64_t far_free_until;
    /* A node without memory serves its share until then. */
    int64_t warming_up_since, warming_up_until;
    int64_t members; /* live peers and this node */
    uint32_t own_origin;
    uint32_t predict;
    uint32_t shared_bursts; /* sides of a partition share the capacity, too */
    /* Some entry asked for an early flush (1), and the sender was woken for it (2). */
    __attribute__((aligned(64))) uint32_t flush_wanted;

    __attribute__((aligned(64))) pthread_mutex_t lock;
    int32_t waiting; /* in line for the lock now */
    uint32_t served; /* those that ever got it so */
    /* Held by the one process that speaks to the peers. */
    __attribute__((aligned(64))) pthread_mutex_t lead;

    __attribute__((aligned(64))) int64_t averaged_ns; /* last round */
    /* Number of the process that has the lead, or had it when it died. */
    int64_t leader;
    /* Asked of a common store, which may have counted them before they are here. */
    int64_t open_tokens;
    uint64_t log_head, log_tail, version; /* of the log: its ends, and its newest version */
    /* The epoch to open when a peer sends larger counts of the own epoch than this node has. */
    uint64_t spare_epoch;
    /* Entries in use, and places of them, and of blocks, that were ever used. */
    int64_t entries, bump, blocks_bump, blocks_used;
    int64_t backed_entries, backed_blocks, backed_log; /* for which there is memory */
    uint32_t free_entry, free_last, free_block;
    uint32_t generations;
    uint32_t definitions; /* slots in use */
    uint32_t defined;     /* definitions ever made */
    uint32_t sweep_cursor;
    uint32_t room_cursor; /* of samples over the whole table */
    uint32_t flush_count;
    uint32_t origins_changed; /* counts changes of the origins that are announced */
    uint32_t released;        /* origins given up: their ids may mean others now */
    uint32_t named;           /* numbers below it may have names, and memory for them */
    uint32_t relayed;         /* nodes whose rates are relayed from here */
    uint32_t refused;         /* another running process has this node's name */
    /* 0: none; else 1 + the place, of two, that has the leader's hand-over. */
    uint32_t handoff;
    int64_t handoff_bytes[2];
    /* Of what the leader shows; the last bit says in which of two places it is. */
    uint64_t view_version;
    int64_t view_bytes[2];
    uint32_t repairs; /* after a process died with the lock */
    int64_t evicted_full, evicted_indebted, inserted, refused_columns, refused_full, forgotten,
        unlogged;
} header_t;

#endif
