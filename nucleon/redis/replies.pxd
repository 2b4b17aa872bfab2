# The C types of replies.pyx, for link.py.

cdef class Replies:
    cdef public Py_ssize_t end
    cdef list _names, _texts

    cpdef object read(self, bytearray buffer, Py_ssize_t start, Py_ssize_t stop, bint is_text, bint as_dict)
    cdef object _scalar(self, const unsigned char *at, const unsigned char *end, const unsigned char *first, bint is_text)
    cdef object _pairs(self, const unsigned char *at, const unsigned char *end, const unsigned char *first, Py_ssize_t start, bint is_text)
    cdef object _name_at(self, Py_ssize_t place, const char *octets, Py_ssize_t size, bint is_text)
