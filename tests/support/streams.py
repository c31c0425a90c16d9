"""Both ends of a live stream in one process, over loopback: the device's `Sessions` with a core behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiortc.rtp import is_rtcp

from agent.seam import Message, MessageKind, Unit
from agent.streaming.ice import Ice, IcePolicy
from agent.streaming.receiver import Receiver
from agent.streaming.sessions import Sessions
from hal.clock import boot_ns
from hal.h264_encoder import H264Encoder
from tests.support.pictures import textured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LOOPBACK = ("127.0.0.1",)
ICE = Ice(IcePolicy.ALL, (), LOOPBACK)
HOUR_NS = 3_600 * 10**9


class Core:
    """Core's end of the seam: keeps every message, and answers wishes for an IDR as a pipeline does."""

    def __init__(self, *, max_viewers: int = 8, connect_timeout_ns: int = 10**10) -> None:
        self.messages: list[Message] = []
        self.changed = asyncio.Event()
        self.sessions = Sessions(
            send=self.take,
            ice_addresses=LOOPBACK,
            max_viewers=max_viewers,
            connect_timeout_ns=connect_timeout_ns,
        )
        self.encoder = H264Encoder(width=320, height=180, fps=30, bitrate=3_000_000, gop_s=3_600)
        self.idr_wanted = False
        self.t_boot_ns = 0
        self.encoded = 0

    def take(self, message: Message) -> None:
        self.messages.append(message)
        self.idr_wanted |= message.kind is MessageKind.IDR
        self.changed.set()

    def of(self, kind: MessageKind, permit: int | None = None) -> list[Message]:
        return [
            message
            for message in self.messages
            if message.kind is kind and permit in {None, message.fields.get("permit")}
        ]

    async def wait(self, kind: MessageKind, permit: int | None = None, *, count: int = 1) -> Message:
        async with asyncio.timeout(10):
            while len(self.of(kind, permit)) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.of(kind, permit)[count - 1]

    def open(self, permit: int, offer: bytes, *, ends_in_ns: int = HOUR_NS, ice: object = None) -> None:
        fields: dict[str, object] = {
            "permit": permit,
            "ends_boot_ns": boot_ns() + ends_in_ns,
            "ice": ice or {"policy": "all", "servers": []},
        }
        self.sessions.handle(Message(MessageKind.OPEN, fields, offer))

    def close(self, permit: int) -> None:
        self.sessions.handle(Message(MessageKind.CLOSE, {"permit": permit}))

    def unit(self, *permits: int, key: bool = False) -> None:
        """Encode one more picture and give it to these permits."""
        self.t_boot_ns += 33_333_334
        key, self.idr_wanted = key or self.idr_wanted, False
        picture = textured(320, 180, seed=self.encoded % 5)
        self.encoded += 1
        for packet in self.encoder.encode(picture, self.t_boot_ns, force_idr=key):
            unit = Unit(permits, packet.key, packet.pts_90k, packet.t_boot_ns, packet.annexb)
            self.sessions.handle(unit.to_message())

    async def feed(self, *permits: int, every_s: float = 0.01) -> None:
        """Give pictures to these permits until cancelled."""
        while True:
            self.unit(*permits)
            await asyncio.sleep(every_s)


@asynccontextmanager
async def device(**options: int) -> AsyncIterator[Core]:
    """A device that serves; cancelled at the end."""
    core = Core(**options)
    task = asyncio.get_running_loop().create_task(core.sessions.run())
    try:
        yield core
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


@asynccontextmanager
async def feeding(core: Core, *permits: int, every_s: float = 0.01) -> AsyncIterator[None]:
    """Pictures for these permits while the block runs."""
    task = asyncio.get_running_loop().create_task(core.feed(*permits, every_s=every_s))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def watching(core: Core, permit: int, *, ends_in_ns: int = HOUR_NS) -> AsyncIterator[Watcher]:
    """A viewer under ``permit`` whose answer has been applied."""
    watcher = Watcher()
    core.open(permit, await watcher.receiver.offer(), ends_in_ns=ends_in_ns)
    await watcher.receiver.accept((await core.wait(MessageKind.ANSWER, permit)).blob)
    try:
        yield watcher
    finally:
        await watcher.receiver.close()


class Watcher:
    """A receiver and all that it received."""

    def __init__(self) -> None:
        self.units: list[bytes] = []
        self.keys = 0
        self.changed = asyncio.Event()
        self.receiver = Receiver(ICE, unit=self._take)

    def _take(self, unit: object) -> None:
        self.units.append(unit.annexb)  # type: ignore[attr-defined]
        self.keys += unit.key  # type: ignore[attr-defined]
        self.changed.set()

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Sniffer:
    """Every RTP packet that a viewer's socket is handed, with its moment; no RTCP, DTLS, STUN."""

    def __init__(self, core: Core, permit: int) -> None:
        self.packets: list[tuple[int, bytes]] = []
        connection = core.sessions._viewers[permit]._connection
        self.transports = [
            protocol.transport
            for protocol in connection.getTransceivers()[
                0
            ].receiver.transport.transport._connection._protocols
        ]
        for transport in self.transports:
            self._listen(transport)

    def _listen(self, transport: asyncio.DatagramTransport) -> None:
        original = transport.sendto

        def sendto(data: bytes, address: tuple[str, int] | None = None) -> None:
            if 127 < data[0] < 192 and not is_rtcp(data):
                self.packets.append((boot_ns(), bytes(data)))
            original(data, address)

        transport.sendto = sendto  # type: ignore[method-assign, assignment]
