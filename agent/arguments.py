"""What the processes of the device have in common at start: arguments, logging, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent import config
from agent.errors import ConfigError, DoorwardError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from agent.config import Config


def parser(name: str) -> argparse.ArgumentParser:
    """Arguments that core, net and the supervisor share."""
    arguments = argparse.ArgumentParser(prog=f"python -m agent.{name}")
    arguments.add_argument("--config", type=Path, help="configuration file (YAML); without: the defaults")
    arguments.add_argument(
        "--home", type=Path, default=config.default_home(), help="where state lives (default: ./var)"
    )
    return arguments


def start_logging() -> None:
    """To standard error, one line each, without personal data."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    # It names every address tried, the viewer's and the home's.
    logging.getLogger("aioice").setLevel(logging.WARNING)


def say(error: DoorwardError) -> None:
    """An error as people see it."""
    print(f"doorward: error: {error}", file=sys.stderr)  # noqa: T201 - for whoever started us
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201 - likewise


def run(name: str, serve: Callable[[Config], Coroutine[None, None, None]]) -> int:
    """Read the configuration and run one process; its exit code."""
    arguments = parser(name).parse_args()
    start_logging()
    try:
        loaded = config.load(arguments.config, home=arguments.home.absolute())
        asyncio.run(serve(loaded))
    except DoorwardError as error:
        say(error)
        return error.exit_code
    except BaseExceptionGroup as group:
        if group.split(DoorwardError)[1] is not None:
            raise  # a mistake of ours among them must not pass for one of theirs
        known = list(_leaves(group))
        for each in known:
            say(each)
        # Exit codes 2 and 4 tell a supervisor not to start it again: only for what a start cannot mend.
        lasting = [each for each in known if isinstance(each, ConfigError | IntegrityError)]
        return lasting[0].exit_code if lasting else 1
    return 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[DoorwardError]:
    """The errors of ours in a group of groups: a part of a process ends it with all groups around it."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        elif isinstance(each, DoorwardError):
            yield each


def end_all_tasks() -> None:
    """Cancel every other task of this loop: what a task group needs to come to an end."""
    current = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not current:
            task.cancel()
