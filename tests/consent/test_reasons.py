"""What an agency may learn of a refusal: what must look alike is one word."""

from __future__ import annotations

import pytest

from agent.consent.reasons import AgencyReason, DenialReason, for_agency, for_ended

OWN_FAULTS = {
    DenialReason.BADGE_EXPIRED: AgencyReason.BAD_BADGE,
    DenialReason.REQUEST_STALE: AgencyReason.STALE_REQUEST,
    DenialReason.TOO_MANY_VIEWERS: AgencyReason.BUSY,
    DenialReason.UNSUPPORTED: AgencyReason.UNSUPPORTED,
}


@pytest.mark.parametrize("silent", [AgencyReason.PENDING, AgencyReason.DENIED])
def test_everything_but_the_askers_own_faults_is_one_word(silent: AgencyReason) -> None:
    for reason in DenialReason:
        assert for_agency(reason, silent=silent) is OWN_FAULTS.get(reason, silent), reason


def test_end_of_a_session_tells_owner_from_time_from_the_rest() -> None:
    words = {reason: for_ended(reason) for reason in DenialReason}
    assert set(words.values()) == {
        AgencyReason.ENDED_BY_OWNER,
        AgencyReason.ENDED_EXPIRED,
        AgencyReason.ENDED_CONDITIONS,
    }
    assert words[DenialReason.TOKEN_REVOKED] is AgencyReason.ENDED_BY_OWNER
    assert words[DenialReason.SHUTTER_CLOSED] is AgencyReason.ENDED_BY_OWNER
    assert words[DenialReason.TOKEN_EXPIRED] is AgencyReason.ENDED_EXPIRED
    assert words[DenialReason.LEDGER_UNAVAILABLE] is AgencyReason.ENDED_CONDITIONS


def test_shutter_revocation_and_block_end_a_session_in_the_same_word() -> None:
    alike = (
        DenialReason.SHUTTER_CLOSED,
        DenialReason.TOKEN_REVOKED,
        DenialReason.TOKEN_SUPERSEDED,
        DenialReason.AGENCY_BLOCKED,
    )
    assert {for_ended(reason) for reason in alike} == {AgencyReason.ENDED_BY_OWNER}
