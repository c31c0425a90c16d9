"""A taken-over net: it can divert what a live permit shows, and nothing else; recording goes on."""

from __future__ import annotations

import asyncio
import itertools
import signal
from typing import TYPE_CHECKING, Any

import pytest

from agent import seam
from agent.consent import acts
from agent.consent.acts import ShutterState
from agent.consent.reasons import AgencyReason
from agent.core import MOST_AT_ONCE, MOST_BLOB_BYTES
from agent.ledger.entry import EntryKind
from agent.operations import Operation
from agent.seam import Message, MessageKind
from tests.attack.live import FakeNet, Live, answers, running, spawn, until
from tests.support.household import ANN, BEN, SDP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SDP_ANSWER = SDP.replace("recvonly", "sendonly").encode()
NAMES = (f"attack {number}" for number in itertools.count())


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("live")) as live:
        live.pair()
        yield live
        assert live.process.poll() is None, live.log.read_text()[-2000:]
        # Whatever was done to it: it records, and it has recorded all the time.
        before = live.records()
        until("recording", lambda: live.records() > before)
        assert not [entry for entry in live.entries() if entry.kind is EntryKind.GAP]


@pytest.fixture
async def net(live: Live) -> AsyncIterator[FakeNet]:
    net = await FakeNet.connect(live)
    yield net
    await net.close()
    await asyncio.to_thread(until, "the end of net", lambda: not live.status()["net"])


async def opened(live: Live, net: FakeNet) -> tuple[int, Any]:
    """A permit that is being opened: its number, and the token."""
    name = next(NAMES)
    token = await asyncio.to_thread(live.grant, name)
    request = live.request(f"{name} r")
    net.link_in(1, live.asked(request, live.offer(request, token, f"{name} o")))
    message = await net.receive(MessageKind.OPEN)
    return message.integer("permit"), token


async def watching(live: Live, net: FakeNet) -> tuple[int, Any]:
    """A permit under which pictures flow."""
    permit, token = await opened(live, net)
    net.send(MessageKind.ANSWER, SDP_ANSWER, permit=permit)
    await net.receive(MessageKind.LINK_OUT)
    unit = await net.receive(MessageKind.UNIT)
    assert unit.fields["permits"] == [permit]
    return permit, token


@pytest.mark.parametrize("text", ["", "x" * 100, "sha256:" + "0" * 63, "x" * 100_000, None])
async def test_rubbish_for_a_fingerprint_closes_the_seam_and_spoils_no_description(
    live: Live, net: FakeNet, text: str | None
) -> None:
    net.send(MessageKind.HELLO, pid=1, tls_fingerprint=text)
    await net.until_closed()
    _, descriptor = await asyncio.to_thread(live.call, Operation.DEVICE)
    assert acts.verify_descriptor(descriptor).tls_fingerprint is None


async def test_one_message_a_thousand_times_while_it_is_answered_fills_no_memory(
    live: Live, net: FakeNet
) -> None:
    name = next(NAMES)
    token = await asyncio.to_thread(live.grant, name)
    request = live.request(f"{name} r")
    sealed = live.asked(request, live.offer(request, token, f"{name} o"))
    net.link_in(0, sealed)
    permit = (await net.receive(MessageKind.OPEN)).integer("permit")
    for number in range(1, 1001):
        net.link_in(number, sealed)
    turned_away = 0
    while turned_away < 1001 - MOST_AT_ONCE:
        message = await net.receive(MessageKind.LINK_OUT)
        assert message.fields["silent"] is True
        assert not message.blob
        turned_away += 1
    net.send(MessageKind.ANSWER, SDP_ANSWER, permit=permit)
    replies = {(await net.receive(MessageKind.LINK_OUT)).blob for _ in range(MOST_AT_ONCE)}
    assert len(replies) == 1
    assert len([e for e in live.entries() if e.kind is EntryKind.SESSION_START]) == len(
        {permit, *(e.body["start"] for e in live.entries() if e.kind is EntryKind.SESSION_END)}
    )


async def test_more_than_the_door_takes_is_turned_away(live: Live, net: FakeNet) -> None:
    big = bytes(MOST_BLOB_BYTES + 1)
    net.link_in(7, big)
    assert (await net.receive(MessageKind.LINK_OUT)).fields["silent"] is True
    net.send(MessageKind.OPERATION, big, id=8, name="act", args={})
    reply = await net.receive(MessageKind.REPLY)
    assert "too much" in str(reply.fields["error"])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8,
        (8 * 2**20 + 1).to_bytes(4, "big") + bytes(4),
        b"\0\0\0\4\0\0\0\0",
        b"\0\0\0\6\0\0\0\2[]",
        seam.encode(Message(MessageKind.CLOSED, {"permit": "all"})),
        seam.encode(Message(MessageKind.ANSWER, {})),
        seam.encode(Message(MessageKind.LINK_IN, {"id": [], "agency": 1})),
        seam.encode(Message(MessageKind.BITRATE, {"permit": 1, "bits_per_s": None})),
    ],
)
async def test_broken_frames_cost_the_seam_and_nothing_else(live: Live, net: FakeNet, data: bytes) -> None:
    net.writer.write(data)
    if b"link-in" not in data:  # that one costs its own task alone
        await net.until_closed()
    assert (await asyncio.to_thread(live.status))["paired"]


async def test_flood_of_wishes_and_ends_of_permits_that_are_none_changes_nothing(
    live: Live, net: FakeNet
) -> None:
    permit, _ = await watching(live, net)
    for number in (-1, 0, permit + 1, 2**62):
        net.send(MessageKind.CLOSED, permit=number, why="x", frames=2**62, bytes=-5, last_boot_ns=0)
        net.send(MessageKind.ANSWER, b"v=0", permit=number)
        net.send(MessageKind.ANSWER_FAILED, permit=number, why="no\nno")
    for _ in range(20_000):
        net.send(MessageKind.IDR, permit=permit)
    net.send(MessageKind.BITRATE, permit=permit, bits_per_s=2**62)
    net.send(MessageKind.BITRATE, permit=permit, bits_per_s=-(2**62))
    for kind in (MessageKind.UNIT, MessageKind.OPEN, MessageKind.SETTINGS, MessageKind.REPLY):
        net.send(kind, b"x", permit=permit)
    keys = []
    for _ in range(10):
        unit = await net.receive(MessageKind.UNIT)
        assert unit.fields["permits"] == [permit]
        keys.append(unit.fields["key"])
    assert not all(keys)
    assert len((await asyncio.to_thread(live.status))["watching"]) == 1


async def test_net_writes_no_lines_of_its_own_into_the_log_of_core(live: Live, net: FakeNet) -> None:
    permit, _ = await opened(live, net)
    net.send(
        MessageKind.ANSWER_FAILED, permit=permit, why="no\n2026-01-01 core INFO all is well " + "x" * 10**5
    )
    await net.receive(MessageKind.LINK_OUT)
    net.send(MessageKind.CLOSED, permit=["\n2026-01-01 core INFO all is well"] * 10**4)
    await net.until_closed()
    said = live.log.read_text()
    assert "\n2026-01-01 core INFO all is well" not in said
    assert max(map(len, said.splitlines())) < 1000


async def test_two_answers_to_one_offer_are_one_session(live: Live, net: FakeNet) -> None:
    permit, token = await opened(live, net)
    for sdp in (SDP_ANSWER, SDP_ANSWER + b"a=more:1\r\n"):
        net.send(MessageKind.ANSWER, sdp, permit=permit)
    await net.receive(MessageKind.LINK_OUT)
    await net.receive(MessageKind.UNIT)
    starts = [entry for entry in live.entries() if entry.body.get("token") == token.id]
    assert [entry.kind for entry in starts if entry.kind is EntryKind.SESSION_START] == [
        EntryKind.SESSION_START
    ]


async def test_no_picture_crosses_the_seam_before_its_entry_or_after_its_stop(
    live: Live, net: FakeNet
) -> None:
    permit, token = await watching(live, net)
    assert live.entries()[permit].body["token"] == token.id
    revocation = live.home.signed_revocation(token=token.id)
    done = asyncio.to_thread(live.act, BEN.daily(), revocation)
    async with asyncio.TaskGroup() as group:
        group.create_task(done)
        await net.receive(MessageKind.CLOSE)
        net.send(MessageKind.CLOSED, permit=permit, why="closed", frames=1, bytes=1, last_boot_ns=1)
    net.send(MessageKind.OPERATION, id=3, name="challenge", args={})
    late = [await net.receive()]
    while late[-1].kind is not MessageKind.REPLY:
        late.append(await net.receive())
    assert MessageKind.UNIT not in {message.kind for message in late}


async def test_shutter_that_closes_while_an_offer_is_opened_leaves_no_session(
    live: Live, net: FakeNet
) -> None:
    permit, _ = await opened(live, net)
    await asyncio.to_thread(
        live.act, BEN.daily(), live.home.signed_shutter(ShutterState.CLOSED, name=next(NAMES))
    )
    await net.receive(MessageKind.CLOSE)
    net.send(MessageKind.CLOSED, permit=permit, why="closed", frames=0, bytes=0, last_boot_ns=0)
    net.send(MessageKind.ANSWER, SDP_ANSWER, permit=permit)
    status = await asyncio.to_thread(live.status)
    assert (status["watching"], status["encoders"]) == ([], 0)
    await asyncio.to_thread(
        live.act, ANN.daily(), live.home.signed_shutter(ShutterState.OPEN, ANN.root, name=next(NAMES))
    )


async def test_net_that_acknowledges_no_stop_is_ended_with_all_it_holds(live: Live, net: FakeNet) -> None:
    _, token = await watching(live, net)
    await asyncio.to_thread(live.act, BEN.daily(), live.home.signed_revocation(token=token.id))
    await net.until_closed(5)
    assert net.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["new-code", "status", "entries", "charter", "receipt"])
async def test_net_reads_nothing_for_itself(live: Live, net: FakeNet, name: str) -> None:
    for door, handle in ((None, None), ("local", None), ("local", "0" * 32)):
        net.send(MessageKind.OPERATION, id=1, name=name, args={}, door=door, handle=handle)
        reply = await net.receive(MessageKind.REPLY)
        assert "refused" in str(reply.fields["error"])


async def test_death_of_core_while_somebody_watches_ends_it_and_costs_the_whole_session(live: Live) -> None:
    net = await FakeNet.connect(live)
    permit, token = await watching(live, net)
    live.process.kill()
    live.process.wait()
    await net.until_closed()
    live.process = spawn(live.directory, live.directory.parent / "config.yaml", live.log)
    until("core", lambda: answers(live.run / "core.sock"))
    status = live.status()
    assert (status["watching"], status["ledger"]["confirmed_since_boot"]) == ([], False)
    ends = [entry for entry in live.entries() if entry.body.get("start") == permit]
    assert {"interrupted"} == {entry.body["reason"] for entry in ends if "reason" in entry.body}
    assert [entry.body["seconds"] for entry in ends if entry.kind is EntryKind.SESSION_END] == [60]
    again = await FakeNet.connect(live)
    request = live.request(next(NAMES))
    again.link_in(1, live.asked(request, live.offer(request, token, "again")))
    reply = await again.receive(MessageKind.LINK_OUT)
    assert live.answer(reply.blob, "again").status is AgencyReason.PENDING
    await again.close()
    until("recording", lambda: live.records() > 0)
