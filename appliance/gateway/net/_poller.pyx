# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sockets read and written without the event loop's transports: see ``poller.py``, which chooses, and docs/decisions/0041."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t

import asyncio
import os

cdef extern from "Python.h":
    object PyObject_CallFunctionObjArgs(object call, ...)

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int fd, void* buffer, size_t size, int flags)
    ssize_t send(int fd, const void* buffer, size_t size, int flags)
    int shutdown(int fd, int how)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        SHUT_WR

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event* event)
    int epoll_wait(int epfd, epoll_event* events, int most, int timeout)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP

cdef extern from "unistd.h" nogil:
    int close(int fd)

cdef enum:
    EVENTS = 128                # sockets looked at in one round
    SIZE = 256 * 1024           # bytes read of one socket in one round

cdef char BUFFER[SIZE]          # what was just read, until it is an object: the interpreter's lock is held meanwhile


cdef class Poller:
    """The sockets of one event loop, on an epoll of their own that the loop watches while there are any. ``failed`` is told of a protocol
    that raised."""

    cdef object loop, failed                # no loop while there are none: its end is not ours to hold up
    cdef int fd
    cdef set mine
    cdef list closed                        # in this round: its events may still point at them

    def __cinit__(self):
        self.fd = -1

    def __init__(self, failed):
        self.failed, self.mine, self.closed = failed, set(), []

    def __len__(self):
        return len(self.mine)

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    cdef int _join(self, SocketTransport one) except -1:
        if self.fd < 0:
            self.fd = epoll_create1(EPOLL_CLOEXEC)
            if self.fd < 0:
                raise OSError(errno, os.strerror(errno))
            self.loop = asyncio.get_running_loop()
            self.loop.add_reader(self.fd, self.ready)
        self.mine.add(one)
        return 0

    cdef int _leave(self, SocketTransport one) except -1:
        self.closed.append(one)
        self.mine.discard(one)
        if not self.mine:
            if not self.loop.is_closed():
                self.loop.remove_reader(self.fd)
            close(self.fd)
            self.fd, self.loop = -1, None
        return 0

    def ready(self):
        """What the loop calls when sockets have something. One that is closed meanwhile is still there and wants nothing."""
        cdef epoll_event events[EVENTS]
        cdef int count, at
        cdef SocketTransport one
        self.closed.clear()
        count = epoll_wait(self.fd, events, EVENTS, 0)
        for at in range(count):
            one = <SocketTransport>events[at].data.ptr
            try:
                one._happened(events[at].events)
            except Exception as error:
                self.failed(error)
                one._end(error)
        self.closed.clear()


cdef class SocketTransport:
    """A connected stream socket as an asyncio transport that owns ``sock``. It begins not reading. ``protocol`` is a ``ByteStream``."""

    cdef Poller poller
    cdef object sock, protocol, arrived, received, __weakref__
    cdef public object tap                  # of a stream in clear, as ``ByteStream.tap``
    cdef int fd
    cdef uint32_t interest                  # what the epoll watches
    cdef bint reading, ended, closing, paused, half
    cdef list out                           # bytes objects that the socket did not take yet
    cdef Py_ssize_t taken, size, high, low  # of the first of ``out`` it took so many; bytes left in all
    cdef object peer

    def __init__(self, Poller poller not None, sock, protocol, peer):
        self.poller, self.sock, self.peer = poller, sock, peer
        self.protocol, self.arrived, self.received = protocol, protocol.data_received, protocol.received
        self.fd, self.out = sock.fileno(), []
        self.high, self.low = 65536, 16384
        poller._join(self)

    # asyncio.Transport

    def get_extra_info(self, name, default=None):
        if name == "socket":
            return self.sock
        return self.peer if name == "peername" else default

    def is_closing(self):
        return self.closing

    def is_reading(self):
        return self.reading and not self.closing

    def pause_reading(self):
        self.reading = False
        self._watch()

    def resume_reading(self):
        if not self.closing:
            self.reading = True
            self._watch()

    def set_write_buffer_limits(self, high=None, low=None):
        self.high = 65536 if high is None else high
        self.low = self.high // 4 if low is None else low

    def get_write_buffer_size(self):
        return self.size

    def write(self, data):
        cdef Py_buffer view
        if self.closing or self.half:
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._write(data, <const char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int _write(self, data, const char* raw, Py_ssize_t size) except -1:
        cdef Py_ssize_t sent = 0
        if size == 0:
            return 0
        if not self.out:
            sent = send(self.fd, raw, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return 0
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    self._end(OSError(errno, os.strerror(errno)))
                    return 0
                sent = 0
        if type(data) is bytes:
            if not self.out:
                self.taken = sent
            self.out.append(data)
        else:
            if not self.out:
                self.taken = 0
            self.out.append(PyBytes_FromStringAndSize(raw + sent, size - sent))
        self.size += size - sent
        self._watch()
        if self.size > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()
        return 0

    def write_eof(self):
        if self.closing or self.half:
            return
        self.half = True
        if not self.out:
            shutdown(self.fd, SHUT_WR)

    def can_write_eof(self):
        return True

    def close(self):
        if self.closing:
            return
        self.closing = True
        if self.out:
            self._watch()
        else:
            self._end(None)

    def abort(self):
        self._end(None)

    # the poller

    cdef int _watch(self) except -1:
        """Have the epoll watch for what is wanted now; nothing at all where that is nothing, or it would tell of a hang-up for ever."""
        cdef epoll_event event
        cdef int how
        cdef uint32_t wanted = 0
        if self.fd < 0:
            return 0
        if self.reading and not self.ended and not self.closing:
            wanted |= EPOLLIN
        if self.out:
            wanted |= EPOLLOUT
        if wanted == self.interest:
            return 0
        how = EPOLL_CTL_DEL if wanted == 0 else EPOLL_CTL_ADD if self.interest == 0 else EPOLL_CTL_MOD
        event.events, event.data.ptr = wanted, <void*>self
        if epoll_ctl(self.poller.fd, how, self.fd, &event) != 0:
            raise OSError(errno, os.strerror(errno))
        self.interest = wanted
        return 0

    cdef int _happened(self, uint32_t events) except -1:
        if self.interest & EPOLLIN and events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            self._readable()
        if self.interest & EPOLLOUT and events & (EPOLLOUT | EPOLLHUP | EPOLLERR):
            self._writable()
        return 0

    cdef int _readable(self) except -1:
        cdef ssize_t count = recv(self.fd, BUFFER, SIZE, MSG_DONTWAIT)
        if count > 0:
            data = PyBytes_FromStringAndSize(BUFFER, count)
            if self.tap is None:
                PyObject_CallFunctionObjArgs(self.arrived, <PyObject*>data, NULL)
            elif not PyObject_CallFunctionObjArgs(self.tap, <PyObject*>data, NULL):
                PyObject_CallFunctionObjArgs(self.received, <PyObject*>data, NULL)
        elif count == 0:
            self.ended = True
            self._watch()
            if not self.protocol.eof_received():
                self.close()
        elif errno != EAGAIN and errno != EINTR:
            self._end(OSError(errno, os.strerror(errno)))
        return 0

    cdef int _writable(self) except -1:
        cdef bytes first
        cdef Py_ssize_t size, sent
        while self.out:
            first = self.out[0]
            size = len(first) - self.taken
            sent = send(self.fd, PyBytes_AsString(first) + self.taken, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    self._end(OSError(errno, os.strerror(errno)))
                    return 0
                break
            self.size -= sent
            if sent < size:
                self.taken += sent
                break
            self.taken = 0
            del self.out[0]
        self._watch()
        if not self.out and self.closing:
            self._end(None)
            return 0
        if not self.out and self.half:
            shutdown(self.fd, SHUT_WR)
        if self.paused and self.size <= self.low:
            self.paused = False
            self.protocol.resume_writing()
        return 0

    cdef int _end(self, error) except -1:
        """Close the socket at once, and tell the protocol in the loop's next round."""
        cdef epoll_event event
        self.closing = True
        if self.fd < 0:
            return 0
        if self.interest:
            epoll_ctl(self.poller.fd, EPOLL_CTL_DEL, self.fd, &event)
        self.interest, self.fd, self.size = 0, -1, 0
        self.out.clear()
        self.sock.close()
        self.poller.loop.call_soon(self.protocol.connection_lost, error)
        self.protocol = self.arrived = self.received = self.tap = None
        self.poller._leave(self)
        return 0
