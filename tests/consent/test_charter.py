"""Charters: who may found a household and who may change it, counted in distinct owners by root keys."""

from __future__ import annotations

from typing import Any

import pytest

from agent.consent import charter as charters
from agent.consent.envelope import PayloadType
from agent.consent.fields import encode_bytes
from agent.errors import DocumentError, SignatureError
from tests.support.household import ANN, BEN, POLICE, Home, Person, device_keys, ed, public, sign, x

HOME = Home(changes={"governing": 2})
FIRST = HOME.charter()
CAT = Person("Cat")
THREE = Home(people=(ANN, BEN, CAT), changes={"governing": 2})
FIRST_OF_THREE = THREE.charter()


def test_first_charter_needs_the_root_key_of_every_owner_it_names() -> None:
    for signers in ([ANN.root], [BEN.root], [ANN.root, ed("stranger")], [ANN.root, ANN.daily(), BEN.daily()]):
        with pytest.raises(SignatureError):
            charters.verify_genesis(HOME.signed_charter(*signers))
    assert FIRST.version == 1


def test_low_governing_threshold_does_not_spare_an_owners_signature_at_founding() -> None:
    with pytest.raises(SignatureError):
        charters.verify_genesis(HOME.signed_charter(ANN.root, governing=1))


def test_household_is_the_id_of_its_first_charter() -> None:
    assert FIRST.household == FIRST.id
    following = charters.verify_next(HOME.signed_next(FIRST), FIRST)
    assert (following.household, following.previous) == (FIRST.id, FIRST.id)


def test_later_version_founds_nothing() -> None:
    with pytest.raises(DocumentError, match="not a first one"):
        charters.verify_genesis(HOME.signed_next(FIRST))


def test_daily_keys_sign_no_charter() -> None:
    with pytest.raises(SignatureError):
        charters.verify_genesis(HOME.signed_charter(ANN.daily(), BEN.daily()))
    with pytest.raises(SignatureError):
        charters.verify_next(HOME.signed_next(FIRST, ANN.daily(), ANN.daily(1), BEN.daily()), FIRST)
    with pytest.raises(SignatureError):
        charters.verify_next(HOME.signed_next(FIRST, ANN.root, BEN.daily()), FIRST)


def test_one_owner_signing_with_many_keys_counts_once() -> None:
    with pytest.raises(SignatureError, match="got 1, expected 2"):
        charters.verify_next(HOME.signed_next(FIRST, ANN.root, ANN.daily(), ANN.daily(1)), FIRST)


def test_next_version_needs_the_threshold_of_the_version_in_force() -> None:
    weaker = Home(people=(ANN, BEN), changes={"governing": 1})
    with pytest.raises(SignatureError, match="version 1"):
        charters.verify_next(weaker.signed_next(FIRST, ANN.root), FIRST)
    assert charters.verify_next(weaker.signed_next(FIRST, ANN.root, BEN.root), FIRST).governing == 1


def test_next_version_needs_the_threshold_of_itself() -> None:
    stronger = THREE.signed_next(FIRST_OF_THREE, ANN.root, BEN.root, governing=3)
    with pytest.raises(SignatureError, match="version 2"):
        charters.verify_next(stronger, FIRST_OF_THREE)
    replaced = Home(people=(CAT, Person("Dan")), changes={"governing": 2})
    with pytest.raises(SignatureError):
        charters.verify_next(replaced.signed_next(FIRST, ANN.root, BEN.root), FIRST)
    together = replaced.signed_next(FIRST, ANN.root, BEN.root, CAT.root, ed("Dan root"))
    assert [owner.name for owner in charters.verify_next(together, FIRST).owners] == ["Cat", "Dan"]


def test_removed_owner_counts_for_the_old_version_alone() -> None:
    without = Home(people=(ANN, CAT), changes={"governing": 2})
    with pytest.raises(SignatureError, match="version 2"):
        charters.verify_next(without.signed_next(FIRST_OF_THREE, ANN.root, BEN.root), FIRST_OF_THREE)
    charters.verify_next(without.signed_next(FIRST_OF_THREE, ANN.root, CAT.root), FIRST_OF_THREE)


def test_charter_of_another_household_is_refused() -> None:
    other = Home(people=(ANN, BEN), changes={"governing": 2, "granting": 2}).charter()
    assert other.household != FIRST.household
    with pytest.raises(DocumentError, match="another household"):
        charters.verify_next(HOME.signed_next(FIRST, household=other.household), FIRST)
    with pytest.raises(DocumentError, match="another household"):
        charters.verify_next(HOME.signed_next(other), FIRST)


def test_version_that_skips_repeats_or_forks_is_refused() -> None:
    second = charters.verify_next(HOME.signed_next(FIRST), FIRST)
    for changes in ({"version": 3}, {"version": 2, "previous": "sha256:" + "0" * 64}):
        with pytest.raises(DocumentError, match="does not follow"):
            charters.verify_next(HOME.signed_next(FIRST, **changes), FIRST)
    with pytest.raises(DocumentError, match="does not follow"):
        charters.verify_next(HOME.signed_next(FIRST), second)  # played again
    with pytest.raises(DocumentError, match="does not follow"):
        charters.verify_next(HOME.signed_next(FIRST, granting=2), second)  # the other of two second versions
    with pytest.raises(DocumentError):
        charters.verify_next(HOME.signed_charter(), FIRST)


def test_other_documents_are_no_charters() -> None:
    token = HOME.signed_token()
    with pytest.raises(DocumentError, match="another kind"):
        charters.verify_genesis(token)
    with pytest.raises(DocumentError, match="another kind"):
        charters.verify_next(token, FIRST)


def owner(person: Person, **changes: Any) -> dict[str, Any]:
    return {**person.to_json(), **changes}


SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
]
CAMERA = HOME.to_json()["cameras"][0]
ELSEWHERE = {**CAMERA, "device": device_keys("other").device}
SECOND_DEVICE = {"name": "shed", "signing": encode_bytes(public(ANN.root))}
TWICE: list[tuple[str, dict[str, Any]]] = [
    ("two owners, one root key", {"owners": [ANN.to_json(), owner(BEN, root=ANN.to_json()["root"])]}),
    (
        "a daily key that is another's root key",
        {"owners": [ANN.to_json(), owner(CAT, root=encode_bytes(public(ANN.daily())))]},
    ),
    ("one phone for two owners", {"owners": [ANN.to_json(), owner(BEN, daily=ANN.to_json()["daily"])]}),
    (
        "one recovery key for two owners",
        {"owners": [ANN.to_json(), owner(BEN, recovery=ANN.to_json()["recovery"])]},
    ),
    ("a device with an owner's key", {"devices": [*HOME.to_json()["devices"], SECOND_DEVICE]}),
    ("an agency twice", {"agencies": [POLICE.to_json(), POLICE.to_json()]}),
    ("an agency with an owner's key", {"agencies": [{**POLICE.to_json(), "signing": ANN.to_json()["root"]}]}),
    (
        "an agency that opens the archive",
        {"agencies": [{**POLICE.to_json(), "seal": ANN.to_json()["recovery"]}]},
    ),
]


@pytest.mark.parametrize(("what", "changes"), TWICE, ids=[what for what, _ in TWICE])
def test_public_key_standing_twice_is_refused(what: str, changes: dict[str, Any]) -> None:
    signers = (ANN.root, BEN.root, CAT.root, ANN.daily())
    with pytest.raises(DocumentError, match="stands twice"):
        charters.verify_genesis(HOME.signed_charter(*signers, **changes))


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:6])
def test_signing_key_under_which_anybody_signs_is_refused(key: bytes) -> None:
    for changes in (
        {"owners": [owner(ANN, root=encode_bytes(key))]},
        {"devices": [{"name": "box", "signing": encode_bytes(key)}]},
        {"agencies": [{**POLICE.to_json(), "signing": encode_bytes(key)}]},
    ):
        with pytest.raises(DocumentError, match="no usable Ed25519 key"):
            charters.verify_genesis(HOME.signed_charter(**{"governing": 1, "cameras": [], **changes}))


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:6])
def test_archive_key_that_nothing_can_be_sealed_to_is_refused(key: bytes) -> None:
    for changes in (
        {"owners": [owner(ANN, recovery=encode_bytes(key))]},
        {"agencies": [{**POLICE.to_json(), "seal": encode_bytes(key)}]},
    ):
        with pytest.raises(DocumentError, match="usable X25519 key"):
            charters.verify_genesis(HOME.signed_charter(**{"governing": 1, **changes}))


CONTRADICTIONS: list[tuple[str, dict[str, Any]]] = [
    ("nobody", {"owners": []}),
    ("at most the 2 owners", {"granting": 3}),
    ("at most the 2 owners", {"governing": 3}),
    ("expected at least one", {"devices": []}),
    ("belongs to no device", {"cameras": [ELSEWHERE]}),
    ("a name stands twice", {"cameras": HOME.to_json()["cameras"] * 2}),
    ("names an area twice", {"cameras": [{**CAMERA, "areas": [*CAMERA["areas"]] * 2}]}),
    ("caps nothing", {"rules": [{"effect": "cap"}]}),
    ("unknown field", {"rules": [{"effect": "deny", "seconds": 5}]}),
    ("outside the picture", {"cameras": [{**CAMERA, "never": [[[0, 0], [1, 1], [10_001, 0]]]}]}),
    ("not a polygon", {"cameras": [{**CAMERA, "never": [[[0, 0], [1, 1]]]}]}),
    ("not a corner", {"cameras": [{**CAMERA, "never": [[[0, 0], [1, 1], [1, True]]]}]}),
]


@pytest.mark.parametrize(("message", "changes"), CONTRADICTIONS)
def test_charter_that_contradicts_itself_is_refused(message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=message):
        charters.verify_genesis(HOME.signed_charter(**changes))


def test_first_charter_naming_a_household_is_refused() -> None:
    with pytest.raises(DocumentError):
        charters.verify_genesis(HOME.signed_charter(household=FIRST.household))


def test_every_key_that_opens_or_decides_is_listed() -> None:
    assert len(FIRST.root_keys()) == 2
    assert len(FIRST.owner_keys()) == 2 + 3
    assert set(FIRST.archive_keys().values()) == {
        public(x(name))
        for name in ("Ann recovery", "Ben recovery", "Ann daily 0", "Ann daily 1", "Ben daily 0")
    }


def test_lookups_of_what_is_not_there_give_nothing() -> None:
    assert FIRST.agency("sha256:" + "0" * 64) is None
    assert FIRST.camera("back") is None
    assert FIRST.owners_of(frozenset({"sha256:" + "0" * 64})) == frozenset()
    camera = FIRST.camera("front")
    assert camera is not None
    assert camera.area("nowhere") is None


def test_signature_for_a_draft_counts_for_no_other_draft() -> None:
    draft = HOME.next_json(FIRST)
    half = sign(PayloadType.CHARTER, draft, ANN.root)
    with pytest.raises(SignatureError):
        charters.verify_next(half, FIRST)
    other = sign(PayloadType.CHARTER, HOME.next_json(FIRST, granting=2), BEN.root)
    with pytest.raises(SignatureError):
        charters.verify_next(other, FIRST)


def test_charter_standing_alone_still_needs_its_own_threshold() -> None:
    second = HOME.signed_next(FIRST)
    assert charters.verify_alone(second).version == 2
    assert charters.verify_alone(HOME.signed_charter()) == FIRST
    for lacking in (HOME.signed_next(FIRST, ANN.root), HOME.signed_next(FIRST, ANN.daily(), BEN.daily())):
        with pytest.raises(SignatureError):
            charters.verify_alone(lacking)
    with pytest.raises(DocumentError, match="another kind"):
        charters.verify_alone(HOME.signed_token())


def test_charter_without_post_is_written_without_one() -> None:
    assert FIRST.post is None
    assert "post" not in charters.to_json(FIRST)
    assert charters.parse(charters.payload_of(FIRST)) == FIRST
