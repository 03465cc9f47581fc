# SPDX-License-Identifier: Apache-2.0
"""Numbers rounded to the nearest multiple of a step, halves away from zero, in text and in binary format.

Binary (the server's int8send, float8send, numeric_send): big-endian integers and IEEE 754 floats; numeric is int16 ndigits, weight, uint16
sign, int16 dscale and the digits to the base 10000. What is no finite number, too long to be looked at, or leaves its type's range
becomes NULL.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial

from gateway.masking.rules import GONE
from gateway.protocols.postgres.rows import Change

INT8, INT2, INT4, FLOAT4, FLOAT8, NUMERIC = 20, 21, 23, 700, 701, 1700
INTEGERS = {INT2: (2, "!h"), INT4: (4, "!i"), INT8: (8, "!q")}
FLOATS = {FLOAT4: (4, "!f"), FLOAT8: (8, "!d")}
NUMBERS = frozenset({*INTEGERS, *FLOATS, NUMERIC})

LONGEST = 400
"""Decimal digits of a numeric that is rounded; a longer one becomes NULL."""
EXACT = 10**15
"""Floats from here on are not whole numbers of which every one can be told."""

_DECIMAL = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
_FLOAT = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?")
_HEAD = struct.Struct("!hhHh")
_POSITIVE, _NEGATIVE = 0x0000, 0x4000


def rounding(step: int, type_oid: int, binary: bool) -> Change:
    """What rounds the values of one of ``NUMBERS`` in that format."""
    read = _READ[binary][type_oid]
    write = _write_numeric if binary and type_oid == NUMERIC else _packed(type_oid) if binary else _written(type_oid)

    def change(value: bytes) -> bytes:
        number = read(value)
        return GONE if number is None else write(nearest(number, step))

    return change


def nearest(number: Fraction | int, step: int) -> int:
    """The multiple of ``step`` that is nearest, halves away from zero."""
    top, bottom = (number, 1) if isinstance(number, int) else (number.numerator, number.denominator)
    found = (abs(top) * 2 + step * bottom) // (2 * step * bottom) * step
    return found if top >= 0 else -found


# reading


def decimal_of(value: bytes) -> Fraction | int | None:
    """An integer or numeric as text."""
    if len(value) > LONGEST or not _DECIMAL.fullmatch(value):
        return None
    return Fraction(value.decode()) if b"." in value else int(value)


def _float_of(value: bytes) -> Fraction | None:
    if len(value) > LONGEST or not _FLOAT.fullmatch(value):
        return None
    return _finite(float(value))


def _finite(number: float) -> Fraction | None:
    return Fraction(number) if abs(number) < EXACT else None      # false for NaN too


def _unpacked(type_oid: int, value: bytes) -> int | None:
    size, form = INTEGERS[type_oid]
    return int(struct.unpack(form, value)[0]) if len(value) == size else None


def _unpacked_float(type_oid: int, value: bytes) -> Fraction | None:
    size, form = FLOATS[type_oid]
    return _finite(struct.unpack(form, value)[0]) if len(value) == size else None


def read_numeric(value: bytes) -> Fraction | int | None:
    """A numeric in binary format, ``None`` for NaN, infinity and what is no numeric."""
    if len(value) < _HEAD.size:
        return None
    count, weight, sign, _ = _HEAD.unpack_from(value)
    longest = LONGEST // 4
    if sign not in (_POSITIVE, _NEGATIVE) or not 0 <= count <= longest or abs(weight) > longest or len(value) != _HEAD.size + 2 * count:
        return None
    digits = struct.unpack_from(f"!{count}H", value, _HEAD.size)
    if any(digit > 9999 for digit in digits):
        return None
    whole = 0
    for digit in digits:
        whole = whole * 10000 + digit
    power = weight - count + 1
    number = whole * 10000**power if power >= 0 else Fraction(whole, 10000**-power)
    return -number if sign == _NEGATIVE else number


Reader = Callable[[bytes], Fraction | int | None]
Writer = Callable[[int], bytes]

_READ: tuple[Mapping[int, Reader], Mapping[int, Reader]] = (
    {**dict.fromkeys((*INTEGERS, NUMERIC), decimal_of), **dict.fromkeys(FLOATS, _float_of)},
    {NUMERIC: read_numeric, **{oid: partial(_unpacked, oid) for oid in INTEGERS}, **{oid: partial(_unpacked_float, oid) for oid in FLOATS}},
)


# writing


def _fits(number: int, type_oid: int) -> bool:
    if type_oid not in INTEGERS:
        return True
    bits = INTEGERS[type_oid][0] * 8 - 1
    return -(1 << bits) <= number < 1 << bits


def _written(type_oid: int) -> Writer:
    return lambda number: str(number).encode() if _fits(number, type_oid) else GONE


def _packed(type_oid: int) -> Writer:
    form = (INTEGERS.get(type_oid) or FLOATS[type_oid])[1]
    return lambda number: struct.pack(form, number) if _fits(number, type_oid) else GONE


def _write_numeric(number: int) -> bytes:
    return numeric(Fraction(number), 0)


def numeric(number: Fraction, scale: int) -> bytes:
    """A number of ``scale`` decimal places in numeric's binary format."""
    groups = -(-scale // 4)
    whole = int(abs(number) * 10000**groups)
    digits: list[int] = []
    while whole:
        whole, digit = divmod(whole, 10000)
        digits.append(digit)
    weight = len(digits) - groups - 1 if digits else 0
    while digits and digits[0] == 0:
        digits.pop(0)
    digits.reverse()
    sign = _NEGATIVE if number < 0 else _POSITIVE
    return _HEAD.pack(len(digits), weight, sign, scale) + struct.pack(f"!{len(digits)}H", *digits)
