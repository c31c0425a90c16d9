"""Owners' cards: nobody carries in a key that is not theirs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.consent.charter import DailyKey, Owner
from agent.consent.envelope import PayloadType
from agent.consent.owner_card import OwnerCard, verify_owner_card
from agent.errors import DocumentError, SignatureError
from tests.support.household import ANN, BEN, public, sign, x

ARCHIVE = public(x("Ben daily 0"))
CARD = OwnerCard(
    "Ben", public(BEN.root), public(x("Ben recovery")), DailyKey("phone", public(BEN.daily()), ARCHIVE)
)


def test_card_signed_by_root_and_daily_key_names_an_owner_for_a_charter() -> None:
    card = verify_owner_card(sign(PayloadType.OWNER_CARD, CARD.payload(), BEN.root, BEN.daily()))
    assert card == CARD
    assert card.owner == Owner("Ben", CARD.root, CARD.recovery, (CARD.daily,))


@pytest.mark.parametrize("keys", [(BEN.root,), (BEN.daily(),), (BEN.root, BEN.root), (ANN.root, ANN.daily())])
def test_card_that_not_both_of_its_keys_signed_is_refused(keys: tuple[object, ...]) -> None:
    with pytest.raises(SignatureError):
        verify_owner_card(sign(PayloadType.OWNER_CARD, CARD.payload(), *keys))  # type: ignore[arg-type]


def test_foreign_daily_key_beside_ones_own_root_is_refused() -> None:
    stolen = replace(CARD, daily=DailyKey("phone", public(ANN.daily()), ARCHIVE))
    with pytest.raises(SignatureError, match="both"):
        verify_owner_card(sign(PayloadType.OWNER_CARD, stolen.payload(), BEN.root, BEN.daily()))


def test_one_key_in_both_roles_is_refused() -> None:
    once = replace(CARD, daily=DailyKey("phone", CARD.root, ARCHIVE))
    with pytest.raises(SignatureError, match="both"):
        verify_owner_card(sign(PayloadType.OWNER_CARD, once.payload(), BEN.root))


def test_signatures_for_another_kind_of_document_do_not_make_a_card() -> None:
    with pytest.raises(DocumentError, match="payload type"):
        verify_owner_card(sign(PayloadType.CARD, CARD.payload(), BEN.root, BEN.daily()))


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("from", "sha256:" + "0" * 64, "from"),
        ("to", "devices", "to"),
        ("name", "", "name"),
        ("name", "n" * 61, "name"),
        ("label", "l" * 61, "label"),
        ("root", "AAAA", "root"),
        ("recovery", "A" * 43 + "=", "recovery"),
        ("archive", "A" * 43 + "=", "archive"),
        ("signing", None, "signing"),
        ("more", 1, "unknown field"),
    ],
)
def test_malformed_card_is_refused_with_the_field(field: str, value: object, match: str) -> None:
    changed = {**json.loads(CARD.payload()), field: value}
    with pytest.raises(DocumentError, match=match):
        verify_owner_card(sign(PayloadType.OWNER_CARD, changed, BEN.root, BEN.daily()))


def test_longest_name_and_label_are_taken() -> None:
    longest = replace(CARD, name="n" * 60, daily=replace(CARD.daily, label="l" * 60))
    assert (
        verify_owner_card(sign(PayloadType.OWNER_CARD, longest.payload(), BEN.root, BEN.daily())) == longest
    )
