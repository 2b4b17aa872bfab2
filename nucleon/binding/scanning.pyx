"""Values found inside a query without taking it apart, by walking over its bytes: what `scanning.py` does interpreted."""
from libc.string cimport memcmp
from urllib.parse import unquote_plus

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    const char *PyUnicode_1BYTE_DATA(object)
    object PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)

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


cdef inline int nibble(char letter) noexcept:
    """Return the number of a hexadecimal digit; -1 for no such digit."""
    if c"0" <= letter <= c"9":
        return letter - c"0"
    if c"a" <= letter <= c"f":
        return letter - c"a" + 10
    if c"A" <= letter <= c"F":
        return letter - c"A" + 10
    return -1


cpdef str decoded(str text):
    """Return urlencoded text (WHATWG URL, section 5.1) decoded. Raises `UnicodeDecodeError` for what is not UTF-8."""
    cdef char octets[LONGEST]
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count = 0
    cdef const char *letters
    if size > LONGEST or not PyUnicode_IS_ASCII(text):
        return unquote_plus(text, errors="strict")
    letters = PyUnicode_1BYTE_DATA(text)
    while at < size:
        octets[count] = c" " if letters[at] == c"+" else letters[at]
        if letters[at] == c"%" and at + 2 < size and nibble(letters[at + 1]) >= 0 and nibble(letters[at + 2]) >= 0:
            octets[count] = <char>(16 * nibble(letters[at + 1]) + nibble(letters[at + 2]))
            at += 2
        at += 1
        count += 1
    return PyUnicode_DecodeUTF8(octets, count, NULL)


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
