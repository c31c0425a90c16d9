"""Badges, requests and offers: who vouches for whom, for how long, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from agent.consent import handshake
from agent.consent.envelope import PayloadType
from agent.consent.fields import encode_bytes
from agent.consent.handshake import Answer, Decision
from agent.consent.reasons import AgencyReason
from agent.consent.times import SECOND_NS
from agent.errors import DocumentError, SignatureError
from tests.support.household import (
    HOUR_NS,
    NOON,
    OTHER_BODY,
    POLICE,
    Home,
    device_keys,
    ed,
    public,
    sign,
    signed_offer,
    signed_request,
)

HOME = Home()
CHARTER = HOME.charter()
AGENCY, OTHER_AGENCY = CHARTER.agencies
DAY_NS = 24 * HOUR_NS
BOX = device_keys()


@pytest.mark.parametrize("days", [7 + 1, 0, -1])
def test_badge_for_no_time_or_more_than_seven_days_is_refused(days: int) -> None:
    badge = POLICE.signed_badge(not_before_ns=NOON, not_after_ns=NOON + days * DAY_NS)
    with pytest.raises(DocumentError, match="validity"):
        handshake.verify_badge(badge, AGENCY)


def test_badge_for_exactly_seven_days_is_read() -> None:
    handshake.verify_badge(POLICE.signed_badge(not_before_ns=NOON, not_after_ns=NOON + 7 * DAY_NS), AGENCY)


def test_badge_of_another_agency_is_refused() -> None:
    with pytest.raises(SignatureError):
        handshake.verify_badge(OTHER_BODY.signed_badge(), AGENCY)
    claiming = sign(PayloadType.BADGE, POLICE.badge().payload(), OTHER_BODY.signing)
    with pytest.raises(SignatureError):
        handshake.verify_badge(claiming, AGENCY)
    with pytest.raises(DocumentError):
        handshake.verify_badge(sign(PayloadType.BADGE, OTHER_BODY.badge().payload(), POLICE.signing), AGENCY)


def test_badge_for_a_key_under_which_anybody_signs_is_refused() -> None:
    with pytest.raises(DocumentError, match="no usable"):
        handshake.verify_badge(POLICE.signed_badge(key=bytes(32)), AGENCY)


def test_operators_document_signed_by_another_operator_is_refused() -> None:
    request = HOME.request()
    with pytest.raises(SignatureError):
        handshake.verify_request(signed_request(request, operator="Lee"), AGENCY)
    with pytest.raises(SignatureError):
        handshake.verify_request(sign(PayloadType.REQUEST, request.payload(), POLICE.signing), AGENCY)


def test_operator_of_one_agency_asks_for_no_other() -> None:
    request = HOME.request(body=OTHER_BODY)
    handshake.verify_request(signed_request(request), OTHER_AGENCY)
    with pytest.raises(SignatureError):
        handshake.verify_request(signed_request(request), AGENCY)
    borrowed = HOME.request(badge=POLICE.badge("Lee"), badge_envelope=POLICE.signed_badge("Lee"))
    with pytest.raises(SignatureError):
        handshake.verify_request(signed_request(borrowed, operator="Kim"), AGENCY)


@pytest.mark.parametrize("seconds", [0, -1, 24 * 3600 + 1])
def test_request_that_lives_for_no_time_or_more_than_a_day_is_refused(seconds: int) -> None:
    request = HOME.request(expires_at_ns=NOON + seconds * SECOND_NS)
    with pytest.raises(DocumentError, match="lifetime"):
        handshake.verify_request(signed_request(request), AGENCY)


@pytest.mark.parametrize("seconds", [0, -1, 31])
def test_offer_that_lives_for_no_time_or_more_than_half_a_minute_is_refused(seconds: int) -> None:
    offer = HOME.offer(HOME.request(), HOME.token(), expires_at_ns=NOON + seconds * SECOND_NS)
    with pytest.raises(DocumentError, match="lifetime"):
        handshake.verify_offer(signed_offer(offer), AGENCY)


def test_offer_that_wants_to_send_is_refused() -> None:
    sdp = HOME.offer(HOME.request(), HOME.token()).sdp.replace("a=recvonly", "a=sendrecv")
    with pytest.raises(DocumentError, match="direction"):
        handshake.verify_offer(signed_offer(HOME.offer(HOME.request(), HOME.token(), sdp=sdp)), AGENCY)


def test_reply_key_that_nothing_can_be_sealed_to_is_refused() -> None:
    request = HOME.request(reply_key=bytes(32))
    with pytest.raises(DocumentError, match="reply_key"):
        handshake.verify_request(signed_request(request), AGENCY)


def test_request_larger_than_a_request_is_refused_before_anything_is_checked() -> None:
    large = sign(PayloadType.REQUEST, b'{"x":"' + b"x" * 40_000 + b'"}', ed("stranger"))
    with pytest.raises(DocumentError, match="too large"):
        handshake.verify_request(large, AGENCY)


def test_badge_inside_must_be_the_one_that_was_checked() -> None:
    value: dict[str, Any] = {"badge": encode_bytes(POLICE.signed_badge()), "from": "x"}
    with pytest.raises(DocumentError, match=r"request\.from"):
        handshake.verify_request(sign(PayloadType.REQUEST, value, ed("Kim")), AGENCY)


def test_decision_and_answer_that_refuse_carry_nothing() -> None:
    decision = Decision("", BOX.device, POLICE.key_id, HOME.household, BOX.device, AgencyReason.PENDING, None)
    answer = Answer("", BOX.device, POLICE.key_id, HOME.household, BOX.device, AgencyReason.DENIED)
    read = handshake.verify_decision(
        sign(PayloadType.DECISION, decision.payload(), BOX.signing), BOX.signing_public
    )
    assert read.token is None
    refused = handshake.verify_answer(
        sign(PayloadType.ANSWER, answer.payload(), BOX.signing), BOX.signing_public
    )
    assert (refused.session, refused.sdp, refused.permit_seconds, refused.receipt) == (None,) * 4


def test_device_documents_of_another_device_are_refused() -> None:
    decision = Decision("", BOX.device, POLICE.key_id, HOME.household, BOX.device, AgencyReason.PENDING, None)
    other = device_keys("other")
    with pytest.raises(SignatureError):
        handshake.verify_decision(
            sign(PayloadType.DECISION, decision.payload(), other.signing), BOX.signing_public
        )
    with pytest.raises(DocumentError):
        handshake.verify_decision(
            sign(PayloadType.DECISION, decision.payload(), other.signing), other.signing_public
        )


def test_operator_is_known_by_the_key_in_the_badge() -> None:
    badge = handshake.verify_badge(POLICE.signed_badge(), AGENCY)
    assert badge.key == public(ed("Kim"))
