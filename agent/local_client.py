"""The other end of the local door: for the command line and the supervisor, blocking."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from agent import seam
from agent.errors import Unreachable, WireError
from agent.operations import error_from_json
from agent.seam import Message, MessageKind

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from agent.operations import Operation

TIMEOUT_S: Final = 60.0


class LocalClient:
    """One connection to core's local door; several calls, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self._number = 0

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            Unreachable: The agent is not running here, or not ours to ask.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise Unreachable(
                f"no agent at {self._path} ({error.strerror})",
                hint="start it with 'make run' or 'doorward run', or name a device with --device URL",
            ) from error
        self._connection = connection
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(
        self, operation: Operation, args: dict[str, object] | None = None, blob: bytes = b""
    ) -> tuple[dict[str, object], bytes]:
        """Perform one operation: its result and its bytes.

        Raises:
            DoorwardError: What the agent says of it.
            Unreachable: The agent went away.
        """
        if self._connection is None:
            raise RuntimeError("local door: not connected")
        self._number += 1
        fields: dict[str, object] = {"id": self._number, "name": str(operation), "args": args or {}}
        try:
            self._connection.sendall(seam.encode(Message(MessageKind.OPERATION, fields, blob)))
            reply = seam.read_blocking(self._connection)
        except (OSError, WireError) as error:
            raise Unreachable(f"the agent went away ({error})") from error
        if reply is None:
            raise Unreachable("the agent closed the door", hint="its log says why")
        if reply.fields.get("error") is not None:
            raise error_from_json(reply.fields["error"])
        result = reply.fields.get("result")
        return (result if isinstance(result, dict) else {}), reply.blob
