"""Weekly windows in a named time zone, across midnight and through changes of the clock.

A window says on which days and between which local times, to the minute: ``mon``, 22:00 to 06:00 begins on
Monday evening and ends on Tuesday morning. Whether it holds at an instant is read off the local clock at that
instant, as a person in that zone would: an hour that the clock skips never comes, an hour that it repeats
comes twice. Equal times ``from`` and ``to`` mean the whole day.

Zones are handed in as ``tzinfo`` objects by whoever may read files. A zone that was not handed in holds never
for what permits, and always for what denies: `Weekly.holds_throughout` and `Weekly.may_hold`.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.consent.fields import Fields
from agent.consent.times import SECOND_NS
from agent.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.consent.times import Interval

MAX_WINDOWS: Final = 21
MINUTE_S: Final = 60
DAY_MINUTES: Final = 24 * 60
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z", re.ASCII)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}\Z", re.ASCII)
_LONGEST_INTERVAL_S: Final = 24 * 3600
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Day(StrEnum):
    """Days of the week, Monday first."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_DAYS: Final = tuple(Day)


@dataclass(frozen=True, slots=True)
class Window:
    """On these days from this minute of the local day until that one; past midnight if it is not later."""

    days: tuple[Day, ...]
    from_minute: int
    to_minute: int

    def holds(self, day: int, minute: int) -> bool:
        """Whether it holds at a minute of a local day (0 is Monday)."""
        today = _DAYS[day] in self.days
        if self.from_minute < self.to_minute:
            return today and self.from_minute <= minute < self.to_minute
        yesterday = _DAYS[day - 1] in self.days
        return (today and minute >= self.from_minute) or (yesterday and minute < self.to_minute)

    def to_json(self) -> dict[str, object]:
        """As it stands in documents."""
        return {
            "days": [str(day) for day in self.days],
            "from": _written(self.from_minute),
            "to": _written(self.to_minute),
        }


@dataclass(frozen=True, slots=True)
class Weekly:
    """Windows in one zone; it holds where any of them holds. Without a window it never holds."""

    zone: str
    windows: tuple[Window, ...]

    @classmethod
    def parse(cls, value: object, where: str) -> Weekly:
        """Read it from a document.

        Raises:
            DocumentError: Malformed. Whether the zone exists is not known here.
        """
        fields = Fields(value, where)
        zone = fields.text("zone", max_chars=60)
        if not _ZONE.match(zone):
            raise DocumentError(f"{where}.zone (got {zone!r}, expected a name like Europe/Madrid)")
        weekly = cls(zone, fields.items("windows", _window, most=MAX_WINDOWS))
        fields.done()
        if not weekly.windows:
            raise DocumentError(f"{where}.windows: none (expected at least one)")
        return weekly

    def to_json(self) -> dict[str, object]:
        """As it stands in documents."""
        return {"zone": self.zone, "windows": [window.to_json() for window in self.windows]}

    def holds_throughout(self, now: Interval, zones: Mapping[str, dt.tzinfo]) -> bool:
        """Whether it certainly holds: at every moment of the interval."""
        zone = zones.get(self.zone)
        if zone is None or not self._is_short(now):
            return False
        first = now.earliest_ns // SECOND_NS
        last = now.latest_ns // SECOND_NS
        return self._at(first, zone) and self.flips_after(first, last, zone) is None

    def may_hold(self, now: Interval, zones: Mapping[str, dt.tzinfo]) -> bool:
        """Whether it possibly holds: at some moment of the interval, or nobody can say."""
        zone = zones.get(self.zone)
        if zone is None or not self._is_short(now):
            return True
        first = now.earliest_ns // SECOND_NS
        last = now.latest_ns // SECOND_NS
        return self._at(first, zone) or self.flips_after(first, last, zone) is not None

    def seconds_left(self, now: Interval, most: int, zones: Mapping[str, dt.tzinfo], *, holding: bool) -> int:
        """Whole seconds from the latest moment of ``now`` for which it surely stays so, at most ``most``.

        ``holding`` says which state is meant: True counts until it ends, False until it begins. Without its
        zone that is no time at all.
        """
        zone = zones.get(self.zone)
        start = -(-now.latest_ns // SECOND_NS)
        if zone is None or self._at(start, zone) is not holding:
            return 0
        flip = self.flips_after(start, start + most, zone)
        return most if flip is None else flip - start

    @staticmethod
    def _is_short(now: Interval) -> bool:
        """An interval longer than a day says nothing about the time of day."""
        return now.latest_ns - now.earliest_ns <= _LONGEST_INTERVAL_S * SECOND_NS

    def _at(self, second: int, zone: dt.tzinfo) -> bool:
        """Whether it holds at this second since 1970."""
        local = _local(second, zone)
        minute = local.hour * 60 + local.minute
        return any(window.holds(local.weekday(), minute) for window in self.windows)

    def flips_after(self, start: int, end: int, zone: dt.tzinfo) -> int | None:
        """The first second in (start, end] at which it begins or ends; None if there is none."""
        state = self._at(start, zone)
        before = start
        for second in self._edges(start, end, zone):
            # Between two edges the local clock runs evenly unless the zone's offset changes: an edge too.
            for edge in (*_offset_changes(before, second, zone), second):
                if start < edge <= end and self._at(edge, zone) is not state:
                    return edge
            before = second
        return None

    def _edges(self, start: int, end: int, zone: dt.tzinfo) -> Iterator[int]:
        """Seconds at which a local clock shows a boundary of a window, in order, then ``end``."""
        day = _local(start, zone).date() - dt.timedelta(days=1)
        last = _local(end, zone).date() + dt.timedelta(days=1)
        minutes = sorted({0, *(w.from_minute for w in self.windows), *(w.to_minute for w in self.windows)})
        found: set[int] = set()
        while day <= last:
            for minute in minutes:
                naive = dt.datetime.combine(day, dt.time(minute // 60, minute % 60))
                for fold in (0, 1):
                    found.add(_second(naive.replace(tzinfo=zone, fold=fold)))
            day += dt.timedelta(days=1)
        yield from sorted(second for second in found if start < second < end)
        yield end


def _local(second: int, zone: dt.tzinfo) -> dt.datetime:
    return (_EPOCH + dt.timedelta(seconds=second)).astimezone(zone)


def _second(moment: dt.datetime) -> int:
    return round((moment.astimezone(dt.UTC) - _EPOCH).total_seconds())


def _offset_changes(start: int, end: int, zone: dt.tzinfo) -> Iterator[int]:
    """The second at which the zone's offset changes between two seconds at most a day apart, if it does."""
    low, high = start, end
    if _local(low, zone).utcoffset() == _local(high, zone).utcoffset():
        return
    while high - low > 1:
        middle = (low + high) // 2
        if _local(middle, zone).utcoffset() == _local(low, zone).utcoffset():
            low = middle
        else:
            high = middle
    yield high


def _written(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _window(value: object, where: str) -> Window:
    fields = Fields(value, where)
    window = Window(fields.items("days", _day, most=7), _minute(fields, "from"), _minute(fields, "to"))
    fields.done()
    if not window.days or len(set(window.days)) != len(window.days):
        raise DocumentError(f"{where}.days: none, or one twice")
    return window


def _day(value: object, where: str) -> Day:
    if not isinstance(value, str) or value not in {str(day) for day in Day}:
        raise DocumentError(f"{where} (got {value!r}, expected mon, tue, wed, thu, fri, sat or sun)")
    return Day(value)


def _minute(fields: Fields, name: str) -> int:
    text = fields.text(name, max_chars=5)
    match = _CLOCK.match(text)
    if not match:
        raise DocumentError(f"{fields.path(name)} (got {text!r}, expected a time like 06:30)")
    return int(match[1]) * 60 + int(match[2])
