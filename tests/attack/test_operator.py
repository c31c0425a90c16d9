"""A hostile operator or agency: asks without end, replays, and tries to learn why the answer is no."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent import seam
from agent.archive.names import StoredSegment
from agent.consent import envelope, strict_json
from agent.consent.acts import Seen, ShutterState
from agent.consent.fields import Fields
from agent.consent.reasons import AgencyReason
from agent.consent.times import SECOND_NS
from agent.core_operations import MOST_SEGMENTS, CoreOperations
from agent.errors import IntegrityError, Refused
from agent.ledger.entry import EntryKind
from agent.operations import Call, Door, Operation
from agent.reads import Handles
from agent.seam import Message, MessageKind
from agent.sharing import AGENCY_AT_ONCE, MESSAGES_A_MINUTE, OPERATOR_AT_ONCE, PENDING_MOST
from tests.support.device import ORIGIN, Box
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    POLICE,
    Body,
    Home,
    sign,
    signed_request,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.consent.handshake import Request

BODIES = (POLICE, Body("Fire Brigade"), Body("Coast Guard"))


class LongArchive:
    """An archive reader of a month: what it lists, and nothing to read."""

    def list(self, _begin_ns: int | None, _end_ns: int | None) -> tuple[StoredSegment, ...]:
        begin = 1_800_000_000 * SECOND_NS
        return tuple(
            StoredSegment(2 * 10**9 + n, begin + n * 10 * SECOND_NS, 10 * SECOND_NS, 10**8 - n)
            for n in range(259_200)
        )


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = Box(tmp_path / "ledger", home=Home(bodies=BODIES))
    await box.pair()
    yield box
    box.close()


def operations(box: Box) -> CoreOperations:
    archive: Any = LongArchive()
    return CoreOperations(
        box.keeper,
        box.gate,
        box.owners,
        box.sharing,
        box.home.keys,
        box.challenges,
        box.codes,
        Handles(box.clock),
        {"front": archive},
        status=dict,
        tls_fingerprint=lambda: None,
        origin=ORIGIN,
        cosigned=lambda: None,
    )


async def listed(box: Box, operation: Operation, **args: object) -> dict[str, Any]:
    """What an owner is told, if it fits a frame."""
    reply = await operations(box).perform(Call(operation, Door.LOCAL, args))
    assert seam.encode(Message(MessageKind.REPLY, {"id": 1, "result": reply.result}, reply.blob))
    return dict(reply.result)


def asked_now(box: Box, name: str, *, body: Body = POLICE, operator: str = "Kim", **changes: Any) -> Request:
    second = box.clock.wall_ns // SECOND_NS * SECOND_NS
    badge: dict[str, Any] = {
        "not_before_ns": second - HOUR_NS,
        "not_after_ns": second + 24 * HOUR_NS,
    }
    lasts: dict[str, Any] = {"issued_at_ns": second, "expires_at_ns": second + 24 * HOUR_NS}
    made = box.home.request(name=name, body=body, operator=operator, **{**lasts, **changes})
    made = replace(
        made, badge=body.badge(operator, **badge), badge_envelope=body.signed_badge(operator, **badge)
    )
    return replace(made, id=envelope.document_id(made.payload()))


async def status(box: Box, request: Request, name: str, operator: str, body: Body = POLICE) -> AgencyReason:
    reply = await box.tell(body, signed_request(request, operator))
    assert reply is not None
    document = box.opened(reply, request, name)
    return AgencyReason(_status(document))


def _status(document: bytes) -> str:
    return Fields(strict_json.loads(envelope.unverified_payload(document)[1]), "reply").text(
        "status", max_chars=20
    )


async def test_agency_with_any_number_of_operators_has_so_many_requests_waiting_and_no_more(
    box: Box,
) -> None:
    before = box.log.size
    heard = []
    for number in range(AGENCY_AT_ONCE + 10):
        name = f"r{number}"
        request = asked_now(box, name, operator=name)
        heard.append(await status(box, request, name, name))
    assert heard == [AgencyReason.PENDING] * PENDING_MOST + [AgencyReason.BUSY] * (len(heard) - PENDING_MOST)
    assert box.log.size - before == 2 * PENDING_MOST
    fire = BODIES[1]
    other = asked_now(box, "other", body=fire)
    assert await status(box, other, "other", "Kim", fire) is AgencyReason.PENDING


async def test_operator_who_asks_for_moments_fills_the_ledger_no_faster_than_one_asks_who_waits(
    box: Box,
) -> None:
    before = box.log.size
    for number in range(300):
        second = box.clock.wall_ns // SECOND_NS * SECOND_NS
        request = asked_now(box, f"r{number}", expires_at_ns=second + 3 * SECOND_NS)
        await status(box, request, f"r{number}", "Kim")
        box.clock.advance(5)
    hours = 300 * 5 / 3600
    assert box.log.size - before <= 2 * (OPERATOR_AT_ONCE + OPERATOR_AT_ONCE / 2 * hours + 1)


async def test_replays_of_whoever_carries_messages_use_up_no_operators_turn(box: Box) -> None:
    old = asked_now(box, "old")
    assert await status(box, old, "old", "Kim") is AgencyReason.PENDING
    box.clock.advance(31)  # its stored answer is gone
    size = box.log.size
    for _ in range(2 * MESSAGES_A_MINUTE):
        assert await status(box, old, "old", "Kim") is AgencyReason.STALE_REQUEST
        box.sharing._stored.clear()
    assert box.log.size == size
    assert await status(box, asked_now(box, "new"), "new", "Kim") is AgencyReason.PENDING


async def test_lists_fit_a_frame_whatever_agencies_ask_and_however_long_it_recorded(box: Box) -> None:
    areas = tuple(f"{number:03d}{'x' * 37}" for number in range(64))
    newest = ""
    for body in BODIES:
        for number in range(60):
            if not number % 20:
                box.clock.advance(61)
            name, operator = f"{body.name} {number}", f"{body.name} op {number % 4}"
            newest = (request := asked_now(box, name, body=body, operator=operator, areas=areas)).id
            assert await status(box, request, name, operator, body) is AgencyReason.PENDING
    found = await listed(box, Operation.REQUESTS)
    assert len(found["requests"]) > 100
    assert found["requests"][-1]["id"] == newest
    archive = await listed(box, Operation.ARCHIVE, camera="front")
    assert (len(archive["segments"]), archive["more"]) == (MOST_SEGMENTS, True)
    read = box.home.read(box.challenges.issue(), ANN.daily(), signed_at_ns=box.clock.wall_ns)
    signed = sign(envelope.PayloadType.READ, read.payload(), ANN.daily())
    with pytest.raises(Refused, match="too much at once"):
        await operations(box).perform(Call(Operation.READ, Door.LOCAL, {}, signed))


async def test_owner_who_claims_to_have_seen_more_stops_sharing_and_fills_no_memory(box: Box) -> None:
    await box.grant()
    size = box.log.size
    for _ in range(50):
        with pytest.raises(IntegrityError, match="less than you have seen"):
            await box.act(BEN.daily(), seen=Seen(10**6, bytes(32)))
    assert len(box.gate._held) == 1
    assert not box.gate._restraints
    assert box.log.size == size
    assert await status(box, box.home.request(), "request", "Kim") is AgencyReason.PENDING


async def _nothing(_box: Box) -> None:
    """Nobody has consented."""


async def _shutter(box: Box) -> None:
    await box.grant()
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.CLOSED))


async def _revoked(box: Box) -> None:
    token = await box.grant()
    await box.act(ANN.daily(), box.home.signed_revocation(token=token.id))


async def _all_revoked(box: Box) -> None:
    await box.grant()
    await box.act(ANN.daily(), box.home.signed_revocation())


async def _camera_away(box: Box) -> None:
    await box.grant()
    box.cameras = frozenset()


async def _unconfirmed(box: Box) -> None:
    await box.grant()
    with pytest.raises(IntegrityError):
        await box.act(BEN.daily(), seen=Seen(10**6, bytes(32)))


async def _for_another_area(box: Box) -> None:
    await box.grant(scope={"areas": ("path",)})
    request = box.home.request(name="x", areas=("street",))
    assert await status(box, request, "x", "Kim") is AgencyReason.PENDING


async def _time_unknown(box: Box) -> None:
    await box.grant()
    box.clock.advance(86_401)
    box.clock.ntp = False


STATES = (
    _nothing,
    _shutter,
    _revoked,
    _all_revoked,
    _camera_away,
    _unconfirmed,
    _for_another_area,
    _time_unknown,
)


async def test_answer_does_not_tell_why_by_word_size_or_what_it_takes(tmp_path: Path) -> None:
    answers = []
    for number, state in enumerate(STATES):
        box = Box(tmp_path / str(number))
        await box.pair()
        await state(box)
        areas = ("street",) if state is _for_another_area else ()
        request = box.home.request(areas=areas)
        before, calls = box.log.size, len(box.disk.calls)
        reply = await box.tell(POLICE, signed_request(request))
        assert reply is not None
        found = _status(box.opened(reply, request, "request"))
        answers.append((found, len(reply), box.log.size - before, len(box.disk.calls) - calls))
        box.close()
    assert set(answers) == {answers[0]}, dict(zip([each.__name__ for each in STATES], answers, strict=True))


async def test_receipts_tell_an_agency_nothing_of_why_it_ended(box: Box) -> None:
    token = await box.grant()
    request = box.home.request()
    await box.ask(request)
    assert await box.offer(box.offer_now(request, token)) is not None
    await box.act(BEN.daily(), box.home.signed_shutter(ShutterState.CLOSED, BEN.daily()))
    await box.settle()
    (end,) = box.entries(EntryKind.SESSION_END)
    assert "shutter" not in str(end.body)
