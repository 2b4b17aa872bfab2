"""Reads the commonest replies from the wire, for a third or less of what hiredis takes.

Strings, numbers and nothing, and hashes as a dict: an array or map of strings. Whole in the buffer only. Names of a hash that the reply
before had at the same place are taken from there, with what their hash value is: what is read in a row is mostly of one kind.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_SetItem
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp

cdef extern from *:
    dict __Pyx_PyDict_NewPresized(Py_ssize_t size)

UNREAD = object()
OTHER = _OTHER
cdef enum:
    _OTHER = -1
    INCOMPLETE = -2
    MOST_NAMES = 64  # remembered
    LONGEST_NAME = 64


cdef Py_ssize_t number(const unsigned char *at, const unsigned char *end, Py_ssize_t most, Py_ssize_t *value) noexcept nogil:
    """Read up to `most` digits and a line end; return how many octets that were, or why not."""
    cdef Py_ssize_t found = 0, count = 0
    while at + count < end and 48 <= at[count] <= 57:
        if count == most:
            return _OTHER
        found = found * 10 + (at[count] - 48)
        count += 1
    if at + count + 1 >= end:
        return INCOMPLETE
    if count == 0 or (count > 1 and at[0] == 48) or at[count] != 13 or at[count + 1] != 10:
        return _OTHER
    value[0] = found
    return count + 2


cdef Py_ssize_t string(const unsigned char *at, const unsigned char *end, Py_ssize_t *size) noexcept nogil:
    """Read the head of a string that is here whole; return where its octets begin, or why not."""
    if at >= end:
        return INCOMPLETE
    if at[0] != 36:  # $
        return _OTHER
    cdef Py_ssize_t took = number(at + 1, end, 9, size)
    if took < 0:
        return took
    if end - at - 1 - took < size[0] + 2:
        return INCOMPLETE
    if at[1 + took + size[0]] != 13 or at[2 + took + size[0]] != 10:
        return _OTHER
    return 1 + took


cdef object text_or_octets(const unsigned char *at, Py_ssize_t size, bint is_text):
    if is_text:
        return PyUnicode_DecodeUTF8(<const char*>at, size, NULL)
    return PyBytes_FromStringAndSize(<const char*>at, size)


cdef class Replies:
    """Reads one reply after the other from a buffer. end: where the last one ended; see `read`."""

    def __init__(self):
        self.end = _OTHER
        self._names = []  # as they came
        self._texts = []  # the same, decoded; None where nobody has asked

    cpdef object read(self, bytearray buffer, Py_ssize_t start, Py_ssize_t stop, bint is_text, bint as_dict):
        """Return the reply that `buffer[start:stop]` begins with: a string, a number, nothing, or names and values as a dict.

        is_text: strings are decoded (UTF-8). as_dict: a list of names and values is wanted as a dict. `UNREAD`: `end` is `start` when it
        is not here whole, `OTHER` when it is something else or cannot be decoded.
        """
        if start < 0 or start >= stop or stop > len(buffer):
            self.end = start
            return UNREAD
        cdef const unsigned char *first = <const unsigned char*><char*>buffer
        cdef const unsigned char *at = first + start
        cdef const unsigned char *end = first + stop
        cdef object found
        self.end = _OTHER
        try:
            if at[0] == 42 or at[0] == 37:  # * and %
                if not as_dict:
                    return UNREAD
                found = self._pairs(at, end, first, start, is_text)
            else:
                found = self._scalar(at, end, first, is_text)
        except UnicodeDecodeError:
            self.end = _OTHER
            return UNREAD
        if self.end == INCOMPLETE:
            self.end = start
        return found

    cdef object _scalar(self, const unsigned char *at, const unsigned char *end, const unsigned char *first, bint is_text):
        cdef Py_ssize_t size = 0, took, sign
        cdef object found
        cdef const unsigned char *line
        if at[0] == 36 and at + 1 < end and at[1] != 45:  # $, and no minus
            took = string(at, end, &size)
            if took < 0:
                self.end = took
                return UNREAD
            found = text_or_octets(at + took, size, is_text)
            self.end = at + took + size + 2 - first
            return found
        if at[0] == 58:  # :
            sign = 1 if at + 1 < end and at[1] == 45 else 0
            took = number(at + 1 + sign, end, 18, &size)
            if took < 0 or (sign == 1 and size == 0):
                self.end = took if took < 0 else _OTHER
                return UNREAD
            self.end = at + 1 + sign + took - first
            return -size if sign else size
        if at[0] != 36 and at[0] != 43 and at[0] != 95:  # $, + and _
            return UNREAD
        line = <const unsigned char*>memchr(at, 10, end - at)
        if line == NULL:
            self.end = INCOMPLETE
            return UNREAD
        size = line + 1 - at
        if (size == 5 and memcmp(at, b"$-1\r\n", 5) == 0) or (size == 3 and memcmp(at, b"_\r\n", 3) == 0):
            self.end = at + size - first
            return None
        if at[0] == 43 and memchr(at, 13, size) == line - 1:  # +
            found = text_or_octets(at + 1, size - 3, is_text)
            self.end = at + size - first
            return found
        return UNREAD

    cdef object _pairs(self, const unsigned char *at, const unsigned char *end, const unsigned char *first, Py_ssize_t start, bint is_text):
        cdef Py_ssize_t count = 0, size = 0, place, took
        cdef bint is_map = at[0] == 37  # %
        cdef dict found
        cdef object name, value
        took = number(at + 1, end, 9, &count)
        if took < 0:
            self.end = took
            return UNREAD
        if not is_map:
            if count % 2:
                return UNREAD
            count //= 2
        at += 1 + took
        if (end - at) < count * 10:  # "$0\r\n\r\n" twice is twelve: no memory is taken for what cannot be here
            self.end = INCOMPLETE
            return UNREAD
        found = __Pyx_PyDict_NewPresized(count)
        for place in range(count):
            took = string(at, end, &size)
            if took < 0:
                self.end = took
                return UNREAD
            at += took
            name = self._name_at(place, <const char*>at, size, is_text)
            at += size + 2
            took = string(at, end, &size)
            if took < 0:
                self.end = took
                return UNREAD
            at += took
            value = text_or_octets(at, size, is_text)
            PyDict_SetItem(found, name, value)
            at += size + 2
        self.end = at - first
        return found

    cdef object _name_at(self, Py_ssize_t place, const char *octets, Py_ssize_t size, bint is_text):
        cdef bytes name
        cdef object text
        cdef list names = self._names, texts = self._texts
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
