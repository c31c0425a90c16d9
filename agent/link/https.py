"""One HTTPS exchange with a device, pinned; shared by the link and the remote door.

A device has no certificate that the world knows. The caller pins the SHA-256 of its certificate, as the
device signs it in its description, or trusts the device's own authority. Plain HTTP is for loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp

from agent.consent import strict_json
from agent.errors import (
    ConfigError,
    DocumentError,
    DoorwardError,
    IntegrityError,
    MalformedInput,
    Refused,
    StorageError,
    TransientError,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CONNECT_S: Final = 10.0
_GOODBYE_S: Final = 1.0
_OK: Final = frozenset({200, 202})


@dataclass(frozen=True, slots=True)
class Peer:
    """A device's address and how we know it: exactly one of a certificate fingerprint and an authority file.

    ``fingerprint`` is ``sha256:`` and 64 hex digits over the certificate's DER bytes.
    """

    url: str
    fingerprint: str | None = None
    ca: Path | None = None

    def __post_init__(self) -> None:
        """Refuse an address that is none, and one that would be unprotected.

        Raises:
            ConfigError: Says which.
        """
        _check_url(self.url)
        if self.url.startswith("http://"):
            if not _is_loopback(self.url):
                raise ConfigError(
                    f"address {self.url}: plain http off this machine", hint="use https:// and a fingerprint"
                )
            if self.fingerprint is not None or self.ca is not None:
                raise ConfigError(f"address {self.url}: a pin needs https")
        elif (self.fingerprint is None) == (self.ca is None):
            raise ConfigError(
                f"address {self.url}: expected either a fingerprint or an authority file",
                hint="the device shows its fingerprint with: doorward status",
            )
        if self.fingerprint is not None and not _FINGERPRINT.fullmatch(self.fingerprint):
            raise ConfigError(
                f"fingerprint: got {self.fingerprint[:80]!r}, expected sha256: and 64 lower-case hex digits"
            )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that talks to nobody but this peer; on the way out all its connections are closed.

        Raises:
            ConfigError: The authority file is missing or no certificate.
        """
        trust: aiohttp.Fingerprint | ssl.SSLContext | bool = True
        if self.fingerprint is not None:
            trust = aiohttp.Fingerprint(bytes.fromhex(self.fingerprint.removeprefix("sha256:")))
        elif self.ca is not None:
            try:
                trust = ssl.create_default_context(cafile=self.ca)
            except OSError as error:
                raise ConfigError(f"authority file {self.ca}: {error}") from error
        sockets = _Sockets()
        try:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trust, limit=8, socket_factory=sockets.make),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session:
                yield session
        finally:
            await sockets.closed()


class _Sockets:
    """The sockets of one session.

    aiohttp forgets the connection of a cancelled request while TLS still says goodbye on it; a program that
    ends its event loop then leaves it open.
    """

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def make(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for ``address``, remembered while it is open."""
        family, kind, protocol = address[:3]
        made = socket.socket(family, kind, protocol)
        self._open = [*self._still_open(), made]
        return made

    def _still_open(self) -> list[socket.socket]:
        return [one for one in self._open if one.fileno() != -1]

    async def closed(self) -> None:
        """Wait for the goodbyes, a second at most: a peer that does not answer gets no more of our time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                while self._still_open():  # noqa: ASYNC110 - nothing tells when a socket closes
                    await asyncio.sleep(_GOODBYE_S / 1000)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: status 200 or 202, and the body."""

    status: int
    content_type: str
    body: bytes


async def exchange(
    session: aiohttp.ClientSession,
    peer: Peer,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> Response:
    """Ask once, follow no redirect; the other side's refusals come back as the errors they are.

    Raises:
        IntegrityError: Somebody else answers than the one we pinned, or the device says so of its storage.
        Unreachable: Nobody answers in time.
        MalformedInput, Refused, TransientError, StorageError: As the device says.
    """
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.request(
                method, peer.url.rstrip("/") + path, data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            content = await _bounded(response.content, peer)
            status, content_type = response.status, response.content_type
    except aiohttp.ServerFingerprintMismatch as error:
        raise IntegrityError(
            f"device at {peer.url}: another certificate than the pinned one"
            f" (got sha256:{error.got.hex()}, expected {peer.fingerprint})",
            hint="somebody may be in between; compare with the fingerprint that the device itself shows",
        ) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise IntegrityError(
            f"device at {peer.url}: its certificate is not from the authority we trust"
        ) from error
    except TimeoutError as error:
        raise Unreachable(f"device at {peer.url}: no answer in {timeout_s:g} s") from error
    except aiohttp.ClientConnectorError as error:
        # Its own text says host and port once more, and how TLS was set.
        cause = error.os_error
        why = cause.strerror or str(cause)
        if isinstance(cause, ConnectionError) and cause.errno is not None:
            why = os.strerror(cause.errno)
        raise Unreachable(f"device at {peer.url}: {' '.join(why.split()).lower()}") from error
    except (aiohttp.ClientError, OSError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(f"device at {peer.url}: {why}") from error
    if status in _OK:
        return Response(status, content_type, content)
    raise _error(peer, status, content)


async def _bounded(stream: aiohttp.StreamReader, peer: Peer) -> bytes:
    content = bytearray()
    async for piece in stream.iter_any():
        content += piece
        if len(content) > MAX_RESPONSE_BYTES:
            raise MalformedInput(f"device at {peer.url}: answer over {MAX_RESPONSE_BYTES} bytes")
    return bytes(content)


def _error(peer: Peer, status: int, content: bytes) -> DoorwardError:
    """The error that the device reported; see `agent.console.api` for the other direction."""
    text, hint, exit_code = f"status {status}", None, DoorwardError.exit_code
    try:
        fields = strict_json.loads(content)
    except DocumentError:
        fields = None
    if isinstance(fields, dict):
        text = _shown(fields.get("error")) or text
        hint = _shown(fields.get("hint"))
        exit_code = fields.get("exit_code", exit_code)
    text = f"device at {peer.url}: {text}"
    if status in {401, 403}:
        return Refused(text, reason="device", hint=hint)
    if status in {429, 503}:
        return TransientError(text, hint=hint)
    if exit_code == IntegrityError.exit_code:
        return IntegrityError(text, hint=hint)
    return MalformedInput(text, hint=hint) if status < 500 else StorageError(text, hint=hint)  # noqa: PLR2004 - HTTP


def _shown(value: object) -> str | None:
    """Text from the other side, fit for a terminal: one line, printable, bounded."""
    if not isinstance(value, str):
        return None
    return "".join(character if character.isprintable() else " " for character in value[:500])


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"address {url[:200]!r}: {error}") from error
    plain = parts.scheme in {"http", "https"} and parts.hostname and port != 0
    if (
        not plain
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
        or parts.username is not None
    ):
        raise ConfigError(f"address: got {url[:200]!r}, expected https://host:port")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
