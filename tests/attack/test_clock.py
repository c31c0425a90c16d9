"""Attacks on the clock: nobody's word revives what has ended, stops the ledger, or spoils it for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.consent import times
from agent.consent.acts import ShutterState
from agent.consent.reasons import AgencyReason
from agent.consent.times import SECOND_NS, TimeQuality
from agent.ledger.entry import EntryKind
from agent.trusted_time import HOLDOVER_NS, LATEST_NS
from tests.support.device import Box
from tests.support.household import ANN, BEN, HOUR_NS, NOON, Home

if TYPE_CHECKING:
    from pathlib import Path

ABSURD = (
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "2024-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z",
    "2300-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
)
DAY_NS = 24 * HOUR_NS


@pytest.fixture
async def box(tmp_path: Path) -> Any:
    box = Box(tmp_path / "ledger", home=Home(changes={"accept_plausible_time": True}))
    box.clock.ntp = False
    await box.pair()
    yield box
    box.close()


async def asked(box: Box, name: str) -> AgencyReason:
    request = box.home.request(name=name, issued_at_ns=NOON, expires_at_ns=NOON + DAY_NS)
    decision = await box.ask(request, name=name)
    assert decision is not None
    return decision.status


@pytest.mark.parametrize("when", ABSURD)
async def test_absurd_time_of_an_act_is_not_believed_and_the_act_is_taken(box: Box, when: str) -> None:
    before = box.time.now(box.clock())
    closed = box.home.signed_shutter(ShutterState.CLOSED)
    await box.act(BEN.daily(), closed, signed_at_ns=times.parse(when, "when"))
    assert box.keeper.state.standing.shutter is ShutterState.CLOSED
    assert box.time.now(box.clock()) == before


@pytest.mark.parametrize("when", ABSURD)
async def test_absurd_time_of_the_first_act_leaves_no_time_and_a_ledger_that_works(
    tmp_path: Path, when: str
) -> None:
    box = Box(tmp_path / "ledger")
    box.clock.ntp = False
    await box.pair(signed_at_ns=times.parse(when, "when"))
    assert box.time.now(box.clock()) is None
    box.keeper.record(EntryKind.GAP, {"camera": "front"})
    await box.act(ANN.daily())
    now = box.time.now(box.clock())
    assert now is not None
    assert now.earliest_ns <= box.clock.wall_ns <= now.latest_ns
    box.close()


async def test_latest_time_that_is_believed_can_be_written(box: Box) -> None:
    box.clock.ns += LATEST_NS - DAY_NS - NOON
    await box.act(ANN.daily())
    box.keeper.record(EntryKind.GAP, {"camera": "front"})
    assert times.written(LATEST_NS + HOLDOVER_NS)


@pytest.mark.parametrize("back_ns", [2 * HOUR_NS, 30 * 60 * SECOND_NS])
async def test_owner_who_sets_the_clock_back_revives_no_token(box: Box, back_ns: int) -> None:
    token = await box.grant()
    box.clock.advance(2 * 3600)
    assert await asked(box, "late") is AgencyReason.PENDING
    await box.act(BEN.daily(), signed_at_ns=box.clock.wall_ns - back_ns)
    assert token.scope.not_after_ns < box.clock.wall_ns
    assert await asked(box, "back") is not AgencyReason.GRANTED


async def test_owner_sets_no_clock_back_once_its_anchor_has_run_out(box: Box) -> None:
    await box.grant()
    box.clock.advance(20 * 86_400)
    assert box.time.now(box.clock()) is None
    await box.act(BEN.daily(), signed_at_ns=NOON + 60 * SECOND_NS)
    assert box.time.now(box.clock()) is None
    await box.act(ANN.daily())
    assert box.time.now(box.clock()) is not None


async def test_network_time_set_back_long_after_boot_revives_no_token(box: Box) -> None:
    box.clock.ntp = True
    await box.grant()
    box.clock.advance(30 * 86_400)
    box.keeper.record(EntryKind.GAP, {"camera": "front"})
    box.clock.wrong_ns = -30 * DAY_NS
    assert box.time.now(box.clock()) is None


async def test_network_time_far_ahead_spoils_the_clock_for_no_longer_than_it_lasts(box: Box) -> None:
    box.clock.advance(2 * 86_400)
    box.clock.ntp, box.clock.wrong_ns = True, 50 * 365 * DAY_NS
    box.keeper.record(EntryKind.GAP, {"camera": "front"})
    box.clock.wrong_ns = 0
    assert box.time.now(box.clock()) is None
    box.clock.ntp = False
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.CLOSED))
    now = box.time.now(box.clock())
    assert now is not None
    assert now.quality is TimeQuality.AUTHENTICATED
    again = box.restart()
    again.clock.ntp = True
    assert again.time.now(again.clock()) is not None
    again.close()


@pytest.mark.parametrize("ahead_ns", [50 * 365 * DAY_NS, -3 * DAY_NS])
async def test_owner_a_day_off_from_network_time_is_not_believed_and_raises_no_floor(
    box: Box, ahead_ns: int
) -> None:
    box.clock.advance(2 * 86_400)
    box.clock.ntp = True
    await box.act(BEN.daily(), signed_at_ns=box.clock.wall_ns + ahead_ns)
    box.keeper.record(EntryKind.GAP, {"camera": "front"})
    assert box.time.now(box.clock()) is None
    again = box.restart()
    await again.act(ANN.daily())
    now = again.time.now(again.clock())
    assert now is not None
    assert now.earliest_ns <= again.clock.wall_ns <= now.latest_ns
    again.close()
