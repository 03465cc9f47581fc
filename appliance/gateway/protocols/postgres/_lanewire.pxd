# SPDX-License-Identifier: Apache-2.0
# What ``_lanerun`` takes of ``_lanewire`` without an object in between. None of these reads past ``size``.

cdef struct Group:
    Py_ssize_t start, at, end, after            # as lanewire.Group

cdef struct Answer:
    Py_ssize_t first, rows, end, count, complete    # as lanewire.Answer, of which two are equal
    int status

cdef enum Found:
    MORE_COMES = 0
    ANOTHER = 1
    WHOLE = 2

cdef bint find_group(const char* raw, Py_ssize_t size, Group* group) noexcept
cdef Found find_answer(const char* raw, Py_ssize_t size, int shape, Answer* found) noexcept
cdef bytes key_of(const char* raw, Py_ssize_t size, const Group* group)
cdef bint is_key(const char* raw, Py_ssize_t size, const Group* group, bytes key) except -1
cdef bytes plain_values(const char* raw, Py_ssize_t size, Py_ssize_t at, Py_ssize_t end, object hidden)
cdef bytes sampled(const char* raw, Py_ssize_t size, bytes head, Py_ssize_t room, Py_ssize_t most, Py_ssize_t longest)
