"""From the offer until Chromium shows its first frame, over loopback.

net's sessions, a share pipeline that masks and encodes 640x360 at 30 fps, and a real browser; not in it are
the decision and the ledger entry before it (see `decide` and `ledger`) and the link that carries the offer.
"""

from __future__ import annotations

import asyncio
from statistics import median
from typing import TYPE_CHECKING, Final

from agent.permit import Audience, Permit
from hal.clock import boot_ns
from tests.bench.record import Record
from tests.streaming.test_chromium import VIEW, Camera, page_for
from tests.support.streams import HOUR_NS, device

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_MS: Final = 700.0
FIRST_PERMIT: Final = 5  # as `page_for` numbers them


def run(*, trials: int = 15) -> Iterator[Record]:
    """The median of ``trials`` connections, each of a page loaded anew."""
    found = asyncio.run(_measure(trials))
    yield Record(
        bench="first-frame",
        value=median(found),
        unit="ms p50",
        n=trials,
        spread=(min(found), max(found)),
        target=TARGET_MS,
    )


async def _measure(trials: int) -> list[float]:
    found = []
    async with device() as core, page_for(core) as page:
        for number in range(FIRST_PERMIT, FIRST_PERMIT + trials):
            caption = f"Police · 1 · s-{number}"
            permit = Permit(
                number, f"s-{number}", "door", VIEW, caption, Audience.AGENCY, boot_ns() + HOUR_NS
            )
            camera = Camera(core, permit)
            try:
                found.append(float(await page.evaluate("start()")))
            finally:
                core.close(number)
                camera.close()
            await page.reload()
    return found
