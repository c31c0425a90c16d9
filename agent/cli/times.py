"""Durations and moments as people type them. One reader for every command."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from agent.consent.times import SECOND_NS
from agent.errors import ConfigError

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_DURATION: Final = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?\Z", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,9}\Z", re.ASCII)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def parse_duration(text: str) -> int:
    """Seconds in ``90s``, ``15m``, ``1h``, ``7d`` or ``1h30m``; a bare number is seconds.

    Raises:
        ConfigError: Anything else, or no time at all.
    """
    match = _DURATION.match(text)
    seconds = 0
    if _NUMBER.match(text):
        seconds = int(text)
    elif match:
        parts = zip(reversed(_UNITS_S.values()), match.groups(), strict=True)
        seconds = sum(unit * int(part) for unit, part in parts if part)
    if not seconds:
        raise ConfigError(f"duration: got {text[:40]!r}, expected something like 90s, 15m, 1h30m or 7d")
    return seconds


def parse_moment(text: str, now_utc_ns: int) -> int:
    """UTC nanoseconds since 1970 of ``now``, ``-10m``, ``+1h`` or a time in ISO 8601.

    A time without a zone is in the time zone of this machine; a date alone is its midnight there.

    Raises:
        ConfigError: Anything else, or a moment before 1970.
    """
    if text == "now":
        return now_utc_ns
    if text[:1] in {"+", "-"}:
        seconds = parse_duration(text[1:])
        moment_ns = now_utc_ns + (seconds if text[0] == "+" else -seconds) * SECOND_NS
    else:
        moment_ns = _iso(text)
    if moment_ns < 0:
        raise ConfigError(f"time: got {text[:40]!r}, which is before 1970")
    return moment_ns


def _iso(text: str) -> int:
    try:
        # A naive value is local time to `astimezone`.
        moment = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"time: got {text[:40]!r}, expected 2026-01-31T12:00, 2026-01-31T12:00:00Z, now or -10m"
        ) from error
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000
