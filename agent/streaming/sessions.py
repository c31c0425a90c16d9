"""All viewers of this device, and the hub that gives each unit to exactly the permits it names.

Speaks the seam's ``open``, ``unit`` and ``close`` and answers with ``answer``, ``answer-failed``, ``closed``,
``idr`` and ``bitrate``. All of it runs on one event loop; ``unit`` and ``close`` take effect inside `handle`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from agent.errors import DoorwardError, WireError
from agent.seam import Message, MessageKind, Unit
from agent.streaming.ice import read_ice
from agent.streaming.viewer import End, Viewer

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_TIMEOUT_NS: Final = 20_000_000_000
"""An offer lives 30 s at most; an operator who has not connected 20 s after the answer asks again."""

_REMEMBERED: Final = 256
"""Ends that a late ``close`` is answered with, oldest forgotten first."""


class Sessions:
    """The device's side of every live stream.

    Args:
        send: Takes messages for core; called on the event loop, must not block.
        ice_addresses: Host addresses to offer, None for all of the machine's; see `agent.streaming.ice.Ice`.
        max_viewers: More than so many at once are turned away as busy.
        connect_timeout_ns: A viewer that has not connected so long after its answer is ended.
    """

    def __init__(
        self,
        *,
        send: Callable[[Message], None],
        ice_addresses: tuple[str, ...] | None,
        max_viewers: int,
        connect_timeout_ns: int = CONNECT_TIMEOUT_NS,
    ) -> None:
        self._send = send
        self._ice_addresses = ice_addresses
        self._max_viewers = max_viewers
        self._connect_timeout_ns = connect_timeout_ns
        self._viewers: dict[int, Viewer] = {}
        self._ends: OrderedDict[int, Message] = OrderedDict()
        self._opened: asyncio.Queue[tuple[Viewer, bytes]] = asyncio.Queue()

    def handle(self, message: Message) -> None:
        """Act on one message from core.

        Raises:
            WireError: It is none of ours, or a field is wrong: core and net do not speak the same language.
        """
        match message.kind:
            case MessageKind.UNIT:
                self._distribute(Unit.from_message(message))
            case MessageKind.OPEN:
                self._open(message)
            case MessageKind.CLOSE:
                self._close(message.integer("permit"))
            case _:
                raise WireError(f"{message.kind} message: not for sessions")

    def close_all(self, why: End = End.SEAM_LOST) -> None:
        """End every viewer: after the return no RTP packet leaves."""
        for viewer in tuple(self._viewers.values()):
            viewer.shut(why)

    async def run(self) -> None:
        """Serve viewers until cancelled, which ends all of them.

        Closes: Every peer connection, before it returns.
        """
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    viewer, offer = await self._opened.get()
                    group.create_task(self._serve(viewer, offer))
        finally:
            self.close_all()

    async def _serve(self, viewer: Viewer, offer: bytes) -> None:
        try:
            if self._viewers.get(viewer.permit) is viewer:
                answer = await viewer.answer(offer)
                # A permit can end while candidates are gathered; then `closed` was sent and no answer is.
                if self._viewers.get(viewer.permit) is viewer:
                    self._send(Message(MessageKind.ANSWER, {"permit": viewer.permit}, answer))
                    await viewer.watch()
        except DoorwardError as error:
            if self._viewers.pop(viewer.permit, None) is viewer:
                self._refuse(viewer.permit, str(error))
        finally:
            viewer.shut(End.SEAM_LOST)
            await viewer.close()

    def _open(self, message: Message) -> None:
        permit, ends_boot_ns = message.integer("permit"), message.integer("ends_boot_ns")
        try:
            ice = read_ice(message.fields.get("ice"), addresses=self._ice_addresses)
        except WireError as error:
            self._refuse(permit, str(error))
            return
        if permit in self._viewers or permit in self._ends:
            self._refuse(permit, f"permit {permit}: it has a viewer already")
        elif len(self._viewers) >= self._max_viewers:
            self._refuse(permit, f"busy: all places are taken (got {self._max_viewers})")
        else:
            viewer = Viewer(
                permit,
                ends_boot_ns,
                ice,
                connect_timeout_ns=self._connect_timeout_ns,
                wish_idr=lambda number: self._send(Message(MessageKind.IDR, {"permit": number})),
                estimate=self._estimate,
                ended=self._ended,
            )
            self._viewers[permit] = viewer
            self._opened.put_nowait((viewer, message.blob))

    def _distribute(self, unit: Unit) -> None:
        for number in unit.permits:
            viewer = self._viewers.get(number)
            if viewer is not None:
                viewer.put(unit)

    def _close(self, permit: int) -> None:
        viewer = self._viewers.get(permit)
        if viewer is not None:
            viewer.shut(End.CLOSED)
        else:
            # It went by itself and that report crossed this message, or it never was: core awaits the word.
            self._send(self._ends.get(permit) or _closed(permit, End.CLOSED, 0, 0, 0))

    def _ended(self, viewer: Viewer, why: End) -> None:
        if self._viewers.pop(viewer.permit, None) is None:
            return
        sent = viewer.sent
        message = _closed(viewer.permit, why, sent.frames, sent.rtp_bytes, sent.last_boot_ns)
        self._ends[viewer.permit] = message
        while len(self._ends) > _REMEMBERED:
            self._ends.popitem(last=False)
        self._send(message)

    def _refuse(self, permit: int, why: str) -> None:
        self._send(Message(MessageKind.ANSWER_FAILED, {"permit": permit, "why": why}))

    def _estimate(self, permit: int, bits_per_s: int) -> None:
        self._send(Message(MessageKind.BITRATE, {"permit": permit, "bits_per_s": bits_per_s}))


def _closed(permit: int, why: End, frames: int, sent_bytes: int, last_boot_ns: int) -> Message:
    fields: dict[str, object] = {
        "permit": permit,
        "why": str(why),
        "frames": frames,
        "bytes": sent_bytes,
        "last_boot_ns": last_boot_ns,
    }
    return Message(MessageKind.CLOSED, fields)
