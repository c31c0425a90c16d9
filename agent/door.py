"""The local door: core's own socket, for people and programs on the box. Works with net down.

The peer's user id is checked; owners' acts carry their own authority all the same. One connection may ask
several operations, one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

from agent import seam
from agent.errors import DoorwardError, MalformedInput, WireError
from agent.net_link import peer_of
from agent.operations import Call, Door, Operation, Operations, Reply, error_to_json
from agent.seam import Message, MessageKind

if TYPE_CHECKING:
    from pathlib import Path

MOST_CONNECTIONS: Final = 32
log = logging.getLogger(__name__)


async def answer(operations: Operations, message: Message, door: Door) -> Message:
    """Perform what an ``operation`` message asks for; the ``reply`` message."""
    fields: dict[str, object] = {"id": message.fields.get("id")}
    try:
        reply = await operations.perform(_call(message, door))
    except DoorwardError as error:
        return Message(MessageKind.REPLY, {**fields, "error": error_to_json(error)})
    return _reply(fields, reply)


def _reply(fields: dict[str, object], reply: Reply) -> Message:
    return Message(MessageKind.REPLY, {**fields, "result": reply.result}, reply.blob)


def _call(message: Message, door: Door) -> Call:
    if message.kind is not MessageKind.OPERATION:
        raise MalformedInput(f"door: a message that is no operation (got {message.kind})")
    name = message.text("name")
    if name not in {str(each) for each in Operation}:
        raise MalformedInput(f"door: unknown operation {name[:40]!r}")
    args = message.fields.get("args", {})
    handle = message.fields.get("handle")
    if not isinstance(args, dict) or not isinstance(handle, str | None):
        raise MalformedInput("door: arguments are no object, or the handle no text")
    return Call(Operation(name), door, args, message.blob, handle)


class LocalDoor:
    """Serves operations on a Unix socket."""

    def __init__(self, path: Path, operations: Operations) -> None:
        self._path = path
        self._operations = operations
        self._connections = 0

    async def run(self) -> None:
        """Serve for ever.

        Raises:
            OSError: The socket cannot be made.
        """
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self._path)
        self._path.chmod(0o660)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, uid = peer_of(writer.get_extra_info("socket"))
        if uid not in (os.getuid(), 0) or self._connections >= MOST_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        try:
            while (message := await seam.read(reader)) is not None:
                writer.write(seam.encode(await answer(self._operations, message, Door.LOCAL)))
                await writer.drain()
        except (WireError, ConnectionError) as error:
            log.info("door: %s", error)
        except asyncio.CancelledError:
            # core ends. Nobody awaits this task, and asyncio of Python 3.11 logs a trace for one cancelled.
            log.debug("a connection ends with core")
        finally:
            self._connections -= 1
            writer.close()
