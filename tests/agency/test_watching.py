"""Asking and watching against the real core side and real WebRTC over loopback."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import av
import pytest

from agent.agency import watching
from agent.agency.client import Line, ask
from agent.agency.conversation import Wanted
from agent.consent.reasons import AgencyReason
from agent.consent.rules import PurposeKind
from agent.consent.token import Purpose
from agent.errors import IntegrityError, Refused, Unreachable
from agent.parcel import Parcel
from hal.clock import boot_ns, wall_ns
from tests.agency.home import Home, Loop, home
from tests.support.streams import ICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.agency.conversation import Decided
    from agent.agency.identity import Operator
    from agent.agency.introductions import KnownDevice
    from agent.agency.watching import Watched
    from agent.cli.agency_options import Office
    from agent.ledger.log import Log
    from agent.ledger.receipt import Receipt
    from tests.agency.home import Household

WANTED = Wanted("front", Purpose(PurposeKind.INCIDENT, "2026-1184"), 60, 480, 30, ("door",), 600)


@dataclass
class Stage:
    """Both sides, and the line between."""

    office: Office
    operator: Operator
    device: KnownDevice
    home: Home
    line: Line

    async def ask(self, *, wait: bool = True, wanted: Wanted = WANTED, **options: Any) -> Decided:
        told: list[tuple[str, AgencyReason]] = []
        self.told = told
        return await ask(
            self.line,
            self.office.conversation,
            self.operator,
            self.device,
            wanted,
            wait=wait,
            told=lambda request, status: told.append((request, status)),
            **options,
        )

    async def watch(
        self, request: str, *, save: Path | None = None, seconds: int | None = None
    ) -> tuple[asyncio.Event, asyncio.Event, asyncio.Task[Watched]]:
        """Begin to watch: events for leaving and for having begun, and the running conversation."""
        row = self.office.store.request(request)
        assert row is not None
        stop, begun = asyncio.Event(), asyncio.Event()
        running = asyncio.get_running_loop().create_task(
            watching.watch(
                self.line,
                self.office.conversation,
                self.operator,
                self.device,
                row,
                ice=ICE,
                save=save,
                seconds=seconds,
                stop=stop,
                told=lambda _: begun.set(),
            )
        )
        return stop, begun, running

    async def until_pictures(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.home.viewers.encoded < count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def stage(
    office: Office,
    operator: Operator,
    household: Household,
    device: KnownDevice,
    directory: Path,
    *,
    broker: Callable[[bytes], list[bytes]] = lambda sealed: [sealed],
) -> AsyncIterator[Stage]:
    async with home(household, directory) as running:
        transport = Loop.to(office.identity.key_id, running, broker=broker)
        async with Line(office.conversation, transport, [device]) as line:
            yield Stage(office, operator, device, running, line)


class FirstReceipt:
    """A ledger that hands out the receipt of its first entry for every other one."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def receipt(self, _number: int) -> Receipt:
        return self._log.receipt(0)


async def granted(it: Stage, **changes: Any) -> tuple[Decided, Any]:
    """Ask, and be granted while waiting."""
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(it.ask())
        token = await it.home.grant(**changes)
    decided = asking.result()
    assert decided.status is AgencyReason.GRANTED
    return decided, token


async def test_pictures_flow_after_the_grant_and_stop_with_the_revocation(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        started = boot_ns()
        decided, token = await granted(it)
        assert [status for _, status in it.told] == [AgencyReason.PENDING, AgencyReason.GRANTED]
        _, begun, running = await it.watch(decided.request, save=tmp_path / "out.mp4")
        await begun.wait()
        await it.until_pictures(25)
        it.home.revoke(token)
        watched = await running
    assert watched.reason == "ended_by_owner"
    assert watched.ended is not None
    assert watched.ended.frames >= watched.received.frames >= 10
    assert watched.received.first_rtp_boot_ns is not None
    assert watched.received.last_rtp_boot_ns is not None
    assert started < watched.received.first_rtp_boot_ns < watched.received.last_rtp_boot_ns < boot_ns()
    assert [row.kind for row in office.store.receipts()] == ["session-start", "session-end"]
    assert watched.to_json()["words"] == "ended by the owner"
    assert (tmp_path / "out.mp4").stat().st_mode & 0o777 == 0o600
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == watched.received.frames


async def test_leaving_ends_the_session_at_the_device_too(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        decided, _ = await granted(it)
        stop, begun, running = await it.watch(decided.request)
        await begun.wait()
        await it.until_pictures(10)
        stop.set()
        watched = await running
        assert it.home.gate.sessions() == []
    assert watched.reason == watching.LEFT
    assert watched.ended is not None
    assert watched.ended.status is AgencyReason.ENDED_CONDITIONS


async def test_grant_that_ends_ends_the_pictures_as_expired(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        decided, _ = await granted(it, seconds=4)
        _, _, running = await it.watch(decided.request)
        watched = await running
    assert watched.reason == "ended_expired"
    assert watched.received.packets > 0


async def test_unanswered_request_stays_pending_and_no_offer_is_made(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        decided = await it.ask(wait=False)
        assert decided.status is AgencyReason.PENDING
        row = office.store.request(decided.request)
        assert row is not None
        lapsed_ns = row.expires_ns
        assert row.status_at(lapsed_ns - 1) is AgencyReason.PENDING
        assert row.status_at(lapsed_ns) is AgencyReason.NO_ANSWER
        with pytest.raises(Refused, match="not granted"):
            await (await it.watch(decided.request))[2]


async def test_request_that_lapses_while_we_wait_got_no_answer(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    wanted = Wanted("front", WANTED.purpose, 60, 480, 30, (), 3)
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        assert (await it.ask(wanted=wanted)).status is AgencyReason.NO_ANSWER


async def test_second_offer_beyond_the_viewers_allowed_is_told_busy(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        decided, _ = await granted(it)
        stop, begun, running = await it.watch(decided.request)
        await begun.wait()
        await it.until_pictures(10)
        with pytest.raises(Refused, match="busy") as refused:
            await (await it.watch(decided.request, save=tmp_path / "second.mp4"))[2]
        assert refused.value.reason == "busy"
        assert not (tmp_path / "second.mp4").exists()
        stop.set()
        await running


async def test_existing_file_is_never_overwritten_and_nothing_is_sent(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"evidence")
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        decided, _ = await granted(it)
        with pytest.raises(Refused, match="exists already"):
            await (await it.watch(decided.request, save=tmp_path / "out.mp4"))[2]
        assert it.home.keeper.state.sessions == {}
    assert (tmp_path / "out.mp4").read_bytes() == b"evidence"


async def test_broker_that_repeats_and_invents_messages_disturbs_nothing(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    seen: list[bytes] = []

    def broker(sealed: bytes) -> list[bytes]:
        seen.append(sealed)
        label = Parcel.parse(sealed)
        noise = Parcel(label.kind, label.topic, bytes(200)).encode()
        return [noise, *seen, b"", sealed]

    async with stage(office, operator, household, device, tmp_path / "ledger", broker=broker) as it:
        decided, token = await granted(it)
        _, begun, running = await it.watch(decided.request)
        await begun.wait()
        await it.until_pictures(5)
        it.home.revoke(token)
        watched = await running
        assert it.line.refused > 0
    assert watched.reason == "ended_by_owner"
    assert len(office.store.receipts()) == 2


async def test_answer_that_never_comes_is_unreachable_and_shows_nothing(
    office: Office,
    operator: Operator,
    household: Household,
    device: KnownDevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "ANSWER_S", 0.2)
    silent = False

    def broker(sealed: bytes) -> list[bytes]:
        return [] if silent else [sealed]

    async with stage(office, operator, household, device, tmp_path / "ledger", broker=broker) as it:
        decided, _ = await granted(it)
        silent = True
        with pytest.raises(Unreachable, match="no answer to the offer"):
            await (await it.watch(decided.request, save=tmp_path / "out.mp4"))[2]
    assert not (tmp_path / "out.mp4").exists()


async def test_device_that_breaks_its_signed_word_ends_the_conversation(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        decided, _ = await granted(it)
        it.home.keeper._log = cast("Log", FirstReceipt(it.home.keeper.log))
        with pytest.raises(IntegrityError, match="its signed answer does not hold"):
            await (await it.watch(decided.request, save=tmp_path / "out.mp4"))[2]
        row = office.store.request(decided.request)
    assert row is not None
    assert office.store.receipts() == []
    assert not (tmp_path / "out.mp4").exists()


async def test_grant_that_came_while_nobody_listened_is_found_before_watching(
    office: Office, operator: Operator, household: Household, device: KnownDevice, tmp_path: Path
) -> None:
    async with stage(office, operator, household, device, tmp_path / "ledger") as it:
        decided = await it.ask(wait=False)
        row = office.store.request(decided.request)
        assert row is not None
        async with asyncio.TaskGroup() as group:
            found = group.create_task(
                watching.granted_request(it.line, office.conversation, device, row, wall_ns())
            )
            await it.home.grant()
        assert found.result().token is not None
        with pytest.raises(Refused, match="over since"):
            await watching.granted_request(
                it.line, office.conversation, device, found.result(), wall_ns() + 3600 * 10**9
            )
