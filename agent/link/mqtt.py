"""The link over the post (MQTT 5): the device's end and the agency's end.

Topics: ``dw/0/<agency>/dev/<device>/in`` towards the device, ``…/out`` from it. The post's access list
(``config/mosquitto/acl.example``) gives each certificate its own topics alone. The session itself is
`agent.link.post`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn, Self

from agent.errors import DoorwardError
from agent.link.inbox import Inbox
from agent.link.post import MESSAGE_EXPIRY_S, PostSession
from agent.link.post_settings import LinkState, MqttSettings
from agent.link.transport import check_name, check_sealed, is_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import TracebackType

    from agent.link.transport import Submit

__all__ = ["LinkState", "MqttAgencyTransport", "MqttDeviceLink", "MqttSettings"]

_log = logging.getLogger(__name__)

REPLY_EXPIRY_S: Final = 600
_WAITING_PER_AGENCY: Final = 16


def topic_in(agency: str, device: str) -> str:
    """Where messages for ``device`` from ``agency`` go."""
    return f"dw/0/{agency}/dev/{device}/in"


def topic_out(agency: str, device: str) -> str:
    """Where messages from ``device`` for ``agency`` go; ``+`` stands for every device."""
    return f"dw/0/{agency}/dev/{device}/out"


class MqttDeviceLink:
    """The device's end: hands what agencies send to core, and publishes what core has to say.

    The messages of one agency go to core one after the other; agencies do not wait for each other. Beyond
    `_WAITING_PER_AGENCY` waiting messages an agency's further ones are dropped and counted.
    """

    def __init__(
        self, settings: MqttSettings, device: str, *, agencies: Iterable[str] = (), submit: Submit
    ) -> None:
        self._device = check_name(device)
        self._submit = submit
        self._waiting: dict[str, deque[bytes]] = {}
        self._arrival = asyncio.Event()
        self.dropped_full = 0
        self.failed = 0
        self._post = PostSession(settings, device, topics=self._topics(agencies), arrived=self._arrived)

    def _topics(self, agencies: Iterable[str]) -> list[str]:
        return [topic_in(check_name(agency), self._device) for agency in agencies]

    def set_agencies(self, agencies: Iterable[str]) -> None:
        """Listen to exactly these agencies from now on; takes effect at once when connected.

        Raises:
            MalformedInput: One is no link name; nothing was changed.
        """
        self._post.set_topics(self._topics(agencies))

    def state(self) -> LinkState:
        """How the session with the post stands."""
        return self._post.state()

    async def publish(
        self, agency: str, sealed: bytes, *, expiry_s: float = MESSAGE_EXPIRY_S, wait_s: float | None = None
    ) -> None:
        """Send ``sealed`` to ``agency``; waits for the post, at most ``wait_s`` (default: ``expiry_s``).

        Raises:
            Unreachable: The post did not take it in time.
            TransientError: Too much is waiting already.
            Refused: The post's access list does not let us.
            MalformedInput: No link name, or a size that may not travel.
        """
        topic = topic_out(check_name(agency), self._device)
        wait = expiry_s if wait_s is None else wait_s
        await self._post.publish(topic, check_sealed(sealed), expiry_s=expiry_s, wait_s=wait)

    async def run(self) -> NoReturn:
        """Stay connected and serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._post.run())
            busy: set[str] = set()
            while True:
                await self._arrival.wait()
                self._arrival.clear()
                for agency in self._waiting.keys() - busy:
                    busy.add(agency)
                    group.create_task(self._serve(agency, busy))

    def _arrived(self, topic: str, sealed: bytes) -> None:
        agency = topic.split("/")[2]
        queue = self._waiting.setdefault(agency, deque())
        if len(queue) >= _WAITING_PER_AGENCY:
            self.dropped_full += 1
            return
        queue.append(sealed)
        self._arrival.set()

    async def _serve(self, agency: str, busy: set[str]) -> None:
        """Hand over what waits, then end: no task and no queue for an agency that is silent."""
        queue = self._waiting[agency]
        while queue:
            try:
                reply = await self._submit(agency, queue.popleft())
                if reply is not None:
                    await self.publish(agency, reply, expiry_s=REPLY_EXPIRY_S)
            except DoorwardError as error:
                self.failed += 1
                _log.warning("message from agency %s: %s", agency, error)
        del self._waiting[agency]
        busy.discard(agency)


class MqttAgencyTransport:
    """The agency's end: one connection for all devices. Implements `agent.link.transport.Transport`.

    The post lets one connection per certificate live: a second program with the same certificate takes the
    first one's place (and `state` says so).
    """

    def __init__(self, settings: MqttSettings, agency: str, *, send_wait_s: float = 30.0) -> None:
        self._agency = check_name(agency)
        self._send_wait_s = send_wait_s
        self._inbox = Inbox()
        self._group = asyncio.TaskGroup()
        self._running: asyncio.Task[NoReturn] | None = None
        self._post = PostSession(settings, agency, topics=[topic_out(agency, "+")], arrived=self._arrived)

    async def __aenter__(self) -> Self:
        """Start connecting; `send` waits for the connection."""
        await self._group.__aenter__()
        self._running = self._group.create_task(self._post.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; iterators over `messages` end. What comes later waits at the post."""
        if self._running is not None:
            self._running.cancel()
        self._inbox.close()
        # The body's own error is not the group's business: it would come out wrapped in a group.
        await self._group.__aexit__(None, None, None)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because nobody read them."""
        return self._inbox.dropped

    def state(self) -> LinkState:
        """How the session with the post stands."""
        return self._post.state()

    async def send(self, device: str, sealed: bytes) -> None:
        """Send ``sealed`` to ``device``; returns when the post has taken it.

        Raises:
            Unreachable: The post did not take it in time.
            Refused: The post's access list does not let us.
            MalformedInput: No device name, or a size that may not travel.
        """
        await self._post.publish(
            topic_in(self._agency, check_name(device)),
            check_sealed(sealed),
            expiry_s=MESSAGE_EXPIRY_S,
            wait_s=self._send_wait_s,
        )

    def messages(self, device: str) -> AsyncIterator[bytes]:
        """Replies and later news from ``device``, in order; ends with the transport."""
        return self._inbox.read(check_name(device))

    def _arrived(self, topic: str, sealed: bytes) -> None:
        device = topic.split("/")[4]
        if is_name(device):
            self._inbox.put(device, sealed)
