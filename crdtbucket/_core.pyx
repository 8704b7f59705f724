# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=False, auto_pickle=False
"""The compiled core: one table of keys, decisions, merges. Rules are in core/*.h; here arguments are checked and the
interpreter is spoken to, in core/*.pxi.

A take of a key that is held is lock-free and runs under the GIL. Whatever adds, removes or rewrites entries holds the GIL and
the table's lock; bulk calls hold only the lock.
"""

from cpython.array cimport array, clone
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLong, PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport INT64_MAX, UINT32_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtbucket.errors import CostExceedsCapacity, CrdtbucketError, InvalidCost, InvalidKey, WireError
from crdtbucket.spec.mode import Mode

import cython
import os
from collections import namedtuple
from operator import index

cdef array _BYTES = array("b")
cdef array _INTS = array("q")
cdef array _FLOATS = array("d")
cdef array _UINTS = array("I")

include "core/declarations.pxi"
include "core/arguments.pxi"
include "core/memory.pxi"
include "core/definitions.pxi"
include "core/nodes.pxi"
include "core/outbox.pxi"
include "core/inbox.pxi"
include "core/sharing.pxi"
include "core/table.pxi"
include "core/decision.pxi"
include "core/decide.pxi"
include "core/replica.pxi"
include "core/bucket.pxi"
