"""Owners' documents to a device and back: whose they are, for whom, and that the signer is who it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.consent import acts
from agent.consent.acts import Descriptor, ShutterState
from agent.consent.envelope import PayloadType
from agent.errors import DocumentError, SignatureError
from tests.support.household import ANN, BEN, HOUR_NS, NOON, Home, device_keys, ed, id_of, nonce, sign

HOME = Home()
CHARTER = HOME.charter()
OTHER = Home(changes={"granting": 2})
CHALLENGE = nonce("challenge")
BOX = device_keys()


def test_act_must_be_signed_by_the_key_it_names() -> None:
    act = HOME.act(CHALLENGE, ANN.daily())
    with pytest.raises(SignatureError, match="not signed by the key it names"):
        acts.verify_act(sign(PayloadType.ACT, act.payload(), BEN.daily()), CHARTER)
    both = sign(PayloadType.ACT, act.payload(), BEN.daily(), ANN.daily())
    assert acts.verify_act(both, CHARTER).signer == id_of(ANN.daily())


def test_act_read_and_shutter_of_another_household_are_refused() -> None:
    act = OTHER.act(CHALLENGE, ANN.daily())
    read = OTHER.read(CHALLENGE, ANN.daily())
    with pytest.raises(DocumentError, match="another household"):
        acts.verify_act(sign(PayloadType.ACT, act.payload(), ANN.daily()), CHARTER)
    with pytest.raises(DocumentError, match="another household"):
        acts.verify_read(sign(PayloadType.READ, read.payload(), ANN.daily()), CHARTER)
    with pytest.raises(DocumentError, match="another household"):
        acts.verify_shutter(OTHER.signed_shutter(ShutterState.CLOSED), CHARTER)


def test_read_that_ends_before_it_begins_is_refused() -> None:
    for end in (NOON - HOUR_NS, NOON - 2 * HOUR_NS):
        read = HOME.read(CHALLENGE, ANN.daily(), to_ns=end)
        with pytest.raises(DocumentError, match="ends before"):
            acts.verify_read(sign(PayloadType.READ, read.payload(), ANN.daily()), CHARTER)


def test_act_without_seen_is_read_as_without() -> None:
    act = HOME.act(CHALLENGE, ANN.daily())
    assert acts.verify_act(sign(PayloadType.ACT, act.payload(), ANN.daily()), CHARTER).seen is None


def test_any_owner_closes_the_shutter_and_the_granting_threshold_opens_it() -> None:
    strict = OTHER.charter()
    closed = acts.verify_shutter(OTHER.signed_shutter(ShutterState.CLOSED, BEN.daily()), strict)
    assert closed.state is ShutterState.CLOSED
    for signers in ([BEN.daily()], [ANN.root, ANN.daily(), ANN.daily(1)]):
        with pytest.raises(SignatureError, match="got 1, expected 2"):
            acts.verify_shutter(OTHER.signed_shutter(ShutterState.OPEN, *signers), strict)
    acts.verify_shutter(OTHER.signed_shutter(ShutterState.OPEN, ANN.daily(), BEN.daily()), strict)


def test_pairing_needs_a_root_key_of_the_charter_it_brings() -> None:
    pairing = HOME.pairing("CODE", CHALLENGE)
    for signer in (ANN.daily(), ed("stranger"), BOX.signing):
        with pytest.raises(SignatureError):
            acts.verify_pairing(sign(PayloadType.PAIRING, pairing.payload(), signer))
    with pytest.raises(SignatureError):
        acts.verify_pairing(sign(PayloadType.PAIRING, pairing.payload(), BEN.root))
    _, founded = acts.verify_pairing(sign(PayloadType.PAIRING, pairing.payload(), ANN.root))
    assert founded == CHARTER


def test_pairing_with_a_charter_that_not_everybody_signed_is_refused() -> None:
    pairing = HOME.pairing("CODE", CHALLENGE, charter=HOME.signed_charter(ANN.root))
    with pytest.raises(SignatureError):
        acts.verify_pairing(sign(PayloadType.PAIRING, pairing.payload(), ANN.root))


def test_descriptor_of_a_device_without_household_or_door_says_so() -> None:
    fresh = Descriptor(BOX.device, BOX.signing_public, BOX.seal_public, None, None, None)
    assert acts.verify_descriptor(sign(PayloadType.DESCRIPTOR, fresh.payload(), BOX.signing)) == fresh


def test_descriptor_naming_another_key_than_signed_it_is_refused() -> None:
    lying = Descriptor(device_keys("other").device, BOX.signing_public, BOX.seal_public, None, None, None)
    with pytest.raises(DocumentError):
        acts.verify_descriptor(sign(PayloadType.DESCRIPTOR, lying.payload(), BOX.signing))
    honest = replace(lying, device=BOX.device)
    with pytest.raises(SignatureError):
        acts.verify_descriptor(sign(PayloadType.DESCRIPTOR, honest.payload(), device_keys("other").signing))
