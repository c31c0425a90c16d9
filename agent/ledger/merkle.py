"""RFC 6962 Merkle trees over SHA-256: hashes, proofs and a tree that grows.

The ``verify_`` functions are what stands between a proof from somebody else and our belief in it: they
return nothing and raise `ProofError`. They follow the algorithms of RFC 9162 section 2.1 (the hashes are
those of RFC 6962), refuse every proof that is longer or shorter than its one right length, and refuse a
consistency proof from the empty tree, which would prove nothing.

`Tree` keeps the hash of every complete subtree (64 bytes a leaf), so appending costs O(1) amortised, a root
of any past size O(log n) and a proof O(log n) too. It holds hashes only: the leaves are the caller's.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from agent.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of the tree without leaves."""


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf's bytes (RFC 6962 section 2.1)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and the hashes of both children (RFC 6962 section 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with hash ``leaf`` stands at ``index`` in the tree of ``size`` leaves and ``root``.

    Raises:
        ProofError: It is not proven.
    """
    if not 0 <= index < size:
        raise ProofError(f"inclusion proof: index outside the tree (got {index}, expected below {size})")
    _check_hashes("inclusion proof", (leaf, root, *proof))
    # RFC 9162 section 2.1.3.2.
    _, computed = _climb("inclusion proof", index, size - 1, leaf, proof)
    _check_root("inclusion proof", computed, root)


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that the tree of ``old_size`` leaves is a prefix of the tree of ``new_size`` leaves.

    Raises:
        ProofError: It is not proven; a consistency from size 0 never is, since everything extends nothing.
    """
    if not 0 < old_size <= new_size:
        raise ProofError(f"consistency proof: sizes (got {old_size} and {new_size}, expected 0 < old <= new)")
    if old_size == new_size:
        if proof:
            raise ProofError(f"consistency proof: too long for equal sizes (got {len(proof)} hashes)")
        _check_root("consistency proof", old_root, new_root)
        return
    _check_hashes("consistency proof", (old_root, new_root, *proof))
    # RFC 9162 section 2.1.4.2. An old tree that is one complete subtree is not repeated in the proof.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise ProofError("consistency proof: too short (got 0 hashes)")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_computed, new_computed = _climb("consistency proof", node, last, path[0], path[1:])
    _check_root("consistency proof, old tree", old_computed, old_root)
    _check_root("consistency proof, new tree", new_computed, new_root)


class Tree:
    """A growing tree that remembers the hash of every complete subtree, and so every past root."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        # Level k is the concatenation of the hashes of the leaves [i * 2^k, (i + 1) * 2^k), by i.
        self._levels: list[bytearray] = [bytearray()]

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> int:
        """Add the leaf whose hash (`leaf_hash`) is ``leaf``; returns its index."""
        if len(leaf) != HASH_BYTES:
            raise RuntimeError("merkle tree: append takes a leaf hash, not a leaf")
        index = position = self.size
        self._levels[0] += leaf
        level = 0
        while position & 1:
            parent = node_hash(self._node(level, position - 1), self._node(level, position))
            level, position = level + 1, position >> 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += parent
        return index

    def leaf(self, index: int) -> bytes:
        """Return the hash of leaf ``index``.

        Raises:
            ProofError: There is no such leaf.
        """
        if not 0 <= index < self.size:
            raise ProofError(f"merkle tree: no leaf {index} (expected below {self.size})")
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first ``size`` leaves, of all of them if ``size`` is None.

        Raises:
            ProofError: The tree has not that many leaves.
        """
        size = self._checked(self.size if size is None else size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Prove that leaf ``index`` is in the tree of the first ``size`` leaves (RFC 6962 section 2.1.1).

        Raises:
            ProofError: There is no such leaf or no such size.
        """
        size = self._checked(self.size if size is None else size)
        if not 0 <= index < size:
            raise ProofError(f"merkle tree: no leaf {index} (expected below {size})")
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        proof.reverse()
        return proof

    def consistency_proof(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """Prove that the first ``old_size`` leaves are a prefix of the first ``new_size`` (section 2.1.2).

        Raises:
            ProofError: No such sizes; ``old_size`` 0 included.
        """
        new_size = self._checked(self.size if new_size is None else new_size)
        if not 0 < old_size <= new_size:
            raise ProofError(f"merkle tree: sizes (got {old_size} and {new_size}, expected 0 < old <= new)")
        proof: list[bytes] = []
        start, end = 0, new_size
        while end != old_size:
            middle = start + _split(end - start)
            if old_size <= middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        if start:
            # What is left is not the whole old tree, whose root the verifier has, so it must be told.
            proof.append(self._range(start, end))
        proof.reverse()
        return proof

    def _checked(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ProofError(f"merkle tree: no size {size} (expected at most {self.size})")
        return size

    def _node(self, level: int, position: int) -> bytes:
        return bytes(self._levels[level][position * HASH_BYTES : (position + 1) * HASH_BYTES])

    def _range(self, start: int, end: int) -> bytes:
        """Return the hash of a subtree that occurs in some tree: ``start`` is aligned to its width."""
        parts: list[bytes] = []
        while start < end:
            level = (end - start).bit_length() - 1
            parts.append(self._node(level, start >> level))
            start += 1 << level
        computed = parts.pop()
        while parts:
            computed = node_hash(parts.pop(), computed)
        return computed


def _split(width: int) -> int:
    """Return the largest power of two smaller than ``width``."""
    return 1 << ((width - 1).bit_length() - 1)


def _climb(subject: str, node: int, last: int, start: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Hash ``start`` upwards along ``path``, to the top of the tree.

    ``node`` is our position at the present level and ``last`` the position of the level's last node.

    Returns:
        The root over ``start`` and what stands left of it, and the root over everything.
    """
    left = whole = start
    for sibling in path:
        if last == 0:
            raise ProofError(f"{subject}: too long (got {len(path)} hashes)")
        if node & 1 or node == last:
            left = node_hash(sibling, left)
            whole = node_hash(sibling, whole)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            whole = node_hash(whole, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError(f"{subject}: too short (got {len(path)} hashes)")
    return left, whole


def _check_hashes(subject: str, hashes: Sequence[bytes]) -> None:
    for each in hashes:
        if len(each) != HASH_BYTES:
            raise ProofError(f"{subject}: hash length (got {len(each)} bytes, expected {HASH_BYTES})")


def _check_root(subject: str, computed: bytes, expected: bytes) -> None:
    if computed != expected:
        raise ProofError(f"{subject}: root (got {computed.hex()[:16]}…, expected {expected.hex()[:16]}…)")
