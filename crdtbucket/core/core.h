/* The compiled core, as the binding (core/binding) and the native tests include it.
 * docs/architecture.md, "What lies in memory", draws the data structures and follows a take and a
 * delta through them. Files of memory/ hold bytes and places, level/ one decision, merge/ the CRDT,
 * repair/ what is done after a crash.
 * Names that all headers use: `t` is the table, `h` its header, `e` the number of an entry (its
 * place in the arrays of entries), `hot` and `cold` the two records of that entry, `d` its
 * definition, `c` a column, `b` the number of a block, `j` the journal, `n` the tokens of a call
 * or, where it points to a `node_t`, a node, `m` the context of a merge, `w` an entry of a frame,
 * `wd` its definition, `x` a column of it, `g` the comparison of both, `r` the result of a merge,
 * and `o` the outcome of a take. A `bucket` is the slot of a definition, an `origin` the number of
 * an epoch, and a `source` the number of the node that sent a frame.
 * Values: names that end in `_ns`, and `now`, `at`, `since`, `until` and `base`, are integer
 * nanoseconds, as times by the local clock (`clock_ns`). Counts of a column, costs and floors are
 * tokens. A debt of type `i128` is in units of 1/p ns, see level/units.h; of type `int64_t` it is
 * in ns. Rates are tokens a second. A function that returns `int` says yes or no (1 or 0) unless
 * its comment says otherwise; NONE is no entry, no block, no slot. */
#ifndef CRDTBUCKET_CORE_H
#define CRDTBUCKET_CORE_H

#include "level/give_back.h"
#include "level/peek.h"
#include "level/survey.h"
#include "level/take_many.h"
#include "memory/mapping.h"
#include "memory/published.h"
#include "merge/common_store.h"
#include "merge/digest.h"
#include "merge/frame.h"
#include "merge/silence.h"
#include "repair/lock.h"
#include "repair/prune.h"
#include "repair/resume.h"
#include "repair/snapshot.h"
#include "repair/verify.h"

#endif
