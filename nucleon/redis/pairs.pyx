"""Reads names and values of a hash from the wire into a dict: a third of what hiredis and a callback take.

The commonest form only: an array or map of strings, whole in the buffer. Names that the reply before had at the same place are taken
from there, with their hash: what is read in a row is mostly of one kind.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_SetItem
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcmp

cdef extern from *:
    dict __Pyx_PyDict_NewPresized(Py_ssize_t size)

cdef Py_ssize_t INCOMPLETE = -1, OTHER = -2
cdef Py_ssize_t MOST_NAMES = 64, LONGEST_NAME = 64  # remembered
cdef list names = []  # as they came
cdef list texts = []  # the same, decoded; None where nobody has asked


cdef Py_ssize_t number(const unsigned char *at, const unsigned char *end, Py_ssize_t *value) noexcept nogil:
    """Read digits and a line end; return how many octets that were, or why not."""
    cdef Py_ssize_t found = 0, count = 0
    while at + count < end and 48 <= at[count] <= 57:
        if count == 9:
            return OTHER
        found = found * 10 + (at[count] - 48)
        count += 1
    if at + count + 1 >= end:
        return INCOMPLETE
    if count == 0 or (count > 1 and at[0] == 48) or at[count] != 13 or at[count + 1] != 10:
        return OTHER
    value[0] = found
    return count + 2


cdef Py_ssize_t string(const unsigned char *at, const unsigned char *end, Py_ssize_t *size) noexcept nogil:
    """Read the head of a string that is here whole; return where its octets begin, or why not."""
    if at >= end:
        return INCOMPLETE
    if at[0] != 36:  # $
        return OTHER
    cdef Py_ssize_t took = number(at + 1, end, size)
    if took < 0:
        return took
    if end - at - 1 - took < size[0] + 2:
        return INCOMPLETE
    if at[1 + took + size[0]] != 13 or at[2 + took + size[0]] != 10:
        return OTHER
    return 1 + took


cdef object name_at(Py_ssize_t place, const char *octets, Py_ssize_t size, bint is_text):
    cdef bytes name
    cdef object text
    if place < len(names):
        name = <bytes>names[place]
        if PyBytes_GET_SIZE(name) != size or memcmp(PyBytes_AS_STRING(name), octets, size) != 0:
            name = None
    else:
        name = None
    if name is None:
        name = PyBytes_FromStringAndSize(octets, size)
        if size <= LONGEST_NAME:
            if place < len(names):
                names[place] = name
                texts[place] = None
            elif place == len(names) and place < MOST_NAMES:
                names.append(name)
                texts.append(None)
        return PyUnicode_DecodeUTF8(octets, size, NULL) if is_text else name
    if not is_text:
        return name
    text = texts[place]
    if text is None:
        text = texts[place] = PyUnicode_DecodeUTF8(octets, size, NULL)
    return text


def read_pairs(const unsigned char[::1] buffer, Py_ssize_t start, Py_ssize_t stop, bint is_text):
    """Return the dict that `buffer[start:stop]` begins with, and where it ends.

    is_text: strings are decoded (UTF-8). Without a dict: `(None, start)` when it is not here whole, `(None, -1)` when it is something
    else or cannot be decoded.
    """
    if start >= stop or stop > buffer.shape[0]:
        return None, start
    cdef const unsigned char *at = &buffer[start]
    cdef const unsigned char *end = &buffer[0] + stop
    cdef Py_ssize_t count = 0, size = 0, place, took
    cdef bint is_map = at[0] == 37  # %
    cdef dict found
    cdef object name, value
    if not is_map and at[0] != 42:  # *
        return None, -1
    took = number(at + 1, end, &count)
    if took < 0:
        return None, start if took == INCOMPLETE else -1
    if not is_map:
        if count % 2:
            return None, -1
        count //= 2
    at += 1 + took
    if (end - at) < count * 10:  # "$0\r\n\r\n" twice is twelve: no memory is taken for what cannot be here
        return None, start
    found = __Pyx_PyDict_NewPresized(count)
    try:
        for place in range(count):
            took = string(at, end, &size)
            if took < 0:
                return None, start if took == INCOMPLETE else -1
            at += took
            name = name_at(place, <const char*>at, size, is_text)
            at += size + 2
            took = string(at, end, &size)
            if took < 0:
                return None, start if took == INCOMPLETE else -1
            at += took
            if is_text:
                value = PyUnicode_DecodeUTF8(<const char*>at, size, NULL)
            else:
                value = PyBytes_FromStringAndSize(<const char*>at, size)
            PyDict_SetItem(found, name, value)
            at += size + 2
    except UnicodeDecodeError:
        return None, -1
    return found, at - &buffer[0]
