"""``doorward agency`` as an operator types it, against a device's real HTTPS door in another thread."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent.agency.store import Store
from agent.cli.agency import agency
from agent.consent.charter import Agency, Answers
from agent.consent.envelope import short
from agent.consent.introduction import verify_card
from agent.console.api import application
from agent.console.outbox import Outbox
from agent.console.tls import lan_tls
from agent.errors import DoorwardError, MalformedInput
from agent.ledger.checkpoint import origin_of
from agent.ledger.receipt import Receipt
from agent.link.mqtt import MqttDeviceLink, MqttSettings
from agent.serving import serving
from tests.agency.home import Household, home
from tests.support.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from click.testing import Result

    from tests.agency.home import Home


class Desk:
    """An operator's shell."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._runner = CliRunner()

    def run(self, *arguments: str | Path) -> Result:
        command = ["--dir", str(self.directory), *(str(each) for each in arguments)]
        return self._runner.invoke(agency, command)

    def ok(self, *arguments: str | Path) -> str:
        result = self.run(*arguments)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def lines(self, *arguments: str | Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ok(*arguments, "--json").splitlines()]

    def fails(self, code: int, *arguments: str | Path) -> DoorwardError:
        error = self.run(*arguments).exception
        assert isinstance(error, DoorwardError), error
        assert error.exit_code == code
        assert "\n" not in str(error)
        return error


class House:
    """A household whose device runs in a thread of its own, behind its HTTPS door or at a post."""

    def __init__(self, household: Household, directory: Path, *, post: MqttSettings | None = None) -> None:
        self.household = household
        self._directory = directory
        self._post = post
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.url = ""
        self.fingerprint = ""
        self.wrong_descriptor: bytes | None = None

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with home(self.household, self._directory / "ledger") as self.home:
            if self._post is None:
                await self._at_its_door()
            else:
                await self._at(self._post)

    @property
    def _agencies(self) -> frozenset[str]:
        charter = self.household.charter
        return frozenset(short(each.key_id) for each in charter.agencies) if charter else frozenset()

    async def _at(self, post: MqttSettings) -> None:
        link = MqttDeviceLink(
            post,
            short(self.household.device),
            agencies=self._agencies,
            submit=self.home.sharing.message,
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(link.run())

            def publish(agency: str, sealed: bytes) -> None:
                group.create_task(link.publish(agency, sealed))

            self.home.listeners.append(publish)
            self._up.set()
            await self._over.wait()
            self.home.listeners.remove(publish)
            running.cancel()

    async def _at_its_door(self) -> None:
        tls = lan_tls(self._directory, short(self.household.device))
        self.fingerprint = tls.fingerprint

        async def operations(
            name: str, _args: dict[str, object], _blob: bytes
        ) -> tuple[dict[str, object], bytes]:
            if name != "device":
                raise MalformedInput("not in this test")
            return {}, self.wrong_descriptor or self.household.descriptor(tls.fingerprint)

        outbox = Outbox()
        self.home.listeners.append(outbox.put)
        app = application(
            operations=operations,
            submit=self.home.sharing.message,
            agencies=lambda: self._agencies,
            outbox=outbox,
        )
        async with serving(app, host="127.0.0.1", port=0, tls=tls.context) as (host, port):
            self.url = f"https://{host}:{port}"
            self._up.set()
            await self._over.wait()

    def do(self, act: Callable[[Home], Coroutine[Any, Any, Any]]) -> Any:
        """Let something happen at the device; does not wait for it."""
        return asyncio.run_coroutine_threadsafe(act(self.home), self._loop)

    @contextmanager
    def serving(self) -> Iterator[House]:
        self._thread.start()
        assert self._up.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(10)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An agency with one operator."""
    desk = Desk(tmp_path / "agency")
    desk.ok("init", "--name", "Agency of the tests")
    desk.ok("badge", "--operator", "Operator", "--number", "17")
    return desk


@pytest.fixture
def house(desk: Desk, tmp_path: Path) -> Iterator[House]:
    """A household that has adopted the agency's card and written it an introduction."""
    desk.ok("card", "--out", tmp_path / "card.json")
    card = verify_card((tmp_path / "card.json").read_bytes().strip())
    household = Household()
    household.found(Agency(card.name, card.signing, card.seal, Answers.PENDING, 3600))
    (tmp_path / "introduction.json").write_bytes(household.introduction(card.agency))
    (tmp_path / "house").mkdir()
    with House(household, tmp_path / "house").serving() as running:
        yield running


ASK = ("ask", "live", "--device", "front-door", "--camera", "front", "--reference", "2026-1184")
LOOPBACK = ("--ice-address", "127.0.0.1")


async def grant(home: Home) -> Any:
    return await home.grant()


async def revoke_after_pictures(home: Home) -> None:
    token = await home.grant()
    async with asyncio.timeout(20):
        while home.viewers.encoded < 25:
            await asyncio.sleep(0.02)
    home.revoke(token)


async def interrupt_after_pictures(home: Home) -> None:
    await home.grant()
    async with asyncio.timeout(20):
        while home.viewers.encoded < 25:
            await asyncio.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)


def test_whole_story_from_import_to_verified_receipts(desk: Desk, house: House, tmp_path: Path) -> None:
    desk.ok("import", tmp_path / "introduction.json", "--via", house.url)
    (known,) = desk.json("households")
    assert known["devices"][0]["route"] == house.url
    assert known["devices"][0]["cameras"] == {"front": ["door"]}

    ended = house.do(revoke_after_pictures)
    asked, decided = desk.lines(*ASK, "--area", "door")
    assert (asked["event"], asked["status"]) == ("asked", "pending")
    assert (decided["event"], decided["status"]) == ("decided", "granted")
    (listed,) = desk.json("requests")
    assert (listed["request"], listed["status"]) == (asked["request"], "granted")
    assert "granted until" in desk.ok("requests")

    request = asked["request"].removeprefix("sha256:")[:12]
    save = tmp_path / "out.mp4"
    begun, report = desk.lines("watch", "--request", request, "--save", save, *LOOPBACK)
    ended.result(10)
    assert (begun["event"], report["event"]) == ("watching", "ended")
    assert report["reason"] == "ended_by_owner"
    assert report["end_verified"]
    assert report["frames"] > 10
    assert report["first_rtp_boot_ns"] < report["last_rtp_boot_ns"]
    assert save.stat().st_size > 1000

    assert "last session ended by the owner" in desk.ok("requests")
    assert desk.json("requests")[0]["last_session"] == "ended_by_owner"
    error = desk.fails(1, "watch", "--request", request, *LOOPBACK)
    assert str(error) == "granted before, and nothing is shown now"

    receipts = desk.json("receipts", "--verify")
    assert [(each["kind"], each["verified"]) for each in receipts] == [
        ("session-start", True),
        ("session-end", True),
    ]
    for which, end, kind in ((begun["session"], False, 0), (begun["session"], True, 1)):
        out = tmp_path / f"{kind}.json"
        desk.ok("receipt", which, "--out", out, *(["--end"] if end else []))
        receipt = Receipt.parse(out.read_bytes())
        entry = receipt.verify(house.household.keys.signing_public, origin_of(house.household.device))
        assert (receipt.index, str(entry.kind)) == (receipts[kind]["entry"], receipts[kind]["kind"])
    desk.ok("receipt", str(receipts[0]["entry"]), "--out", tmp_path / "by-number.json")


def test_same_story_over_a_real_post_with_certificates(desk: Desk, tmp_path: Path) -> None:
    card = verify_card(_card(desk, tmp_path))
    household = Household()
    household.found(Agency(card.name, card.signing, card.seal, Answers.PENDING, 3600))
    (tmp_path / "introduction.json").write_bytes(household.introduction(card.agency))
    for each in ("post", "house"):
        (tmp_path / each).mkdir()
    with Broker(tmp_path / "post") as broker:
        ours = broker.settings(desk.json("card")["link_name"])
        theirs = broker.settings(short(household.device))
        where = ("--post", f"{ours.host}:{ours.port}")
        files = ("--ca", ours.ca, "--cert", ours.certificate, "--key", ours.key)
        desk.ok("import", tmp_path / "introduction.json", *where, *files)
        with House(household, tmp_path / "house", post=theirs).serving() as house:
            ended = house.do(revoke_after_pictures)
            _, decided = desk.lines(*ASK)
            assert decided["status"] == "granted"
            _, report = desk.lines("watch", "--request", decided["request"], *LOOPBACK)
            ended.result(10)
    assert report["reason"] == "ended_by_owner"
    assert report["end_verified"]
    desk.ok("receipts", "--verify")


def test_ctrl_c_leaves_with_a_report_and_a_receipt(desk: Desk, house: House, tmp_path: Path) -> None:
    desk.ok("import", tmp_path / "introduction.json", "--via", house.url)
    house.do(interrupt_after_pictures)
    _, decided = desk.lines(*ASK)
    said = desk.ok("watch", "--request", decided["request"], "--save", tmp_path / "out.mp4", *LOOPBACK)
    assert "you left" in said
    assert "end is entry" in said
    assert "saved to" in said
    assert "no machine analysis" in said


def test_flipped_byte_in_a_kept_receipt_is_found(desk: Desk, house: House, tmp_path: Path) -> None:
    desk.ok("import", tmp_path / "introduction.json", "--via", house.url)
    house.do(revoke_after_pictures)
    _, decided = desk.lines(*ASK)
    desk.ok("watch", "--request", decided["request"], *LOOPBACK)
    assert "verified" in desk.ok("receipts", "--verify")
    with Store.open(desk.directory) as store, store._change() as change:
        first = store.receipts()[0].document
        flipped = first.replace(b'"index":', b'"Index":', 1)
        change.execute("UPDATE receipts SET document = ? WHERE kind = 'session-start'", (flipped,))
    error = desk.fails(4, "receipts", "--verify")
    assert "1 of 2 prove nothing" in str(error)


def test_request_nobody_answers_is_pending_and_watching_it_is_refused(
    desk: Desk, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.agency.watching.FIRST_WORD_S", 0.2)
    desk.ok(
        "import",
        tmp_path / "introduction.json",
        "--via",
        f"{house.url}#{house.fingerprint.replace(':', '=')}",
    )
    assert "pending: no answer yet" in desk.ok(*ASK, "--no-wait")
    (listed,) = desk.json("requests")
    error = desk.fails(1, "watch", "--request", listed["request"])
    assert str(error) == "pending: no answer yet"
    house.do(grant).result(10)
    assert desk.json("requests", "--fetch")[0]["status"] == "granted"


def test_late_grant_is_found_by_watch_itself(desk: Desk, house: House, tmp_path: Path) -> None:
    desk.ok("import", tmp_path / "introduction.json", "--via", house.url)
    desk.ok(*ASK, "--no-wait")
    house.do(grant).result(10)
    (listed,) = desk.json("requests")
    _, report = desk.lines(
        "watch", "--request", listed["request"], "--for", "1s", "--ice-address", "127.0.0.1"
    )
    assert report["reason"] == "left"


def test_device_with_another_certificate_or_key_is_not_imported(
    desk: Desk, house: House, tmp_path: Path
) -> None:
    introduction = tmp_path / "introduction.json"
    house.wrong_descriptor = Household().descriptor(house.fingerprint)
    assert "another one" in str(desk.fails(4, "import", introduction, "--via", house.url))
    house.wrong_descriptor = house.household.descriptor("sha256:" + 64 * "0")
    assert "another certificate" in str(desk.fails(4, "import", introduction, "--via", house.url))
    assert desk.json("households") == []


def test_certificate_that_changed_since_the_import_gets_no_message(
    desk: Desk, house: House, tmp_path: Path
) -> None:
    desk.ok("import", tmp_path / "introduction.json", "--via", f"{house.url}#sha256={64 * '0'}")
    assert "another certificate" in str(desk.fails(4, *ASK))
    assert desk.json("requests") == []
    assert house.home.keeper.state.requests == {}


def test_forged_introduction_is_refused_with_nothing_stored(desk: Desk, tmp_path: Path) -> None:
    agency_id = desk.json("card")["agency"]
    thief, household = Household(), Household()
    with Store.open(desk.directory) as store:
        card = verify_card(_card(desk, tmp_path))
        assert store.introductions() == []
    for each in (thief, household):
        each.found(Agency(card.name, card.signing, card.seal, Answers.PENDING, 3600))
    path = tmp_path / "forged.json"
    path.write_bytes(household.introduction(agency_id, signers=thief.roots))
    assert "no valid signature" in str(desk.fails(2, "import", path))
    path.write_bytes(household.introduction("sha256:" + 64 * "0"))
    assert "for another agency" in str(desk.fails(2, "import", path))
    path.write_bytes(household.introduction(agency_id)[:-40])
    desk.fails(2, "import", path)
    path.write_bytes(b"\xff" * 200_000)
    desk.fails(2, "import", path)
    desk.fails(2, "import", tmp_path / "missing.json")
    assert desk.json("households") == []


def _card(desk: Desk, directory: Path) -> bytes:
    desk.ok("card", "--out", directory / "own-card.json")
    return (directory / "own-card.json").read_bytes().strip()


def test_device_that_does_not_answer_is_exit_code_3_and_the_request_is_forgotten(
    desk: Desk, house: House, tmp_path: Path
) -> None:
    desk.ok("import", tmp_path / "introduction.json", "--via", house.url)
    desk.fails(3, *ASK, "--via", f"https://127.0.0.1:1#sha256={64 * '0'}")
    assert desk.json("requests") == []


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--for", "soon"), 2, "duration"),
        (("--camera", "back"), 2, "it has front"),
        (("--area", "garden"), 2, "it has door"),
        (("--lifetime", "2d"), 2, "lifetime"),
        (("--operator", "99"), 2, "nobody has number 99"),
        (("--device", "back-door"), 2, "none by that name"),
        (("--via", "http://192.0.2.7:80"), 2, "plain http"),
        (("--post", "nowhere"), 2, "HOST:PORT"),
        (("--post", "127.0.0.1:8883"), 2, "needs --ca"),
        (("--via", "https://127.0.0.1:1", "--post", "127.0.0.1:1"), 2, "one of them"),
        (("--ca", "x.pem"), 2, "go with --post"),
    ],
)
def test_bad_input_is_one_line_and_asks_nothing(
    desk: Desk, tmp_path: Path, options: tuple[str, ...], code: int, why: str
) -> None:
    card = verify_card(_card(desk, tmp_path))
    household = Household()
    household.found(Agency(card.name, card.signing, card.seal, Answers.PENDING, 3600))
    (tmp_path / "introduction.json").write_bytes(household.introduction(card.agency))
    desk.ok("import", tmp_path / "introduction.json")
    assert "how to reach it is not known" in str(desk.fails(2, *ASK))
    assert why in str(desk.fails(code, *ASK, *options))
    assert desk.json("requests") == []


def test_every_command_has_help_with_an_example_or_a_list(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for command in (
        (),
        ("init",),
        ("card",),
        ("badge",),
        ("import",),
        ("households",),
        ("ask",),
        ("ask", "live"),
        ("requests",),
        ("watch",),
        ("receipts",),
        ("receipt",),
    ):
        assert "Usage:" in desk.ok(*command, "--help")
    assert list(tmp_path.iterdir()) == []


def test_commands_without_an_agency_say_how_to_make_one(tmp_path: Path) -> None:
    error = Desk(tmp_path).fails(2, "households")
    assert error.hint is not None
    assert "doorward agency init" in error.hint
    assert list(tmp_path.iterdir()) == []
