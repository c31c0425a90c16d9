"""Tokens and revocations: who may grant how much, and that anyone of the household may take it back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.consent import token
from agent.consent.envelope import PayloadType
from agent.consent.footage import MaxAge, Stretch
from agent.consent.rules import Mode, PurposeKind
from agent.consent.times import SECOND_NS
from agent.consent.token import SMALLEST_HEIGHT, Purpose
from agent.errors import DocumentError, SignatureError
from tests.support.household import ANN, BEN, HOUR_NS, NOON, POLICE, Home, ed, sign

HOME = Home()
CHARTER = HOME.charter()
BOTH = Home(changes={"granting": 2})
STANDING = Purpose(PurposeKind.STANDING, "GATE")
TOKEN_ID = "sha256:" + "1" * 64


def test_token_below_the_granting_threshold_is_refused() -> None:
    strict = BOTH.charter()
    for signers in ([ANN.root], [ANN.daily(), ANN.daily(1)], [ANN.root, ANN.daily(), ANN.daily(1)]):
        with pytest.raises(SignatureError, match="got 1, expected 2"):
            token.verify(BOTH.signed_token(*signers), strict)
    token.verify(BOTH.signed_token(ANN.daily(), BEN.daily()), strict)


def test_token_signed_by_nobody_of_the_household_is_refused() -> None:
    for signer in (ed("stranger"), POLICE.signing, HOME.keys.signing):
        with pytest.raises(SignatureError):
            token.verify(HOME.signed_token(signer), CHARTER)


@pytest.mark.parametrize("seconds", [3601, 24 * 3600])
def test_daily_keys_grant_no_longer_than_their_limit(seconds: int) -> None:
    scope = {"not_before_ns": NOON, "not_after_ns": NOON + seconds * SECOND_NS}
    with pytest.raises(SignatureError, match="too long for daily keys"):
        token.verify(HOME.signed_token(ANN.daily(), BEN.daily(), scope=scope), CHARTER)
    token.verify(HOME.signed_token(ANN.root, scope=scope), CHARTER)


def test_daily_keys_grant_exactly_their_limit() -> None:
    scope = {"not_before_ns": NOON, "not_after_ns": NOON + HOUR_NS}
    token.verify(HOME.signed_token(ANN.daily(), scope=scope), CHARTER)


def test_daily_keys_grant_no_standing_token_unless_the_charter_says_so() -> None:
    with pytest.raises(SignatureError, match="standing"):
        token.verify(HOME.signed_token(ANN.daily(), purpose=STANDING), CHARTER)
    token.verify(HOME.signed_token(ANN.root, purpose=STANDING), CHARTER)
    generous = Home(changes={"daily_limits": {"max_seconds": 3600, "standing": True}})
    token.verify(generous.signed_token(ANN.daily(), purpose=STANDING), generous.charter())


@pytest.mark.parametrize(
    "scope",
    [
        {"mode": Mode.FOOTAGE, "footage": Stretch(NOON, NOON)},
        {"mode": Mode.FOOTAGE, "footage": Stretch(NOON, NOON - HOUR_NS)},
        {"mode": Mode.FOOTAGE, "footage": MaxAge(0)},
        {"mode": Mode.LIVE, "footage": MaxAge(3600)},
        {"mode": Mode.LIVE, "footage": Stretch(NOON - HOUR_NS, NOON)},
    ],
)
def test_footage_that_is_none_or_of_a_live_token_is_refused(scope: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="footage"):
        token.verify(HOME.signed_token(ANN.root, scope=scope), CHARTER)


def test_footage_says_an_interval_or_an_age_and_not_both() -> None:
    value = json.loads(HOME.token(scope={"mode": Mode.FOOTAGE, "footage": MaxAge(60)}).payload())
    value["scope"]["footage"] |= Stretch(NOON - HOUR_NS, NOON).to_json()
    with pytest.raises(DocumentError, match="footage"):
        token.verify(sign(PayloadType.TOKEN, value, ANN.root), CHARTER)


def test_one_root_key_does_not_lift_the_limit_where_two_owners_grant() -> None:
    scope = {"not_after_ns": NOON + 24 * HOUR_NS}
    strict = BOTH.charter()
    with pytest.raises(SignatureError, match="too long"):
        token.verify(BOTH.signed_token(ANN.root, BEN.daily(), scope=scope), strict)
    token.verify(BOTH.signed_token(ANN.root, BEN.root, scope=scope), strict)


def test_daily_limit_of_nothing_lets_daily_keys_grant_nothing() -> None:
    closed = Home(changes={"daily_limits": {"max_seconds": 0, "standing": False}})
    scope = {"not_before_ns": NOON, "not_after_ns": NOON + SECOND_NS}
    with pytest.raises(SignatureError):
        token.verify(closed.signed_token(ANN.daily(), scope=scope), closed.charter())


def test_token_of_another_household_is_refused() -> None:
    with pytest.raises(DocumentError, match="another household"):
        token.verify(BOTH.signed_token(ANN.root, BEN.root), CHARTER)


def scope_of(**fields: Any) -> token.Scope:
    narrow = {
        "mode": "live",
        "cameras": ["front"],
        "not_before": "2026-01-31T12:00:00Z",
        "not_after": "2026-01-31T13:00:00Z",
    }
    value = json.loads(HOME.token().payload()) | {"scope": {**narrow, **fields}}
    return token.verify(sign(PayloadType.TOKEN, value, ANN.root), CHARTER).scope


def test_missing_scope_fields_take_the_narrowest_meaning() -> None:
    scope = scope_of()
    assert scope.areas == ()
    assert scope.max_height == SMALLEST_HEIGHT
    assert (scope.max_fps, scope.session_seconds, scope.total_seconds) == (1, 0, 0)
    assert (scope.sessions, scope.viewers) == (1, 1)
    assert scope_of(session_seconds=30).total_seconds == 30


def test_null_means_missing_and_so_the_narrowest() -> None:
    assert scope_of(areas=None, max_height=None, viewers=None) == scope_of()


def test_scope_that_ends_before_it_begins_or_has_no_camera_is_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"not_after": "2026-01-31T12:00:00Z"},
        {"not_after": "2026-01-31T11:59:59Z"},
        {"cameras": []},
    ]
    for fields in wrong:
        with pytest.raises(DocumentError):
            scope_of(**fields)


def test_anyone_of_the_household_revokes() -> None:
    for signer in (ANN.root, ANN.daily(1), BEN.root, BEN.daily()):
        assert token.verify_revocation(HOME.signed_revocation(signer), CHARTER).everything
    strict = BOTH.charter()
    assert token.verify_revocation(BOTH.signed_revocation(BEN.daily()), strict).everything


def test_nobody_else_revokes() -> None:
    for signer in (ed("stranger"), POLICE.signing, HOME.keys.signing):
        with pytest.raises(SignatureError):
            token.verify_revocation(HOME.signed_revocation(signer), CHARTER)


def test_revocation_says_what_it_is_about() -> None:
    one = token.verify_revocation(HOME.signed_revocation(token=TOKEN_ID), CHARTER)
    agency = token.verify_revocation(HOME.signed_revocation(agency=POLICE.key_id), CHARTER)
    assert (one.token, one.agency, one.everything) == (TOKEN_ID, None, False)
    assert (agency.token, agency.agency, agency.everything) == (None, POLICE.key_id, False)
    with pytest.raises(DocumentError, match="expected one of them"):
        token.verify_revocation(HOME.signed_revocation(token=TOKEN_ID, agency=POLICE.key_id), CHARTER)


def test_revocation_of_another_household_is_refused() -> None:
    with pytest.raises(DocumentError, match="another household"):
        token.verify_revocation(BOTH.signed_revocation(BEN.daily()), CHARTER)


def test_statement_stands_in_a_token_as_its_hash_alone() -> None:
    purpose = Purpose(PurposeKind.INCIDENT, "CASE-1", statement="sha256:" + "2" * 64)
    granted = token.verify(HOME.signed_token(ANN.root, purpose=purpose, re=TOKEN_ID), CHARTER)
    assert granted.purpose == purpose
    assert granted.re == TOKEN_ID
    assert purpose.to_json()["statement"] == purpose.statement
