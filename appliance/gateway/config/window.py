# SPDX-License-Identifier: Apache-2.0
"""When a grant gives anything: an absolute span, and within it days of the week and hours of the day."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOMENT_WANTED = "expected a date and time with its offset, such as 2026-01-01T00:00:00Z"
HOURS_WANTED = "expected hours such as 08:00-18:00 (22:00-06:00 runs past midnight)"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_SEARCHED = 9
"""Days looked ahead for a change: a week, and one on either side for hours past midnight."""


def parse_moment(value: object) -> datetime:
    """RFC 3339 with an offset. Raises ``ValueError``."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError(MOMENT_WANTED)
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError(MOMENT_WANTED) from None


Moment = Annotated[datetime, BeforeValidator(parse_moment), WithJsonSchema({"type": "string", "format": "date-time", "x-kind": "moment"})]


def _hours(value: str) -> str:
    found = _HOURS.fullmatch(value)
    if not found or any(int(found[n]) > 23 or int(found[n + 1]) > 59 for n in (1, 3)) or value[:5] == value[6:]:
        raise ValueError(HOURS_WANTED)
    return value


def _timezone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _zone(value: str) -> str:
    try:
        _timezone(value)
    except (ValueError, OSError, KeyError):
        raise ValueError("expected the name of a time zone such as UTC or Europe/Berlin") from None
    return value


class Window(BaseModel):
    """The ``when`` of a grant. A key that is absent bounds nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: Moment | None = Field(default=None, alias="from", description="Not before this moment.")
    until: Moment | None = Field(default=None, description="Not at or after this moment.")
    days: tuple[Day, ...] = Field(default=(), description="Days of the week on which it is open; none given means every day.")
    hours: Annotated[str, AfterValidator(_hours)] | None = Field(
        default=None, description="Hours of the day, `08:00-18:00`; past midnight it belongs to the day on which it begins.")
    zone: Annotated[str, AfterValidator(_zone)] = Field(default="UTC", description="Time zone of `days` and `hours`.")

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.from_ and self.until and self.from_ >= self.until:
            raise ValueError("expected `from` to be earlier than `until`")
        return self

    def over(self, now: float) -> bool:
        """Whether it will never be open again."""
        return self.until is not None and now >= self.until.timestamp()

    def open(self, now: float) -> bool:
        """Whether it is open at ``now`` (seconds since the epoch)."""
        if self.over(now) or (self.from_ is not None and now < self.from_.timestamp()):
            return False
        if not self.days and self.hours is None:
            return True
        return any(begin <= now < end for begin, end in self._spans(now))

    def closes(self, now: float) -> float | None:
        """When the window that is open at ``now`` closes (seconds since the epoch); ``now`` itself if it is not open, ``None`` if
        it never closes."""
        if not self.open(now):
            return now
        last = self.until.timestamp() if self.until else None
        if not self.days and self.hours is None:
            return last
        end = now
        for begin, stop in self._spans(now):
            if begin <= end < stop:
                end = stop
        if len(set(self.days)) % 7 == 0 and self.hours is None:
            return last
        return end if last is None else min(end, last)

    def _spans(self, now: float) -> list[tuple[float, float]]:
        """The open spans of the days around ``now``, in order."""
        zone = _timezone(self.zone)
        today = datetime.fromtimestamp(now, UTC).astimezone(zone).date()
        begin, end = time(0), time(0)
        if self.hours is not None:
            begin, end = time.fromisoformat(self.hours[:5]), time.fromisoformat(self.hours[6:])
        spans: list[tuple[float, float]] = []
        for offset in range(-1, _SEARCHED):
            day = today + timedelta(days=offset)
            if self.days and DAYS[day.weekday()] not in self.days:
                continue
            last = day if end > begin else day + timedelta(days=1)
            spans.append((datetime.combine(day, begin, zone).timestamp(), datetime.combine(last, end, zone).timestamp()))
        return spans

    def as_document(self) -> dict[str, Any]:
        """The keys that are set, for listings."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
