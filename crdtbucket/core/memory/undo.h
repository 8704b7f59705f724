/* Changes of what leads to entries: the index, the lists of free places, rings, and counts. Before
 * a word of these is overwritten, its old value is noted, so that a repair can take back a change
 * that was not ended. The caller holds the table's lock, and ends one change (`change_end`) before
 * the next one begins. A private table notes nothing: it ends with its process. */
#ifndef CRDTBUCKET_MEMORY_UNDO_H
#define CRDTBUCKET_MEMORY_UNDO_H

#include <string.h>

#include "regions.h"

/* Notes the value of `word`, of `bytes`, which the caller overwrites next. */
static inline void undo_note(table_t *t, const void *word, uint32_t bytes)
{
    if (only_here(t))
        return;
    undo_t *u = &t->journal->undo;
    uint32_t noted = u->noted;
    if (UNLIKELY(noted == UNDO_WORDS)) {
        if (!u->rebuild)
            STORE(u->rebuild, REBUILD_UNTIL_END);
        return;
    }
    uint64_t old = 0;
    memcpy(&old, word, bytes);
    u->word[noted] = (undo_word_t){(uint64_t)((const char *)word - (const char *)t->h), old, bytes};
    STORE(u->noted, noted + 1);
}

/* Notes the variable `x` and sets it to `v`. */
#define ALTER(t, x, v)                           \
    do {                                         \
        undo_note(t, &(x), (uint32_t)sizeof(x)); \
        STORE(x, v);                             \
    } while (0)

/* Announces a change of more words than can be noted: if it is not ended, a repair computes all
 * anew. */
static inline void change_many(table_t *t)
{
    if (!only_here(t) && !t->journal->undo.rebuild)
        STORE(t->journal->undo.rebuild, REBUILD_UNTIL_END);
}

/* Ends a change: all of it is written, and a repair does not take it back any more. */
static inline void change_end(table_t *t)
{
    if (only_here(t))
        return;
    undo_t *u = &t->journal->undo;
    IN_ORDER();
    STORE(u->noted, 0);
    if (UNLIKELY(u->rebuild == REBUILD_UNTIL_END))
        STORE(u->rebuild, 0);
}

/* Takes back a change that was not ended, the last word first. Returns 0, and changes nothing, when
 * not all of it was noted. */
static int change_undo(table_t *t)
{
    undo_t *u = &t->journal->undo;
    if (u->rebuild)
        return 0;
    for (uint32_t i = u->noted; i-- > 0;) {
        char *word = (char *)t->h + u->word[i].at;
        uint64_t old = u->word[i].old;
        switch (u->word[i].bytes) {
        case 8:
            STORE(*(uint64_t *)word, old);
            break;
        case 4:
            STORE(*(uint32_t *)word, (uint32_t)old);
            break;
        default:
            STORE(*(uint16_t *)word, (uint16_t)old);
        }
    }
    STORE(u->noted, 0);
    return 1;
}

#endif
