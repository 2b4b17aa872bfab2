"""One statement straight through libpq, on psycopg2's own connection: what `direct.py` does interpreted, for a third of the CPU time.

psycopg2 connects, binds the parameters into the text and knows the column types; only its cursor is left out: sending, waiting,
and the reading of rows. Its exceptions are made anew (`failures.py`). A session that does not speak UTF-8 and one with a
cursor class of its own take the cursor's way.
"""
from cpython.long cimport PyLong_FromString
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uintptr_t
from libc.string cimport strcmp, strlen

import psycopg2
import psycopg2._psycopg
import psycopg2.extensions

from nucleon.errors import DeadlineExceeded
from nucleon.green import deadline_at
from nucleon.postgres.connection import READY, sleep, wait_for_room
from nucleon.postgres.exchange import Result
from nucleon.postgres.exchange import execute as execute_by_cursor
from nucleon.postgres.failures import FIELDS, failure_from

cdef extern from "Python.h":
    double PyOS_string_to_double(const char*, char**, void*) except? -1.0

cdef extern from "dlfcn.h":
    int RTLD_NOW, RTLD_NOLOAD
    void* dlopen(const char*, int)
    void* dlsym(void*, const char*)

ctypedef void (*Receiver)(void*, const void*) noexcept nogil

# libpq's functions (PostgreSQL manual, chapter "libpq"), out of the library that psycopg2 itself runs on
cdef int (*PQsendQuery)(void*, const char*) noexcept
cdef int (*PQflush)(void*) noexcept
cdef int (*PQconsumeInput)(void*) noexcept
cdef int (*PQisBusy)(void*) noexcept
cdef void* (*PQgetResult)(void*) noexcept
cdef int (*PQresultStatus)(const void*) noexcept
cdef char* (*PQresultErrorMessage)(const void*) noexcept
cdef char* (*PQresultErrorField)(const void*, int) noexcept
cdef char* (*PQerrorMessage)(const void*) noexcept
cdef void (*PQclear)(void*) noexcept
cdef int (*PQntuples)(const void*) noexcept
cdef int (*PQnfields)(const void*) noexcept
cdef char* (*PQfname)(const void*, int) noexcept
cdef unsigned int (*PQftype)(const void*, int) noexcept
cdef unsigned int (*PQftable)(const void*, int) noexcept
cdef int (*PQftablecol)(const void*, int) noexcept
cdef int (*PQgetisnull)(const void*, int, int) noexcept
cdef int (*PQgetlength)(const void*, int, int) noexcept
cdef char* (*PQgetvalue)(const void*, int, int) noexcept
cdef char* (*PQcmdTuples)(void*) noexcept
cdef char* (*PQcmdStatus)(void*) noexcept
cdef const char* (*PQparameterStatus)(const void*, const char*) noexcept
cdef int (*PQclientEncoding)(const void*) noexcept
cdef Receiver (*PQsetNoticeReceiver)(void*, Receiver, void*) noexcept


cdef void* _found(void* library, const char* name) except NULL:
    cdef void* function = dlsym(library, name)
    if function is NULL:
        raise ImportError(f"psycopg2's libpq has no {name.decode()}")
    return function


cdef int _load() except -1:
    global PQsendQuery, PQflush, PQconsumeInput, PQisBusy, PQgetResult, PQresultStatus, PQresultErrorMessage, PQresultErrorField
    global PQerrorMessage, PQclear, PQntuples, PQnfields, PQfname, PQftype, PQftable, PQftablecol, PQgetisnull, PQgetlength, PQgetvalue
    global PQcmdTuples, PQcmdStatus, PQclientEncoding, PQsetNoticeReceiver, PQparameterStatus
    cdef bytes path = psycopg2._psycopg.__file__.encode()
    cdef void* library = dlopen(path, RTLD_NOW | RTLD_NOLOAD)  # what is found through it is what psycopg2 was linked to
    if library is NULL:
        raise ImportError("psycopg2's library cannot be opened")
    PQsendQuery = <int (*)(void*, const char*) noexcept>_found(library, "PQsendQuery")
    PQflush = <int (*)(void*) noexcept>_found(library, "PQflush")
    PQconsumeInput = <int (*)(void*) noexcept>_found(library, "PQconsumeInput")
    PQisBusy = <int (*)(void*) noexcept>_found(library, "PQisBusy")
    PQgetResult = <void* (*)(void*) noexcept>_found(library, "PQgetResult")
    PQresultStatus = <int (*)(const void*) noexcept>_found(library, "PQresultStatus")
    PQresultErrorMessage = <char* (*)(const void*) noexcept>_found(library, "PQresultErrorMessage")
    PQresultErrorField = <char* (*)(const void*, int) noexcept>_found(library, "PQresultErrorField")
    PQerrorMessage = <char* (*)(const void*) noexcept>_found(library, "PQerrorMessage")
    PQclear = <void (*)(void*) noexcept>_found(library, "PQclear")
    PQntuples = <int (*)(const void*) noexcept>_found(library, "PQntuples")
    PQnfields = <int (*)(const void*) noexcept>_found(library, "PQnfields")
    PQfname = <char* (*)(const void*, int) noexcept>_found(library, "PQfname")
    PQftype = <unsigned int (*)(const void*, int) noexcept>_found(library, "PQftype")
    PQftable = <unsigned int (*)(const void*, int) noexcept>_found(library, "PQftable")
    PQftablecol = <int (*)(const void*, int) noexcept>_found(library, "PQftablecol")
    PQgetisnull = <int (*)(const void*, int, int) noexcept>_found(library, "PQgetisnull")
    PQgetlength = <int (*)(const void*, int, int) noexcept>_found(library, "PQgetlength")
    PQgetvalue = <char* (*)(const void*, int, int) noexcept>_found(library, "PQgetvalue")
    PQcmdTuples = <char* (*)(void*) noexcept>_found(library, "PQcmdTuples")
    PQcmdStatus = <char* (*)(void*) noexcept>_found(library, "PQcmdStatus")
    PQparameterStatus = <const char* (*)(const void*, const char*) noexcept>_found(library, "PQparameterStatus")
    PQclientEncoding = <int (*)(const void*) noexcept>_found(library, "PQclientEncoding")
    PQsetNoticeReceiver = <Receiver (*)(void*, Receiver, void*) noexcept>_found(library, "PQsetNoticeReceiver")
    return 0


cdef bint _is_loaded
try:
    _is_loaded = not _load()
except ImportError:
    _is_loaded = False  # a psycopg2 that does not show its libpq: its cursor runs everything

cdef enum:  # libpq-fe.h: ExecStatusType; mb/pg_wchar.h: pg_enc
    EMPTY_QUERY = 0
    COMMAND_OK = 1
    TUPLES_OK = 2
    COPY_OUT = 3
    COPY_IN = 4
    COPY_BOTH = 8
    UTF8 = 6

cdef enum:  # how a column's text becomes a value
    BY_CASTER
    WHOLE_NUMBER
    FLOATING
    TEXT
    TRUTH

cdef dict _ways = {
    id(psycopg2.extensions.INTEGER): WHOLE_NUMBER,
    id(psycopg2.extensions.LONGINTEGER): WHOLE_NUMBER,
    id(psycopg2.extensions.FLOAT): FLOATING,
    id(psycopg2.extensions.UNICODE): TEXT,
    id(psycopg2.STRING): TEXT,
    id(psycopg2.extensions.BOOLEAN): TRUTH,
}
cdef dict _casters_of_all = psycopg2.extensions.string_types
_new_tuple = tuple.__new__  # what NamedTuple's own __new__ calls, without the Python function around it

cdef Receiver _default_receiver = NULL
cdef void* _running = NULL  # the session whose bytes are being read here


cdef void _receive_notice(void* session, const void* notice) noexcept nogil:
    # psycopg2 keeps notices until its cursor is used again, for ever if it never is: those of statements that ran here are let go.
    if session is not _running:
        _default_receiver(NULL, notice)


def prepare(connection):
    """Make a new connection ready for `execute`."""
    global _default_receiver
    if not _is_loaded:
        return
    cdef void* session = <void*><uintptr_t>connection.pgconn_ptr
    _default_receiver = PQsetNoticeReceiver(session, _receive_notice, session)


cdef class _Answer:
    """The result of the last command; an error stays."""

    cdef void* result

    def __dealloc__(self):
        if self.result is not NULL:
            PQclear(self.result)

    cdef bint failed(self) noexcept:
        return self.result is not NULL and PQresultStatus(self.result) not in (EMPTY_QUERY, COMMAND_OK, TUPLES_OK, COPY_OUT, COPY_IN, COPY_BOTH)

    cdef void keep(self, void* result) noexcept:
        if self.failed():
            PQclear(result)
            return
        if self.result is not NULL:
            PQclear(self.result)
        self.result = result

    def origin(self, int at):
        """Return table and column of a column."""
        cdef unsigned int table = PQftable(self.result, at)
        cdef int column = PQftablecol(self.result, at)
        return table or None, column or None


def execute(connection, str statement, parameters):
    """Run a statement and return what its last command gave. Raises `psycopg2.Error`, and `DeadlineExceeded` when even the cancel hangs."""
    if not _is_loaded:
        return execute_by_cursor(connection, statement, parameters)
    address = connection.pgconn_ptr
    if address is None:
        raise psycopg2.InterfaceError("connection already closed")
    cdef void* session = <void*><uintptr_t>address
    if PQclientEncoding(session) != UTF8 or connection.cursor_factory is not None:
        return execute_by_cursor(connection, statement, parameters)
    cursor = connection.scribe
    if cursor is None:
        cursor = connection.scribe = connection.cursor()
    cdef bytes query
    if parameters is None:
        query = statement.encode()
    else:
        query = _bound(session, statement, parameters) if type(parameters) is tuple else None
        if query is None:
            query = cursor.mogrify(statement, parameters)
    cdef _Answer answer = _Answer.__new__(_Answer)
    _exchange(connection, session, query, answer)
    return _result_from(answer, connection, cursor)


cdef dict _pieces_of = {}
cdef tuple _FOR_NUMBERS = (int, psycopg2.extensions.ISQLQuote)
cdef tuple _FOR_TEXTS = (str, psycopg2.extensions.ISQLQuote)
cdef dict _adapters = psycopg2.extensions.adapters
cdef object _own_numbers = _adapters[_FOR_NUMBERS]
cdef object _own_texts = _adapters[_FOR_TEXTS]


cdef list _pieces(str statement):
    """Return the text between its `%s`, empty when it has other marks."""
    cdef list pieces = statement.replace("%%", "\0").split("%s")
    if "\0" in statement or any(["%" in piece for piece in pieces]):
        pieces = []
    cdef list encoded = [piece.replace("\0", "%").encode() for piece in pieces]
    if len(_pieces_of) < 2048:  # a service has fewer; texts that are made anew each time are not worth keeping
        _pieces_of[statement] = encoded
    return encoded


cdef bytes _bound(void* session, str statement, tuple parameters):
    """Return the statement with numbers, texts and nulls put in as psycopg2 puts them; None when it has to do that itself."""
    cdef list pieces = _pieces_of.get(statement)
    if pieces is None:
        pieces = _pieces(statement)
    cdef Py_ssize_t at, count = len(parameters)
    if len(pieces) != count + 1:
        return None
    cdef list parts = []
    for at in range(count):
        parts.append(pieces[at])
        parameter = parameters[at]
        if type(parameter) is int and _adapters.get(_FOR_NUMBERS) is _own_numbers:
            # a negative one after a minus would begin a comment
            parts.append(b"%d" % parameter if parameter >= 0 else b" %d" % parameter)
        elif type(parameter) is str and _adapters.get(_FOR_TEXTS) is _own_texts:
            quoted = _quoted(session, parameter.encode())
            if quoted is None:
                return None
            parts.append(quoted)
        elif parameter is None:
            parts.append(b"NULL")
        else:
            return None
    parts.append(pieces[count])
    return b"".join(parts)


cdef bytes _quoted(void* session, bytes text):
    """Return a text as a literal; None for what psycopg2 refuses, and when backslashes mean something to the server."""
    cdef const char* said = PQparameterStatus(session, "standard_conforming_strings")
    if said is NULL or strcmp(said, "on") or b"\0" in text:
        return None
    return b"'" + text.replace(b"'", b"''") + b"'"


cdef int _exchange(object connection, void* session, bytes query, _Answer answer) except -1:
    """Send the query and wait for all it gives, until the deadline; then cancel it and wait a little longer."""
    at = connection.grace_ends_at
    if at is None:
        at = deadline_at.get()
    cdef bint cancelled = False
    cdef int unsent
    cdef void* result
    if not PQsendQuery(session, query):
        raise _lost(connection, session, answer)
    try:
        unsent = PQflush(session)
        while True:
            if unsent == 0 and not _is_busy(session):
                result = _next_result(session)
                if result is NULL:
                    return 0
                answer.keep(result)
                if PQresultStatus(answer.result) in (COPY_OUT, COPY_IN, COPY_BOTH):
                    raise psycopg2.ProgrammingError("COPY needs a file: use copy_expert() of connection()")
                continue
            if connection.restless:
                connection.watch()
            ready = sleep(connection, at) is READY if unsent == 0 else wait_for_room(connection, at)
            if connection.closed:
                raise psycopg2.InterfaceError("the connection was closed while a statement ran")
            if ready:
                if not _take_in(session):
                    raise _lost(connection, session, answer)
                if unsent:
                    unsent = PQflush(session)
                    if unsent < 0:
                        raise _lost(connection, session, answer)
                continue
            if cancelled:
                raise DeadlineExceeded("the database did not answer a cancel")
            cancelled = True
            at = connection.expire()
    except BaseException:
        if not cancelled:
            connection.end_statement()  # a kill: the connection is closed now, but the SQL would run on
        connection.shut()
        raise


cdef bint _is_busy(void* session) noexcept:
    global _running
    _running = session
    cdef bint busy = PQisBusy(session)
    _running = NULL
    return busy


cdef void* _next_result(void* session) noexcept:
    global _running
    _running = session
    cdef void* result = PQgetResult(session)
    _running = NULL
    return result


cdef bint _take_in(void* session) noexcept:
    global _running
    _running = session
    cdef bint done = PQconsumeInput(session)
    _running = NULL
    return done


cdef object _lost(object connection, void* session, _Answer answer):
    """Return what to raise when the connection is gone; it is closed."""
    error = psycopg2.OperationalError(_text(PQerrorMessage(session)))
    connection.shut()
    return error


cdef object _result_from(_Answer answer, object connection, object cursor):
    cdef void* result = answer.result
    if result is NULL:
        raise psycopg2.DatabaseError("the server gave no result")
    cdef int status = PQresultStatus(result)
    cdef char* touched
    if status == TUPLES_OK:
        columns = _columns(result)
        rows = _rows(result, columns, connection, cursor)
        return _new_tuple(Result, (columns, rows, len(rows), _text(PQcmdStatus(result)), answer))
    if status == COMMAND_OK:
        touched = PQcmdTuples(result)
        return _new_tuple(Result, ((), [], int(touched) if touched[0] else -1, _text(PQcmdStatus(result)), answer))
    if status == EMPTY_QUERY:
        raise psycopg2.ProgrammingError("can't execute an empty query")
    fields = {}
    for field in FIELDS.values():
        told = PQresultErrorField(result, <int>ord(field))
        if told is not NULL:
            fields[field] = _text(told)
    raise failure_from(_text(PQresultErrorMessage(result)), fields)


cdef str _text(const char* text):
    return PyUnicode_DecodeUTF8(text, strlen(text), "replace")


cdef tuple _columns(void* result):
    cdef int at, width = PQnfields(result)
    cdef char* name
    cdef tuple columns = PyTuple_New(width)
    for at in range(width):
        name = PQfname(result, at)
        column = (PyUnicode_DecodeUTF8(name, strlen(name), NULL), PQftype(result, at))
        Py_INCREF(column)
        PyTuple_SET_ITEM(columns, at, column)
    return columns


cdef list _rows(void* result, tuple columns, object connection, object cursor):
    cdef int number, at, width = len(columns), height = PQntuples(result)
    cdef list rows = []
    if height == 0:
        return rows
    cdef dict own = connection.string_types
    cdef list casters = []
    cdef char* ways = <char*>PyMem_Malloc(width + 1)
    if ways is NULL:
        raise MemoryError
    try:
        for at in range(width):
            kind = (<tuple>columns[at])[1]
            caster = own.get(kind)
            if caster is None:
                caster = _casters_of_all.get(kind, psycopg2.STRING)
            casters.append(caster)
            ways[at] = _ways.get(id(caster), BY_CASTER)
        for number in range(height):
            row = PyTuple_New(width)
            for at in range(width):
                value = _value(result, number, at, ways[at], casters, cursor)
                Py_INCREF(value)
                PyTuple_SET_ITEM(row, at, value)
            rows.append(row)
    finally:
        PyMem_Free(ways)
    return rows


cdef object _value(void* result, int number, int at, char way, list casters, object cursor):
    cdef char* text
    if PQgetisnull(result, number, at):
        return None
    text = PQgetvalue(result, number, at)
    if way == WHOLE_NUMBER:
        return PyLong_FromString(text, NULL, 10)
    if way == TEXT:
        return PyUnicode_DecodeUTF8(text, PQgetlength(result, number, at), NULL)
    if way == FLOATING:
        return PyOS_string_to_double(text, NULL, NULL)
    if way == TRUTH:
        return text[0] == c"t"
    return casters[at](text[: PQgetlength(result, number, at)], cursor)
