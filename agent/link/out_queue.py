"""What waits to be published: in order for each topic, bounded, and tried again until somebody listens.

A post answers "no matching subscribers" when a message reached nobody and nobody's session keeps it: the
other end has never been there, or the post was killed and lost its sessions. That message is gone, so it is
published again later, with the same identity. Topics do not wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.errors import DoorwardError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.link.backoff import Backoff

IDENTITY_BYTES: Final = 8
MAX_PER_TOPIC: Final = 16
MAX_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Outgoing:
    """One message; ``done`` says whether somebody listened. ``expires`` is of ``time.monotonic``."""

    topic: str
    sealed: bytes
    expires: float
    done: asyncio.Future[bool]
    identity: bytes = field(default_factory=lambda: secrets.token_bytes(IDENTITY_BYTES))


@dataclass(slots=True)
class _Line:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class OutQueue:
    """Publishers wait in `publish`; the connection takes `head` and gives its fate to `settle`."""

    def __init__(self, backoff: Callable[[], Backoff]) -> None:
        self._backoff = backoff
        self._lines: dict[str, _Line] = {}
        self._ready: deque[Outgoing] = deque()
        self._arrival = asyncio.Event()
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """How many messages nobody has taken yet."""
        return sum(line.waiting for line in self._lines.values())

    async def publish(self, topic: str, sealed: bytes, expiry_s: float) -> None:
        """Wait until the message was taken and somebody listens; cancel to take it back.

        Raises:
            TransientError: Too much is waiting already.
            DoorwardError: What `settle` was given.
        """
        line = self._lines.setdefault(topic, _Line())
        if line.waiting >= MAX_PER_TOPIC or self._bytes + len(sealed) > MAX_BYTES:
            self._forget(topic)
            raise TransientError(f"post: too much is waiting to be sent (got {self.waiting} messages)")
        expires = time.monotonic() + expiry_s
        line.waiting += 1
        self._bytes += len(sealed)
        try:
            async with line.turn:
                await self._until_heard(
                    Outgoing(topic, sealed, expires, asyncio.get_running_loop().create_future())
                )
        finally:
            line.waiting -= 1
            self._bytes -= len(sealed)
            self._forget(topic)

    async def _until_heard(self, outgoing: Outgoing) -> None:
        backoff = self._backoff()
        while not await self._attempt(outgoing):
            await asyncio.sleep(backoff.failed())
            outgoing.done = asyncio.get_running_loop().create_future()

    async def _attempt(self, outgoing: Outgoing) -> bool:
        self._ready.append(outgoing)
        self._arrival.set()
        try:
            return await outgoing.done
        finally:
            with contextlib.suppress(ValueError):
                self._ready.remove(outgoing)

    def _forget(self, topic: str) -> None:
        if not self._lines[topic].waiting:
            del self._lines[topic]

    async def head(self) -> Outgoing:
        """The next message; it stays here until `settle`, so that a lost connection loses nothing."""
        while not self._ready:
            self._arrival.clear()
            await self._arrival.wait()
        return self._ready[0]

    def settle(self, outgoing: Outgoing, fate: bool | DoorwardError) -> None:  # noqa: FBT001 - a value, no switch
        """The message was taken (and somebody listens, or not), or will never be."""
        with contextlib.suppress(ValueError):
            self._ready.remove(outgoing)
        if outgoing.done.done():
            return  # Its publisher gave up meanwhile.
        if isinstance(fate, DoorwardError):
            outgoing.done.set_exception(fate)
        else:
            outgoing.done.set_result(fate)
