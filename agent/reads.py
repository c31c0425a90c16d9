"""Handles: short-lived keys to sealed segments, and for remote readers to everything an owner may read.

A handle comes from one signed read, and stands in memory alone. It opens nothing: what it fetches is sealed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent.times import SECOND_NS
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME_NS: Final = 900 * SECOND_NS
MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Handle:
    """What one signed read allows: these sequences of one camera."""

    camera: str
    sequences: frozenset[int]
    until_boot_ns: int


class Handles:
    """The handles that are out."""

    def __init__(self, boot_ns: Callable[[], int]) -> None:
        self._boot_ns = boot_ns
        self._out: dict[str, Handle] = {}

    def give(self, camera: str, sequences: frozenset[int]) -> str:
        """A new handle; beyond `MOST` the oldest is void."""
        name = secrets.token_hex(16)
        self._out[name] = Handle(camera, sequences, self._boot_ns() + LIFETIME_NS)
        if len(self._out) > MOST:
            del self._out[next(iter(self._out))]
        return name

    def get(self, name: str | None) -> Handle:
        """The handle called ``name``.

        Raises:
            Refused: Unknown or too old.
        """
        handle = self._out.get(name or "")
        if handle is None or self._boot_ns() > handle.until_boot_ns:
            raise Refused(
                "the handle is unknown or has run out",
                reason="stale-handle",
                hint="sign another read; the doorward command does so by itself",
            )
        return handle
