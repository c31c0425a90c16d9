"""What a durable entry costs beside one write and fdatasync, and a proof as the ledger grows."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from agent.ledger import merkle
from agent.ledger.log import Log
from tests.bench.record import Record
from tests.ledger.entries import ORIGIN, PRIVATE, entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIZES: Final = (1_000, 100_000, 1_000_000)
APPEND_RATIO: Final = 2.0
PROOF_TARGET_MS: Final = 5.0


def run(*, sizes: Sequence[int] = SIZES, runs: int = 5, appends: int = 200) -> Iterator[Record]:
    """Appends, then proofs for each size."""
    yield _append(runs, appends)
    for size in sizes:
        yield _proof(size, runs)


def _append(runs: int, appends: int) -> Record:
    """Entry and peer take turns, so that both meet the same disk."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as name:
        directory = Path(name)
        fd = os.open(directory / "peer", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with Log.open(directory / "ledger", origin=ORIGIN, private=PRIVATE) as log:
                for turn in range(runs):
                    entries, plain = [], []
                    for number in range(turn * appends, (turn + 1) * appends):
                        new = entry(number, padding=300)
                        began = time.perf_counter_ns()
                        log.append(new)
                        between = time.perf_counter_ns()
                        # The bytes are made beforehand: the peer is the disk alone.
                        data = bytes(len(log.raw(number)) + 32)
                        after = time.perf_counter_ns()
                        os.write(fd, data)
                        os.fdatasync(fd)
                        plain.append((time.perf_counter_ns() - after) / 1e6)
                        entries.append((between - began) / 1e6)
                    ours.append(median(entries))
                    theirs.append(median(plain))
        finally:
            os.close(fd)
    return Record(
        bench="ledger/append",
        value=median(ours),
        unit="ms p50",
        n=runs * appends,
        spread=(min(ours), max(ours)),
        target=APPEND_RATIO,
        by_ratio=True,
        peer="one write and fdatasync of as many bytes",
        peer_value=median(theirs),
    )


def _proof(size: int, runs: int, proofs: int = 200) -> Record:
    """The tree alone: what `Log.receipt` asks of it. Each proof is of another entry, and one is checked."""
    tree = merkle.Tree()
    for number in range(size):
        tree.append(merkle.leaf_hash(number.to_bytes(8)))
    root = tree.root()
    chosen = random.Random(size)
    medians = []
    for _ in range(runs):
        found = []
        for _ in range(proofs):
            index = chosen.randrange(size)
            began = time.perf_counter_ns()
            proof = tree.inclusion_proof(index)
            found.append((time.perf_counter_ns() - began) / 1e6)
        merkle.verify_inclusion(merkle.leaf_hash(index.to_bytes(8)), index, size, proof, root)
        medians.append(median(found))
    return Record(
        bench=f"ledger/proof/{size}",
        value=median(medians),
        unit="ms p50",
        n=runs * proofs,
        spread=(min(medians), max(medians)),
        target=PROOF_TARGET_MS,
    )
