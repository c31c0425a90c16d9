"""A device's remote door for the command line: the operations of the local door over pinned HTTPS.

It offers what `agent.console.api` routes, by the operation names, arguments and results of the local door.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import ssl
import struct
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agent.consent import strict_json
from agent.errors import ConfigError, MalformedInput, Unreachable
from agent.link.https import MAX_RESPONSE_BYTES, Peer, exchange

if TYPE_CHECKING:
    from pathlib import Path

    from agent.link.https import Response

_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
_OPERATION: Final = re.compile(r"[a-z-]{1,32}")
_LENGTH: Final = struct.Struct(">I")
_POSTS: Final = {"challenge": _JSON, "pair": _OCTETS, "act": _JSON, "read": _JSON, "session": _JSON}

_LISTENS: Final = "is the device on, and does it listen at that address (http: listen in its configuration)?"


class RemoteDoor:
    """One device at ``url``, known by its certificate's fingerprint or its own authority file."""

    def __init__(
        self, url: str, *, fingerprint: str | None = None, ca: Path | None = None, timeout_s: float = 30.0
    ) -> None:
        self._peer = Peer(url, fingerprint, ca)
        self._timeout_s = timeout_s

    async def call(
        self, operation: str, args: dict[str, object] | None = None, blob: bytes = b""
    ) -> tuple[dict[str, object], bytes]:
        """Run one operation: its result and its bytes.

        ``args`` go with ``challenge`` (as its body) and with reading operations, whose ``handle`` among them
        is the way in; ``blob`` is the body of ``pair``, ``act``, ``read`` and ``session``.

        Raises:
            Unreachable: Nobody answers.
            IntegrityError: Somebody else answers than the device we pinned, or its storage is damaged.
            Refused, TransientError, MalformedInput, StorageError: As the device says.
            MalformedInput: Not an operation of the remote door, or an answer that makes no sense.
        """
        args = args or {}
        headers: dict[str, str] = {}
        body: bytes | None = None
        path = f"/v0/{operation}"
        if operation == "status":
            headers["Authorization"] = f"Bearer {_handle(args)}"
        elif operation in _POSTS:
            body = strict_json.dumps(args) if operation == "challenge" else blob
            headers["Content-Type"] = _POSTS[operation]
        elif operation != "device":
            if not _OPERATION.fullmatch(operation):
                raise MalformedInput(f"operation: got {operation[:40]!r}, expected a name")
            path = f"/v0/operations/{operation}"
            headers["Authorization"] = f"Bearer {_handle(args)}"
            headers["Content-Type"] = _JSON
            body = strict_json.dumps({name: value for name, value in args.items() if name != "handle"})
        async with self._peer.session() as session:
            response = await exchange(
                session,
                self._peer,
                "GET" if body is None else "POST",
                path,
                body=body,
                headers=headers,
                timeout_s=self._timeout_s,
            )
        return _result(response)

    def call_blocking(
        self, operation: str, args: dict[str, object] | None = None, blob: bytes = b""
    ) -> tuple[dict[str, object], bytes]:
        """As `call`, for a program without an event loop."""
        return asyncio.run(self.call(operation, args, blob))


def _handle(args: dict[str, object]) -> str:
    handle = args.get("handle")
    if not isinstance(handle, str) or not handle.isascii() or not handle.isprintable() or " " in handle:
        raise MalformedInput("handle: expected the text that a signed read gave")
    return handle


def _result(response: Response) -> tuple[dict[str, object], bytes]:
    """JSON alone, or a length, JSON and bytes (`agent.console.api` writes it)."""
    header, blob = response.body, b""
    if response.content_type != _JSON:
        if len(response.body) < _LENGTH.size:
            raise MalformedInput("device: answer without a result")
        (length,) = _LENGTH.unpack_from(response.body)
        header, blob = response.body[_LENGTH.size :][:length], response.body[_LENGTH.size + length :]
    result = strict_json.loads(header, limit=MAX_RESPONSE_BYTES)
    if not isinstance(result, dict):
        raise MalformedInput("device: answer is no object")
    return result, blob


def _why(error: OSError) -> str:
    """The system's words: asyncio's own say 'Connect call failed' and a tuple."""
    if error.errno and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return error.strerror or str(error)


async def certificate_fingerprint(url: str, *, timeout_s: float = 10.0) -> str:
    """What a device at ``url`` shows, trusted by nobody yet: ``sha256:`` and 64 hex digits.

    For first contact only: pin it, fetch the description (operation ``device``), verify the device's
    signature, and compare the fingerprint that stands in it with this one.

    Raises:
        ConfigError: Not an https address.
        Unreachable: Nobody answers, or not with TLS.
    """
    Peer(url, fingerprint="sha256:" + 64 * "0")  # The address alone is checked; nothing is pinned yet.
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise ConfigError(f"address {url}: no certificate without https")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    except TimeoutError as error:
        raise Unreachable(f"device at {url}: no answer in {timeout_s:g} s", hint=_LISTENS) from error
    except OSError as error:
        raise Unreachable(f"device at {url}: {_why(error)}", hint=_LISTENS) from error
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) or b""
    writer.close()
    with contextlib.suppress(OSError):  # It hung up first; we have what we came for.
        await writer.wait_closed()
    return f"sha256:{hashlib.sha256(der).hexdigest()}"
