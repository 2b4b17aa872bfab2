# C types for core.py; the code itself is there, and runs without this file.
from nucleon.http.malformed cimport Limits

cdef class Core:
    cdef public list _places
    cdef public bint accepting
    cdef public object application
    cdef public Py_ssize_t arriving
    cdef public set connections
    cdef public double deadline_seconds
    cdef public object drained
    cdef public bint draining
    cdef public dict environ
    cdef public object fewer
    cdef public bint fresh
    cdef public double grace_seconds
    cdef public Py_ssize_t head_ticks
    cdef public object holding
    cdef public object hub
    cdef public bint idle_closed
    cdef public Py_ssize_t idle_ticks
    cdef public double interval
    cdef public Limits limits
    cdef public Py_ssize_t linger_ticks
    cdef public object loop
    cdef public Py_ssize_t maximum_connections
    cdef public Py_ssize_t maximum_running
    cdef public object new_worker
    cdef public Py_ssize_t parked
    cdef public object poller
    cdef public object proxies
    cdef public Py_ssize_t requests
    cdef public object respond
    cdef public Py_ssize_t running
    cdef public object settings
    cdef public object stand_back
    cdef public Py_ssize_t tick
    cdef public Py_ssize_t write_bytes_per_tick
    cdef public Py_ssize_t write_ticks

    cpdef object park(self, object worker)
    cpdef object unpark(self)
    cpdef object forget(self, object connection)
