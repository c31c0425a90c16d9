"""A request from arrival to end: whatever the silence was, its agency hears the same, at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from agent.consent import handshake
from agent.consent.acts import BlockState, ShutterState
from agent.consent.reasons import AgencyReason
from agent.consent.rules import PurposeKind
from agent.consent.times import SECOND_NS
from agent.consent.token import Purpose
from agent.errors import DocumentError, SignatureError
from agent.ledger.entry import EntryKind
from agent.ledger.state import body_document
from agent.parcel import Parcel
from agent.sealing import SealKind
from agent.waiting import DELAY_NS, LONGEST_WAIT_S, SHORTEST_WAIT_S, UNRECORDED_MOST
from tests.ledger.disk import Fault
from tests.support.device import Box
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    OTHER_BODY,
    POLICE,
    Body,
    Home,
    ed,
    nonce,
    signed_request,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.consent.handshake import Decision, Request

LIFETIME_S = 3600
DELAY_S = DELAY_NS // SECOND_NS
CLOCK_S = 4
"""More than the fake clock's own doubt."""


@pytest.fixture
async def box(tmp_path: Path) -> Any:
    box = Box(tmp_path / "ledger")
    await box.pair()
    yield box
    box.close()


@pytest.fixture
def request_(box: Box) -> Request:
    return box.home.request()


def heard(box: Box, request: Request, name: str = "request") -> list[Decision]:
    """What went to the agency about a request without being asked."""
    found = []
    for message in box.net.sent:
        parcel = Parcel.parse(message.blob)
        if parcel.kind is SealKind.REPLY and parcel.topic == request.id:
            found.append(
                handshake.verify_decision(
                    box.opened(message.blob, request, name), box.home.keys.signing_public
                )
            )
    return found


def words(box: Box, request: Request, name: str = "request") -> list[AgencyReason]:
    return [each.status for each in heard(box, request, name)]


def lapsed(box: Box) -> list[object]:
    entries = box.entries(EntryKind.DECISION)
    return [each.body["request"] for each in entries if each.body["reason"] == "lapsed"]


def standing(box: Box, request: Request) -> str:
    held = box.keeper.state.requests.get(request.id)
    return box.sharing.waiting.standing(held).word if held else "gone"


async def until(box: Box, seconds: float) -> None:
    """Let the clock run to ``seconds`` after noon, and what is due happen."""
    box.clock.advance(seconds - (box.clock.wall_ns - NOON) / SECOND_NS)
    await box.sharing.lapse()


# The story


async def test_request_that_nobody_answers_lapses_and_its_agency_is_told_once(
    box: Box, request_: Request
) -> None:
    await box.ask(request_)
    assert standing(box, request_) == "waiting"
    await until(box, LIFETIME_S)
    assert not box.net.sent
    await until(box, LIFETIME_S + DELAY_S - 1)
    assert not box.net.sent
    assert not lapsed(box)
    for _ in range(3):
        await until(box, LIFETIME_S + DELAY_S + CLOCK_S)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]
    assert lapsed(box) == [request_.id]
    assert standing(box, request_) == "gone"
    decision = await box.ask(request_)
    assert decision is not None
    assert decision.status is AgencyReason.STALE_REQUEST


async def test_granted_request_does_not_lapse(box: Box, request_: Request) -> None:
    await box.ask(request_)
    await box.grant(re=request_.id)
    await box.sharing.owners_acted()
    assert standing(box, request_) == "granted"
    await until(box, LIFETIME_S + 60)
    box = box.restart()
    await until(box, LIFETIME_S + 120)
    assert words(box, request_) == []
    assert not lapsed(box)
    box.close()


async def test_late_consent_reaches_no_request_that_lapsed(box: Box, request_: Request) -> None:
    await box.ask(request_)
    await until(box, LIFETIME_S + DELAY_S + CLOCK_S)
    await box.grant(scope={"not_after_ns": NOON + 9 * HOUR_NS}, re=request_.id)
    await box.sharing.owners_acted()
    assert words(box, request_) == [AgencyReason.NO_ANSWER]


async def test_request_lapses_after_a_restart_as_well_and_once(box: Box, request_: Request) -> None:
    await box.ask(request_)
    box = box.restart()
    await until(box, LIFETIME_S + DELAY_S + CLOCK_S)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]
    box = box.restart()
    await until(box, LIFETIME_S + 60)
    assert not box.net.sent
    assert lapsed(box) == [request_.id]
    box.close()


async def test_request_that_lapsed_while_the_device_was_off_is_told_when_it_is_back(
    box: Box, request_: Request
) -> None:
    await box.ask(request_)
    box = box.restart()
    await until(box, 20 * LIFETIME_S)
    # Another request comes first: the old one must not be forgotten untold.
    later = box.home.request(
        name="later", issued_at_ns=NOON + 20 * HOUR_NS, expires_at_ns=NOON + 21 * HOUR_NS
    )
    await box.ask(later, name="later")
    await box.sharing.lapse()
    assert words(box, request_) == [AgencyReason.NO_ANSWER]
    box.close()


async def test_nobody_is_told_while_net_is_away_and_all_are_when_it_is_back(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    await box.pair()
    request = box.home.request()
    await box.ask(request)
    box.net.away = True
    await until(box, LIFETIME_S + 60)
    assert not box.net.sent
    box.net.away = False
    await box.sharing.lapse()
    assert words(box, request) == [AgencyReason.NO_ANSWER]
    box.close()


async def test_agency_that_is_denied_at_once_hears_nothing_more(box: Box) -> None:
    request = box.home.request(body=OTHER_BODY)
    decision = await box.ask(request, body=OTHER_BODY)
    assert decision is not None
    assert decision.status is AgencyReason.DENIED
    await until(box, LIFETIME_S + 60)
    assert not box.net.sent
    assert lapsed(box) == [request.id]


async def test_agency_removed_meanwhile_is_not_told_and_the_end_is_entered(
    box: Box, request_: Request
) -> None:
    await box.ask(request_)
    alone = Home(bodies=(OTHER_BODY,)).signed_next(box.keeper.state.need_charter())
    await box.act(ANN.root, alone)
    assert standing(box, request_) == "closed"
    await until(box, LIFETIME_S + 60)
    assert not box.net.sent
    assert lapsed(box) == [request_.id]


# Not now


async def test_any_one_owner_says_not_now_and_the_agency_cannot_tell(box: Box, request_: Request) -> None:
    await box.ask(request_)
    await box.act(BEN.daily(), box.home.signed_dismissal(request_))
    await box.sharing.owners_acted()
    assert standing(box, request_) == "dismissed"
    assert not box.net.sent
    box = box.restart()
    await box.act(ANN.daily(), seen=box.seen)
    assert standing(box, request_) == "dismissed"
    await until(box, LIFETIME_S + DELAY_S + CLOCK_S)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]
    box.close()


async def test_owner_who_said_not_now_may_still_consent(box: Box, request_: Request) -> None:
    await box.ask(request_)
    await box.act(BEN.daily(), box.home.signed_dismissal(request_))
    await box.grant(re=request_.id)
    await box.sharing.owners_acted()
    assert words(box, request_) == [AgencyReason.GRANTED]
    assert standing(box, request_) == "granted"


async def test_dismissal_by_a_stranger_of_nothing_or_used_before_is_refused(
    box: Box, request_: Request
) -> None:
    await box.ask(request_)
    home = box.home
    before = box.log.size
    refused: list[tuple[bytes, type[Exception]]] = [
        (home.signed_dismissal(request_, ed("stranger")), SignatureError),
        (home.signed_dismissal(request_, POLICE.signing), SignatureError),
        (home.signed_dismissal(home.request(name="never asked")), DocumentError),
        (home.signed_dismissal(request_, household="sha256:" + "0" * 64), DocumentError),
        (home.signed_dismissal(request_, nonce=nonce("request")), DocumentError),
    ]
    for document, error in refused:
        with pytest.raises(error):
            await box.act(ANN.daily(), document)
    assert box.log.size == before
    await box.act(ANN.daily(), home.signed_dismissal(request_))
    with pytest.raises(DocumentError, match="used before"):
        await box.act(ANN.daily(), home.signed_dismissal(request_))


async def test_dismissal_of_a_request_that_has_lapsed_since_is_not_written(
    box: Box, request_: Request
) -> None:
    await box.ask(request_)
    dismissal = box.home.signed_dismissal(request_)
    await until(box, LIFETIME_S + 60)
    size = box.log.size
    with pytest.raises(DocumentError, match="not held"):
        box.keeper.record(EntryKind.DISMISSED, body_document(dismissal, by="x"))
    assert box.log.size == size


# All silences alike


async def _nothing(_: Box) -> None:
    """No owner does anything."""


async def _closed(box: Box) -> None:
    await box.act(BEN.daily(), box.home.signed_shutter(ShutterState.CLOSED))


async def _blocked(box: Box) -> None:
    await box.act(BEN.daily(), box.home.signed_block(BlockState.BLOCKED))


async def _revoked(box: Box) -> None:
    token = await box.grant()
    await box.act(BEN.daily(), box.home.signed_revocation(token=token.id))


async def _alarm_token(box: Box) -> None:
    await box.grant(scope={"needs_alarm": True})


async def _no_picture(box: Box) -> None:
    box.cameras = frozenset()


CAUSES: dict[str, tuple[Callable[[Box], Awaitable[None]], dict[str, Any]]] = {
    "nobody answers": (_nothing, {}),
    "not now": (_nothing, {}),
    "not now, by an owner whose clock is better": (_nothing, {}),
    "no such camera": (_nothing, {"camera": "back"}),
    "shutter closed": (_closed, {}),
    "agency blocked": (_blocked, {}),
    "consent revoked": (_revoked, {}),
    "alarm off": (_alarm_token, {}),
    "no picture": (_no_picture, {}),
    "another purpose": (_revoked, {"purpose": Purpose(PurposeKind.DRILL, "D")}),
}


async def trace(directory: Path, body: Body, cause: str) -> tuple[Any, ...]:
    """All that the agency, its link and the disk see of one request, from its arrival to its end."""
    before, changes = CAUSES[cause]
    box = Box(directory)
    await box.pair()
    await before(box)
    request = box.home.request(body=body, **changes)
    calls, size = len(box.disk.calls), box.log.size
    reply = await box.tell(body, signed_request(request))
    assert reply is not None
    written = box.disk.calls[calls:]
    kinds = [each.kind for each in box.entries()[size:]]
    if cause.startswith("not now"):
        box.clock.advance(1.5 if "better" in cause else 0)
        await box.act(BEN.daily(), box.home.signed_dismissal(request))
        await box.sharing.owners_acted()
    told: list[tuple[float, int]] = []
    for second in range(LIFETIME_S - 2, LIFETIME_S + 20):
        await until(box, second)
        told += [(second, len(message.blob)) for message in box.net.sent[len(told) :]]
    decisions = [str(each.status) for each in heard(box, request)]
    box.close()
    return len(reply), written, kinds, told, decisions


@pytest.mark.parametrize("body", [POLICE, OTHER_BODY])
async def test_every_silence_is_the_same_to_agency_link_and_disk(tmp_path: Path, body: Body) -> None:
    """The same entries by the same calls of the disk before the reply, the same sizes, the same second."""
    seen = {cause: await trace(tmp_path / cause, body, cause) for cause in CAUSES}
    usual = seen["nobody answers"]
    assert usual[2] == [EntryKind.REQUEST, EntryKind.DECISION]
    assert usual[4] == (["no_answer"] if body is POLICE else [])
    for cause, found in seen.items():
        assert found == usual, cause


async def test_request_that_could_not_be_recorded_lapses_like_any_other(box: Box, request_: Request) -> None:
    for at in range(20):
        box.disk.plan[len(box.disk.calls) + at] = Fault.FULL
    decision = await box.ask(request_)
    assert decision is not None
    assert decision.status is AgencyReason.PENDING
    assert request_.id not in box.keeper.state.requests
    await until(box, LIFETIME_S + DELAY_S + CLOCK_S)
    await until(box, LIFETIME_S + 60)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]


async def test_end_that_could_not_be_recorded_is_told_once_and_recorded_later(
    box: Box, request_: Request
) -> None:
    await box.ask(request_)
    for at in range(20):
        box.disk.plan[len(box.disk.calls) + at] = Fault.FULL
    for second in range(3):
        await until(box, LIFETIME_S + 60 + second)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]
    assert not lapsed(box)
    box.disk.plan.clear()
    box.keeper.record(EntryKind.CLOCK, {})
    await box.sharing.lapse()
    assert lapsed(box) == [request_.id]
    assert words(box, request_) == [AgencyReason.NO_ANSWER]


async def test_device_that_does_not_know_the_time_counts_from_the_arrival(
    box: Box, request_: Request
) -> None:
    box.clock.ntp = False
    box.time._anchor = None
    await box.ask(request_)
    await until(box, LIFETIME_S + DELAY_S - 1)
    assert not box.net.sent
    await until(box, LIFETIME_S + DELAY_S)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]


async def test_requests_that_cannot_be_recorded_fill_no_memory(box: Box, request_: Request) -> None:
    waiting = box.sharing.waiting
    for number in range(UNRECORDED_MOST + 50):
        waiting.arrived(box.home.request(name=f"r{number}"), recorded=False)
    assert len(waiting._unrecorded) == len(waiting._due_ns) == UNRECORDED_MOST
    await until(box, LIFETIME_S + 60)
    assert not waiting._unrecorded
    waiting.due()
    assert not waiting._due_ns


# At a glance


async def test_status_says_how_many_wait_since_when_and_when_the_next_lapses(box: Box) -> None:
    glance = box.sharing.waiting.glance
    assert glance() == {"pending": 0, "pending_since": None, "pending_lapses_in_s": None}
    assert box.sharing.waiting.next_end_s() is None
    first, second = box.home.request(), box.home.request(name="b", expires_at_ns=NOON + 600 * SECOND_NS)
    await box.ask(first)
    await box.ask(second, name="b")
    await box.ask(box.home.request(name="c", camera="back"), name="c")
    box.clock.advance(100)
    found = glance()
    assert (found["pending"], found["pending_since"]) == (2, "2026-01-31T12:00:00Z")
    assert 490 <= int(str(found["pending_lapses_in_s"])) <= 500
    await box.act(BEN.daily(), box.home.signed_dismissal(second))
    assert glance()["pending"] == 1
    await box.act(BEN.daily(), box.home.signed_block(BlockState.BLOCKED))
    assert glance()["pending"] == 0
    assert box.sharing.waiting.next_end_s() == LONGEST_WAIT_S
    await until(box, 600 + DELAY_S - 1)
    assert box.sharing.waiting.next_end_s() == pytest.approx(SHORTEST_WAIT_S + 1, abs=1)


async def test_time_unknown_is_said_as_unknown(box: Box, request_: Request) -> None:
    await box.ask(request_)
    box.clock.ntp = False
    box.time._anchor = None
    assert box.sharing.waiting.glance()["pending_lapses_in_s"] is None


@contextlib.asynccontextmanager
async def running(box: Box) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(box.sharing.run())
        await asyncio.sleep(0)
        yield
        loop.cancel()


async def until_sent(box: Box) -> None:
    async with asyncio.timeout(10):
        while not box.net.sent:
            await asyncio.sleep(0.02)


async def test_loop_sleeps_until_the_end_of_a_request(box: Box, request_: Request) -> None:
    await box.ask(request_)
    box.clock.advance(LIFETIME_S + DELAY_S)
    async with running(box):
        box.clock.advance(60)
        await until_sent(box)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]


async def test_loop_wakes_when_a_request_comes(box: Box, request_: Request) -> None:
    async with running(box):
        await box.ask(request_)
        box.clock.advance(3 * LIFETIME_S)
        times: dict[str, Any] = {"issued_at_ns": NOON + 3 * HOUR_NS, "expires_at_ns": NOON + 4 * HOUR_NS}
        await box.ask(box.home.request(name="later", **times), name="later")
        await until_sent(box)
    assert words(box, request_) == [AgencyReason.NO_ANSWER]
