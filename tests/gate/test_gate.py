"""The gate: nothing is shown that is not recorded, and what was taken away stays away."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.consent.acts import Seen, ShutterState
from agent.consent.decision import Denial, Grant, Usage
from agent.consent.reasons import DenialReason
from agent.consent.times import SECOND_NS
from agent.errors import IntegrityError, LedgerError, Refused
from agent.gate import TICK_S, Restraint
from agent.ledger.entry import EntryKind
from agent.permit import Audience, Permit
from tests.ledger.disk import Fault
from tests.support.device import Box, HeldDisk
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    POLICE,
    STREET,
    TERMS,
    Home,
    signed_offer,
    verified_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.consent.handshake import Offer, Request
    from agent.consent.token import Token

REQUEST = verified_request(Home(), Home().charter())


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "ledger")
    yield box
    box.close()


async def paired(box: Box, **scope: Any) -> Token:
    await box.pair()
    return await box.grant(scope=scope)


async def start(
    box: Box, token: Token, name: str = "offer", request: Request = REQUEST, **changes: Any
) -> Permit:
    offer: Offer = box.offer_now(request, token, name=name, **changes)
    return await box.gate.open(request, offer, signed_offer(offer))


async def refused(box: Box, token: Token, name: str = "offer", **changes: Any) -> DenialReason:
    before = box.log.size
    with pytest.raises(Refused) as found:
        await start(box, token, name, **changes)
    assert box.log.size == before
    assert not box.gate.sessions()
    return DenialReason(found.value.reason)


# Nothing unrecorded


async def test_granted_session_is_recorded_before_its_permit_exists(box: Box) -> None:
    token = await paired(box)
    assert isinstance(box.disk, HeldDisk)
    box.disk.hold()
    opening = asyncio.ensure_future(start(box, token))  # noqa: TID251 - ends within this test
    await box.disk.until_reached()
    assert not box.gate.sessions()
    assert not any(box.gate.live(number) for number in range(50))
    box.disk.go()
    permit = await opening
    (entry,) = box.entries(EntryKind.SESSION_START)
    assert permit == Permit(
        number=box.log.size - 1,
        session=str(entry.body["session"]),
        camera="front",
        view=permit.view,
        caption=f"Control Room | CASE-1 | {entry.body['session']}",
        audience=Audience.AGENCY,
        ends_boot_ns=box.clock() + 60 * SECOND_NS,
    )
    assert permit.view.areas == (STREET,)
    assert entry.body["offer_id"] == box.gate.sessions()[0].offer.id
    assert box.gate.live(permit.number)


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.PERSISTED, Fault.SHORT, Fault.FULL, Fault.HALF_FULL])
@pytest.mark.parametrize("call", [0, 1])
async def test_write_that_failed_gives_no_permit_and_stops_sharing(box: Box, fault: Fault, call: int) -> None:
    token = await paired(box)
    box.disk.plan[len(box.disk.calls) + call] = fault
    with pytest.raises(LedgerError):
        await start(box, token)
    assert not box.gate.sessions()
    assert not box.keeper.durable
    assert await refused(box, token, "second") is DenialReason.LEDGER_UNAVAILABLE


async def test_start_that_failed_but_persisted_is_charged_in_full_and_closed_off_once(box: Box) -> None:
    token = await paired(box)
    box.disk.plan[len(box.disk.calls) + 1] = Fault.PERSISTED
    with pytest.raises(LedgerError):
        await start(box, token)
    assert token.id not in box.keeper.state.standing.usage
    for life in range(2):
        box = box.restart()
        assert box.keeper.state.standing.usage[token.id] == Usage(1, 60), life
        assert not box.keeper.state.sessions
        (end,) = box.entries(EntryKind.SESSION_END)
        assert (end.body["status"], end.body["seconds"]) == ("ended_conditions", 60)
    box.close()


async def test_start_that_the_state_refuses_is_not_written(box: Box) -> None:
    token = await paired(box, viewers=2)
    await start(box, token)
    assert isinstance(box.disk, HeldDisk)
    # The same offer again, past every check before the gate.
    offer = box.offer_now(REQUEST, token)
    before = box.log.size
    with pytest.raises(Refused):
        await box.gate.open(REQUEST, offer, signed_offer(offer))
    assert box.log.size == before
    box.restart().close()


# Taken away


async def test_revocation_while_the_start_is_being_written_leaves_no_permit(box: Box) -> None:
    token = await paired(box)
    assert isinstance(box.disk, HeldDisk)
    box.disk.hold()
    opening = asyncio.ensure_future(start(box, token))  # noqa: TID251 - ends within this test
    await box.disk.until_reached()
    revoking = asyncio.ensure_future(box.act(BEN.daily(), box.home.signed_revocation(token=token.id)))  # noqa: TID251
    await asyncio.sleep(0)
    box.disk.go()
    with pytest.raises(Refused) as found:
        await opening
    assert found.value.reason == DenialReason.TOKEN_REVOKED
    await revoking
    assert not box.gate.sessions()
    (end,) = box.entries(EntryKind.SESSION_END)
    assert (end.body["seconds"], end.body["frames"]) == (0, 0)
    assert await refused(box, token, "again") is DenialReason.TOKEN_REVOKED


@pytest.mark.parametrize(
    "change",
    ["shutter", "camera", "time", "token", "viewers"],
)
async def test_anything_that_changes_while_the_start_is_written_counts(box: Box, change: str) -> None:
    token = await paired(box)
    assert isinstance(box.disk, HeldDisk)
    box.disk.hold()
    opening = asyncio.ensure_future(start(box, token))  # noqa: TID251 - ends within this test
    await box.disk.until_reached()
    if change == "shutter":
        box.gate.hold(Restraint(DenialReason.SHUTTER_CLOSED))
    elif change == "camera":
        box.cameras = frozenset()
    elif change == "time":
        box.clock.ntp = False
        box.clock.advance(25 * 3600)
    elif change == "token":
        box.clock.advance(3600)
    else:
        box.most_viewers = 0
    box.disk.go()
    with pytest.raises(Refused):
        await opening
    assert not box.gate.sessions()


@pytest.mark.parametrize("what", ["token", "agency", "everything"])
async def test_revocation_ends_running_sessions_before_it_is_written(box: Box, what: str) -> None:
    token = await paired(box)
    permit = await start(box, token)
    named = {"token": {"token": token.id}, "agency": {"agency": POLICE.key_id}, "everything": {}}[what]
    assert isinstance(box.disk, HeldDisk)
    box.disk.hold()
    revoking = asyncio.ensure_future(box.act(BEN.daily(), box.home.signed_revocation(**named)))  # noqa: TID251
    await box.disk.until_reached()
    assert not box.gate.live(permit.number)
    assert box.net.stops == [permit.number]
    assert box.log.size == permit.number + 1  # the revocation is not there yet
    box.disk.go()
    acknowledgement = await revoking
    assert acknowledgement.entries == (box.log.size - 1,)
    assert [ended.reason for ended in box.ended] == [DenialReason.TOKEN_REVOKED]
    expected = DenialReason.TOKEN_REVOKED if what == "token" else DenialReason.TOKEN_SUPERSEDED
    assert await refused(box, token, "again") is expected
    box = box.restart()
    await box.act(ANN.daily(), seen=box.seen)
    assert await refused(box, token, "after restart") is expected
    box.close()


async def test_revocation_of_something_else_ends_nothing(box: Box) -> None:
    token = await paired(box)
    permit = await start(box, token)
    await box.act(BEN.daily(), box.home.signed_revocation(token="sha256:" + "0" * 64))
    assert box.gate.live(permit.number)


async def test_restraint_stays_when_its_document_cannot_be_made_durable(box: Box) -> None:
    token = await paired(box)
    permit = await start(box, token)
    box.disk.plan[len(box.disk.calls)] = Fault.FAILED
    with pytest.raises(LedgerError):
        await box.act(BEN.daily(), box.home.signed_revocation(token=token.id))
    assert not box.gate.live(permit.number)
    box.keeper._broken = None  # even if the ledger could be written again
    assert await refused(box, token, "again") is DenialReason.TOKEN_REVOKED
    assert box.gate.decide(REQUEST) == Denial(DenialReason.TOKEN_REVOKED)


async def test_revocation_is_written_on_a_full_disk_though_what_comes_with_it_is_not(tmp_path: Path) -> None:
    disk = HeldDisk()
    box = Box(tmp_path / "ledger", disk=disk)
    token = await paired(box)
    seen = box.seen
    box = box.restart()
    disk.capacity = 0
    for size in (100_000, 10_000, 1000, 100, 0):  # until only the reserve is left
        while True:
            try:
                box.keeper.record(EntryKind.GAP, {"x": "x" * size})
            except LedgerError:
                break
    with pytest.raises(LedgerError):
        await box.act(BEN.daily(), box.home.signed_revocation(token=token.id), seen=seen)
    assert token.id in box.keeper.state.standing.revoked
    box.close()


async def test_explanation_agrees_with_the_decision_under_restraint(box: Box) -> None:
    await paired(box)
    assert isinstance(box.gate.decide(REQUEST), Grant)
    decision, steps = box.gate.explain(REQUEST)
    assert decision == box.gate.decide(REQUEST)
    assert all(step.holds for step in steps)
    box.gate.hold(Restraint(DenialReason.SHUTTER_CLOSED))
    decision, steps = box.gate.explain(REQUEST)
    assert decision == box.gate.decide(REQUEST) == Denial(DenialReason.SHUTTER_CLOSED)
    assert steps[-1].reason is DenialReason.SHUTTER_CLOSED


async def test_restraint_on_one_token_leaves_the_others(box: Box) -> None:
    token = await paired(box)
    other = await box.grant(name="other")
    box.gate.hold(Restraint(DenialReason.TOKEN_REVOKED, token=other.id))
    decision = box.gate.decide(REQUEST)
    assert isinstance(decision, Grant)
    assert decision.token == token.id
    assert box.gate.explain(REQUEST)[0] == decision
    await box.act(BEN.daily(), box.home.signed_revocation(token=token.id))
    assert box.gate.decide(REQUEST) == box.gate.explain(REQUEST)[0] == Denial(DenialReason.TOKEN_REVOKED)


async def test_without_any_token_the_reason_is_that_there_is_none(box: Box) -> None:
    await box.pair()
    assert box.gate.decide(REQUEST) == box.gate.explain(REQUEST)[0] == Denial(DenialReason.NO_TOKEN)


# Ends


async def test_permit_ends_on_the_nanosecond(box: Box) -> None:
    permit = await start(box, await paired(box))
    box.clock.ns = permit.ends_boot_ns - 1
    box.gate.reconsider()
    assert box.gate.live(permit.number)
    box.clock.ns += 1
    assert not box.gate.live(permit.number)
    box.gate.reconsider()
    assert not box.gate.sessions()
    assert [ended.reason for ended in box.ended] == [DenialReason.TOKEN_EXPIRED]


async def test_session_lasts_its_whole_length_to_the_tokens_last_second(box: Box) -> None:
    token = await paired(box)
    box.clock.advance(3500)  # 40 s and the doubt about the clock are left
    request = replace(REQUEST, expires_at_ns=NOON + 2 * HOUR_NS)
    permit = await start(box, token, request=request)
    assert permit.ends_boot_ns < box.clock() + 40 * SECOND_NS
    while box.clock() + SECOND_NS // 10 < permit.ends_boot_ns:
        box.clock.advance(0.1)
        box.gate.reconsider()
        assert box.gate.live(permit.number)


async def test_end_charges_the_seconds_begun_and_a_permit_that_ended_never_lives_again(box: Box) -> None:
    token = await paired(box)
    permit = await start(box, token)
    box.clock.advance(12.001)
    box.gate.end(permit.number, DenialReason.VIEWER_GONE)
    box.gate.end(permit.number, DenialReason.VIEWER_GONE)
    assert len(box.ended) == 1
    assert not box.gate.live(permit.number)
    await box.settle()
    assert box.keeper.state.standing.usage[token.id] == Usage(1, 13)
    (end,) = box.entries(EntryKind.SESSION_END)
    assert end.body == {
        "start": permit.number, "seconds": 13, "frames": 3, "bytes": 100, "status": "ended_conditions",
    }  # fmt: skip
    assert not box.gate.live(permit.number)


async def test_end_noticed_late_charges_no_more_than_was_granted(box: Box) -> None:
    token = await paired(box)
    await start(box, token)
    box.clock.advance(75)
    box.gate.reconsider()
    await box.settle()
    assert box.keeper.state.standing.usage[token.id] == Usage(1, 60)
    assert not box.keeper.state.sessions


async def test_end_that_cannot_be_written_leaves_the_session_charged_in_full(box: Box) -> None:
    token = await paired(box)
    permit = await start(box, token)
    box.gate.end(permit.number, DenialReason.VIEWER_GONE)
    box.disk.plan[len(box.disk.calls)] = Fault.FAILED
    await box.settle()
    assert box.keeper.state.standing.usage[token.id] == Usage(1, 60)
    assert not box.keeper.durable


async def test_sessions_and_seconds_are_counted_over_restarts(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    token = await paired(box, sessions=3, total_seconds=100)
    for life, (length, expected) in enumerate([(30, 60), (15, 60), (55, 55)]):
        permit = await start(box, token, f"offer {life}")
        assert permit.ends_boot_ns - box.clock() == expected * SECOND_NS
        box.clock.advance(length)
        box.gate.end_all(DenialReason.NET_LOST)
        await box.settle()
        box = box.restart()
        await box.act(ANN.daily(), seen=box.seen)
    assert box.keeper.state.standing.usage[token.id] == Usage(3, 100)
    assert await refused(box, token, "fourth") is DenialReason.TOKEN_USED_UP
    box.close()


async def test_session_interrupted_by_a_crash_is_charged_in_full(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    token = await paired(box, total_seconds=70)
    await start(box, token)
    box.clock.advance(1)
    box = box.restart()
    assert box.keeper.state.standing.usage[token.id] == Usage(1, 60)
    await box.act(ANN.daily(), seen=box.seen)
    permit = await start(box, token, "second")
    assert permit.ends_boot_ns - box.clock() == 10 * SECOND_NS
    box.close()


async def test_viewers_are_capped_by_token_and_by_the_board(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger", most_viewers=2)
    token = await paired(box, viewers=1)
    other = await box.grant(name="other", scope={"viewers": 5, "sessions": 9, "total_seconds": 999})
    await start(box, token, "a")
    with pytest.raises(Refused) as found:
        await start(box, token, "b")
    assert found.value.reason == DenialReason.TOO_MANY_VIEWERS
    second = await start(box, other, "c")
    with pytest.raises(Refused):
        await start(box, other, "d")
    box.gate.end(second.number, DenialReason.VIEWER_GONE)
    await start(box, other, "e")
    box.close()


# Reconsidered


async def test_running_session_ends_when_what_allowed_it_goes(tmp_path: Path) -> None:
    def no_camera(box: Box) -> None:
        box.cameras = frozenset()

    def no_ledger(box: Box) -> None:
        box.keeper._broken = "disk"

    def no_time(box: Box) -> None:
        box.clock.ntp = False
        box.time._anchor = None

    for number, (change, reason) in enumerate(
        [
            (no_camera, DenialReason.CAMERA_AWAY),
            (no_ledger, DenialReason.LEDGER_UNAVAILABLE),
            (no_time, DenialReason.TIME_UNTRUSTED),
        ]
    ):
        box = Box(tmp_path / str(number))
        permit = await start(box, await paired(box))
        change(box)
        box.gate.reconsider()
        assert [ended.reason for ended in box.ended] == [reason]
        assert not box.gate.live(permit.number)
        box.close()


async def test_running_session_outlives_its_request_but_not_its_badge(box: Box) -> None:
    token = await paired(box)
    request = verified_request(box.home, box.home.charter(), expires_at_ns=NOON + 5 * SECOND_NS)
    permit = await start(box, token, request=request)
    box.clock.advance(20)
    box.gate.reconsider()
    assert box.gate.live(permit.number)


async def test_charter_that_narrows_ends_the_session_at_the_new_limit(box: Box) -> None:
    token = await paired(box)
    permit = await start(box, token)
    box.clock.advance(5)
    charter = box.keeper.state.need_charter()
    capped = box.home.signed_next(charter, rules=[{"effect": "cap", "seconds": 20}])
    await box.act(ANN.root, capped)
    assert box.gate.live(permit.number)
    box.clock.ns = permit.ends_boot_ns - 40 * SECOND_NS - 1
    assert box.gate.live(permit.number)
    box.clock.ns += 1
    assert not box.gate.live(permit.number)
    box.gate.reconsider()
    await box.settle()
    assert box.keeper.state.standing.usage[token.id] == Usage(1, 20)


async def test_charter_that_changes_the_view_ends_the_session(box: Box) -> None:
    await start(box, await paired(box))
    charter = box.keeper.state.need_charter()
    smaller = box.home.signed_next(charter, rules=[{"effect": "cap", "height": 100}])
    await box.act(ANN.root, smaller)
    assert [ended.reason for ended in box.ended] == [DenialReason.OUTSIDE_SCOPE]


async def test_charter_that_drops_the_token_ends_its_session(box: Box) -> None:
    token = await paired(box)
    await start(box, token)
    charter = box.keeper.state.need_charter()
    strict = box.home.signed_next(charter, granting=2)
    await box.act(ANN.root, strict)
    assert not box.keeper.state.tokens
    assert [ended.reason for ended in box.ended] == [DenialReason.NO_TOKEN]


async def test_shutter_closes_at_once_and_opens_for_new_sessions_only(box: Box) -> None:
    token = await paired(box)
    permit = await start(box, token)
    await box.act(BEN.daily(), box.home.signed_shutter(ShutterState.CLOSED, BEN.daily()))
    assert not box.gate.live(permit.number)
    assert await refused(box, token, "b") is DenialReason.SHUTTER_CLOSED
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.OPEN))
    assert not box.gate.live(permit.number)
    await start(box, token, "c")


async def test_gate_ends_sessions_by_itself(box: Box) -> None:
    token = await paired(box)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(box.gate.run())
        permit = await start(box, token)
        await asyncio.sleep(0)
        box.clock.ns = permit.ends_boot_ns
        async with asyncio.timeout(5):
            while box.gate.sessions():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        running.cancel()
    assert [ended.reason for ended in box.ended] == [DenialReason.TOKEN_EXPIRED]


async def test_change_that_nobody_reports_is_noticed_within_the_tick(box: Box) -> None:
    token = await paired(box)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(box.gate.run())
        await start(box, token)
        box.cameras = frozenset()
        async with asyncio.timeout(10 * TICK_S):
            while box.gate.sessions():
                await asyncio.sleep(TICK_S / 10)
        running.cancel()
    assert [ended.reason for ended in box.ended] == [DenialReason.CAMERA_AWAY]


async def test_gate_without_sessions_sleeps(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(box.gate, "reconsider", look)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(box.gate.run())
        for _ in range(50):
            await asyncio.sleep(0)
        running.cancel()
    assert looks == 0


# Boot, rollback, time


async def test_after_boot_nothing_is_shared_until_an_owner_confirms(box: Box) -> None:
    token = await paired(box)
    seen = box.seen
    box = box.restart()
    assert await refused(box, token) is DenialReason.UNCONFIRMED_SINCE_BOOT
    await box.act(ANN.daily())
    await box.act(ANN.daily(), seen=Seen(0, box.log.root(0)))
    assert await refused(box, token, "b") is DenialReason.UNCONFIRMED_SINCE_BOOT
    acknowledgement = await box.act(BEN.daily(), seen=seen)
    assert acknowledgement.entries == (box.log.size - 1,)
    await start(box, token, "c")
    again = await box.act(BEN.daily(), seen=box.seen)
    assert again.entries == ()
    box.close()


async def test_household_that_only_wants_a_warning_shares_at_once(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger", home=Home(changes={"rollback": "warn"}))
    token = await paired(box)
    box = box.restart()
    request = verified_request(box.home, box.home.charter())
    await start(box, token, request=request)
    box.close()


async def test_copied_back_ledger_is_found_by_what_an_owner_has_seen(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    token = await paired(box)
    copied = HeldDisk()
    copied.files = copy.deepcopy(box.disk.files)
    await box.act(BEN.daily(), box.home.signed_revocation(token=token.id))
    seen = box.seen
    box = box.restart(copied)
    assert token.id not in box.keeper.state.standing.revoked
    assert await refused(box, token) is DenialReason.UNCONFIRMED_SINCE_BOOT
    with pytest.raises(IntegrityError, match="less than you have seen"):
        await box.act(BEN.daily(), seen=seen)
    # Sharing is held, whoever else confirms what they have seen.
    await box.act(ANN.daily(), seen=Seen(2, box.log.root(2)))
    assert box.keeper.state.confirmed_since_boot
    assert await refused(box, token, "b") is DenialReason.UNCONFIRMED_SINCE_BOOT
    assert box.gate.decide(REQUEST) == Denial(DenialReason.UNCONFIRMED_SINCE_BOOT)
    box.close()


async def test_another_history_of_the_same_length_is_found_too(box: Box) -> None:
    token = await paired(box)
    permit = await start(box, token)
    with pytest.raises(IntegrityError):
        await box.act(BEN.daily(), seen=Seen(box.log.size, bytes(32)))
    assert not box.gate.live(permit.number)


async def test_unknown_time_shares_nothing(box: Box) -> None:
    token = await paired(box)
    box.clock.ntp = False
    box.clock.advance(25 * 3600)
    assert box.gate.decide(REQUEST) == Denial(DenialReason.TIME_UNTRUSTED)
    assert await refused(box, token) is DenialReason.TIME_UNTRUSTED


async def test_clock_that_jumps_ends_every_session(box: Box) -> None:
    token = await paired(box)
    await start(box, token)
    box.gate.reconsider()
    assert not box.ended
    await box.act(ANN.daily(), signed_at_ns=box.clock.wall_ns + 600 * SECOND_NS)
    assert not box.gate.sessions()
    assert [ended.reason for ended in box.ended] == [DenialReason.TIME_UNTRUSTED]


@pytest.mark.parametrize("jump_s", [-600, 600])
async def test_network_time_that_jumps_ends_every_session(tmp_path: Path, jump_s: int) -> None:
    box = Box(tmp_path / "ledger")
    token = await paired(box)
    box = box.restart()  # the anchor that owners gave is gone: NTP alone says what time it is
    box.keeper.record(EntryKind.CONFIRMED, {})
    box.clock.advance(300)
    permit = await start(box, token)
    box.clock.advance(1)
    box.gate.reconsider()
    assert box.gate.live(permit.number)
    box.clock.wrong_ns = jump_s * SECOND_NS
    box.gate.reconsider()
    assert not box.gate.live(permit.number)
    box.close()


async def test_jump_long_past_ends_no_session_that_began_after_it(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    token = await paired(box)
    box = box.restart()
    box.keeper.record(EntryKind.CONFIRMED, {})
    box.gate.reconsider()
    box.clock.wrong_ns = 300 * SECOND_NS
    permit = await start(box, token)
    box.gate.reconsider()
    assert box.gate.live(permit.number)
    box.close()


# Offers


async def test_other_terms_than_the_owners_signed_are_refused(box: Box) -> None:
    token = await paired(box)
    for terms in (
        replace(TERMS, forwarding=True),
        replace(TERMS, analysis=True),
        replace(TERMS, retention_days=31),
        replace(TERMS, retention_days=29),
    ):
        assert await refused(box, token, terms=terms) is DenialReason.NO_TOKEN


async def test_token_that_was_never_handed_over_is_refused(box: Box) -> None:
    await paired(box)
    never = box.home.token(nonce=bytes(16))
    assert await refused(box, never) is DenialReason.NO_TOKEN


async def test_two_offers_at_once_take_one_place(box: Box) -> None:
    token = await paired(box)
    results = await asyncio.gather(
        start(box, token, "a"), start(box, token, "b"), start(box, token, "c"), return_exceptions=True
    )
    assert [isinstance(result, Permit) for result in results] == [True, False, False]
    assert len(box.gate.sessions()) == 1
