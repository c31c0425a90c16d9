"""Pairing codes: how a fresh device knows that whoever founds its household stands in front of it.

A code is made at that moment, works once, for ten minutes and five tries. A wrong try costs one; after five
the code is gone.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from agent.consent.times import SECOND_NS
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME_S: Final = 600
TRIES: Final = 5
_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # nothing that looks like something else
_HALF: Final = 4


class PairingCodes:
    """At most one code at a time."""

    def __init__(self, boot_ns: Callable[[], int]) -> None:
        self._boot_ns = boot_ns
        self._code: str | None = None
        self._until_ns = 0
        self._tries = 0

    def new(self) -> str:
        """A new code; an earlier one is void."""
        halves = ("".join(secrets.choice(_ALPHABET) for _ in range(_HALF)) for _ in range(2))
        self._code = "-".join(halves)
        self._until_ns = self._boot_ns() + LIFETIME_S * SECOND_NS
        self._tries = TRIES
        return self._code

    def redeem(self, code: str) -> None:
        """Use the code up.

        Raises:
            Refused: There is none, it is too old, or this is not it.
        """
        if self._code is None or self._boot_ns() > self._until_ns:
            self._code = None
            raise Refused(
                "no pairing code is open",
                reason="no-pairing-code",
                hint="make one on the box: doorward pair --new-code",
            )
        self._tries -= 1
        right = hmac.compare_digest(code.strip().upper().encode(), self._code.encode())
        if right or not self._tries:
            self._code = None
        if not right:
            raise Refused(
                f"wrong pairing code ({self._tries} tries left)",
                reason="wrong-pairing-code",
                hint="type it as shown; for a new one: doorward pair --new-code",
            )
