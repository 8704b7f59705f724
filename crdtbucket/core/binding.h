/* Small accessors for the binding. */
#ifndef CRDTBUCKET_BINDING_H
#define CRDTBUCKET_BINDING_H

#include "merge.h"

static inline uint32_t wire_definition(const wire_entry_t *w) { return w->definition; }

/* The name is there whole from here on, or not at all. */
static inline void set_name_bytes(node_name_t *name, uint32_t bytes)
{
    IN_ORDER();
    STORE(name->bytes, bytes);
}

/* What the leader shows stands in one place while the next is written in the other. A reader that finds another version after
 * it has copied began before the last one was shown, and copies again: so what it has is whole. */
static inline uint32_t view_next(const table_t *t)
{
    uint32_t place = !(t->h->view_version & 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);             /* the last one is seen before this place changes */
    return place;
}

static inline void view_show(table_t *t, int64_t bytes)
{
    uint64_t next = t->h->view_version + 1;
    t->h->view_bytes[next & 1] = bytes;
    __atomic_store_n(&t->h->view_version, next, __ATOMIC_RELEASE);
}

/* Bytes copied, -1 when another one was shown meanwhile. */
static inline int64_t view_copy(const table_t *t, uint8_t *to)
{
    uint64_t version = __atomic_load_n(&t->h->view_version, __ATOMIC_ACQUIRE);
    int64_t bytes = LOAD(t->h->view_bytes[version & 1]);
    if (bytes < 0 || bytes > VIEW_BYTES)
        return -1;
    memcpy(to, t->view + (version & 1) * (size_t)VIEW_BYTES, (size_t)bytes);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return LOAD(t->h->view_version) == version ? bytes : -1;
}

static inline void set_notes(header_t *h, uint32_t which) { STORE(h->notes, which); }

static inline void atomic_or(uint16_t *flags, uint16_t bits) { OR(*flags, bits); }

static inline uint32_t column_birth(const column_t *c) { return c->c->birth[c->i]; }

static inline int64_t tokens_left_ns(const definition_t *d, int64_t ns, int64_t rest)
{
    return tokens_left(d, (i128)ns * d->p + rest);
}

static inline int64_t signed_debt_ns(const table_t *t, uint32_t e, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    return (int64_t)units_to_ns(d, debt_units(d, LOAD(hot->base), entry_net(t, e), now));
}

/* How long (ns) a debt keeps `n` tokens from passing. */
static inline int64_t wait_for(const definition_t *d, int64_t debt_ns, int64_t n)
{
    i128 over = (i128)debt_ns * d->p + token_units(d, n) - full_units(d);
    return over > slack_units(d) ? (int64_t)units_to_ns(d, over) : 0;
}

static inline void prefetch_slot(const table_t *t, uint64_t hi) { __builtin_prefetch(&t->index[home_slot(t, hi)]); }

static inline void prefetch_entry(const table_t *t, uint64_t lo, uint64_t hi)
{
    uint32_t e = table_guess(t, lo, hi);
    if (e != NONE)
        __builtin_prefetch(&t->hot[e], 1);
}

/* The bytes of a str (as UTF-8) or bytes, in place. 0 for anything else, and for a str that has no UTF-8; no error is left. */
static inline int text_view(PyObject *key, const uint8_t **data, Py_ssize_t *size)
{
    if (LIKELY(PyUnicode_Check(key))) {
        if (LIKELY(PyUnicode_IS_COMPACT_ASCII(key))) {
            *data = (const uint8_t *)PyUnicode_1BYTE_DATA(key);
            *size = PyUnicode_GET_LENGTH(key);
            return 1;
        }
        *data = (const uint8_t *)PyUnicode_AsUTF8AndSize(key, size);
        if (!*data)
            PyErr_Clear();
        return *data != NULL;
    }
    if (!PyBytes_Check(key))
        return 0;
    *data = (const uint8_t *)PyBytes_AS_STRING(key);
    *size = PyBytes_GET_SIZE(key);
    return 1;
}

#endif
