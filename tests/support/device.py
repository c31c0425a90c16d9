"""A device in memory: core's real parts on a fake clock and a disk that fails on command.

Only what touches the world is replaced: the clock, the disk, net at the other end of the seam, the screens.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from agent import sealing
from agent.challenges import Challenges
from agent.consent import acts, handshake
from agent.consent.acts import Acknowledgement, Seen
from agent.consent.envelope import PayloadType, short
from agent.consent.times import SECOND_NS, TimeQuality
from agent.errors import Refused, WireError
from agent.gate import EndedSession, Gate, Surroundings
from agent.ledger.checkpoint import origin_of
from agent.ledger.entry import Entry, EntryKind, Stamp
from agent.ledger.keeper import Keeper
from agent.ledger.log import Log
from agent.net_link import NetLink
from agent.owners import Owners
from agent.pairing import PairingCodes
from agent.parcel import Parcel, seal_documents
from agent.screens import Screens
from agent.sealing import SealKind
from agent.seam import Message, MessageKind
from agent.sharing import Sharing
from agent.trusted_time import TrustedTime
from tests.ledger.disk import Disk
from tests.support.household import (
    NOON,
    POLICE,
    SDP,
    Home,
    device_keys,
    nonce,
    sign,
    signed_offer,
    signed_request,
    x,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from agent.consent.handshake import Answer, Decision, Ended, Offer, Request
    from agent.consent.token import Token
    from agent.permit import Permit
    from tests.support.household import Body

ORIGIN = origin_of(device_keys().device)
BOOT = 1000 * SECOND_NS
"""The moment of CLOCK_BOOTTIME at `NOON`."""


class Clock:
    """CLOCK_BOOTTIME, and a kernel clock that NTP keeps while ``ntp`` is true."""

    def __init__(self) -> None:
        self.ns = BOOT
        self.ntp = True
        self.wrong_ns = 0

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * SECOND_NS)

    @property
    def wall_ns(self) -> int:
        return NOON + self.ns - BOOT

    def plausible(self) -> tuple[int, int] | None:
        return (self.wall_ns + self.wrong_ns, 0) if self.ntp else None


class HeldDisk(Disk):
    """A disk whose syncs of the ledger wait while it is held."""

    def __init__(self, capacity: int | None = None) -> None:
        super().__init__(capacity)
        self.reached = threading.Event()
        self._go = threading.Event()
        self._go.set()

    def hold(self) -> None:
        self.reached.clear()
        self._go.clear()

    def go(self) -> None:
        self._go.set()

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 10)

    def fault(self, call: str) -> Any:
        if call == "sync entries":
            self.reached.set()
            assert self._go.wait(10)
        return super().fault(call)


class FakeNet(NetLink):
    """net as it should be: answers offers, acknowledges stops."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.offers: list[Message] = []
        self.stops: list[int] = []
        self.refuses = False
        self.away = False
        self.sdp = SDP.replace("recvonly", "sendonly").encode()
        self.meanwhile: Callable[[int], Awaitable[None]] | None = None
        self.closed: Message | None = Message(MessageKind.CLOSED, {"permit": 0, "frames": 3, "bytes": 100})

    @property
    def connected(self) -> bool:
        return not self.away

    def send(self, message: Message) -> None:
        self.sent.append(message)

    async def open(self, message: Message) -> bytes:
        self.offers.append(message)
        if self.meanwhile is not None:
            await self.meanwhile(message.integer("permit"))
        if self.refuses:
            raise WireError("offer: no")
        return self.sdp

    def stop(self, permit: int) -> asyncio.Future[Message | None]:
        self.stops.append(permit)
        future: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        future.set_result(self.closed)
        return future

    async def stopped(self, permit: int) -> Message | None:
        return await self.stop(permit)


class FakeScreens(Screens):
    """Remembers what is on show."""

    def __init__(self) -> None:
        self.shown: dict[int, Permit] = {}
        self.ever: list[Permit] = []
        self.refuses = False

    def show(self, permit: Permit) -> None:
        if self.refuses:
            raise Refused("indicator: dark", reason="media-failed")
        self.shown[permit.number] = permit
        self.ever.append(permit)

    def hide(self, number: int) -> None:
        self.shown.pop(number, None)


class Box:
    """One life of a device, from its boot entry until `close`."""

    def __init__(
        self,
        directory: Path,
        *,
        home: Home | None = None,
        disk: Disk | None = None,
        clock: Clock | None = None,
        most_viewers: int = 4,
    ) -> None:
        self.home = home or Home()
        self.disk = disk or HeldDisk()
        self.clock = clock or Clock()
        self.directory = directory
        self.cameras = frozenset({"front"})
        self.most_viewers = most_viewers
        self.ended: list[EndedSession] = []
        self.changes = 0
        self._work: list[Coroutine[None, None, None]] = []
        keys = self.home.keys
        self.log = Log.open(
            directory, origin=origin_of(keys.device), private=keys.signing, opener=self.disk.open
        )
        self.time = TrustedTime(self.clock.plausible, floors=self._floors)
        self.keeper = Keeper(self.log, self._stamp)
        self.keeper.record(EntryKind.BOOT, {"software": "test"})
        self.gate = Gate(
            self.keeper,
            self.time,
            device=keys.device,
            boot_ns=self.clock,
            surroundings=lambda: Surroundings(self.cameras, frozenset(), self.most_viewers),
            on_end=self._on_end,
        )
        self.gate.close_off()
        self.net = FakeNet()
        self.screens = FakeScreens()
        self.challenges = Challenges(self.clock)
        self.codes = PairingCodes(self.clock)
        self.sharing = Sharing(
            self.keeper,
            self.gate,
            self.time,
            keys,
            self.net,
            self.screens,
            boot_ns=self.clock,
            spawn=self._work.append,
        )
        self.owners = Owners(
            self.keeper,
            self.gate,
            self.time,
            keys,
            self.challenges,
            self.codes,
            boot_ns=self.clock,
            changed=self._changed,
        )

    def _floors(self) -> tuple[int, int]:
        return self.keeper.state.floor_ns, self.keeper.state.plausible_floor_ns

    def _stamp(self) -> Stamp:
        now = self.time.now(self.clock())
        if now is None:
            return Stamp(self.clock(), "00" * 16, None, None, TimeQuality.UNTRUSTED)
        return Stamp(self.clock(), "00" * 16, now.earliest_ns, now.latest_ns, now.quality)

    def _changed(self) -> None:
        self.changes += 1

    def _on_end(self, ended: EndedSession) -> None:
        self.ended.append(ended)
        self.sharing.ended(ended)

    async def settle(self) -> None:
        """Let everything that ended be written down and told."""
        while self._work:
            await self._work.pop(0)

    def close(self) -> None:
        for work in self._work:
            work.close()
        self.log.close()

    def restart(self, disk: Disk | None = None) -> Box:
        """The next life on the same disk (or another), on the same clock."""
        self.close()
        return Box(
            self.directory,
            home=self.home,
            disk=disk or self.disk,
            clock=self.clock,
            most_viewers=self.most_viewers,
        )

    def entries(self, *kinds: EntryKind) -> list[Entry]:
        return [entry for _, entry in self.log.entries() if not kinds or entry.kind in kinds]

    @property
    def seen(self) -> Seen:
        """What an owner's client that is up to date has seen."""
        return Seen(self.log.size, self.log.root())

    # What owners do

    def sealed_pairing(self, signer: Ed25519PrivateKey, **changes: Any) -> bytes:
        if "code" not in changes:
            changes["code"] = self.codes.new()
        changes.setdefault("challenge", self.challenges.issue())
        changes.setdefault("signed_at_ns", self.clock.wall_ns)
        pairing = self.home.pairing(**changes)
        return sealing.seal(
            SealKind.PAIRING,
            sender=acts.PAIRING_SENDER,
            recipient=self.home.keys.device,
            topic=acts.PAIRING_TOPIC,
            public=self.home.keys.seal_public,
            plaintext=sign(PayloadType.PAIRING, pairing.payload(), signer),
        )

    async def pair(self, **changes: Any) -> Acknowledgement:
        signed = await self.owners.pair(self.sealed_pairing(self.home.people[0].root, **changes))
        return acts.verify_acknowledgement(signed, self.home.keys.signing_public)

    def signed_act(self, key: Ed25519PrivateKey, *documents: bytes, **changes: Any) -> bytes:
        challenge = changes.pop("challenge", None) or self.challenges.issue()
        changes.setdefault("signed_at_ns", self.clock.wall_ns)
        act = self.home.act(challenge, key, *documents, **changes)
        return sign(PayloadType.ACT, act.payload(), key)

    async def act(self, key: Ed25519PrivateKey, *documents: bytes, **changes: Any) -> Acknowledgement:
        signed = await self.owners.act(self.signed_act(key, *documents, **changes))
        return acts.verify_acknowledgement(signed, self.home.keys.signing_public)

    async def grant(self, *, name: str = "token", **changes: Any) -> Token:
        """A token signed by the first owner, handed over."""
        owner = self.home.people[0]
        made = self.home.token(nonce=nonce(name), **changes)
        await self.act(owner.daily(), sign(PayloadType.TOKEN, made.payload(), owner.root))
        return made

    # What agencies do

    async def tell(self, body: Body, *documents: bytes, **changes: Any) -> bytes | None:
        """Hand over documents as ``body`` seals them; the sealed reply."""
        usual: dict[str, Any] = {
            "sender": body.key_id,
            "recipient": self.home.keys.device,
            "topic": "link",
            "public": self.home.keys.seal_public,
        }
        data = seal_documents(SealKind.TO_DEVICE, list(documents), **{**usual, **changes})
        return await self.sharing.message(short(body.key_id), data)

    def opened(self, reply: bytes, asked: Request | Offer, name: str) -> bytes:
        """The one document in a reply to ``asked``, whose reply key is called ``name``."""
        parcel = Parcel.parse(reply)
        assert parcel.topic == asked.id
        (document,) = parcel.open(
            sender=self.home.keys.device, recipient=asked.badge.agency, private=x(f"{name} reply")
        )
        return document

    async def ask(self, request: Request, *, body: Body = POLICE, name: str = "request") -> Decision | None:
        reply = await self.tell(body, signed_request(request))
        if reply is None:
            return None
        return handshake.verify_decision(self.opened(reply, request, name), self.home.keys.signing_public)

    async def offer(self, offer: Offer, *, body: Body = POLICE, name: str = "offer") -> Answer | None:
        reply = await self.tell(body, signed_offer(offer))
        if reply is None:
            return None
        return handshake.verify_answer(self.opened(reply, offer, name), self.home.keys.signing_public)

    def offer_now(self, request: Request, granted: Token, *, name: str = "offer", **changes: Any) -> Offer:
        """An offer made at this moment."""
        second = self.clock.wall_ns // SECOND_NS * SECOND_NS
        lifetime: dict[str, Any] = {"issued_at_ns": second, "expires_at_ns": second + 30 * SECOND_NS}
        return self.home.offer(request, granted, name=name, **{**lifetime, **changes})

    def told(self) -> list[Ended]:
        """The ends of sessions that agencies were told."""
        found = []
        for message in self.net.sent:
            parcel = Parcel.parse(message.blob)
            if parcel.kind is SealKind.TO_AGENCY:
                (document,) = parcel.open(
                    sender=self.home.keys.device, recipient=POLICE.key_id, private=POLICE.seal
                )
                found.append(handshake.verify_ended(document, self.home.keys.signing_public))
        return found
