# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled prefilter of ``literals.py``: whether any of the secrets could be in a text, and where its tail could begin one.

``maybe`` skips as Wu and Manber do ("A fast algorithm for multi-pattern searching", 1994): the two bytes at the end of a window as wide as
the shortest literal say how far the window can move. It may say yes where there is none, never no where there is one.
"""

from cpython.bytes cimport PyBytes_AsStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memset

cdef enum:
    PAIRS = 65536
    WIDEST = 255


cdef class Needles:
    cdef uint8_t shift[PAIRS]
    cdef uint8_t heads[PAIRS]
    cdef Py_ssize_t width

    def __init__(self, list literals not None):
        """``literals``: bytes, none of them empty."""
        cdef char* raw
        cdef const uint8_t* text
        cdef Py_ssize_t size, at, pair
        cdef bytes literal
        self.width = WIDEST
        for one in literals:
            literal = <bytes?>one
            self.width = min(self.width, len(literal))
        memset(self.shift, max(self.width - 1, 0), PAIRS)
        memset(self.heads, 0, PAIRS)
        for one in literals:
            literal = <bytes?>one
            PyBytes_AsStringAndSize(literal, &raw, &size)
            text = <const uint8_t*>raw
            if size > 1:
                self.heads[text[0] << 8 | text[1]] = 1
            for at in range(min(self.width, size) - 1):
                pair = text[at] << 8 | text[at + 1]
                self.shift[pair] = min(self.shift[pair], <uint8_t>(self.width - 2 - at))

    def maybe(self, bytes block not None, Py_ssize_t begin):
        """Whether a literal could lie in the text from ``begin`` on."""
        cdef char* raw
        cdef Py_ssize_t size, at, first
        PyBytes_AsStringAndSize(block, &raw, &size)
        cdef const uint8_t* text = <const uint8_t*>raw
        if begin < 0 or begin > size:
            raise ValueError("not a place in the text")
        if self.width < 2:
            return size > begin
        at = begin + self.width - 1
        cdef Py_ssize_t move
        while at < size:
            move = self.shift[text[at - 1] << 8 | text[at]]
            if move:
                at += move
                continue
            first = at - self.width + 1
            if self.heads[text[first] << 8 | text[first + 1]]:
                return True
            at += 1
        return False

    def starts(self, bytes block not None, Py_ssize_t first):
        """Places from ``first`` on, the last byte left out, at which the first two bytes of a literal stand."""
        cdef char* raw
        cdef Py_ssize_t size, at
        cdef list found = []
        PyBytes_AsStringAndSize(block, &raw, &size)
        cdef const uint8_t* text = <const uint8_t*>raw
        if first < 0:
            raise ValueError("not a place in the text")
        for at in range(first, size - 1):
            if self.heads[text[at] << 8 | text[at + 1]]:
                found.append(at)
        return found
