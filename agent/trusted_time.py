"""What time the device may believe it is (design section 4).

An interval [earliest, latest] anchored to CLOCK_BOOTTIME; the system clock need not agree. Owners' acts that
answer a fresh challenge anchor it as ``authenticated``: the owner signed after we issued the challenge and
before we received the act, so their clock's reading bounds ours. A witness's cosignature over a checkpoint
that was new does the same. A kernel clock that NTP keeps is ``plausible``. Everything else is None: recording
goes on, sharing does not.

Drift is taken as 100 ppm; an anchor holds for 24 hours. Floors taken from the ledger, and from every anchor
that there has been, keep time from running backwards; what NTP said binds NTP alone, for it may be anybody in
the network. What lies outside `EARLIEST_NS` and `LATEST_NS` nobody is believed. When owner and NTP are a day
apart, neither is: one of them is wrong, and to believe the wrong one would raise a floor that stays. Pure but
for the readings handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent.times import SECOND_NS, Interval, TimeQuality

if TYPE_CHECKING:
    from collections.abc import Callable

DRIFT_PPM: Final = 100
HOLDOVER_NS: Final = 24 * 3600 * SECOND_NS
OWNER_CLOCK_NS: Final = 2 * SECOND_NS
"""How wrong an owner's own clock may be."""

WITNESS_CLOCK_NS: Final = 2 * SECOND_NS
"""How wrong a witness's clock may be."""

WRITTEN_NS: Final = SECOND_NS
"""Both are written in whole seconds, cut off."""

NTP_MARGIN_NS: Final = SECOND_NS
EARLIEST_NS: Final = 1_735_689_600 * SECOND_NS
"""2025-01-01: there was no Doorward before."""

LATEST_NS: Final = 4_102_444_800 * SECOND_NS
"""2100-01-01: far within what ledger entries and segment headers can write, so no clock stops them."""

DISPUTE_NS: Final = 24 * 3600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class _Anchor:
    boot_ns: int
    earliest_ns: int
    latest_ns: int


def _bounds(said_ns: int, clock_ns: int, waited_ns: int) -> tuple[int, int]:
    """Within what the true time lies when something arrives that was said during the last ``waited_ns``."""
    return said_ns - clock_ns, said_ns + WRITTEN_NS + clock_ns + waited_ns


def _is_possible(said: tuple[int, int]) -> bool:
    return EARLIEST_NS <= said[0] <= said[1] <= LATEST_NS


def _apart(one: Interval, other: Interval) -> int:
    """Nanoseconds between two intervals; nothing or less if they meet."""
    return max(one.earliest_ns, other.earliest_ns) - min(one.latest_ns, other.latest_ns)


class TrustedTime:
    """Holds the anchor and the floors. Not thread-safe beyond single reads and writes of references."""

    def __init__(
        self,
        plausible: Callable[[], tuple[int, int] | None],
        *,
        floors: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        """Know nothing yet.

        ``plausible()`` gives (utc ns, error bound ns) while NTP keeps the clock; ``floors()`` the moments
        (utc ns) before which, by the ledger, nobody is believed, and NTP is not.
        """
        self._plausible = plausible
        self._floors = floors
        self._anchor: _Anchor | None = None
        self._anchored_ns = 0  # what the anchors before this one leave as the earliest moment
        self._last: tuple[int, Interval] | None = None  # what `jumped` saw

    def owner_said(self, signed_at_ns: int, *, issued_boot_ns: int, received_boot_ns: int) -> bool:
        """Anchor to an owner's act over a fresh challenge.

        Returns:
            Whether this contradicts what was believed before (a jump).
        """
        said = _bounds(signed_at_ns, OWNER_CLOCK_NS, received_boot_ns - issued_boot_ns)
        if not _is_possible(said):
            return False
        jump = not self._take(said, received_boot_ns)
        if jump:
            self._set(said, received_boot_ns)
        return jump

    def witness_said(self, timestamp_ns: int, *, made_boot_ns: int, received_boot_ns: int) -> bool:
        """Anchor to a witness's cosignature over a checkpoint that did not exist before ``made_boot_ns``.

        The household chose its witnesses for another purpose than to tell the time: one that contradicts
        what an owner's act or another witness said is not believed.

        Returns:
            Whether it was believed.
        """
        said = _bounds(timestamp_ns, WITNESS_CLOCK_NS, received_boot_ns - made_boot_ns)
        return _is_possible(said) and said[1] >= self._floor_ns() and self._take(said, received_boot_ns)

    def _take(self, said: tuple[int, int], boot_ns: int) -> bool:
        """Make the anchor of what was said and what was known; False if they contradict each other."""
        before = self._authenticated(boot_ns)
        if before is not None:
            said = max(said[0], before.earliest_ns), min(said[1], before.latest_ns)
        if said[0] > said[1]:
            return False
        self._set(said, boot_ns)
        return True

    def _set(self, said: tuple[int, int], boot_ns: int) -> None:
        """Replace the anchor. That it no longer holds does not make the time run backwards."""
        before = self._anchor
        if before is not None:
            elapsed = max(0, boot_ns - before.boot_ns)
            earliest = before.earliest_ns + elapsed - elapsed * DRIFT_PPM // 1_000_000
            self._anchored_ns = max(self._anchored_ns, earliest)
        self._anchor = _Anchor(boot_ns, *said)

    def _floor_ns(self) -> int:
        return max(self._floors()[0], self._anchored_ns)

    def _authenticated(self, boot_ns: int) -> Interval | None:
        anchor = self._anchor
        if anchor is None:
            return None
        elapsed = boot_ns - anchor.boot_ns
        if not 0 <= elapsed <= HOLDOVER_NS:
            return None
        drift = elapsed * DRIFT_PPM // 1_000_000
        return Interval(
            anchor.earliest_ns + elapsed - drift,
            anchor.latest_ns + elapsed + drift,
            TimeQuality.AUTHENTICATED,
        )

    def now(self, boot_ns: int) -> Interval | None:
        """What is known at ``boot_ns`` (CLOCK_BOOTTIME), or None.

        A source that lies wholly before its floor is not believed.
        """
        said, ntp, floor_ns = self._authenticated(boot_ns), self._by_ntp(), self._floor_ns()
        if said is not None and ntp is not None and _apart(said, ntp) > DISPUTE_NS:
            return None
        for interval, floor in ((said, floor_ns), (ntp, max(floor_ns, self._floors()[1]))):
            if interval is not None and interval.latest_ns >= floor:
                return Interval(max(interval.earliest_ns, floor), interval.latest_ns, interval.quality)
        return None

    def jumped(self, boot_ns: int) -> bool:
        """Whether what is known at ``boot_ns`` contradicts what was known when this was last asked."""
        now, last = self.now(boot_ns), self._last
        if now is None:
            return False
        self._last = boot_ns, now
        if last is None:
            return False
        then, before = last
        elapsed = boot_ns - then
        drift = elapsed * DRIFT_PPM // 1_000_000
        return (
            now.latest_ns < before.earliest_ns + elapsed - drift
            or before.latest_ns + elapsed + drift < now.earliest_ns
        )

    def _by_ntp(self) -> Interval | None:
        reading = self._plausible()
        if reading is None:
            return None
        utc_ns, bound_ns = reading
        bound = bound_ns + NTP_MARGIN_NS
        if not _is_possible((utc_ns - bound, utc_ns + bound)):
            return None
        return Interval(utc_ns - bound, utc_ns + bound, TimeQuality.PLAUSIBLE)
