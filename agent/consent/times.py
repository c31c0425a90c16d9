"""Moments and intervals. Wall time is an integer of UTC nanoseconds since 1970, and seldom known exactly."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.errors import DocumentError

SECOND_NS: Final = 1_000_000_000
_WRITTEN: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z\Z", re.ASCII)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class TimeQuality(StrEnum):
    """How far the device may believe what time it is (design section 4)."""

    AUTHENTICATED = "authenticated"
    PLAUSIBLE = "plausible"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Interval:
    """The true time lies within [earliest_ns, latest_ns]; a condition holds only if it holds on all of it."""

    earliest_ns: int
    latest_ns: int
    quality: TimeQuality


def parse(text: str, where: str) -> int:
    """Read RFC 3339 in UTC with whole seconds, ``2026-01-31T12:00:00Z``, to UTC nanoseconds.

    Raises:
        DocumentError: Written otherwise, or no such moment (no leap seconds).
    """
    match = _WRITTEN.match(text)
    if not match:
        raise DocumentError(f"{where} (got {text[:40]!r}, expected a time like 2026-01-31T12:00:00Z)")
    year, month, day, hour, minute, second = (int(part) for part in match.groups())
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError as error:
        raise DocumentError(f"{where} (got {text!r}, which does not exist)") from error
    return (moment - _EPOCH) // dt.timedelta(seconds=1) * SECOND_NS


def written(utc_ns: int) -> str:
    """The moment as documents write it; fractions of a second are cut off."""
    moment = _EPOCH + dt.timedelta(seconds=utc_ns // SECOND_NS)
    # Not strftime: it writes years before 1000 with less than four digits.
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
