# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of what every record passes in ``template``, ``inbox``, ``record`` and ``standing``: the same bytes, the same outcomes.

Hashes are those of hashlib's own OpenSSL, called without an object for each; where it is not to be had, hashlib's. Nothing here waits but
``Inbox.take``.
"""

from cpython.bytes cimport PyBytes_AsString, PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from libc.string cimport memchr, memcpy

import threading
import time
from hashlib import sha256

import _hashlib
import orjson

cdef extern from *:
    """
    #include <dlfcn.h>
    #include <stddef.h>

    static int (*hash_init)(void *, const void *, void *) = NULL;        /* EVP_DigestInit_ex; no digest: the one it has, from the start */
    static int (*hash_update)(void *, const void *, size_t) = NULL;
    static int (*hash_final)(void *, unsigned char *, unsigned int *) = NULL;
    static void *hash_context = NULL;

    /* Find libcrypto among what the library at path was linked with. */
    static int lockgate_hash_load(const char *path) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL), *made;
        void *(*make)(void);
        const void *(*digest)(void);
        if (library == NULL)
            return 0;
        make = (void *(*)(void))dlsym(library, "EVP_MD_CTX_new");
        digest = (const void *(*)(void))dlsym(library, "EVP_sha256");
        hash_init = (int (*)(void *, const void *, void *))dlsym(library, "EVP_DigestInit_ex");
        hash_update = (int (*)(void *, const void *, size_t))dlsym(library, "EVP_DigestUpdate");
        hash_final = (int (*)(void *, unsigned char *, unsigned int *))dlsym(library, "EVP_DigestFinal_ex");
        if (!make || !digest || !hash_init || !hash_update || !hash_final || (made = make()) == NULL)
            return 0;
        if (hash_init(made, digest(), NULL) != 1)
            return 0;
        hash_context = made;
        return 1;
    }

    /* SHA-256 of the byte prefix, unless it is below 0, and data. The one context is used with the interpreter's lock held. */
    static int lockgate_hash(int prefix, const void *data, size_t size, unsigned char *to) {
        unsigned char first = (unsigned char)prefix;
        unsigned int length = 0;
        return hash_init(hash_context, NULL, NULL) == 1 && (prefix < 0 || hash_update(hash_context, &first, 1) == 1)
            && hash_update(hash_context, data, size) == 1 && hash_final(hash_context, to, &length) == 1 && length == 32;
    }
    """
    int lockgate_hash_load(const char* path) noexcept
    int lockgate_hash(int prefix, const void* data, size_t size, unsigned char* to) noexcept

cdef enum:
    PEAKS = 64
    HASH = 32
    DIGITS = 18                         # of a whole number that needs no closer look
    MAX_RECORD = 16 * 1024 * 1024
    MAX_PENDING = 32 * 1024 * 1024
    OVERHEAD = 1024
    SECOND = 20                         # bytes of a time up to its decimal point
    PREV = 16
    SHORT = 100                         # microseconds: durations from here on are written without an exponent
    BATCH_RECORDS = 4096
    BATCH_BYTES = 8 * 1024 * 1024
    KEPT_BACK = 1000
    LONG = 1000000000000000             # and before here, with less than 16 digits, have one decimal form alone

cdef long long _YEAR_10000 = 253402300800000000         # microseconds since the epoch: no time of a record any more
cdef double LINGER = 0.02                               # seconds
cdef object _monotonic = time.monotonic
cdef object _loads = orjson.loads
cdef object _dumps = orjson.dumps
cdef const char* _HEX = "0123456789abcdef"
cdef bint _openssl = False


def choose_hash(bint openssl):
    """Whether OpenSSL is called, where it can be; gives whether it is."""
    global _openssl
    cdef unsigned char found[HASH]
    _openssl = openssl and _has_openssl and lockgate_hash(0, b"abc", 3, found) and found[:HASH] == sha256(b"\x00abc").digest()
    return _openssl


cdef bint _has_openssl = hasattr(_hashlib, "__file__") and lockgate_hash_load((<str?>_hashlib.__file__).encode())
choose_hash(True)


cdef class Template:
    """As ``template.Template``."""

    cdef readonly bytes head, form
    cdef readonly str kind
    cdef readonly dict fields, base
    cdef readonly tuple holes
    cdef readonly Py_ssize_t size, begin
    cdef tuple parts
    cdef bint begins

    def __init__(self, bytes head not None, str kind not None, str segment not None, fields, holes):
        from gateway.audit import template

        self.head, self.kind, self.fields, self.holes = head, kind, dict(fields), tuple(holes)
        self.parts = template.parts_of(head, kind, segment, self.fields, self.holes)
        self.form = template.form_of(self.parts, len(self.holes))
        self.size = sum(map(len, self.parts))
        self.begin = template.place_of_begin(kind, self.holes)
        self.base = template.base_of(self.fields, self.holes)
        self.begins = kind == "command.begin" and self.base is not None

    def whole(self, values):
        return self.fields | dict(zip(self.holes, map(_loads, values), strict=True))


cdef class Ticket:
    """As ``template.Ticket``."""

    cdef readonly Template template
    cdef readonly tuple values
    cdef public object waiter
    cdef public bytes recording
    cdef public str problem
    cdef readonly long long time
    cdef public long long seq, place
    cdef readonly Py_ssize_t cost
    cdef public bint failed, lazy

    def __init__(self, Template template not None, tuple values not None, waiter, long long time, Py_ssize_t cost, *, bint lazy=False,
                 bytes recording=None):
        self.template, self.values, self.waiter, self.time, self.cost = template, values, waiter, time, cost
        self.lazy, self.recording, self.problem = lazy, recording, ""

    @property
    def kind(self):
        return self.template.kind

    def record(self):
        return self.template.kind, self.template.whole(self.values)


# ---- between the event loop and the writer

cdef class Inbox:
    """As ``inbox.Inbox``. No other thread runs inside a method but where ``take`` sleeps, so the list can be swapped."""

    cdef public Py_ssize_t pending, limit
    cdef public str refusal
    cdef public bint closing
    cdef object _clock, _soon, _wake
    cdef bint _strict, _asleep
    cdef list _queue

    def __init__(self, clock, soon, *, bint strict):
        self.limit, self.pending = MAX_PENDING, 0
        self.refusal, self.closing = "audit records cannot be written: not open", False
        self._clock, self._soon, self._strict = clock, soon, strict
        self._queue, self._asleep = [], False
        self._wake = threading.Lock()
        self._wake.acquire()

    def fill(self, Template template not None, tuple values not None, waiter, bint lazy=False, bytes recording=None):
        cdef Ticket ticket = Ticket.__new__(Ticket)
        cdef Py_ssize_t cost = OVERHEAD + template.size
        cdef double now = self._clock()
        for value in values:
            cost += len(value)
        if recording is not None:
            cost += len(recording)
        ticket.template, ticket.values, ticket.waiter, ticket.recording = template, values, waiter, recording
        ticket.time, ticket.cost, ticket.lazy = <long long>(now * 1e6), cost, lazy and not self._strict
        ticket.problem = self.problem(cost)
        if ticket.problem:
            ticket.failed = True
            if waiter is not None:
                self._soon(waiter.durable, ticket)
        else:
            self._put(ticket, cost)
        return ticket

    cpdef str problem(self, Py_ssize_t cost):
        if self.refusal:
            return self.refusal
        if cost > MAX_RECORD:
            from gateway.audit.inbox import TOO_LARGE
            return TOO_LARGE
        if self.pending + cost > self.limit:
            from gateway.audit.inbox import QUEUE_FULL
            return QUEUE_FULL
        return ""

    cdef int _put(self, object entry, Py_ssize_t cost) except -1:
        self.pending += cost
        self._queue.append(entry)
        if self._asleep:
            self._asleep = False
            self._soon(self._rouse)
        return 0

    def put(self, entry):
        self._put(entry, entry.cost)

    def close(self):
        from gateway.audit.inbox import CLOSING

        self.refusal, self.closing = CLOSING, True
        self._rouse()

    def _rouse(self):
        self._asleep = False
        if self._wake.locked():
            self._wake.release()

    def take(self, double timeout):
        cdef list taken
        if not self._queue and not self.closing:
            self._asleep = True
            self._wake.acquire(True, timeout)
            self._asleep = False
        taken, self._queue = self._queue, []
        return taken

    def settle(self, entries):
        cdef Ticket ticket
        cdef list others = []
        for entry in entries:
            if type(entry) is not Ticket:
                self.pending -= entry.cost
                others.append(entry)
                continue
            ticket = <Ticket>entry
            self.pending -= ticket.cost
            if ticket.problem:
                ticket.failed = True
            else:
                ticket.seq = ticket.place
            waiter, ticket.waiter = ticket.waiter, None
            if waiter is not None:
                try:
                    waiter.durable(ticket)
                except Exception as error:
                    from gateway.audit.inbox import misled
                    misled(error)
        return others


def parted(entries):
    cdef list lazy = [], recorded = [], urgent = []
    cdef bint ending = False
    for entry in entries:
        if type(entry) is Ticket:
            if (<Ticket>entry).lazy:
                (recorded if (<Ticket>entry).recording else lazy).append(entry)
                continue
            kind = (<Ticket>entry).template.kind
        elif entry.lazy:
            (recorded if entry.recording else lazy).append(entry)
            continue
        else:
            kind = entry.kind
        urgent.append(entry)
        if kind == "session.end":
            ending = True
    return lazy, recorded, urgent, ending


def cost_of(entries):
    cdef Py_ssize_t cost = 0
    for entry in entries:
        if type(entry) is Ticket:
            cost += (<Ticket>entry).cost
        else:
            cost += entry.cost
    return cost


# ---- the writer's side

cdef class Turns:
    """As ``turns.Turns``."""

    cdef public long long used, limit
    cdef public object done, error
    cdef Inbox _inbox
    cdef _Log _log
    cdef object _journal, _deliver
    cdef list _lazy, _recorded
    cdef double _since

    def __init__(self, Inbox inbox not None, journal, deliver, long long limit):
        self.used, self.limit, self.done, self.error = 0, limit, (), None
        self._inbox, self._journal, self._deliver, self._since = inbox, journal, deliver, 0.0
        self._lazy, self._recorded, self._log = [], [], _Log.__new__(_Log)

    def run(self, double until, double look):
        cdef double due, now
        cdef list ready
        cdef Py_ssize_t cost
        while not self._inbox.closing:
            due = until
            if (self._lazy or self._recorded) and self._since + LINGER < due:
                due = self._since + LINGER
            due -= <double>_monotonic()
            self.tell()
            taken = self._inbox.take(due if due > 0 else 0.0)
            now = _monotonic()
            ready = self.ready(taken, now)
            if now >= look or now >= until:
                return ready
            if not ready:
                continue
            cost = cost_of(ready)
            if len(ready) > BATCH_RECORDS or cost > BATCH_BYTES or self.used + cost // 2 > self.limit:
                return ready
            was_clean = not self._journal.dirty
            try:
                if was_clean or not self._plain(ready):
                    self._journal.commit(ready, 0)
            except Exception as error:
                self.error = error
                return ready
            self.used += cost // 2
            self.done = ready
            if was_clean:
                break
        return []

    cdef bint _plain(self, list ready) except -1:
        """Commit records that need nothing but their line. ``False``: there are others among them, and nothing was done."""
        cdef _Log log = self._log
        cdef list lines = []
        cdef dict commands
        journal = self._journal
        file = journal.file
        if file is None or file.appender is None:
            return False
        for entry in ready:
            if type(entry) is Ticket and (<Ticket>entry).recording:
                return False
        encoder, commands = journal.encoder, journal.standing.commands
        log.load(encoder)
        first = log.size + 1
        for entry in ready:
            if type(entry) is not Ticket:
                line = _told(log, encoder, entry, commands)
            else:
                line = _filled(log, <Ticket>entry, commands, None)
            if line is None:
                return False
            log.append(line)
            lines.append(line)
            if type(entry) is Ticket:
                (<Ticket>entry).place = log.size
            else:
                entry.value = log.size
        file.appender.append(first, len(lines), b"\n".join(lines))
        log.store(encoder)
        for entry in follow_many(commands, ready):
            journal.follow(entry)
        return True

    cpdef object tell(self):
        done, self.done = self.done, ()
        if done:
            self._deliver(done)

    cpdef list ready(self, entries, double now):
        cdef list lazy, recorded, urgent, riding
        cdef bint kept = bool(self._lazy) or bool(self._recorded)
        cdef bint ending
        lazy, recorded, urgent, ending = parted(entries)
        if not lazy and not recorded and not kept:
            return urgent
        if not kept:
            self._since = now
        if ending or now >= self._since + LINGER or self.kept_back() + len(lazy) + len(recorded) > KEPT_BACK:
            riding = self.all_lazy()
            riding.extend(entries)
            return riding
        self._recorded.extend(recorded)
        if not urgent:
            self._lazy.extend(lazy)
            return []
        riding, self._lazy = self._lazy, []
        riding.extend([entry for entry in entries if not entry.lazy or not entry.recording] if recorded else entries)
        return riding

    cpdef Py_ssize_t kept_back(self):
        return len(self._lazy) + len(self._recorded)

    cpdef list all_lazy(self):
        riding, self._lazy, self._recorded = self._lazy + self._recorded, [], []
        return riding


def follow_many(dict commands not None, entries):
    cdef Ticket ticket
    cdef list others = []
    for entry in entries:
        if type(entry) is not Ticket:
            others.append(entry)
            continue
        ticket = <Ticket>entry
        if not ticket.place:
            continue
        if ticket.template.begin >= 0:
            commands.pop(_number(<bytes>ticket.values[ticket.template.begin]), None)
        elif ticket.template.begins:
            commands[ticket.place] = (ticket.time, ticket.template.base)
        else:
            others.append(entry)
    return others


cdef class _Log:
    """Where the log stands, as C holds it while a batch is encoded. ``peaks`` are followed by room for one more hash."""

    cdef bytes head
    cdef object second_of
    cdef long long size, last, second
    cdef int count
    cdef unsigned char peaks[PEAKS + 1][HASH]
    cdef char prev[PREV]
    cdef char time[SECOND]

    cdef int load(self, encoder) except -1:
        cdef list peaks = encoder.tree.peaks
        cdef bytes prev = encoder.prev.encode()
        if self.head is not encoder.head:
            self.head, self.second = encoder.head, -1
        self.second_of = encoder.second
        self.size, self.last, self.count = encoder.tree.size, encoder.last, len(peaks)
        if self.count >= PEAKS or len(prev) != PREV:
            raise ValueError("the encoder does not stand where a log can")
        for at, peak in enumerate(peaks):
            _copy_hash(self.peaks[at], peak)
        memcpy(self.prev, PyBytes_AsString(prev), PREV)
        return 0

    cdef int store(self, encoder) except -1:
        tree = encoder.tree
        tree.size, tree.peaks = self.size, [self.peaks[at][:HASH] for at in range(self.count)]
        encoder.prev, encoder.last = self.prev[:PREV].decode("ascii"), self.last
        return 0

    cdef int append(self, bytes line) except -1:
        """A record: its leaf, the tree over it, and the ``prev`` of the next one."""
        cdef long long count = self.size
        cdef int at
        cdef unsigned char* leaf = self.peaks[self.count]
        if self.count >= PEAKS:
            raise ValueError("more peaks than a tree can have")
        _hash_bytes(0, line, leaf)
        for at in range(PREV // 2):
            self.prev[2 * at], self.prev[2 * at + 1] = _HEX[leaf[at] >> 4], _HEX[leaf[at] & 15]
        while count & 1 and self.count > 0:
            self.count -= 1
            _hash(1, <char*>self.peaks[self.count], 2 * HASH, self.peaks[self.count])
            count >>= 1
        self.count += 1
        self.size += 1
        return 0

    cdef int clock(self, long long second) except -1:
        cdef bytes text
        if second != self.second:
            text = self.second_of(second)
            if len(text) != SECOND:
                raise ValueError("not a time")
            memcpy(self.time, PyBytes_AsString(text), SECOND)
            self.second = second
        return 0


cdef int _hash(int prefix, const char* data, Py_ssize_t size, unsigned char* to) except -1:
    """SHA-256 of the byte ``prefix``, if it is one, and ``data``."""
    if _openssl:
        if not lockgate_hash(prefix, data, <size_t>size, to):
            raise SystemError("OpenSSL gave no SHA-256")
    else:
        _copy_hash(to, sha256((bytes((prefix,)) if prefix >= 0 else b"") + data[:size]).digest())
    return 0


cdef int _hash_bytes(int prefix, bytes data, unsigned char* to) except -1:
    cdef char* at
    cdef Py_ssize_t size
    PyBytes_AsStringAndSize(data, &at, &size)
    return _hash(prefix, at, size, to)


cdef int _copy_hash(unsigned char* to, object value) except -1:
    cdef char* at
    cdef Py_ssize_t size
    PyBytes_AsStringAndSize(value, &at, &size)
    if size != HASH:
        raise ValueError("not a hash of 32 bytes")
    memcpy(to, at, HASH)
    return 0


def fill_many(encoder, entries, Py_ssize_t at, list lines not None, dict commands not None, samples not None):
    """As ``record.fill_many``; an entry of one record without a recording is taken along."""
    cdef Py_ssize_t end = len(entries)
    cdef _Log log = None
    while at < end:
        entry = entries[at]
        if log is None:
            log = _Log.__new__(_Log)
            log.load(encoder)
        line = _filled(log, <Ticket>entry, commands, samples) if type(entry) is Ticket else _told(log, encoder, entry, commands)
        if line is None:
            break
        log.append(line)
        lines.append(line)
        if type(entry) is Ticket:
            (<Ticket>entry).place = log.size
            if (<Ticket>entry).recording:
                samples.add((<Ticket>entry).recording)
        else:
            entry.value = log.size
        at += 1
    if log is not None:
        log.store(encoder)
    return at


cdef bytes _filled(_Log log, Ticket ticket, dict commands, samples):
    """The next record; ``None`` for one that ``Encoder.fill`` has to look at."""
    cdef Template template = ticket.template
    cdef tuple values = ticket.values
    cdef bytes tail = b"}"
    if template.head is not log.head or len(values) != len(template.holes):
        return None
    for value in values:
        if not _is_value(value):
            return None
    if template.begin >= 0:
        if not _is_number(<bytes>values[template.begin]):
            return None
        begun = commands.get(_number(<bytes>values[template.begin]))
        if begun is not None:
            tail = _took(ticket.time - <long long>begun[0])
    if ticket.recording:
        tail = tail[:len(tail) - 1] + _referred(ticket.recording, samples)
    return _line(log, template, values, tail, ticket.time)


cdef bytes _referred(bytes data, samples):
    """``,"recording":{…}}``, as ``Samples.refer`` says it."""
    cdef unsigned char found[HASH]
    _hash_bytes(-1, data, found)
    return b',"recording":{"file":%b,"offset":%d,"length":%d,"sha256":"%b"}}' % (
        _dumps(samples.name), samples.end, len(data), (<bytes>found[:HASH]).hex().encode())


cdef bytes _told(_Log log, encoder, entry, dict commands):
    """The next record; ``None`` for what ``Encoder.encode`` has to look at."""
    cdef bytes tail
    if entry.recording or entry.together or len(entry.records) != 1:
        return None
    kind, fields = entry.records[0]
    try:
        begun = commands.get(fields.get("begin", 0)) if kind == "command.end" else None
        tail = encoder.tail(fields, None if begun is None else {"duration": max(0, entry.time - begun[0]) / 1e6})
        opening = encoder.opening(kind)
    except (TypeError, ValueError):
        return None
    return _line(log, opening, (), tail, entry.time)


cdef bytes _line(_Log log, Template template, tuple values, bytes tail, long long time):
    cdef tuple parts = template.parts
    cdef Py_ssize_t number, holes = len(values), total
    cdef long long moment = time if time > log.last else log.last
    cdef char digits[24]
    cdef char* at
    cdef int width = _decimal(log.size + 1, digits)
    total = template.size + width + SECOND + 7 + PREV + len(tail)
    for number in range(holes):
        total += len(<bytes>values[number])
    if total > MAX_RECORD or not 0 <= moment < _YEAR_10000:
        return None
    log.clock(moment // 1000000)
    line = PyBytes_FromStringAndSize(NULL, total)
    at = PyBytes_AsString(line)
    at = _put_bytes(at, <bytes>parts[0])
    memcpy(at, digits, width)
    at = _put_bytes(at + width, <bytes>parts[1])
    memcpy(at, log.time, SECOND)
    at += SECOND
    _micros(at, moment % 1000000)
    at[6] = c"Z"
    at = _put_bytes(at + 7, <bytes>parts[2])
    memcpy(at, log.prev, PREV)
    at += PREV
    for number in range(3, len(parts)):
        at = _put_bytes(at, <bytes>parts[number])
        if number - 3 < holes:
            at = _put_bytes(at, <bytes>values[number - 3])
    at = _put_bytes(at, tail)
    if at != PyBytes_AsString(line) + total:
        raise SystemError("a record of another length than counted")
    log.last = moment
    return line


cdef char* _put_bytes(char* at, bytes data) except NULL:
    cdef char* start
    cdef Py_ssize_t size
    PyBytes_AsStringAndSize(data, &start, &size)
    memcpy(at, start, size)
    return at + size


cdef bytes _took(long long spent):
    """``,"duration":…}``. As orjson writes seconds: the shortest number that is the same."""
    cdef char text[40]
    cdef int width, at = 12
    if spent < 0:
        spent = 0
    if spent != 0 and not SHORT <= spent < LONG:
        return b',"duration":%b}' % <bytes>_dumps(spent / 1e6)
    memcpy(text, b',"duration":', at)
    if spent < 1000000:
        text[at] = c"0"
        at += 1
    else:
        at += _decimal(spent // 1000000, text + at)
    text[at] = c"."
    _micros(text + at + 1, spent % 1000000)
    width = at + 7
    while text[width - 1] == c"0" and width > at + 2:
        width -= 1
    text[width] = c"}"
    return text[:width + 1]


cdef long long _number(bytes value) except -1:
    """A value that ``_is_number``."""
    cdef char* at
    cdef Py_ssize_t size, place
    cdef long long number = 0
    PyBytes_AsStringAndSize(value, &at, &size)
    if size > DIGITS:
        raise ValueError("too large a number")
    for place in range(size):
        number = 10 * number + at[place] - c"0"
    return number


cdef bint _is_number(bytes value) except -1:
    """As ``record.is_number``."""
    cdef char* at
    cdef Py_ssize_t size, number
    PyBytes_AsStringAndSize(value, &at, &size)
    if not 0 < size <= DIGITS or at[0] == c"0" and size > 1:
        return False
    for number in range(size):
        if not c"0" <= at[number] <= c"9":
            return False
    return True


cdef bint _is_value(object value) except -1:
    """Whether it is bytes with one JSON value on one line."""
    cdef char* at
    cdef Py_ssize_t size, number
    if not isinstance(value, bytes):
        return False
    if _is_number(<bytes>value):
        return True
    PyBytes_AsStringAndSize(value, &at, &size)
    if size >= 2 and at[0] == c'"' and _string_end(at, size, 0) == size:
        return True
    if size >= 4 and at[0] == c"[" and at[size - 1] == c"]":
        number = _string_end(at, size, 1)
        while 0 < number < size - 1 and at[number] == c",":
            number = _string_end(at, size, number + 1)
        if number == size - 1:
            return True
    if memchr(at, c"\n", size) != NULL:
        return False
    try:
        _loads(value)
    except ValueError:
        return False
    return True


cdef Py_ssize_t _string_end(const char* at, Py_ssize_t size, Py_ssize_t start) noexcept:
    """Where the string that begins at ``start`` ends: printable ASCII in quotes, escapes of one letter; -1 for anything else."""
    cdef Py_ssize_t place = start + 1
    if start >= size or at[start] != c'"':
        return -1
    while place < size:
        if at[place] == c'"':
            return place + 1
        if at[place] == c"\\":
            place += 1
            if place >= size or memchr(b'"\\/bfnrt', at[place], 8) == NULL:
                return -1
        elif not c" " <= at[place] <= c"~":
            return -1
        place += 1
    return -1


cdef int _decimal(long long value, char* digits) noexcept:
    """Write ``value``, above 0, in decimal; gives how many digits. ``digits`` has room for 24."""
    cdef int width = 0, at
    cdef long long rest = value
    while rest:
        rest //= 10
        width += 1
    for at in range(width - 1, -1, -1):
        digits[at] = <char>(c"0" + value % 10)
        value //= 10
    return width


cdef void _micros(char* at, long long rest) noexcept:
    cdef int place
    for place in range(5, -1, -1):
        at[place] = <char>(c"0" + rest % 10)
        rest //= 10
