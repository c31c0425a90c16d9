"""A device's remote door on loopback, with a core that only remembers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent.console.api import application
from agent.console.outbox import Outbox
from agent.console.tls import LanTls, lan_tls
from agent.serving import serving

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.errors import DoorwardError

DEVICE = "d0" * 16
AGENCY = "a0" * 16
STRANGER = "ff" * 16


class Core:
    """Implements both ports of the console: operations, and the link's `Submit`."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, dict[str, object], bytes]] = []
        self.submitted: list[tuple[str, bytes]] = []
        self.answer: tuple[dict[str, object], bytes] = ({"done": True}, b"")
        self.reply: bytes | None = None
        self.error: DoorwardError | None = None
        self.hold: asyncio.Event | None = None

    async def operate(
        self, name: str, args: dict[str, object], blob: bytes
    ) -> tuple[dict[str, object], bytes]:
        self.operations.append((name, args, blob))
        await self._obstruct()
        return self.answer

    async def submit(self, agency: str, sealed: bytes) -> bytes | None:
        self.submitted.append((agency, sealed))
        await self._obstruct()
        return self.reply

    async def _obstruct(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error


class Door:
    """A running remote door."""

    def __init__(self, core: Core, outbox: Outbox, tls: LanTls, port: int) -> None:
        self.core = core
        self.outbox = outbox
        self.tls = tls
        self.port = port
        self.url = f"https://127.0.0.1:{port}"


@asynccontextmanager
async def door(directory: Path, *, port: int = 0) -> AsyncIterator[Door]:
    """Serve the API over the device's own TLS until the block ends."""
    core, outbox, tls = Core(), Outbox(), lan_tls(directory, DEVICE)
    app = application(
        operations=core.operate, submit=core.submit, agencies=lambda: frozenset({AGENCY}), outbox=outbox
    )
    async with serving(app, host="127.0.0.1", port=port, tls=tls.context) as address:
        yield Door(core, outbox, tls, address[1])
