"""The store, the keys beside it, and badges: what survives, what is refused."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.agency import identity as identities
from agent.agency.store import FILE, LATE_WORD_NS, RequestRow, Store
from agent.consent.handshake import verify_badge
from agent.consent.introduction import verify_card
from agent.consent.reasons import AgencyReason
from agent.consent.times import SECOND_NS
from agent.errors import ConfigError, DocumentError, IntegrityError, Refused, SignatureError, StorageError
from hal.clock import wall_ns

if TYPE_CHECKING:
    from pathlib import Path

    from agent.cli.agency_options import Office

DAY_NS = 24 * 3600 * SECOND_NS


def request_row(name: str = "sha256:r", **changes: object) -> RequestRow:
    fields: dict[str, object] = {
        "id": name,
        "device": "sha256:d",
        "operator": "17",
        "document": b"document",
        "reply_key": b"k" * 32,
        "issued_ns": 10,
        "expires_ns": 20,
        "status": AgencyReason.PENDING,
        "token": None,
        **changes,
    }
    return RequestRow(**fields)  # type: ignore[arg-type]


def test_directory_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    with identities.found(tmp_path / "agency", "Agency") as store:
        store.put_request(request_row())
        assert (tmp_path / "agency").stat().st_mode & 0o777 == 0o700
        files = [each for each in (tmp_path / "agency").rglob("*") if each.is_file()]
        assert len(files) >= 3
        for path in files:
            assert path.stat().st_mode & 0o077 == 0, path


def test_agency_comes_back_the_same_after_a_restart(tmp_path: Path) -> None:
    with identities.found(tmp_path, "Agency") as store:
        before = identities.load(store)
        given = identities.give_badge(store, before, name="A B", number="17", days=7, now_ns=wall_ns())
    with Store.open(tmp_path) as store:
        after = identities.load(store)
        assert (after.name, after.agency, after.card()) == ("Agency", before.agency, before.card())
        found = identities.operator(store, after, "17", wall_ns())
        assert found.badge == given
        assert found.key.public_key().public_bytes_raw() == given.key


def test_second_agency_in_one_directory_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    with identities.found(tmp_path, "First") as store:
        first = identities.load(store).key_id
    with pytest.raises(Refused, match="there is one already"):
        identities.found(tmp_path, "Second")
    with Store.open(tmp_path) as store:
        assert identities.load(store).key_id == first


def test_missing_store_damaged_store_and_other_version_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is none"):
        Store.open(tmp_path)
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(IntegrityError, match="damaged"):
        Store.open(tmp_path)
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IntegrityError, match="got schema 99"):
        Store.open(tmp_path)


def test_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    with identities.found(tmp_path, "Agency") as store:
        (tmp_path / "keys" / "agency-signing").chmod(0o640)
        with pytest.raises(StorageError, match="others can read it"):
            identities.load(store)


def test_cut_or_missing_key_is_named_and_never_made_anew(tmp_path: Path) -> None:
    with identities.found(tmp_path, "Agency") as store:
        path = tmp_path / "keys" / "agency-seal"
        path.write_bytes(b"short")
        with pytest.raises(IntegrityError, match="damaged"):
            identities.load(store)
        path.unlink()
        with pytest.raises(IntegrityError, match="missing"):
            identities.load(store)


def test_badge_begins_in_the_past_and_never_exceeds_seven_days(office: Office) -> None:
    now_ns = wall_ns()
    for days in (1, 7):
        badge = identities.give_badge(
            office.store, office.identity, name="Other", number="18", days=days, now_ns=now_ns
        )
        assert badge.not_before_ns < now_ns - 60 * SECOND_NS
        assert badge.not_after_ns - badge.not_before_ns <= 7 * DAY_NS
        assert badge.not_after_ns > now_ns + days * DAY_NS - 600 * SECOND_NS
    with pytest.raises(ConfigError, match="days"):
        identities.give_badge(office.store, office.identity, name="Other", number="18", days=8, now_ns=now_ns)


def test_renewed_badge_keeps_the_operator_s_key(office: Office) -> None:
    now_ns = wall_ns()
    before = identities.operator(office.store, office.identity, None, now_ns).badge
    after = identities.give_badge(
        office.store, office.identity, name="Operator", number="17", days=3, now_ns=now_ns + DAY_NS
    )
    assert after.key == before.key
    assert len(office.store.operators()) == 1


def test_number_of_somebody_else_is_not_given_away(office: Office) -> None:
    with pytest.raises(Refused, match="belongs to Operator"):
        identities.give_badge(
            office.store, office.identity, name="Other", number="17", days=1, now_ns=wall_ns()
        )


def test_expired_badge_is_told_before_anything_is_asked(office: Office) -> None:
    with pytest.raises(Refused, match="not valid now") as refused:
        identities.operator(office.store, office.identity, "17", wall_ns() + 8 * DAY_NS)
    assert refused.value.reason == "bad-badge"
    with pytest.raises(Refused, match="not valid now"):
        identities.operator(office.store, office.identity, "17", wall_ns() - DAY_NS)


def test_badge_of_another_agency_in_the_store_is_an_integrity_error(office: Office, tmp_path: Path) -> None:
    with identities.found(tmp_path / "other", "Other") as other:
        identities.give_badge(
            other, identities.load(other), name="Operator", number="17", days=7, now_ns=wall_ns()
        )
        office.store.put_operator(other.operators()[0])
    with pytest.raises(IntegrityError, match="badge of Operator"):
        identities.operator(office.store, office.identity, "17", wall_ns())


def test_operator_must_be_named_when_there_are_several(office: Office) -> None:
    identities.give_badge(office.store, office.identity, name="Other", number="18", days=1, now_ns=wall_ns())
    with pytest.raises(ConfigError, match="numbers 17, 18"):
        identities.operator(office.store, office.identity, None, wall_ns())
    with pytest.raises(ConfigError, match="nobody has number 19"):
        identities.operator(office.store, office.identity, "19", wall_ns())


def test_card_and_badge_verify_with_the_functions_of_the_other_side(office: Office) -> None:
    card = verify_card(office.identity.card())
    assert (card.name, card.agency) == ("Agency of the tests", office.identity.key_id)
    with pytest.raises((DocumentError, SignatureError)):
        verify_card(office.identity.card().replace(b"payload", b"payl0ad", 1))
    (row,) = office.store.operators()
    assert verify_badge(row.badge, office.identity.agency).number == "17"


def test_repeated_decision_changes_nothing_and_a_grant_wipes_the_reply_key(office: Office) -> None:
    store = office.store
    store.put_request(request_row())

    def decide(name: str, status: AgencyReason, token: bytes | None) -> bool:
        return store.put_decision(name, b"d", request="sha256:r", status=status, token=token, now_ns=1)

    assert decide("one", AgencyReason.DENIED, None)
    assert decide("two", AgencyReason.GRANTED, b"token")
    assert not decide("one", AgencyReason.DENIED, None)
    row = store.request("sha256:r")
    assert row is not None
    assert (row.status, row.token, row.reply_key) == (AgencyReason.GRANTED, b"token", None)


def test_wiped_reply_key_is_not_found_in_the_files(office: Office) -> None:
    secret = b"reply key that must not stay ..!"
    store = office.store
    store.put_request(request_row(reply_key=secret))
    store.put_decision("one", b"d", request="sha256:r", status=AgencyReason.GRANTED, token=b"t", now_ns=1)
    store.put_request(request_row("sha256:later", issued_ns=100, expires_ns=200))
    store.__exit__(None, None, None)
    for path in store.directory.iterdir():
        if path.is_file():
            assert secret not in path.read_bytes(), path


def test_requests_lose_their_reply_keys_a_day_after_they_lapse_with_the_next_one(office: Office) -> None:
    def key_after(issued_ns: int, name: str) -> bytes | None:
        office.store.put_request(request_row(name, issued_ns=issued_ns, expires_ns=issued_ns + 10))
        row = office.store.request("sha256:r")
        assert row is not None
        return row.reply_key

    lapsed = request_row()
    office.store.put_request(lapsed)
    # The device's word that nobody answered comes after the request's end.
    assert key_after(lapsed.expires_ns + LATE_WORD_NS - 1, "sha256:soon") is not None
    assert key_after(lapsed.expires_ns + LATE_WORD_NS, "sha256:later") is None


def test_word_that_nobody_answered_is_the_last_one(office: Office) -> None:
    office.store.put_request(request_row())
    for name, status in (("one", AgencyReason.PENDING), ("two", AgencyReason.NO_ANSWER)):
        office.store.put_decision(name, b"d", request="sha256:r", status=status, token=None, now_ns=1)
    row = office.store.request("sha256:r")
    assert row is not None
    assert (row.status, row.reply_key) == (AgencyReason.NO_ANSWER, None)


def test_decided_request_is_not_forgotten(office: Office) -> None:
    store = office.store
    for name in ("sha256:r", "sha256:s"):
        store.put_request(request_row(name))
    store.put_decision("one", b"d", request="sha256:r", status=AgencyReason.PENDING, token=None, now_ns=1)
    store.drop_request("sha256:r")
    store.drop_request("sha256:s")
    assert [row.id for row in store.requests()] == ["sha256:r"]


def test_half_a_change_is_no_change(office: Office) -> None:
    office.store.put_request(request_row())
    with pytest.raises(IntegrityError):
        office.store.put_decision(
            "one", b"d", request="sha256:unknown", status=AgencyReason.DENIED, token=None, now_ns=1
        )
    row = office.store.request("sha256:r")
    assert row is not None
    assert row.status is AgencyReason.PENDING
