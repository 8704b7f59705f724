/* The compiled core, as the binding and the native tests see it. */
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
