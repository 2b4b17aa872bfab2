"""The descriptor of one client, by the C library: what `wire.py` does interpreted."""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcpy, memset
from os import sendfile
from posix.unistd cimport close as close_descriptor

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int, void *, size_t, int)
    ssize_t send(int, const void *, size_t, int)
    int shutdown(int, int)
    const int MSG_MORE
    const int MSG_NOSIGNAL
    const int SHUT_WR
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int, const msghdr *, int)
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        pass
    int accept4(int, sockaddr *, socklen_t *, int)
    const int SOCK_NONBLOCK
    const int SOCK_CLOEXEC
    const int AF_INET
    const int AF_INET6

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        pass
    struct sockaddr_in:
        in_addr sin_addr
    struct in6_addr:
        pass
    struct sockaddr_in6:
        in6_addr sin6_addr

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int, const void *, char *, socklen_t)

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *, Py_ssize_t) except NULL
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    void Py_XDECREF(PyObject *)
    object PyContext_New()
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1
    object PyMemoryView_FromMemory(char *, Py_ssize_t, int)
    const int PyBUF_WRITE

cdef enum:
    RECEIVE_SIZE = 65536
    FIRST_ROOM = 262144
    LEAST_ROOM = 4096

cdef char _BUFFER[RECEIVE_SIZE]
cdef unsigned int _last_address = 0
cdef str _last_text = None

RECEIVE_BYTES = RECEIVE_SIZE
ROOM_BYTES = FIRST_ROOM


cdef Py_ssize_t taken(ssize_t count) except -1:
    """Return what a call that sends has taken; 0 for no room."""
    if count >= 0:
        return count
    if errno == EAGAIN or errno == EINTR:
        return 0
    PyErr_SetFromErrno(OSError)
    return -1


cdef str address_text(const in_addr *address):
    """Return an IPv4 address as text; the last one is remembered: many connections come from one proxy."""
    global _last_address, _last_text
    cdef unsigned int number
    cdef char text[64]
    memcpy(&number, address, sizeof(number))
    if number != _last_address or _last_text is None:
        _last_text = inet_ntop(AF_INET, address, text, sizeof(text)).decode("ascii")
        _last_address = number
    return _last_text


cpdef tuple accept(object listener):
    """Take a client that waits: its descriptor, which never blocks, and its address ("" without one); None for nobody. Raises `OSError`."""
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    cdef char text[64]
    cdef const char *found = NULL
    cdef int fd = accept4(listener.fileno(), <sockaddr *>&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if fd < 0:
        if errno == EAGAIN or errno == EINTR:
            return None
        PyErr_SetFromErrno(OSError)
    if (<sockaddr *>&address).sa_family == AF_INET:
        return fd, address_text(&(<sockaddr_in *>&address).sin_addr)
    if (<sockaddr *>&address).sa_family == AF_INET6:
        found = inet_ntop(AF_INET6, &(<sockaddr_in6 *>&address).sin6_addr, text, sizeof(text))
    return fd, "" if found == NULL else found.decode("ascii")


cdef class Wire:
    """A connected stream socket that never blocks. Closing it is the owner's duty.

    is_plain: the bytes of the socket are those of the caller, so `send_file` can be used. is_drained: the last call that
    received has taken all there was. is_ending: the peer has ended or reset, though there may be bytes before that.
    """

    def __cinit__(self):
        self.fd = -1

    def __init__(self, int fd, int family):
        self.begin(fd, family)

    cpdef object begin(self, int fd, int family):
        """fd: a connected socket that does not block, ours from now on."""
        self.fd = fd
        self.is_plain = True
        self.is_drained = True
        self.is_ending = False

    cpdef bytes receive(self):
        """Return what has come, at most 65,536 bytes; b"" when the peer has ended or reset (`is_reset`); None when nothing has come."""
        cdef ssize_t count = recv(self.fd, _BUFFER, RECEIVE_SIZE, 0)
        self.is_drained = count <= 0 or (count < RECEIVE_SIZE and not self.is_ending)
        if count > 0:
            return PyBytes_FromStringAndSize(_BUFFER, count)
        if count < 0:
            if errno == EAGAIN or errno == EINTR:
                return None
            self.is_reset = True
        return b""

    cdef Py_ssize_t receive_at(self, char *place, Py_ssize_t size) except -2:
        """Take what has come, at most `size` bytes, and return how much; 0 at the end (`is_reset`), -1 when nothing has come."""
        cdef ssize_t count = recv(self.fd, place, size, 0)
        self.is_drained = count <= 0 or (count < size and not self.is_ending)
        if count >= 0:
            return count
        if errno == EAGAIN or errno == EINTR:
            return -1
        self.is_reset = True
        return 0

    cpdef Py_ssize_t receive_into(self, object place) except -2:
        """Take what has come, at most as much as there is place for, and return how much; 0 at the end (`is_reset`), -1 for nothing yet."""
        cdef Py_buffer view
        PyObject_GetBuffer(place, &view, PyBUF_WRITABLE)
        try:
            return self.receive_at(<char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cpdef bytes rest(self):
        """Return what `receive_into` has taken and had no place for: nothing, on a plain wire it stays in the kernel."""
        return b""

    cpdef Py_ssize_t send(self, bytes data, Py_ssize_t start) except -1:
        """Send `data[start:]` and return how many bytes were taken, 0 when there is no room now. Raises `OSError`."""
        return taken(send(self.fd, PyBytes_AS_STRING(data) + start, PyBytes_GET_SIZE(data) - start, MSG_NOSIGNAL))

    cpdef Py_ssize_t send_last(self, bytes data) except -1:
        """Send as `send` does, but let what does not fill a packet wait for `end` or `close`, which has to follow at once."""
        return taken(send(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_NOSIGNAL | MSG_MORE))

    cpdef Py_ssize_t send_both(self, bytes head, bytes body) except -1:
        """Send head and body without joining them; as `send`."""
        cdef iovec parts[2]
        cdef msghdr message
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        message.msg_iovlen = 2
        parts[0].iov_base = PyBytes_AS_STRING(head)
        parts[0].iov_len = PyBytes_GET_SIZE(head)
        parts[1].iov_base = PyBytes_AS_STRING(body)
        parts[1].iov_len = PyBytes_GET_SIZE(body)
        return taken(sendmsg(self.fd, &message, MSG_NOSIGNAL))

    def send_file(self, int file, Py_ssize_t start, Py_ssize_t size):
        """Send bytes of a file from its position `start` by sendfile(2); -1 when there is no room now, 0 at its end. Raises `OSError`."""
        try:
            return sendfile(self.fd, file, start, size)
        except (BlockingIOError, InterruptedError):
            return -1

    cpdef object end(self):
        """Tell the peer that no more will be sent. Raises `OSError`."""
        if shutdown(self.fd, SHUT_WR) < 0:
            PyErr_SetFromErrno(OSError)

    cpdef object close(self):
        """Close the descriptor."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            close_descriptor(fd)

    def __dealloc__(self):
        if self.fd >= 0:
            close_descriptor(self.fd)


cdef class Block:
    """So many bytes of a body, received where they will stay. At most twice the memory of what has come is taken, and 256 KiB."""

    def __cinit__(self, Py_ssize_t size, Py_ssize_t room=FIRST_ROOM):
        """size: how many bytes it can be. room: for how many there is memory to begin with."""
        self.size = size
        self.filled = 0
        self._room = min(size, room)
        self._data = new_bytes(NULL, self._room)

    cdef object _grow(self):
        if self._room - self.filled < LEAST_ROOM and self._room < self.size:
            self._room = min(self.size, max(FIRST_ROOM, 2 * self._room))
            _PyBytes_Resize(&self._data, self._room)

    cpdef Py_ssize_t add(self, bytes data) except -1:
        """Put bytes behind those that are here, and return how many there was room for."""
        cdef Py_ssize_t count
        self._grow()
        count = min(PyBytes_GET_SIZE(data), self._room - self.filled)
        memcpy(PyBytes_AS_STRING(<object>self._data) + self.filled, PyBytes_AS_STRING(data), count)
        self.filled += count
        return count

    cpdef Py_ssize_t receive(self, Wire wire, Py_ssize_t most) except -2:
        """Take what has come, at most so much, and return how much; 0 when the peer has ended or reset (`is_reset`); -1 for nothing yet."""
        cdef Py_ssize_t count
        cdef char *place
        self._grow()
        place = PyBytes_AS_STRING(<object>self._data) + self.filled
        count = min(most, self._room - self.filled)
        if wire.is_plain:
            count = wire.receive_at(place, count)
        else:
            view = PyMemoryView_FromMemory(place, count, PyBUF_WRITE)
            try:
                count = wire.receive_into(view)
            finally:
                view.release()
        if count > 0:
            self.filled += count
        return count

    cpdef object unframe(self, ChunkedDecoder decoder, Py_ssize_t start):
        """Leave of the bytes from `start` on those that the decoder makes of them. Raises `MalformedInput`."""
        self.filled = decoder.unframe(<object>self._data, start, self.filled)

    cpdef bytes cut(self, Py_ssize_t size):
        """Keep `size` bytes, and return those behind them."""
        cdef Py_ssize_t count = self.filled - size
        self.filled = size
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(<object>self._data) + size, count)

    cpdef bytes take(self):
        """Return the bytes that are here; the block is of no use any more."""
        cdef PyObject *data = self._data
        self._data = NULL
        if self.filled != self._room:
            _PyBytes_Resize(&data, self.filled)
        taken = <bytes>data
        Py_DECREF(taken)
        return taken

    def __dealloc__(self):
        Py_XDECREF(self._data)


cdef class Edges:
    """An epoll instance that tells each arrival of input once (epoll(7), "edge-triggered")."""

    def __cinit__(self):
        """Raises `OSError`."""
        self.fd = epoll_create1(EPOLL_CLOEXEC)
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)

    cdef int _change(self, int how, int fd) except -1:
        cdef epoll_event event
        event.events = EPOLLIN | EPOLLRDHUP | EPOLLET
        event.data.fd = fd
        if epoll_ctl(self.fd, how, fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cpdef object add(self, int fd):
        """Tell about a descriptor from now on; also what is here already. Raises `OSError`."""
        self._change(EPOLL_CTL_ADD, fd)

    cpdef object again(self, int fd):
        """Tell once more what is here. Raises `OSError`."""
        self._change(EPOLL_CTL_MOD, fd)

    cpdef Py_ssize_t wait(self) except -1:
        """Take what there is to tell, without waiting, and return how much; `descriptor` and `is_end` have it then. Raises `OSError`."""
        cdef int count = epoll_wait(self.fd, self._events, EDGES, 0)
        if count < 0:
            if errno == EINTR:
                return 0
            PyErr_SetFromErrno(OSError)
        return count

    cpdef int descriptor(self, Py_ssize_t at) noexcept:
        """Return whose edge it is."""
        return self._events[at].data.fd

    cpdef bint is_end(self, Py_ssize_t at) noexcept:
        """Tell whether the peer has ended or reset."""
        return self._events[at].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) != 0

    cpdef object close(self):
        """Close the instance."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            close_descriptor(fd)

    def __dealloc__(self):
        if self.fd >= 0:
            close_descriptor(self.fd)


cpdef object enter_context():
    """Give the running greenlet a context of its own, empty; what is returned goes to `leave_context`."""
    context = PyContext_New()
    PyContext_Enter(context)
    return context


cpdef object leave_context(object context):
    """End the context that `enter_context` gave."""
    PyContext_Exit(context)
