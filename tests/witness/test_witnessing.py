"""The device and its witnesses: who may confirm it, what stops it, and what it believes of the time."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.consent.acts import Seen
from agent.consent.reasons import AgencyReason
from agent.consent.rules import PurposeKind
from agent.consent.times import SECOND_NS, Interval, TimeQuality
from agent.consent.token import Purpose
from agent.errors import DocumentError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature, submission
from agent.ledger.entry import EntryKind
from agent.link.witness_post import Answered, post
from agent.seam import Message, MessageKind
from agent.witnessing import CADENCE_S, TRIES
from tests.ledger.disk import Fault
from tests.ledger.entries import OTHER
from tests.support.device import Box, Clock
from tests.support.household import ANN, BEN, HOUR_NS, Home, id_of
from tests.witness.rig import Running, Watched, copied, made, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.consent.handshake import Request
    from agent.consent.token import Token


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def witness(tmp_path: Path, clock: Clock) -> AsyncIterator[Running]:
    store = made(tmp_path / "witness")
    async with running(store, wall_ns=lambda: clock.wall_ns, boot_ns=clock) as service:
        yield service
    store.close()


@pytest.fixture
async def box(tmp_path: Path, clock: Clock, witness: Running) -> AsyncIterator[Box]:
    """A paired device with one witness, which trusts it; its own clock is nobody's."""
    home = Home(changes={"witnesses": [witness.to_json()]})
    trust(witness, home)
    clock.ntp = False
    box = Box(tmp_path / "ledger", home=home, clock=clock)
    await box.pair()
    yield box
    box.close()


def trust(witness: Running, home: Home) -> None:
    witness.store.add_log(checkpoints.origin_of(home.keys.device), home.keys.signing_public)


def confirmed(box: Box) -> bool:
    return box.keeper.state.confirmed_since_boot


async def standing(box: Box) -> Token:
    """A standing consent, signed with an owner's root key, good for hours."""
    return await box.grant(
        purpose=Purpose(PurposeKind.STANDING, "NIGHTS"),
        scope={"not_after_ns": box.clock.wall_ns + 6 * HOUR_NS, "sessions": 100, "total_seconds": 3600},
    )


def now(box: Box, **changes: Any) -> dict[str, Any]:
    """Fields of a request that is made at this moment."""
    second = box.clock.wall_ns // SECOND_NS * SECOND_NS
    return {
        "purpose": Purpose(PurposeKind.STANDING, "NIGHTS"),
        "issued_at_ns": second,
        "expires_at_ns": second + HOUR_NS,
        **changes,
    }


async def ask(box: Box, name: str) -> tuple[Request, AgencyReason]:
    request = box.home.request(name=name, **now(box))
    decision = await box.ask(request, name=name)
    assert decision is not None
    return request, decision.status


# Confirming


async def test_first_cosignature_after_a_start_confirms_and_is_written_down_as_it_came(
    box: Box, witness: Running
) -> None:
    box = box.restart()
    assert not confirmed(box)
    watched = Watched(box)
    size = box.log.size
    found = await watched.ask()
    assert (found["trouble"], found["size"]) == (None, size)
    assert confirmed(box)
    (entry,) = box.entries(EntryKind.CONFIRMED)[1:]
    key = watched.witnesses[0].key
    assert (entry.body["by"], entry.body["size"]) == (watched.witnesses[0].key_id, size)
    origin = checkpoints.origin_of(box.home.keys.device)
    said = cosignature.verify(str(entry.body["note"]), origin, witness.store.name, key)
    assert said.checkpoint.root == box.log.root(size)
    assert entry.time.quality is TimeQuality.AUTHENTICATED
    # Later ones are kept in memory alone.
    before = box.log.size
    box.clock.advance(CADENCE_S)
    assert (await watched.ask())["size"] == before
    assert box.log.size == before
    newest = watched.witnessing.newest()
    assert newest is not None
    assert cosignature.verify(newest, origin, witness.store.name, key).checkpoint.size == before
    # After the next start the size that the witness confirmed is remembered, and it says the later one.
    box = box.restart()
    assert box.keeper.state.witnessed == {watched.witnesses[0].key_id: size}
    watched = Watched(box)
    assert (await watched.ask())["trouble"] is None
    assert [submission.parse(body).old for _, body in watched.asked] == [size, before]
    box.close()


async def test_unattended_device_shares_after_a_start_once_its_witness_has_spoken(box: Box) -> None:
    await standing(box)
    box.clock.advance(HOUR_NS // SECOND_NS)
    box = box.restart()
    box.clock.ntp = False
    assert box.time.now(box.clock()) is None
    watched = Watched(box)
    request, status = await ask(box, "before")
    assert status is AgencyReason.PENDING
    async with watched.asking():
        await until("a confirmed ledger", lambda: confirmed(box))
        # The pending request is granted without anybody asking again, let alone an owner.
        await until("word to the agency", lambda: box.net.sent)
    assert box.time.now(box.clock()) is not None
    request, status = await ask(box, "after")
    assert status is AgencyReason.GRANTED
    (token,) = box.keeper.state.live_tokens()
    answer = await box.offer(box.offer_now(request, token))
    assert answer is not None
    assert answer.status is AgencyReason.GRANTED
    assert box.gate.sessions()
    box.close()


async def test_witness_that_is_away_is_asked_again_and_nothing_else_waits(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.witnessing.FIRST_RETRY_S", 0.05)
    box = box.restart()
    watched = Watched(box)
    watched.there = False
    assert (await watched.ask())["trouble"] == "the network process is down"

    async def refuse(_url: str, _body: bytes) -> Answered:
        return Answered(0)

    watched.there, watched.carry = True, refuse
    async with watched.asking():
        await until("two tries", lambda: len(watched.asked) > 1)
        # An owner's act is taken meanwhile as if there were no witness at all.
        await box.act(ANN.daily(), seen=Seen(box.log.size, box.log.root()))
        assert confirmed(box)
        watched.carry = post
        await until("an answer", lambda: watched.witnessing.status()[0]["trouble"] is None, 20)
    assert [entry.body["by"] for entry in box.entries(EntryKind.CONFIRMED)][1:] == [id_of(ANN.daily())]
    box.close()


async def test_answer_that_never_comes_is_given_up_after_a_while(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.witnessing.ANSWER_S", 0.05)
    watched = Watched(box)

    async def silence(_url: str, _body: bytes) -> None:
        return None

    watched.carry = silence
    assert "no answer" in (await watched.ask())["trouble"]


# Who does not confirm


@pytest.mark.parametrize("status", [0, 201, 302, 400, 403, 404, 429, 500, 503])
async def test_no_other_answer_confirms(box: Box, status: int) -> None:
    box = box.restart()
    watched = Watched(box)

    async def say(_url: str, body: bytes) -> Answered:
        good = await post(watched.witnesses[0].url + "/add-checkpoint", body)
        return replace(good, status=status)

    watched.carry = say
    found = await watched.ask()
    assert found["trouble"]
    assert not confirmed(box)
    assert watched.witnessing.rollback is None
    assert box.time.now(box.clock()) is None
    box.close()


async def test_cosignature_by_another_key_over_another_checkpoint_or_of_nothing_confirms_nothing(
    box: Box, witness: Running
) -> None:
    box = box.restart()
    watched = Watched(box)
    origin = checkpoints.origin_of(box.home.keys.device)
    stamp = box.clock.wall_ns // SECOND_NS

    def signed(text: str, key: Any = witness.store.private, name: str = witness.store.name) -> str:
        return cosignature.sign(text, name, key, timestamp=stamp)

    def text_of(body: bytes) -> str:
        return checkpoints.split_note(submission.parse(body).note)[0]

    def witness_note(text: str) -> str:
        return checkpoints.sign_note(text, witness.store.name, witness.store.private)

    older = checkpoints.Checkpoint(origin, box.log.size - 1, box.log.root(box.log.size - 1)).text()
    lies = [
        lambda _: b"",
        lambda _: b"\xff",
        lambda _: b"no signature\n",
        lambda body: signed(text_of(body), OTHER).encode(),
        lambda body: signed(text_of(body), name="another/w").encode(),
        lambda _: signed(older).encode(),
        lambda _: (older + "\n" + signed(older)).encode(),
        lambda body: witness_note(text_of(body)).encode(),
        lambda body: (signed(text_of(body)) + signed(older)).encode(),
    ]
    for lie in lies:

        async def say(_url: str, body: bytes, lie: Any = lie) -> Answered:
            return Answered(200, lie(body))

        watched.carry = say
        assert (await watched.ask())["trouble"]
        assert not confirmed(box)
        assert box.time.now(box.clock()) is None
    # Beside a good one, lines of keys that nobody knows are passed over.
    stranger = checkpoints.sign_note(older, "stranger", OTHER).rpartition("\n\n")[2]

    async def among_strangers(_url: str, body: bytes) -> Answered:
        return Answered(200, (stranger + signed(text_of(body)) + stranger).encode())

    watched.carry = among_strangers
    assert (await watched.ask())["trouble"] is None
    assert confirmed(box)
    note = watched.witnessing.newest()
    assert note is not None
    assert "stranger" not in note
    box.close()


async def test_answer_to_another_question_is_passed_over(box: Box) -> None:
    watched = Watched(box)
    await watched.ask()
    fields: dict[str, object] = {"number": 1, "status": 409}
    watched.witnessing.answered(Message(MessageKind.WITNESS_IN, fields, b"900\n"))
    assert watched.witnessing.rollback is None


async def test_confirmation_in_the_ledger_needs_the_charters_own_witness(box: Box, witness: Running) -> None:
    box = box.restart()
    watched = Watched(box)
    note = box.log.checkpoint()
    text, _ = checkpoints.split_note(note)
    size = box.log.size
    by = watched.witnesses[0].key_id
    stamp = box.clock.wall_ns // SECOND_NS
    good = note + cosignature.sign(text, witness.store.name, witness.store.private, timestamp=stamp)
    other_ledger = checkpoints.Checkpoint("doorward/other", size, bytes(32)).text()
    for body in (
        {"by": id_of(OTHER), "size": size, "note": good},
        {"by": by, "size": size - 1, "note": good},
        {"by": by, "size": size + 1, "note": good},
        {"by": by, "size": size, "note": note},
        {"by": by, "size": size, "note": note + cosignature.sign(text, "x", OTHER, timestamp=stamp)},
        {
            "by": by,
            "size": size,
            "note": f"{other_ledger}\n"
            + cosignature.sign(other_ledger, witness.store.name, witness.store.private, timestamp=stamp),
        },
    ):
        with pytest.raises(DocumentError):
            box.keeper.record(EntryKind.CONFIRMED, body)
    assert not confirmed(box)
    box.keeper.record(EntryKind.CONFIRMED, {"by": by, "size": size, "note": good})
    assert confirmed(box)
    box.close()


async def test_full_disk_confirms_nothing_and_says_so(box: Box) -> None:
    box = box.restart()
    watched = Watched(box)
    await asyncio.to_thread(box.log.checkpoint)
    disk = box.disk
    disk.capacity = 0
    disk.can_reserve = False
    disk.plan = {len(disk.calls) + number: Fault.FULL for number in range(1, 40)}
    found = await watched.ask()
    assert found["trouble"]
    assert not confirmed(box)
    box.close()


# Rollback


async def test_copied_card_put_back_shares_nothing_and_says_why(box: Box) -> None:
    granted = await standing(box)
    await Watched(box).ask()
    card = copied(box.disk)
    # Life goes on: the owners take it back, and the witness sees the ledger grow.
    revocation = box.home.signed_revocation(token=granted.id)
    await box.act(BEN.daily(), revocation)
    for _ in range(10):
        box.keeper.record(EntryKind.GAP, {"camera": "front", "reason": "camera-away"})
    await Watched(box).ask()
    grown = box.log.size
    box = box.restart(disk=card)
    assert granted.id not in box.keeper.state.standing.revoked
    watched = Watched(box)
    _, status = await ask(box, "first")
    assert status is AgencyReason.PENDING
    found = await watched.ask()
    assert f"vouched for {grown} entries" in found["trouble"]
    assert watched.witnessing.rollback == f"witness witness.example/w1 {found['trouble']}"
    assert not confirmed(box)
    # Not even an owner's client that has seen nothing newer brings sharing back.
    await box.act(ANN.daily(), seen=Seen(box.log.size, box.log.root()))
    assert confirmed(box)
    request, status = await ask(box, "second")
    assert status is not AgencyReason.GRANTED
    answer = await box.offer(box.offer_now(request, granted))
    assert answer is not None
    assert answer.status is not AgencyReason.GRANTED
    assert not box.gate.sessions()
    box.close()


async def test_card_put_back_that_has_grown_past_the_witness_is_found_by_its_root(box: Box) -> None:
    await Watched(box).ask()
    card = copied(box.disk)
    await standing(box)
    await Watched(box).ask()
    grown = box.log.size
    box = box.restart(disk=card)
    while box.log.size < grown + 5:
        box.keeper.record(EntryKind.GAP, {"camera": "front", "reason": "camera-away"})
    watched = Watched(box)
    await watched.ask()
    assert "other entries" in str(watched.witnessing.rollback)
    assert not confirmed(box)
    box.close()


async def test_running_session_ends_when_a_witness_has_seen_more(box: Box, witness: Running) -> None:
    granted = await standing(box)
    watched = Watched(box)
    await watched.ask()
    request, status = await ask(box, "request")
    assert status is AgencyReason.GRANTED
    answer = await box.offer(box.offer_now(request, granted))
    assert answer is not None
    assert answer.status is AgencyReason.GRANTED

    async def say(_url: str, _body: bytes) -> Answered:
        return Answered(409, b"1000000\n")

    watched.carry = say
    await watched.ask()
    assert not box.gate.sessions()
    await box.settle()


async def test_witness_of_an_older_reading_says_fork_with_the_same_size(box: Box) -> None:
    watched = Watched(box)
    await watched.ask()

    async def say(_url: str, body: bytes) -> Answered:
        asked = submission.parse(body)
        size = checkpoints.read(
            checkpoints.split_note(asked.note)[0], checkpoints.origin_of(box.home.keys.device)
        ).size
        return Answered(409, f"{size}\n".encode())

    watched.carry = say
    await watched.ask()
    assert watched.witnessing.rollback is not None


async def test_witness_that_contradicts_itself_stops_nothing(box: Box) -> None:
    watched = Watched(box)
    sizes = iter([3, 1, 2, 1, 3, 2])

    async def say(_url: str, _body: bytes) -> Answered:
        return Answered(409, f"{next(sizes)}\n".encode())

    watched.carry = say
    assert "another size each time" in (await watched.ask())["trouble"]
    assert len(watched.asked) == TRIES
    assert watched.witnessing.rollback is None
    for body in (b"", b"many\n", b"-1\n", b"3"):

        async def nonsense(_url: str, _body: bytes, body: bytes = body) -> Answered:
            return Answered(409, body)

        watched.carry = nonsense
        assert (await watched.ask())["trouble"]
        assert watched.witnessing.rollback is None


async def test_unproven_from_nothing_is_the_witnesss_fault(box: Box) -> None:
    watched = Watched(box)

    async def say(_url: str, _body: bytes) -> Answered:
        return Answered(422, b"no\n")

    watched.carry = say
    assert "422" in (await watched.ask())["trouble"]
    assert watched.witnessing.rollback is None


async def test_witness_that_lost_its_memory_is_told_from_there_and_reported(
    box: Box, tmp_path: Path, clock: Clock
) -> None:
    watched = Watched(box)
    await watched.ask()
    before = box.log.size
    # A new store under the same key: what a careless operator makes of a lost disk.
    store = made(tmp_path / "again")
    store.private = OTHER
    trust(Running(store, ""), box.home)
    key = {"key": base64.b64encode(OTHER.public_key().public_bytes_raw()).decode()}
    async with running(store, wall_ns=lambda: clock.wall_ns, boot_ns=clock) as service:
        home = replace(box.home, changes={"witnesses": [{**service.to_json(), **key}]})
        current = box.keeper.state.need_charter()
        await box.act(ANN.daily(), home.signed_next(current))
        await watched.ask()
        assert watched.witnessing.status()[0]["trouble"] is None
        held = store.log(checkpoints.origin_of(box.home.keys.device))
        assert held is not None
        store.advance(held.origin, lambda now: replace(now, size=before, root=box.log.root(before)))
        found = await watched.ask()
        assert "lost or put back" in found["trouble"]
        store.advance(held.origin, lambda now: replace(now, size=0, root=None))
        assert "lost or put back" in (await watched.ask())["trouble"]
    store.close()
    assert watched.witnessing.rollback is None


# Time


async def test_cosignature_tells_an_untrusted_device_the_time(box: Box) -> None:
    box.clock.advance(3 * 24 * 3600)
    box = box.restart()
    watched = Watched(box)
    assert box.time.now(box.clock()) is None
    await watched.ask()
    known = box.time.now(box.clock())
    assert known is not None
    assert known.quality is TimeQuality.AUTHENTICATED
    assert known.earliest_ns <= box.clock.wall_ns <= known.latest_ns
    assert known.latest_ns - known.earliest_ns < 10 * SECOND_NS
    box.close()


async def test_old_cosignature_played_again_tells_no_time(box: Box) -> None:
    watched = Watched(box)
    recorded: list[Answered] = []

    async def record(url: str, body: bytes) -> Answered:
        recorded.append(await post(url, body))
        return recorded[-1]

    watched.carry = record
    await watched.ask()
    box.clock.advance(24 * 3600)
    box = box.restart()
    watched = Watched(box)

    async def replay(_url: str, _body: bytes) -> Answered:
        return recorded[0]

    watched.carry = replay
    assert "not valid" in (await watched.ask())["trouble"]
    assert box.time.now(box.clock()) is None
    assert not confirmed(box)
    box.close()


async def test_cosignature_held_back_or_played_again_over_an_unchanged_ledger_never_lies(box: Box) -> None:
    watched = Watched(box)
    recorded: list[Answered] = []

    async def late(url: str, body: bytes) -> Answered:
        recorded.append(await post(url, body))
        box.clock.advance(300)
        return recorded[-1]

    watched.carry = late
    await watched.ask()
    known = box.time.now(box.clock())
    assert known is not None
    assert known.earliest_ns <= box.clock.wall_ns <= known.latest_ns
    # A day later nothing holds any more; the same words again are still true.
    box.clock.advance(25 * 3600)
    assert known_now(box) is None

    async def replay(_url: str, _body: bytes) -> Answered:
        return recorded[0]

    watched.carry = replay
    assert (await watched.ask())["trouble"] is None
    known = known_now(box)
    assert known is not None
    assert known.earliest_ns <= box.clock.wall_ns <= known.latest_ns


def known_now(box: Box) -> Interval | None:
    return box.time.now(box.clock())


async def test_witness_with_a_wrong_clock_is_not_believed_over_an_owner(box: Box, tmp_path: Path) -> None:
    before = box.time.now(box.clock())
    assert before is not None
    watched = Watched(box)
    store = made(tmp_path / "wrong", "wrong/w")
    trust(Running(store, ""), box.home)
    async with running(store, wall_ns=lambda: box.clock.wall_ns + HOUR_NS, boot_ns=box.clock) as service:
        home = replace(box.home, changes={"witnesses": [service.to_json()]})
        await box.act(ANN.daily(), home.signed_next(box.keeper.state.need_charter()))
        found = await watched.ask()
    store.close()
    assert "clock contradicts" in found["trouble"]
    assert found["cosigned_at"] is not None
    after = box.time.now(box.clock())
    assert after is not None
    assert after.earliest_ns <= box.clock.wall_ns <= after.latest_ns


async def test_witness_that_names_a_time_before_the_ledgers_own_is_not_believed(
    box: Box, tmp_path: Path
) -> None:
    box.clock.advance(3600)
    box = box.restart()
    await box.act(ANN.daily(), seen=Seen(box.log.size, box.log.root()))
    box = box.restart()
    store = made(tmp_path / "slow", "slow/w")
    trust(Running(store, ""), box.home)
    async with running(store, wall_ns=lambda: box.clock.wall_ns - HOUR_NS, boot_ns=box.clock) as service:
        home = replace(box.home, changes={"witnesses": [service.to_json()]})
        await box.act(ANN.daily(), home.signed_next(box.keeper.state.need_charter()), seen=box.seen)
        box = box.restart()
        watched = Watched(box)
        found = await watched.ask()
    store.close()
    assert "clock contradicts" in found["trouble"]
    assert box.time.now(box.clock()) is None
    # Its signature confirms all the same.
    assert confirmed(box)
    box.close()


async def test_checkpoint_of_an_earlier_boot_of_the_machine_tells_no_time(box: Box) -> None:
    box = box.restart()
    watched = Watched(box)
    watched.witnessing._boot_id = "11" * 16
    assert (await watched.ask())["trouble"] is None
    assert box.time.now(box.clock()) is None
    box.close()


# The cadence


async def test_each_witness_is_asked_by_itself_and_the_charter_is_followed(
    box: Box, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.witnessing.CADENCE_S", 0.2)
    watched = Watched(box)
    store = made(tmp_path / "second", "second/w")
    trust(Running(store, ""), box.home)
    hang = asyncio.Event()
    first = watched.witnesses[0].url

    async def carry(url: str, body: bytes) -> Answered:
        if url.startswith(first) and len(watched.asked) > 3:
            await hang.wait()
        return await post(url, body)

    watched.carry = carry
    async with running(store, wall_ns=lambda: clock.wall_ns, boot_ns=clock) as service, watched.asking():
        await until("three rounds", lambda: len(watched.asked) >= 3)
        both = {"witnesses": [*box.home.to_json()["witnesses"], service.to_json()]}
        home = replace(box.home, changes=both)
        await box.act(ANN.daily(), home.signed_next(box.keeper.state.need_charter()))
        watched.witnessing.charter_changed()
        # The first one hangs; the second is asked at once and again and again.
        second = f"{service.url}/add-checkpoint"
        await until("the second", lambda: [url for url, _ in watched.asked].count(second) > 2)
        newest = watched.witnessing.newest()
        assert newest is not None
        assert "second/w" in newest
        # Gone from the charter, gone from the rounds.
        await box.act(ANN.daily(), box.home.signed_next(box.keeper.state.need_charter()))
        watched.witnessing.charter_changed()
        hang.set()
        await asyncio.sleep(0.3)
        asked = [url for url, _ in watched.asked].count(second)
        await asyncio.sleep(0.5)
        assert [url for url, _ in watched.asked].count(second) == asked
        assert [each["name"] for each in watched.witnessing.status()] == ["witness.example/w1"]
    store.close()


async def test_two_witnesses_over_one_checkpoint_stand_in_one_note(
    box: Box, tmp_path: Path, clock: Clock
) -> None:
    store = made(tmp_path / "second", "second/w")
    trust(Running(store, ""), box.home)
    async with running(store, wall_ns=lambda: clock.wall_ns, boot_ns=clock) as service:
        both = {"witnesses": [*box.home.to_json()["witnesses"], service.to_json()]}
        await box.act(
            ANN.daily(), replace(box.home, changes=both).signed_next(box.keeper.state.need_charter())
        )
        watched = Watched(box)
        await watched.ask(0)
        await watched.ask(1)
    store.close()
    note = watched.witnessing.newest()
    assert note is not None
    origin = checkpoints.origin_of(box.home.keys.device)
    sizes = {
        cosignature.verify(note, origin, each.name, each.key).checkpoint.size for each in watched.witnesses
    }
    assert sizes == {box.log.size}
    assert checkpoints.verify(note, origin, origin, box.home.keys.signing_public).size == box.log.size


async def test_unpaired_device_asks_nobody(tmp_path: Path, clock: Clock) -> None:
    fresh = Box(tmp_path / "fresh", clock=clock)
    watched = Watched(fresh)
    async with watched.asking():
        await asyncio.sleep(0.05)
    assert watched.asked == []
    assert watched.witnessing.status() == []
    assert watched.witnessing.newest() is None
    fresh.close()
