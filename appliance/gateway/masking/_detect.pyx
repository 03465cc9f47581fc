# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled prefilter of ``detect.py``: where something could begin that a detector would find. As exact as the pattern of hints there.

Each kind looks for its rarest byte with memchr; for card numbers every thirteenth byte is enough, because thirteen digits cannot lie
between two of them. Every offset is compared with the end before it is read.
"""

from cpython.bytes cimport PyBytes_AsStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

cdef enum:
    KEYS = 1
    AWS = 2
    TOKENS = 4
    CARDS = 8
    CARD = 13       # digits of the shortest card number


cdef inline bint is_digit(uint8_t c) noexcept:
    return 0x30 <= c <= 0x39


cdef inline bint is_word(uint8_t c) noexcept:
    """[A-Za-z0-9_-]"""
    return is_digit(c) or 0x41 <= c <= 0x5A or 0x61 <= c <= 0x7A or c == 0x5F or c == 0x2D


cdef inline bint in_run(uint8_t c) noexcept:
    return is_digit(c) or c == 0x20 or c == 0x2D


cdef Py_ssize_t after(const uint8_t* text, Py_ssize_t size, Py_ssize_t at, int sign) noexcept:
    """Where the next ``sign`` is, -1 for nowhere."""
    cdef const uint8_t* found
    if at >= size:
        return -1
    found = <const uint8_t*>memchr(text + at, sign, size - at)
    return found - text if found != NULL else -1


cdef Py_ssize_t next_key(const uint8_t* text, Py_ssize_t size, Py_ssize_t at) noexcept:
    """``PRIVATE KEY`` by its V."""
    at = after(text, size, at, 0x56)
    while at >= 0:
        if at >= 3 and size - at >= 8 and memcmp(text + at - 3, "PRIVATE KEY", 11) == 0:
            return at - 3
        at = after(text, size, at + 1, 0x56)
    return -1


cdef Py_ssize_t next_aws(const uint8_t* text, Py_ssize_t size, Py_ssize_t at) noexcept:
    """``A[KS]IA[A-Z0-9]`` by its I."""
    cdef uint8_t last
    at = after(text, size, at, 0x49)
    while at >= 0:
        if at >= 2 and size - at >= 3 and text[at - 2] == 0x41 and (text[at - 1] == 0x4B or text[at - 1] == 0x53) and text[at + 1] == 0x41:
            last = text[at + 2]
            if is_digit(last) or 0x41 <= last <= 0x5A:
                return at - 2
        at = after(text, size, at + 1, 0x49)
    return -1


cdef Py_ssize_t next_token(const uint8_t* text, Py_ssize_t size, Py_ssize_t at) noexcept:
    """``eyJ[A-Za-z0-9_-]{6}`` by its J."""
    cdef Py_ssize_t i
    at = after(text, size, at, 0x4A)
    while at >= 0:
        if at >= 2 and size - at >= 7 and text[at - 2] == 0x65 and text[at - 1] == 0x79:
            i = 1
            while i <= 6 and is_word(text[at + i]):
                i += 1
            if i > 6:
                return at - 2
        at = after(text, size, at + 1, 0x4A)
    return -1


cdef Py_ssize_t next_escape(const uint8_t* text, Py_ssize_t size, Py_ssize_t at) noexcept:
    """``\\u00``: in JSON text any character may hide behind it."""
    at = after(text, size, at, 0x5C)
    while at >= 0:
        if size - at >= 4 and text[at + 1] == 0x75 and text[at + 2] == 0x30 and text[at + 3] == 0x30:
            return at
        at = after(text, size, at + 1, 0x5C)
    return -1


cdef Py_ssize_t next_card(const uint8_t* text, Py_ssize_t size, Py_ssize_t begin, Py_ssize_t* following) noexcept:
    """Thirteen digits with at most one blank or dash between two of them; ``following`` is where the run around them ends."""
    cdef Py_ssize_t at = begin + CARD - 1, left, right, i, start
    cdef int count
    while at < size:
        if not in_run(text[at]):
            at += CARD
            continue
        left = at
        while left > begin and in_run(text[left - 1]):
            left -= 1
        right = at + 1
        while right < size and in_run(text[right]):
            right += 1
        if right - left >= CARD:
            count = 0
            start = left
            for i in range(left, right):
                if is_digit(text[i]):
                    if count == 0:
                        start = i
                    count += 1
                    if count == CARD:
                        following[0] = right
                        return start
                elif i > left and not is_digit(text[i - 1]):
                    count = 0
        begin = right
        at = right + CARD
    return -1


def candidate(bytes block not None, int kinds):
    """Whether there is any."""
    cdef char* raw
    cdef Py_ssize_t size, end = 0
    PyBytes_AsStringAndSize(block, &raw, &size)
    cdef const uint8_t* text = <const uint8_t*>raw
    return ((kinds & CARDS and next_card(text, size, 0, &end) >= 0) or (kinds & KEYS and next_key(text, size, 0) >= 0)
            or (kinds & AWS and next_aws(text, size, 0) >= 0) or (kinds & TOKENS and next_token(text, size, 0) >= 0)
            or next_escape(text, size, 0) >= 0)


def places(bytes block not None, int kinds):
    """Where they begin, ascending; of a run of digits only the first."""
    cdef char* raw
    cdef Py_ssize_t size, at, end = 0
    cdef list found = []
    PyBytes_AsStringAndSize(block, &raw, &size)
    cdef const uint8_t* text = <const uint8_t*>raw
    at = next_escape(text, size, 0)
    while at >= 0:
        found.append(at)
        at = next_escape(text, size, at + 4)
    if kinds & CARDS:
        at = next_card(text, size, 0, &end)
        while at >= 0:
            found.append(at)
            at = next_card(text, size, end, &end)
    if kinds & KEYS:
        at = next_key(text, size, 0)
        while at >= 0:
            found.append(at)
            at = next_key(text, size, at + 4)
    if kinds & AWS:
        at = next_aws(text, size, 0)
        while at >= 0:
            found.append(at)
            at = next_aws(text, size, at + 3)
    if kinds & TOKENS:
        at = next_token(text, size, 0)
        while at >= 0:
            found.append(at)
            at = next_token(text, size, at + 3)
    found.sort()
    return found
