"""Class 4: what was valid once, used again, too late, out of order, or against a ledger that was put back.

Each batch is a few lives of a device whose real parts run on a fake clock and a disk in memory. Every attempt
hands over something that has had its day; accepting it, or showing a picture for it, is wrong.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.consent.acts import Seen, ShutterState
from agent.consent.reasons import AgencyReason
from agent.errors import DoorwardError
from agent.ledger.entry import EntryKind
from tests.ledger.disk import Disk
from tests.soak.outcome import CONTROL, REFUSED, Outcome
from tests.support.device import Box
from tests.support.household import ANN, BEN, NOON, POLICE, nonce, signed_offer, signed_request

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.consent.handshake import Request

ATTEMPTS_PER_LIFE = 25


class Life:
    """One device, and what somebody kept of everything that was ever handed to it."""

    def __init__(self, box: Box, rng: random.Random) -> None:
        self.box = box
        self.rng = rng
        self.number = 0
        self.acts: list[bytes] = []
        self.documents: list[bytes] = []

    def name(self, what: str) -> str:
        """A name never used before in this life."""
        self.number += 1
        return f"{what} {self.number}"

    async def hand_over(self, *documents: bytes) -> None:
        """A valid act, kept."""
        act = self.box.signed_act(ANN.daily(), *documents, seen=self.box.seen)
        await self.box.owners.act(act)
        self.acts.append(act)
        self.documents += documents


async def attempts(rng: random.Random, count: int, directory: Path) -> AsyncIterator[Outcome]:
    """Lives of a device until there were enough attempts."""
    left = count
    while left:
        # The directory only names the ledger: its bytes are on the disk in memory.
        box = Box(directory / f"life-{rng.getrandbits(64):x}", disk=Disk())
        await box.pair()
        life = Life(box, rng)
        for _ in range(min(left, ATTEMPTS_PER_LIFE)):
            yield await rng.choice(ATTEMPTS)(life)
            box.clock.advance(rng.choice([0, 1, 20]))
            left -= 1
        box.close()


async def refused(call: Awaitable[object], wrong: str) -> Outcome:
    """What must not be taken."""
    try:
        await call
    except DoorwardError:
        return REFUSED
    return Outcome(wrong)


def token_of(life: Life) -> bytes:
    begin_ns = life.box.clock.wall_ns // 10**9 * 10**9 - 60 * 10**9
    return life.box.home.signed_token(
        ANN.root,
        nonce=nonce(life.name("token")),
        epoch=life.box.keeper.state.standing.epoch,
        scope={"not_before_ns": begin_ns, "not_after_ns": begin_ns + 3600 * 10**9},
    )


async def fresh(life: Life) -> Outcome:
    """A control: a token that was never seen."""
    await life.hand_over(token_of(life))
    return CONTROL


async def same_act(life: Life) -> Outcome:
    """The very bytes of an act, once more."""
    if not life.acts:
        await life.hand_over()
    return await refused(life.box.owners.act(life.rng.choice(life.acts)), "an act was taken twice")


async def late_act(life: Life) -> Outcome:
    """An act over a challenge of more than two minutes ago."""
    challenge = life.box.challenges.issue()
    life.box.clock.advance(121)
    act = life.box.signed_act(ANN.daily(), token_of(life), challenge=challenge)
    return await refused(life.box.owners.act(act), "an act over a stale challenge was taken")


async def foreign_challenge(life: Life) -> Outcome:
    """An act over a challenge that this device never gave."""
    act = life.box.signed_act(ANN.daily(), token_of(life), challenge=life.rng.randbytes(16))
    return await refused(life.box.owners.act(act), "an act over a foreign challenge was taken")


async def token_twice(life: Life) -> Outcome:
    """A token that was handed over before, in a fresh act."""
    if not life.documents:
        await life.hand_over(token_of(life))
    again = life.rng.choice(life.documents)
    return await refused(life.box.act(BEN.daily(), again), "a token was taken twice")


async def token_after_revocation(life: Life) -> Outcome:
    """A token signed before everything was taken back, handed over after."""
    early = token_of(life)
    taken = life.box.home.signed_revocation(nonce=nonce(life.name("revocation")))
    await life.box.act(BEN.daily(), taken)
    return await refused(life.box.act(ANN.daily(), early), "a token of an earlier epoch was taken")


async def old_charter(life: Life) -> Outcome:
    """A charter that does not follow the one in force: the first again, or a version left out."""
    box = life.box
    current = box.keeper.state.need_charter()
    first = box.home.signed_charter()
    skipped = box.home.signed_next(replace(current, version=current.version + life.rng.choice([1, -1, 5])))
    document = life.rng.choice([first, skipped])
    return await refused(box.act(ANN.daily(), document), "a charter out of order was taken")


async def shutter_again(life: Life) -> Outcome:
    """An order to open that was used before, after somebody closed again."""
    box = life.box
    name = life.name("shutter")
    opening = box.home.signed_shutter(ShutterState.OPEN, name=name)
    await box.act(ANN.daily(), opening)
    await box.act(BEN.daily(), box.home.signed_shutter(ShutterState.CLOSED, BEN.daily(), name=name))
    outcome = await refused(box.act(ANN.daily(), opening), "an old order opened the shutter")
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.OPEN, name=life.name("shutter")))
    return outcome


async def pairing_again(life: Life) -> Outcome:
    """A second household for a paired device, with a valid code."""
    sealed = life.box.sealed_pairing(ANN.root)
    return await refused(life.box.owners.pair(sealed), "a paired device was paired again")


async def rolled_back(life: Life) -> Outcome:
    """An owner who has seen more, or something else, than the ledger holds."""
    box = life.box
    seen = box.seen
    other = life.rng.choice([Seen(seen.size + 1, seen.root), Seen(seen.size, life.rng.randbytes(32))])
    outcome = await refused(box.act(ANN.daily(), seen=other), "a ledger that was put back was confirmed")
    life.box = box.restart()
    await life.box.act(ANN.daily(), seen=life.box.seen)
    return outcome


async def offer_again(life: Life) -> Outcome:
    """An offer whose session is over, sent again: the stored answer at most, and nothing on show."""
    box = life.box
    asked = await session(life)
    if asked is None:
        return REFUSED
    document, shown = asked
    taken = box.home.signed_revocation(nonce=nonce(life.name("revocation")))
    await box.act(BEN.daily(), taken)
    await box.settle()
    box.clock.advance(life.rng.choice([0, 1, 31, 200]))
    await box.tell(POLICE, document)
    wrong = len(box.screens.ever) != shown or bool(box.screens.shown)
    return Outcome("an old offer was shown something") if wrong else REFUSED


async def request_again(life: Life) -> Outcome:
    """A request sent again after its stored answer has gone: recorded once, granted never."""
    box = life.box
    request = _request(life)
    document = signed_request(request)
    await box.tell(POLICE, document)
    box.clock.advance(31)
    before = len(box.entries(EntryKind.REQUEST))
    await box.tell(POLICE, document)
    if len(box.entries(EntryKind.REQUEST)) != before:
        return Outcome("a request was recorded twice")
    return REFUSED


async def expired(life: Life) -> Outcome:
    """An offer under a token that has ended, however an owner's clock is set back meanwhile."""
    box = life.box
    request = _request(life)
    await box.tell(POLICE, signed_request(request))
    name = life.name("short token")
    begin_ns = box.clock.wall_ns // 10**9 * 10**9 - 30 * 10**9
    made = await box.grant(
        name=name,
        epoch=box.keeper.state.standing.epoch,
        scope={"not_before_ns": begin_ns, "not_after_ns": begin_ns + 60 * 10**9},
    )
    box.clock.advance(60)
    early = box.clock.wall_ns - life.rng.choice([60, 3600]) * 10**9
    with suppress(DoorwardError):
        await box.act(ANN.daily(), signed_at_ns=max(early, NOON))
    shown = len(box.screens.ever)
    answer_name = life.name("offer")
    answer = await box.offer(box.offer_now(request, made, name=answer_name), name=answer_name)
    await box.settle()
    if len(box.screens.ever) != shown or (answer and answer.status is AgencyReason.GRANTED):
        return Outcome("a token that had ended was shown something")
    return REFUSED


def _request(life: Life) -> Request:
    box = life.box
    second = box.clock.wall_ns // 10**9 * 10**9
    return box.home.request(
        name=life.name("request"), issued_at_ns=second, expires_at_ns=second + 3600 * 10**9
    )


async def session(life: Life) -> tuple[bytes, int] | None:
    """A session that has begun: its offer's bytes, and how often something was shown in this life."""
    box = life.box
    request = _request(life)
    await box.tell(POLICE, signed_request(request))
    begin_ns = box.clock.wall_ns // 10**9 * 10**9 - 60 * 10**9
    made = await box.grant(
        name=life.name("token"),
        epoch=box.keeper.state.standing.epoch,
        scope={"not_before_ns": begin_ns, "not_after_ns": begin_ns + 3600 * 10**9},
    )
    document = signed_offer(box.offer_now(request, made, name=life.name("offer")))
    await box.tell(POLICE, document)
    return (document, len(box.screens.ever)) if box.screens.shown else None


ATTEMPTS: list[Callable[[Life], Awaitable[Outcome]]] = [
    fresh,
    same_act,
    late_act,
    foreign_challenge,
    token_twice,
    token_after_revocation,
    old_charter,
    shutter_again,
    pairing_again,
    rolled_back,
    offer_again,
    request_again,
    expired,
]
