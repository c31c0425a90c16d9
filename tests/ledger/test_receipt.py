"""Receipts: what they prove to a stranger, and that nothing else passes for one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger.checkpoint import Checkpoint
from agent.ledger.merkle import Tree, leaf_hash
from agent.ledger.receipt import Receipt
from tests.ledger.entries import ORIGIN, OTHER, PRIVATE, PUBLIC, entry

ENTRIES = [entry(number) for number in range(21)]


def ledger(size: int) -> tuple[Tree, str]:
    tree = Tree()
    for each in ENTRIES[:size]:
        tree.append(leaf_hash(each.encode()))
    return tree, checkpoints.sign(Checkpoint(ORIGIN, size, tree.root()), ORIGIN, PRIVATE)


TREE, NOTE = ledger(21)


def receipt(index: int) -> Receipt:
    return Receipt(ENTRIES[index].encode(), index, tuple(TREE.inclusion_proof(index)), NOTE)


def test_receipt_of_every_entry_verifies_after_a_journey_as_json() -> None:
    for index in range(21):
        assert Receipt.parse(receipt(index).to_json()) == receipt(index)
        assert Receipt.parse(receipt(index).to_json()).verify(PUBLIC, ORIGIN) == ENTRIES[index]


def test_receipt_for_another_entry_index_ledger_or_device_is_refused() -> None:
    good = receipt(7)
    for bad in (
        replace(good, entry=ENTRIES[8].encode()),
        replace(good, index=6),
        replace(good, index=21),
        replace(good, proof=receipt(6).proof),
        replace(good, proof=()),
        replace(good, checkpoint=ledger(20)[1]),
    ):
        with pytest.raises(ProofError):
            bad.verify(PUBLIC, ORIGIN)
    with pytest.raises(ProofError):
        good.verify(OTHER.public_key().public_bytes_raw(), ORIGIN)
    with pytest.raises(ProofError):
        good.verify(PUBLIC, ORIGIN + "0")


def test_leaf_that_is_no_entry_is_refused_although_it_is_proven() -> None:
    tree = Tree()
    tree.append(leaf_hash(b"not an entry"))
    note = checkpoints.sign(Checkpoint(ORIGIN, 1, tree.root()), ORIGIN, PRIVATE)
    with pytest.raises(ProofError):
        Receipt(b"not an entry", 0, (), note).verify(PUBLIC, ORIGIN)


@given(st.integers(0, len(receipt(7).to_json()) * 8 - 1))
def test_receipt_with_one_bit_flipped_is_refused(bit: int) -> None:
    data = bytearray(receipt(7).to_json())
    data[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(ProofError):
        Receipt.parse(bytes(data)).verify(PUBLIC, ORIGIN)


@given(st.integers(0, len(receipt(7).to_json()) - 1))
def test_receipt_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ProofError):
        Receipt.parse(receipt(7).to_json()[:length])


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(receipt(7).to_json()) | fields).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        changed(v=1),
        changed(index=-1),
        changed(index="7"),
        changed(proof=None),
        changed(proof=["AA=="] * 65),
        changed(proof=[7]),
        changed(entry="?"),
        changed(checkpoint=""),
        changed(checkpoint=7),
        changed(unknown=1),
    ],
)
def test_receipt_of_any_other_form_is_refused(data: bytes) -> None:
    with pytest.raises(ProofError):
        Receipt.parse(data)
