"""``doorward ledger verify`` with checkpoints that somebody kept: split views are found and named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import progress
from agent.consent.fields import encode_bytes
from agent.consent.times import SECOND_NS
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature
from agent.ledger.entry import EntryKind
from tests.ledger.entries import OTHER, PRIVATE
from tests.support.device import ORIGIN, Box
from tests.support.household import Home
from tests.support.processes import Said, done, doorward
from tests.witness.rig import NAME, copied

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITNESS = {
    "name": NAME,
    "key": encode_bytes(OTHER.public_key().public_bytes_raw()),
    "url": "https://witness.example",
}


@pytest.fixture
async def box(tmp_path: Path) -> Any:
    box = Box(tmp_path / "ledger", home=Home(changes={"witnesses": [WITNESS]}))
    await box.pair()
    grow(box, 8)
    return box


@pytest.fixture(autouse=True)
def _closed(box: Box) -> Iterator[None]:
    yield
    box.close()


def grow(box: Box, count: int) -> None:
    for _ in range(count):
        box.keeper.record(EntryKind.GAP, {"camera": "front", "reason": "camera-away"})


def cosigned(box: Box, note: str | None = None) -> str:
    note = note or box.log.checkpoint()
    text, _ = checkpoints.split_note(note)
    return note + cosignature.sign(text, NAME, OTHER, timestamp=box.clock.wall_ns // SECOND_NS)


def kept(path: Path, note: str) -> Path:
    path.write_text(note, encoding="utf-8")
    return path


def exported(box: Box, path: Path, **more: Any) -> Path:
    value = {
        "device": encode_bytes(box.home.keys.signing_public),
        "checkpoint": box.log.checkpoint(),
        "entries": [encode_bytes(box.log.raw(index)) for index in range(box.log.size)],
        **more,
    }
    path.write_text(json.dumps(value))
    return path


def verify(tmp_path: Path, file: Path, *collected: Path) -> Said:
    options = [part for path in collected for part in ("--checkpoint", path)]
    return doorward("ledger", "verify", file, *options, "--key-file", tmp_path / "nobody")


def test_checkpoints_that_fit_are_named_with_who_vouched(tmp_path: Path, box: Box) -> None:
    first = kept(tmp_path / "first.txt", cosigned(box))
    second = kept(tmp_path / "second.txt", box.log.checkpoint())
    grow(box, 3)
    said = done(verify(tmp_path, exported(box, tmp_path / "l.json"), first, second)).out
    assert f"The checkpoint in {first} fits: 11 entries, signed by witness {NAME} at 2026-" in said
    assert f"The checkpoint in {second} fits: 11 entries, signed by the device alone." in said


def test_rewritten_ledger_is_found_by_whoever_kept_a_checkpoint(tmp_path: Path, box: Box) -> None:
    fork = Box(tmp_path / "fork", home=box.home, disk=copied(box.disk), clock=box.clock)
    grow(fork, 3)
    first = kept(tmp_path / "first.txt", cosigned(fork))
    fork.close()
    grow(box, 6)
    file = exported(box, tmp_path / "l.json")
    done(verify(tmp_path, file))
    said = verify(tmp_path, file, first)
    assert said.code == 4
    assert said.error.startswith(f"ledger: split view: {first} holds the device's signature over")


def test_two_checkpoints_that_contradict_each_other_need_no_ledger_that_reaches_them(
    tmp_path: Path, box: Box
) -> None:
    file = exported(box, tmp_path / "l.json")
    fork = Box(tmp_path / "fork", home=box.home, disk=copied(box.disk), clock=box.clock)
    grow(fork, 2)
    other = kept(tmp_path / "other.txt", fork.log.checkpoint())
    fork.close()
    grow(box, 3)
    mine = kept(tmp_path / "mine.txt", cosigned(box))
    said = verify(tmp_path, file, mine, other)
    assert said.code == 4
    assert "two different histories of its first 14 entries" in said.error
    assert str(mine) in said.error
    assert str(other) in said.error


def test_ledger_cut_short_is_found_by_a_longer_checkpoint(tmp_path: Path, box: Box) -> None:
    file = exported(box, tmp_path / "l.json")
    grow(box, 1)
    said = verify(tmp_path, file, kept(tmp_path / "longer.txt", box.log.checkpoint()))
    assert said.code == 4
    assert "cut short or rolled back" in said.error


@pytest.mark.parametrize(
    "note",
    [
        "",
        "no note",
        checkpoints.sign(checkpoints.Checkpoint(ORIGIN, 1, bytes(32)), ORIGIN, PRIVATE),
        checkpoints.sign(checkpoints.Checkpoint("doorward/other", 1, bytes(32)), "doorward/other", PRIVATE),
    ],
)
def test_file_that_says_nothing_of_this_device_accuses_nobody(tmp_path: Path, box: Box, note: str) -> None:
    said = verify(tmp_path, exported(box, tmp_path / "l.json"), kept(tmp_path / "it.txt", note))
    assert said.code == 2
    assert str(tmp_path / "it.txt") in said.error


def test_missing_or_binary_file_is_named(tmp_path: Path, box: Box) -> None:
    file = exported(box, tmp_path / "l.json")
    assert verify(tmp_path, file, tmp_path / "none.txt").code == 2
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert verify(tmp_path, file, tmp_path / "binary").code == 2


def test_export_brings_its_newest_cosigned_checkpoint_and_it_is_verified_too(
    tmp_path: Path, box: Box
) -> None:
    note = cosigned(box)
    grow(box, 2)
    said = done(verify(tmp_path, exported(box, tmp_path / "l.json", cosigned=note))).out
    assert f"this file fits: 11 entries, signed by witness {NAME}" in said
    forged = checkpoints.sign(checkpoints.Checkpoint(ORIGIN, 11, bytes(32)), ORIGIN, box.home.keys.signing)
    assert verify(tmp_path, exported(box, tmp_path / "f.json", cosigned=cosigned(box, forged))).code == 4
    stranger = checkpoints.sign(checkpoints.Checkpoint(ORIGIN, 11, bytes(32)), ORIGIN, PRIVATE)
    assert verify(tmp_path, exported(box, tmp_path / "s.json", cosigned=stranger)).code == 4


def test_witnesss_word_in_the_ledger_is_held_against_the_entries(tmp_path: Path, box: Box) -> None:
    box = box.restart()
    by = box.keeper.state.need_charter().witnesses[0].key_id
    good = cosigned(box)
    box.keeper.record(EntryKind.CONFIRMED, {"by": by, "size": box.log.size, "note": good})
    said = done(verify(tmp_path, exported(box, tmp_path / "l.json"))).out
    assert "Witnesses vouched for it at 1 starts, last over 12." in said
    # A device and a witness that lie together, over entries that are others.
    size = box.log.size
    lie = checkpoints.sign(checkpoints.Checkpoint(ORIGIN, size, bytes(32)), ORIGIN, box.home.keys.signing)
    box.keeper.record(EntryKind.CONFIRMED, {"by": by, "size": size, "note": cosigned(box, lie)})
    found = verify(tmp_path, exported(box, tmp_path / "lie.json"))
    assert found.code == 4
    assert f"entry {size}" in found.error
    box.close()


def test_progress_is_shown_to_people_alone_and_only_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moment = 0

    def boot_ns() -> int:
        nonlocal moment
        moment += SECOND_NS // 2
        return moment

    monkeypatch.setattr("agent.cli.progress.clock.boot_ns", boot_ns)
    assert list(progress.shown(range(5000), 5000, "checking")) == list(range(5000))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(progress.shown(range(500), 500, "checking")) == list(range(500))
    assert capsys.readouterr().err == ""
    assert list(progress.shown(range(5000), 5000, "checking")) == list(range(5000))
    assert "checking" in capsys.readouterr().err
