"""What an offer's SDP may say: exactly one video section, receive only, and nothing else.

This is not a parser of SDP (RFC 8866); it refuses whatever could make the peer connection receive media or
data, so that nothing from outside ever reaches a decoder of ours. The bytes that were signed are the bytes
that are applied.
"""

from __future__ import annotations

from typing import Final

from agent.errors import DocumentError

MAX_CHARS: Final = 16_384
_DIRECTIONS: Final = frozenset({"a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"})


def check_offer(sdp: str) -> None:
    """Refuse anything but one recvonly video section.

    Raises:
        DocumentError: Another section, another direction, or no SDP.
    """
    if len(sdp) > MAX_CHARS or not sdp.startswith("v=0"):
        raise DocumentError("offer.sdp: not a session description")
    lines = sdp.splitlines()
    media = [line for line in lines if line.startswith("m=")]
    if len(media) != 1 or not media[0].startswith("m=video "):
        kinds = ", ".join(line[2:].split(" ")[0] for line in media) or "nothing"
        raise DocumentError(f"offer.sdp: sections (got {kinds[:60]}, expected exactly one video)")
    directions = [line for line in lines if line in _DIRECTIONS]
    if directions != ["a=recvonly"]:
        raise DocumentError(f"offer.sdp: direction (got {directions!r}, expected one a=recvonly)")
