"""The ledger on a disk that fails, fills up or loses power at any call.

The promise: an append that returned is there for ever; one that raised is there once, whole, or not at all;
and what was signed never goes away.
"""

from __future__ import annotations

import errno
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from agent.errors import LedgerError, StorageError
from agent.ledger import checkpoint as checkpoints
from agent.ledger.entry import RESTRAINING, EntryKind
from agent.ledger.log import RESERVE_BYTES, Log
from tests.ledger.disk import Disk, Fault, MemoryFile, PowerCut
from tests.ledger.entries import ORIGIN, PRIVATE, PUBLIC, entry

if TYPE_CHECKING:
    from pathlib import Path


def opened(directory: Path, disk: Disk) -> Log:
    return Log.open(directory, origin=ORIGIN, private=PRIVATE, opener=disk.open)


def fill(log: Log, kind: EntryKind, *, padding: int) -> int:
    """Append until the disk is full; returns how many entries went in."""
    before = log.size
    while log.size < before + 10_000:
        log.append(entry(log.size, kind, padding=padding))
    return log.size - before


def numbers(log: Log) -> list[int]:
    return [each.time.t_boot_ns for _, each in log.entries()]


# What happens to the append in which a call fails: is the log still open for the next one, and is the failed
# entry there after opening anew?
TABLE = [
    ("write entries", Fault.FAILED, "closed", "gone"),
    ("write entries", Fault.PERSISTED, "closed", "there"),
    ("write entries", Fault.SHORT, "closed", "gone"),
    ("write entries", Fault.FULL, "open", "gone"),
    ("write entries", Fault.HALF_FULL, "open", "gone"),
    ("sync entries", Fault.FAILED, "closed", "gone"),
    ("sync entries", Fault.PERSISTED, "closed", "there"),
    ("sync entries", Fault.FULL, "closed", "there"),
]


@pytest.mark.parametrize(("call", "fault", "then", "failed"), TABLE)
def test_failed_append_is_never_acknowledged_and_stands_at_most_once(
    tmp_path: Path, call: str, fault: Fault, then: str, failed: str
) -> None:
    disk = Disk()
    with opened(tmp_path, disk) as log:
        log.append(entry(0))
        disk.plan[len(disk.calls) + ("write entries", "sync entries").index(call)] = fault
        with pytest.raises(LedgerError):
            log.append(entry(1))
        assert disk.calls[-1] == call or then == "open"
        assert (log.size, numbers(log)) == (1, [0])
        if then == "open":
            assert log.append(entry(2)) == 1
        else:
            with pytest.raises(LedgerError, match="takes no entries"):
                log.append(entry(2))
        assert checkpoints.verify(log.checkpoint(), ORIGIN, ORIGIN, PUBLIC).root == log.root()
    expected = [0] + ([1] if failed == "there" else []) + ([2] if then == "open" else [])
    for _ in range(2):
        with opened(tmp_path, disk) as log:
            assert numbers(log) == expected
    with opened(tmp_path, disk) as log:
        log.append(entry(3))
        assert numbers(log) == [*expected, 3]


def test_entry_whose_sync_failed_is_made_durable_when_found_again(tmp_path: Path) -> None:
    disk = Disk()
    with opened(tmp_path, disk) as log:
        log.append(entry(0))
        disk.plan[len(disk.calls) + 1] = Fault.FULL  # of the sync: what was written stays in the cache alone
        with pytest.raises(LedgerError):
            log.append(entry(1))
    with opened(tmp_path, disk) as log:
        assert numbers(log) == [0, 1]
    disk.cut_power(random.Random(1))
    with opened(tmp_path, disk) as log:
        assert numbers(log) == [0, 1]


def test_write_that_takes_less_than_it_was_given_is_continued(tmp_path: Path) -> None:
    class Sipping(MemoryFile):
        def write(self, offset: int, data: bytes) -> int:
            return super().write(offset, data[:7])

    disk = Disk()
    with Log.open(
        tmp_path,
        origin=ORIGIN,
        private=PRIVATE,
        opener=lambda path: Sipping(disk, path.name, disk.open(path).content),
    ) as log:
        log.append_many([entry(0), entry(1)])
        log.checkpoint()
    with opened(tmp_path, disk) as log:
        assert numbers(log) == [0, 1]


def test_write_that_takes_nothing_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    class Deaf(MemoryFile):
        def write(self, offset: int, data: bytes) -> int:
            return 0 if self.name == "entries" else super().write(offset, data)

    disk = Disk()
    with (
        Log.open(
            tmp_path,
            origin=ORIGIN,
            private=PRIVATE,
            opener=lambda path: Deaf(disk, path.name, disk.open(path).content),
        ) as log,
        pytest.raises(LedgerError),
    ):
        log.append(entry(0))


def test_ledger_that_cannot_be_cut_back_on_a_full_disk_is_closed(tmp_path: Path) -> None:
    disk = Disk()
    with opened(tmp_path, disk) as log:
        log.append(entry(0))
        start = len(disk.calls)
        disk.plan |= {start: Fault.HALF_FULL, start + 1: Fault.FAILED}
        with pytest.raises(LedgerError):
            log.append(entry(1))
        assert disk.calls[start:] == ["write entries", "truncate entries"]
        with pytest.raises(LedgerError, match="takes no entries"):
            log.append(entry(2))
    with opened(tmp_path, disk) as log:
        assert numbers(log) == [0]


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.PERSISTED, Fault.SHORT, Fault.FULL])
@pytest.mark.parametrize("call", ["write signed", "sync signed"])
def test_checkpoint_that_is_not_durable_is_not_given_out_and_can_be_tried_again(
    tmp_path: Path, call: str, fault: Fault
) -> None:
    disk = Disk()
    with opened(tmp_path, disk) as log:
        log.append(entry(0))
        first = log.checkpoint()
        log.append(entry(1))
        disk.plan[len(disk.calls) + ("write signed", "sync signed").index(call)] = fault
        with pytest.raises(LedgerError, match="checkpoint not durable"):
            log.checkpoint()
        assert disk.calls[-1] == call
        log.append(entry(2))
    with opened(tmp_path, disk) as log:
        later = checkpoints.verify(log.checkpoint(), ORIGIN, ORIGIN, PUBLIC)
        assert (numbers(log), later.size) == ([0, 1, 2], 3)
        assert log.root(1) == checkpoints.verify(first, ORIGIN, ORIGIN, PUBLIC).root


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.PERSISTED, Fault.SHORT, Fault.FULL])
def test_opening_survives_a_failure_at_each_of_its_own_calls(tmp_path: Path, fault: Fault) -> None:
    calls = 0
    for at in itertools.count():
        disk = Disk()
        with opened(tmp_path, disk) as log:
            log.append(entry(0))
            log.append(entry(1))
            log.checkpoint()
            log.append(entry(2))
        content = disk.files["entries"]
        del content.cached[-3:], content.durable[-3:]  # torn
        start = len(disk.calls)
        disk.plan[start + at] = fault
        try:
            opened(tmp_path, disk).close()
        except LedgerError:
            calls += 1
        if len(disk.calls) <= start + at:
            break
        disk.plan.clear()
        with opened(tmp_path, disk) as log:
            assert numbers(log) == [0, 1]
            assert log.append(entry(3)) == 2
    # Write and sync of the newest checkpoint, cut, write and sync of the last frame; a reserve may fail.
    assert calls == 5


def test_disk_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    class Blind(MemoryFile):
        def read(self, offset: int, length: int) -> bytes:
            if self.disk.plan:
                raise OSError(errno.EIO, "input/output error")
            return super().read(offset, length)

    disk = Disk()
    with Log.open(
        tmp_path,
        origin=ORIGIN,
        private=PRIVATE,
        opener=lambda path: Blind(disk, path.name, disk.open(path).content),
    ) as log:
        log.append(entry(0))
        disk.plan[-1] = Fault.FAILED
        for read in (lambda: log.raw(0), lambda: log.receipt(0), lambda: list(log.entries())):
            with pytest.raises(StorageError):
                read()


def test_full_disk_refuses_grants_but_takes_revocations_for_a_long_time(tmp_path: Path) -> None:
    disk = Disk(capacity=RESERVE_BYTES * 4)
    with opened(tmp_path, disk) as log:
        with pytest.raises(LedgerError, match="disk full"):
            fill(log, EntryKind.TOKEN, padding=10_000)
        # Somebody else takes whatever is left.
        disk.files["archive"] = disk.files["entries"].__class__(reserved=10**9)
        for kind in EntryKind:
            if kind not in RESTRAINING:
                with pytest.raises(LedgerError, match="disk full"):
                    log.append(entry(0, kind))
        with pytest.raises(LedgerError, match="disk full"):
            log.append_many([entry(0, EntryKind.REVOCATION), entry(0, EntryKind.TOKEN)])
        for kind in RESTRAINING:
            log.append(entry(0, kind))
        log.checkpoint()
        before = log.size
        with pytest.raises(LedgerError, match="not written"):
            fill(log, EntryKind.REVOCATION, padding=2_000)
        size = log.size
        assert size > before + 100
        # When there is room again, everything goes on, without opening anew.
        del disk.files["archive"]
        disk.capacity = None
        assert log.append(entry(0, EntryKind.TOKEN)) == size
    with opened(tmp_path, disk) as log:
        assert log.size == size + 1


def test_full_disk_is_survived_by_opening_anew_and_the_reserve_is_still_there(tmp_path: Path) -> None:
    disk = Disk(capacity=RESERVE_BYTES * 3)
    with opened(tmp_path, disk) as log, pytest.raises(LedgerError, match="disk full"):
        fill(log, EntryKind.GAP, padding=10_000)
    with opened(tmp_path, disk) as log:
        for _ in range(100):
            log.append(entry(0, EntryKind.REVOCATION, padding=2_000))
        with pytest.raises(LedgerError, match="disk full"):
            log.append(entry(0, EntryKind.TOKEN))


def test_file_system_that_cannot_reserve_is_used_without(tmp_path: Path) -> None:
    disk = Disk(capacity=100_000)
    disk.can_reserve = False
    with opened(tmp_path, disk) as log:
        with pytest.raises(LedgerError, match="not written"):
            fill(log, EntryKind.GAP, padding=3_000)
        size = log.size
        disk.capacity = None
        assert log.append(entry(size)) == size


@dataclass
class Witnessed:
    """What the world was told before the power went."""

    acknowledged: int = 0
    begun: int = 0
    signed: list[str] = field(default_factory=list)


def run(directory: Path, disk: Disk, chosen: random.Random, seen: Witnessed) -> None:
    with opened(directory, disk) as log:
        assert log.size in {seen.acknowledged, seen.begun}
        assert numbers(log) == list(range(log.size))
        for text in seen.signed:
            signed = checkpoints.verify(text, ORIGIN, ORIGIN, PUBLIC)
            assert signed.root == log.root(signed.size)
        seen.acknowledged = seen.begun = log.size
        while True:
            if chosen.random() < 0.3:
                seen.signed.append(log.checkpoint())
                continue
            batch = [
                entry(number, padding=chosen.choice([0, 700]))
                for number in range(log.size, log.size + chosen.randrange(1, 4))
            ]
            # While this runs all of it may get there, or none.
            seen.begun += len(batch)
            log.append_many(batch)
            seen.acknowledged = log.size


@pytest.mark.parametrize("seed", range(40))
def test_power_cut_at_any_call_loses_nothing_acknowledged_and_nothing_signed(
    tmp_path: Path, seed: int
) -> None:
    chosen = random.Random(seed)
    disk, seen = Disk(), Witnessed()
    for _ in range(8):
        disk.plan[len(disk.calls) + chosen.randrange(20)] = Fault.POWER
        with pytest.raises(PowerCut):
            run(tmp_path, disk, chosen, seen)
        disk.cut_power(chosen)
