"""What an operator reads. The one place where `AgencyReason` becomes words."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from agent.consent.reasons import AgencyReason
from agent.consent.times import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Mapping

_MINUTE_S: Final = 60
_WORDS: Final[Mapping[AgencyReason, str]] = {
    AgencyReason.GRANTED: "granted",
    AgencyReason.PENDING: "pending: no answer yet",
    AgencyReason.NO_ANSWER: "no answer in time",
    AgencyReason.DENIED: "denied",
    AgencyReason.ENDED_EXPIRED: "ended: the agreed time is over",
    AgencyReason.ENDED_BY_OWNER: "ended by the owner",
    AgencyReason.ENDED_CONDITIONS: "ended: something it depended on has changed",
    AgencyReason.BUSY: "busy: too many requests or viewers at the moment",
    AgencyReason.STALE_REQUEST: "stale: too old, used before, or this computer's clock is wrong",
    AgencyReason.BAD_BADGE: "bad badge: not valid at this moment",
    AgencyReason.UNSUPPORTED: "unsupported: this device cannot show what was asked",
}
_HINTS: Final[Mapping[AgencyReason, str]] = {
    AgencyReason.PENDING: "the owners may still answer: doorward agency requests --fetch",
    AgencyReason.NO_ANSWER: "ask again with a longer --lifetime if it still matters",
    AgencyReason.BUSY: "try again in a minute",
    AgencyReason.STALE_REQUEST: "compare this computer's clock with a good one, then ask again",
    AgencyReason.BAD_BADGE: "renew it (doorward agency badge) and check this computer's clock",
    AgencyReason.UNSUPPORTED: "ask for less: another camera, a smaller picture",
}


def words(reason: AgencyReason) -> str:
    """One line for an operator."""
    return _WORDS[reason]


def hint(reason: AgencyReason) -> str | None:
    """What the operator can do about it, if anything."""
    return _HINTS.get(reason)


def not_shown(reason: AgencyReason) -> tuple[str, str | None]:
    """Words and hint for an offer that was refused: it was granted once, so silence means something else."""
    if reason in {AgencyReason.PENDING, AgencyReason.DENIED}:
        return (
            "granted before, and nothing is shown now",
            "the owners may have taken it back or closed their shutter; ask again",
        )
    return words(reason), hint(reason)


def granted(until_ns: int, seconds: int, now_ns: int) -> str:
    """``granted until 14:32:10 (15 min)``: UTC nanoseconds of the end, and seconds at a stretch."""
    if until_ns <= now_ns:
        return f"granted, and over since {clock(until_ns, now_ns)}"
    return f"granted until {clock(until_ns, now_ns)} ({duration(seconds)})"


def clock(utc_ns: int, now_ns: int) -> str:
    """A moment in the machine's own time zone; with its date if that is not today's."""
    moment = _local(utc_ns)
    if moment.date() == _local(now_ns).date():
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: int) -> str:
    """``45 s``, ``15 min`` or ``1 min 30 s``."""
    minutes, rest = divmod(seconds, _MINUTE_S)
    parts = [f"{minutes} min"] if minutes else []
    if rest or not minutes:
        parts.append(f"{rest} s")
    return " ".join(parts)


def _local(utc_ns: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(utc_ns // SECOND_NS, dt.UTC).astimezone()
