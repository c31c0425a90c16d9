"""Session descriptions from outside, checked before the peer connection sees them (RFC 8866, RFC 8829).

core has verified who signed an offer and that it asks for one recvonly video; net checks that again for
itself, on the text and on what aiortc makes of it, since it is net that would receive what an offer slips in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiortc.sdp import SessionDescription

from agent.consent import sdp as consent_sdp
from agent.errors import DocumentError

if TYPE_CHECKING:
    from aiortc.sdp import MediaDescription

_MAX_CANDIDATES: Final = 32
LIBRARY_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    StopIteration,
    TypeError,
    ValueError,
)
"""What aiortc raises for text that it does not expect; its parser has no error of its own."""


def check_offer(blob: bytes) -> str:
    """The text of an offer that receives one H.264 video and nothing else, without ``.local`` candidates.

    A ``.local`` name costs a second of mDNS in vain; the peer is found by the packets that it sends.

    Raises:
        DocumentError: Anything else.
    """
    text = _text(blob, "offer")
    consent_sdp.check_offer(text)
    _one_video(text, "offer", direction="recvonly")
    return _without_local_candidates(text)


def check_answer(blob: bytes) -> str:
    """The text of an answer that sends one video and nothing else.

    Raises:
        DocumentError: Anything else.
    """
    text = _text(blob, "answer")
    _one_video(text, "answer", direction="sendonly")
    return _without_local_candidates(text)


def _text(blob: bytes, what: str) -> str:
    if len(blob) > consent_sdp.MAX_CHARS:
        raise DocumentError(
            f"{what}: too long (got {len(blob)} bytes, expected at most {consent_sdp.MAX_CHARS})"
        )
    try:
        text = blob.decode()
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: not text") from error
    if not all(character.isprintable() or character in "\r\n" for character in text):
        raise DocumentError(f"{what}: control characters")
    return text


def _one_video(text: str, what: str, *, direction: str) -> None:
    try:
        description = SessionDescription.parse(text)
    except LIBRARY_ERRORS as error:
        raise DocumentError(f"{what}: not a session description ({type(error).__name__})") from error
    if [media.kind for media in description.media] != ["video"]:
        raise DocumentError(f"{what}: sections (got {len(description.media)}, expected exactly one video)")
    (media,) = description.media
    if media.direction != direction:
        raise DocumentError(f"{what}: direction (got {media.direction}, expected {direction})")
    _check_transport(media, what)
    if not any(codec.name.upper() == "H264" for codec in media.rtp.codecs):
        raise DocumentError(f"{what}: codecs (expected H.264)")
    for group in description.group:
        if group.semantic == "BUNDLE" and group.items != [media.rtp.muxId]:
            raise DocumentError(f"{what}: bundle (expected the one video)")


def _check_transport(media: MediaDescription, what: str) -> None:
    if media.dtls is None or not media.dtls.fingerprints:
        raise DocumentError(f"{what}: no DTLS fingerprint")
    if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
        raise DocumentError(f"{what}: no ICE credentials")
    if not media.rtcp_mux:
        raise DocumentError(f"{what}: RTCP needs to be multiplexed")
    if len(media.ice_candidates) > _MAX_CANDIDATES:
        raise DocumentError(
            f"{what}: candidates (got {len(media.ice_candidates)}, expected at most {_MAX_CANDIDATES})"
        )


def _without_local_candidates(text: str) -> str:
    kept = [
        line
        for line in text.splitlines()
        if not (line.startswith("a=candidate:") and any(word.endswith(".local") for word in line.split()))
    ]
    return "\r\n".join(kept) + "\r\n"
