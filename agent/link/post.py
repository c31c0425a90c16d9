"""One lasting session with the post: MQTT 5 over TLS, reconnecting for ever. The only file with aiomqtt.

What it guarantees:

1. TLS 1.2 or later, the post's name verified, our client certificate shown; TCP_NODELAY, without which a
   QoS 1 round trip takes 45 ms instead of 1 ms (Nagle against delayed acknowledgements).
2. A lost connection is tried again for ever, with exponential backoff and full jitter (`Backoff`).
3. What is published waits for the connection and for somebody who listens (`agent.link.out_queue`), goes out
   in order, one at a time, with QoS 1 and a message expiry; nothing is retained and there is no last will.
   The post's refusal (PUBACK) is an error.
4. What the post keeps for us while we are away comes when we are back (session expiry).
5. What the post was asked to retain, what is too large, what was delivered before and what we did not
   subscribe to is dropped and counted.

Every publication carries eight random bytes as correlation data, the same when it is sent again after a lost
connection; the receiver drops what it has seen. Only the post could abuse that, and it could as well drop.

A bound: paho holds one packet in memory before we see it. MQTT's Maximum Packet Size tells the post our
limit; a post that ignores it can make us hold up to 256 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import time
import traceback
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import aiomqtt
from paho.mqtt.client import topic_matches_sub
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.errors import DoorwardError, MalformedInput, Refused, TransientError, Unreachable
from agent.link.backoff import Backoff
from agent.link.out_queue import IDENTITY_BYTES, OutQueue
from agent.link.post_settings import LinkState, one_line
from agent.link.transport import MAX_SEALED_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from paho.mqtt.client import Client as PahoClient
    from paho.mqtt.client import DisconnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.link.out_queue import Outgoing
    from agent.link.post_settings import MqttSettings

T = TypeVar("T")

_log = logging.getLogger(__name__)

SESSION_EXPIRY_S: Final = 24 * 3600
MESSAGE_EXPIRY_S: Final = 24 * 3600
_KEEPALIVE_S: Final = 30
_TIMEOUT_S: Final = 10.0
_RECEIVE_MAXIMUM: Final = 20
_PACKET_OVERHEAD_BYTES: Final = 4096  # topic, properties, lengths
_SEEN: Final = 1024
_NO_MATCHING_SUBSCRIBERS: Final = 0x10
_NOT_AUTHORIZED: Final = 0x87
_PACKET_TOO_LARGE: Final = 0x95


class _Client(aiomqtt.Client):
    """One connection. Closes what aiomqtt 2.5 leaves open, hears what it does not pass on.

    aiomqtt forgets the socket of a connect that was cancelled, refused or timed out; waits its whole time-out
    when the post hangs up during the handshake; ignores the reason in a PUBACK; can lose a cancellation; and
    its queue drops messages silently when full, or has no bound.
    """

    def __init__(self, settings: MqttSettings, identity: str, arrived: Callable[[MQTTMessage], None]) -> None:
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect.SessionExpiryInterval = SESSION_EXPIRY_S
        connect.ReceiveMaximum = _RECEIVE_MAXIMUM
        connect.MaximumPacketSize = MAX_SEALED_BYTES + _PACKET_OVERHEAD_BYTES
        super().__init__(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            identifier=identity,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            timeout=_TIMEOUT_S,
            keepalive=_KEEPALIVE_S,
            properties=connect,
            tls_context=settings.tls_context(),
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._arrived = arrived
        self._ended = asyncio.Event()
        self._why = "connection lost"
        self._reason: ReasonCode | None = None

    async def open(self) -> None:
        """Connect and be accepted.

        Raises:
            aiomqtt.MqttError: Not connected; nothing of the attempt is left behind.
        """
        # The thread cannot be cancelled: wait for it, so that its socket has an owner.
        connecting = self._loop.run_in_executor(None, super()._client_connect)
        try:
            await asyncio.shield(connecting)
            await self.__aenter__()
        except (OSError, ValueError) as error:
            # paho forgets the socket of a failed handshake; it lives on in the frames of the error.
            traceback.clear_frames(error.__traceback__)
            raise aiomqtt.MqttError(one_line(error)) from error
        except (asyncio.CancelledError, aiomqtt.MqttError):
            with contextlib.suppress(OSError, ValueError):
                await connecting
            await self.close()
            raise

    def _client_connect(self) -> None:
        """Nothing left to do for aiomqtt: `open` has connected already."""

    async def publish_alone(self, topic: str, sealed: bytes, properties: Properties) -> ReasonCode | None:
        """Publish with QoS 1, never two at once; the reason in the acknowledgement."""
        self._reason = None
        await self.publish(topic, sealed, qos=1, retain=False, properties=properties)
        return self._reason

    async def close(self) -> None:
        """Say goodbye if that is possible, and close the socket in any case."""
        connection = self._client.socket()
        if not isinstance(connection, socket.socket):
            return  # None: there is none.
        self._client.disconnect()
        try:
            async with asyncio.timeout(1):
                await self._ended.wait()
        except TimeoutError:
            # The goodbye is stuck behind what the post does not read: end of stream makes paho close it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            await self._ended.wait()

    async def lost(self) -> NoReturn:
        """Wait for the end of the connection.

        Raises:
            aiomqtt.MqttError: Always; says why.
        """
        await self._ended.wait()
        raise aiomqtt.MqttError(self._why)

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - aiomqtt's
        # Its own uses asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes together
        # with the result: the task goes on, and who cancelled it waits for ever.
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError as error:
            raise aiomqtt.MqttError("post: no answer in time") from error

    def _on_socket_close(self, client: PahoClient, userdata: Any, sock: Any) -> None:  # noqa: ANN401 - paho's
        super()._on_socket_close(client, userdata, sock)
        self._loop.call_soon_threadsafe(self._ended.set)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,  # noqa: ANN401 - paho's signature
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._why = f"post: {str(reason_code).lower()}"
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("post: hung up before it let us in"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        if self._disconnected.done():
            self._disconnected.exception()  # Looked at: asyncio need not complain that nobody did.

    def _on_message(self, client: PahoClient, userdata: Any, message: MQTTMessage) -> None:  # noqa: ANN401, ARG002 - paho's
        self._arrived(message)

    def _on_publish(
        self,
        client: PahoClient,
        userdata: Any,  # noqa: ANN401 - paho's signature
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        self._reason = reason_code
        super()._on_publish(client, userdata, mid, reason_code, properties)


class PostSession:
    """Keeps us connected, subscribed and heard. Create it on the event loop; `run` it in a TaskGroup.

    ``arrived(topic, sealed)`` gets what was delivered; it runs inside the connection's own callback, so it
    must neither block nor raise.
    """

    def __init__(
        self,
        settings: MqttSettings,
        identity: str,
        *,
        topics: Iterable[str],
        arrived: Callable[[str, bytes], None],
    ) -> None:
        settings.tls_context()  # A broken file is told at once, not as an endless retry.
        self._settings = settings
        self._identity = identity
        self._arrived = arrived
        self._topics = frozenset(topics)
        self._subscribed: set[str] = set()
        self._stale: set[str] = set()
        self._topics_changed = asyncio.Event()
        self._out = OutQueue(self._new_backoff)
        self._seen: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._backoff = self._new_backoff()
        self._changed_at = time.monotonic()
        self._next_attempt_at: float | None = None
        self._state = LinkState(
            connected=False, since_s=0, next_attempt_s=None, failures=0, error=None, waiting=0
        )

    def _new_backoff(self) -> Backoff:
        return Backoff(self._settings.first_retry_s, self._settings.longest_retry_s)

    def state(self) -> LinkState:
        """How things stand now."""
        now = time.monotonic()
        due = self._next_attempt_at
        return replace(
            self._state,
            since_s=now - self._changed_at,
            next_attempt_s=None if due is None else max(0.0, due - now),
            failures=self._backoff.failures,
            waiting=self._out.waiting,
        )

    def set_topics(self, topics: Iterable[str]) -> None:
        """Subscribe to exactly these from now on."""
        self._topics = frozenset(topics)
        self._topics_changed.set()

    async def publish(self, topic: str, sealed: bytes, *, expiry_s: float, wait_s: float) -> None:
        """Publish once the post is there; returns when it has taken the message for somebody.

        A caller that gives up (cancelled) takes its message back, unless it is on its way already.

        Raises:
            Unreachable: The post did not take it within ``wait_s``, or knows nobody who listens.
            TransientError: Too much is waiting already.
            Refused: We may not publish there.
            MalformedInput: Too large for the post.
        """
        try:
            async with asyncio.timeout(wait_s):
                await self._out.publish(topic, sealed, expiry_s)
        except TimeoutError as error:
            why = self._state.error or "nobody listens there"
            raise Unreachable(
                f"post {self._settings.host}:{self._settings.port}: message not taken in {wait_s:g} s ({why})"
            ) from error

    async def run(self) -> NoReturn:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._connection()
            except* aiomqtt.MqttError as group:
                self._lost(_first(group))
            except* DoorwardError as group:  # The certificates have become unreadable since we started.
                self._lost(_first(group))
            delay = self._backoff.failed()
            self._next_attempt_at = time.monotonic() + delay
            await asyncio.sleep(delay)

    def _lost(self, error: BaseException) -> None:
        now = time.monotonic()
        why = one_line(error)
        if self._state.connected:
            self._backoff.stood(now - self._changed_at)
            self._changed_at = now
        if why != self._state.error:
            _log.warning("post %s:%d: %s; retrying", self._settings.host, self._settings.port, why)
        self._state = replace(self._state, connected=False, error=why)

    async def _connection(self) -> None:
        self._next_attempt_at = None
        client = _Client(self._settings, self._identity, self._receive)
        await client.open()
        try:
            await self._subscribe(client)
            _log.info("post %s:%d: connected", self._settings.host, self._settings.port)
            self._changed_at = time.monotonic()
            self._state = replace(self._state, connected=True, error=None)
            async with asyncio.TaskGroup() as group:
                group.create_task(client.lost())
                group.create_task(self._keep_subscribed(client))
                group.create_task(self._keep_sending(client))
        finally:
            await client.close()

    async def _keep_subscribed(self, client: _Client) -> NoReturn:
        while True:
            await self._topics_changed.wait()
            await self._subscribe(client)

    async def _subscribe(self, client: _Client) -> None:
        self._topics_changed.clear()
        wanted = self._topics
        for topic in sorted((self._subscribed | self._stale) - wanted):
            self._stale.discard(topic)
            if topic:
                await client.unsubscribe(topic)
            self._subscribed.discard(topic)
        # All of them on each connection, not only the new ones: the post may have lost our session. Retained
        # messages are not wanted, and those published as such while we listen keep their mark.
        options = SubscribeOptions(
            qos=1, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
        )
        for topic in sorted(wanted):
            await client.subscribe(topic, options=options)
            self._subscribed.add(topic)

    async def _keep_sending(self, client: _Client) -> NoReturn:
        while True:
            outgoing = await self._out.head()
            left = outgoing.expires - time.monotonic()
            fate: bool | DoorwardError = Unreachable("post: the message expired before it could be sent")
            if left > 0:
                fate = await self._send(client, outgoing, left)
            if fate is True:
                self._state = replace(self._state, sent=self._state.sent + 1)
            self._out.settle(outgoing, fate)

    async def _send(self, client: _Client, outgoing: Outgoing, left_s: float) -> bool | DoorwardError:
        """Whether somebody listened, or why the post did not take the message."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = math.ceil(left_s)
        properties.CorrelationData = outgoing.identity
        reason = await client.publish_alone(outgoing.topic, outgoing.sealed, properties)
        if reason is None or not reason.is_failure:
            return reason is None or reason.value != _NO_MATCHING_SUBSCRIBERS
        if reason.value == _NOT_AUTHORIZED:
            return Refused(f"post: we may not publish to {outgoing.topic}", reason="post")
        if reason.value == _PACKET_TOO_LARGE:
            return MalformedInput(f"post: {len(outgoing.sealed)} bytes are too large for it")
        return TransientError(f"post: did not take the message ({str(reason).lower()})")

    def _receive(self, message: MQTTMessage) -> None:
        state = self._state
        # Nothing may raise in here: paho would then handle the same packet again, for ever.
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        identity = (topic, getattr(message.properties, "CorrelationData", b""))
        if not any(topic_matches_sub(pattern, topic) for pattern in self._topics):
            # Perhaps a subscription of an earlier run that the post still has: end it.
            self._state = replace(state, dropped_foreign=state.dropped_foreign + 1)
            self._stale.add(topic)
            self._topics_changed.set()
        elif message.retain:
            self._state = replace(state, dropped_retained=state.dropped_retained + 1)
        elif not 0 < len(message.payload) <= MAX_SEALED_BYTES:
            self._state = replace(state, dropped_oversized=state.dropped_oversized + 1)
        elif identity in self._seen:
            self._state = replace(state, dropped_repeated=state.dropped_repeated + 1)
        else:
            if len(identity[1]) == IDENTITY_BYTES:
                self._seen[identity] = None
                if len(self._seen) > _SEEN:
                    self._seen.popitem(last=False)
            self._state = replace(state, received=state.received + 1)
            self._arrived(topic, bytes(message.payload))


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
