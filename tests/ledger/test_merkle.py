"""The tree and its proofs, against a definition written straight from RFC 6962 section 2.1."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.errors import ProofError
from agent.ledger import merkle
from agent.ledger.merkle import Tree

LEAVES = [str(number).encode() * (number % 5) for number in range(65)]


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


def grown(size: int) -> Tree:
    tree = Tree()
    for leaf in LEAVES[:size]:
        tree.append(merkle.leaf_hash(leaf))
    return tree


TREE = grown(64)
ROOTS = [mth(LEAVES[:size]) for size in range(65)]


def test_root_of_every_size_up_to_64_is_the_rfcs() -> None:
    for size in range(65):
        assert grown(size).root() == ROOTS[size]
        assert TREE.root(size) == ROOTS[size]


def test_roots_published_with_certificate_transparency_are_ours() -> None:
    # The eight leaves of the reference tests of RFC 6962's authors, and the root over all of them.
    leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    tree = Tree()
    for leaf in leaves:
        tree.append(merkle.leaf_hash(bytes.fromhex(leaf)))
    assert tree.root(1).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_inclusion_proof_of_every_leaf_in_every_size_is_the_rfcs_and_verifies() -> None:
    for size in range(1, 65):
        for index in range(size):
            proof = TREE.inclusion_proof(index, size)
            assert proof == path(index, LEAVES[:size])
            merkle.verify_inclusion(TREE.leaf(index), index, size, proof, ROOTS[size])


def test_consistency_proof_between_all_sizes_is_the_rfcs_and_verifies() -> None:
    for new in range(1, 65):
        for old in range(1, new + 1):
            proof = TREE.consistency_proof(old, new)
            assert proof == subproof(old, LEAVES[:new], whole=True)
            merkle.verify_consistency(old, new, proof, ROOTS[old], ROOTS[new])


def flipped(hashes: list[bytes], bit: int) -> list[bytes]:
    data = bytearray(b"".join(hashes))
    data[bit // 8] ^= 1 << (bit % 8)
    return [bytes(data[at : at + 32]) for at in range(0, len(data), 32)]


@given(st.data())
def test_inclusion_proof_with_one_bit_flipped_anywhere_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 64))
    index = data.draw(st.integers(0, size - 1))
    hashes = [TREE.leaf(index), ROOTS[size], *TREE.inclusion_proof(index, size)]
    leaf, root, *proof = flipped(hashes, data.draw(st.integers(0, len(hashes) * 256 - 1)))
    with pytest.raises(ProofError):
        merkle.verify_inclusion(leaf, index, size, proof, root)


@given(st.data())
def test_consistency_proof_with_one_bit_flipped_anywhere_is_refused(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 64))
    old = data.draw(st.integers(1, new))
    hashes = [ROOTS[old], ROOTS[new], *TREE.consistency_proof(old, new)]
    old_root, new_root, *proof = flipped(hashes, data.draw(st.integers(0, len(hashes) * 256 - 1)))
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, new, proof, old_root, new_root)


@given(st.integers(-2, 70), st.integers(-2, 70), st.integers(0, 63))
def test_inclusion_proof_for_another_index_or_size_is_refused(index: int, size: int, true: int) -> None:
    assume((index, size) != (true, 64))
    root = ROOTS[size] if 0 <= size <= 64 else ROOTS[64]
    with pytest.raises(ProofError):
        merkle.verify_inclusion(TREE.leaf(true), index, size, TREE.inclusion_proof(true, 64), root)


def test_proof_with_a_hash_more_less_or_of_another_length_is_refused() -> None:
    leaf, proof = TREE.leaf(5), TREE.inclusion_proof(5, 21)
    old, new = ROOTS[13], ROOTS[21]
    consistent = TREE.consistency_proof(13, 21)
    for broken, why in (
        ([*proof, proof[0]], "too long"),
        (proof[:-1], "too short"),
        ([], "too short"),
        ([proof[0][:-1], *proof[1:]], "hash length"),
    ):
        with pytest.raises(ProofError, match=why):
            merkle.verify_inclusion(leaf, 5, 21, broken, ROOTS[21])
    for broken, why in (
        ([*consistent, old], "too long"),
        (consistent[:-1], "too short"),
        ([], "too short"),
        ([consistent[0] + b"\0", *consistent[1:]], "hash length"),
    ):
        with pytest.raises(ProofError, match=why):
            merkle.verify_consistency(13, 21, broken, old, new)
    with pytest.raises(ProofError):
        merkle.verify_consistency(13, 13, [old], old, old)


def test_consistency_from_nothing_proves_nothing_and_is_refused() -> None:
    with pytest.raises(ProofError):
        merkle.verify_consistency(0, 8, [], ROOTS[0], ROOTS[8])
    with pytest.raises(ProofError):
        TREE.consistency_proof(0, 8)


def test_leaf_presented_as_a_node_is_refused() -> None:
    # Two leaves' hashes side by side are the content of an inner node; as a leaf they must hash differently.
    fake = merkle.leaf_hash(TREE.leaf(0) + TREE.leaf(1))
    with pytest.raises(ProofError):
        merkle.verify_inclusion(fake, 0, 32, TREE.inclusion_proof(0, 64)[1:], ROOTS[64])


@pytest.mark.parametrize("size", [-1, 65, 2**60])
def test_tree_asked_for_what_it_has_not_says_so(size: int) -> None:
    for ask in (
        lambda: TREE.root(size),
        lambda: TREE.leaf(size),
        lambda: TREE.inclusion_proof(size),
        lambda: TREE.inclusion_proof(0, size),
        lambda: TREE.consistency_proof(1, size),
        lambda: TREE.consistency_proof(size),
    ):
        with pytest.raises(ProofError):
            ask()


def test_leaf_instead_of_its_hash_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError):
        grown(3).append(b"a leaf")
