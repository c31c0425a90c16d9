"""Why the answer is no. Two closed vocabularies: what owners and the ledger learn, and what agencies learn.

What must look alike to an agency maps to one word. Silence, absence and refusal are all ``pending`` (later
``no_answer``); only an operator's own faults get clear words, since those give nothing away.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class DenialReason(StrEnum):
    """For owners and the ledger: the first rule that failed."""

    LEDGER_UNAVAILABLE = "ledger-unavailable"
    NOT_AN_OWNER = "not-an-owner"
    UNKNOWN_AGENCY = "unknown-agency"
    AGENCY_BLOCKED = "agency-blocked"
    TIME_UNTRUSTED = "time-untrusted"
    BADGE_EXPIRED = "badge-expired"
    REQUEST_STALE = "request-stale"
    UNKNOWN_CAMERA = "unknown-camera"
    CAMERA_AWAY = "camera-away"
    SHUTTER_CLOSED = "shutter-closed"
    UNCONFIRMED_SINCE_BOOT = "unconfirmed-since-boot"
    RULE_DENIES = "rule-denies"
    RULE_REQUIRES_ALARM = "rule-requires-alarm"
    NO_TOKEN = "no-token"
    LAPSED = "lapsed"
    TOKEN_REVOKED = "token-revoked"
    TOKEN_SUPERSEDED = "token-superseded"
    TOKEN_NOT_YET = "token-not-yet"
    TOKEN_EXPIRED = "token-expired"
    TOKEN_USED_UP = "token-used-up"
    TOKEN_FOR_ANOTHER = "token-for-another"
    OUTSIDE_SCOPE = "outside-scope"
    OUTSIDE_WINDOW = "outside-window"
    NEEDS_ALARM = "needs-alarm"
    UNSUPPORTED = "unsupported"
    TOO_MANY_VIEWERS = "too-many-viewers"
    VIEWER_GONE = "viewer-gone"
    NET_LOST = "net-lost"
    INTERRUPTED = "interrupted"
    MEDIA_FAILED = "media-failed"
    CHARTER_CHANGED = "charter-changed"


class AgencyReason(StrEnum):
    """Everything an agency may ever learn about a request."""

    GRANTED = "granted"
    PENDING = "pending"
    NO_ANSWER = "no_answer"
    DENIED = "denied"
    ENDED_EXPIRED = "ended_expired"
    ENDED_BY_OWNER = "ended_by_owner"
    ENDED_CONDITIONS = "ended_conditions"
    BUSY = "busy"
    STALE_REQUEST = "stale_request"
    BAD_BADGE = "bad_badge"
    UNSUPPORTED = "unsupported"


_CLEAR: Final = {
    DenialReason.BADGE_EXPIRED: AgencyReason.BAD_BADGE,
    DenialReason.REQUEST_STALE: AgencyReason.STALE_REQUEST,
    DenialReason.TOO_MANY_VIEWERS: AgencyReason.BUSY,
    DenialReason.UNSUPPORTED: AgencyReason.UNSUPPORTED,
}

_ENDED_BY_OWNER: Final = frozenset(
    {
        DenialReason.TOKEN_REVOKED,
        DenialReason.TOKEN_SUPERSEDED,
        DenialReason.AGENCY_BLOCKED,
        DenialReason.SHUTTER_CLOSED,
        DenialReason.UNKNOWN_AGENCY,
    }
)
_ENDED_EXPIRED: Final = frozenset({DenialReason.TOKEN_EXPIRED, DenialReason.TOKEN_USED_UP})


def for_agency(reason: DenialReason, *, silent: AgencyReason) -> AgencyReason:
    """What the agency hears of a denial.

    ``silent`` is the charter's word for everything that must look alike: ``pending`` or ``denied``.
    """
    return _CLEAR.get(reason, silent)


def for_ended(reason: DenialReason) -> AgencyReason:
    """What the agency hears when a running session ends for this reason."""
    if reason in _ENDED_BY_OWNER:
        return AgencyReason.ENDED_BY_OWNER
    if reason in _ENDED_EXPIRED:
        return AgencyReason.ENDED_EXPIRED
    return AgencyReason.ENDED_CONDITIONS
