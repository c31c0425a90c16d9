"""Envelopes: only the keys the caller names count, each once, for one payload type."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.consent import envelope
from agent.consent.envelope import PayloadType
from agent.errors import DocumentError, SignatureError

A, B, C = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
PAYLOAD = b'{"grant":"the front door, until ten"}'


def public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def keys(*privates: Ed25519PrivateKey) -> dict[str, bytes]:
    return {envelope.key_id(public(each)): public(each) for each in privates}


def signers(*privates: Ed25519PrivateKey) -> frozenset[str]:
    return frozenset(keys(*privates))


SIGNED = envelope.sign(PayloadType.TOKEN, PAYLOAD, [A])


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(SIGNED) | fields).encode()


def test_signers_are_the_supplied_keys_that_signed_and_no_others() -> None:
    both = envelope.sign(PayloadType.TOKEN, PAYLOAD, [A, B])
    assert envelope.verify(both, PayloadType.TOKEN, keys(A, B, C)) == envelope.Verified(
        PAYLOAD, signers(A, B)
    )
    assert envelope.verify(both, PayloadType.TOKEN, keys(B, C)).signers == signers(B)
    with pytest.raises(SignatureError):
        envelope.verify(both, PayloadType.TOKEN, keys(C))
    with pytest.raises(SignatureError):
        envelope.verify(both, PayloadType.TOKEN, {})


def test_signature_for_one_type_of_document_never_counts_for_another() -> None:
    for other in PayloadType:
        if other is not PayloadType.TOKEN:
            with pytest.raises(DocumentError):
                envelope.verify(SIGNED, other, keys(A))
            with pytest.raises(SignatureError):
                envelope.verify(changed(payloadType=str(other)), other, keys(A))


def test_key_id_in_the_envelope_proves_nothing_and_hides_nothing() -> None:
    sig = json.loads(SIGNED)["signatures"][0]["sig"]
    for keyid in (envelope.key_id(public(B)), "", "sha256:", "x" * 1000):
        lying = changed(signatures=[{"sig": sig, "keyid": keyid}])
        assert envelope.verify(lying, PayloadType.TOKEN, keys(A, B)).signers == signers(A)
        with pytest.raises(SignatureError):
            envelope.verify(lying, PayloadType.TOKEN, keys(B))


def test_one_key_signing_many_times_counts_once() -> None:
    sig = json.loads(SIGNED)["signatures"][0]["sig"]
    names = [envelope.key_id(public(each)) for each in (A, B, C)]
    repeated = changed(signatures=[{"sig": sig, "keyid": name} for name in names])
    assert envelope.verify(repeated, PayloadType.TOKEN, keys(A, B, C)).signers == signers(A)
    assert envelope.sign(PayloadType.TOKEN, PAYLOAD, [A, A]) == SIGNED


def test_signatures_collected_one_after_another_are_those_made_together() -> None:
    one = envelope.add_signature(envelope.add_signature(SIGNED, B), C)
    assert one == envelope.sign(PayloadType.TOKEN, PAYLOAD, [A, B, C])
    assert json.loads(envelope.add_signature(one, A))["signatures"] != []
    assert envelope.verify(
        envelope.add_signature(one, A), PayloadType.TOKEN, keys(A, B, C)
    ).signers == signers(A, B, C)
    assert len(json.loads(envelope.add_signature(one, A))["signatures"]) == 3


@given(st.integers(0, len(SIGNED) * 8 - 1))
def test_envelope_with_one_bit_flipped_is_refused_or_says_the_same(bit: int) -> None:
    data = bytearray(SIGNED)
    data[bit // 8] ^= 1 << (bit % 8)
    try:
        verified = envelope.verify(bytes(data), PayloadType.TOKEN, keys(A, B))
    except DocumentError:
        return
    # Only the key id, which proves nothing, can have changed.
    assert verified == envelope.Verified(PAYLOAD, signers(A))
    assert len(set(zip(SIGNED, data, strict=True)) - {(each, each) for each in SIGNED}) == 1
    assert b'"payload":"' + base64.b64encode(PAYLOAD) in data


@given(st.integers(0, len(SIGNED) - 1))
def test_envelope_cut_short_is_refused(length: int) -> None:
    with pytest.raises(DocumentError):
        envelope.verify(SIGNED[:length], PayloadType.TOKEN, keys(A))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_envelope_are_a_document_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(DocumentError):
        envelope.verify(data, PayloadType.TOKEN, keys(A))
    with pytest.raises(DocumentError):
        envelope.unverified_payload(data)
    with pytest.raises(DocumentError):
        envelope.add_signature(data, A)


SIG = json.loads(SIGNED)["signatures"][0]["sig"]


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"null",
        SIGNED + SIGNED,
        SIGNED[:-1] + b',"payload":"AA=="}',
        changed(payload=None),
        changed(payload=base64.b64encode(PAYLOAD).decode().rstrip("=") + "\n"),
        changed(payload="AA"),
        changed(payload="AB=="),
        changed(payload="A+_/"),
        changed(payload="Ä==="),
        changed(payloadType=5),
        changed(payloadType=""),
        changed(payloadType="\ud800"),
        changed(signatures=None),
        changed(signatures={}),
        changed(signatures=[SIG]),
        changed(signatures=[{"keyid": "x"}]),
        changed(signatures=[{"sig": SIG, "keyid": None}]),
        changed(signatures=[{"sig": "?"}]),
        changed(signatures=[]),
        changed(signatures=[{"sig": ""}]),
        changed(signatures=[{"sig": base64.b64encode(b"x" * 65).decode()}]),
        changed(signatures=[{"sig": SIG}] * 33),
    ],
)
def test_envelope_of_any_other_form_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        envelope.verify(data, PayloadType.TOKEN, keys(A))


def test_fields_that_dsse_does_not_know_are_ignored_as_it_demands() -> None:
    extended = changed(future=[1.5], signatures=[{"sig": SIG, "cert": {}}])
    assert envelope.verify(extended, PayloadType.TOKEN, keys(A)).payload == PAYLOAD


def test_signature_by_an_unknown_algorithm_beside_a_good_one_does_no_harm() -> None:
    long = {"sig": base64.b64encode(b"x" * 2420).decode(), "keyid": "somebody"}
    assert envelope.verify(
        changed(signatures=[long, {"sig": SIG}]), PayloadType.TOKEN, keys(A)
    ).signers == signers(A)


def test_envelope_over_64_kib_is_neither_made_nor_read() -> None:
    largest = b"x" * 48_900
    assert len(envelope.sign(PayloadType.TOKEN, largest, [A])) <= 64 * 1024
    with pytest.raises(DocumentError, match="too large"):
        envelope.sign(PayloadType.TOKEN, b"x" * 49_200, [A])
    with pytest.raises(DocumentError, match="too large"):
        envelope.verify(SIGNED + b" " * 65_536, PayloadType.TOKEN, keys(A))


def test_signing_with_no_key_or_with_too_many_is_refused() -> None:
    many = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(33)]
    assert len(json.loads(envelope.sign(PayloadType.TOKEN, PAYLOAD, many[:32]))["signatures"]) == 32
    for some in ([], many):
        with pytest.raises(SignatureError):
            envelope.sign(PayloadType.TOKEN, PAYLOAD, some)


def test_unverified_payload_tells_what_is_claimed_and_checks_nothing() -> None:
    assert envelope.unverified_payload(changed(signatures=[])) == (PayloadType.TOKEN, PAYLOAD)


def test_verify_with_a_key_under_a_wrong_name_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError):
        envelope.verify(SIGNED, PayloadType.TOKEN, {envelope.key_id(public(B)): public(A)})


def multiples_of_a_point_of_order_eight() -> set[bytes]:
    """All encodings of all points of small order, from the curve's equation (RFC 8032 section 5.1)."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p

    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        k = d * a[0] * b[0] * a[1] * b[1]
        x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, p) % p
        y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, p) % p
        return x, y

    y8 = int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    )
    x2 = (y8 * y8 - 1) * pow(d * y8 * y8 + 1, -1, p) % p
    x8 = pow(x2, (p + 3) // 8, p)
    if x8 * x8 % p != x2:
        x8 = x8 * pow(2, (p - 1) // 4, p) % p
    points, point = set(), (0, 1)
    for _ in range(8):
        points.add(point)
        point = add(point, (x8, y8))
    assert (point, len(points)) == ((0, 1), 8)
    ys = {y for _, y in points} | {y + p for _, y in points if y + p < 2**255}
    return {(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)}


def test_key_of_small_order_under_which_anybody_could_sign_is_no_key() -> None:
    weak = multiples_of_a_point_of_order_eight()
    assert len(weak) == 14
    assert not any(envelope.is_usable_key(key) for key in weak)
    # The identity point as key: R = identity and S = 0 "sign" every message.
    forged = base64.b64encode(b"\x01" + bytes(63)).decode()
    for key in weak:
        with pytest.raises(SignatureError):
            envelope.verify(
                changed(signatures=[{"sig": forged}]), PayloadType.TOKEN, {envelope.key_id(key): key}
            )


def test_usable_keys_have_32_bytes_and_what_is_no_point_verifies_nothing() -> None:
    assert envelope.is_usable_key(public(A))
    no_point = b"\x02" + bytes(31)
    assert not envelope.is_valid_signature(no_point, b"", b"\x01" + bytes(63))
    assert not envelope.is_usable_key(b"")
    assert not envelope.is_usable_key(public(A) + b"\0")


def test_ids_name_the_hash() -> None:
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert envelope.key_id(b"") == envelope.document_id(b"") == empty


def test_payload_types_are_distinct_and_named_after_the_documents() -> None:
    assert len({str(each) for each in PayloadType}) == 21
    for each in PayloadType:
        name = each.name.lower().replace("_", "-")
        assert str(each) == f"application/vnd.doorward.v0.{name}+json"
