/* The compiled core, as the binding sees it. */
#ifndef CRDTBUCKET_CORE_H
#define CRDTBUCKET_CORE_H

#include <pthread.h>
#include <sched.h>
#include "digest.h"
#include "frame.h"
#include "many.h"
#include "replica.h"
#include "resume.h"
#include "upkeep.h"

#endif
