"""What the device has to say to agencies on the local link, until they fetch it: numbered and bounded."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_MESSAGES: Final = 64
MAX_BYTES: Final = 1024 * 1024
MAX_AGE_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Numbered:
    """One sealed message and its number; numbers of one agency only grow."""

    number: int
    sealed: bytes
    born: float


class Outbox:
    """Per agency at most `MAX_MESSAGES`, `MAX_BYTES` and `MAX_AGE_S`; the oldest goes first.

    Fetching takes nothing away: anybody on the network may fetch what is sealed, and nobody shall be able to
    delete what is meant for another. Numbers start anywhere, so that a reader of an earlier run notices.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._messages: dict[str, deque[Numbered]] = {}
        self._number = secrets.randbelow(2**48)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, agency: str, sealed: bytes) -> int:
        """Keep ``sealed`` for ``agency``; its number."""
        queue = self._messages.setdefault(agency, deque())
        self._number += 1
        queue.append(Numbered(self._number, sealed, self._now()))
        self._tidy(queue)
        self._wake()
        return self._number

    def keep(self, agencies: Iterable[str]) -> None:
        """Forget every agency but these."""
        self._messages = {name: self._messages[name] for name in agencies if name in self._messages}

    def close(self) -> None:
        """Nobody waits any longer."""
        self._closed = True
        self._wake()

    async def after(self, agency: str, number: int, wait_s: float) -> list[Numbered]:
        """The messages after ``number``, or the first to come within ``wait_s``; empty when none came.

        A ``number`` we never gave is one of an earlier run: everything counts as after it.
        """
        try:
            async with asyncio.timeout(wait_s):
                while not self._closed and not (found := self._after(agency, number)):
                    await self._changed.wait()
        except TimeoutError:
            return []
        return [] if self._closed else found

    def _after(self, agency: str, number: int) -> list[Numbered]:
        queue = self._messages.get(agency)
        if not queue:
            return []
        self._tidy(queue)
        if number > self._number:
            number = 0
        return [message for message in queue if message.number > number]

    def _tidy(self, queue: deque[Numbered]) -> None:
        born = self._now() - MAX_AGE_S
        size = sum(len(message.sealed) for message in queue)
        while queue and (len(queue) > MAX_MESSAGES or size > MAX_BYTES or queue[0].born <= born):
            size -= len(queue.popleft().sealed)

    def _wake(self) -> None:
        # A fresh event each time: who waits on the old one is woken, who comes later looks first.
        self._changed.set()
        self._changed = asyncio.Event()
