"""Cards and introductions: what an agency and a household know of each other, and what they do not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.consent import introduction
from agent.consent.envelope import PayloadType, key_id
from agent.consent.introduction import Card, Introduction
from agent.errors import DocumentError, SignatureError
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    POLICE,
    Home,
    device_keys,
    ed,
    id_of,
    public,
    sign,
    x,
)

HOME = Home()
BOX = device_keys()
CHARTER = HOME.charter()
MADE = introduction.of_charter(CHARTER, POLICE.key_id, {BOX.device: BOX.seal_public}, NOON + HOUR_NS)


def signed(made: Introduction, *signers: object) -> bytes:
    keys = [each for each in (ANN.root, BEN.root) if not signers or each in signers]
    return sign(PayloadType.INTRODUCTION, made.payload(), *keys)


def test_introduction_needs_the_governing_threshold_by_root_keys() -> None:
    assert introduction.verify_introduction(signed(MADE)) == MADE
    for keys in ((ANN.root,), (ANN.root, ANN.daily(), BEN.daily()), (ANN.daily(), BEN.daily())):
        with pytest.raises(SignatureError):
            introduction.verify_introduction(sign(PayloadType.INTRODUCTION, MADE.payload(), *keys))


def test_introduction_naming_a_key_twice_is_refused() -> None:
    twice = replace(MADE, deciders=(MADE.deciders[0], MADE.deciders[0]))
    with pytest.raises(DocumentError, match="stands twice"):
        introduction.verify_introduction(signed(twice))


def test_introduction_by_nobody_is_refused() -> None:
    with pytest.raises(SignatureError):
        introduction.verify_introduction(signed(replace(MADE, deciders=())))


def test_introduction_names_no_person_and_shows_no_picture() -> None:
    text = MADE.payload().decode()
    assert not any(word in text for word in ("Ann", "Ben", "phone", "polygon", "never"))
    assert '"street"' in text


def test_introduction_counts_distinct_owners_and_knows_its_devices() -> None:
    assert MADE.distinct(frozenset({id_of(ANN.root), id_of(ANN.daily()), id_of(ANN.daily(1))})) == 1
    assert MADE.distinct(frozenset({id_of(ANN.daily()), id_of(BEN.root)})) == 2
    assert MADE.distinct(frozenset({id_of(ed("stranger"))})) == 0
    assert set(MADE.signing_keys()) == set(CHARTER.owner_keys())
    device = MADE.device(BOX.device)
    assert device is not None
    assert device.seal == BOX.seal_public
    assert MADE.device(id_of(ed("stranger"))) is None


def test_device_without_a_known_seal_key_is_left_out() -> None:
    assert introduction.of_charter(CHARTER, POLICE.key_id, {}, NOON).devices == ()


def test_other_document_is_no_introduction() -> None:
    with pytest.raises(DocumentError, match="another kind"):
        introduction.verify_introduction(HOME.signed_charter())


def test_card_vouches_for_itself_alone() -> None:
    card = Card("Control Room", public(POLICE.signing), public(POLICE.seal))
    assert introduction.verify_card(sign(PayloadType.CARD, card.payload(), POLICE.signing)) == card
    assert card.agency == key_id(public(POLICE.signing))
    with pytest.raises(SignatureError):
        introduction.verify_card(sign(PayloadType.CARD, card.payload(), ed("impostor")))
    lying = json.loads(card.payload()) | {"from": id_of(ed("impostor"))}
    with pytest.raises(DocumentError):
        introduction.verify_card(sign(PayloadType.CARD, lying, POLICE.signing))


def test_card_with_a_seal_key_nobody_can_use_is_refused() -> None:
    card = Card("Control Room", public(POLICE.signing), bytes(32))
    with pytest.raises(DocumentError, match="seal"):
        introduction.verify_card(sign(PayloadType.CARD, card.payload(), POLICE.signing))
    assert public(x("any")) != bytes(32)
