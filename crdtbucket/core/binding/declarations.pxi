# What the binding uses of the headers.

cdef extern from "core/core.h" nogil:
    enum:
        TABLE_LAYOUT, SHARED_TABLES, NAME_BYTES, HANDOFF_BYTES, VIEW_BYTES
        MAX_WORKERS, MAX_DEFINITIONS, MAX_NODES, MAX_ORIGINS, COUNTED_MODES
        NONE, SLICE, SURVEY_CHUNK, DIGEST_SLACK
        BY_LINK, BY_RELAYS, TOMBSTONE_NEW
        ENTRY_USED, ENTRY_NAMED, ENTRY_SUSPECT, ENTRY_MIN_BYTES, COLUMN_MIN_BYTES
    const uint64_t TABLE_MAGIC
    const uint64_t TABLE_UNFINISHED
    int ALLOWED, DENIED, NEEDS_LOCK

    ctypedef struct hot_t:
        uint64_t hash_lo, hash_hi
        uint32_t full_count, generation
        uint16_t bucket, flags, origin
    ctypedef struct counts_t:
        int64_t allowed, denied, shadowed, granted, refunded
        int64_t decided[COUNTED_MODES][3]
        int64_t guaranteed
    ctypedef struct worker_t:
        int64_t pid, started
    ctypedef struct earlier_t:
        pass
    ctypedef struct definition_t:
        int64_t q, p, capacity, max_debt, full_ns, cap_ns
        uint64_t name_hash, definition_hash
        double per_second
        int64_t flush_tokens, quota, entries
        int64_t forgiven, refused_full
        counts_t past
        int64_t over_admitted, over_admitted_before, over_admitted_minute
        uint32_t next
        uint16_t allow_when_full, shadow
        uint32_t unpredicted
        int64_t staged_ns
        uint64_t candidate_below
        uint32_t candidate, staged, earlier_count, ring, forgiven_part
        earlier_t earlier[4]
        int64_t still_until
    ctypedef struct node_t:
        int64_t last_seen
        uint16_t origin
        uint8_t known_by, connected, rated, relayed, unproven, unmet
    ctypedef struct origin_t:
        uint64_t epoch
        uint16_t node
        uint8_t used, tombstone
    ctypedef struct node_name_t:
        uint32_t bytes
        uint8_t *text
    ctypedef struct header_t:
        uint64_t magic, layout
        uint8_t boot[16]
        uint64_t pid_space, time_space, owner, size
        uint64_t hash_key[2]
        int64_t leader
        int64_t max_keys, grace_ns, near_ns, trust_ns, far_free_until
        int64_t warming_up_since, warming_up_until, members
        int64_t open_tokens
        uint64_t version, spare_epoch
        int64_t entries, bump
        uint32_t generations, definitions, defined, own_origin, predict, shared_bursts
        uint32_t flush_wanted, origins_changed, released, repairs, handoff, refused, named, relayed
        uint32_t ungrown
        int64_t handoff_bytes[2]
        int64_t view_bytes[2]
        int64_t evicted_full, evicted_indebted, inserted, refused_columns, refused_full
        int64_t forgotten, unlogged
    ctypedef struct ticker_t:
        int allowed
    int ticks_are_sound()
    int64_t system_ns() nogil
    ctypedef struct table_t:
        ticker_t *ticker
        header_t *h
        definition_t *definitions
        node_t *nodes
        origin_t *origins
        node_name_t *names
        uint8_t *handoff
        uint8_t *view
        worker_t *workers
        counts_t *all_counts
        counts_t *counts
        uint64_t *index
        hot_t *hot
        int64_t virtual_ns
        int is_virtual
    ctypedef struct outcome_t:
        int64_t debt_ns, rest, wait_ns
        uint32_t full_count, generation
        uint16_t origin
        int allowed
    ctypedef struct column_t:
        int i
    int same_definition(const definition_t *, const definition_t *)
    uint32_t definition_free_slot(const table_t *, int64_t)
    int64_t definitions_free(const table_t *, int64_t)
    void definition_place(table_t *, uint32_t, const definition_t *, uint32_t, int64_t)
    uint32_t definition_current(const table_t *, uint64_t)
    ctypedef struct plan_t:
        size_t size, begun
    plan_t plan_table(int64_t)
    void definition_retire(table_t *, uint32_t, uint32_t, int64_t)
    uint32_t definition_for(const table_t *, uint32_t, uint64_t)
    void definition_stage(table_t *, uint32_t, uint32_t, uint64_t, int64_t)
    void earlier_follow(definition_t *, const definition_t *, int, int64_t)
    void counts_gather(const table_t *, uint32_t, counts_t *)
    int table_open(table_t *, int64_t, const uint64_t *, int)
    int table_create(table_t *, int, int64_t, const uint64_t *, int)
    int table_remap(table_t *, int)
    int table_map(table_t *, int, int64_t, int)
    const char *header_fault(const table_t *, int64_t)
    const char *table_resume(table_t *, int64_t)
    int back_counts(const table_t *, int)
    void leave_place(const table_t *)
    void table_close(table_t *)
    int64_t table_bytes(const table_t *)
    struct remembered:
        pass
    int64_t remembered_bytes(const table_t *)
    int64_t clock_ns(const table_t *)
    uint32_t table_find(const table_t *, uint64_t, uint64_t)
    void keyed_hash(const uint64_t *, uint64_t, const uint8_t *, size_t, uint64_t *, uint64_t *)
    uint32_t origin_find(const table_t *, uint64_t)
    uint32_t origin_add(table_t *, uint32_t, uint64_t)
    int open_epoch(table_t *)
    int column_next(const table_t *, uint32_t, column_t *)
    uint32_t column_origin(const column_t *)
    int64_t column_taken(const column_t *)
    int64_t column_refunded(const column_t *)
    int64_t own_refunded(const table_t *, uint32_t)
    int entry_for_take(
        table_t *,
        definition_t *,
        uint32_t,
        uint64_t,
        uint64_t,
        int64_t,
        int64_t,
        uint32_t *,
        uint32_t *,
    )
    int64_t warm_up_wait(const table_t *, const definition_t *, int64_t, int64_t)
    int entry_renew(table_t *, uint32_t, uint32_t, int64_t)
    int take(table_t *, definition_t *, uint32_t, int64_t, int64_t, int64_t, uint64_t, outcome_t *)
    int fits_at_sight(const table_t *, uint64_t, uint64_t, uint32_t, int64_t, int64_t)
    uint32_t entry_at_hand(const table_t *, uint64_t, uint64_t, uint32_t, uint64_t *)
    int64_t entry_net(const table_t *, uint32_t)
    uint32_t definition_newest(const table_t *, uint32_t)
    void counts_total(const table_t *, uint32_t, counts_t *)
    int table_trylock(table_t *)
    void let_others_in(table_t *)
    void table_lock(table_t *)
    void table_unlock(table_t *)
    const char *table_verify(const table_t *)
    int is_shared(const table_t *)
    void peek(table_t *, const definition_t *, uint32_t, int64_t, int64_t, int64_t, outcome_t *)
    int64_t settle(table_t *, definition_t *, uint32_t, int64_t, int64_t)
    int64_t slot_spare(int64_t, int64_t, int64_t)
    int64_t slot_left(int64_t, int64_t, int64_t, int64_t)
    int64_t reset(table_t *, definition_t *, uint32_t, int64_t, int64_t)
    int64_t tokens_left(const definition_t *, int64_t, int64_t)
    int64_t seconds_to_next(const definition_t *, int64_t, int64_t, int64_t)
    int64_t signed_debt_ns(const table_t *, uint32_t, int64_t)
    void log_trim(table_t *, uint64_t, int64_t)
    int64_t collect_round(table_t *, int64_t *, int64_t, int64_t)
    int64_t collect_flush(table_t *, int64_t)
    int log_append(table_t *, uint32_t)
    int64_t sweep(table_t *, int64_t, int64_t, uint32_t *)
    void refresh_far(table_t *)
    void set_last_seen(table_t *, node_t *, int64_t)
    int64_t set_near(table_t *, int64_t, int64_t, int64_t)
    void forget_node(table_t *, uint32_t, int64_t)
    int64_t forget_some(table_t *, uint32_t, int64_t, int64_t, int64_t)
    void shift_all(table_t *, int64_t, int64_t, int64_t)
    void columns_that_owe(const table_t *, int64_t, int64_t, int64_t, int64_t *)
    int64_t prune_some(table_t *, int64_t, int64_t)
    void origin_return(table_t *, uint32_t)
    int origin_release(table_t *, uint32_t)
    void drop_unknown_epochs(table_t *)
    void set_name_bytes(node_name_t *, uint32_t)
    void prefetch_slot(const table_t *, uint64_t)
    void set_handoff(header_t *, uint32_t)
    uint32_t view_next(const table_t *)
    void view_show(table_t *, int64_t)
    int64_t view_copy(const table_t *, uint8_t *)
    int back(const table_t *, const void *, size_t)
    int grow_again(table_t *)
    void atomic_or(uint16_t *, uint16_t)
    uint32_t column_generation(const column_t *)
    int still_charged(const table_t *, uint32_t, uint32_t, uint16_t, uint32_t)
    int64_t refund_if_charged(table_t *, definition_t *, uint32_t, uint32_t, int64_t, int64_t)
    ctypedef struct take_item_t:
        const uint8_t *data
        Py_ssize_t size
        int64_t cost
        uint64_t lo, hi
        uint32_t entry
        uint16_t unnamed, side
    ctypedef struct many_t:
        table_t *t
        uint32_t slot
        uint64_t salt
        take_item_t *items
        int64_t count, at, now
        int stopped
        signed char *allowed
        int64_t *remaining
        double *retry
        int64_t allowed_sum[2]
        int64_t denied_sum[2]
        int64_t granted[2]
    void many_store(many_t *, const definition_t *, int, const outcome_t *)
    void take_items(many_t *)
    int entry_holds(const table_t *, uint32_t, uint64_t, uint64_t)
    double far_tokens(const table_t *, uint32_t, int64_t)
    ctypedef struct own_state_t:
        uint32_t generation
        int64_t taken, refunded, debt_ns, wait_ns
    void own_state(const table_t *, uint32_t, int64_t, int64_t, own_state_t *)
    int64_t taken_ns(const table_t *, uint32_t)
    int book(table_t *, definition_t *, uint32_t, int64_t, int64_t, int64_t)
    void count_offered(table_t *, definition_t *, uint32_t, int64_t, int)
    int64_t wait_for(const definition_t *, int64_t, int64_t)
    void lock_in_line(table_t *)
    int64_t over_admitted_tokens(const definition_t *, int64_t)
    ctypedef struct survey_t:
        int64_t empty
        double debt, highest
        uint32_t owner
    void survey_open(const table_t *, survey_t *, uint32_t)
    void survey_places(const table_t *, int64_t, int64_t, int64_t, survey_t *, uint32_t)
    int lead_trylock(table_t *)
    void lead_unlock(table_t *)

cdef extern from "core/binding/text.h":
    int text_view(PyObject *, const uint8_t **, Py_ssize_t *)
