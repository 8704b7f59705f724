# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
# cython: freethreading_compatible=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled core: one table of keys, decisions, merges. Its rules are C headers in core/memory,
core/level, core/merge and core/repair; core/binding checks arguments and speaks to the interpreter.

A take of a key that is held is lock-free and runs under the GIL. Whatever adds, removes or rewrites
entries holds the GIL and the table's lock; bulk calls hold only the lock.
"""

from cpython.array cimport array, clone
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsLongLong, PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.errno cimport EINTR, errno
from libc.math cimport ceil, llrint
from libc.stdint cimport (
    INT64_MAX,
    UINT32_MAX,
    UINT64_MAX,
    int8_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)
from libc.string cimport memcmp, memcpy, memset

from crdtbucket.base.duration import duration_ns
from crdtbucket.errors import (
    AcquireRequired,
    CostExceedsCapacity,
    CrdtbucketError,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    LimiterClosed,
    ReservationDenied,
    ReservationError,
    SlotDenied,
    WireError,
    WrongKind,
)
from crdtbucket.spec import bucket_kinds, priority
from crdtbucket.spec.mode import COUNTED as _COUNTED, Mode
from crdtbucket.spec.reservation_state import ReservationState

import cython
import os
from collections import namedtuple
from copy import copy as _copy
from operator import index

cdef array _BYTES = array("b")
cdef array _INTS = array("q")
cdef array _FLOATS = array("d")
cdef array _UINTS = array("I")

include "core/binding/declarations.pxi"
include "core/binding/wire_declarations.pxi"
include "core/binding/arguments.pxi"
include "core/binding/memory.pxi"
include "core/binding/sharing.pxi"
include "core/binding/epochs.pxi"
include "core/binding/nodes.pxi"
include "core/binding/outbox.pxi"
include "core/binding/entries.pxi"
include "core/binding/inbox.pxi"
include "core/binding/definitions.pxi"
include "core/binding/plain_frames.pxi"
include "core/binding/table.pxi"
include "core/binding/decision.pxi"
include "core/binding/decide.pxi"
include "core/binding/bucket_counts.pxi"
include "core/binding/reservation.pxi"
include "core/binding/bucket.pxi"
include "core/binding/reset.pxi"
include "core/binding/replica.pxi"
include "core/binding/store_call.pxi"
include "core/binding/slot_search.pxi"
include "core/binding/slots.pxi"
include "core/binding/take_many.pxi"
include "core/binding/take_parts.pxi"
include "core/binding/all_decision.pxi"
include "core/binding/take_all.pxi"
include "core/binding/reserve_all.pxi"
