"""Starts core and net where there is no systemd, and starts again what ends.

Without users of their own the two are separated by their imports alone; `systemd/` does it properly. core
that ends because of its configuration ends the supervisor too: starting it again would not help.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
from typing import TYPE_CHECKING, Final

from agent import arguments
from agent.errors import DoorwardError, StorageError
from agent.local_client import LocalClient
from agent.operations import Operation

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from agent.config import Config

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0
"""A process that ran for so long starts again without a pause."""

END_S: Final = 15.0
HOPELESS: Final = frozenset({2, 4})
"""Exit codes that a new start does not mend: bad configuration, damaged state."""

log = logging.getLogger(__name__)


class Keeper:
    """Keeps one process running."""

    def __init__(self, module: str, options: list[str]) -> None:
        self._module = module
        self._options = options
        self._process: Process | None = None

    async def run(self) -> int:
        """Run it again and again; returns its exit code when starting again is hopeless."""
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                began = loop.time()
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", f"agent.{self._module}", *self._options
                )
                code = await self._process.wait()
                if code in HOPELESS and self._module == "core":
                    return code
                if loop.time() - began > STEADY_S:
                    pause_s = FIRST_PAUSE_S
                log.warning("%s ended (%s); starting it again", self._module, _ending(code))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        finally:
            await self._end()

    async def _end(self) -> None:
        """Ask it to stop; make it stop if it does not."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            log.warning("%s does not stop; killing it", self._module)
            process.kill()
            await process.wait()


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


async def serve(config: Config) -> None:
    """Run both processes until SIGTERM or SIGINT.

    Raises:
        StorageError: core cannot run; it has said why.
    """
    options = sys.argv[1:]
    core, net = Keeper("core", options), Keeper("net", options)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(core.run())
        tasks = [group.create_task(net.run()), group.create_task(_greet(config))]
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        running.add_done_callback(lambda _: [task.cancel() for task in tasks])
    if not running.cancelled():
        raise StorageError("core cannot run", hint="see what it said above")


async def _greet(config: Config) -> None:
    """Once core answers, say what to do next; for a fresh device, with a pairing code."""
    while not config.door.exists():  # noqa: ASYNC110 - a file sets no event
        await asyncio.sleep(0.1)
    try:
        text = await asyncio.to_thread(_greeting, config)
    except DoorwardError as error:
        log.warning("%s", error)
        return
    print(text, flush=True)  # noqa: T201 - for the person at the terminal


def _greeting(config: Config) -> str:
    with LocalClient(config.door) as door:
        status, _ = door.call(Operation.STATUS)
        if status.get("paired"):
            return "\ndoorward: recording. In a second shell: doorward status\n"
        code, _ = door.call(Operation.NEW_CODE)
    return "\n".join(
        (
            "",
            "doorward: running, and recording nothing yet: this device has no owner to record for.",
            "",
            f"    Pairing code: {code.get('code')}   (good for ten minutes)",
            "",
            "In a second shell, in this directory:",
            "    . .venv/bin/activate",
            "    doorward owner init --name Me       # once: your keys, and your recovery code on paper",
            f"    doorward pair --code {code.get('code')}",
            "    doorward status",
            "",
        )
    )


def main() -> None:
    """Entry point of the supervisor."""
    sys.exit(arguments.run("supervisor", serve))


if __name__ == "__main__":
    main()
