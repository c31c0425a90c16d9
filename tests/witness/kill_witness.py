"""A witness that is killed in the middle: serves for real, and ends itself where it is told to.

Arguments: the store's file, where to write the port, ``before`` or ``after`` the commit, and at which
submission that passes. Everything but the moment of death is the service as it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.serving import serving
from agent.witness.service import Service
from agent.witness.store import Held, Store
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Callable


class DyingStore(Store):
    """Dies in its n-th step, before or after it is on the disk."""

    def __init__(self, path: Path, moment: str, at: int) -> None:
        super().__init__(path)
        self._moment = moment
        self._left = at

    def advance(self, origin: str, step: Callable[[Held], Held]) -> Held:
        def dying(held: Held) -> Held:
            after = step(held)
            self._left -= 1
            if not self._left and self._moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            return after

        after = super().advance(origin, dying)
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return after


async def main(path: Path, port_file: Path, moment: str, at: int) -> None:
    """Serve until killed."""
    service = Service(DyingStore(path, moment, at), wall_ns=clock.wall_ns, boot_ns=clock.boot_ns)
    async with serving(service.application(), host="127.0.0.1", port=0, tls=None) as address:
        beside = port_file.with_suffix(".new")
        beside.write_text(str(address[1]))
        beside.rename(port_file)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
