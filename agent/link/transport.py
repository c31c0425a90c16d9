"""The port: what a link is to those on either end of it.

On the device, net hands every incoming sealed message to core through `Submit`. On the agency's side a
`Transport` reaches devices by name. Names are 32 lower-case hex digits of a key id; messages are opaque and
at most `MAX_SEALED_BYTES` long. A link may lose a message, and may deliver late; it never changes one, never
delivers one twice within a connection and never reorders those of one sender. Nothing here authenticates
anybody: that is what the sealed and signed content is for.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, Self

from agent.errors import MalformedInput

if TYPE_CHECKING:
    from types import TracebackType

MAX_SEALED_BYTES: Final = 256 * 1024
_NAME: Final = re.compile(r"[0-9a-f]{32}")

Submit = Callable[[str, bytes], Awaitable[bytes | None]]
"""``await submit(agency, sealed)``: core's immediate sealed reply, or None when there is nothing to say.

Raises `TransientError` while core is away, and any other `DoorwardError` if core will not have the message.
"""


class Transport(Protocol):
    """The agency's side of a link: one connection, many devices. Use it with ``async with``."""

    async def __aenter__(self) -> Self:
        """Start connecting; does not wait for the other end."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; iterators over `messages` end."""

    async def send(self, device: str, sealed: bytes) -> None:
        """Hand one sealed message over for ``device``; returns when the next hop has taken it.

        Raises:
            Unreachable: The next hop did not take it in time.
            Refused: The next hop will not take it from us.
            MalformedInput: Not a device name, or too large.
            IntegrityError: The other end is not the one we pinned.
        """

    def messages(self, device: str) -> AsyncIterator[bytes]:
        """Replies and later news from ``device``, in order; one reader per device at a time.

        Raises:
            IntegrityError: The other end is not the one we pinned.
        """


def is_name(name: str) -> bool:
    """Whether ``name`` is 32 lower-case hex digits."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return ``name`` if it is 32 lower-case hex digits.

    Raises:
        MalformedInput: It is not.
    """
    if not is_name(name):
        raise MalformedInput(f"link name: got {name[:80]!r}, expected 32 lower-case hex digits")
    return name


def check_sealed(sealed: bytes) -> bytes:
    """Return ``sealed`` if its size may travel.

    Raises:
        MalformedInput: Empty, or larger than `MAX_SEALED_BYTES`.
    """
    if not 0 < len(sealed) <= MAX_SEALED_BYTES:
        raise MalformedInput(
            f"sealed message: size (got {len(sealed)} bytes, expected 1 to {MAX_SEALED_BYTES})"
        )
    return sealed
