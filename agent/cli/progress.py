"""A bar for what takes long: shown to a person at a terminal, and only once it has taken two seconds."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, TypeVar

import click

from agent.consent.times import SECOND_NS
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
PATIENCE_NS: Final = 2 * SECOND_NS
_STEP: Final = 256
"""How many items pass between two looks at the clock."""


def shown(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Pass ``items`` on, about ``total`` of them, and show on standard error how far it is."""
    began, told = clock.boot_ns(), 0
    bar = None
    with ExitStack() as stack:
        for number, item in enumerate(items):
            yield item
            if number % _STEP or not sys.stderr.isatty():
                continue
            if bar is None and clock.boot_ns() - began > PATIENCE_NS:
                bar = stack.enter_context(click.progressbar(length=total, label=label, file=sys.stderr))
            if bar is not None:
                bar.update(number - told)
                told = number
