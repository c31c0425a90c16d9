"""Segments: what opens, and every way in which one must not."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import sealing
from agent.archive import framing
from agent.archive.segment import (
    OpenedSegment,
    Provenance,
    Recipient,
    SegmentSealer,
    open_segment,
    read_clear,
)
from agent.errors import SealedMessageError, SegmentError, SegmentSpliced, SegmentTruncated
from tests.archive.recording import (
    DAILY,
    DEVICE,
    DEVICE_KEY,
    OWNERS,
    RECOVERY,
    SECOND,
    STRANGER,
    recipient,
    sealed,
)

CONTENTS = [b"one" * 20, b"two" * 30, b"two" * 30, b"four"]
PARTS = sealed(CONTENTS)
SEGMENT = b"".join(PARTS)
OTHER = sealed(CONTENTS)
RECORDS = range(1, len(PARTS) - 1)


def opened(data: bytes, *, allow_unsigned: bool = False) -> OpenedSegment:
    return open_segment(data, archive_keys=[DAILY], device_key=DEVICE_KEY, allow_unsigned=allow_unsigned)


def unwrapped(data: bytes) -> bytes:
    """The segment key, as an owner's archive key opens it."""
    clear = read_clear(data)
    wrap = next(each for each in clear.wraps if each.recipient == recipient(DAILY).key_id)
    return sealing.open_(
        sealing.SealKind.SEGMENT_KEY,
        sender=clear.header.device,
        recipient=wrap.recipient,
        topic=f"{clear.header.segment_id.hex()}/{clear.header_hash.hex()}",
        private=DAILY,
        sealed=wrap.sealed,
    )


def rechecked(record: bytes) -> bytes:
    """The record with checksums that fit what stands there now."""
    body = record[framing.RECORD_HEADER_BYTES :]
    return framing.encode_record(record[: framing.AUTHENTICATED_BYTES], body)


def test_every_recipient_opens_and_gets_the_same() -> None:
    for key in (DAILY, RECOVERY):
        segment = open_segment(
            SEGMENT, archive_keys=[STRANGER, key], device_key=DEVICE_KEY, allow_unsigned=False
        )
        assert [each.data for each in segment.fragments] == CONTENTS
        assert segment.init == b"init"
        assert segment.provenance is Provenance.SIGNED


def test_wrong_key_opens_nothing_and_says_so() -> None:
    with pytest.raises(SealedMessageError, match="none of them yours"):
        open_segment(SEGMENT, archive_keys=[STRANGER], device_key=DEVICE_KEY, allow_unsigned=True)


def test_no_key_opens_nothing() -> None:
    with pytest.raises(SealedMessageError):
        open_segment(SEGMENT, archive_keys=[], device_key=DEVICE_KEY, allow_unsigned=True)


@given(st.integers(0, len(SEGMENT) - 1))
def test_any_cut_is_a_truncation_and_never_something_else(length: int) -> None:
    with pytest.raises(SegmentTruncated):
        opened(SEGMENT[:length])


@given(st.integers(0, len(SEGMENT) - 1))
def test_any_cut_read_leniently_yields_only_whole_fragments_labelled_unsigned(length: int) -> None:
    try:
        segment = opened(SEGMENT[:length], allow_unsigned=True)
    except SegmentTruncated:
        return
    assert segment.provenance is Provenance.UNSIGNED
    assert segment.reason
    assert [each.data for each in segment.fragments] == CONTENTS[: len(segment.fragments)]


@given(st.integers(0, len(SEGMENT) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_refused(at: int, bit: int) -> None:
    changed = bytearray(SEGMENT)
    changed[at] ^= 1 << bit
    with pytest.raises(SegmentError):
        opened(bytes(changed), allow_unsigned=True)


@given(st.sampled_from(RECORDS), st.data())
def test_any_flipped_bit_with_checksums_made_to_fit_is_refused(number: int, data: st.DataObject) -> None:
    record = bytearray(PARTS[number])
    at = data.draw(st.integers(0, len(record) - 1))
    if framing.AUTHENTICATED_BYTES <= at < framing.RECORD_HEADER_BYTES:
        at = 0  # the checksums themselves
    record[at] ^= 1 << data.draw(st.integers(0, 7))
    parts = [*PARTS]
    parts[number] = rechecked(bytes(record))
    with pytest.raises(SegmentError):
        opened(b"".join(parts[:-1]), allow_unsigned=True)


@given(st.sampled_from(RECORDS), st.sampled_from(RECORDS))
def test_two_records_swapped_are_spliced(one: int, two: int) -> None:
    parts = [*PARTS]
    parts[one], parts[two] = parts[two], parts[one]
    if one == two:
        assert opened(b"".join(parts)).provenance is Provenance.SIGNED
    else:
        with pytest.raises(SegmentSpliced):
            opened(b"".join(parts), allow_unsigned=True)


@given(st.sampled_from(RECORDS))
def test_record_of_another_segment_is_spliced(number: int) -> None:
    parts = [*PARTS]
    parts[number] = OTHER[number]
    with pytest.raises(SegmentSpliced, match="another segment"):
        opened(b"".join(parts), allow_unsigned=True)


@given(st.sampled_from(RECORDS))
def test_record_of_another_segment_made_to_look_like_ours_is_refused(number: int) -> None:
    prefix = slice(4, 12)
    forged = bytearray(OTHER[number])
    forged[prefix] = PARTS[number][prefix]
    parts = [*PARTS]
    parts[number] = rechecked(bytes(forged))
    with pytest.raises(SegmentError):
        opened(b"".join(parts[:-1]), allow_unsigned=True)


def test_swapped_records_renumbered_to_fit_are_refused() -> None:
    one, two = bytearray(PARTS[3]), bytearray(PARTS[4])
    one[12:16], two[12:16] = two[12:16], one[12:16]
    parts = [*PARTS[:3], rechecked(bytes(two)), rechecked(bytes(one)), *PARTS[5:-1]]
    with pytest.raises(SegmentError, match="does not authenticate"):
        opened(b"".join(parts), allow_unsigned=True)


@pytest.mark.parametrize("number", list(RECORDS)[:-1])
def test_record_removed_from_the_middle_is_spliced(number: int) -> None:
    with pytest.raises(SegmentSpliced, match="out of order"):
        opened(b"".join(PARTS[:number] + PARTS[number + 1 :]), allow_unsigned=True)


def test_last_record_removed_under_the_footer_is_a_truncation() -> None:
    with pytest.raises(SegmentTruncated, match="records are missing"):
        opened(b"".join(PARTS[:-2] + PARTS[-1:]), allow_unsigned=True)


def test_record_marked_last_by_a_forger_is_refused() -> None:
    record = bytearray(PARTS[-3])
    record[16:20] = struct.pack(">I", framing.FLAG_LAST)
    with pytest.raises(SegmentError, match="does not authenticate"):
        opened(b"".join([*PARTS[:-3], rechecked(bytes(record))]), allow_unsigned=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (slice(0, 4), b"ABCD"),
        (slice(12, 16), struct.pack(">I", framing.MAX_RECORDS)),
        (slice(16, 20), struct.pack(">I", 4)),
        (slice(16, 20), struct.pack(">I", framing.FLAG_INIT)),
        (slice(32, 36), bytes(4)),
        (slice(32, 36), struct.pack(">I", framing.MAX_CIPHERTEXT_BYTES + 1)),
    ],
)
def test_record_field_out_of_its_bounds_is_refused(field: slice, value: bytes) -> None:
    record = bytearray(PARTS[2])
    record[field] = value
    with pytest.raises(SegmentError):
        opened(b"".join([*PARTS[:2], rechecked(bytes(record)), *PARTS[3:]]), allow_unsigned=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"records":[[', b'"records":[3,['),
        (b'"records":[["', b'"records":[["zz'),
        (b'"version":0', b'"version":1'),
        (b'"wraps":"', b'"wraps":"00'),
    ],
)
def test_footer_field_out_of_its_bounds_is_refused(old: bytes, new: bytes) -> None:
    clear = read_clear(SEGMENT)
    assert clear.footer is not None
    payload = clear.footer.payload.replace(old, new, 1)
    footer = framing.encode_footer(
        clear.header.segment_id, payload, DEVICE.sign(b"doorward/v0/segment-footer\0" + payload)
    )
    with pytest.raises(SegmentError, match="footer"):
        opened(b"".join([*PARTS[:-1], footer]), allow_unsigned=True)


def test_footer_stripped_is_refused_or_labelled() -> None:
    with pytest.raises(SegmentTruncated, match="footer"):
        opened(b"".join(PARTS[:-1]))
    assert opened(b"".join(PARTS[:-1]), allow_unsigned=True).provenance is Provenance.UNSIGNED


def test_footer_of_another_segment_is_spliced() -> None:
    with pytest.raises(SegmentSpliced):
        opened(b"".join([*PARTS[:-1], OTHER[-1]]), allow_unsigned=True)


def test_bytes_after_the_footer_are_refused() -> None:
    with pytest.raises(SegmentError, match="after its footer"):
        opened(SEGMENT + b"\0")
    with pytest.raises(SegmentError, match="after its footer"):
        opened(SEGMENT + PARTS[-1])


def test_footer_signed_by_another_key_is_refused() -> None:
    forger = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
    clear = read_clear(SEGMENT)
    assert clear.footer is not None
    footer = framing.encode_footer(
        clear.header.segment_id, clear.footer.payload, forger.sign(clear.footer.payload)
    )
    with pytest.raises(SegmentError, match="not signed by the device"):
        opened(b"".join([*PARTS[:-1], footer]), allow_unsigned=True)


def test_segment_of_another_device_is_refused() -> None:
    forger = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
    with pytest.raises(SegmentError, match="another device"):
        opened(b"".join(sealed(CONTENTS, device=forger)), allow_unsigned=True)


def test_wrap_exchanged_with_checksum_made_to_fit_is_refused() -> None:
    clear = read_clear(SEGMENT)
    length = struct.unpack_from(">I", SEGMENT, len(framing.MAGIC))[0]
    header = SEGMENT[12 : 12 + length]
    preface, _ = framing.encode_preface(header, read_clear(b"".join(OTHER)).wraps)
    with pytest.raises(SegmentError, match="header is not the one"):
        opened(preface + b"".join(PARTS[1:]))
    with pytest.raises(SealedMessageError):  # without a footer the wrap itself is bound to its segment
        opened(preface + b"".join(PARTS[1:-1]), allow_unsigned=True)
    assert clear.header.sequence == 7


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"version":0,"version":0}',
        b'{"alg":"none"}',
        "{}".encode("utf-16"),
        b"[" * 100,
    ],
)
def test_header_that_is_not_strict_is_refused(header: bytes) -> None:
    preface, _ = framing.encode_preface(header, read_clear(SEGMENT).wraps)
    with pytest.raises(SegmentError):
        opened(preface + b"".join(PARTS[1:]), allow_unsigned=True)


def test_header_with_an_unknown_field_is_refused() -> None:
    header = read_clear(SEGMENT).header.encode()[:-1] + b',"more":1}'
    preface, _ = framing.encode_preface(header, read_clear(SEGMENT).wraps)
    with pytest.raises(SegmentError, match="unknown field 'more'"):
        opened(preface + b"".join(PARTS[1:]), allow_unsigned=True)


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_our_own_errors(data: bytes) -> None:
    for start in (b"", framing.MAGIC, PARTS[0]):
        with pytest.raises(SegmentError):
            opened(start + data)


@given(st.binary(max_size=200))
def test_random_footers_raise_nothing_but_our_own_errors(payload: bytes) -> None:
    footer = framing.encode_footer(read_clear(SEGMENT).header.segment_id, payload, bytes(64))
    with pytest.raises(SegmentError):
        opened(b"".join([*PARTS[:-1], footer]), allow_unsigned=True)


def test_clear_walk_stops_where_the_damage_begins() -> None:
    damaged = bytearray(SEGMENT)
    border = len(b"".join(PARTS[:4]))
    damaged[border + 60] ^= 1
    clear = read_clear(bytes(damaged))
    assert clear.good_bytes == border
    assert len(clear.records) == 3
    assert isinstance(clear.problem, SegmentError)


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20))
def test_whatever_is_sealed_opens_as_it_was(contents: list[bytes]) -> None:
    assert [each.data for each in opened(b"".join(sealed(contents))).fragments] == contents


def test_equal_contents_leave_no_equal_bytes_or_hashes() -> None:
    records = read_clear(SEGMENT).records
    assert records[2].ciphertext != records[3].ciphertext
    footer = read_clear(SEGMENT).footer
    assert footer is not None
    assert len({plain for plain, _ in footer.records}) == len(footer.records)


def test_no_record_key_is_used_twice() -> None:
    ciphertexts = [
        each.ciphertext for _ in range(3) for each in read_clear(b"".join(sealed([b"x" * 64] * 9))).records
    ]
    assert all(one[:32] != two[:32] for one, two in pairwise(sorted(ciphertexts)))


def test_key_is_zero_after_close_and_nothing_more_is_sealed() -> None:
    sealer = SegmentSealer(read_clear(SEGMENT).header, OWNERS)
    sealer.seal_init(b"init")
    sealer.seal_fragment(b"x", offset_ns=0, duration_ns=1, is_last=True)
    assert any(sealer._key)
    sealer.close(lambda _: bytes(64))
    assert not any(sealer._key)
    with pytest.raises(RuntimeError):
        sealer.seal_fragment(b"y", offset_ns=0, duration_ns=1, is_last=False)


def test_unusable_recipient_is_refused_and_leaves_no_key() -> None:
    with pytest.raises(SealedMessageError):
        SegmentSealer(read_clear(SEGMENT).header, [recipient(DAILY), Recipient(bytes(32))])


def test_same_recipient_twice_is_wrapped_once() -> None:
    parts = sealed(CONTENTS, recipients=[recipient(DAILY), recipient(DAILY)])
    assert len(read_clear(b"".join(parts)).wraps) == 1


def test_all_zero_record_header_does_not_pass_its_checksum() -> None:
    clear = read_clear(b"".join(PARTS[:2]) + bytes(4096))
    assert isinstance(clear.problem, SegmentError)
    assert zlib.crc32(b"") == 0  # why a length of zero is refused, too


def test_owner_who_exchanges_a_picture_cannot_keep_the_devices_signature() -> None:
    forger = SegmentSealer(read_clear(SEGMENT).header, OWNERS)
    forger._key[:] = unwrapped(SEGMENT)
    forged = [forger.seal_init(b"init")]
    for number, content in enumerate([CONTENTS[0], b"TWO" * 30, *CONTENTS[2:]]):
        forged.append(
            forger.seal_fragment(
                content,
                offset_ns=number * SECOND,
                duration_ns=SECOND,
                is_last=number == len(CONTENTS) - 1,
            )
        )
    lenient = opened(PARTS[0] + b"".join(forged), allow_unsigned=True)
    assert lenient.provenance is Provenance.UNSIGNED
    assert lenient.fragments[1].data == b"TWO" * 30
    with pytest.raises(SegmentError, match="record 2: not the one the device signed"):
        opened(PARTS[0] + b"".join(forged) + PARTS[-1], allow_unsigned=True)


def test_signature_over_another_content_than_was_encrypted_is_refused() -> None:
    sealer = SegmentSealer(read_clear(SEGMENT).header, OWNERS)
    parts = [sealer.preface, sealer.seal_init(b"init")]
    parts.append(sealer.seal_fragment(b"x", offset_ns=0, duration_ns=1000, is_last=True))
    sealer._hashes[1] = (bytes(32), sealer._hashes[1][1])
    footer, _ = sealer.close(DEVICE.sign)
    with pytest.raises(SegmentError, match="content is not what the device signed"):
        opened(b"".join([*parts, footer]))
