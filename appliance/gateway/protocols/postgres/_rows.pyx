# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of the loops in ``rows.py``, ``copytext.py`` and ``copybinary.py``: the same results, byte for byte. Every offset is compared with the end before it is read."""

from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, memset

from gateway.errors import TargetFault
from gateway.masking.rules import GONE

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

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t wanted
        cdef char* grown
        if self.room - self.used >= more:
            return 0
        wanted = self.used + more
        wanted += wanted >> 1
        grown = <char*>PyMem_Realloc(self.data, wanted)
        if grown == NULL:
            raise MemoryError
        self.data = grown
        self.room = wanted
        return 0

    cdef int add(self, const char* source, Py_ssize_t size) except -1:
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
    cdef Py_ssize_t end, at = 0, copied = 0, masked = 0
    cdef Py_ssize_t row_end, pos, length, following, head_out, made, i, skip
    cdef Step* step
    cdef bint changed
    PyBytes_AsStringAndSize(data, &text, &end)
    while at < end:
        if end - at < 7:
            raise malformed()
        length = int32_at(text + at + 1)
        row_end = at + 1 + length
        if ((<int>(<uint8_t>text[at + 5]) << 8) | <uint8_t>text[at + 6]) != width or width > 32767:
            raise TargetFault("the target sent a row whose column count differs from its description", "08P01")
        pos = at + 7
        if length < 6 or row_end > end:
            raise malformed()
        following = pos
        changed = False
        head_out = 0
        for i in range(program.count):
            step = &program.steps[i]
            for skip in range(step.skip + 1):
                if row_end - pos < 4:
                    raise malformed()
                length = int32_at(text + pos)
                following = pos + 4
                if length < -1:
                    raise malformed()
                if length > 0:
                    if length > row_end - following:
                        raise malformed()
                    following += length
                if skip < step.skip:
                    pos = following
            if length < 0:
                pos = following
                continue
            value = None
            if step.constant == NULL and step.kernel == 0:
                value = asked(program.changes[i], text + following - length, length)
                if value is None:
                    pos = following
                    continue
            if not changed:
                head_out = out.used + at - copied
            out.add(text + copied, pos - copied)
            if step.constant != NULL:
                out.add(step.constant, step.size)
            else:
                out.reserve(4)
                out.used += 4
                made = out.used
                if value is None and kernel_value(out, step, text + following - length, length):
                    value = asked(program.changes[i], text + following - length, length)
                    if value is None:       # a rule that is a kernel always gives a value
                        raise malformed()
                if value is not None and value is not GONE:
                    add_bytes(out, value)
                if out.used - made > LARGEST:
                    raise malformed()
                put_int32(out.data + made - 4, -1 if value is GONE else out.used - made)
            changed = True
            masked += 1
            copied = pos = following
        if changed:
            made = out.used - head_out + row_end - copied - 1
            if made > LARGEST:
                raise malformed()
            put_int32(out.data + head_out + 1, made)
        at = row_end
    if not masked:
        give_back(out)
        return data, 0
    out.add(text + copied, end - copied)
    return finished(out), masked


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


cdef struct Span:
    Py_ssize_t start
    Py_ssize_t size


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


def mask_lines(bytes block not None, Py_ssize_t at, Py_ssize_t width, tuple columns not None, bint csv):
    cdef Program program = program_of(columns)
    cdef Out out = taken_out()
    cdef char* text
    cdef const char* row
    cdef Py_ssize_t end, following, length, size, masked = 0, begin = at, copied = at, head_out, made, i, place
    cdef Span* spans
    cdef Span* span
    cdef Step* step
    cdef bint changed
    PyBytes_AsStringAndSize(block, &text, &end)
    if at < 0 or width < 1 or width > 65536:
        return b"", 0, at
    spans = <Span*>PyMem_Malloc(width * sizeof(Span))
    if spans == NULL:
        raise MemoryError
    try:
        while end - at >= 6:
            length = int32_at(text + at + 1)
            following = at + 1 + length
            if length < 5 or following > end:
                break
            row = text + at + 5
            size = following - at - 6
            if row[size] != 0x0A or (size == 2 and row[0] == 0x5C and row[1] == 0x2E):
                break
            if not csv and memchr(row, 0x0A, size) != NULL:
                break
            if not (split_csv(row, size, spans, width) if csv else split_text(row, size, spans, width)):
                break
            changed = False
            head_out = 0
            place = 0
            for i in range(program.count):
                step = &program.steps[i]
                place += step.skip
                if place >= width:
                    raise IndexError("list index out of range")
                span = &spans[place]
                place += 1
                if span.size == 0 if csv else span.size == 2 and row[span.start] == 0x5C and row[span.start + 1] == 0x4E:
                    continue
                value = None
                if step.constant == NULL and (step.kernel == 0 or not simple(row + span.start, span.size, csv)):
                    change = program.changes[i]
                    value = change(PyBytes_FromStringAndSize(row + span.start, span.size)) if change is not None else None
                    if value is None:
                        continue
                if not changed:
                    head_out = out.used + at - copied
                out.add(text + copied, row - text + span.start - copied)
                copied = row - text + span.start + span.size
                if step.constant != NULL:
                    out.add(step.constant, step.size)
                elif value is not None:
                    add_bytes(out, value)
                elif kernel_value(out, step, row + span.start, span.size):
                    value = program.changes[i](PyBytes_FromStringAndSize(row + span.start, span.size))
                    add_bytes(out, value)
                changed = True
                masked += 1
            if changed:
                made = out.used - head_out + following - copied - 1
                if made > LARGEST:
                    raise malformed()
                put_int32(out.data + head_out + 1, made)
            at = following
    finally:
        PyMem_Free(spans)
    if not masked:
        give_back(out)
        return (block if begin == 0 and at == end else block[begin:at]), 0, at
    out.add(text + copied, at - copied)
    return finished(out), masked, at
