"""An open line to devices, and asking over it. Watching is in `agent.agency.watching`.

All that comes is judged by `Conversation.receive` before anybody hears of it. What cannot be believed is
counted and named in the log, and waiting goes on; what the device itself signed and does not hold ends the
conversation with that device.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self, TypeVar

from agent.agency.conversation import Answered, Decided, Over
from agent.consent.envelope import short
from agent.consent.reasons import AgencyReason
from agent.errors import DoorwardError, IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from agent.agency.conversation import Conversation, News, Wanted
    from agent.agency.identity import Operator
    from agent.agency.introductions import KnownDevice
    from agent.link.transport import Transport

    N = TypeVar("N", Decided, Answered, Over)

FIRST_WORD_S: Final = 10.0
"""How long to wait for a device's first word, which it gives at once when it is there."""

log = logging.getLogger(__name__)


class Line:
    """An open link to some devices: sends, hands all that comes to the conversation, wakes who waits."""

    def __init__(
        self, conversation: Conversation, transport: Transport, devices: Sequence[KnownDevice]
    ) -> None:
        self._conversation = conversation
        self._transport = transport
        self._devices = devices
        self._group = asyncio.TaskGroup()
        self._stack = AsyncExitStack()
        self._reading: list[asyncio.Task[None]] = []
        self._heard: list[News] = []
        self._broken: dict[str, DoorwardError] = {}
        self._changed = asyncio.Event()
        self.refused = 0
        """How many messages could not be believed."""

    async def __aenter__(self) -> Self:
        """Start listening."""
        await self._stack.enter_async_context(self._transport)
        await self._group.__aenter__()
        self._reading = [self._group.create_task(self._read(device)) for device in self._devices]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and close the link."""
        for task in self._reading:
            task.cancel()
        try:
            # The body's own error is not the group's business: it would come out wrapped in a group.
            await self._group.__aexit__(None, None, None)
        finally:
            await self._stack.aclose()

    async def send(self, device: KnownDevice, sealed: bytes) -> None:
        """Send one sealed message.

        Raises:
            DoorwardError: As the transport says.
        """
        await self._transport.send(short(device.key_id), sealed)

    async def wait(
        self, device: KnownDevice, kind: type[N], fits: Callable[[N], bool], seconds: float
    ) -> N | None:
        """The first verified message of this kind from now or before that fits; None when none came in time.

        Raises:
            IntegrityError: The device signed something that does not hold, or somebody else answers for it.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.stirred(device, kind, fits)
        except TimeoutError:
            return None
        news = self._find(kind, fits)
        if news is None:
            raise self._broken[device.key_id]
        self._heard.remove(news)
        return news

    async def stirred(self, device: KnownDevice, kind: type[N], fits: Callable[[N], bool]) -> None:
        """Wait until `wait` would return or raise at once."""
        while self._find(kind, fits) is None and device.key_id not in self._broken:
            await self._changed.wait()

    def _find(self, kind: type[N], fits: Callable[[N], bool]) -> N | None:
        for news in self._heard:
            if isinstance(news, kind) and fits(news):
                return news
        return None

    def trouble(self) -> dict[str, DoorwardError]:
        """By key id, the devices from which nothing more is taken, and why."""
        return dict(self._broken)

    async def _read(self, device: KnownDevice) -> None:
        try:
            async for data in self._transport.messages(short(device.key_id)):
                self._take(device, data)
        except DoorwardError as error:
            self._broken[device.key_id] = error
            self._wake()

    def _take(self, device: KnownDevice, data: bytes) -> None:
        try:
            news = self._conversation.receive(device, data)
        except (IntegrityError, StorageError):
            raise
        except DoorwardError as error:
            self.refused += 1
            log.info("a message from %s was dropped: %s", device.name, error)
            return
        if news is not None:
            self._heard.append(news)
            self._wake()

    def _wake(self) -> None:
        # A fresh event each time: who waits on the old one is woken, who comes later looks first.
        self._changed.set()
        self._changed = asyncio.Event()


async def ask(
    line: Line,
    conversation: Conversation,
    operator: Operator,
    device: KnownDevice,
    wanted: Wanted,
    *,
    wait: bool,
    told: Callable[[str, AgencyReason], None],
    first_word_s: float = FIRST_WORD_S,
) -> Decided:
    """Ask to look live; the decision, which with ``wait`` is the last one.

    ``told(request, status)`` hears the request's id at once and then every decision. With ``wait`` this
    returns when the owners grant, when the device says that it will not be, or when the request lapses.

    Raises:
        Unreachable: Nobody took the request; it is forgotten.
        DoorwardError: As `Conversation.ask` and the transport say.
    """
    outgoing = conversation.ask(operator, device, wanted)
    try:
        await line.send(device, outgoing.sealed)
    except DoorwardError:
        conversation.forget(outgoing.id)
        raise
    told(outgoing.id, AgencyReason.PENDING)
    # No answer at all looks like a pending one: so it is meant (promise 7).
    decided = Decided(outgoing.id, AgencyReason.PENDING, None)
    loop = asyncio.get_running_loop()
    ends = loop.time() + (wanted.lifetime_s if wait else min(first_word_s, wanted.lifetime_s))
    while decided.status is AgencyReason.PENDING:
        news = await line.wait(
            device, Decided, lambda each: each.request == outgoing.id, max(0.0, ends - loop.time())
        )
        if news is None:
            return Decided(outgoing.id, AgencyReason.NO_ANSWER, None) if wait else decided
        decided = news
        if decided.status is not AgencyReason.PENDING:
            told(outgoing.id, decided.status)
        elif not wait:
            break
    return decided
