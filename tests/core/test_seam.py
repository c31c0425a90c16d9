"""Frames between our processes: whole or an end to the connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import seam
from agent.errors import WireError
from agent.seam import Message, MessageKind, Unit


async def read_all(data: bytes) -> list[Message]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while (message := await seam.read(reader)) is not None:
        found.append(message)
    return found


def frame(header: bytes, blob: bytes = b"", *, total: int | None = None, length: int | None = None) -> bytes:
    total = 4 + len(header) + len(blob) if total is None else total
    return struct.pack(">II", total, len(header) if length is None else length) + header + blob


texts = st.text(st.characters(codec="utf-8"))
values = st.none() | st.booleans() | st.integers(1 - 2**63, 2**63 - 1) | texts
fields = st.dictionaries(texts.filter(lambda name: name != "kind"), values, max_size=4)
messages = st.builds(Message, st.sampled_from(MessageKind), fields, st.binary(max_size=100))


@given(st.lists(messages, max_size=4))
def test_messages_written_are_read_back_in_order(sent: list[Message]) -> None:
    assert asyncio.run(read_all(b"".join(seam.encode(message) for message in sent))) == sent


@given(messages, st.integers(1, 10**6))
def test_frame_cut_anywhere_is_refused(message: Message, cut: int) -> None:
    data = seam.encode(message)
    with pytest.raises(WireError):
        asyncio.run(read_all(data[: 1 + cut % (len(data) - 1)]))


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_messages_or_a_wire_error(data: bytes) -> None:
    try:
        asyncio.run(read_all(data))
    except WireError as error:
        assert str(error).isprintable()  # noqa: PT017 - either is right


BROKEN = [
    frame(b"{}"),
    frame(b'{"kind":"nothing"}'),
    frame(b'{"kind":7}'),
    frame(b'{"kind":"close","kind":"open"}'),
    frame(b"[]"),
    frame(b"null"),
    frame(b"{"),
    frame(b'{"kind":"close","permit":1.5}'),
    frame(b'{"kind":"close","permit":9223372036854775808}'),
    frame(b"\xff"),
    frame(b'{"kind":"close"}', total=3),
    frame(b'{"kind":"close"}', length=2**31),
    frame(b'{"kind":"close"}', total=2**32 - 1),
    frame(b"x" * (seam.MAX_HEADER_BYTES + 1)),
]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_broken_frame_is_refused_by_both_readers(data: bytes) -> None:
    with pytest.raises(WireError) as found:
        asyncio.run(read_all(data))
    assert str(found.value).isprintable()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[:65_536])
        theirs.close()
        with pytest.raises(WireError):
            seam.read_blocking(ours)


def test_blocking_reader_reads_what_the_other_does_and_sees_the_end() -> None:
    ours, theirs = socket.socketpair()
    message = Message(MessageKind.REPLY, {"id": 1}, b"blob")
    with ours, theirs:
        theirs.sendall(seam.encode(message))
        theirs.close()
        assert seam.read_blocking(ours) == message
        assert seam.read_blocking(ours) is None


def test_blocking_reader_refuses_a_frame_cut_anywhere() -> None:
    data = seam.encode(Message(MessageKind.REPLY, {"id": 1}, b"blob"))
    for cut in range(1, len(data)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data[:cut])
            theirs.close()
            with pytest.raises(WireError):
                seam.read_blocking(ours)


def test_message_too_large_for_a_frame_is_not_written() -> None:
    for message in (
        Message(MessageKind.UNIT, {}, bytes(seam.MAX_FRAME_BYTES)),
        Message(MessageKind.REPLY, {"x": "x" * seam.MAX_HEADER_BYTES}),
    ):
        with pytest.raises(WireError, match="too large"):
            seam.encode(message)


def test_unit_written_is_read_back() -> None:
    unit = Unit((3, 4), key=True, pts_90k=90_000, t_boot_ns=2**62, annexb=b"\0\0\0\1")
    assert Unit.from_message(unit.to_message()) == unit
    assert unit.to((4,)).permits == (4,)


@pytest.mark.parametrize(
    "changes",
    [
        {"permits": None}, {"permits": "3"}, {"permits": [True]}, {"permits": ["3"]}, {"key": 1},
        {"pts_90k": "1"}, {"pts_90k": True}, {"t_boot_ns": None},
    ],
)  # fmt: skip
def test_unit_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    message = Unit((3,), key=True, pts_90k=1, t_boot_ns=1, annexb=b"").to_message()
    with pytest.raises(WireError):
        Unit.from_message(Message(message.kind, {**message.fields, **changes}, message.blob))


def test_text_and_integer_fields_are_what_they_say() -> None:
    message = Message(MessageKind.HELLO, {"text": "x", "number": 1, "flag": True})
    assert (message.text("text"), message.integer("number")) == ("x", 1)
    for name in ("number", "flag", "nothing"):
        with pytest.raises(WireError):
            message.text(name)
    for name in ("text", "flag", "nothing"):
        with pytest.raises(WireError):
            message.integer(name)
