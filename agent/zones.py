"""Time zones by name, for windows and rules: the one place that reads the zone database.

What the household's documents name is loaded once. A name that the database does not know stays out, and
windows in it permit nothing and deny always (`agent.consent.windows`).
"""

from __future__ import annotations

import zoneinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping

    from agent.consent.charter import Charter
    from agent.consent.token import Token
    from agent.ledger.state import State


class Zones:
    """The zones that a state names, loaded again only when the state has changed."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._loaded: Mapping[str, dt.tzinfo] = {}

    def of(self, state: State) -> Mapping[str, dt.tzinfo]:
        """Zones by name, for everything that ``state`` holds."""
        if state is not self._state:
            tokens = [held.token for held in state.tokens.values()]
            self._loaded = load(set(named(state.charter, tokens)))
            self._state = state
        return self._loaded


def named(charter: Charter | None, tokens: list[Token]) -> Iterator[str]:
    """The names of zones in a charter's rules and in tokens."""
    for rule in charter.rules if charter else ():
        for condition in (rule.when, rule.unless):
            if condition is not None and condition.hours is not None:
                yield condition.hours.zone
    for token in tokens:
        if token.scope.windows is not None:
            yield token.scope.windows.zone


def load(names: set[str]) -> dict[str, dt.tzinfo]:
    """Zones by name; unknown names are left out."""
    known: dict[str, dt.tzinfo] = {}
    for name in names:
        try:
            known[name] = zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            continue
    return known
