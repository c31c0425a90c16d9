"""Fresh challenges: what makes an owner's act or read new, and anchors time.

A challenge is good once and for two minutes. It is the moment of its issue (8 bytes, nanoseconds of
CLOCK_BOOTTIME) and 8 bytes of its HMAC under a key that lives in memory alone. So a restart makes every act
signed before it worthless, and nothing is kept for a challenge until it comes back under an owner's
signature: whoever asks for millions pushes nobody's out. Eight bytes are enough, since a guess costs an
owner's signature and a round trip, and would win nothing but a wrong moment of issue.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from agent.consent.acts import CHALLENGE_BYTES
from agent.consent.times import SECOND_NS
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME_NS: Final = 120 * SECOND_NS
_MOMENT_BYTES: Final = 8


class Challenges:
    """Issues challenges and takes each back once."""

    def __init__(self, boot_ns: Callable[[], int]) -> None:
        self._boot_ns = boot_ns
        self._key = secrets.token_bytes(32)
        self._last_ns = -1
        self._used: dict[bytes, int] = {}

    def issue(self) -> bytes:
        """A new challenge, unlike any other of this start."""
        self._last_ns = max(self._last_ns + 1, self._boot_ns())
        return self._challenge(self._last_ns)

    def _challenge(self, issued_ns: int) -> bytes:
        moment = issued_ns.to_bytes(_MOMENT_BYTES, "big")
        return moment + hmac.digest(self._key, moment, "sha256")[: CHALLENGE_BYTES - _MOMENT_BYTES]

    def redeem(self, challenge: bytes) -> int:
        """Use a challenge up; the moment it was issued, in nanoseconds of CLOCK_BOOTTIME.

        Raises:
            Refused: Unknown, used or too old.
        """
        now = self._boot_ns()
        oldest = now - LIFETIME_NS
        self._used = {used: at for used, at in self._used.items() if at >= oldest}
        issued = int.from_bytes(challenge[:_MOMENT_BYTES], "big")
        ours = hmac.compare_digest(challenge, self._challenge(issued))
        if not ours or issued < oldest or challenge in self._used:
            raise Refused(
                "the challenge is unknown, used or older than two minutes",
                reason="stale-challenge",
                hint="ask the device again and sign anew; the doorward command does so by itself",
            )
        self._used[challenge] = issued
        return min(issued, now)  # two of one nanosecond are numbered on, never into the future
