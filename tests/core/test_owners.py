"""Owners' acts at the device: verified whole before anything changes, and good once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.consent.acts import ShutterState
from agent.consent.envelope import PayloadType, document_id
from agent.consent.rules import PurposeKind
from agent.consent.times import SECOND_NS
from agent.consent.token import Purpose
from agent.errors import (
    DocumentError,
    DoorwardError,
    IntegrityError,
    LedgerError,
    Refused,
    SealedMessageError,
    SignatureError,
)
from agent.ledger.entry import EntryKind
from tests.ledger.disk import Fault
from tests.support.device import Box
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    POLICE,
    Body,
    Home,
    device_keys,
    ed,
    id_of,
    nonce,
    sign,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "ledger")
    yield box
    box.close()


@pytest.fixture
async def box(fresh: Box) -> Box:
    await fresh.pair()
    return fresh


async def refused(box: Box, data: bytes, error: type[DoorwardError], match: str | None = None) -> None:
    before, state = box.log.size, box.keeper.state
    with pytest.raises(error, match=match) as found:
        await box.owners.act(data)
    assert str(found.value).isprintable()
    assert box.log.size == before
    assert box.keeper.state == state


# Pairing


async def test_pairing_founds_the_household_and_is_acknowledged(fresh: Box) -> None:
    acknowledgement = await fresh.pair()
    assert fresh.keeper.state.need_charter() == fresh.home.charter()
    assert fresh.keeper.state.confirmed_since_boot
    assert acknowledgement.owner == id_of(ANN.root)
    assert [entry.kind for entry in fresh.entries()][-2:] == [EntryKind.PAIRED, EntryKind.CONFIRMED]
    assert fresh.changes == 1


async def test_device_of_a_household_is_paired_no_second_time(box: Box) -> None:
    with pytest.raises(Refused, match="already"):
        await box.pair()
    with pytest.raises(Refused):
        await box.restart().pair()


async def test_wrong_code_pairs_nothing_and_five_use_the_code_up(fresh: Box) -> None:
    code = fresh.codes.new()
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(Refused, match=f"{left} tries left"):
            await fresh.pair(code="AAAA-AAAA")
    with pytest.raises(Refused, match="no pairing code is open"):
        await fresh.pair(code=code)
    assert fresh.keeper.state.charter is None


async def test_code_is_good_once_for_ten_minutes_and_replaced_by_a_newer_one(fresh: Box) -> None:
    old = fresh.codes.new()
    fresh.codes.new()
    with pytest.raises(Refused):
        await fresh.pair(code=old)
    late = fresh.codes.new()
    fresh.clock.advance(600.1)
    with pytest.raises(Refused, match="no pairing code"):
        await fresh.pair(code=late)
    typed = f"  {fresh.codes.new().lower()} "
    await fresh.pair(code=typed)


async def test_pairing_for_another_device_is_refused(fresh: Box) -> None:
    with pytest.raises(DocumentError, match="another device"):
        await fresh.pair(device=device_keys("other").device)
    elsewhere = Home(keys=device_keys("other"))
    with pytest.raises(DocumentError, match="not among them"):
        await fresh.pair(charter=elsewhere.signed_charter())
    assert fresh.keeper.state.charter is None


async def test_pairing_sealed_to_another_device_does_not_open(fresh: Box) -> None:
    sealed = bytearray(fresh.sealed_pairing(ANN.root))
    sealed[-1] ^= 1
    for data in (bytes(sealed), b"", sealed[:40], b"x" * 5000):
        with pytest.raises(SealedMessageError):
            await fresh.owners.pair(bytes(data))


async def test_replayed_pairing_is_refused(fresh: Box) -> None:
    sealed = fresh.sealed_pairing(ANN.root, code="AAAA-AAAA")
    for _ in range(2):
        with pytest.raises(Refused):
            await fresh.owners.pair(sealed)
    fresh.codes.new()
    with pytest.raises(Refused, match="challenge"):
        await fresh.owners.pair(sealed)


async def test_two_pairings_at_once_found_one_household(fresh: Box) -> None:
    code = fresh.codes.new()
    data = [fresh.sealed_pairing(ANN.root, code=code) for _ in range(2)]
    results = await asyncio.gather(*(fresh.owners.pair(each) for each in data), return_exceptions=True)
    assert sum(isinstance(result, bytes) for result in results) == 1
    fresh.restart().close()


async def test_pairing_that_cannot_be_made_durable_leaves_the_device_unpaired(fresh: Box) -> None:
    sealed = fresh.sealed_pairing(ANN.root)
    fresh.disk.plan[len(fresh.disk.calls)] = Fault.FAILED
    with pytest.raises(LedgerError):
        await fresh.owners.pair(sealed)
    assert fresh.keeper.state.charter is None


async def test_unpaired_device_takes_no_acts(fresh: Box) -> None:
    with pytest.raises(Refused, match="not paired"):
        await fresh.act(ANN.daily())
    with pytest.raises(Refused, match="not paired"):
        await fresh.owners.read(b"{}")


# Challenges


async def test_replayed_act_is_refused(box: Box) -> None:
    data = box.signed_act(ANN.daily(), box.home.signed_revocation())
    await box.owners.act(data)
    await refused(box, data, Refused, "challenge")


@pytest.mark.parametrize("challenge", [bytes(16), b"\xff" * 16, nonce("guess")])
async def test_act_over_a_challenge_we_never_gave_is_refused(box: Box, challenge: bytes) -> None:
    await refused(box, box.signed_act(ANN.daily(), challenge=challenge), Refused, "challenge")


async def test_challenge_is_good_for_two_minutes_and_for_this_start(box: Box) -> None:
    box.clock.advance(1)
    in_time, late = box.signed_act(ANN.daily()), box.signed_act(ANN.daily())
    before_restart = box.signed_act(ANN.daily())
    box.clock.advance(120)
    await box.owners.act(in_time)
    box.clock.advance(0.001)
    await refused(box, late, Refused, "challenge")
    box = box.restart()
    await refused(box, before_restart, Refused, "challenge")
    box.close()


async def test_strangers_asking_for_challenges_push_out_no_owners(box: Box) -> None:
    data = box.signed_act(ANN.daily())
    given = {box.challenges.issue() for _ in range(5000)}
    assert len(given) == 5000
    await box.owners.act(data)


async def test_act_that_is_refused_uses_its_challenge_up(box: Box) -> None:
    challenge = box.challenges.issue()
    garbage = box.signed_act(ANN.daily(), b"garbage", challenge=challenge)
    await refused(box, garbage, DocumentError)
    await refused(box, box.signed_act(ANN.daily(), challenge=challenge), Refused, "challenge")


async def test_strangers_act_uses_no_challenge_up(box: Box) -> None:
    challenge = box.challenges.issue()
    await refused(box, box.signed_act(ed("stranger"), challenge=challenge), SignatureError)
    await box.owners.act(box.signed_act(ANN.daily(), challenge=challenge))


# Acts


async def test_act_for_another_device_is_refused(box: Box) -> None:
    await refused(box, box.signed_act(ANN.daily(), device=device_keys("other").device), DocumentError)


async def test_act_anchors_the_time(box: Box) -> None:
    box.clock.ntp = False
    box.clock.advance(100)
    await box.act(ANN.daily())
    now = box.time.now(box.clock())
    assert now is not None
    assert now.earliest_ns <= box.clock.wall_ns <= now.latest_ns
    assert now.latest_ns - now.earliest_ns <= 6 * SECOND_NS


async def test_one_bad_document_refuses_all_of_the_act(box: Box) -> None:
    good = box.home.signed_revocation()
    not_for_acts = sign(PayloadType.READ, {}, ANN.daily())
    for bad in (b"garbage", box.home.signed_token(ed("stranger")), box.home.signed_charter(), not_for_acts):
        before = box.keeper.state.standing
        with pytest.raises(DocumentError):
            await box.act(ANN.daily(), good, bad)
        assert box.keeper.state.standing == before
        assert not box.entries(EntryKind.REVOCATION)


async def test_refused_token_leaves_a_line_in_the_ledger(box: Box) -> None:
    token = box.home.signed_token(ed("stranger"))
    with pytest.raises(SignatureError):
        await box.act(ANN.daily(), token)
    (entry,) = box.entries(EntryKind.TOKEN_REFUSED)
    assert entry.body["documents"] == [document_id(box.home.token().payload())]
    box.disk.plan[len(box.disk.calls)] = Fault.FAILED
    with pytest.raises(SignatureError):
        await box.act(ANN.daily(), token)


async def test_token_is_taken_once(box: Box) -> None:
    await box.grant()
    await box_refuses(box, box.home.signed_token(ANN.root), "handed over before")
    again = sign(PayloadType.TOKEN, box.home.token().payload(), BEN.root)
    await box_refuses(box, again, "handed over before")


async def box_refuses(box: Box, document: bytes, match: str) -> None:
    tokens = box.keeper.state.tokens
    with pytest.raises(DocumentError, match=match):
        await box.act(ANN.daily(), document)
    assert box.keeper.state.tokens == tokens


async def test_token_of_another_epoch_device_agency_or_time_is_refused(box: Box) -> None:
    elsewhere = device_keys("other").device
    unknown = Body("Unknown").key_id
    past = {"not_before_ns": NOON - 2 * HOUR_NS, "not_after_ns": NOON - HOUR_NS}
    await box_refuses(box, box.home.signed_token(ANN.root, epoch=1), "another epoch")
    await box_refuses(box, box.home.signed_token(ANN.root, device=elsewhere), "another device")
    await box_refuses(box, box.home.signed_token(ANN.root, agency=unknown), "not in the charter")
    await box_refuses(box, box.home.signed_token(ANN.root, scope=past), "ended already")
    standing = Purpose(PurposeKind.STANDING, "GATE")
    await box_refuses(box, box.home.signed_token(ANN.daily(), purpose=standing), "standing")


async def test_token_revoked_before_it_came_is_refused_for_ever(box: Box) -> None:
    token = box.home.token()
    await box.act(BEN.daily(), box.home.signed_revocation(token=token.id))
    await box_refuses(box, box.home.signed_token(ANN.root), "revocation is final")
    box = box.restart()
    await box_refuses(box, box.home.signed_token(ANN.root), "revocation is final")
    box.close()


async def test_token_signed_before_everything_was_revoked_is_refused(box: Box) -> None:
    await box.act(BEN.daily(), box.home.signed_revocation())
    await box_refuses(box, box.home.signed_token(ANN.root), "another epoch")
    await box.act(ANN.daily(), box.home.signed_token(ANN.root, epoch=1))


async def test_two_tokens_under_one_nonce_in_one_act_are_refused_and_the_ledger_opens(box: Box) -> None:
    one = box.home.signed_token(ANN.root)
    other = box.home.signed_token(ANN.root, scope={"max_fps": 9})
    with pytest.raises(DocumentError, match="nonce"):
        await box.act(ANN.daily(), one, other)
    assert not box.keeper.state.tokens
    await box.act(ANN.daily(), one)
    box.restart().close()


async def test_charter_comes_alone(box: Box) -> None:
    charter = box.keeper.state.need_charter()
    following = box.home.signed_next(charter)
    with pytest.raises(DocumentError, match="comes alone"):
        await box.act(ANN.root, following, box.home.signed_token(ANN.root))
    assert box.keeper.state.need_charter().version == 1


async def test_two_next_charters_at_once_leave_one_and_the_ledger_opens(box: Box) -> None:
    charter = box.keeper.state.need_charter()
    drafts = [box.home.signed_next(charter), box.home.signed_next(charter, granting=2)]
    results = await asyncio.gather(*(box.act(ANN.root, draft) for draft in drafts), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Acknowledgement", "DocumentError"]
    box.restart().close()


async def test_charter_that_forgets_this_device_is_refused(box: Box) -> None:
    elsewhere = Home(keys=device_keys("other"))
    following = elsewhere.signed_next(box.keeper.state.need_charter())
    with pytest.raises(DocumentError, match="not among them"):
        await box.act(ANN.root, following)


async def test_removed_owner_acts_no_more(box: Box) -> None:
    alone = Home(people=(ANN,), changes={"governing": 1})
    following = alone.signed_next(box.keeper.state.need_charter(), ANN.root, BEN.root)
    await box.act(ANN.root, following)
    for key in (BEN.root, BEN.daily()):
        await refused(box, box.signed_act(key), SignatureError)


async def test_shutter_document_is_good_once(box: Box) -> None:
    closing = box.home.signed_shutter(ShutterState.CLOSED)
    opening = box.home.signed_shutter(ShutterState.OPEN)
    await box.act(ANN.daily(), closing)
    assert box.keeper.state.standing.shutter is ShutterState.CLOSED
    await box.act(ANN.daily(), opening)
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.CLOSED, name="second"))
    with pytest.raises(DocumentError, match="used before"):
        await box.act(ANN.daily(), opening)
    assert box.keeper.state.standing.shutter is ShutterState.CLOSED


async def test_closing_document_played_again_stops_nothing(box: Box) -> None:
    closing = box.home.signed_shutter(ShutterState.CLOSED)
    await box.act(ANN.daily(), closing)
    token = await box.grant()
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.OPEN))
    request = box.home.request()
    await box.ask(request)
    await box.offer(box.offer_now(request, token))
    with pytest.raises(DocumentError):
        await box.act(ANN.daily(), closing)
    assert len(box.gate.sessions()) == 1


async def test_closing_and_opening_in_one_act_follow_in_order(box: Box) -> None:
    await box.act(
        ANN.daily(), box.home.signed_shutter(ShutterState.OPEN), box.home.signed_shutter(ShutterState.CLOSED)
    )
    assert box.keeper.state.standing.shutter is ShutterState.CLOSED


async def test_revocation_and_its_token_in_one_act_leave_nothing_usable(box: Box) -> None:
    await box.act(ANN.daily(), box.home.signed_token(ANN.root), box.home.signed_revocation())
    request = box.home.request()
    decision = await box.ask(request)
    assert decision is not None
    assert str(decision.status) == "pending"


async def test_restraint_of_an_act_that_did_not_follow_is_lifted(box: Box) -> None:
    one = box.home.signed_token(ANN.root)
    other = box.home.signed_token(ANN.root, scope={"max_fps": 9})
    with pytest.raises(DocumentError):
        await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.CLOSED), one, other)
    # The shutter was written before the tokens were refused, and binds by the ledger, not by memory.
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.OPEN), one)
    decision = await box.ask(box.home.request())
    assert decision is not None
    assert str(decision.status) == "granted"


async def test_acknowledgement_says_where_the_act_stands(box: Box) -> None:
    seen = box.seen
    acknowledgement = await box.act(BEN.daily(), box.home.signed_revocation(), seen=seen)
    assert acknowledgement.entries == (box.log.size - 1,)
    assert acknowledgement.owner == id_of(BEN.daily())
    assert acknowledgement.learned_boot_us == box.clock() // 1000
    assert f"\n{box.log.size}\n" in acknowledgement.checkpoint


async def test_act_with_nothing_in_it_is_acknowledged_and_writes_nothing(box: Box) -> None:
    before = box.log.size
    assert (await box.act(ANN.daily())).entries == ()
    assert box.log.size == before


async def test_owner_who_has_seen_more_is_told_so(box: Box) -> None:
    seen = box.seen
    with pytest.raises(IntegrityError):
        await box.act(ANN.daily(), seen=type(seen)(seen.size + 1, seen.root))


# Reads


async def test_read_is_recorded_before_it_is_served(box: Box) -> None:
    read = box.home.read(box.challenges.issue(), BEN.daily())
    signed = sign(PayloadType.READ, read.payload(), BEN.daily())
    served = await box.owners.read(signed)
    assert (served.camera, served.from_ns) == ("front", NOON - HOUR_NS)
    (entry,) = box.entries(EntryKind.OWNER_READ)
    assert entry.body["by"] == id_of(BEN.daily())
    with pytest.raises(Refused, match="challenge"):
        await box.owners.read(signed)


async def test_read_whose_clock_contradicts_ours_ends_sessions(box: Box) -> None:
    token = await box.grant()
    request = box.home.request()
    await box.ask(request)
    await box.offer(box.offer_now(request, token))
    assert box.gate.sessions()
    read = box.home.read(box.challenges.issue(), BEN.daily(), signed_at_ns=NOON + HOUR_NS)
    await box.owners.read(sign(PayloadType.READ, read.payload(), BEN.daily()))
    assert not box.gate.sessions()


async def test_read_that_cannot_be_recorded_is_not_served(box: Box) -> None:
    read = box.home.read(box.challenges.issue(), BEN.daily())
    box.disk.plan[len(box.disk.calls)] = Fault.FAILED
    with pytest.raises(LedgerError):
        await box.owners.read(sign(PayloadType.READ, read.payload(), BEN.daily()))


async def test_read_by_a_stranger_or_an_agency_is_refused(box: Box) -> None:
    for key in (ed("stranger"), POLICE.signing, ed("Kim")):
        read = box.home.read(box.challenges.issue(), key)
        with pytest.raises(SignatureError):
            await box.owners.read(sign(PayloadType.READ, read.payload(), key))
