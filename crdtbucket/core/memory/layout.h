/* What lies in memory; see entry_layout.h for one entry, definition_layout.h for a bucket, and
 * docs/architecture.md for a drawing. There are no pointers in it, so that several processes can
 * map the same bytes.
 *
 * One mapping holds, one after the other, as `lay_out` in regions.h says: the header; the journal;
 * the definitions; the nodes; the origins (epochs); the processes that use the table; the entries
 * that asked for an early flush; the attempt bits; the index; the names of the nodes; the leader's
 * hand-over; the leader's view of the mesh; the counters of each process; per entry (a bucket's
 * key) a hot cache line, a cold record, its place in a ring, and two places in the log of unsent
 * versions; and last the overflow blocks with more columns. Regions are sized for `max_keys` at
 * creation and touched only as they are used, so the table grows and no entry ever moves.
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
/* How many entries long work handles before it releases the table's lock for a moment: some 0.5
 * ms. */
#define SLICE 8192
#define NONE UINT32_MAX
/* In `cold_t.introducer`, in place of a node: a relay introduced the entry, see
 * level/crowding.h. */
#define RELAYED MAX_NODES
#define SECOND INT64_C(1000000000)
#define MILLISECOND INT64_C(1000000)

typedef __int128 i128;
typedef unsigned __int128 u128;

/* A process that uses the table. */
typedef struct {
    /* The number and the start time (clock ticks since boot) of the process, as in /proc/PID/stat;
     * the time tells apart two processes that had one number. A `pid` of 0: the place is free. */
    int64_t pid, started;
} worker_t;

/* The neighbours of an entry in the ring of its definition. */
typedef struct {
    uint32_t next, before;
} ring_t;

/* How this node knows of another one: by a link, now or before; or only because relays report
 * it. */
enum known { UNKNOWN, BY_LINK, BY_RELAYS };

/* What this node knows of one node of the mesh. Its place in `table_t.nodes` is the number of the
 * node; 0 is this node. */
typedef struct {
    /* Local ns for which its newest complete round stands: receipt less the age of the frame. */
    int64_t last_seen;
    uint16_t origin; /* of its running epoch */
    uint8_t known_by;
    uint8_t connected, rated;
    /* 1: some peer that is connected here is not connected to it, so this node relays its rates. */
    uint8_t relayed;
    /* 1: it is not counted among those who divide the guaranteed shares, since relays may have
     * invented it. */
    uint8_t unproven;
    /* 1: it was met, or met again after it was forgotten, and no complete round of it has come
     * since. Then its columns also count what it took before it was silent. */
    uint8_t unmet;
} node_t;

/* The name of a node, in UTF-8. It is written before the first epoch of the node, so that no epoch
 * in the table lacks the name of its owner, and `bytes` is written last: while it is 0, this number
 * names no node. */
typedef struct {
    uint32_t bytes;
    uint8_t text[NAME_BYTES];
} node_name_t;

/* The state of an epoch whose columns count no more. A walk over all entries removes these columns,
 * part by part: NEW waits for the next walk to begin, IN_WALK is being removed, PRUNED has no
 * column left. */
enum tombstone_kind { TOMBSTONE_NONE, TOMBSTONE_PRUNED, TOMBSTONE_NEW, TOMBSTONE_IN_WALK };

/* An epoch of a node. Its place in `table_t.origins` is the number by which columns name it; place
 * 0 is never used. */
typedef struct {
    uint64_t epoch;
    uint16_t node;
    uint8_t used, tombstone; /* tombstone_kind */
    uint32_t generation;     /* the highest that its owner itself has sent here */
} origin_t;

/* A column as frames and the journal hold it; `taken` and `refunded` are tokens. */
typedef struct {
    /* `origin`: when written to a frame, the position in the announced table; once it is read, the
     * origin here, or 0 when this node does not count that epoch. */
    uint32_t origin, generation;
    int64_t taken, refunded;
} wire_column_t;

/* What the journal holds: a change of several words that must happen completely or not at all. It
 * is written to the journal first, so that a repair can finish it. */
enum journal_kind { JOURNAL_NONE, JOURNAL_MERGE, JOURNAL_REWRITE, JOURNAL_DEFINE };

/* A word before it was overwritten: its place (bytes from the table's start), its value and its
 * size (2, 4 or 8 bytes). */
typedef struct {
    uint64_t at, old;
    uint64_t bytes;
} undo_word_t;

#ifndef UNDO_WORDS
#define UNDO_WORDS 256
#endif
/* Values of `undo_t.rebuild`. A repair then does not take the change back, but computes anew all
 * that follows from the entries. Set until a change of too many words has ended, or until such a
 * rebuild is done. */
enum { REBUILD_UNTIL_END = 1, REBUILD_UNTIL_DONE };

/* The words that the change under way has overwritten, `noted` of them; see undo.h. */
typedef struct {
    uint32_t noted, rebuild;
    /* The entry that was made BUSY last: a repair makes it usable again. */
    uint32_t busy, reserved;
    undo_word_t word[UNDO_WORDS];
} undo_t;

/* The change under way that a repair can finish, and the words that a repair can take back. */
typedef struct {
    uint32_t kind;
    uint32_t entry;
    /* What the base of the entry becomes; of a definition, the time (ns) of the change. */
    int64_t base;
    /* The fields from here to `origin` are used by a rewrite alone: what the entry is to hold. */
    int64_t averaged_net;
    uint64_t word;
    uint32_t generation;
    uint16_t bucket, origin;
    uint32_t columns; /* how many columns of the entry become as they stand in `column` */
    wire_column_t column[MAX_COLUMNS];
    /* From here on for JOURNAL_DEFINE: the slot of the new definition, and of the one it replaces
     * or NONE. */
    uint32_t slot, old;
    /* The slot was used by an earlier definition: the newest one that replaced that, or NONE where
     * the slot was free; and its direct successor. */
    uint32_t successor, successor_next;
    uint32_t defined;
    counts_t past; /* of the successor: its own and those counted in this slot */
    /* The new definition. */
    definition_t made;
    undo_t undo;
} journal_t;

/* The header of a table. All that use the table read and change it; the lines are those of the
 * processor's cache. */
typedef struct {
    uint64_t magic, layout; /* the magic is written last */
    /* The boot of the machine to which all times belong, and the namespaces of process numbers and
     * of clocks. */
    uint8_t boot[16];
    uint64_t pid_space, time_space;
    uint64_t owner; /* a hash that tells whose table this is */
    uint64_t size;
    uint64_t hash_key[2];
    int64_t max_keys, index_slots, max_blocks;

    /* Every take reads the fields from here on; they are rarely written. */
    /* For so long an entry is full and idle before it is evicted. */
    __attribute__((aligned(64))) int64_t grace_ns;
    /* A peer whose newest update is older than `near_ns` is silent; takes of a silent peer are
     * predicted up to the age `trust_ns`. */
    int64_t near_ns, trust_ns;
    int64_t near_bound_ns; /* at least `near_ns`; by it the `near_class` of entries is computed */
    /* Until this local ns no peer is silent, and no entry has far credit. */
    int64_t far_free_until;
    /* Between these two times (local ns) a node that joined without memory serves its share
     * only. */
    int64_t warming_up_since, warming_up_until;
    int64_t members; /* live peers and this node */
    /* The number of the running epoch of this node; and whether takes of peers are predicted. */
    uint32_t own_origin;
    uint32_t predict;
    /* 1: each side of a partition may take its part of a full bucket only. */
    uint32_t shared_bursts;
    /* 1: some entry asked for an early flush; 2: the sender was woken for it; 0: neither. */
    __attribute__((aligned(64))) uint32_t flush_wanted;

    __attribute__((aligned(64))) pthread_mutex_t lock;
    int32_t waiting; /* callers that wait in line for the lock */
    uint32_t served; /* callers that ever got the lock in line; wraps */
    /* Held by the leader: the one process of the host that is connected to the peers. */
    __attribute__((aligned(64))) pthread_mutex_t lead;

    __attribute__((aligned(64))) int64_t averaged_ns; /* local ns of the last round of averaging */
    /* Process number of the leader, or of the one that died with the lead; 0 for none. */
    int64_t leader;
    /* Tokens of calls that a common store has not answered yet: it may have counted them already,
     * so peers may have read larger counts there than this node has. */
    int64_t open_tokens;
    /* Of the log: its two ends (positions), its newest version. */
    uint64_t log_head, log_tail, version;
    /* The epoch to open when a peer sends larger counts of the own epoch than this node has. */
    uint64_t spare_epoch;
    /* Entries in use; places of entries, and blocks, that were ever used; blocks in use. */
    int64_t entries, bump, blocks_bump, blocks_used;
    int64_t backed_entries, backed_blocks, backed_log; /* places that have memory */
    /* The first and the last free entry, and the first free block; NONE: there is none. */
    uint32_t free_entry, free_last, free_block;
    /* How many entries were made in this epoch: the generation of the newest one. */
    uint32_t generations;
    uint32_t definitions; /* slots that were ever used */
    uint32_t defined;     /* definitions ever made */
    /* The entry with which the next sweep begins. */
    uint32_t sweep_cursor;
    uint32_t room_cursor; /* where the next sample over the whole table begins */
    /* How many entries are in `table_t.flush`, or would be if they had room there. */
    uint32_t flush_count;
    uint32_t origins_changed; /* goes up when the announced epochs change */
    uint32_t released;        /* goes up when the number of an epoch becomes free for another */
    uint32_t named;           /* only nodes with numbers below this may have names */
    uint32_t relayed;         /* how many nodes this one relays the rates of */
    uint32_t refused;         /* 1: another running process has this node's name */
    /* Which of two places holds the leader's hand-over: 1 or 2; 0: neither. */
    uint32_t handoff;
    int64_t handoff_bytes[2];
    /* Of the leader's view of the mesh: its lowest bit says which of two places holds it. */
    uint64_t view_version;
    int64_t view_bytes[2];
    uint32_t repairs; /* how often a process died with the lock and the table was repaired */
    uint32_t ungrown; /* bits of `enum growing`: there was no memory for more of these */
    /* What `Table.stats` counts: entries evicted while full, and while they owed; entries made;
     * columns refused; entries for which there was no room; nodes given up; and entries for which
     * the log had no room. */
    int64_t evicted_full, evicted_indebted, inserted, refused_columns, refused_full, forgotten,
        unlogged;
} header_t;

#endif
