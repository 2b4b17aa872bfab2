# C types for exchange.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.head cimport RequestHead
from nucleon.http.reply cimport Reply, compose
from nucleon.message.request cimport Request
from nucleon.message.response cimport Response
from nucleon.server.body cimport Body
from nucleon.server.connection cimport Connection
from nucleon.server.core cimport Core
from nucleon.wsgi cimport Start, finish_environ, respond_to

cdef object _set_deadline, _set_identity
cdef Py_ssize_t _JOINED_BYTES

@cython.locals(head=RequestHead, body=Body, response=Response, keep_alive=bint)
cpdef bint run_exchange(Core core, Connection connection) except -1

@cython.locals(request=Request)
cdef Response _answer(Core core, Connection connection, RequestHead head, Body body)

@cython.locals(environ=dict, start=Start)
cdef Response _answer_wsgi(Core core, Connection connection, RequestHead head, Body body)

cdef Reply _composed(RequestHead head, Response response, Py_ssize_t size, bint keep_alive)

@cython.locals(body=bytes, size=Py_ssize_t, reply=Reply, data=bytes)
cdef bint _send_whole(Connection connection, RequestHead head, Response response, bint keep_alive, bint ends_at_once) except -1
