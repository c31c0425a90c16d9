"""One stolen daily key: it can stop sharing. It cannot fill the disk, grant alone, or win a race."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.consent.acts import ShutterState
from agent.consent.envelope import PayloadType
from agent.errors import DoorwardError, Refused, SignatureError
from agent.ledger.entry import EntryKind
from agent.owners import KEY_BYTES_AT_ONCE
from tests.support.device import Box, HeldDisk
from tests.support.household import ANN, BEN, Home, id_of, nonce, sign

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = Box(tmp_path / "ledger", home=Home(changes={"granting": 2}))
    await box.pair()
    yield box
    box.close()


def grown(box: Box) -> int:
    return len(box.disk.files["entries"].cached)


async def test_key_that_floods_grows_the_ledger_by_its_share_and_no_more(box: Box) -> None:
    before, share = grown(box), 100_000
    box.owners._left[id_of(BEN.daily())] = float(share), box.clock()
    refused = 0
    for number in range(60):
        many = [
            box.home.signed_revocation(token=f"sha256:{n:064x}", nonce=nonce(f"{number} {n}"))
            for n in range(7)
        ]
        try:
            await box.act(BEN.daily(), *many)
        except Refused:
            refused += 1
    assert refused > 40
    assert grown(box) - before < share < KEY_BYTES_AT_ONCE
    assert not box.gate._held
    await box.act(ANN.daily(), box.home.signed_shutter(ShutterState.CLOSED))


async def test_key_without_a_share_left_records_nothing_and_still_stops_what_it_stops(box: Box) -> None:
    made = box.home.token()
    await box.act(ANN.daily(), sign(PayloadType.TOKEN, made.payload(), ANN.root, BEN.root))
    size = box.log.size
    box.owners._left[id_of(BEN.daily())] = 0.0, box.clock()
    read = box.home.read(box.challenges.issue(), BEN.daily())
    with pytest.raises(Refused, match="too much"):
        await box.owners.read(sign(PayloadType.READ, read.payload(), BEN.daily()))
    bad = sign(PayloadType.TOKEN, box.home.token(nonce=nonce("bad")).payload(), BEN.daily())
    with pytest.raises(SignatureError):
        await box.act(BEN.daily(), bad)
    assert box.gate._tokens(box.keeper.state)[0]
    with pytest.raises(Refused, match="what it stops is stopped"):
        await box.act(BEN.daily(), box.home.signed_revocation(token=made.id))
    assert box.log.size == size
    assert not box.gate._tokens(box.keeper.state)[0]
    await box.act(BEN.daily())  # what brings nothing costs nothing
    box.clock.advance(600)
    await box.act(BEN.daily(), box.home.signed_revocation(BEN.daily()))


@pytest.mark.parametrize("key", [BEN.daily(), BEN.root])
async def test_one_key_of_two_grants_opens_and_governs_nothing(box: Box, key: object) -> None:
    current = box.keeper.state.need_charter()
    documents = (
        sign(PayloadType.TOKEN, box.home.token().payload(), key, key),  # type: ignore[arg-type]
        box.home.signed_shutter(ShutterState.OPEN, key),  # type: ignore[arg-type]
        box.home.signed_next(current, key, granting=1),  # type: ignore[arg-type]
    )
    for document in documents:
        with pytest.raises(SignatureError):
            await box.act(key, document)  # type: ignore[arg-type]
    assert box.keeper.state.need_charter() == current
    assert not box.keeper.state.tokens


async def test_revocation_that_races_an_offer_leaves_no_session_whichever_is_first(tmp_path: Path) -> None:
    for turn in range(4):
        disk = HeldDisk()
        box = Box(tmp_path / str(turn), disk=disk)
        await box.pair()
        token = await box.grant()
        request = box.home.request()
        await box.ask(request)
        disk.hold()
        offering = asyncio.gather(box.offer(box.offer_now(request, token)))
        if turn % 2:
            await disk.until_reached()
        revoking = asyncio.gather(box.act(BEN.daily(), box.home.signed_revocation(token=token.id)))
        for _ in range(turn):
            await asyncio.sleep(0)
        disk.go()
        await asyncio.gather(offering, revoking)
        await box.settle()
        assert not box.gate.sessions()
        assert not box.screens.shown
        starts = {number for number, entry in box.log.entries() if entry.kind is EntryKind.SESSION_START}
        ends = {entry.body["start"] for entry in box.entries(EntryKind.SESSION_END)}
        assert starts == ends
        box.close()


async def test_charter_that_changes_the_area_ends_who_watches_it(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    await box.pair()
    token = await box.grant()
    request = box.home.request()
    await box.ask(request)
    await box.offer(box.offer_now(request, token))
    (permit,) = box.screens.shown
    cameras = box.home.to_json()["cameras"]
    cameras[0]["areas"][0]["polygon"] = [[0, 0], [100, 0], [100, 100]]
    following = box.home.signed_next(box.keeper.state.need_charter(), cameras=cameras)
    await box.act(ANN.daily(), following)
    assert not box.gate.live(permit)
    assert not box.screens.shown
    with pytest.raises(DoorwardError):
        await box.act(ANN.daily(), following)
    box.close()
