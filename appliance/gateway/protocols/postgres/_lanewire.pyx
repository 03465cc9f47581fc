# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of ``lanewire.py``: the same results. Every offset is compared with the end before it is read.

What a function of ``lanewire`` does is in one of the pxd's, which ``_lanerun`` calls too.
"""

from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy

cdef enum:
    PARSE = 1
    BIND = 2
    TYPED = 4
    ROWS = 8
    MORE = 0
    OTHER = 1
    DESCRIBE = 7            # bytes of Describe of the unnamed portal
    EXECUTE = 15            # of Execute of the unnamed portal without a bound, and Sync

cdef const char* TAIL = b"D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"


cdef inline int32_t int32_at(const char* at) noexcept:
    cdef const uint8_t* raw = <const uint8_t*>at
    return <int32_t>((<uint32_t>raw[0] << 24) | (<uint32_t>raw[1] << 16) | (<uint32_t>raw[2] << 8) | <uint32_t>raw[3])


cdef inline int16_t int16_at(const char* at) noexcept:
    cdef const uint8_t* raw = <const uint8_t*>at
    return <int16_t>((<uint16_t>raw[0] << 8) | <uint16_t>raw[1])


cdef inline bint is_plain(const char* at, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i
    cdef uint8_t one
    for i in range(size):
        one = <uint8_t>at[i]
        if one < 0x20 or one > 0x7E or one == 0x22 or one == 0x5C:
            return False
    return True


def split(bytes data not None):
    """``lanewire.split_pure``."""
    cdef char* raw
    cdef Py_ssize_t size
    cdef Group group
    PyBytes_AsStringAndSize(data, &raw, &size)
    if not find_group(raw, size, &group):
        return None
    return data if group.after == 0 else key_of(raw, size, &group), group.start, group.at, group.end, group.after


cdef bint find_group(const char* raw, Py_ssize_t size, Group* group) noexcept:
    cdef Py_ssize_t start = 0, after, name, formats, at, count, end, results, i, length, left
    cdef const char* found
    group.start = group.at = group.end = group.after = 0
    if size and raw[0] == 0x51:
        return size >= 6 and int32_at(raw + 1) == size - 1 and memchr(raw + 5, 0, size - 5) == raw + size - 1
    if size < 10:
        return False
    if raw[0] == 0x50:
        start = 1 + <Py_ssize_t>int32_at(raw + 1)
        if start < 9 or raw[5] or start > size - 5:
            return False
    if raw[start] != 0x42:
        return False
    after = start + 1 + <Py_ssize_t>int32_at(raw + start + 1)
    if after < start + 13 or after >= size or raw[start + 5]:
        return False
    left = size - after
    if not (left == DESCRIBE + EXECUTE and memcmp(raw + after, TAIL, left) == 0
            or left == EXECUTE and memcmp(raw + after, TAIL + DESCRIBE, left) == 0):
        return False
    found = <const char*>memchr(raw + start + 6, 0, after - start - 6)
    if found is NULL:
        return False
    name = found - raw
    if name + 3 > after:
        return False
    formats = int16_at(raw + name + 1)
    at = name + 5 + 2 * formats
    if formats < 0 or at > after:
        return False
    count = int16_at(raw + at - 2)
    end = at
    if count < 0:
        return False
    for i in range(count):
        if end + 4 > after:
            return False
        length = int32_at(raw + end)
        end += 4 + (length if length > 0 else 0)
        if length < -1 or end > after:
            return False
    if end + 2 > after:
        return False
    results = int16_at(raw + end)
    if end + 2 + 2 * results != after:
        return False
    group.start, group.at, group.end, group.after = start, at, end, after
    return True


cdef bytes key_of(const char* raw, Py_ssize_t size, const Group* group):
    """Everything but Bind's length and the values; of a Query everything."""
    cdef char* out
    cdef Py_ssize_t start = group.start, at = group.at, length
    if group.after == 0:
        return PyBytes_FromStringAndSize(raw, size)
    key = PyBytes_FromStringAndSize(NULL, at - 5 + (size - group.end))
    PyBytes_AsStringAndSize(key, &out, &length)
    memcpy(out, raw, start)
    memcpy(out + start, raw + start + 5, at - start - 5)
    memcpy(out + at - 5, raw + group.end, size - group.end)
    return key


cdef bint is_key(const char* raw, Py_ssize_t size, const Group* group, bytes key) except -1:
    """Whether ``key_of`` would give this one."""
    cdef char* held
    cdef Py_ssize_t start = group.start, at = group.at, length
    PyBytes_AsStringAndSize(key, &held, &length)
    if group.after == 0:
        return length == size and memcmp(held, raw, size) == 0
    return (length == at - 5 + (size - group.end) and memcmp(held, raw, start) == 0
            and memcmp(held + start, raw + start + 5, at - start - 5) == 0
            and memcmp(held + at - 5, raw + group.end, size - group.end) == 0)


def plain(bytes data not None, Py_ssize_t at, Py_ssize_t end, hidden not None):
    """``lanewire.plain_pure``."""
    cdef char* raw
    cdef Py_ssize_t size
    PyBytes_AsStringAndSize(data, &raw, &size)
    return plain_values(raw, size, at, end, hidden)


cdef bytes plain_values(const char* raw, Py_ssize_t size, Py_ssize_t at, Py_ssize_t end, object hidden):
    cdef Py_ssize_t length, pos = at, room = 2, number = 0, put = 1
    cdef bint some = len(hidden) > 0
    if at < 0 or end > size:
        return None
    while pos < end:                        # how long it may become, and whether it may be
        number += 1
        if pos + 4 > end:
            return None
        length = int32_at(raw + pos)
        pos += 4
        room += 7
        if length < 0:
            continue
        if length > end - pos:
            return None
        if not (some and number in hidden):
            if not is_plain(raw + pos, length):
                return None
            room += length
        pos += length
    cdef char* made = <char*>PyMem_Malloc(room)
    if made is NULL:
        raise MemoryError
    try:
        made[0] = 0x5B
        pos, number = at, 0
        while pos < end:
            number += 1
            length = int32_at(raw + pos)
            pos += 4
            if number > 1:
                made[put] = 0x2C
                put += 1
            if length < 0:
                memcpy(made + put, b"null", 4)
                put += 4
            elif some and number in hidden:
                memcpy(made + put, b'"****"', 6)
                put += 6
                pos += length
            else:
                put = quoted(made, put, raw + pos, length)
                pos += length
        made[put] = 0x5D
        return PyBytes_FromStringAndSize(made, put + 1)
    finally:
        PyMem_Free(made)


cdef inline Py_ssize_t quoted(char* out, Py_ssize_t put, const char* value, Py_ssize_t size) noexcept:
    out[put] = 0x22
    memcpy(out + put + 1, value, size)
    out[put + 1 + size] = 0x22
    return put + size + 2


cdef Py_ssize_t message(const char* raw, Py_ssize_t size, Py_ssize_t at, char kind) noexcept:
    """Where the message of that kind ends; ``-MORE`` or ``-OTHER``."""
    cdef Py_ssize_t length
    if at == size:
        return -MORE
    if raw[at] != kind:
        return -OTHER
    if size - at < 5:
        return -MORE
    length = int32_at(raw + at + 1)
    if length < 4:
        return -OTHER
    return at + 1 + length if length < size - at else -MORE


cdef Py_ssize_t complete(const char* raw, Py_ssize_t size, Py_ssize_t at, const char* part) noexcept:
    """Where that message of five bytes ends; ``-MORE`` or ``-OTHER``."""
    cdef Py_ssize_t held = size - at
    if memcmp(raw + at, part, held if held < 5 else 5) != 0:
        return -OTHER
    return at + 5 if held >= 5 else -MORE


def answer(bytes data not None, int shape):
    """``lanewire.answer_pure``."""
    cdef char* raw
    cdef Py_ssize_t size
    cdef Answer found
    PyBytes_AsStringAndSize(data, &raw, &size)
    cdef Found how = find_answer(raw, size, shape, &found)
    if how != WHOLE:
        return <int>how
    return found.first, found.rows, found.rows, found.end, found.count, found.complete, found.status


cdef Found find_answer(const char* raw, Py_ssize_t size, int shape, Answer* found) noexcept:
    cdef Py_ssize_t at = 0, described, rows, end, count = 0, length, finish, held
    if shape & BIND:
        if shape & PARSE:
            at = complete(raw, size, at, b"1\0\0\0\x04")
            if at <= 0:
                return <Found>-at
        at = complete(raw, size, at, b"2\0\0\0\x04")
        if at <= 0:
            return <Found>-at
        if shape & TYPED and not shape & ROWS:
            at = complete(raw, size, at, b"n\0\0\0\x04")
            if at <= 0:
                return <Found>-at
    described = at
    if shape & ROWS and (shape & TYPED or not shape & BIND):
        at = message(raw, size, at, 0x54)
        if at <= 0:
            return <Found>-at
    rows = end = at
    if shape & ROWS:
        while end + 5 <= size and raw[end] == 0x44:
            length = int32_at(raw + end + 1)
            if length < 4:
                return ANOTHER
            if length >= size - end:
                return MORE_COMES
            end += 1 + length
            count += 1
        if end < size and raw[end] == 0x44:
            return MORE_COMES
    finish = message(raw, size, end, 0x43)
    if finish <= 0:
        return <Found>-finish
    held = size - finish
    if memcmp(raw + finish, b"Z\0\0\0\x05", held if held < 5 else 5) != 0:
        return ANOTHER
    if held < 6:
        return MORE_COMES
    if held > 6 or raw[finish + 5] != 0x49 and raw[finish + 5] != 0x54:
        return ANOTHER
    found.first, found.rows, found.end, found.count, found.complete = described, rows, end, count, finish
    found.status = raw[finish + 5]
    return WHOLE


def sample(bytes data not None, bytes head not None, Py_ssize_t room, Py_ssize_t most, Py_ssize_t longest):
    """``lanewire.sample_pure``."""
    cdef char* raw
    cdef Py_ssize_t size
    PyBytes_AsStringAndSize(data, &raw, &size)
    return sampled(raw, size, head, room, most, longest)


cdef bytes sampled(const char* raw, Py_ssize_t size, bytes head, Py_ssize_t room, Py_ssize_t most, Py_ssize_t longest):
    cdef char* start
    cdef Py_ssize_t begin, at = 0, end, pos, put, length, width, i, count = 0, taken, before
    cdef bint cut = False
    PyBytes_AsStringAndSize(head, &start, &begin)
    # what is kept is at most as long as the rows are, and four bytes more for each
    cdef char* made = <char*>PyMem_Malloc(begin + 2 * size + 64)
    if made is NULL:
        raise MemoryError
    try:
        memcpy(made, start, begin)
        put = begin
        while at < size and not cut:
            if size - at < 7:
                return None
            length = int32_at(raw + at + 1)
            if length < 6 or length >= size - at:
                return None
            end = at + 1 + length
            width = int16_at(raw + at + 5)
            pos = at + 7
            taken, before = 0, put
            if count:
                made[put] = 0x2C
                put += 1
            made[put] = 0x5B
            put += 1
            for i in range(width):
                if pos + 4 > end:
                    return None
                length = int32_at(raw + pos)
                pos += 4
                if i:
                    made[put] = 0x2C
                    put += 1
                if length < 0:
                    memcpy(made + put, b"null", 4)
                    put += 4
                    taken += 4
                    continue
                if length > longest or length > end - pos or not is_plain(raw + pos, length):
                    return None
                put = quoted(made, put, raw + pos, length)
                taken += length + 3
                pos += length
            if pos != end:
                return None
            made[put] = 0x5D
            put += 1
            at = end
            if count >= most or taken > room:
                cut = True
                put = before
            else:
                room -= taken
                count += 1
        length = 19 if cut else 20
        memcpy(made + put, b'],"truncated":true}' if cut else b'],"truncated":false}', length)
        return PyBytes_FromStringAndSize(made, put + length)
    finally:
        PyMem_Free(made)
