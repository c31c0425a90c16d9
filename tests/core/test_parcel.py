"""What travels over a link: opens for whom it was made, tells little by its size, and is nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import sealing
from agent.errors import SealedMessageError
from agent.parcel import MAX_BYTES, PAD_BYTES, Parcel, seal_documents
from agent.sealing import SealKind
from tests.support.household import public, x

KEY = x("reader")


def parcel(*documents: bytes) -> bytes:
    return seal_documents(
        SealKind.REPLY, documents, sender="a", recipient="b", topic="t:1", public=public(KEY)
    )


def opened(data: bytes, *, sender: str = "a", recipient: str = "b", who: str = "reader") -> tuple[bytes, ...]:
    return Parcel.parse(data).open(sender=sender, recipient=recipient, private=x(who))


def sealed_raw(plaintext: bytes) -> bytes:
    sealed = sealing.seal(
        SealKind.REPLY, sender="a", recipient="b", topic="t", public=public(KEY), plaintext=plaintext
    )
    return Parcel(SealKind.REPLY, "t", sealed).encode()


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=4))
def test_documents_sealed_are_opened_equal(documents: list[bytes]) -> None:
    assert opened(parcel(*documents)) == tuple(documents)


def test_only_reader_sender_and_kind_it_was_made_for_open_it() -> None:
    data = parcel(b"x")
    with pytest.raises(SealedMessageError):
        opened(data, who="somebody else")
    with pytest.raises(SealedMessageError):
        opened(data, sender="c")
    with pytest.raises(SealedMessageError):
        opened(data, recipient="c")
    for lie in (data.replace(b"\nreply\n", b"\nto-device\n"), data.replace(b"\nt:1\n", b"\nt:2\n")):
        with pytest.raises(SealedMessageError):
            opened(lie)


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(at: int, bit: int) -> None:
    data = bytearray(parcel(b"document"))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(SealedMessageError) as found:
        opened(bytes(data))
    assert str(found.value).isprintable()


@given(st.integers(0, 10**6))
def test_cut_parcel_is_refused(cut: int) -> None:
    data = parcel(b"document")
    with pytest.raises(SealedMessageError):
        opened(data[: cut % len(data)])


def test_sizes_within_one_page_look_alike() -> None:
    assert len({len(parcel(b"x" * size)) for size in range(1, 3000, 100)}) == 1
    assert len(parcel(b"x" * 4000)) - len(parcel(b"x")) == PAD_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"doorward/v1\nreply\nt\nx",
        b"doorward/v0\nunknown\nt\n" + b"x" * 60,
        b"doorward/v0\nREPLY\nt\n",
        b"doorward/v0\nreply\n\n",
        b"doorward/v0\nreply\n" + b"t" * 81 + b"\n",
        b"doorward/v0\nreply\nt\n" + b"x" * 47,
        b"x" * (MAX_BYTES + 1),
    ],
)
def test_what_is_no_parcel_is_refused(data: bytes) -> None:
    with pytest.raises(SealedMessageError):
        opened(data)


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\x00\x00\x00",
        b"\x00\x00\x00\x09{}",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x02{}x",
        b"\x00\x00\x00\x02{}\x00\x01",
        b'\x00\x00\x00\x10{"documents":[]}' + b"\x00" * 9 + b"x",
        b'\x00\x00\x00\x11{"documents":[1]}',
        b'\x00\x00\x00\x16{"documents":[],"x":1}',
        b'\x00\x00\x00\x2d{"documents":["AA==","AA==","AA==","AA==","AA=="]}',
        b"\xff\xff\xff\xff",
    ],
)
def test_what_is_sealed_but_no_list_of_documents_is_refused(plaintext: bytes) -> None:
    with pytest.raises(SealedMessageError):
        opened(sealed_raw(plaintext))


def test_nothing_is_sealed_to_a_key_that_everybody_knows() -> None:
    for key in (bytes(32), b"\x01" + bytes(31), b"x"):
        with pytest.raises(SealedMessageError, match="unusable"):
            seal_documents(SealKind.REPLY, [b"x"], sender="a", recipient="b", topic="t", public=key)
