# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of ``lanerun.py``: the same bytes, records and states. What it asks of others each time it asks by bound methods that it
holds; what is not done each time is a method that ``lane.Lane`` gives.
"""

from cpython.bytes cimport PyBytes_AsString, PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.string cimport memcmp, memcpy

from gateway.protocols.postgres._lanewire cimport (
    MORE_COMES,
    WHOLE,
    Answer,
    Found,
    Group,
    find_answer,
    find_group,
    is_key,
    key_of,
    plain_values,
    sampled,
)

import asyncio

from gateway.errors import Fault
from gateway.protocols.postgres.lanerecords import Records
from gateway.protocols.postgres.masking import mask_rows
from gateway.protocols.postgres.recorder import ROWS as _SAMPLE_ROWS
from gateway.protocols.postgres.recorder import VALUE as _VALUE

cdef extern from "Python.h":
    object PyObject_CallFunctionObjArgs(object call, ...)

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <string.h>
    static const void *lanerun_within(const void *all, size_t size, const void *part, size_t length) {
        const char *at = (const char *)all, *end = at + size;
        if (length == 0 || length > size) return NULL;
        while ((size_t)(end - at) >= length) {
            at = (const char *)memchr(at, *(const char *)part, (size_t)(end - at) - length + 1);
            if (at == NULL) return NULL;
            if (memcmp(at, part, length) == 0) return at;
            at++;
        }
        return NULL;
    }
    """
    const void* lanerun_within(const void* all, size_t size, const void* part, size_t length) noexcept

cdef enum:
    PARSE = 1
    BIND = 2
    TYPED = 4
    ROWS = 8
    IDLE = 0
    HELD = 1
    SENT = 2
    ANSWERED = 3
    CHUNK = 16 * 1024
    ANSWER = 32 * 1024
    SECRET = 6
    ASKS = 7                # bytes of Describe of the unnamed portal
    DIGITS = 24

cdef const char* DESCRIBE = b"D\0\0\0\x06P\0"
cdef Py_ssize_t SAMPLE_ROWS = _SAMPLE_ROWS
cdef Py_ssize_t VALUE = _VALUE
cdef object NONE_HIDDEN = frozenset()
cdef object _mask_rows = mask_rows
cdef str _AT_REST = "I"
cdef str _IN_BLOCK = "T"
cdef bytes _ZERO = b"0"
cdef object _NOBODY = None
cdef object _LAZY = True


cdef class Totals:
    """As ``lanerun.Totals``."""

    cdef public long long rows, bytes, denials
    cdef public double active


cdef class Entry:
    """As ``lanerun.Entry``."""

    cdef public object compiled, command, decision, template, prepared, hidden, plan
    cdef public tuple values, results, fields
    cdef public str statement
    cdef public bytes described, head
    cdef public int shape
    cdef public bint early, binary, silent
    cdef public long long stood
    cdef bytes key                          # what it was found by last

    def __init__(self, compiled, command, decision, template, tuple values not None, int shape, bint early, str statement=None,
                 prepared=None, bint binary=False, tuple results=(), bint silent=False, hidden=NONE_HIDDEN, bytes described=b"",
                 tuple fields=(), plan=None, bytes head=None, long long stood=0):
        self.compiled, self.command, self.decision, self.template, self.values = compiled, command, decision, template, values
        self.shape, self.early, self.statement, self.prepared, self.binary = shape, early, statement, prepared, binary
        self.results, self.silent, self.hidden, self.described, self.fields = results, silent, hidden, described, fields
        self.plan, self.head, self.stood = plan, head, stood

    @property
    def parses(self):
        return self.shape & PARSE != 0

    @property
    def describes(self):
        return self.shape & TYPED != 0


cdef class Run:
    """As ``lanerun.Run``."""

    cdef readonly object relay, gate, client, stream, context, records
    cdef readonly Totals totals
    cdef public bint open, over
    cdef public int state
    cdef public long long taken, stood
    cdef public tuple secrets, known, head
    cdef public dict entries, once, promised
    cdef public object time, policy, detectors
    cdef public double since, until
    cdef public Entry entry, last
    cdef public object ticket
    cdef public bytes asked, raw, out, rows, looked, recording, last_asked
    cdef public Py_ssize_t after, count, masked, affected
    cdef public int status
    cdef Entry recent                       # found last; one of ``entries``
    cdef Py_ssize_t chunk, longest, room
    cdef object name, names, backend, ending, ending_policy
    cdef object ask_now, ask_may_start, ask_generation, ask_still, ask_resting, ask_known, fill, to_caller, to_target

    def __init__(self, relay):
        self.relay, self.gate, self.context, self.totals = relay, relay.gate, relay.context, relay.totals
        self.client, self.stream = relay.client, relay.target.stream
        self.records = Records(relay)
        self.secrets = tuple([one.encode() for one in relay.secrets if len(one) >= SECRET])
        self.entries, self.once, self.promised, self.known = {}, {}, {}, (None, None, None)
        self.head = ((), None)
        self.time = asyncio.get_running_loop().time
        self.policy, self.over, self.last_asked = None, True, b""
        self.chunk, self.longest, self.room = min(CHUNK, relay.message_limit), min(ANSWER, relay.message_limit), relay.sample_bytes
        self.name, self.names, self.backend = relay.session.identity.name, relay.frontend.names, relay.backend
        self.ask_now, self.ask_may_start, self.fill = relay.gate.now, relay.gate.may_start, relay.gate.audit.fill
        self.ask_generation, self.ask_still = relay.context.generation, relay.context.still
        self.ask_resting, self.ask_known = relay.backend.resting, relay.frontend.names.known
        self.to_caller, self.to_target = relay.client.writer, relay.target.stream.writer
        self._forget()

    cdef int _forget(self) except -1:
        self.entry = self.ticket = self.recording = None
        self.asked = self.raw = self.out = self.rows = self.looked = b""
        return 0

    def forget(self):
        self._forget()

    def drop(self):
        self.entries.clear()
        self.recent = None

    @property
    def busy(self):
        return self.state != IDLE

    @property
    def sent(self):
        return self.state == SENT

    # the caller

    def from_caller(self, bytes data not None):
        if self.state != IDLE:
            self.hand_over()
        elif self.open and self._begin(data):
            return True
        self.open = False
        self.settle()
        return False

    cdef bint _begin(self, bytes data) except -1:
        cdef char* raw
        cdef Py_ssize_t size
        cdef Group group
        cdef Entry entry
        cdef double now
        cdef tuple values
        PyBytes_AsStringAndSize(data, &raw, &size)
        if size > self.chunk or self.client.congested or self.stream.congested or not find_group(raw, size, &group):
            return False
        now = PyObject_CallFunctionObjArgs(self.ask_now, NULL)
        policy = self.gate.policy
        if policy is not self.policy or not self.since <= now < self.until:
            self.stand(policy, now)
        if self.over or not self._current(policy):
            return False
        entry = self._found(data, raw, size, &group, now)
        if entry is None or not self._stands(entry, now):
            return False
        if not PyObject_CallFunctionObjArgs(self.ask_may_start, <PyObject*>self.name, NULL):
            return False
        values = entry.values
        if entry.shape & BIND:
            values = values + (self._parameters(entry, data, raw, size, &group),) if values else \
                (self._parameters(entry, data, raw, size, &group),)
        ticket = PyObject_CallFunctionObjArgs(self.fill, <PyObject*>entry.template, <PyObject*>values, <PyObject*>self, NULL)
        if ticket.failed:
            return False
        self.entry, self.ticket, self.asked, self.after = entry, ticket, data, group.after
        self.totals.active = PyObject_CallFunctionObjArgs(self.time, NULL)
        if entry.early:
            self._send(entry)
        else:
            self.state = HELD
        return True

    cdef Entry _found(self, bytes data, const char* raw, Py_ssize_t size, const Group* group, double now):
        cdef Entry entry = self.recent
        cdef bytes key
        if entry is not None and is_key(raw, size, group, entry.key):
            return entry
        key = data if group.after == 0 else key_of(raw, size, group)
        held = self.entries.get(key)
        if held is None:
            self.recent = None
            held = self.learned(key, data, now)
            return None if held is None else <Entry?>held
        entry = self.recent = <Entry?>held
        entry.key = key
        return entry

    cdef bint _current(self, policy) except -1:
        seen = PyObject_CallFunctionObjArgs(self.ask_generation, NULL)
        if seen is None:
            return False
        cdef tuple now = <tuple?>seen
        cdef tuple known = self.known
        if known[0] is not policy or known[1] is not now[0] or known[2] is not now[1]:
            self.renew(policy, now)
        return True

    cdef bint _stands(self, Entry entry, double now) except -1:
        if entry.statement is not None and not entry.shape & PARSE:
            if PyObject_CallFunctionObjArgs(self.ask_known, <PyObject*>entry.statement, NULL) is not entry.prepared:
                return False
        return entry.stood == self.stood or self.decided(entry, now)

    cdef bytes _parameters(self, Entry entry, bytes data, const char* raw, Py_ssize_t size, const Group* group):
        cdef bytes found
        if group.at == group.end:
            return b"[]"
        found = None if entry.binary else plain_values(raw, size, group.at, group.end, entry.hidden)
        if found is None or self._telling(raw + group.at, group.end - group.at):
            return <bytes?>self.shown(entry, data)
        return found

    cdef bint _telling(self, const char* at, Py_ssize_t size) except -1:
        if self.detectors is not None and self.detectors.candidates(PyBytes_FromStringAndSize(at, size)):
            return True
        return self._holds_secret(at, size)

    cdef bint _holds_secret(self, const char* at, Py_ssize_t size) except -1:
        cdef char* secret
        cdef Py_ssize_t length
        if size < SECRET:
            return False
        for one in self.secrets:
            PyBytes_AsStringAndSize(one, &secret, &length)
            if lanerun_within(at, size, secret, length) != NULL:
                return True
        return False

    def holds_secret(self, bytes data not None):
        return self._holds_secret(PyBytes_AsString(data), len(data))

    def send(self):
        if self.entry is not None:
            self._send(self.entry)

    cdef int _send(self, Entry entry) except -1:
        cdef bytes asked = self.asked
        self.state = SENT
        if entry.silent:
            asked = _with_describe(asked, self.after)
        PyObject_CallFunctionObjArgs(self.to_target, <PyObject*>asked, NULL)
        return 0

    # the target

    def from_target(self, bytes data not None):
        cdef Entry entry = self.entry
        cdef char* raw
        cdef Py_ssize_t size
        cdef Answer found
        cdef Found how
        if self.state == IDLE:
            self.open = False
            return False
        if self.state != SENT:
            if self.state == ANSWERED:
                self.hand_over()
            return False
        if entry is None or not PyObject_CallFunctionObjArgs(self.ask_resting, NULL):
            self.hand_over()
            return False
        self.raw = self.raw + data if self.raw else data
        PyBytes_AsStringAndSize(self.raw, &raw, &size)
        how = find_answer(raw, size, entry.shape, &found)
        if size <= self.longest and (how == MORE_COMES or how == WHOLE and self._answered(entry, raw, size, &found)):
            return True
        self.hand_over()
        return True

    cdef bint _answered(self, Entry entry, const char* raw, Py_ssize_t size, const Answer* found) except -1:
        cdef tuple known = self.known
        cdef bytes block, whole = self.raw
        cdef char* told
        cdef Py_ssize_t length, first = found.first
        self.count, self.status = found.count, found.status
        if known[0] is not self.gate.policy:
            return False
        if not PyObject_CallFunctionObjArgs(self.ask_still, <PyObject*>known[1], <PyObject*>known[2], NULL):
            return False
        try:
            if found.rows > first:
                PyBytes_AsStringAndSize(entry.described, &told, &length)
                if length != found.rows - first - 5 or memcmp(told, raw + first + 5, length) != 0:
                    self.verify(entry, PyBytes_FromStringAndSize(raw + first + 5, found.rows - first - 5))
            self.masked, block = 0, b""
            if found.count:
                block = PyBytes_FromStringAndSize(raw + found.rows, found.end - found.rows)
                if entry.plan is not None and entry.plan.any:
                    block, self.masked = _mask_rows(entry.plan, block)
                self.affected = 0
            else:
                self.affected = self.tagged(PyBytes_FromStringAndSize(raw + found.end + 5, found.complete - found.end - 5))
        except Fault:
            return False
        self.rows = block
        if not self.masked and not entry.silent:
            self.out = whole
        else:
            self.out = PyBytes_FromStringAndSize(raw, first if entry.silent else found.rows) + block \
                + PyBytes_FromStringAndSize(raw + found.end, size - found.end)
        self.recording = self._recording(entry, block) if entry.shape & ROWS else None
        ticket = self.ticket
        begin = ticket.seq if ticket is not None else 0
        if begin:
            self._finish(entry, begin)
        else:
            self.state = ANSWERED
        return True

    cdef bytes _recording(self, Entry entry, bytes rows):
        cdef char* raw
        cdef Py_ssize_t size
        cdef bytes found
        if not self.room or not rows and not entry.fields:
            return None
        PyBytes_AsStringAndSize(rows, &raw, &size)
        if entry.head is not None and not self._holds_secret(raw, size):
            found = sampled(raw, size, entry.head, self.room, SAMPLE_ROWS, VALUE)
            if found is not None:
                return found
        return self.recorded(entry, rows)

    # the disk

    def durable(self, ticket):
        cdef Entry entry = self.entry
        try:
            if ticket is not self.ticket or entry is None or ticket.failed:
                self.durable_late(ticket)
            elif self.state == ANSWERED:
                self._finish(entry, ticket.seq)
            elif self.state == HELD and not self.relay.over:
                self._send(entry)
        except Exception as error:
            self.broken(error)

    cdef int _finish(self, Entry entry, long long begin) except -1:
        cdef bytes out = self.out, asked = self.asked
        cdef Totals totals = self.totals
        cdef tuple values
        relay = self.relay
        before = relay.status
        PyObject_CallFunctionObjArgs(self.to_caller, <PyObject*>out, NULL)
        totals.bytes += len(out)
        totals.rows += self.count
        totals.active = PyObject_CallFunctionObjArgs(self.time, NULL)
        policy = self.gate.policy
        if self.ending is None or self.ending_policy is not policy:
            self.ending, self.ending_policy = self.records.end(), policy
        values = (_number(begin), _number(self.count or self.affected), _number(len(self.rows)), _number(self.masked))
        recording = self.recording
        PyObject_CallFunctionObjArgs(self.fill, <PyObject*>self.ending, <PyObject*>values, <PyObject*>_NOBODY, <PyObject*>_LAZY,
                                     <PyObject*>recording, NULL)
        status = _AT_REST if self.status == 0x49 else _IN_BLOCK
        if before is not status:
            relay.status = status
        if entry.shape & PARSE and entry.prepared is not None:
            self.names.reparsed(entry.prepared)
        if self.status == 0x54 and entry.statement is not None:
            self.last, self.last_asked = entry, asked
        elif self.status == 0x49 and before is not status and before != status:
            self.last, self.last_asked = None, b""
            self.names.transaction_over()
        self.state = IDLE
        self.taken += 1
        self._forget()
        if not self.open or relay.draining:
            relay.rested()
        return 0


cdef bytes _with_describe(bytes asked, Py_ssize_t after):
    """The group with Describe behind its Bind."""
    cdef char* raw
    cdef char* out
    cdef Py_ssize_t size
    PyBytes_AsStringAndSize(asked, &raw, &size)
    if after < 0 or after > size:
        raise ValueError("Bind ends behind the group")
    made = PyBytes_FromStringAndSize(NULL, size + ASKS)
    out = PyBytes_AsString(made)
    memcpy(out, raw, after)
    memcpy(out + after, DESCRIBE, ASKS)
    memcpy(out + after + ASKS, raw + after, size - after)
    return made


cdef bytes _number(long long value):
    """In decimal."""
    cdef char digits[DIGITS]
    cdef int at = DIGITS
    if value == 0:
        return _ZERO
    if value < 0:
        raise ValueError("a number below 0")
    while value:
        at -= 1
        digits[at] = <char>(0x30 + value % 10)
        value //= 10
    return PyBytes_FromStringAndSize(digits + at, DIGITS - at)
