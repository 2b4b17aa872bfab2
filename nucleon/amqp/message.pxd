# C types for what every delivery makes; the code is in message.py, and runs without this file.
cdef class Message:
    cdef public Py_ssize_t _at
    cdef public object _channel, _properties, _place, delivery_tag, source
    cdef public bytes _carrier, _header, body
    cdef public bint is_settled, redelivered
