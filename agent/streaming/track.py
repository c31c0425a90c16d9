"""The queue of one viewer: access units on their way to one sender, bounded, resuming at a key frame."""

from __future__ import annotations

import asyncio
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.packet import Packet

if TYPE_CHECKING:
    from av.stream import Stream

    from agent.seam import Unit

MAX_UNITS: Final = 30
"""One second at 30 frames: a viewer who is further behind is better off with a new key frame."""

_TIME_BASE: Final = Fraction(1, 90_000)


class PacketTrack(MediaStreamTrack):
    """A video track that yields what core encoded; aiortc packs it into RTP without decoding or encoding.

    It starts with a key frame and goes on with one after every overflow.
    """

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._units: deque[Unit] = deque()
        self._ready = asyncio.Event()
        self._needs_key = True

    def put(self, unit: Unit) -> bool:
        """Queue ``unit``, or drop it while a key frame is awaited.

        Returns:
            False if the queue had run over: it was emptied, and a key frame should be asked for.
        """
        if self.readyState != "live" or (self._needs_key and not unit.key):
            return True
        if len(self._units) >= MAX_UNITS:
            self._units.clear()
            self._needs_key = not unit.key
            if self._needs_key:
                self._ready.clear()
                return False
            self._units.append(unit)
            return False
        self._needs_key = False
        self._units.append(unit)
        self._ready.set()
        return True

    def end(self) -> None:
        """Drop everything; nothing more comes out."""
        self._units.clear()
        self.stop()
        self._ready.set()

    async def recv(self) -> Packet[Stream]:
        """The next access unit, for aiortc's sender.

        Raises:
            MediaStreamError: The track has ended; aiortc's sender expects this.
        """
        while not self._units:
            if self.readyState != "live":
                raise MediaStreamError
            self._ready.clear()
            await self._ready.wait()
        unit = self._units.popleft()
        packet = Packet(unit.annexb)
        packet.pts = packet.dts = unit.pts_90k
        packet.time_base = _TIME_BASE
        return packet
