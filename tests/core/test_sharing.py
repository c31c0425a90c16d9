"""Agencies' messages: silence for strangers, one word for what must look alike, and no second session."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.consent import envelope, handshake, sdp
from agent.consent.acts import ShutterState
from agent.consent.decision import Usage
from agent.consent.envelope import short
from agent.consent.footage import Stretch
from agent.consent.handshake import MAX_BADGE_BYTES
from agent.consent.reasons import AgencyReason, DenialReason
from agent.consent.rules import Mode, PurposeKind
from agent.consent.times import SECOND_NS
from agent.consent.token import MAX_BYTES, Purpose
from agent.errors import DocumentError
from agent.ledger.entry import EntryKind
from agent.ledger.receipt import Receipt
from agent.parcel import LINK_TOPIC, PAD_BYTES, seal_documents
from agent.sealing import SealKind
from agent.seam import Message, MessageKind
from agent.sharing import MESSAGES_A_MINUTE
from tests.ledger.disk import Fault
from tests.support.device import ORIGIN, Box
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    OTHER_BODY,
    POLICE,
    SDP,
    TERMS,
    Body,
    Home,
    device_keys,
    nonce,
    public,
    signed_offer,
    signed_request,
    x,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agent.consent.handshake import Answer, Decision, Offer, Request
    from agent.consent.token import Token


LABEL = b"doorward/v0\nto-device\nlink\n"


@pytest.fixture
async def box(tmp_path: Path) -> Any:
    box = Box(tmp_path / "ledger")
    await box.pair()
    yield box
    box.close()


@pytest.fixture
def request_(box: Box) -> Request:
    return box.home.request()


async def status(box: Box, request: Request, **changes: Any) -> AgencyReason | None:
    decision = await box.ask(request, **changes)
    return decision.status if decision else None


async def begun(box: Box, **scope: Any) -> tuple[Request, Token, Offer, Answer]:
    """Granted, asked, offered and answered."""
    token = await box.grant(scope=scope)
    request = box.home.request()
    assert await status(box, request) is AgencyReason.GRANTED
    offer = box.offer_now(request, token)
    answer = await box.offer(offer)
    assert answer is not None
    assert answer.status is AgencyReason.GRANTED
    return request, token, offer, answer


async def offered(box: Box, offer: Offer, **changes: Any) -> AgencyReason | None:
    answer = await box.offer(offer, **changes)
    return answer.status if answer else None


# The story


async def test_granted_request_is_offered_answered_and_accounted_for(box: Box) -> None:
    _, token, offer, answer = await begun(box)
    (permit,) = box.screens.shown.values()
    assert (answer.offer, answer.session, answer.permit_seconds) == (offer.id, permit.session, 60)
    assert answer.sdp == box.net.sdp.decode()
    assert answer.receipt is not None
    entry = Receipt.parse(answer.receipt).verify(box.home.keys.signing_public, ORIGIN)
    assert entry.body["offer_id"] == offer.id
    (opened,) = box.net.offers
    assert opened.blob == SDP.encode()
    assert opened.fields["ice"] == {"policy": "relay", "servers": []}
    box.clock.advance(5)
    box.gate.end(permit.number, DenialReason.TOKEN_REVOKED)
    assert not box.screens.shown
    await box.settle()
    (ended,) = box.told()
    assert (ended.session, ended.status) == (permit.session, AgencyReason.ENDED_BY_OWNER)
    assert (ended.frames, ended.sent_bytes) == (3, 100)
    assert box.keeper.state.standing.usage[token.id] == Usage(1, 5)


async def test_request_and_offer_travel_together_with_a_token_at_hand(box: Box, request_: Request) -> None:
    token = await box.grant()
    offer = box.offer_now(request_, token)
    reply = await box.tell(POLICE, signed_request(request_), signed_offer(offer))
    assert reply is not None
    assert len(box.gate.sessions()) == 1


async def test_request_is_pending_until_an_owner_grants_it_and_told_once(box: Box, request_: Request) -> None:
    assert await status(box, request_) is AgencyReason.PENDING
    await box.grant(re=request_.id)
    for _ in range(2):
        await box.sharing.owners_acted()
    (message,) = box.net.sent
    assert message.kind is MessageKind.LINK_OUT
    assert _decision(box, message.blob, request_, "request").status is AgencyReason.GRANTED


async def test_largest_token_that_is_taken_can_be_handed_on(box: Box, request_: Request) -> None:
    token = box.home.signed_token(ANN.root)

    def padded(size: int) -> bytes:
        return token[:-1] + b',"pad":"' + b"x" * (size - len(token) - 9) + b'"}'

    with pytest.raises(DocumentError, match="token: too large"):
        await box.act(ANN.daily(), padded(MAX_BYTES + 1))
    await box.act(ANN.daily(), padded(MAX_BYTES))
    decision = await box.ask(request_)
    assert decision is not None
    assert decision.token == padded(MAX_BYTES)


# Strangers


async def test_stranger_gets_silence_and_is_counted(box: Box, request_: Request) -> None:
    stranger = Body("Stranger")
    asked = box.home.request(body=stranger)
    assert await status(box, asked, body=stranger) is None
    assert await box.sharing.message("", b"") is None
    assert await box.sharing.message("nobody", signed_request(request_)) is None
    assert box.sharing.strangers == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("public", public(x("another device"))),
        ("recipient", device_keys("other").device),
        ("sender", OTHER_BODY.key_id),
        ("topic", "other"),
    ],
)
async def test_message_sealed_for_another_key_purpose_or_sender_gets_silence(
    box: Box, request_: Request, field: str, value: Any
) -> None:
    usual: dict[str, Any] = {
        "sender": POLICE.key_id,
        "recipient": box.home.keys.device,
        "topic": LINK_TOPIC,
        "public": box.home.keys.seal_public,
    }
    data = seal_documents(SealKind.TO_DEVICE, [signed_request(request_)], **{**usual, field: value})
    if field == "topic":
        # The label says what the seal was made for; a label that lies opens nothing.
        data = data.replace(b"\nother\n", b"\nlink\n")
    before = box.log.size
    assert await box.sharing.message(short(POLICE.key_id), data) is None
    assert (box.log.size, box.sharing.strangers) == (before, 1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.binary(max_size=80).map(lambda rest: LABEL + rest))
def test_any_bytes_get_silence_and_raise_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    async def tell() -> None:
        box = Box(tmp_path_factory.getbasetemp() / "any")
        try:
            await box.pair()
            before = box.log.size
            assert await box.sharing.message(short(POLICE.key_id), data) is None
            assert box.log.size == before
        finally:
            box.close()

    asyncio.run(tell())


async def test_documents_that_agencies_do_not_send_get_silence(box: Box) -> None:
    for document in (
        box.home.signed_token(ANN.root),
        box.home.signed_revocation(),
        box.home.signed_charter(),
        POLICE.signed_badge(),
        b"garbage",
    ):
        before = box.log.size
        assert await box.tell(POLICE, document) is None
        assert box.log.size == before
    assert await box.tell(POLICE) is None


async def test_unpaired_device_is_silent(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    assert await status(box, box.home.request()) is None
    await box.sharing.owners_acted()
    box.close()


async def test_document_for_another_device_or_household_gets_silence(box: Box, request_: Request) -> None:
    token = await box.grant()
    await status(box, request_)
    elsewhere: list[dict[str, Any]] = [
        {"device": device_keys("other").device},
        {"household": "sha256:" + "0" * 64},
    ]
    for changes in elsewhere:
        assert await status(box, box.home.request(name="b", **changes), name="b") is None
        assert await offered(box, box.offer_now(request_, token, name="c", **changes), name="c") is None
    assert not box.gate.sessions()


# Replays


async def test_replayed_request_gets_the_same_bytes_for_half_a_minute_and_is_stale_after(
    box: Box, request_: Request
) -> None:
    first = await box.tell(POLICE, signed_request(request_))
    size = box.log.size
    box.clock.advance(29.9)
    assert await box.tell(POLICE, signed_request(request_)) == first
    box.clock.advance(0.1)
    assert await status(box, request_) is AgencyReason.STALE_REQUEST
    assert box.log.size == size


async def test_request_replayed_after_a_restart_is_stale(box: Box, request_: Request) -> None:
    await status(box, request_)
    box = box.restart()
    assert await status(box, request_) is AgencyReason.STALE_REQUEST
    box.close()


async def test_other_bytes_under_a_used_nonce_are_refused_and_entered(box: Box, request_: Request) -> None:
    await status(box, request_)
    other = box.home.request(nonce=request_.nonce, seconds=61)
    assert await status(box, other) is None
    entry = box.entries(EntryKind.DECISION)[-1]
    assert entry.body == {"request": other.id, "reason": "nonce-reused", "first": request_.id}


async def test_two_requests_under_one_nonce_at_once_leave_one_and_the_ledger_opens(
    box: Box, request_: Request
) -> None:
    other = box.home.request(nonce=request_.nonce, seconds=61)
    replies = await asyncio.gather(
        box.tell(POLICE, signed_request(request_)), box.tell(POLICE, signed_request(other))
    )
    assert [reply is None for reply in replies] == [False, True]
    assert len(box.entries(EntryKind.REQUEST)) == 1
    box.restart().close()


async def test_offer_that_a_broker_delivers_twice_at_once_is_one_session(box: Box, request_: Request) -> None:
    token = await box.grant(scope={"viewers": 5})
    await status(box, request_)
    data = signed_offer(box.offer_now(request_, token))
    replies = await asyncio.gather(*(box.tell(POLICE, data) for _ in range(5)))
    assert len(set(replies)) == 1
    assert len(box.gate.sessions()) == len(box.entries(EntryKind.SESSION_START)) == len(box.net.offers) == 1


async def test_offer_replayed_gets_its_answer_again_and_later_none(box: Box) -> None:
    _, _, offer, answer = await begun(box, viewers=5)
    assert await box.offer(offer) == answer
    assert len(box.gate.sessions()) == 1
    box.clock.advance(31)
    assert await offered(box, offer) is AgencyReason.STALE_REQUEST
    assert len(box.entries(EntryKind.SESSION_START)) == 1


async def test_offer_under_the_nonce_of_a_session_is_refused(box: Box) -> None:
    request, token, offer, _ = await begun(box, viewers=5)
    other = box.offer_now(request, token, name="other", nonce=offer.nonce)
    assert await offered(box, other, name="other") is None
    assert len(box.gate.sessions()) == 1


async def test_replayed_offer_of_a_revoked_token_shows_nothing(box: Box) -> None:
    request, token, offer, _ = await begun(box)
    await box.act(BEN.daily(), box.home.signed_revocation(token=token.id))
    await box.settle()
    assert not box.screens.shown
    # The stored answer may come again; it opens nothing, for its session is over.
    await offered(box, offer)
    assert not box.gate.sessions()
    assert await offered(box, box.offer_now(request, token, name="b"), name="b") is AgencyReason.PENDING
    box = box.restart()
    await box.act(ANN.daily(), seen=box.seen)
    assert await offered(box, offer) is AgencyReason.STALE_REQUEST
    assert not box.screens.ever
    box.close()


# Offers


@pytest.mark.parametrize(
    "changes",
    [
        {"terms": replace(TERMS, forwarding=True)},
        {"terms": replace(TERMS, retention_days=31)},
        {"token": "sha256:" + "0" * 64},
    ],
)
async def test_offer_with_other_terms_or_token_is_refused_as_if_nothing_were_granted(
    box: Box, request_: Request, changes: dict[str, Any]
) -> None:
    token = await box.grant()
    await status(box, request_)
    assert await offered(box, box.offer_now(request_, token, **changes)) is AgencyReason.PENDING
    assert not box.entries(EntryKind.SESSION_START)
    assert box.entries(EntryKind.DECISION)[-1].body["reason"] == "no-token"


async def test_offer_of_another_operator_or_agency_is_stale(box: Box, request_: Request) -> None:
    token = await box.grant()
    await status(box, request_)
    lee = box.offer_now(request_, token, operator="Lee", name="lee")
    reply = await box.tell(POLICE, signed_offer(lee, operator="Lee"))
    assert reply is not None
    assert b"stale_request" in _payload(box, reply, lee, "lee")
    # One person with badges of two agencies.
    other = box.offer_now(request_, token, body=OTHER_BODY, name="other")
    assert await offered(box, other, body=OTHER_BODY, name="other") is AgencyReason.STALE_REQUEST
    assert not box.entries(EntryKind.SESSION_START)


def _payload(box: Box, reply: bytes, asked: Request | Offer, name: str) -> bytes:
    return envelope.unverified_payload(box.opened(reply, asked, name))[1]


async def test_offer_for_a_request_never_made_is_stale(box: Box, request_: Request) -> None:
    token = await box.grant()
    assert await offered(box, box.offer_now(request_, token)) is AgencyReason.STALE_REQUEST


@pytest.mark.parametrize(
    ("issued_s", "fresh"), [(-60, False), (-27, False), (-26, True), (3, True), (4, False), (60, False)]
)
async def test_offer_from_before_or_after_its_time_is_stale(
    box: Box, request_: Request, issued_s: int, fresh: bool
) -> None:
    token = await box.grant()
    await status(box, request_)
    now = box.time.now(box.clock())
    assert now is not None
    assert now.latest_ns == NOON + 3 * SECOND_NS
    issued = NOON + issued_s * SECOND_NS
    offer = box.home.offer(request_, token, issued_at_ns=issued, expires_at_ns=issued + 30 * SECOND_NS)
    expected = AgencyReason.GRANTED if fresh else AgencyReason.STALE_REQUEST
    assert await offered(box, offer) is expected


async def test_offer_under_an_unknown_clock_is_told_what_every_silence_is(
    box: Box, request_: Request
) -> None:
    token = await box.grant()
    await status(box, request_)
    box.clock.ntp = False
    box.clock.advance(25 * 3600)
    assert await offered(box, box.home.offer(request_, token)) is AgencyReason.PENDING


async def test_request_of_an_agency_removed_meanwhile_is_told_nothing(box: Box, request_: Request) -> None:
    await status(box, request_)
    await box.sharing.owners_acted()
    alone = Home(bodies=(OTHER_BODY,)).signed_next(box.keeper.state.need_charter())
    await box.act(ANN.root, alone)
    await box.sharing.owners_acted()
    assert not box.net.sent


async def test_offer_with_a_data_channel_gets_silence(box: Box, request_: Request) -> None:
    token = await box.grant()
    await status(box, request_)
    for extra in ("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=audio 9 RTP/AVP 0", "a=sendrecv:x"):
        offer = box.offer_now(request_, token, sdp=SDP + extra + "\r\n")
        assert await offered(box, offer) is None
    assert not box.gate.sessions()


async def test_largest_offer_that_is_read_can_be_answered(box: Box, request_: Request) -> None:
    token = await box.grant()
    await status(box, request_)
    line = "a=x:" + "y" * 70 + "\r\n"
    large = SDP + line * ((sdp.MAX_CHARS - len(SDP)) // len(line))
    box.net.sdp = large.replace("recvonly", "sendonly").encode()
    badge = POLICE.signed_badge()
    padded = badge[:-1] + b',"pad":"' + b"x" * (MAX_BADGE_BYTES - len(badge) - 9) + b'"}'
    offer = box.offer_now(request_, token, sdp=large, badge_envelope=padded)
    assert await offered(box, offer) is AgencyReason.GRANTED


async def test_session_ended_while_net_was_answering_is_not_answered(box: Box, request_: Request) -> None:
    token = await box.grant()
    await status(box, request_)

    async def revoke(_: int) -> None:
        await box.act(BEN.daily(), box.home.signed_revocation(token=token.id))

    box.net.meanwhile = revoke
    assert await offered(box, box.offer_now(request_, token)) is AgencyReason.PENDING
    assert not box.gate.sessions()
    await box.settle()
    assert [ended.status for ended in box.told()] == [AgencyReason.ENDED_BY_OWNER]


async def test_session_that_cannot_begin_ends_and_is_recorded(box: Box, request_: Request) -> None:
    token = await box.grant(scope={"sessions": 9, "total_seconds": 999})
    await status(box, request_)
    box.screens.refuses = True
    assert await offered(box, box.offer_now(request_, token)) is AgencyReason.UNSUPPORTED
    assert not box.net.offers
    box.screens.refuses, box.net.refuses = False, True
    assert await offered(box, box.offer_now(request_, token, name="b"), name="b") is AgencyReason.PENDING
    box.net.refuses, box.net.sdp = False, b"\xff"
    assert await offered(box, box.offer_now(request_, token, name="c"), name="c") is AgencyReason.PENDING
    await box.settle()
    assert not box.gate.sessions()
    assert not box.screens.shown
    assert len(box.entries(EntryKind.SESSION_END)) == 3


async def test_start_that_cannot_be_recorded_shows_nothing(box: Box, request_: Request) -> None:
    token = await box.grant()
    await status(box, request_)
    box.disk.plan[len(box.disk.calls)] = Fault.FAILED
    assert await offered(box, box.offer_now(request_, token)) is AgencyReason.PENDING
    assert not box.screens.ever
    assert not box.net.offers


async def test_busy_is_told_to_who_holds_a_token(box: Box) -> None:
    request, token, _, _ = await begun(box, viewers=1)
    assert await offered(box, box.offer_now(request, token, name="b"), name="b") is AgencyReason.BUSY


async def test_what_net_claims_keeps_no_end_out_of_the_ledger(box: Box, request_: Request) -> None:
    token = await box.grant(scope={"sessions": 9, "total_seconds": 999})
    await status(box, request_)
    claims: list[dict[str, object] | None] = [
        None,
        {},
        {"frames": -1, "bytes": 2**60},
        {"frames": "x", "bytes": 1},
    ]
    for number, claim in enumerate(claims):
        name = f"offer {number}"
        assert (
            await offered(box, box.offer_now(request_, token, name=name), name=name) is AgencyReason.GRANTED
        )
        box.net.closed = None if claim is None else Message(MessageKind.CLOSED, claim)
        box.gate.end_all(DenialReason.VIEWER_GONE)
        await box.settle()
    ends = [(end.body["frames"], end.body["bytes"]) for end in box.entries(EntryKind.SESSION_END)]
    assert ends == [(0, 0), (0, 0), (0, 2**53 - 1), (0, 0)]
    assert not box.keeper.state.sessions


async def test_end_of_a_session_whose_agency_was_removed_is_recorded_and_told_to_nobody(box: Box) -> None:
    await begun(box)
    charter = box.keeper.state.need_charter()
    alone = Home(bodies=(OTHER_BODY,)).signed_next(charter)
    await box.act(ANN.root, alone)
    await box.settle()
    (end,) = box.entries(EntryKind.SESSION_END)
    assert end.body["status"] == "ended_by_owner"
    assert not box.told()


# Looking alike


async def _silences(box: Box, body: Body) -> list[tuple[str, bytes, Request]]:
    """One reply for each cause that must look like every other."""
    found = []
    home = box.home

    async def ask(what: str, **changes: Any) -> None:
        request = home.request(body=body, name=what, **changes)
        reply = await box.tell(body, signed_request(request))
        assert reply is not None, what
        found.append((what, reply, request))

    await ask("no token")
    await box.grant(agency=body.key_id, scope={"needs_alarm": True})
    await ask("alarm off")
    await ask("another reference", purpose=Purpose(PurposeKind.INCIDENT, "CASE-9"))
    await ask("no such camera", camera="back")
    await box.act(BEN.daily(), home.signed_shutter(ShutterState.CLOSED))
    await ask("behind the shutter")
    await box.act(BEN.daily(), home.signed_revocation())
    await ask("everything revoked")
    box.cameras = frozenset()
    await ask("no picture")
    box.disk.plan[len(box.disk.calls)] = Fault.FULL
    await ask("request not durable")
    box.clock.ntp = False
    box.time._anchor = None
    await ask("clock unknown")
    return found


@pytest.mark.parametrize(("body", "word"), [(POLICE, "pending"), (OTHER_BODY, "denied")])
async def test_silence_absence_and_refusal_look_alike(tmp_path: Path, body: Body, word: str) -> None:
    box = Box(tmp_path / "ledger")
    await box.pair()
    lengths = set()
    for what, reply, request in await _silences(box, body):
        decision: Decision = _decision(box, reply, request, what)
        assert (decision.status, decision.token) == (AgencyReason(word), None), what
        lengths.add(len(reply))
    assert len(lengths) == 1
    assert (lengths.pop() - len(f"doorward/v0\nreply\nsha256:{'0' * 64}\n") - 48) % PAD_BYTES == 0
    box = box.restart()
    box.clock.ntp = True
    assert await status(
        box, box.home.request(body=body, name="after boot"), body=body, name="after boot"
    ) is AgencyReason(word)
    box.close()


def _decision(box: Box, reply: bytes, request: Request, name: str) -> Decision:
    return handshake.verify_decision(box.opened(reply, request, name), box.home.keys.signing_public)


async def test_operators_own_mistakes_are_told_in_clear_words_even_behind_a_shutter(box: Box) -> None:
    for shut in (False, True):
        if shut:
            await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.CLOSED))
        name = f"behind {shut}"
        late = box.home.request(name=name, issued_at_ns=NOON - HOUR_NS, expires_at_ns=NOON - 1800 * SECOND_NS)
        assert await status(box, late, name=name) is AgencyReason.STALE_REQUEST
        expired: dict[str, Any] = {"not_before_ns": NOON - 2 * HOUR_NS, "not_after_ns": NOON - HOUR_NS}
        badged = box.home.request(
            name=f"{name} b", badge=POLICE.badge(**expired), badge_envelope=POLICE.signed_badge(**expired)
        )
        assert await status(box, badged, name=f"{name} b") is AgencyReason.BAD_BADGE


async def test_mistakes_leave_no_entry(box: Box) -> None:
    before = box.log.size
    late = box.home.request(issued_at_ns=NOON - HOUR_NS, expires_at_ns=NOON - 1800 * SECOND_NS)
    await status(box, late)
    assert box.log.size == before


async def test_footage_is_silent_until_consented_to_and_then_unsupported(box: Box) -> None:
    hour = Stretch(NOON - HOUR_NS, NOON)
    asked: dict[str, Any] = {"mode": Mode.FOOTAGE, "footage": hour}
    assert await status(box, box.home.request(**asked)) is AgencyReason.PENDING
    await box.grant(scope=asked)
    assert await status(box, box.home.request(name="b", **asked), name="b") is AgencyReason.UNSUPPORTED
    assert not box.net.sent


# Rate


async def test_operator_over_the_rate_is_told_busy_and_not_entered(box: Box) -> None:
    token = await box.grant()
    for number in range(MESSAGES_A_MINUTE):
        name = f"request {number}"
        assert await status(box, box.home.request(name=name), name=name) is not AgencyReason.BUSY
    before = box.log.size
    request = box.home.request(name="over")
    assert await status(box, request, name="over") is AgencyReason.BUSY
    offer = box.offer_now(request, token, name="offer over")
    assert await offered(box, offer, name="offer over") is AgencyReason.BUSY
    reused = box.home.request(name="over", nonce=nonce("request 1"), seconds=59)
    assert await status(box, reused, name="over") is AgencyReason.BUSY
    assert (box.log.size, box.sharing.over_rate) == (before, 3)
    lee = box.home.request(name="lee", operator="Lee")
    assert await box.tell(POLICE, signed_request(lee, operator="Lee")) is not None
    assert box.log.size > before
    box.clock.advance(61)
    assert await status(box, request, name="over") is not AgencyReason.BUSY


async def test_operators_and_answers_without_number_fill_no_memory(box: Box) -> None:
    for number in range(1100):
        assert not box.sharing._too_often(POLICE.badge(agency=str(number), key=number.to_bytes(32)))
    box.clock.advance(61)
    assert not box.sharing._too_often(POLICE.badge())
    assert len(box.sharing._asked) == 1
    for number in range(300):
        operator = f"op{number % 20}"
        late: dict[str, Any] = {"issued_at_ns": NOON - HOUR_NS, "expires_at_ns": NOON - 1800 * SECOND_NS}
        request = box.home.request(name=f"m{number}", operator=operator, **late)
        await box.tell(POLICE, signed_request(request, operator=operator))
    assert len(box.sharing._stored) <= 256
    assert not box.sharing._turns
