"""Which footage: what a request asks for, and what a token's scope covers of it.

A scope names one interval of the past, or how old footage may be when it is asked for. A scope for footage
that names neither covers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent import times
from agent.consent.fields import Fields
from agent.errors import DocumentError

if TYPE_CHECKING:
    from agent.consent.times import Interval

MAX_AGE_SECONDS: Final = 10 * 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Stretch:
    """Footage of [begin_ns, end_ns), UTC nanoseconds."""

    begin_ns: int
    end_ns: int

    @classmethod
    def parse(cls, value: object, where: str) -> Stretch:
        """Read it from a request.

        Raises:
            DocumentError: Malformed, or one that ends before it begins.
        """
        fields = Fields(value, where)
        stretch = cls(fields.time("begin"), fields.time("end"))
        fields.done()
        if stretch.end_ns <= stretch.begin_ns:
            raise DocumentError(f"{where}: ends before it begins")
        return stretch

    def to_json(self) -> dict[str, object]:
        """As it stands in documents."""
        return {"begin": times.written(self.begin_ns), "end": times.written(self.end_ns)}


@dataclass(frozen=True, slots=True)
class MaxAge:
    """Footage that is at most so old at the moment of the decision."""

    seconds: int

    def to_json(self) -> dict[str, object]:
        """As it stands in documents."""
        return {"max_age_seconds": self.seconds}


FootageScope = Stretch | MaxAge


def parse_scope(value: object, where: str) -> FootageScope:
    """Read a scope's ``footage``.

    Raises:
        DocumentError: Malformed, or interval and age together.
    """
    fields = Fields(value, where)
    if not fields.has("max_age_seconds"):
        return Stretch.parse(value, where)
    age = MaxAge(fields.integer("max_age_seconds", 1, MAX_AGE_SECONDS))
    fields.done()
    return age


def covers(scope: FootageScope | None, asked: Stretch | None, now: Interval) -> bool:
    """Whether all that is ``asked`` surely lies in ``scope``, whatever moment of ``now`` it is."""
    if scope is None or asked is None:
        return False
    if isinstance(scope, Stretch):
        return scope.begin_ns <= asked.begin_ns and asked.end_ns <= scope.end_ns
    oldest_ns = now.latest_ns - scope.seconds * times.SECOND_NS
    return oldest_ns <= asked.begin_ns and asked.end_ns <= now.earliest_ns
