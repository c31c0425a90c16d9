"""Where messages from devices wait for their reader on the agency's side; bounded in every direction."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.errors import DoorwardError

MAX_MESSAGES_PER_DEVICE: Final = 64
MAX_BYTES_PER_DEVICE: Final = 1024 * 1024
MAX_BYTES: Final = 16 * 1024 * 1024


class _Queue:
    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.bytes = 0

    def append(self, sealed: bytes) -> None:
        self.messages.append(sealed)
        self.bytes += len(sealed)

    def popleft(self) -> bytes:
        sealed = self.messages.popleft()
        self.bytes -= len(sealed)
        return sealed


class Inbox:
    """One queue per device; what does not fit is dropped and counted.

    No device can crowd the others out: it has a bound of its own, and when all together hold too much, the
    longest queue loses its oldest message. A device of which nothing waits takes no memory.
    """

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._closed = False
        self._error: DoorwardError | None = None
        self.dropped = 0

    def put(self, device: str, sealed: bytes) -> None:
        """Keep ``sealed`` for the reader of ``device``, or drop and count it if that device has no room."""
        queue = self._queues.get(device) or _Queue()
        full = len(queue.messages) >= MAX_MESSAGES_PER_DEVICE
        if full or queue.bytes + len(sealed) > MAX_BYTES_PER_DEVICE:
            self.dropped += 1
            return
        self._queues[device] = queue
        queue.append(sealed)
        self._bytes += len(sealed)
        while self._bytes > MAX_BYTES:
            self._take(max(self._queues, key=lambda name: self._queues[name].bytes))
            self.dropped += 1
        self._wake()

    def close(self, error: DoorwardError | None = None) -> None:
        """No more will come: readers end, or raise ``error``, once they have read what waits."""
        self._closed = True
        self._error = error
        self._wake()

    def _wake(self) -> None:
        # A fresh event each time: who waits on the old one is woken, who comes later looks first.
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _take(self, device: str) -> bytes:
        queue = self._queues[device]
        sealed = queue.popleft()
        self._bytes -= len(sealed)
        if not queue.messages:
            del self._queues[device]
        return sealed

    async def read(self, device: str) -> AsyncIterator[bytes]:
        """What comes from ``device``, in order, until `close`."""
        while True:
            if device in self._queues:
                yield self._take(device)
            elif self._closed:
                if self._error is not None:
                    raise self._error
                return
            else:
                await self._arrived.wait()
