/* The bytes of a key, without copying them; and how a method is called, for errors. */
#ifndef CRDTBUCKET_BINDING_TEXT_H
#define CRDTBUCKET_BINDING_TEXT_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "../memory/atomics.h"

/* Finds the bytes of a `str` (as UTF-8) or of `bytes`, without copying them. Returns 0 for anything
 * else, and for a `str` that has no UTF-8; no exception is set then. */
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

/* How a method is called, as "take(key, cost=1, floor=0)", read from its docstring "take($self,
 * key, cost=1, floor=0)\n--\n...". A name without a docstring gets "()". setup.py makes the errors
 * of Cython call it. The text is valid until the next call; the GIL is held. */
__attribute__((noinline, unused)) static const char *call_shape(const char *doc)
{
    static char shape[160];
    const char *read = doc;
    size_t n = 0;
    for (; *read && *read != '\n' && n < sizeof shape - 3; read++)
        if (*read == '$')
            read += read[5] == ',' ? 6 : 4; /* "$self, " or "$self" */
        else
            shape[n++] = *read;
    memcpy(shape + n, *read ? "" : "()", *read ? 1 : 3);
    return shape;
}

#endif
