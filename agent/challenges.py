"""Fresh challenges: what makes an owner's act or read new, and anchors time.

A challenge is 16 random bytes, good once and for two minutes. They live in memory alone, so a restart makes
every act signed before it worthless.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from agent.consent.acts import CHALLENGE_BYTES
from agent.consent.times import SECOND_NS
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME_NS: Final = 120 * SECOND_NS
MOST: Final = 256


class Challenges:
    """Issues challenges and takes each back once."""

    def __init__(self, boot_ns: Callable[[], int]) -> None:
        self._boot_ns = boot_ns
        self._issued: dict[bytes, int] = {}

    def issue(self) -> bytes:
        """A new challenge; beyond `MOST` the oldest is forgotten."""
        challenge = secrets.token_bytes(CHALLENGE_BYTES)
        self._issued[challenge] = self._boot_ns()
        if len(self._issued) > MOST:
            del self._issued[next(iter(self._issued))]
        return challenge

    def redeem(self, challenge: bytes) -> int:
        """Use a challenge up; the moment it was issued, in nanoseconds of CLOCK_BOOTTIME.

        Raises:
            Refused: Unknown, used or too old.
        """
        issued = self._issued.pop(challenge, None)
        if issued is None or self._boot_ns() - issued > LIFETIME_NS:
            raise Refused(
                "the challenge is unknown, used or older than two minutes",
                reason="stale-challenge",
                hint="ask the device again and sign anew; the doorward command does so by itself",
            )
        return issued
