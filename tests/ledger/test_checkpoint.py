"""Checkpoints: the specification's own examples, a second reader, and everything that is not one."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger.checkpoint import Checkpoint
from tests.ledger.entries import ORIGIN, OTHER, PRIVATE, PUBLIC

ROOT = hashlib.sha256(b"root").digest()
NOTE = checkpoints.sign(Checkpoint(ORIGIN, 812, ROOT), ORIGIN, PRIVATE)
DASH = "\u2014"


def vkey(text: str) -> tuple[str, bytes, bytes]:
    name, key_id, key = text.split("+", 2)
    data = base64.b64decode(key)
    assert data[0] == 1
    return name, bytes.fromhex(key_id), data[1:]


def test_example_of_the_signed_note_specification_opens() -> None:
    name, key_id, public = vkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    note = (
        "This is an example message.\n\n"
        f"{DASH} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKu"
        "wHjG1Yu72IneyaQM=\n"
    )
    assert checkpoints.note_key_id(name, public) == key_id
    assert checkpoints.open_note(note, name, public) == "This is an example message.\n"


def test_example_of_the_first_implementation_is_signed_byte_for_byte() -> None:
    # The documentation example of golang.org/x/mod/sumdb/note.
    seed = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
    private = Ed25519PrivateKey.from_private_bytes(seed)
    name, key_id, public = vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert private.public_key().public_bytes_raw() == public
    assert checkpoints.note_key_id(name, public) == key_id
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    assert checkpoints.sign_note(text, name, private) == (
        f"{text}\n{DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvq"
        "fqdngotpRZb6KE6RyyBwJnAM=\n"
    )


def second_reader(note: str, name: str, public: bytes) -> tuple[str, int, bytes]:
    """Read a checkpoint as the specification says, with nothing of ours."""
    body, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        _, signer, blob = line.split(" ")
        raw = base64.b64decode(blob)
        if signer == name and raw[:4] == hashlib.sha256(f"{name}\n\x01".encode() + public).digest()[:4]:
            Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], f"{body}\n".encode())
            origin, size, root = body.split("\n")
            return origin, int(size), base64.b64decode(root)
    raise InvalidSignature


@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoint_says_the_same_to_a_second_reader(size: int, root: bytes) -> None:
    note = checkpoints.sign(Checkpoint(ORIGIN, size, root), ORIGIN, PRIVATE)
    assert second_reader(note, ORIGIN, PUBLIC) == (ORIGIN, size, root)
    assert checkpoints.verify(note, ORIGIN, ORIGIN, PUBLIC) == Checkpoint(ORIGIN, size, root)


@given(st.integers(0, len(NOTE) - 1), st.integers(0, 6))
def test_checkpoint_with_one_bit_flipped_is_refused(at: int, bit: int) -> None:
    changed = NOTE[:at] + chr(ord(NOTE[at]) ^ 1 << bit) + NOTE[at + 1 :]
    with pytest.raises(ProofError):
        checkpoints.verify(changed, ORIGIN, ORIGIN, PUBLIC)


@given(st.integers(0, len(NOTE) - 1))
def test_checkpoint_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ProofError):
        checkpoints.verify(NOTE[:length], ORIGIN, ORIGIN, PUBLIC)


def signed(text: str, private: Ed25519PrivateKey = PRIVATE, name: str = ORIGIN) -> str:
    """Sign any text, also one that our own signer refuses."""
    key_id = checkpoints.note_key_id(name, private.public_key().public_bytes_raw())
    blob = base64.b64encode(key_id + private.sign(text.encode("utf-8", "surrogatepass"))).decode()
    return f"{text}\n{DASH} {name} {blob}\n"


ROOT_TEXT = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"another/ledger\n812\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n0812\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n-1\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n+1\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n\u0663\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n \n{ROOT_TEXT}\n",
        f"{ORIGIN}\n{2**53}\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n812\n{ROOT_TEXT[:-1]}\n",
        f"{ORIGIN}\n812\n{base64.b64encode(ROOT[1:]).decode()}\n",
        f"{ORIGIN}\n812\n{ROOT_TEXT} \n",
        f"{ORIGIN}\n812\n{ROOT_TEXT}\nan extension\n",
        f"{ORIGIN}\n812\n",
        "\n",
        f"{ORIGIN}\r\n812\r\n{ROOT_TEXT}\r\n",
        f"{ORIGIN}\n812\n{ROOT_TEXT}\n\ud800\n",
    ],
)
def test_checkpoint_in_any_other_form_is_refused_although_signed(text: str) -> None:
    with pytest.raises(ProofError):
        checkpoints.verify(signed(text), ORIGIN, ORIGIN, PUBLIC)


def test_checkpoint_by_another_key_is_refused_whatever_name_it_gives_itself() -> None:
    text = Checkpoint(ORIGIN, 812, ROOT).text()
    with pytest.raises(ProofError, match="not signed by"):
        checkpoints.verify(signed(text, OTHER), ORIGIN, ORIGIN, PUBLIC)
    # With our key's id put before it, it names our key, and then it must verify.
    line = signed(text, OTHER).splitlines()[-1]
    raw = bytearray(base64.b64decode(line.split(" ")[2]))
    raw[:4] = checkpoints.note_key_id(ORIGIN, PUBLIC)
    forged = f"{text}\n{DASH} {ORIGIN} {base64.b64encode(raw).decode()}\n"
    with pytest.raises(ProofError, match="not valid"):
        checkpoints.verify(forged, ORIGIN, ORIGIN, PUBLIC)
    # Nor does a good signature beside it help.
    with pytest.raises(ProofError, match="not valid"):
        checkpoints.verify(NOTE + forged.splitlines(keepends=True)[-1], ORIGIN, ORIGIN, PUBLIC)


def test_cosignatures_of_others_are_ignored_up_to_sixteen_lines() -> None:
    text = Checkpoint(ORIGIN, 812, ROOT).text()
    line = signed(text, OTHER, "witness.example/w1").splitlines(keepends=True)[-1]
    assert checkpoints.verify(NOTE + line * 15, ORIGIN, ORIGIN, PUBLIC).size == 812
    with pytest.raises(ProofError, match="too many"):
        checkpoints.verify(NOTE + line * 16, ORIGIN, ORIGIN, PUBLIC)


@pytest.mark.parametrize(
    "tail", ["-- x AAAAAAAA\n", f"{DASH} x AAAA\n", f"{DASH} x  AAAAAAAA\n", "\n", f"{DASH} x+y AAAAAAAA\n"]
)
def test_note_with_a_line_that_is_no_signature_is_refused(tail: str) -> None:
    with pytest.raises(ProofError):
        checkpoints.verify(NOTE + tail, ORIGIN, ORIGIN, PUBLIC)


def test_note_of_a_megabyte_is_refused_unread() -> None:
    with pytest.raises(ProofError, match="too large"):
        checkpoints.verify("x" * 2**20, ORIGIN, ORIGIN, PUBLIC)


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("", 1, ROOT),
        Checkpoint("with space", 1, ROOT),
        Checkpoint("with+plus", 1, ROOT),
        Checkpoint("two\nlines", 1, ROOT),
        Checkpoint("no\u00a0break", 1, ROOT),
        Checkpoint(ORIGIN, -1, ROOT),
        Checkpoint(ORIGIN, 2**53, ROOT),
        Checkpoint(ORIGIN, 1, ROOT[1:]),
    ],
)
def test_checkpoint_that_nobody_could_read_is_not_signed(checkpoint: Checkpoint) -> None:
    with pytest.raises(ProofError):
        checkpoints.sign(checkpoint, ORIGIN, PRIVATE)


def test_text_without_line_end_or_with_control_characters_is_not_signed() -> None:
    for text in ("no end", "bell\a\n", "half a pair \ud800\n"):
        with pytest.raises(ProofError):
            checkpoints.sign_note(text, ORIGIN, PRIVATE)


def test_checkpoint_and_dsse_share_a_key_but_never_a_message() -> None:
    # What DSSE signs begins with this; a space may not stand in an origin.
    with pytest.raises(ProofError):
        checkpoints.sign(Checkpoint("DSSEv1 1", 1, ROOT), ORIGIN, PRIVATE)
