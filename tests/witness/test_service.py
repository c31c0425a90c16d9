"""A witness on loopback: what it vouches for, what it answers to everything else."""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import aiohttp
import pytest

from agent.consent.times import SECOND_NS
from agent.errors import DoorwardError, IntegrityError, MalformedInput, ProofError, Refused, StorageError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature, merkle, submission, vkey
from agent.ledger.checkpoint import Checkpoint
from agent.ledger.submission import Submission
from agent.witness.service import PER_LOG, Allowance
from agent.witness.store import FILE_NAME, Store, origin_hash
from tests.ledger.entries import ORIGIN, OTHER, PRIVATE, PUBLIC
from tests.witness.rig import NAME, START_NS, Book, Running, Times, made, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
async def witness(tmp_path: Path, times: Times) -> AsyncIterator[Running]:
    store = made(tmp_path)
    store.add_log(ORIGIN, PUBLIC)
    async with running(store, wall_ns=lambda: times.wall_ns, boot_ns=lambda: times.boot_ns) as service:
        yield service
    store.close()


def said(witness: Running, note: str, body: bytes) -> cosignature.Cosignature:
    return cosignature.verify(note + body.decode(), ORIGIN, NAME, witness.store.public)


async def test_growing_ledger_is_vouched_for_step_by_step(witness: Running, times: Times) -> None:
    book = Book()
    old = 0
    for size in (0, 1, 7, 7, 8, 64):
        times.advance(60)
        answered = await witness.submit(book.submission(old, size))
        assert answered.status == 200, answered
        found = said(witness, book.note(size), answered.body)
        assert found.checkpoint == book.checkpoint(size)
        assert found.timestamp == times.wall_ns // SECOND_NS
        old = size
    held = witness.store.log(ORIGIN)
    assert held is not None
    assert (held.size, held.root) == (64, book.tree.root(64))


async def test_other_old_size_is_told_the_size_that_is_held(witness: Running) -> None:
    book = Book()
    assert (await witness.submit(book.submission(0, 9))).status == 200
    for old in (0, 1, 8, 10):
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{witness.url}/add-checkpoint", data=book.submission(old, 20).encode()) as response,
        ):
            assert response.status == 409
            assert response.headers["Content-Type"] == "text/x.tlog.size"
            assert submission.parse_size(await response.read()) == 9


async def test_second_history_is_never_vouched_for(witness: Running) -> None:
    book, other = Book(), Book(salt="other")
    fork = Book()
    fork.tree = merkle.Tree()
    fork.grow(9)
    fork.grow(20, salt="fork")
    assert (await witness.submit(book.submission(0, 20))).status == 200
    for attack in (
        other.submission(20, 20),
        other.submission(20, 30),
        fork.submission(20, 29),
        Submission(20, (), book.note(30)),
        Submission(20, tuple(book.tree.consistency_proof(20, 31)), book.note(30)),
        Submission(20, book.submission(20, 30).proof[:-1], book.note(30)),
        Submission(20, (*book.submission(20, 30).proof, bytes(32)), book.note(30)),
        Submission(20, (bytes(32),), book.note(20)),
    ):
        answered = await witness.submit(attack)
        assert answered.status == 422, answered
        assert b"\xe2\x80\x94" not in answered.body
    held = witness.store.log(ORIGIN)
    assert held is not None
    assert (held.size, held.root) == (20, book.tree.root(20))


async def test_smaller_ledger_is_never_vouched_for_again(witness: Running) -> None:
    book = Book()
    assert (await witness.submit(book.submission(0, 20))).status == 200
    assert (await witness.submit(Submission(20, (), book.note(19)))).status == 400
    assert (await witness.submit(book.submission(0, 19))).status == 409
    assert (await witness.submit(book.submission(19, 19))).status == 409


async def test_ledger_of_nothing_has_the_root_of_nothing(witness: Running) -> None:
    wrong = checkpoints.sign(Checkpoint(ORIGIN, 0, bytes(32)), ORIGIN, PRIVATE)
    assert (await witness.submit(Submission(0, (), wrong))).status == 422
    assert (await witness.submit(Submission(0, (bytes(32),), Book().note(5)))).status == 422
    assert (await witness.submit(Book().submission(0, 0))).status == 200


async def test_unknown_log_and_unknown_key_are_told_apart(witness: Running) -> None:
    stranger = Book(origin="another/log", private=OTHER)
    assert (await witness.submit(stranger.submission(0, 5))).status == 404
    impostor = Book(private=OTHER)
    assert (await witness.submit(impostor.submission(0, 5))).status == 403
    # The right key's name and id over a signature that is none: the note is refused whole.
    good = Book().note(5)
    bad = checkpoints.signature_line(ORIGIN, checkpoints.note_key_id(ORIGIN, PUBLIC) + bytes(64))
    assert (await witness.submit(Submission(0, (), good + bad))).status == 403
    # What strangers signed beside it is passed over, and not kept.
    line = impostor.note(5).rpartition("\n\n")[2]
    assert (await witness.submit(Submission(0, (), good + line))).status == 200
    held = witness.store.log(ORIGIN)
    assert held is not None
    assert held.note is not None
    assert len(checkpoints.split_note(held.note)[1]) == 2


GOOD = Book().submission(0, 5).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"old 0",
        b"old 0\n\n",
        b"old 0\n\nno note",
        GOOD.replace(b"old 0", b"old 00"),
        GOOD.replace(b"old 0", b"old -1"),
        GOOD.replace(b"old 0", b"old  0"),
        GOOD.replace(b"old 0", b"old 0 "),
        GOOD.replace(b"old 0", b"new 0"),
        GOOD.replace(b"old 0", "old \u0663".encode()),
        GOOD.replace(b"old 0", b"old 9007199254740992"),
        GOOD.replace(b"old 0\n", b"old 0\r\n"),
        GOOD.replace(b"old 0\n", b"old 0\nAAAA\n"),
        GOOD.replace(b"old 0\n", b"old 0\n" + b"A" * 43 + b"\n"),
        GOOD.replace(b"old 0\n", b"old 0\n" + (b"A" * 43 + b"=\n") * 64),
        GOOD.replace(b"old 0\n", b"old 6\n"),
        GOOD[:-1],
        GOOD.replace(b"\n5\n", b"\n05\n"),
        GOOD + b"\xff\n",
        checkpoints.sign_note(f"{ORIGIN}\n5\n{'A' * 43}=\nextension\n", ORIGIN, PRIVATE)
        .encode()
        .join([b"old 0\n\n", b""]),
    ],
)
async def test_what_is_no_submission_is_refused_and_changes_nothing(witness: Running, body: bytes) -> None:
    assert (await witness.submit(body)).status in {400, 403, 404}
    held = witness.store.log(ORIGIN)
    assert held is not None
    assert held.note is None


async def test_body_of_any_size_costs_no_more_than_its_bound(witness: Running) -> None:
    assert (await witness.submit(b"old 0\n" * 100_000)).status == 413


def test_submission_comes_back_as_it_was_written() -> None:
    for old, size in ((0, 1), (3, 64), (63, 64)):
        made_ = Book().submission(old, size)
        assert submission.parse(made_.encode()) == made_


@pytest.mark.parametrize(
    "body", [b"", b"5", b"05\n", b"-5\n", b"5\n\n", b"9007199254740992\n", b"\xff\n", b"1" * 40]
)
def test_size_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(ProofError):
        submission.parse_size(body)


async def test_two_at_once_are_vouched_for_one_after_the_other(witness: Running) -> None:
    book, other = Book(), Book(salt="other")
    answers = await asyncio.gather(
        *(witness.submit(each.submission(0, size)) for size in range(1, 6) for each in (book, other))
    )
    assert sorted(answered.status for answered in answers) == [200] + [409] * 9


async def test_newest_checkpoint_is_there_for_whoever_wants_to_compare(witness: Running) -> None:
    book = Book()
    url = f"{witness.url}/{origin_hash(ORIGIN)}/checkpoint"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 404
        await witness.submit(book.submission(0, 12))
        async with session.get(url) as response:
            assert response.status == 200
            note = await response.text()
    assert checkpoints.verify(note, ORIGIN, ORIGIN, PUBLIC) == book.checkpoint(12)
    found = cosignature.verify(note, ORIGIN, NAME, witness.store.public)
    assert (found.checkpoint, found.timestamp) == (book.checkpoint(12), START_NS // SECOND_NS)


async def test_log_that_asks_too_often_waits_and_others_do_not(witness: Running, times: Times) -> None:
    witness.store.add_log("another/log", OTHER.public_key().public_bytes_raw())
    book = Book()
    statuses = [(await witness.submit(book.submission(0, 5))).status for _ in range(int(PER_LOG[0]) + 3)]
    assert statuses == [200] + [409] * (int(PER_LOG[0]) - 1) + [429] * 3
    another = Book(origin="another/log", private=OTHER)
    assert (await witness.submit(another.submission(0, 5))).status == 200
    # What is not signed by the log costs the log nothing.
    for _ in range(50):
        assert (await witness.submit(Book(private=OTHER).submission(0, 5))).status == 403
    times.advance(10)
    assert (await witness.submit(book.submission(5, 6))).status == 200


def test_allowance_comes_back_with_time_and_forgets_whoever_asked_longest_ago() -> None:
    now = 0
    allowance = Allowance(2, 0.5, lambda: now)
    assert [allowance.take("a") for _ in range(3)] == [True, True, False]
    now += 2 * SECOND_NS
    assert [allowance.take("a") for _ in range(2)] == [True, False]
    for number in range(20_000):
        assert allowance.take(str(number))
    assert allowance.take("a")


# Its store


def test_store_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    store = made(tmp_path / "w")
    assert stat.S_IMODE((tmp_path / "w" / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o700
    key = store.public
    store.close()
    with pytest.raises(Refused, match="exists"):
        Store.create(tmp_path / "w" / FILE_NAME, NAME)
    again = Store(tmp_path / "w" / FILE_NAME)
    assert (again.name, again.public) == (NAME, key)
    assert vkey.parse(again.verifier_key, cosignature.KIND) == (NAME, key)
    again.close()


def test_witness_without_its_memory_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no witness"):
        Store(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).write_bytes(b"")
    with pytest.raises(IntegrityError, match="another file"):
        Store(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).write_bytes(b"x" * 5000)
    with pytest.raises(StorageError):
        Store(tmp_path / FILE_NAME)


def test_name_that_no_note_can_carry_makes_no_witness(tmp_path: Path) -> None:
    for name in ("", "two words", "a+b", "x" * 300):
        with pytest.raises(MalformedInput):
            Store.create(tmp_path / "w" / FILE_NAME, name)
    assert not (tmp_path / "w").exists()


def test_log_is_trusted_once_under_one_key(tmp_path: Path) -> None:
    store = made(tmp_path)
    store.add_log(ORIGIN, PUBLIC)
    with pytest.raises(Refused, match="already"):
        store.add_log(ORIGIN, PUBLIC)
    with pytest.raises(Refused, match="another key"):
        store.add_log(ORIGIN, OTHER.public_key().public_bytes_raw())
    assert [held.key for held in store.logs()] == [PUBLIC]
    with pytest.raises(Refused, match="not trusted"):
        store.advance("another/log", lambda held: held)
    store.close()
    with pytest.raises(StorageError):
        store.logs()


def test_step_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    store = made(tmp_path)
    store.add_log(ORIGIN, PUBLIC)
    before = store.log(ORIGIN)

    def fail(_held: object) -> None:
        raise DoorwardError("no")

    with pytest.raises(DoorwardError, match="no"):
        store.advance(ORIGIN, fail)  # type: ignore[arg-type]
    assert store.log(ORIGIN) == before
    store.close()
