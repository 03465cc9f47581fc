# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of the loops in ``rows.py``, ``copytext.py`` and ``copybinary.py``: the same results, byte for byte. Every offset is compared with the end before it is read."""

cimport cython
from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, memset

from gateway.errors import TargetFault
from gateway.masking.rules import GONE

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    struct rows_span { Py_ssize_t start, size; };
    /* The fields of a row of COPY text in which every byte below 0x20 is a tab and none is a backslash: 1, and there are ``width`` of them.
       0: the row has to be looked at byte by byte. 15 bytes behind the row may be read, none of them counts. */
    static int rows_split_plain(const char *row, Py_ssize_t size, struct rows_span *spans, Py_ssize_t width) {
    #if defined(__SSE2__)
        const __m128i control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8(0x09), backslash = _mm_set1_epi8(0x5c);
        Py_ssize_t at, found = 0, start = 0;
        for (at = 0; at < size; at += 16) {
            const __m128i here = _mm_loadu_si128((const __m128i *)(row + at));
            unsigned tabs = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(here, tab));
            unsigned odd = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(here, control), here),
                                                                    _mm_cmpeq_epi8(here, backslash)));
            if (size - at < 16) {
                const unsigned inside = (1u << (size - at)) - 1;
                tabs &= inside;
                odd &= inside;
            }
            if (odd != tabs) return 0;
            while (tabs) {
                const Py_ssize_t end = at + __builtin_ctz(tabs);
                if (found + 1 >= width) return 0;
                spans[found].start = start;
                spans[found].size = end - start;
                found++;
                start = end + 1;
                tabs &= tabs - 1;
            }
        }
        if (found + 1 != width) return 0;
        spans[found].start = start;
        spans[found].size = size - start;
        return 1;
    #else
        return 0;
    #endif
    }
    """
    ctypedef struct Span "struct rows_span":
        Py_ssize_t start
        Py_ssize_t size
    bint rows_split_plain(const char* row, Py_ssize_t size, Span* spans, Py_ssize_t width) noexcept

cdef enum:
    KEEP_LAST = 1
    KEEP_FIRST = 2
    EMAIL = 3
    ROUND_TEXT = 4          # and 5, 6, 7: int2, int4, int8, numeric
    ROUND_NUMERIC = 7
    ROUND_BINARY = 8        # and 9, 10
    CUT_DATE = 11           # in text
    CUT_MOMENT = 12
    CUT_ZONED = 13
    CUT_DAYS = 14           # in binary format
    CUT_MICROS = 15
    MOST_DIGITS = 18
    LONGEST_NUMBER = 400    # numbers.LONGEST
    EPOCH = 730425          # moments._EPOCH
    FAR = 2000000           # days from 2000-01-01 that are looked at here
    PROGRAMS = 512
    SPARE = 4 << 20
    LARGEST = 0x7FFFFFFF
    WIDEST = 65536          # columns of a COPY that are looked at here
    BLOCK = 16              # bytes that are looked at together
    COPY_DATA = 0x64

cdef struct Step:
    Py_ssize_t skip         # columns to skip before this one
    const char* constant    # the encoded field, or NULL
    Py_ssize_t size         # its bytes
    int kernel
    Py_ssize_t keep
    bint padded


cdef inline int32_t int32_at(const char* at) noexcept:
    cdef const uint8_t* raw = <const uint8_t*>at
    return <int32_t>((<uint32_t>raw[0] << 24) | (<uint32_t>raw[1] << 16) | (<uint32_t>raw[2] << 8) | <uint32_t>raw[3])


cdef inline void put_int32(char* at, Py_ssize_t value) noexcept:
    cdef uint8_t* raw = <uint8_t*>at
    raw[0] = <uint8_t>(value >> 24)
    raw[1] = <uint8_t>(value >> 16)
    raw[2] = <uint8_t>(value >> 8)
    raw[3] = <uint8_t>value


@cython.final
cdef class Out:
    """Bytes that grow. What is reserved is there before it is written."""

    cdef char* data
    cdef Py_ssize_t used
    cdef Py_ssize_t room

    def __cinit__(self):
        self.data = NULL
        self.used = self.room = 0

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef inline int reserve(self, Py_ssize_t more) except -1:
        return 0 if self.room - self.used >= more else self.grow(more)

    cdef int grow(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t wanted = self.used + more
        cdef char* grown
        wanted += wanted >> 1
        grown = <char*>PyMem_Realloc(self.data, wanted)
        if grown == NULL:
            raise MemoryError
        self.data = grown
        self.room = wanted
        return 0

    cdef inline int add(self, const char* source, Py_ssize_t size) except -1:
        if size > 0:
            self.reserve(size)
            memcpy(self.data + self.used, source, size)
            self.used += size
        return 0


cdef Out _spare = Out()


cdef Out taken_out():
    """An empty one: that of the call before, so that its memory need not be asked for again."""
    global _spare
    cdef Out out = _spare
    if out is None:
        return Out()
    _spare = None
    out.used = 0
    return out


cdef int give_back(Out out) except -1:
    global _spare
    if out.room <= SPARE:
        _spare = out
    return 0


cdef bytes finished(Out out):
    """What it holds; it is kept for the next call unless it is large."""
    cdef bytes made = PyBytes_FromStringAndSize(out.data, out.used)
    give_back(out)
    return made


@cython.final
cdef class Program:
    """The columns of a plan as the loops read them."""

    cdef Step* steps
    cdef Py_ssize_t count
    cdef object columns
    cdef list changes
    cdef list held

    def __cinit__(self, tuple columns):
        cdef Py_ssize_t at = 0, i = 0
        cdef char* text
        cdef Py_ssize_t size
        self.steps = NULL
        self.columns = columns
        self.changes = []
        self.held = []
        self.count = len(columns)
        self.steps = <Step*>PyMem_Malloc(max(self.count, 1) * sizeof(Step))
        if self.steps == NULL:
            raise MemoryError
        for index, column in columns:
            if index < at:
                raise ValueError("columns are not ascending")
            self.steps[i].skip = index - at
            self.steps[i].constant = NULL
            self.steps[i].size = 0
            constant = column.constant
            if constant is not None:
                PyBytes_AsStringAndSize(constant, &text, &size)
                self.held.append(constant)
                self.steps[i].constant = text
                self.steps[i].size = size
            self.steps[i].kernel = column.kernel
            self.steps[i].keep = column.keep
            self.steps[i].padded = column.padded
            self.changes.append(column.change)
            at = index + 1
            i += 1

    def __dealloc__(self):
        PyMem_Free(self.steps)


cdef dict _programs = {}


cdef Program program_of(tuple columns):
    """The program of these very columns. It holds them, so their id is theirs for as long as it is here."""
    found = _programs.get(id(columns))
    if found is not None and (<Program>found).columns is columns:
        return <Program>found
    made = Program(columns)
    if len(_programs) >= PROGRAMS:
        _programs.clear()
    _programs[id(columns)] = made
    return made


cdef bint is_ascii(const char* text, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at = 0
    cdef uint64_t word
    while at + 8 <= size:
        memcpy(&word, text + at, 8)
        if word & <uint64_t>0x8080808080808080:
            return False
        at += 8
    while at < size:
        if <uint8_t>text[at] & 0x80:
            return False
        at += 1
    return True


cdef Py_ssize_t characters(const char* raw, Py_ssize_t size) noexcept:
    """How many code points, -1 where it is not UTF-8 (RFC 3629: no surrogates, nothing longer than needed)."""
    cdef const uint8_t* text = <const uint8_t*>raw
    cdef Py_ssize_t at = 0, count = 0
    cdef int more, i
    cdef uint8_t first, second
    while at < size:
        first = text[at]
        if first < 0x80:
            more = 0
        elif first < 0xC2:
            return -1
        elif first < 0xE0:
            more = 1
        elif first < 0xF0:
            more = 2
        elif first < 0xF5:
            more = 3
        else:
            return -1
        if more >= size - at:
            return -1
        if more:
            second = text[at + 1]
            if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F) or \
                    (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
                return -1
            for i in range(1, more + 1):
                if text[at + i] & 0xC0 != 0x80:
                    return -1
        at += more + 1
        count += 1
    return count


cdef Py_ssize_t bytes_of(const char* text, Py_ssize_t size, Py_ssize_t count) noexcept:
    """How many bytes the first ``count`` characters of valid UTF-8 take."""
    cdef Py_ssize_t at = 0
    while at < size:
        if <uint8_t>text[at] & 0xC0 != 0x80:
            if count == 0:
                return at
            count -= 1
        at += 1
    return at


cdef inline bint is_label(uint8_t c) noexcept:
    return 0x30 <= c <= 0x39 or 0x41 <= c <= 0x5A or 0x61 <= c <= 0x7A or c == 0x2D


cdef Py_ssize_t email_at(const char* raw, Py_ssize_t size) noexcept:
    """Where the ``@`` of a plain ASCII address is; -1 where the slower form has to look."""
    cdef const uint8_t* text = <const uint8_t*>raw
    cdef Py_ssize_t at, sign = -1, label
    if size > 253:
        return -1
    for at in range(size):
        if text[at] < 0x21 or text[at] > 0x7E:
            return -1
        if text[at] == 0x40:
            sign = at
    if sign < 1 or sign + 1 >= size or text[sign + 1] == 0x2D:
        return -1
    label = 0
    for at in range(sign + 1, size):
        if text[at] == 0x2E:
            if label == 0:
                return -1
            label = 0
        elif is_label(text[at]):
            label += 1
            if label > 63:
                return -1
        else:
            return -1
    return sign if label else -1


cdef inline bint is_digit(uint8_t c) noexcept:
    return 0x30 <= c <= 0x39


cdef int64_t floor_div(int64_t top, int64_t bottom) noexcept:
    """Towards minus infinity, as Python divides; ``bottom`` is above 0."""
    cdef int64_t found = top // bottom
    return found - 1 if top % bottom < 0 else found


cdef int put_digits(Out out, uint64_t number, int least) except -1:
    """Decimal, with leading zeros up to ``least`` digits."""
    cdef char digits[24]
    cdef int count = 0
    while number or count < least:
        digits[23 - count] = <char>(0x30 + number % 10)
        number //= 10
        count += 1
    return out.add(digits + 24 - count, count)


cdef bint nearest(uint64_t* number, uint64_t step, bint half, bint negative, int bits) noexcept:
    """``numbers.nearest`` of an absolute value, ``half``: and at least one half more. False where it leaves a type of so many bits."""
    cdef uint64_t rest = number[0] % step, found = number[0] - rest, most
    if rest * 2 >= step or (half and rest * 2 + 1 == step):
        found += step
    number[0] = found
    most = (<uint64_t>1 << (bits - 1)) - 1 + (1 if negative else 0)
    return found <= most


cdef int round_text(Out out, Step* step, const char* raw, Py_ssize_t size) except -1:
    """An integer or numeric in text; 1 where the Python form has to look."""
    cdef const uint8_t* text = <const uint8_t*>raw
    cdef Py_ssize_t at = 0, begin
    cdef uint64_t number = 0
    cdef bint negative = False, half = False
    cdef int bits = 64
    if step.keep < 1 or size > LONGEST_NUMBER:
        return 1
    if size and text[0] == 0x2D:
        negative = True
        at = 1
    begin = at
    while at < size and is_digit(text[at]):
        if at - begin >= MOST_DIGITS:
            return 1
        number = number * 10 + text[at] - 0x30
        at += 1
    if at == begin:
        return 1
    if at < size:
        if step.kernel != ROUND_NUMERIC or text[at] != 0x2E or at + 1 == size:
            return 1
        half = text[at + 1] >= 0x35
        for at in range(at + 1, size):
            if not is_digit(text[at]):
                return 1
    if step.kernel == ROUND_TEXT:
        bits = 16
    elif step.kernel == ROUND_TEXT + 1:
        bits = 32
    if not nearest(&number, step.keep, half, negative, bits):
        return 1
    if negative and number:
        out.add("-", 1)
    put_digits(out, number, 1)
    return 0


cdef int round_binary(Out out, Step* step, const char* raw, Py_ssize_t size) except -1:
    cdef const uint8_t* value = <const uint8_t*>raw
    cdef Py_ssize_t wanted = <Py_ssize_t>2 << (step.kernel - ROUND_BINARY), at
    cdef uint64_t number = 0
    cdef bint negative
    if size != wanted or step.keep < 1:
        return 1
    negative = value[0] >= 0x80
    for at in range(size):
        number = number << 8 | value[at]
    if negative:
        if size < 8:
            number |= ~<uint64_t>0 << (8 * size)
        number = ~number + 1
    if not nearest(&number, step.keep, False, negative, <int>(8 * size)):
        return 1
    put_big(out, ~number + 1 if negative else number, size)
    return 0


cdef int put_big(Out out, uint64_t number, Py_ssize_t size) except -1:
    """The last ``size`` bytes, big-endian."""
    cdef Py_ssize_t at
    out.reserve(size)
    for at in range(size):
        out.data[out.used + at] = <char>(number >> (8 * (size - 1 - at)) & 0xFF)
    out.used += size
    return 0


cdef int64_t days_of(int64_t year, int64_t month, int64_t day) noexcept:
    """``moments.days_of``."""
    cdef int64_t era, of_era, of_year
    if month <= 2:
        year -= 1
    era = floor_div(year, 400)
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - EPOCH


cdef void date_of(int64_t days, int64_t* date) noexcept:
    """``moments.date_of``: year, month, day."""
    cdef int64_t era, of_era, years, of_year, shifted, month
    era = floor_div(days + EPOCH, 146097)
    of_era = days + EPOCH - era * 146097
    years = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    date[0] = years + era * 400 + (1 if month <= 2 else 0)
    date[1] = month
    date[2] = of_year - (153 * shifted + 2) // 5 + 1


cdef int64_t cut_day(int64_t days, Py_ssize_t unit) noexcept:
    """Days at the beginning of their unit: 0 and 1 are hour and day, 2 month, 3 year."""
    cdef int64_t date[3]
    if unit < 2:
        return days
    date_of(days, date)
    return days_of(date[0], date[1] if unit == 2 else 1, 1)


cdef inline int two(const uint8_t* text) noexcept:
    """A number of two digits, -1 where they are none."""
    return (text[0] - 0x30) * 10 + text[1] - 0x30 if is_digit(text[0]) and is_digit(text[1]) else -1


cdef int put_date(Out out, int64_t days) except -1:
    """1 where it is none of the years that four digits write."""
    cdef int64_t date[3]
    date_of(days, date)
    if date[0] < 1 or date[0] > 9999:
        return 1
    put_digits(out, date[0], 4)
    out.add("-", 1)
    put_digits(out, date[1], 2)
    out.add("-", 1)
    put_digits(out, date[2], 2)
    return 0


cdef int cut_text(Out out, Step* step, const char* raw, Py_ssize_t size) except -1:
    """A date or timestamp in ISO style of a year with four digits; 1 for everything else."""
    cdef const uint8_t* text = <const uint8_t*>raw
    cdef int century, year, month, day, hour, minute, second, part, unit
    cdef int64_t days, seconds
    cdef Py_ssize_t at
    cdef bint east
    if size < 10 or text[4] != 0x2D or text[7] != 0x2D:
        return 1
    century, year, month, day = two(text), two(text + 2), two(text + 5), two(text + 8)
    if century < 0 or year < 0 or century + year == 0 or month < 1 or month > 12 or day < 1 or day > 31 or \
            (day == 31 and month in (4, 6, 9, 11)) or (month == 2 and day > 29):
        return 1
    days = days_of(century * 100 + year, month, day)
    if step.kernel == CUT_DATE:
        return put_date(out, cut_day(days, step.keep)) if size == 10 else 1
    if size < 19 or (text[10] != 0x20 and text[10] != 0x54) or text[13] != 0x3A or text[16] != 0x3A:
        return 1
    hour, minute, second = two(text + 11), two(text + 14), two(text + 17)
    if hour < 0 or hour > 24 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return 1
    seconds = hour * 3600 + minute * 60 + second
    at = 19
    if at < size and text[at] == 0x2E:
        at += 1
        while at < size and at < 26 and is_digit(text[at]):
            at += 1
        if at == 20:
            return 1
    if step.kernel == CUT_ZONED:
        if at + 3 > size or (text[at] != 0x2B and text[at] != 0x2D):
            return 1
        east = text[at] == 0x2B
        at += 1
        unit = 3600
        while True:
            part = two(text + at)
            if part < 0:
                return 1
            seconds += -part * unit if east else part * unit
            at += 2
            unit //= 60
            if unit == 0 or at == size:
                break
            if text[at] != 0x3A or at + 3 > size:
                return 1
            at += 1
    if at != size:
        return 1
    seconds += days * 86400
    seconds = floor_div(seconds, 3600) * 3600
    days = floor_div(seconds, 86400)
    seconds = seconds - days * 86400 if step.keep == 0 else 0
    if put_date(out, cut_day(days, step.keep)):
        return 1
    out.add(" ", 1)
    put_digits(out, seconds // 3600, 2)
    out.add(":00:00+00", 9 if step.kernel == CUT_ZONED else 6)
    return 0


cdef int cut_binary(Out out, Step* step, const char* raw, Py_ssize_t size) except -1:
    cdef const uint8_t* value = <const uint8_t*>raw
    cdef Py_ssize_t wanted = 4 if step.kernel == CUT_DAYS else 8, at
    cdef uint64_t bits = 0
    cdef int64_t number, day = 86400000000, hour = 3600000000
    if size != wanted:
        return 1
    for at in range(size):
        bits = bits << 8 | value[at]
    number = <int32_t><uint32_t>bits if size == 4 else <int64_t>bits
    if size == 4:
        if number < -FAR or number > FAR:
            return 1
        number = cut_day(number, step.keep)
    else:
        if number < -FAR * day or number > FAR * day:
            return 1
        number = floor_div(number, hour) * hour if step.keep == 0 else cut_day(floor_div(number, day), step.keep) * day
    put_big(out, <uint64_t>number, size)
    return 0


cdef int kernel_value(Out out, Step* step, const char* value, Py_ssize_t size) except -1:
    """Write what the rule makes of a value; 1 where it does not know: then the Python form is asked."""
    cdef Py_ssize_t bare = size, rest, count, at
    if step.kernel >= ROUND_TEXT:
        if step.kernel >= CUT_DATE:
            return cut_binary(out, step, value, size) if step.kernel >= CUT_DAYS else cut_text(out, step, value, size)
        return round_binary(out, step, value, size) if step.kernel >= ROUND_BINARY else round_text(out, step, value, size)
    if step.padded:
        while bare > 0 and value[bare - 1] == 0x20:
            bare -= 1
    if step.kernel == EMAIL:
        at = email_at(value, bare)
        if at < 0:
            return 1
        out.reserve(size + 3)
        out.data[out.used] = value[0]
        memcpy(out.data + out.used + 1, "***", 3)
        memcpy(out.data + out.used + 4, value + at, bare - at)
        out.used += 4 + bare - at
    elif is_ascii(value, bare):
        out.reserve(size)
        rest = bare - step.keep if bare > step.keep else bare
        if step.kernel == KEEP_LAST:
            memset(out.data + out.used, 0x2A, rest)
            memcpy(out.data + out.used + rest, value + rest, bare - rest)
        else:
            memcpy(out.data + out.used, value, bare - rest)
            memset(out.data + out.used + bare - rest, 0x2A, rest)
        out.used += bare
    else:
        count = characters(value, bare)
        if count < 0:
            out.add("****", 4)
        else:
            rest = count - step.keep if count > step.keep else count
            out.reserve(size)
            if step.kernel == KEEP_LAST:
                at = bytes_of(value, bare, rest)
                memset(out.data + out.used, 0x2A, rest)
                memcpy(out.data + out.used + rest, value + at, bare - at)
                out.used += rest + bare - at
            else:
                at = bytes_of(value, bare, count - rest)
                memcpy(out.data + out.used, value, at)
                memset(out.data + out.used + at, 0x2A, rest)
                out.used += at + rest
    out.reserve(size - bare)
    memset(out.data + out.used, 0x20, size - bare)
    out.used += size - bare
    return 0


def scan_run(bytes data not None, Py_ssize_t at, Py_ssize_t end, int kind):
    cdef Py_ssize_t count = 0, last, following, length, size
    cdef char* text
    PyBytes_AsStringAndSize(data, &text, &size)
    if end > size:
        end = size
    last = end - 5
    while 0 <= at <= last and <uint8_t>text[at] == kind:
        length = int32_at(text + at + 1)
        following = at + 1 + length
        if length < 4 or following > end:
            break
        at = following
        count += 1
    return at, count


def mask_rows(bytes data not None, Py_ssize_t width, tuple columns not None):
    cdef Program program = program_of(columns)
    cdef Out out = taken_out()
    cdef char* text
    cdef Py_ssize_t end, row_end, at = 0, copied = 0, masked = 0
    PyBytes_AsStringAndSize(data, &text, &end)
    while at < end:
        if end - at < 7:
            raise malformed()
        row_end = at + 1 + int32_at(text + at + 1)
        masked += mask_row(out, program, text, at, row_end, end, width, &copied)
        at = row_end
    if not masked:
        give_back(out)
        return data, 0
    out.add(text + copied, end - copied)
    return finished(out), masked


cdef Py_ssize_t mask_row(Out out, Program program, const char* text, Py_ssize_t at, Py_ssize_t row_end, Py_ssize_t end, Py_ssize_t width,
                         Py_ssize_t* copied) except -1:
    """The row at ``at``, of which 7 bytes are there: how many values were replaced. Up to ``copied`` all is in ``out``."""
    cdef Py_ssize_t pos = at + 7, following = pos, length = 0, masked = 0, head_out = 0, made, i, skip
    cdef Step* step
    if ((<int>(<uint8_t>text[at + 5]) << 8) | <uint8_t>text[at + 6]) != width or width > 32767:
        raise TargetFault("the target sent a row whose column count differs from its description", "08P01")
    if row_end - at < 7 or row_end > end:
        raise malformed()
    for i in range(program.count):
        step = &program.steps[i]
        for skip in range(step.skip + 1):
            pos = following
            if row_end - pos < 4:
                raise malformed()
            length = int32_at(text + pos)
            following = pos + 4
            if length > 0:
                if length > row_end - following:
                    raise malformed()
                following += length
            elif length < -1:
                raise malformed()
        if length < 0:
            continue
        if step.constant == NULL and step.kernel == 0:
            value = asked(program.changes[i], text + following - length, length)
            if value is None:
                continue
            if not masked:
                head_out = out.used + at - copied[0]
            out.add(text + copied[0], pos - copied[0])
            add_field(out, value)
        else:
            if not masked:
                head_out = out.used + at - copied[0]
            out.add(text + copied[0], pos - copied[0])
            if step.constant != NULL:
                out.add(step.constant, step.size)
            else:
                out.reserve(4)
                out.used += 4
                made = out.used
                if kernel_value(out, step, text + following - length, length):
                    out.used = made - 4
                    value = asked(program.changes[i], text + following - length, length)
                    if value is None:       # a rule that is a kernel always gives a value
                        raise malformed()
                    add_field(out, value)
                else:
                    put_length(out, made)
        masked += 1
        copied[0] = following
    if masked:
        made = out.used - head_out + row_end - copied[0] - 1
        if made > LARGEST:
            raise malformed()
        put_int32(out.data + head_out + 1, made)
    return masked


cdef int put_length(Out out, Py_ssize_t made) except -1:
    """Of the field that begins at ``made``, in the four bytes before it."""
    if out.used - made > LARGEST:
        raise malformed()
    put_int32(out.data + made - 4, out.used - made)
    return 0


cdef int add_field(Out out, value) except -1:
    """A value with its length, NULL for one that is gone."""
    cdef Py_ssize_t made
    out.reserve(4)
    out.used += 4
    made = out.used
    if value is GONE:
        put_int32(out.data + made - 4, -1)
        return 0
    add_bytes(out, value)
    return put_length(out, made)


cdef asked(change, const char* text, Py_ssize_t size):
    """What the Python form makes of a value."""
    if change is None:
        return None
    try:
        return change(PyBytes_FromStringAndSize(text, size))
    except (IndexError, ValueError):
        raise malformed() from None


cdef int add_bytes(Out out, value) except -1:
    cdef char* text
    cdef Py_ssize_t size
    PyBytes_AsStringAndSize(value, &text, &size)
    return out.add(text, size)


cdef malformed():
    return TargetFault("the target sent a malformed row", "08P01")


# COPY


def whole_tuples(bytes block not None, Py_ssize_t at, Py_ssize_t width):
    cdef char* text
    cdef Py_ssize_t end, following, pos, length, i
    PyBytes_AsStringAndSize(block, &text, &end)
    if at < 0 or width < 0 or width > 32767:
        return at
    while end - at >= 7:
        length = int32_at(text + at + 1)
        following = at + 1 + length
        if length < 6 or following > end or ((<int>(<uint8_t>text[at + 5]) << 8) | <uint8_t>text[at + 6]) != width:
            break
        pos = at + 7
        for i in range(width):
            if following - pos < 4:
                return at
            length = int32_at(text + pos)
            pos += 4
            if length < -1:
                raise TargetFault("the target sent a malformed COPY tuple", "08P01")
            if length > 0:
                if length > following - pos:
                    return at
                pos += length
        if pos != following:
            break
        at = following
    return at


cdef bint split_text(const char* text, Py_ssize_t size, Span* spans, Py_ssize_t width) noexcept:
    """The fields of a row between tabs; false where there are not ``width`` of them."""
    cdef Py_ssize_t at = 0, found = 0, following
    cdef const char* tab
    while True:
        tab = <const char*>memchr(text + at, 0x09, size - at) if at < size else NULL
        following = tab - text if tab != NULL else size
        if found == width:
            return False
        spans[found].start = at
        spans[found].size = following - at
        found += 1
        if tab == NULL:
            return found == width
        at = following + 1


cdef bint split_csv(const char* text, Py_ssize_t size, Span* spans, Py_ssize_t width) noexcept:
    """The fields of a csv row, quotes and all."""
    cdef Py_ssize_t at = 0, found = 0, start
    cdef const char* sign
    while True:
        start = at
        if at < size and text[at] == 0x22:
            at += 1
            while True:
                sign = <const char*>memchr(text + at, 0x22, size - at) if at < size else NULL
                if sign == NULL:
                    return False
                at = sign - text + 1
                if at >= size or text[at] != 0x22:
                    break
                at += 1
        else:
            while at < size and text[at] != 0x2C and text[at] != 0x22 and text[at] != 0x0A and text[at] != 0x0D:
                at += 1
        if found == width:
            return False
        spans[found].start = start
        spans[found].size = at - start
        found += 1
        if at == size:
            return found == width
        if text[at] != 0x2C:
            return False
        at += 1


cdef bint simple(const char* text, Py_ssize_t size, bint csv) noexcept:
    """A field that is its own value, and whose masked form needs no escape and no quotes."""
    cdef Py_ssize_t at
    if csv:
        return size == 0 or text[0] != 0x22
    for at in range(size):
        if <uint8_t>text[at] < 0x20 or text[at] == 0x5C:
            return False
    return True


cdef Py_ssize_t mask_line(Out out, Program program, const char* text, Py_ssize_t at, Py_ssize_t following, Py_ssize_t end, Span* spans,
                          Py_ssize_t width, bint csv, Py_ssize_t* copied) except -2:
    """The message at ``at``, which is whole: how many fields were replaced, -1 where it is not one row of ``width`` columns. Up to
    ``copied`` all is in ``out``."""
    cdef const char* row = text + at + 5
    cdef Py_ssize_t size = following - at - 6, masked = 0, head_out = 0, made, i, place = 0
    cdef Span* span
    cdef Step* step
    cdef bint plain
    if size < 0 or row[size] != 0x0A or (size == 2 and row[0] == 0x5C and row[1] == 0x2E):
        return -1
    plain = not csv and end - following >= BLOCK and rows_split_plain(row, size, spans, width)
    if not plain:
        if not csv and memchr(row, 0x0A, size) != NULL:
            return -1
        if not (split_csv(row, size, spans, width) if csv else split_text(row, size, spans, width)):
            return -1
    for i in range(program.count):
        step = &program.steps[i]
        place += step.skip
        if place >= width:
            raise IndexError("list index out of range")
        span = &spans[place]
        place += 1
        if not plain and (span.size == 0 if csv else span.size == 2 and row[span.start] == 0x5C and row[span.start + 1] == 0x4E):
            continue
        if step.constant == NULL and (step.kernel == 0 or not (plain or simple(row + span.start, span.size, csv))):
            value = asked_field(program.changes[i], row + span.start, span.size)
            if value is None:
                continue
            if not masked:
                head_out = out.used + at - copied[0]
            out.add(text + copied[0], row - text + span.start - copied[0])
            add_bytes(out, value)
        else:
            if not masked:
                head_out = out.used + at - copied[0]
            out.add(text + copied[0], row - text + span.start - copied[0])
            if step.constant != NULL:
                out.add(step.constant, step.size)
            else:
                made = out.used
                if kernel_value(out, step, row + span.start, span.size):
                    out.used = made
                    add_bytes(out, asked_field(program.changes[i], row + span.start, span.size))
        copied[0] = row - text + span.start + span.size
        masked += 1
    if masked:
        made = out.used - head_out + following - copied[0] - 1
        if made > LARGEST:
            raise malformed()
        put_int32(out.data + head_out + 1, made)
    return masked


cdef asked_field(change, const char* text, Py_ssize_t size):
    return change(PyBytes_FromStringAndSize(text, size)) if change is not None else None


cdef Span* spans_of(Py_ssize_t width) except NULL:
    cdef Span* spans = <Span*>PyMem_Malloc(width * sizeof(Span))
    if spans == NULL:
        raise MemoryError
    return spans


def mask_lines(bytes block not None, Py_ssize_t at, Py_ssize_t width, tuple columns not None, bint csv):
    cdef Program program = program_of(columns)
    cdef Out out
    cdef char* text
    cdef Py_ssize_t end, following, length, found, masked = 0, begin = at, copied = at
    cdef Span* spans
    PyBytes_AsStringAndSize(block, &text, &end)
    if at < 0 or width < 1 or width > WIDEST:
        return b"", 0, at
    out = taken_out()
    spans = spans_of(width)
    try:
        while end - at >= 6:
            length = int32_at(text + at + 1)
            following = at + 1 + length
            if length < 5 or following > end:
                break
            found = mask_line(out, program, text, at, following, end, spans, width, csv, &copied)
            if found < 0:
                break
            masked += found
            at = following
    finally:
        PyMem_Free(spans)
    if not masked:
        give_back(out)
        return (block if begin == 0 and at == end else block[begin:at]), 0, at
    out.add(text + copied, at - copied)
    return finished(out), masked, at


# What comes in a stream: the beginning of a message, and what followed


cdef class Stretch:
    """Messages of one kind out of two pieces: the end of the piece before, and what came after it."""

    cdef bytes before, data
    cdef char* text
    cdef Py_ssize_t size, at
    cdef bytes first        # the message that lies in both, whole
    cdef bint more          # what is left is the beginning of a message of this kind, or nothing

    cdef int open(self, bytes before, bytes data, int kind, Py_ssize_t most) except -1:
        """Puts together the message that lies in both pieces, if it is whole."""
        cdef char* begun
        cdef char head[5]
        cdef Py_ssize_t held, need
        PyBytes_AsStringAndSize(data, &self.text, &self.size)
        PyBytes_AsStringAndSize(before, &begun, &held)
        self.before, self.data, self.at, self.more, self.first = before, data, 0, True, None
        if held == 0:
            return 0
        if held < 5:
            if held + self.size < 5:
                self.more = <uint8_t>begun[0] == kind
                return self.stop()
            memcpy(head, begun, held)
            memcpy(head + held, self.text, 5 - held)
        else:
            memcpy(head, begun, 5)
        need = <Py_ssize_t>int32_at(head + 1) + 1
        if <uint8_t>head[0] != kind or need < 5:
            self.more = False
            return self.stop()
        need -= held
        if need <= 0:               # there is more in it than the beginning of one message
            self.data = before + data
            self.before = b""
            PyBytes_AsStringAndSize(self.data, &self.text, &self.size)
            return 0
        if need > self.size:
            self.more = need + held - 1 <= most
            return self.stop()
        self.first = before + data[:need]
        self.at = need
        return 0

    cdef int stop(self) except -1:
        """Nothing in it is whole."""
        self.data = self.before + self.data
        self.before = b""
        PyBytes_AsStringAndSize(self.data, &self.text, &self.size)
        self.at = -1
        return 0

    cdef Py_ssize_t following(self, int kind, Py_ssize_t most) noexcept:
        """Where the message at hand ends, -1 where no whole one is left."""
        cdef Py_ssize_t left = self.size - self.at, length
        if left <= 0:
            return -1
        if <uint8_t>self.text[self.at] != kind:
            self.more = False
            return -1
        if left < 5:
            return -1
        length = int32_at(self.text + self.at + 1)
        if length < 4:
            self.more = False
            return -1
        if length >= left:
            self.more = length <= most
            return -1
        return self.at + 1 + length

    cdef tuple ended(self, Out out, Py_ssize_t copied, Py_ssize_t count, Py_ssize_t masked):
        cdef bytes made
        if self.at < 0:
            give_back(out)
            return b"", 0, 0, self.data, self.more
        if masked:
            out.add(self.text + copied, self.at - copied)
            made = finished(out)
        else:
            give_back(out)
            made = self.passed()
        return made, count, masked, self.data[self.at:], self.more

    cdef bytes passed(self):
        """All that was whole, as it came."""
        if self.first is None:
            return self.data if self.at == self.size else self.data[:self.at]
        return self.before + (self.data if self.at == self.size else self.data[:self.at])


def pass_rows(bytes before not None, bytes data not None, int kind, Py_ssize_t most, Py_ssize_t width, tuple columns not None):
    cdef Program program = program_of(columns)
    cdef Out out = taken_out()
    cdef Stretch stretch = Stretch()
    cdef char* text
    cdef Py_ssize_t size, following, count = 0, masked = 0, copied = 0
    cdef bint looks = program.count > 0
    stretch.open(before, data, kind, most)
    if stretch.at < 0:
        return stretch.ended(out, 0, 0, 0)
    if stretch.first is not None:
        count = 1
        if looks:
            PyBytes_AsStringAndSize(stretch.first, &text, &size)
            if size < 7:
                raise malformed()
            masked = mask_row(out, program, text, 0, size, size, width, &copied)
            out.add(text + copied, size - copied)
        copied = stretch.at
    while True:
        following = stretch.following(kind, most)
        if following < 0:
            break
        if looks:
            if following - stretch.at < 7:
                raise malformed()
            masked += mask_row(out, program, stretch.text, stretch.at, following, stretch.size, width, &copied)
        count += 1
        stretch.at = following
    return stretch.ended(out, copied, count, masked)


def pass_lines(bytes before not None, bytes data not None, Py_ssize_t most, Py_ssize_t width, tuple columns not None, bint csv):
    cdef Program program = program_of(columns)
    cdef Out out
    cdef Stretch stretch = Stretch()
    cdef char* text
    cdef Py_ssize_t size, following, found, count = 0, masked = 0, copied = 0
    cdef Span* spans
    if width < 1 or width > WIDEST:
        return b"", 0, 0, before + data, False
    out = taken_out()
    stretch.open(before, data, COPY_DATA, most)
    if stretch.at < 0:
        return stretch.ended(out, 0, 0, 0)
    spans = spans_of(width)
    try:
        if stretch.first is not None:
            PyBytes_AsStringAndSize(stretch.first, &text, &size)
            masked = mask_line(out, program, text, 0, size, size, spans, width, csv, &copied)
            if masked < 0:
                stretch.more = False
                stretch.stop()
                return stretch.ended(out, 0, 0, 0)
            out.add(text + copied, size - copied)
            copied = stretch.at
            count = 1
        while True:
            following = stretch.following(COPY_DATA, most)
            if following < 0:
                break
            found = mask_line(out, program, stretch.text, stretch.at, following, stretch.size, spans, width, csv, &copied)
            if found < 0:
                stretch.more = False
                break
            masked += found
            count += 1
            stretch.at = following
    finally:
        PyMem_Free(spans)
    return stretch.ended(out, copied, count, masked)
