/* The table's lock, and the lead of the mesh. */
#ifndef CRDTBUCKET_REPAIR_LOCK_H
#define CRDTBUCKET_REPAIR_LOCK_H

#include <errno.h>
#include <sched.h>

#include "../memory/platform.h"
#include "repair.h"

/* Called with what locking returned: if the last owner died with the lock, the table is repaired
 * first. */
static inline void lock_inherited(table_t *t, int error)
{
    if (UNLIKELY(error) && mutex_inherited(&t->h->lock, error)) {
        table_repair(t);
        t->h->repairs++;
    }
}

static inline void table_lock(table_t *t) { lock_inherited(t, pthread_mutex_lock(&t->h->lock)); }

/* Takes the lock without waiting; 0 when somebody else has it. */
static inline int table_trylock(table_t *t)
{
    int error = pthread_mutex_trylock(&t->h->lock);
    if (error == EBUSY)
        return 0;
    lock_inherited(t, error);
    return 1;
}

static inline void table_unlock(table_t *t) { pthread_mutex_unlock(&t->h->lock); }

/* Takes the lock in line: for callers that hold up others while they wait, such as takes. */
static inline void lock_in_line(table_t *t)
{
    ADD(t->h->waiting, 1);
    table_lock(t);
    /* If it is 0, `let_others_in` has taken this caller for one that was killed. */
    if (LOAD(t->h->waiting) > 0)
        ADD(t->h->waiting, -1);
    ADD(t->h->served, 1);
}

/* Lets a waiting caller take the lock that was just released. A mutex is not fair: without this,
 * this thread would get it again first. */
static inline void let_others_in(table_t *t)
{
    header_t *h = t->h;
    uint32_t served = LOAD(h->served);
    for (int turns = 0; LOAD(h->waiting) > 0 && LOAD(h->served) == served; turns++) {
        if (turns == 1000) {
            STORE(h->waiting, 0); /* a caller was killed while it waited in line */
            return;
        }
        sched_yield();
    }
}

/* Takes the lead of the mesh without waiting; 0 when another process has it. */
static inline int lead_trylock(table_t *t)
{
    int error = pthread_mutex_trylock(&t->h->lead);
    return !error || mutex_inherited(&t->h->lead, error);
}

static inline void lead_unlock(table_t *t) { pthread_mutex_unlock(&t->h->lead); }

#endif
