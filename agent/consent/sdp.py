"""What an offer's SDP may say: exactly one video section, receive only, and nothing else.

This is not a parser of SDP (RFC 8866); it refuses whatever could make the peer connection receive media or
data, so that nothing from outside ever reaches a decoder of ours. The bytes that were signed are the bytes
that are applied.
"""

from __future__ import annotations

from typing import Final

from agent.errors import DocumentError

MAX_CHARS: Final = 7680
"""The answer carries the offer once more, inside the ledger's receipt, and must fit an envelope. Chromium's
offers of one video are 5 to 6 thousand characters long."""

_DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})
_SHOWN: Final = 60


def check_offer(sdp: str) -> None:
    """Refuse anything but one recvonly video section.

    Raises:
        DocumentError: Another section, another direction, or no SDP.
    """
    if len(sdp) > MAX_CHARS or not sdp.startswith("v=0"):
        raise DocumentError("offer.sdp: not a session description")
    if not all(character.isprintable() or character in "\r\n" for character in sdp):
        # Readers disagree on which of these end a line, and so on what the lines are.
        raise DocumentError("offer.sdp: control characters (expected lines of text)")
    lines = sdp.splitlines()
    media = [number for number, line in enumerate(lines) if line.startswith("m=")]
    if len(media) != 1 or not lines[media[0]].startswith("m=video "):
        kinds = ", ".join(lines[number][2:].split(" ")[0] for number in media) or "nothing"
        raise DocumentError(f"offer.sdp: sections (got {kinds[:_SHOWN]}, expected exactly one video)")
    # A direction is what the reader who applies the bytes takes for one: aiortc cuts "a=sendrecv:x" at the
    # colon. One that stands before the section is the session's, which readers may or may not inherit.
    directions = [(number, line) for number, line in enumerate(lines) if _attribute(line) in _DIRECTIONS]
    if [line for _, line in directions] != ["a=recvonly"] or directions[0][0] < media[0]:
        found = ", ".join(line for _, line in directions) or "none"
        raise DocumentError(
            f"offer.sdp: direction (got {found[:_SHOWN]}, expected one a=recvonly in the video section)"
        )


def _attribute(line: str) -> str:
    """The name of an attribute, as loosely as any reader might take it; empty for other lines."""
    return line[2:].split(":", 1)[0].strip().lower() if line.startswith("a=") else ""
