"""How the command says things to people: fingerprints, sizes, times, reasons."""

from __future__ import annotations

import datetime as dt
import json
from typing import Final

import click

from agent.consent import times
from agent.consent.reasons import DenialReason
from agent.consent.times import SECOND_NS

_GROUP: Final = 4
_DIGITS: Final = 32
_KILO: Final = 1000


def fingerprint(key_id: str) -> str:
    """A key id for comparing by eye: 32 hex digits in groups of four."""
    digits = key_id.removeprefix("sha256:")[:_DIGITS]
    return " ".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < _KILO:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _KILO
    return f"{amount:.1f} TB"


def count(number: int, one: str, many: str) -> str:
    """``1 entry``, ``2 entries``."""
    return f"{number} {one if number == 1 else many}"


def local_time(utc_ns: int | None) -> str:
    """A moment in the local zone, which it names: what people export is read elsewhere."""
    if utc_ns is None:
        return "unknown time"
    moment = dt.datetime.fromtimestamp(utc_ns // SECOND_NS, dt.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z")


def written_time(text: object) -> str:
    """A moment as a device or a document writes it, in the local zone."""
    return local_time(times.parse(text, "time") if isinstance(text, str) else None)


def length(seconds: float) -> str:
    """A duration for people: ``90 s``, ``15 min``, ``2 min 30 s``, ``1 h``, ``1 h 5 min``."""
    whole = round(seconds)
    if whole < 120 and whole != 60:  # noqa: PLR2004 - up to two minutes read better in seconds
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, sort_keys=True))


REASONS: Final = {
    "granted": "granted",
    DenialReason.LEDGER_UNAVAILABLE: "the ledger could not record it",
    DenialReason.NOT_AN_OWNER: "the device has no household yet",
    DenialReason.UNKNOWN_AGENCY: "the agency is not in your charter",
    DenialReason.AGENCY_BLOCKED: "you have blocked the agency",
    DenialReason.TIME_UNTRUSTED: "the device does not know what time it is",
    DenialReason.BADGE_EXPIRED: "the operator's badge is not valid",
    DenialReason.REQUEST_STALE: "the request has lapsed",
    DenialReason.UNKNOWN_CAMERA: "there is no such camera",
    DenialReason.CAMERA_AWAY: "the camera delivers no picture",
    DenialReason.SHUTTER_CLOSED: "your privacy shutter is closed",
    DenialReason.UNCONFIRMED_SINCE_BOOT: "nobody has confirmed the ledger since the device started",
    DenialReason.RULE_DENIES: "a rule of your household says no",
    DenialReason.RULE_REQUIRES_ALARM: "a rule of your household wants the alarm on",
    DenialReason.NO_TOKEN: "nobody has consented",
    DenialReason.LAPSED: "nobody answered in time",
    DenialReason.TOKEN_REVOKED: "you have revoked the consent",
    DenialReason.TOKEN_SUPERSEDED: "you have revoked everything given before",
    DenialReason.TOKEN_NOT_YET: "the consent has not begun",
    DenialReason.TOKEN_EXPIRED: "the consent has ended",
    DenialReason.TOKEN_USED_UP: "the consent is used up",
    DenialReason.TOKEN_FOR_ANOTHER: "the consent is for somebody else",
    DenialReason.OUTSIDE_SCOPE: "the consent does not cover it",
    DenialReason.OUTSIDE_WINDOW: "the consent does not count at this hour",
    DenialReason.NEEDS_ALARM: "the consent counts only while your alarm is on",
    DenialReason.UNSUPPORTED: "this device cannot show it as agreed",
    DenialReason.TOO_MANY_VIEWERS: "as many are watching as may",
    DenialReason.VIEWER_GONE: "the viewer went away",
    DenialReason.NET_LOST: "the device's network process ended",
    DenialReason.INTERRUPTED: "the device stopped in the middle of it",
    DenialReason.MEDIA_FAILED: "the picture could not be made",
    DenialReason.CHARTER_CHANGED: "the charter was changed",
}


def reason(word: object) -> str:
    """A `DenialReason` in words; a word nobody knows is shown as it is."""
    return REASONS.get(str(word), str(word))
