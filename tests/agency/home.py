"""A household with one device for tests: real keys, documents, ledger, gate and sharing; a fake net.

`Household` makes documents and needs no event loop. `home` runs the device's side of the conversation, and
`Loop` is a link straight into it, on which a test can play the broker.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.consent import charter as charters
from agent.consent import envelope, introduction
from agent.consent.acts import Descriptor
from agent.consent.charter import (
    Agency,
    Answers,
    CameraEntry,
    Charter,
    DailyKey,
    DailyLimits,
    Device,
    Ice,
    NamedArea,
    Owner,
    Rollback,
)
from agent.consent.envelope import PayloadType, short
from agent.consent.reasons import DenialReason
from agent.consent.rules import Mode
from agent.consent.times import SECOND_NS, TimeQuality
from agent.consent.token import Revocation, Scope, Terms, Token
from agent.device_keys import DeviceKeys
from agent.gate import EndedSession, Gate, Surroundings
from agent.ledger.checkpoint import origin_of
from agent.ledger.entry import EntryKind, Stamp
from agent.ledger.keeper import Keeper
from agent.ledger.log import Log
from agent.ledger.state import body_document
from agent.link.inbox import Inbox
from agent.parcel import LINK_TOPIC, Parcel, seal_documents
from agent.sealing import SealKind
from agent.seam import Message, MessageKind
from agent.sharing import Sharing
from agent.trusted_time import TrustedTime
from hal.clock import boot_ns, wall_ns
from tests.support import streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path

    from agent.agency.identity import Identity
    from agent.consent.handshake import Request
    from agent.net_link import NetLink
    from agent.screens import Screens

HOUR_NS = 3600 * SECOND_NS
DOOR = NamedArea("door", ((0, 0), (5000, 0), (5000, 10_000), (0, 10_000)))


class Household:
    """Keys of ``owners`` owners and of one device with one camera, and the documents they sign."""

    def __init__(self, owners: int = 1, granting: int = 1) -> None:
        self.roots = [Ed25519PrivateKey.generate() for _ in range(owners)]
        self.daily = [Ed25519PrivateKey.generate() for _ in range(owners)]
        self.keys = DeviceKeys(Ed25519PrivateKey.generate(), X25519PrivateKey.generate())
        self.granting = granting
        self.epoch = 0
        self.charter: Charter | None = None
        self.genesis = b""

    @property
    def device(self) -> str:
        return self.keys.device

    def found(self, agency: Agency) -> Charter:
        """Version 1 of the charter, with ``agency`` in it."""
        draft = Charter(
            id="",
            household="",
            version=1,
            previous=None,
            owners=tuple(
                Owner(
                    f"owner {number}",
                    root.public_key().public_bytes_raw(),
                    X25519PrivateKey.generate().public_key().public_bytes_raw(),
                    (
                        DailyKey(
                            "phone",
                            daily.public_key().public_bytes_raw(),
                            X25519PrivateKey.generate().public_key().public_bytes_raw(),
                        ),
                    ),
                )
                for number, (root, daily) in enumerate(zip(self.roots, self.daily, strict=True))
            ),
            granting=self.granting,
            governing=len(self.roots),
            daily_limits=DailyLimits(3600, standing=False),
            devices=(Device("front-door", self.keys.signing_public),),
            agencies=(agency,),
            cameras=(CameraEntry("front", self.device, (), (DOOR,)),),
            rules=(),
            post=None,
            ice=Ice.ALL,
            rollback=Rollback.WARN,
            accept_plausible_time=True,
            indicator_required=True,
        )
        self.genesis = envelope.sign(PayloadType.CHARTER, charters.payload_of(draft), self.roots)
        self.charter = charters.verify_genesis(self.genesis)
        return self.charter

    def introduction(
        self, agency: str, *, signers: list[Ed25519PrivateKey] | None = None, ends_ns: int | None = None
    ) -> bytes:
        if self.charter is None:
            raise RuntimeError("found the household first")
        seals = {self.device: self.keys.seal_public}
        made = introduction.of_charter(self.charter, agency, seals, ends_ns or wall_ns() + 24 * HOUR_NS)
        return envelope.sign(PayloadType.INTRODUCTION, made.payload(), signers or self.roots)

    def token(self, request: Request, *, seconds: int = 60, **changes: Any) -> Token:
        now_ns = wall_ns() // SECOND_NS * SECOND_NS
        token = Token(
            id="",
            household=request.household,
            device=self.device,
            agency=request.agency,
            operators=(),
            re=request.id,
            purpose=request.purpose,
            scope=Scope(
                mode=Mode.LIVE,
                cameras=("front",),
                not_before_ns=now_ns - 30 * SECOND_NS,
                not_after_ns=now_ns + seconds * SECOND_NS,
                areas=("door",),
                max_height=480,
                max_fps=30,
                session_seconds=seconds,
                total_seconds=seconds,
                sessions=5,
            ),
            terms=Terms(forwarding=False, analysis=False, retention_days=0),
            epoch=self.epoch,
            nonce=secrets.token_bytes(16),
        )
        return replace(token, **changes)

    def sign_token(self, token: Token, signers: list[Ed25519PrivateKey] | None = None) -> bytes:
        return envelope.sign(PayloadType.TOKEN, token.payload(), signers or self.daily)

    def sign(self, kind: PayloadType, payload: bytes) -> bytes:
        """As the device."""
        return envelope.sign(kind, payload, [self.keys.signing])

    def descriptor(self, tls_fingerprint: str | None) -> bytes:
        described = Descriptor(
            self.device, self.keys.signing_public, self.keys.seal_public, tls_fingerprint, None, None
        )
        return self.sign(PayloadType.DESCRIPTOR, described.payload())

    def open(self, sealed: bytes, agency: str) -> bytes:
        """The one document inside a message for the device."""
        (document,) = Parcel.parse(sealed).open(sender=agency, recipient=self.device, private=self.keys.seal)
        return document

    def reply(self, document: bytes, *, re: str, agency: str, public: bytes) -> bytes:
        return seal_documents(
            SealKind.REPLY, [document], sender=self.device, recipient=agency, topic=re, public=public
        )

    def news(self, document: bytes, agency: Agency) -> bytes:
        return seal_documents(
            SealKind.TO_AGENCY,
            [document],
            sender=self.device,
            recipient=agency.key_id,
            topic=LINK_TOPIC,
            public=agency.seal,
        )

    def ledger(self, directory: Path) -> Keeper:
        """A real ledger of the device, with the household's charter in it."""
        log = Log.open(directory, origin=origin_of(self.device), private=self.keys.signing)
        keeper = Keeper(log, _stamp)
        keeper.record(EntryKind.BOOT, {"software": "test"})
        keeper.record(EntryKind.PAIRED, body_document(self.genesis, by="test"))
        keeper.record(EntryKind.CONFIRMED, {"by": "test", "size": 0})
        return keeper


def in_charter(identity: Identity, answers: Answers = Answers.PENDING) -> Agency:
    """The agency as a household puts it into its charter."""
    return replace(identity.agency, answers=answers, max_seconds=3600)


def _stamp() -> Stamp:
    now_ns = wall_ns()
    return Stamp(boot_ns(), "0" * 32, now_ns - SECOND_NS, now_ns + SECOND_NS, TimeQuality.AUTHENTICATED)


class _Viewers(streams.Core):
    """The real sessions of net over loopback, fed with pictures; stands where `NetLink` does."""

    def __init__(self) -> None:
        super().__init__()
        self.news: Callable[[str, bytes], None] = lambda _agency, _sealed: None
        self.gone: Callable[[int], None] = lambda _permit: None
        self.stopping: set[int] = set()
        self.watched: set[int] = set()

    def take(self, message: Message) -> None:
        super().take(message)
        if message.kind is MessageKind.CLOSED:
            permit = message.integer("permit")
            self.watched.discard(permit)
            if permit not in self.stopping:
                self.gone(permit)

    def send(self, message: Message) -> None:
        self.news(message.text("agency"), message.blob)

    async def show(self, message: Message) -> bytes:
        self.sessions.handle(message)
        permit = message.integer("permit")
        answer = (await self.wait(MessageKind.ANSWER, permit)).blob
        self.watched.add(permit)
        return answer

    def stop(self, permit: int) -> None:
        if permit not in self.stopping:
            self.stopping.add(permit)
            self.close(permit)

    async def stopped(self, permit: int) -> Message:
        self.stop(permit)
        return await self.wait(MessageKind.CLOSED, permit)

    async def feed_all(self) -> None:
        while True:
            if self.watched:
                self.unit(*self.watched)
            await asyncio.sleep(0.02)


class _Net:
    """What `Sharing` calls of `NetLink`."""

    def __init__(self, viewers: _Viewers) -> None:
        self.open = viewers.show
        self.send = viewers.send
        self.stop = viewers.stop
        self.stopped = viewers.stopped


class _Screens:
    """What `Sharing` calls of `Screens`; the pictures come from `_Viewers`."""

    def show(self, permit: object) -> None:
        pass

    def hide(self, number: int) -> None:
        pass


class Home:
    """The device's side of the conversation, running."""

    def __init__(
        self, household: Household, keeper: Keeper, viewers: _Viewers, group: asyncio.TaskGroup
    ) -> None:
        self.household = household
        self.keeper = keeper
        self.viewers = viewers
        self._group = group
        self.listeners: list[Callable[[str, bytes], object]] = []
        time = TrustedTime(lambda: (wall_ns(), 0))
        self.gate = Gate(
            keeper,
            time,
            device=household.device,
            boot_ns=boot_ns,
            surroundings=lambda: Surroundings(frozenset({"front"}), frozenset(), 4),
            on_end=self._ended,
        )
        self.sharing = Sharing(
            keeper,
            self.gate,
            time,
            household.keys,
            cast("NetLink", _Net(viewers)),
            cast("Screens", _Screens()),
            boot_ns=boot_ns,
            spawn=self._spawn,
        )
        viewers.news = self._news
        viewers.gone = self._gone

    def _gone(self, permit: int) -> None:
        # net watches the permit's end too, and may notice it first.
        self.gate.reconsider()
        self.gate.end(permit, DenialReason.VIEWER_GONE)

    def _ended(self, ended: EndedSession) -> None:
        self.sharing.ended(ended)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._group.create_task(work)

    def _news(self, agency: str, sealed: bytes) -> None:
        for listener in self.listeners:
            listener(agency, sealed)

    async def grant(self, *, seconds: int = 60, **changes: Any) -> Token:
        """All owners grant the newest request, as soon as there is one."""
        async with asyncio.timeout(10):
            while not self.keeper.state.requests:
                await asyncio.sleep(0.01)
        *_, held = self.keeper.state.requests.values()
        token = self.household.token(held.request, seconds=seconds, **changes)
        signed = self.household.sign_token(token)
        self.keeper.record(EntryKind.TOKEN, body_document(signed, by="test"))
        await self.sharing.owners_acted()
        return replace(token, id=envelope.document_id(token.payload()))

    def revoke(self, token: Token) -> None:
        document = Revocation("", token.household, token.id, None, secrets.token_bytes(16))
        signed = envelope.sign(PayloadType.REVOCATION, document.payload(), self.household.daily[:1])
        self.keeper.record(EntryKind.REVOCATION, body_document(signed, by="test"))
        self.gate.reconsider()


@asynccontextmanager
async def home(household: Household, directory: Path) -> AsyncIterator[Home]:
    """The device, up and feeding pictures to whoever may watch."""
    keeper = household.ledger(directory)
    viewers = _Viewers()
    try:
        async with asyncio.TaskGroup() as group:
            lasting = [group.create_task(each) for each in (viewers.sessions.run(), viewers.feed_all())]
            running = Home(household, keeper, viewers, group)
            lasting.append(group.create_task(running.gate.run()))
            yield running
            running.gate.end_all(DenialReason.NET_LOST)
            await _all_closed()
            for task in lasting:
                task.cancel()
    finally:
        keeper.log.close()


async def _all_closed() -> None:
    """Wait until every viewer's connection is down: cancelled while it closes, it would leave its socket."""
    async with asyncio.timeout(10):
        while any("Sessions._serve" in repr(task.get_coro()) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)


class Loop:
    """A link straight to a home. ``broker`` is what lies between: it may change, drop or repeat messages."""

    def __init__(
        self,
        agency: str,
        submit: Callable[[str, bytes], Awaitable[bytes | None]],
        device: str,
        *,
        broker: Callable[[bytes], list[bytes]] = lambda sealed: [sealed],
    ) -> None:
        self._agency = short(agency)
        self._submit = submit
        self._device = short(device)
        self._broker = broker
        self._inbox = Inbox()
        self.sent: list[bytes] = []

    @classmethod
    def to(cls, agency: str, home: Home, **options: Any) -> Loop:
        loop = cls(agency, home.sharing.message, home.household.device, **options)
        home.listeners.append(lambda _agency, sealed: loop.deliver(sealed))
        return loop

    def deliver(self, sealed: bytes) -> None:
        for each in self._broker(sealed):
            self._inbox.put(self._device, each)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._inbox.close()

    async def send(self, device: str, sealed: bytes) -> None:
        assert device == self._device
        self.sent.append(sealed)
        reply = await self._submit(self._agency, sealed)
        if reply is not None:
            self.deliver(reply)

    def messages(self, device: str) -> AsyncIterator[bytes]:
        return self._inbox.read(device)
