"""The permit: a running authority to show frames.

Only `agent.gate` makes one (a test reads the source for it), and only after the ledger holds the disclosure.
Whatever shows a frame takes a `Permit` in its signature, so it cannot be forgotten. A permit dies with its
end, or when the gate says so; holding the object proves nothing later, so encoders and the seam ask `Live`
for every single picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.consent.view import View


class Audience(StrEnum):
    """Who looks; the indicator shows a different pattern for each."""

    AGENCY = "agency"
    OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Permit:
    """Authority to show ``view`` of ``camera`` until ``ends_boot_ns`` (CLOCK_BOOTTIME).

    ``number`` is unique for the life of the device: it is the ledger index of the session's start.
    ``caption`` is burnt into the picture: agency, reference and session id, without the time, which the
    media side adds to each picture.
    """

    number: int
    session: str
    camera: str
    view: View
    caption: str
    audience: Audience
    ends_boot_ns: int


class Live(Protocol):
    """Says whether a permit is still alive. Cheap, from any thread, asked for every picture."""

    def __call__(self, number: int) -> bool:
        """Whether permit ``number`` may show a frame at this moment."""
