"""Documents on their way round the owners: counted by distinct owners, read before they are signed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent.cli import collecting
from agent.cli.collecting import Collection
from agent.cli.sign import sign as sign_command
from agent.consent import charter as charters
from agent.consent import envelope, introduction
from agent.consent.acts import Alarm, AlarmState, Block, BlockState, Shutter, ShutterState
from agent.consent.envelope import PayloadType
from agent.errors import DocumentError, DoorwardError, MalformedInput, Refused
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    POLICE,
    Home,
    Person,
    device_keys,
    nonce,
    sign,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CID = Person("Cid")
HOME = Home(people=(ANN, BEN, CID), changes={"granting": 2, "governing": 2, "alarm_max_seconds": 3600})
CHARTER = HOME.charter()
ENVELOPE = HOME.signed_charter()
BOX = device_keys()


def switch(kind: PayloadType, state: Any, *keys: Ed25519PrivateKey) -> bytes:
    if kind is PayloadType.BLOCK:
        payload = Block("", CHARTER.household, POLICE.key_id, state, nonce("block")).payload()
    else:
        made = {PayloadType.SHUTTER: Shutter, PayloadType.ALARM: Alarm}[kind]
        payload = made("", CHARTER.household, state, nonce("switch")).payload()
    return sign(kind, payload, *keys)


def standing(document: bytes) -> tuple[bool, str]:
    return collecting.read(document, CHARTER).standing(document)


GRANTED: list[tuple[PayloadType, Any, str]] = [
    (PayloadType.SHUTTER, ShutterState.OPEN, "Opens the privacy shutter"),
    (PayloadType.ALARM, AlarmState.RAISED, "Raises the alarm for at most 1 h"),
    (PayloadType.BLOCK, BlockState.UNBLOCKED, "Unblocks Control Room (key"),
]
TAKEN: list[tuple[PayloadType, Any, str]] = [
    (PayloadType.SHUTTER, ShutterState.CLOSED, "Closes the privacy shutter"),
    (PayloadType.ALARM, AlarmState.CLEARED, "Clears the alarm"),
    (PayloadType.BLOCK, BlockState.BLOCKED, "Blocks Control Room (key"),
]


@pytest.mark.parametrize(("kind", "state", "said"), GRANTED)
def test_what_lets_something_out_is_counted_in_distinct_owners(
    kind: PayloadType, state: Any, said: str
) -> None:
    assert standing(switch(kind, state, ANN.daily())) == (False, "1 of 2 owners; missing: 1 of Ben, Cid")
    one = switch(kind, state, ANN.daily(), ANN.daily(1), ANN.root)
    assert standing(one) == (False, "1 of 2 owners; missing: 1 of Ben, Cid")
    both = switch(kind, state, ANN.daily(), CID.root)
    assert standing(both) == (True, "2 of 2 owners")
    content = collecting.read(both, CHARTER)
    content.verify(both)
    assert said in content.lines[0]
    assert not content.by_root


@pytest.mark.parametrize(("kind", "state", "said"), TAKEN)
def test_what_takes_away_needs_one_owner(kind: PayloadType, state: Any, said: str) -> None:
    document = switch(kind, state, BEN.daily())
    assert standing(document) == (True, "1 of 1 owners")
    content = collecting.read(document, CHARTER)
    content.verify(document)
    assert said in content.lines[0]


def test_consent_within_the_daily_limits_takes_daily_keys_and_beyond_them_root_keys() -> None:
    short = HOME.signed_token(ANN.daily(), BEN.daily())
    assert standing(short) == (True, "2 of 2 owners")
    beyond = HOME.signed_token(ANN.daily(), BEN.root, scope={"not_after_ns": NOON + 9 * HOUR_NS})
    assert standing(beyond) == (False, "1 of 2 owners; missing: 1 of Ann, Cid")
    content = collecting.read(beyond, CHARTER)
    assert content.by_root
    text = "\n".join(content.lines)
    for part in ("Control Room", "street", "front", "CASE-1", "1 min at a time", "30 days"):
        assert part in text


def test_charter_is_counted_by_the_one_in_force_and_the_new_one() -> None:
    following = HOME.signed_next(CHARTER, ANN.root, governing=3)
    assert standing(following) == (
        False,
        (
            "by the charter in force: 1 of 2 owners; missing: 1 of Ben, Cid; "
            "by the new one: 1 of 3 owners; missing: Ben, Cid"
        ),
    )
    daily = HOME.signed_next(CHARTER, ANN.root, BEN.daily(), governing=3)
    assert standing(daily)[1].startswith("by the charter in force: 1 of 2 owners")
    assert standing(HOME.signed_next(CHARTER, ANN.root, BEN.root, CID.root, governing=3))[0]


def test_charter_that_does_not_follow_the_one_in_force_is_not_shown_for_signing() -> None:
    for changes in ({"version": 3}, {"previous": "sha256:" + "1" * 64}):
        with pytest.raises(Refused, match="does not follow the one in force"):
            collecting.read(HOME.signed_next(CHARTER, ANN.root, **changes), CHARTER)
    with pytest.raises(DocumentError, match="another household"):
        collecting.read(HOME.signed_next(CHARTER, household="sha256:" + "1" * 64), CHARTER)


def test_introduction_that_says_something_else_than_the_charter_is_not_shown_for_signing() -> None:
    made = introduction.of_charter(CHARTER, POLICE.key_id, {BOX.device: BOX.seal_public}, NOON + HOUR_NS)
    document = sign(PayloadType.INTRODUCTION, made.payload(), ANN.root)
    assert standing(document) == (False, "1 of 2 owners; missing: 1 of Ben, Cid")
    for changes in ({"granting": 1}, {"deciders": made.deciders[:2]}, {"cameras": ()}):
        with pytest.raises(Refused, match="something else than your charter"):
            collecting.read(
                sign(PayloadType.INTRODUCTION, replace(made, **changes).payload(), ANN.root), CHARTER
            )


@pytest.mark.parametrize("kind", sorted(set(PayloadType) - {kind for kind, _, _ in GRANTED}))
def test_no_other_document_is_signed_under_this_pretext(kind: PayloadType) -> None:
    with pytest.raises(DoorwardError):
        collecting.read(sign(kind, {"from": "x"}, ANN.root), CHARTER)


@pytest.mark.parametrize(
    "changes",
    [{"more": 1}, {"to": "anyone"}, {"from": POLICE.key_id}, {"household": POLICE.key_id}, {"state": "ajar"}],
)
def test_switch_that_is_malformed_or_of_another_household_is_not_shown_for_signing(changes: Any) -> None:
    _, payload = envelope.unverified_payload(switch(PayloadType.SHUTTER, ShutterState.OPEN, ANN.root))
    with pytest.raises(DocumentError):
        collecting.read(sign(PayloadType.SHUTTER, {**json.loads(payload), **changes}, ANN.root), CHARTER)


# Files


def test_file_comes_back_and_an_existing_one_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "round.json"
    collection = Collection(switch(PayloadType.SHUTTER, ShutterState.OPEN, ANN.root), ENVELOPE)
    collection.save(file, new=True)
    assert Collection.load(file) == collection
    assert collection.in_force() == CHARTER
    with pytest.raises(Refused, match="exists already"):
        collection.save(file, new=True)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"v":1}', b"\xff", b"x" * 300_000])
def test_file_of_something_else_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "round.json"
    file.write_bytes(data)
    with pytest.raises(MalformedInput) as found:
        Collection.load(file)
    assert str(found.value).isprintable()
    with pytest.raises(MalformedInput):
        Collection.load(tmp_path / "missing.json")


def test_charter_in_a_file_that_its_own_owners_have_not_signed_is_not_believed(tmp_path: Path) -> None:
    forged = Collection(
        switch(PayloadType.SHUTTER, ShutterState.OPEN, ANN.root), HOME.signed_next(CHARTER, ANN.root)
    )
    file = tmp_path / "round.json"
    forged.save(file, new=True)
    result = CliRunner().invoke(sign_command, [str(file), "--home", str(tmp_path), "--key-file", "none"])
    assert isinstance(result.exception, DocumentError)


def test_nothing_is_signed_before_somebody_says_yes(tmp_path: Path) -> None:
    file = tmp_path / "round.json"
    Collection(switch(PayloadType.ALARM, AlarmState.RAISED, ANN.daily()), ENVELOPE).save(file, new=True)
    before = file.read_bytes()
    result = CliRunner().invoke(
        sign_command, [str(file), "--home", str(tmp_path), "--key-file", str(tmp_path / "none")], input="n\n"
    )
    assert result.exit_code == 1
    assert "Raises the alarm" in result.stdout
    assert "Signed by 1 of 2 owners; missing: 1 of Ben, Cid" in result.stdout
    assert "No device of this household was asked" in result.stderr
    assert file.read_bytes() == before


def test_document_that_enough_have_signed_asks_for_no_key(tmp_path: Path) -> None:
    file = tmp_path / "round.json"
    document = switch(PayloadType.ALARM, AlarmState.RAISED, ANN.daily(), BEN.daily())
    Collection(document, ENVELOPE).save(file, new=True)
    result = CliRunner().invoke(
        sign_command, [str(file), "--home", str(tmp_path), "--key-file", str(tmp_path / "none")]
    )
    assert result.exit_code == 0
    assert f"doorward hand-over {file}" in result.stdout
    assert charters.verify_alone(ENVELOPE) == CHARTER
