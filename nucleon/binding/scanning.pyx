"""Values found inside a query without taking it apart, by walking over its bytes: what `scanning.py` does interpreted."""
from libc.string cimport memcmp

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    const char *PyUnicode_1BYTE_DATA(object)

cdef enum:
    NO_FIELD = -1
    NOT_PLAIN = -2
    LONGEST = 256

ABSENT, UNSURE, SHORT = NO_FIELD, NOT_PLAIN, LONGEST


cpdef Py_ssize_t value_start(str text, str name) except -9:
    """Return where the value of a field begins in a query; `ABSENT`; `UNSURE` for a long or encoded query, and for a repeated field."""
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    cdef Py_ssize_t name_size = PyUnicode_GET_LENGTH(name)
    cdef Py_ssize_t found = NO_FIELD
    cdef Py_ssize_t begin = 0
    cdef Py_ssize_t name_end = -1
    cdef Py_ssize_t at
    cdef const char *letters
    cdef const char *wanted
    cdef char letter
    if size > LONGEST or not PyUnicode_IS_ASCII(text) or not PyUnicode_IS_ASCII(name):
        return NOT_PLAIN
    letters = PyUnicode_1BYTE_DATA(text)
    wanted = PyUnicode_1BYTE_DATA(name)
    for at in range(size + 1):  # the end of the text ends its last field
        letter = letters[at] if at < size else c"&"
        if letter == c"&":
            if name_end < 0:
                name_end = at
            if at > begin and name_end - begin == name_size and memcmp(letters + begin, wanted, name_size) == 0:
                if found != NO_FIELD:
                    return NOT_PLAIN
                found = name_end + 1 if name_end < at else at
            begin = at + 1
            name_end = -1
        elif letter == c"=":
            if name_end < 0:
                name_end = at
        elif letter == c"%" or letter == c"+":
            return NOT_PLAIN
    return found


cpdef Py_ssize_t value_end(str text, Py_ssize_t start) except -9:
    """Return where the value that begins there ends."""
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    cdef const char *letters = PyUnicode_1BYTE_DATA(text)
    while start < size and letters[start] != c"&":
        start += 1
    return start


cpdef long long number_in(str text, Py_ssize_t start, Py_ssize_t end) except -9:
    """Return the number of digits as JSON writes them: no sign, no leading zero, at most 18; -1 for all else."""
    cdef const char *letters
    cdef long long number = 0
    cdef Py_ssize_t at
    if not 0 < end - start < 19 or not PyUnicode_IS_ASCII(text):
        return -1
    letters = PyUnicode_1BYTE_DATA(text)
    if letters[start] == c"0" and end - start > 1:
        return -1
    for at in range(start, end):
        if letters[at] < c"0" or letters[at] > c"9":
            return -1
        number = number * 10 + (letters[at] - c"0")
    return number
