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
import textwrap
from typing import TYPE_CHECKING, Final

from agent import arguments
from agent import config as configs
from agent.consent import envelope
from agent.errors import ConfigError, DoorwardError, IntegrityError, Refused, Unreachable
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

GREETING_S: Final = 5.0
"""How long cameras have to begin before the greeting says how they are."""

log = logging.getLogger("agent.supervisor")  # as __main__ it would not say which of the three processes


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
        Refused: An agent runs there already.
        ConfigError, IntegrityError: core cannot run; it has said why.
    """
    await asyncio.to_thread(_refuse_second, config)
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
        damaged = running.result() == IntegrityError.exit_code
        raise (IntegrityError if damaged else ConfigError)("core cannot run", hint="see what it said above")


def _refuse_second(config: Config) -> None:
    """Say so at once; the second core would end on the ledger's lock again and again, and say less.

    Raises:
        Refused: Somebody answers at the local door.
    """
    try:
        with LocalClient(config.door):
            pass
    except Unreachable:
        return
    raise Refused(
        f"an agent is running already at {config.run.parent}",
        reason="running",
        hint="stop it with Ctrl-C in its terminal, or start this one elsewhere: --home DIRECTORY",
    )


async def _greet(config: Config) -> None:
    """Once core answers, say what to do next; for a fresh device, with a pairing code."""
    loop = asyncio.get_running_loop()
    until: float | None = None
    while True:
        try:
            text = await asyncio.to_thread(_greeting, config, last=until is not None and loop.time() > until)
        except Unreachable:
            text = None  # A door that an earlier run left behind looks the same as one not made yet.
        except DoorwardError as error:
            log.warning("%s", error)
            return
        else:
            until = until or loop.time() + GREETING_S
        if text is not None:
            print(text, flush=True)  # noqa: T201 - for the person at the terminal
            return
        await asyncio.sleep(0.1)


def _greeting(config: Config, *, last: bool) -> str | None:
    """The text; None while a camera may still begin, unless this is the last time of asking."""
    home = config.run.parent
    where = "" if home == configs.default_home() else f" --home {home}"
    with LocalClient(config.door) as door:
        status, _ = door.call(Operation.STATUS)
        if not status.get("paired"):
            code, _ = door.call(Operation.NEW_CODE)
            key = " ".join(
                textwrap.wrap(envelope.short(str(status.get("device"))), 4)
            )  # as the command shows keys
            return _fresh(str(code.get("code")), key, where)
    cameras = status.get("cameras")
    idle = (
        [str(each["name"]) for each in cameras if not each["recording"]] if isinstance(cameras, list) else []
    )
    if idle and not last:
        return None
    lines = [
        "",
        f"doorward: running, and NOT recording {', '.join(idle)}." if idle else "doorward: recording.",
    ]
    ledger = status.get("ledger")
    if isinstance(ledger, dict) and not ledger.get("confirmed_since_boot"):
        lines.append("Sharing waits until an owner signs something; granting a request is enough.")
    lines += [f"In a second shell: doorward status{where}", "Ctrl-C here stops it.", ""]
    return "\n".join(lines)


def _fresh(code: str, key: str, where: str) -> str:
    return "\n".join(
        (
            "",
            "doorward: running, and recording nothing yet: this device has no owner to record for.",
            "",
            f"    Pairing code: {code}   (good for ten minutes)",
            f"    Device key:   {key}",
            "",
            "In a second shell, in this directory:",
            "    . .venv/bin/activate",
            '    doorward owner init --name "Your name"   # once: your keys, and a recovery code for paper',
            f"    doorward pair --code {code}{where}",
            f"    doorward status{where}",
            "Ctrl-C here stops it.",
            "",
        )
    )


def main() -> None:
    """Entry point of the supervisor."""
    sys.exit(arguments.run("supervisor", serve))


if __name__ == "__main__":
    main()
