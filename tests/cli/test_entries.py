"""What people read of their ledger: who asked, what was given, to whom; and nothing in it stops the list."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.cli.entries import sentence
from agent.consent.fields import encode_bytes
from agent.ledger.entry import EntryKind
from tests.ledger.entries import entry
from tests.support.household import ANN, POLICE, Home, signed_request

if TYPE_CHECKING:
    from agent.ledger.entry import Entry

HOME = Home()
CHARTER = HOME.charter()


def said(kind: EntryKind, document: bytes | None = None, **body: object) -> Entry:
    if document is not None:
        body["document"] = encode_bytes(document)
    return replace(entry(7, kind), body=body)


def test_request_names_agency_operator_camera_and_reference() -> None:
    request = HOME.request()
    line = sentence(said(EntryKind.REQUEST, signed_request(request)), CHARTER)
    for part in (
        POLICE.name,
        request.badge.name,
        request.badge.number,
        request.camera,
        request.purpose.reference,
    ):
        assert part in line


def test_consent_names_agency_areas_and_camera() -> None:
    scope = HOME.token().scope
    line = sentence(said(EntryKind.TOKEN, HOME.signed_token(ANN.root)), CHARTER)
    for part in (POLICE.name, *scope.areas, *scope.cameras):
        assert part in line


def test_session_names_who_saw_which_camera() -> None:
    entry_ = said(EntryKind.SESSION_START, agency=POLICE.key_id, camera="front", session="0a1b2c3d")
    assert sentence(entry_, CHARTER) == f"session 0a1b2c3d began: {POLICE.name} sees front"


def test_agency_that_left_the_charter_is_named_by_its_key() -> None:
    gone = HOME.charter(agencies=[])
    line = sentence(said(EntryKind.SESSION_START, agency=POLICE.key_id), gone)
    assert POLICE.key_id.removeprefix("sha256:")[:16] in line


def test_revocation_says_how_much_is_taken_back() -> None:
    given = HOME.token().id
    one = sentence(said(EntryKind.REVOCATION, HOME.signed_revocation(ANN.root, token=given)), CHARTER)
    everything = HOME.signed_revocation(ANN.root, token=None, agency=None)
    assert given.removeprefix("sha256:")[:16] in one
    assert "anybody" in sentence(said(EntryKind.REVOCATION, everything), CHARTER)


def test_dismissal_names_its_request() -> None:
    request = HOME.request()
    line = sentence(said(EntryKind.DISMISSED, HOME.signed_dismissal(request)), CHARTER)
    assert line == f"request {request.id.removeprefix('sha256:')[:16]}: an owner said not now"


@pytest.mark.parametrize("kind", EntryKind)
@pytest.mark.parametrize(
    "document", [None, "", "!", "bm9uZQ=="], ids=["none", "empty", "no base64", "no document"]
)
def test_entry_that_says_nothing_sensible_still_has_its_line(kind: EntryKind, document: str | None) -> None:
    body: dict[str, object] = {"bytes": "x", "segments": 7} | (
        {"document": document} if document is not None else {}
    )
    line = sentence(replace(entry(7, kind), body=body), None)
    assert line
    assert "\n" not in line
