cpdef double now() noexcept
cpdef long long second() noexcept
cpdef long long number(str text) except -2
cpdef bint begins(bytes data, Py_ssize_t at, bytes word) noexcept
cpdef bint ends(bytes data, bytes word) noexcept
cpdef object move(object place, Py_ssize_t to, Py_ssize_t at, Py_ssize_t count)
