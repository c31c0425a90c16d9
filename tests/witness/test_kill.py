"""A witness that is killed with SIGKILL between any two steps never vouches for two histories."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from agent.ledger import cosignature, submission
from agent.link.witness_post import post
from agent.witness.store import FILE_NAME, Store
from tests.ledger.entries import ORIGIN, PUBLIC
from tests.witness.rig import NAME, Book, made, until

if TYPE_CHECKING:
    from agent.ledger.submission import Submission
    from agent.link.witness_post import Answered

ROOT = Path(__file__).parents[2]


class Dying:
    """A witness process that kills itself at its ``at``-th step."""

    def __init__(self, directory: Path, moment: str, at: int) -> None:
        self._port_file = directory / "port"
        self._port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.witness.kill_witness"),
                *(str(directory / FILE_NAME), str(self._port_file), moment, str(at)),
            ],
            cwd=ROOT,
        )

    async def submit(self, submitted: Submission) -> Answered:
        await until("the witness", self._port_file.exists, 20)
        return await post(
            f"http://127.0.0.1:{self._port_file.read_text()}/add-checkpoint", submitted.encode()
        )

    def wait_killed(self) -> None:
        assert self.process.wait(20) == -signal.SIGKILL

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    store = made(tmp_path)
    store.add_log(ORIGIN, PUBLIC)
    store.close()
    return tmp_path


def held(directory: Path) -> tuple[int, bytes | None]:
    store = Store(directory / FILE_NAME)
    found = store.log(ORIGIN)
    store.close()
    assert found is not None
    return found.size, found.root


async def test_killed_after_the_commit_it_remembers_what_it_never_said(directory: Path) -> None:
    book, other = Book(), Book(salt="other")
    first = Dying(directory, "after", 2)
    assert (await first.submit(book.submission(0, 9))).status == 200
    assert (await first.submit(book.submission(9, 20))).status == 0
    first.wait_killed()
    assert held(directory) == (20, book.tree.root(20))
    second = Dying(directory, "after", 1000)
    try:
        # The other history of that size, which nobody has a signature against, is refused all the same.
        assert (await second.submit(other.submission(0, 20))).status == 409
        assert (await second.submit(other.submission(20, 20))).status == 422
        # The log, which heard nothing, asks again and is told where it stands.
        answered = await second.submit(book.submission(9, 21))
        assert (answered.status, submission.parse_size(answered.body)) == (409, 20)
        assert (await second.submit(book.submission(20, 21))).status == 200
    finally:
        second.end()


async def test_killed_before_the_commit_it_stands_where_it_stood(directory: Path) -> None:
    book = Book()
    first = Dying(directory, "before", 2)
    assert (await first.submit(book.submission(0, 9))).status == 200
    assert (await first.submit(book.submission(9, 20))).status == 0
    first.wait_killed()
    assert held(directory) == (9, book.tree.root(9))


async def test_over_many_deaths_no_size_ever_has_two_roots_and_nothing_goes_back(directory: Path) -> None:
    """Two histories compete for one witness, which dies at random moments and always comes back."""
    randomness = Random(4)
    histories = [Book(), Book(salt="other")]
    store = Store(directory / FILE_NAME)
    key = store.public
    store.close()
    vouched: dict[int, bytes] = {}
    largest = 0
    for _ in range(6):
        dying = Dying(directory, randomness.choice(["before", "after"]), randomness.randrange(1, 4))
        try:
            for _ in range(40):
                book = randomness.choice(histories)
                old, _ = held(directory)
                answered = await dying.submit(book.submission(old, min(64, old + randomness.randrange(3))))
                if answered.status == 0:
                    break
                if answered.status == 200:
                    size, _ = held(directory)
                    said = cosignature.verify(
                        book.note(size) + answered.body.decode(), ORIGIN, NAME, key
                    ).checkpoint
                    assert vouched.setdefault(said.size, said.root) == said.root
                    assert said.size >= largest
                    largest = said.size
            dying.wait_killed()
        finally:
            dying.end()
        size, root = held(directory)
        assert size >= largest
        assert vouched.get(size, root) == root
    assert largest > 0
