"""Weekly hours as people type them: ``mon-fri 08:00-18:00``. The inverse of `agent.cli.sentences.window`."""

from __future__ import annotations

import os
import re
from typing import Final

from agent import zones
from agent.consent.windows import DAY_MINUTES, Day, Weekly, Window
from agent.errors import MalformedInput

_DAYS: Final = tuple(Day)
_CLOCKS: Final = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)\Z", re.ASCII)
_ZONE_LINK: Final = "/etc/localtime"
_EXPECTED: Final = (
    "expected something like 'mon-fri 08:00-18:00', 'sat sun 22:00-06:00' or 'daily 0:00-24:00'"
)


def parse_window(text: str) -> Window:
    """One window; past midnight if it ends no later than it begins.

    Raises:
        MalformedInput: Something else.
    """
    *named, clocks = text.lower().replace(",", " ").split() or [""]
    match = _CLOCKS.match(clocks)
    days = [day for name in named for day in _days(name, text)]
    if not match or not days or len(set(days)) != len(days):
        raise MalformedInput(f"window: got {text[:60]!r}, {_EXPECTED}")
    begin, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
    if begin > DAY_MINUTES - 1 or end > DAY_MINUTES:
        raise MalformedInput(f"window: got {text[:60]!r}, {_EXPECTED}")
    return Window(tuple(sorted(days, key=_DAYS.index)), begin, end % DAY_MINUTES)


def _days(name: str, text: str) -> list[Day]:
    if name == "daily":
        return list(_DAYS)
    first, dash, last = name.partition("-")
    last = last if dash else first
    known = {str(day): number for number, day in enumerate(_DAYS)}
    if first not in known or last not in known:
        raise MalformedInput(f"window: got {text[:60]!r}, {_EXPECTED}")
    begin, end = known[first], known[last]
    # fri-mon runs over the end of the week.
    return [_DAYS[number % len(_DAYS)] for number in range(begin, end + 1 if begin <= end else end + 8)]


def weekly(windows: tuple[str, ...], zone: str | None) -> Weekly | None:
    """The windows of ``--window`` in the zone of ``--zone``, by default this machine's; None without windows.

    Raises:
        MalformedInput: A window that is none, a zone nobody knows, or none to be found.
    """
    if not windows:
        return None
    name = zone or local_zone()
    if name is None:
        raise MalformedInput("window: in which time zone? (say --zone Europe/Madrid)")
    if name not in zones.load({name}):
        raise MalformedInput(f"zone: got {name[:60]!r}, which this machine does not know")
    return Weekly(name, tuple(parse_window(each) for each in windows))


def local_zone() -> str | None:
    """The name of this machine's time zone, if it has one."""
    named = os.environ.get("TZ", "").removeprefix(":")
    if named:
        return named if named in zones.load({named}) else None
    try:
        target = os.path.realpath(_ZONE_LINK, strict=True)
    except OSError:
        return None
    _, found, name = target.partition("/zoneinfo/")
    return name if found and name in zones.load({name}) else None
