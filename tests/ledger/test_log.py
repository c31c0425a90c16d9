"""The ledger on real files: durable, recovered by opening, and damage is found by name."""

from __future__ import annotations

import itertools
import random
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from agent.errors import DocumentError, IntegrityError, LedgerError, ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import merkle
from agent.ledger.entry import Entry, EntryKind
from agent.ledger.log import MAX_BODY_BYTES, RESERVE_BYTES, Log
from tests.ledger.entries import ORIGIN, OTHER, PRIVATE, PUBLIC, entry


def opened(directory: Path) -> Log:
    return Log.open(directory, origin=ORIGIN, private=PRIVATE)


def numbers(log: Log) -> list[int]:
    return [each.time.t_boot_ns for _, each in log.entries()]


def test_entries_appended_are_there_after_reopening(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger") as log:
        assert (log.size, log.root()) == (0, merkle.EMPTY_ROOT)
        assert [log.append(entry(number)) for number in range(3)] == [0, 1, 2]
        assert log.append_many([entry(number) for number in range(3, 8)]) == range(3, 8)
        assert log.append_many([]) == range(8, 8)
        root = log.root()
    with opened(tmp_path / "ledger") as log:
        assert (log.size, log.root(), numbers(log)) == (8, root, list(range(8)))
        assert list(log.entries(6)) == [(6, entry(6)), (7, entry(7))]
        assert log.append(entry(8)) == 8
        assert Entry.parse(log.raw(8)) == entry(8)


def test_root_is_the_tree_over_the_entries_bytes(tmp_path: Path) -> None:
    tree = merkle.Tree()
    with opened(tmp_path) as log:
        for number in range(20):
            log.append(entry(number))
            tree.append(merkle.leaf_hash(entry(number).encode()))
            assert log.root() == tree.root()
        assert log.root(7) == tree.root(7)


def test_receipts_and_consistency_convince_a_stranger(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append_many([entry(number) for number in range(5)])
        old = checkpoints.verify(log.checkpoint(), ORIGIN, ORIGIN, PUBLIC)
        log.append_many([entry(number) for number in range(5, 13)])
        new = checkpoints.verify(log.checkpoint(), ORIGIN, ORIGIN, PUBLIC)
        merkle.verify_consistency(5, 13, log.consistency(5), old.root, new.root)
        merkle.verify_consistency(5, 9, log.consistency(5, 9), old.root, log.root(9))
        assert [log.receipt(index).verify(PUBLIC, ORIGIN) for index in range(13)] == [
            entry(number) for number in range(13)
        ]
        for index in (-1, 13):
            with pytest.raises(ProofError):
                log.receipt(index)
            with pytest.raises(ProofError):
                log.raw(index)
        with pytest.raises(ProofError):
            log.consistency(0)


def test_checkpoint_of_the_same_size_is_the_same_text_before_and_after_reopening(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(entry(0))
        text = log.checkpoint()
        assert log.checkpoint() == text
    with opened(tmp_path) as log:
        assert log.checkpoint() == text


def test_second_writer_is_kept_out_until_the_first_closes(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(entry(0))
        with pytest.raises(LedgerError, match="another process has it open"):
            opened(tmp_path)
        assert log.append(entry(1)) == 1
    with opened(tmp_path) as log:
        assert log.size == 2


def test_closed_ledger_takes_no_entries(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.close()
    log.close()
    with pytest.raises(LedgerError):
        log.append(entry(0))


def test_files_are_the_owners_alone_and_links_are_not_followed(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "ledger"
    with opened(directory) as log:
        log.append(entry(0))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {(each.name, each.stat().st_mode & 0o777) for each in directory.iterdir()} == {
        ("entries", 0o600),
        ("signed", 0o600),
    }
    shutil.move(directory / "entries", tmp_path / "elsewhere")
    (directory / "entries").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError):
        opened(directory)


def test_ledger_where_no_directory_can_be_is_a_ledger_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LedgerError):
        opened(tmp_path / "file" / "ledger")
    with pytest.raises(LedgerError):
        opened(tmp_path / "file")


def test_space_is_kept_allocated_beyond_the_end(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for number in range(10):
            log.append(entry(number, padding=60_000))
            status = (tmp_path / "entries").stat()
            assert status.st_blocks * 512 >= status.st_size + RESERVE_BYTES


def test_entry_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(entry(0))
        before = (tmp_path / "entries").read_bytes()
        with pytest.raises(DocumentError):
            log.append_many([entry(1), entry(2, padding=300_000)])
        with pytest.raises(DocumentError, match="too large together"):
            log.append_many([entry(number, padding=240_000) for number in range(5)])
        assert (tmp_path / "entries").read_bytes() == before
        assert log.append(entry(1)) == 1


BATCHES = [1, 1, 3, 1, 2]


def written(directory: Path, *, signed_after: int | None = None) -> list[int]:
    """A ledger of some appends; returns its size in entries after each frame, by the file's length."""
    lengths = [0]
    with opened(directory) as log:
        if signed_after == 0:
            log.checkpoint()
        counter = itertools.count()
        for number, batch in enumerate(BATCHES, start=1):
            log.append_many([entry(next(counter)) for _ in range(batch)])
            lengths.append((directory / "entries").stat().st_size)
            if number == signed_after:
                log.checkpoint()
    return lengths


def sizes() -> list[int]:
    return list(itertools.accumulate(BATCHES, initial=0))


def test_ledger_cut_anywhere_keeps_every_whole_append(tmp_path: Path) -> None:
    lengths = written(tmp_path)
    data = (tmp_path / "entries").read_bytes()
    for cut in range(len(data)):
        (tmp_path / "entries").write_bytes(data[:cut])
        whole = max(at for at, length in enumerate(lengths) if length <= cut)
        with opened(tmp_path) as log:
            assert numbers(log) == list(range(sizes()[whole]))
        assert (tmp_path / "entries").stat().st_size == lengths[whole]


def test_ledger_cut_below_a_signed_checkpoint_does_not_open(tmp_path: Path) -> None:
    lengths = written(tmp_path, signed_after=3)
    data = (tmp_path / "entries").read_bytes()
    for cut in range(0, lengths[3], 7):
        (tmp_path / "entries").write_bytes(data[:cut])
        whole = max(at for at, length in enumerate(lengths) if length <= cut)
        with pytest.raises(IntegrityError, match=f"entry {sizes()[whole]} is missing or damaged"):
            opened(tmp_path)
        assert (tmp_path / "entries").read_bytes() == data[:cut]
    (tmp_path / "entries").write_bytes(data[: lengths[3]])
    with opened(tmp_path) as log:
        assert log.size == sizes()[3]


def test_bit_flipped_anywhere_before_the_last_append_is_found_and_named(tmp_path: Path) -> None:
    lengths = written(tmp_path)
    data = (tmp_path / "entries").read_bytes()
    chosen = random.Random(6962)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << chosen.randrange(8)
        (tmp_path / "entries").write_bytes(flipped)
        frame = max(number for number, length in enumerate(lengths) if length <= at)
        if frame < len(BATCHES) - 1:
            with pytest.raises(IntegrityError, match=f"entry {sizes()[frame]} is damaged") as raised:
                opened(tmp_path)
            assert raised.value.hint
            assert (tmp_path / "entries").read_bytes() == flipped
        else:
            # Nothing tells damage in the last append from one that never arrived, unless it was signed.
            with opened(tmp_path) as log:
                assert numbers(log) == list(range(sizes()[frame]))


def test_bit_flipped_anywhere_in_what_was_signed_is_found(tmp_path: Path) -> None:
    lengths = written(tmp_path, signed_after=len(BATCHES))
    data = (tmp_path / "entries").read_bytes()
    for at in range(lengths[-2], len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        (tmp_path / "entries").write_bytes(flipped)
        with pytest.raises(IntegrityError):
            opened(tmp_path)
        assert (tmp_path / "entries").read_bytes() == flipped


def test_frames_removed_repeated_or_reordered_are_found(tmp_path: Path) -> None:
    lengths = written(tmp_path)
    data = (tmp_path / "entries").read_bytes()
    frames = [data[start:end] for start, end in itertools.pairwise(lengths)]
    for order in ([0, 2, 3], [1], [0, 0], [0, 2, 1], [4, 3, 2, 1, 0], [0, 1, 2, 2, 3]):
        (tmp_path / "entries").write_bytes(b"".join(frames[number] for number in order))
        with pytest.raises(IntegrityError, match="is missing"):
            opened(tmp_path)


def test_entries_rewritten_with_right_checksums_are_found_when_signed(tmp_path: Path) -> None:
    written(tmp_path / "true", signed_after=2)
    with opened(tmp_path / "false") as log:
        for number in range(8):
            log.append(entry(number + 100))
    shutil.copy(tmp_path / "false" / "entries", tmp_path / "true" / "entries")
    with pytest.raises(IntegrityError, match="is not what was signed"):
        opened(tmp_path / "true")


def test_ledger_signed_by_another_device_does_not_open(tmp_path: Path) -> None:
    written(tmp_path, signed_after=2)
    with pytest.raises(IntegrityError, match="not its own"):
        Log.open(tmp_path, origin=ORIGIN, private=OTHER)
    with pytest.raises(IntegrityError, match="not its own"):
        Log.open(tmp_path, origin=ORIGIN + "0", private=PRIVATE)


def test_ledger_without_its_signed_checkpoints_does_not_open(tmp_path: Path) -> None:
    written(tmp_path, signed_after=2)
    (tmp_path / "signed").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        opened(tmp_path)


def test_ledger_emptied_after_signing_does_not_open(tmp_path: Path) -> None:
    written(tmp_path, signed_after=2)
    (tmp_path / "entries").unlink()
    with pytest.raises(IntegrityError, match="entry 0 is missing"):
        opened(tmp_path)


def test_one_torn_slot_of_signed_checkpoints_is_survived_and_two_are_not(tmp_path: Path) -> None:
    written(tmp_path)
    with opened(tmp_path) as log:
        log.checkpoint()
        log.append(entry(8))
        newest = log.checkpoint()
        log.append(entry(9))
    data = (tmp_path / "signed").read_bytes()
    for slot in (0, 1):
        torn = bytearray(data)
        torn[slot * 1024 + 100] ^= 1
        (tmp_path / "signed").write_bytes(torn)
        with opened(tmp_path) as log:
            assert log.size == 10
            later = log.checkpoint()
        with opened(tmp_path) as log:
            assert log.checkpoint() == later != newest
    both = bytearray(data)
    both[100] ^= 1
    both[1124] ^= 1
    (tmp_path / "signed").write_bytes(both)
    with pytest.raises(IntegrityError, match="checkpoints are damaged"):
        opened(tmp_path)


def test_entry_that_changes_on_disk_while_the_ledger_is_open_is_found_when_read(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(entry(0))
        log.append(entry(1))
        data = bytearray((tmp_path / "entries").read_bytes())
        data[-5] ^= 1
        with (tmp_path / "entries").open("r+b") as file:
            file.write(data)
        assert Entry.parse(log.raw(0)) == entry(0)
        for read in (lambda: log.raw(1), lambda: log.receipt(1), lambda: list(log.entries())):
            with pytest.raises(IntegrityError, match="entry 1 is not what was written"):
                read()


def frame(first: int, entries: list[bytes]) -> bytes:
    """One frame as the description of the format has it."""
    body = b"".join(struct.pack(">I", len(each)) + each for each in entries)
    header = b"\xff\x44\x57\xfe" + struct.pack(">QIII", first, len(entries), len(body), zlib.crc32(body))
    return header + struct.pack(">I", zlib.crc32(header)) + body


def test_file_is_what_the_description_of_the_format_says(tmp_path: Path) -> None:
    written(tmp_path)
    bounds = itertools.pairwise(sizes())
    expected = [frame(start, [entry(each).encode() for each in range(start, end)]) for start, end in bounds]
    assert (tmp_path / "entries").read_bytes() == b"".join(expected)


def test_entry_of_a_later_version_is_not_skipped(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.checkpoint()
    later = entry(0).encode().replace(b'"v":0', b'"v":1')
    (tmp_path / "entries").write_bytes(frame(0, [later]))
    with opened(tmp_path) as log, pytest.raises(IntegrityError, match="entry 0 is not one we know"):
        list(log.entries())


def test_frame_that_claims_what_it_does_not_hold_is_found(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.checkpoint()
    good = frame(0, [b"one", b"two"])
    body = good[28:]
    for count in (1, 3):
        header = good[:12] + struct.pack(">I", count) + good[16:24]
        (tmp_path / "entries").write_bytes(header + struct.pack(">I", zlib.crc32(header)) + body)
        with pytest.raises(IntegrityError, match="entry 0 stands in a frame"):
            opened(tmp_path)


def test_torn_append_is_not_taken_for_damage_whatever_bytes_it_holds(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(entry(0))
    whole = (tmp_path / "entries").read_bytes()
    torn = frame(1, [b"\xff\x44\x57\xfe" * 20])[:-1]
    (tmp_path / "entries").write_bytes(whole + torn)
    with opened(tmp_path) as log:
        assert numbers(log) == [0]
    assert (tmp_path / "entries").read_bytes() == whole


def test_more_garbage_than_one_append_can_leave_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(entry(0))
    whole = (tmp_path / "entries").read_bytes()
    (tmp_path / "entries").write_bytes(whole + bytes(MAX_BODY_BYTES + 29))
    with pytest.raises(IntegrityError, match="entry 1 is damaged"):
        opened(tmp_path)
    (tmp_path / "entries").write_bytes(whole + bytes(MAX_BODY_BYTES + 28))
    with opened(tmp_path) as log:
        assert numbers(log) == [0]


WRITER = """
import sys
from pathlib import Path
from agent.ledger.entry import EntryKind
from agent.ledger.log import Log
from tests.ledger.entries import ORIGIN, PRIVATE, entry
log = Log.open(Path(sys.argv[1]), origin=ORIGIN, private=PRIVATE)
number = log.size
while True:
    batch = range(number, number + 1 + number % 4)
    indices = log.append_many([entry(each, EntryKind.REVOCATION, padding=number % 3000) for each in batch])
    number = indices.stop
    text = log.checkpoint() if number % 5 == 0 else ""
    print(number, text.encode().hex(), flush=True)
"""


def test_writer_killed_at_any_moment_loses_nothing_acknowledged_and_nothing_signed(tmp_path: Path) -> None:
    chosen = random.Random(9162)
    acknowledged = 0
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(chosen.randrange(1, 60))]
        writer.kill()
        lines += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        whole = [line.split() for line in lines if line.endswith("\n")]
        acknowledged = max([acknowledged, *(int(words[0]) for words in whole)])
        with opened(tmp_path) as log:
            assert log.size >= acknowledged
            assert [each.time.t_boot_ns for _, each in log.entries()] == list(range(log.size))
            for words in whole:
                if len(words) == 2:
                    note = bytes.fromhex(words[1]).decode()
                    signed = checkpoints.verify(note, ORIGIN, ORIGIN, PUBLIC)
                    assert signed.root == log.root(signed.size)
            kinds = {each.kind for _, each in log.entries()}
        assert kinds == {EntryKind.REVOCATION}
    assert acknowledged > 20
