"""The ledger's one writer: memory of nonces is handed on from state to state, not piled up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.device import Box
from tests.support.household import nonce

if TYPE_CHECKING:
    from pathlib import Path


async def test_nonces_of_many_entries_stand_in_one_plain_memory(tmp_path: Path) -> None:
    box = Box(tmp_path / "ledger")
    await box.pair()
    for number in range(5):
        await box.grant(name=f"token {number}")
    seen = box.keeper.state.seen
    assert type(seen) is dict
    assert {nonce(f"token {number}") for number in range(5)} <= set(seen)
    box.close()
