"""The agency's end of the local link: the same sealed messages, straight to one device over its HTTPS.

``POST /v0/link/<agency>`` hands a message over, and its answer may be the immediate reply; later news is
fetched by long polling ``GET /v0/link/<agency>/out``. The device side is `agent.console.api`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from agent.consent import strict_json
from agent.errors import DoorwardError, IntegrityError, MalformedInput
from agent.link.backoff import Backoff
from agent.link.https import MAX_RESPONSE_BYTES, Peer, exchange
from agent.link.inbox import Inbox
from agent.link.transport import check_name, check_sealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    import aiohttp

    from agent.link.https import Response

_log = logging.getLogger(__name__)

_POLL_GRACE_S: Final = 10.0
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class HttpTransport:
    """One agency, one device, one address. Implements `agent.link.transport.Transport`.

    ``poll_s`` is how long the device may keep a poll open (it keeps none longer than 25 s).
    """

    def __init__(
        self,
        base_url: str,
        agency: str,
        device: str,
        *,
        fingerprint: str | None = None,
        ca: Path | None = None,
        poll_s: int = 25,
        send_wait_s: float = 30.0,
        first_retry_s: float = 1.0,
    ) -> None:
        self._peer = Peer(base_url, fingerprint, ca)
        self._agency = check_name(agency)
        self._device = check_name(device)
        self._poll_s = poll_s
        self._send_wait_s = send_wait_s
        self._backoff = Backoff(first_retry_s, max(first_retry_s, 30.0))
        self._inbox = Inbox()
        self._group = asyncio.TaskGroup()
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self._polling: asyncio.Task[None] | None = None
        self.error: str | None = None
        """Why the last poll failed, one line; None while polling works."""

    async def __aenter__(self) -> Self:
        """Start polling; does not wait for the device."""
        self._session = await self._stack.enter_async_context(self._peer.session())
        await self._group.__aenter__()
        self._polling = self._group.create_task(self._poll(self._session))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop polling; iterators over `messages` end."""
        if self._polling is not None:
            self._polling.cancel()
        self._inbox.close()
        try:
            # Before the cancelled poll lets go of its connection: a TLS goodbye can outlive the event loop.
            await self._stack.aclose()
        finally:
            # The body's own error is not the group's business: it would come out wrapped in a group.
            await self._group.__aexit__(None, None, None)

    async def send(self, device: str, sealed: bytes) -> None:
        """Hand ``sealed`` to the device; its immediate reply, if any, comes out of `messages`.

        Raises:
            Unreachable: Nobody answers, or the device cannot take it now.
            IntegrityError: Somebody else answers than the device we pinned.
            MalformedInput: Another device than this transport's, or a size that may not travel.
        """
        if self._session is None:
            raise RuntimeError("HttpTransport used outside of its async with block")
        self._check(device)
        path = f"/v0/link/{self._agency}"
        response = await exchange(
            self._session,
            self._peer,
            "POST",
            path,
            body=check_sealed(sealed),
            headers=_OCTETS,
            timeout_s=self._send_wait_s,
        )
        if response.status == 200:  # noqa: PLR2004 - HTTP; 202 has no reply
            self._inbox.put(self._device, check_sealed(response.body))

    def messages(self, device: str) -> AsyncIterator[bytes]:
        """Replies and later news from the device, in order; ends with the transport.

        Raises:
            IntegrityError: Somebody else answers than the device we pinned.
            MalformedInput: Another device than this transport's.
        """
        self._check(device)
        return self._inbox.read(device)

    def _check(self, device: str) -> None:
        if device != self._device:
            raise MalformedInput(f"device {device[:80]}: not at {self._peer.url} (that is {self._device})")

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        after = 0
        while True:
            path = f"/v0/link/{self._agency}/out?after={after}&wait={self._poll_s}"
            try:
                response = await exchange(
                    session, self._peer, "GET", path, timeout_s=self._poll_s + _POLL_GRACE_S
                )
                messages = _messages(response)
            except IntegrityError as error:
                # Trying again would hand every later message to whoever sits there.
                self.error = str(error)
                self._inbox.close(error)
                return
            except DoorwardError as error:
                if self.error != str(error):
                    _log.warning("%s; retrying", error)
                self.error = str(error)
                await asyncio.sleep(self._backoff.failed())
                continue
            self.error = None
            self._backoff.failures = 0
            for after, sealed in messages:  # noqa: B007 - the last number is where the next poll starts
                self._inbox.put(self._device, sealed)


def _messages(response: Response) -> list[tuple[int, bytes]]:
    """The numbered messages of one poll, in order.

    Raises:
        MalformedInput: Not what the interface says.
    """
    if response.status != 200:  # noqa: PLR2004 - HTTP; 202 is an empty answer
        return []
    document = strict_json.loads(response.body, limit=MAX_RESPONSE_BYTES)
    entries = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise MalformedInput("link: poll answer without messages")
    found: list[tuple[int, bytes]] = []
    for entry in entries:
        number, text = (entry.get("n"), entry.get("sealed")) if isinstance(entry, dict) else (None, None)
        if type(number) is not int or not isinstance(text, str):
            raise MalformedInput("link: poll answer with an entry that is no message")
        try:
            sealed = check_sealed(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            raise MalformedInput("link: poll answer with a message that is no base64") from error
        found.append((number, sealed))
    return found
