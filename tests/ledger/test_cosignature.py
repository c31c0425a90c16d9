"""Cosignatures: one that a public witness made, a second reader, and everything that is none."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MalformedInput, ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature, vkey
from agent.ledger.checkpoint import Checkpoint
from tests.ledger.entries import ORIGIN, OTHER, PRIVATE, PUBLIC

NAME = "witness.example/w1"
WITNESS = OTHER
WITNESS_KEY = OTHER.public_key().public_bytes_raw()
ROOT = hashlib.sha256(b"root").digest()
CHECKPOINT = Checkpoint(ORIGIN, 812, ROOT)
LOG_NOTE = checkpoints.sign(CHECKPOINT, ORIGIN, PRIVATE)
WHEN = 1_769_860_800
NOTE = LOG_NOTE + cosignature.sign(CHECKPOINT.text(), NAME, WITNESS, timestamp=WHEN)

PUBLISHED = (Path(__file__).parent.parent / "vectors" / "cosigned_checkpoint.txt").read_text(encoding="utf-8")
PUBLISHED_LOG = (
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
PUBLISHED_WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"


def test_what_a_public_witness_made_verifies() -> None:
    origin, log_key = vkey.parse(PUBLISHED_LOG, checkpoints.ED25519)
    name, key = vkey.parse(PUBLISHED_WITNESS, cosignature.KIND)
    assert (origin, name) == ("arche2025h1.staging.ct.transparency.dev", "remora.n621.de")
    found = cosignature.verify(PUBLISHED, origin, name, key)
    assert found.checkpoint == checkpoints.verify(PUBLISHED, origin, origin, log_key)
    assert found.checkpoint.size == 1_432_088_532
    assert found.timestamp == 0x6A122120
    for old, new in (("1432088532", "1432088533"), ("BqEiEgPlfF", "BqEiEhPlfF")):
        assert PUBLISHED.count(old) == 1
        with pytest.raises(ProofError):
            cosignature.verify(PUBLISHED.replace(old, new), origin, name, key)


def test_example_of_the_specification_reads_as_it_says() -> None:
    # Its keys are not published: what can be held against it is the form.
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1"
        "gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oy"
        "in1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    text, signatures = checkpoints.split_note(note)
    assert checkpoints.read(text, "example.com/behind-the-sofa").size == 20_852_163
    name, data = signatures[1]
    assert name == "witness.example.com/w1"
    assert int.from_bytes(data[4:12], "big") == 1_679_315_147
    assert len(data) == 4 + 8 + 64


def second_reader(note: str) -> tuple[str, int]:
    """Read a cosignature as the specification says, with nothing of ours."""
    body, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        _, signer, blob = line.split(" ")
        raw = base64.b64decode(blob)
        if signer == NAME and raw[:4] == hashlib.sha256(f"{NAME}\n\x04".encode() + WITNESS_KEY).digest()[:4]:
            time = int.from_bytes(raw[4:12], "big")
            message = f"cosignature/v1\ntime {time}\n{body}\n".encode()
            Ed25519PublicKey.from_public_bytes(WITNESS_KEY).verify(raw[12:], message)
            return body.split("\n")[0], time
    raise AssertionError("no cosignature")


@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32), st.integers(1, 2**33))
def test_cosignature_says_the_same_to_a_second_reader(size: int, root: bytes, when: int) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    note = checkpoints.sign(checkpoint, ORIGIN, PRIVATE)
    note += cosignature.sign(checkpoint.text(), NAME, WITNESS, timestamp=when)
    assert second_reader(note) == (ORIGIN, when)
    found = cosignature.verify(note, ORIGIN, NAME, WITNESS_KEY)
    assert (found.checkpoint, found.timestamp) == (checkpoint, when)
    # The log's own signature still stands, and the line beside it is not taken for it.
    assert checkpoints.verify(note, ORIGIN, ORIGIN, PUBLIC) == checkpoint


@given(st.integers(0, len(NOTE) - 1), st.integers(0, 6))
def test_cosigned_checkpoint_with_one_bit_flipped_is_refused_or_says_the_same(at: int, bit: int) -> None:
    changed = NOTE[:at] + chr(ord(NOTE[at]) ^ 1 << bit) + NOTE[at + 1 :]
    try:
        found = cosignature.verify(changed, ORIGIN, NAME, WITNESS_KEY)
    except ProofError:
        return
    # A bit in the log's line alone: it is not what the witness signed.
    assert (found.checkpoint, found.timestamp) == (CHECKPOINT, WHEN)
    with pytest.raises(ProofError):
        checkpoints.verify(changed, ORIGIN, ORIGIN, PUBLIC)


def test_cosignature_of_another_name_key_or_kind_is_none() -> None:
    for name, key in ((f"{NAME}2", WITNESS_KEY), (NAME, PUBLIC)):
        with pytest.raises(ProofError, match="not cosigned"):
            cosignature.verify(NOTE, ORIGIN, name, key)
    plain = checkpoints.sign_note(CHECKPOINT.text(), NAME, WITNESS)
    with pytest.raises(ProofError, match="not cosigned"):
        cosignature.verify(plain, ORIGIN, NAME, WITNESS_KEY)
    with pytest.raises(ProofError, match="not signed"):
        checkpoints.verify(NOTE, ORIGIN, NAME, WITNESS_KEY)
    with pytest.raises(ProofError, match="origin"):
        cosignature.verify(NOTE, "another/ledger", NAME, WITNESS_KEY)


def line(body: bytes) -> str:
    key_id = checkpoints.note_key_id(NAME, WITNESS_KEY, cosignature.KIND)
    return checkpoints.signature_line(NAME, key_id + body)


@pytest.mark.parametrize(
    "body",
    [
        b"\0",
        bytes(71),
        bytes(72),
        bytes(73),
        (2**63).to_bytes(8, "big") + bytes(64),
        (2**33 + 1).to_bytes(8, "big") + bytes(64),
        WHEN.to_bytes(8, "little") + bytes(64),
        WHEN.to_bytes(8, "big") + WITNESS.sign(CHECKPOINT.text().encode()),
        WHEN.to_bytes(8, "big") + WITNESS.sign(f"cosignature/v1\ntime 0{WHEN}\n{CHECKPOINT.text()}".encode()),
        WHEN.to_bytes(8, "big") + PRIVATE.sign(f"cosignature/v1\ntime {WHEN}\n{CHECKPOINT.text()}".encode()),
    ],
)
def test_cosignature_that_is_none_is_refused_even_beside_a_good_one(body: bytes) -> None:
    for note in (LOG_NOTE + line(body), NOTE + line(body), LOG_NOTE + line(body) + NOTE[len(LOG_NOTE) :]):
        with pytest.raises(ProofError):
            cosignature.verify(note, ORIGIN, NAME, WITNESS_KEY)


def test_newest_of_several_cosignatures_counts() -> None:
    later = cosignature.sign(CHECKPOINT.text(), NAME, WITNESS, timestamp=WHEN + 60)
    for note in (NOTE + later, LOG_NOTE + later + NOTE[len(LOG_NOTE) :]):
        assert cosignature.verify(note, ORIGIN, NAME, WITNESS_KEY).timestamp == WHEN + 60


@pytest.mark.parametrize("when", [0, -1, 2**33 + 1])
def test_time_that_no_cosignature_can_have_is_not_signed(when: int) -> None:
    with pytest.raises(ProofError, match="time"):
        cosignature.sign(CHECKPOINT.text(), NAME, WITNESS, timestamp=when)


def test_text_that_is_no_text_is_neither_signed_nor_verified() -> None:
    with pytest.raises(ProofError, match="surrogate"):
        cosignature.sign("\ud800\n", NAME, WITNESS, timestamp=WHEN)
    with pytest.raises(ProofError, match="surrogate"):
        cosignature.verify(
            f"\ud800\n\n{line(WHEN.to_bytes(8, 'big') + bytes(64))}", ORIGIN, NAME, WITNESS_KEY
        )
    with pytest.raises(ProofError, match="name"):
        cosignature.sign(CHECKPOINT.text(), "two words", WITNESS, timestamp=WHEN)


# Verifier keys


@pytest.mark.parametrize("kind", [checkpoints.ED25519, cosignature.KIND])
def test_verifier_key_comes_back_as_it_was_written(kind: int) -> None:
    text = vkey.written(NAME, WITNESS_KEY, kind)
    assert vkey.parse(text, kind) == (NAME, WITNESS_KEY)
    with pytest.raises(MalformedInput, match="another kind"):
        vkey.parse(text, 5 - kind)


def test_published_verifier_keys_are_written_as_published() -> None:
    for text, kind in ((PUBLISHED_LOG, checkpoints.ED25519), (PUBLISHED_WITNESS, cosignature.KIND)):
        assert vkey.written(*vkey.parse(text, kind), kind) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        NAME,
        f"{NAME}+00000000",
        PUBLISHED_WITNESS.replace("da77ade7", "da77ade8"),
        PUBLISHED_WITNESS.replace("remora", "remore"),
        PUBLISHED_WITNESS[:-4],
        PUBLISHED_WITNESS + "\n",
        vkey.written(NAME, bytes(32), cosignature.KIND),
        vkey.written(NAME, WITNESS_KEY + b"\0", cosignature.KIND),
        "x" * 301,
    ],
)
def test_verifier_key_with_a_slip_in_it_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput):
        vkey.parse(text, cosignature.KIND)
