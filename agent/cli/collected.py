"""Checkpoints that somebody kept: held against a ledger and against each other.

A ledger signs no two checkpoints that contradict each other. Two people who kept one each, or one who kept a
witness's, can therefore find out whether they were shown the same ledger, and prove it if not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.cli import words
from agent.consent.times import SECOND_NS
from agent.errors import MalformedInput, ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from agent.consent.charter import Witness
    from agent.ledger.checkpoint import Checkpoint
    from agent.ledger.merkle import Tree

MAX_FILE_BYTES: Final = 4 * checkpoints.MAX_CHARS


@dataclass(frozen=True, slots=True)
class Collected:
    """A checkpoint that the device signed, its note, and where it was found, in words."""

    where: str
    note: str
    checkpoint: Checkpoint

    @classmethod
    def read(cls, where: str, note: str, origin: str, key: bytes) -> Collected:
        """Take a note as evidence, if the device with this key signed it for its ledger ``origin``.

        Raises:
            ProofError: It did not.
        """
        return cls(where, note, checkpoints.verify(note, origin, origin, key))


def from_file(path: Path, origin: str, key: bytes) -> Collected:
    """The checkpoint in a file.

    Raises:
        MalformedInput: The file cannot be read, or holds none of this device's.
    """
    try:
        with path.expanduser().open(encoding="utf-8") as file:
            note = file.read(MAX_FILE_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedInput(f"{path}: {error}") from error
    try:
        return Collected.read(str(path), note, origin, key)
    except ProofError as error:
        raise MalformedInput(
            f"{path}: {error}", hint="it says nothing about this device: leave it out, or name its device"
        ) from error


def compare(found: Iterable[Collected], tree: Tree) -> None:
    """Hold checkpoints against the entries of ``tree`` and against each other.

    Raises:
        ProofError: They contradict each other: the ledger was changed, cut short, or shown in two versions.
    """
    by_size: dict[int, Collected] = {}
    for each in found:
        size, root = each.checkpoint.size, each.checkpoint.root
        other = by_size.setdefault(size, each)
        if other.checkpoint.root != root:
            raise ProofError(
                f"split view: the device signed two different histories of its first {size} entries, "
                f"in {other.where} and in {each.where}"
            )
        if size <= tree.size and tree.root(size) != root:
            raise ProofError(
                f"split view: {each.where} holds the device's signature over {size} entries, "
                "and the first entries of this ledger are others"
            )
    longest = max(by_size, default=0)
    if longest > tree.size:
        raise ProofError(
            f"{by_size[longest].where} holds the device's signature over {longest} entries, and this ledger "
            f"has {tree.size}: it was cut short or rolled back"
        )


def sentences(found: Iterable[Collected], witnesses: Sequence[Witness]) -> list[str]:
    """Who vouched for each, by the charter's keys."""
    lines = []
    for each in found:
        who = []
        for witness in witnesses:
            try:
                said = cosignature.verify(each.note, each.checkpoint.origin, witness.name, witness.key)
            except ProofError:
                continue  # not by this one
            who.append(f"witness {witness.name} at {words.local_time(said.timestamp * SECOND_NS)}")
        by = ", ".join(who) or "the device alone"
        lines.append(f"The checkpoint in {each.where} fits: {each.checkpoint.size} entries, signed by {by}.")
    return lines
