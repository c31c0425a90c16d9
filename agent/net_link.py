"""core's end of the seam: one net process at a time, and what is going on with each of its viewers.

If the seam is lost every permit ends with it (`lost`), since nobody can say what net shows any more. A stop
that net does not acknowledge within `STOP_NS` gets net killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING, Final

from agent import seam
from agent.consent.fields import show
from agent.errors import Unreachable, WireError
from agent.seam import Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

STOP_S: Final = 1.0
ANSWER_S: Final = 10.0
MAX_BUFFERED_BYTES: Final = 4 * 1024 * 1024
"""net reads too slowly: it is not trusted to stop in time either."""

_PEER: Final = struct.Struct("3i")
log = logging.getLogger(__name__)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id at the other end of a Unix socket (SO_PEERCRED)."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, uid, _ = _PEER.unpack(data)
    return pid, uid


class NetLink:
    """Listens on the seam and speaks to net. Everything on core's event loop."""

    def __init__(
        self,
        path: Path,
        *,
        on_message: Callable[[Message], Awaitable[None]],
        on_connected: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._path = path
        self._on_message = on_message
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._writer: asyncio.StreamWriter | None = None
        self._pid = 0
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._closings: dict[int, asyncio.Future[Message | None]] = {}

    @property
    def connected(self) -> bool:
        """Whether net is there."""
        return self._writer is not None

    def send(self, message: Message) -> None:
        """Send to net; without net it goes nowhere. Never blocks."""
        writer = self._writer
        if writer is None:
            return
        writer.write(seam.encode(message))
        transport = writer.transport
        if transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:
            log.warning("net does not read what it is sent; ending it")
            self._kill()

    async def open(self, message: Message) -> bytes:
        """Ask net to answer an SDP offer (``open``); the SDP answer.

        Raises:
            Unreachable: net is away or does not answer in time.
            WireError: net refused the offer.
        """
        if self._writer is None:
            raise Unreachable("net is not running")
        permit = message.integer("permit")
        future = self._answers[permit] = asyncio.get_running_loop().create_future()
        self.send(message)
        try:
            return await asyncio.wait_for(future, ANSWER_S)
        except TimeoutError as error:
            raise Unreachable("net did not answer the offer in time") from error
        finally:
            self._answers.pop(permit, None)

    def stop(self, permit: int) -> asyncio.Future[Message | None]:
        """Tell net to stop sending under ``permit`` now; what comes back is its ``closed`` message.

        The message leaves in this very call. Whoever awaits the result uses `stopped`.
        """
        future = self._closings.get(permit)
        if future is None:
            future = self._closings[permit] = asyncio.get_running_loop().create_future()
            self.send(Message(MessageKind.CLOSE, {"permit": permit}))
        return future

    async def stopped(self, permit: int) -> Message | None:
        """Wait for net's word that a stopped permit sends no more; None if net had to be ended for it."""
        future = self.stop(permit)
        if self._writer is None and not future.done():
            self._closings.pop(permit, None)
            return None
        try:
            return await asyncio.wait_for(future, STOP_S)
        except TimeoutError:
            log.warning("net did not acknowledge a stop; ending it")
            self._kill()
            return None
        finally:
            self._closings.pop(permit, None)

    def _kill(self) -> None:
        """End a net that cannot be trusted to stop; its supervisor starts a new one."""
        if self._pid and self._pid != os.getpid():
            try:
                os.kill(self._pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                # Another user's process (systemd): closing the seam ends its sessions, the watchdog ends it.
                log.warning("net could not be killed; closing the seam")
        if self._writer is not None:
            self._writer.transport.abort()

    async def run(self) -> None:
        """Serve net for ever.

        Raises:
            OSError: The socket cannot be made.
        """
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self._path)
        self._path.chmod(0o660)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        pid, uid = peer_of(connection)
        if self._writer is not None or uid not in (os.getuid(), 0):
            log.warning("a second process (pid %d, uid %d) at the seam was turned away", pid, uid)
            writer.close()
            return
        self._writer, self._pid = writer, pid
        log.info("net is there (pid %d)", pid)
        try:
            self._on_connected()
            while (message := await seam.read(reader)) is not None:
                await self._take(message)
        except (WireError, ConnectionError) as error:
            log.warning("seam: %s", error)
        except asyncio.CancelledError:
            # core ends. Nobody awaits this task, and asyncio of Python 3.11 logs a trace for one cancelled.
            log.debug("a connection ends with core")
        finally:
            self._writer, self._pid = None, 0
            self._forget_waiting()
            self._on_lost()
            writer.close()
            log.warning("net is gone")

    def _forget_waiting(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Unreachable("net is gone"))
        for closing in self._closings.values():
            if not closing.done():
                closing.set_result(None)
        self._closings.clear()

    async def _take(self, message: Message) -> None:
        match message.kind:
            case MessageKind.ANSWER | MessageKind.ANSWER_FAILED:
                future = self._answers.get(message.integer("permit"))
                if future is not None and not future.done():
                    if message.kind is MessageKind.ANSWER:
                        future.set_result(message.blob)
                    else:
                        future.set_exception(WireError(f"net says {show(message.text('why'))}"))
            case MessageKind.CLOSED:
                closing = self._closings.get(message.integer("permit"))
                if closing is not None and not closing.done():
                    closing.set_result(message)
                elif closing is None:
                    await self._on_message(message)
            case _:
                await self._on_message(message)
