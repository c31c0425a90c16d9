"""Importing introductions: forged ones, usurping ones, lapsed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.agency.introductions import all_devices, check_import, find_device
from agent.consent import envelope
from agent.consent.envelope import PayloadType
from agent.errors import ConfigError, DocumentError, IntegrityError, Refused, SignatureError
from hal.clock import wall_ns
from tests.agency.home import HOUR_NS, Household, in_charter

if TYPE_CHECKING:
    from agent.cli.agency_options import Office


def check(office: Office, document: bytes, *, replace: bool = False) -> str:
    return check_import(document, office.store, office.identity.key_id, wall_ns(), replace=replace).household


def founded(office: Office, owners: int = 1, granting: int = 1) -> Household:
    household = Household(owners, granting)
    household.found(in_charter(office.identity))
    return household


def test_introduction_signed_by_the_owners_it_names_is_taken(office: Office) -> None:
    household = founded(office, owners=2, granting=2)
    assert household.charter is not None
    assert check(office, household.introduction(office.identity.key_id)) == household.charter.household


def test_introduction_signed_by_a_stranger_or_too_few_owners_is_refused(office: Office) -> None:
    household = founded(office, owners=2, granting=2)
    own = office.identity.key_id
    with pytest.raises(SignatureError, match="no valid signature"):
        check(office, household.introduction(own, signers=[Ed25519PrivateKey.generate()]))
    with pytest.raises(SignatureError, match="no valid signature"):
        check(office, household.introduction(own, signers=household.daily))
    with pytest.raises(SignatureError, match="too few owners"):
        check(office, household.introduction(own, signers=household.roots[:1]))


def test_introduction_for_another_agency_or_past_its_end_is_refused(office: Office) -> None:
    household = founded(office)
    with pytest.raises(DocumentError, match="for another agency"):
        check(office, household.introduction("sha256:" + 64 * "0"))
    lapsed = household.introduction(office.identity.key_id, ends_ns=wall_ns() - HOUR_NS)
    with pytest.raises(Refused, match="ended"):
        check(office, lapsed)


def test_known_household_is_not_taken_over_by_other_owners(office: Office) -> None:
    household = founded(office)
    own = office.identity.key_id
    assert household.charter is not None
    known = household.introduction(own)
    office.store.put_introduction(household.charter.household, known, {}, wall_ns())
    assert check(office, household.introduction(own, ends_ns=wall_ns() + 48 * HOUR_NS))

    thief = founded(office)
    _, payload = envelope.unverified_payload(thief.introduction(own))
    assert thief.charter is not None
    stolen = payload.replace(thief.charter.household.encode(), household.charter.household.encode())
    forged = envelope.sign(PayloadType.INTRODUCTION, stolen, thief.roots)
    with pytest.raises(Refused, match="a known household with other owners"):
        check(office, forged)
    assert check(office, forged, replace=True)


def test_device_of_one_household_is_not_claimed_by_another(office: Office) -> None:
    household, thief = founded(office), founded(office)
    own = office.identity.key_id
    assert household.charter is not None
    office.store.put_introduction(household.charter.household, household.introduction(own), {}, wall_ns())
    thief.keys = household.keys
    thief.found(in_charter(office.identity))
    for replace in (False, True):
        with pytest.raises(Refused, match="belongs to another household"):
            check(office, thief.introduction(own), replace=replace)


def test_changed_introduction_in_the_store_is_an_integrity_error(office: Office) -> None:
    household = founded(office)
    assert household.charter is not None
    document = household.introduction(office.identity.key_id)
    office.store.put_introduction(household.charter.household, document.replace(b"A", b"B", 1), {}, wall_ns())
    with pytest.raises(IntegrityError):
        all_devices(office.store)


def test_device_is_found_by_name_id_and_beginning_of_an_id(office: Office) -> None:
    for _ in range(2):
        household = founded(office)
        assert household.charter is not None
        document = household.introduction(office.identity.key_id)
        office.store.put_introduction(household.charter.household, document, {}, wall_ns())
    digits = household.device.removeprefix("sha256:")
    for wanted in (household.device, digits, digits[:12]):
        assert find_device(office.store, wanted).key_id == household.device
    with pytest.raises(ConfigError, match="several"):
        find_device(office.store, "front-door")
    for wanted in ("back-door", digits[:3], ""):
        with pytest.raises(ConfigError, match="none"):
            find_device(office.store, wanted)
