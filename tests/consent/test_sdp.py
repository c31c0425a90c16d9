"""What an offer's SDP may ask: one video to receive. Whatever else a reader could find in it is refused."""

from __future__ import annotations

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from agent.consent import sdp
from agent.errors import DocumentError
from tests.support.household import SDP


def with_line(line: str) -> str:
    return SDP + line + "\r\n"


def test_one_video_to_receive_is_accepted() -> None:
    sdp.check_offer(SDP)
    sdp.check_offer(SDP.replace("\r\n", "\n"))


@pytest.mark.parametrize(
    "direction", ["a=sendrecv", "a=sendonly", "a=inactive", "", "a=recvonly\r\na=recvonly"]
)
def test_any_other_direction_is_refused(direction: str) -> None:
    with pytest.raises(DocumentError, match="direction"):
        sdp.check_offer(SDP.replace("a=recvonly", direction))


@pytest.mark.parametrize(
    "extra", ["sendrecv", "sendrecv:x", "sendrecv ", "SendRecv", "sendonly:", "inactive: y"]
)
def test_second_direction_that_a_reader_might_take_instead_is_refused(extra: str) -> None:
    with pytest.raises(DocumentError, match="direction"):
        sdp.check_offer(with_line(f"a={extra}"))


def test_direction_of_the_session_instead_of_the_section_is_refused() -> None:
    above = SDP.replace("a=recvonly\r\n", "").replace("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n")
    with pytest.raises(DocumentError, match="direction"):
        sdp.check_offer(above)


@pytest.mark.parametrize(
    "section",
    [
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "m=text 9 X 0",
        "m=",
    ],
)
def test_second_section_is_refused(section: str) -> None:
    with pytest.raises(DocumentError, match="sections"):
        sdp.check_offer(with_line(section))


@pytest.mark.parametrize("kind", ["audio", "application", "videos", "VIDEO", ""])
def test_section_that_is_no_video_is_refused(kind: str) -> None:
    with pytest.raises(DocumentError, match="sections"):
        sdp.check_offer(SDP.replace("m=video", f"m={kind}"))


@pytest.mark.parametrize("text", ["", "v=1", "v=0", "hello", "a=recvonly", SDP + "x" * sdp.MAX_CHARS])
def test_what_is_no_session_description_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        sdp.check_offer(text)


@pytest.mark.parametrize("break_", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00", "\x1b"])
def test_characters_on_which_readers_disagree_are_refused(break_: str) -> None:
    with pytest.raises(DocumentError, match="control characters"):
        sdp.check_offer(with_line(f"a=x{break_}a=sendrecv"))


LINES = st.sampled_from(
    [
        "m=video 9 A/B 96",
        "m=audio 9 A/B 0",
        "a=recvonly",
        "a=sendrecv",
        "a=sendrecv:x",
        "a=sendonly:",
        "a=mid:1",
        "a=inactive",
        " a=sendrecv",
        "a= sendrecv",
        "a=recvonly:x",
        "a=recvonly ",
    ]
)
ENDS = st.sampled_from(["\r\n", "\n", "\r", "\n\n", "\x0b", "\u2028"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=6))
def test_what_is_accepted_is_one_recvonly_video_to_aiortc_too(parts: list[tuple[str, str]]) -> None:
    text = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" + "".join(line + end for line, end in parts)
    try:
        sdp.check_offer(text)
    except DocumentError:
        return
    (media,) = SessionDescription.parse(text).media
    assert (media.kind, media.direction) == ("video", "recvonly")
