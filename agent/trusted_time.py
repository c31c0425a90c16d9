"""What time the device may believe it is (design section 4).

An interval [earliest, latest] anchored to CLOCK_BOOTTIME; the system clock need not agree. Owners' acts that
answer a fresh challenge anchor it as ``authenticated``: the owner signed after we issued the challenge and
before we received the act, so their clock's reading bounds ours. A witness's cosignature over a checkpoint
that was new does the same. A kernel clock that NTP keeps is ``plausible``. Everything else is None: recording
goes on, sharing does not.

Drift is taken as 100 ppm; an anchor holds for 24 hours; a floor taken from the ledger keeps time from running
backwards. Pure but for the readings handed in.
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


@dataclass(frozen=True, slots=True)
class _Anchor:
    boot_ns: int
    earliest_ns: int
    latest_ns: int


def _bounds(said_ns: int, clock_ns: int, waited_ns: int) -> tuple[int, int]:
    """Within what the true time lies when something arrives that was said during the last ``waited_ns``."""
    return said_ns - clock_ns, said_ns + WRITTEN_NS + clock_ns + waited_ns


class TrustedTime:
    """Holds the anchor and the floor. Not thread-safe beyond single reads and writes of references."""

    def __init__(self, plausible: Callable[[], tuple[int, int] | None]) -> None:
        """Know nothing yet; ``plausible()`` gives (utc ns, error bound ns) while NTP keeps the clock."""
        self._plausible = plausible
        self._anchor: _Anchor | None = None
        self._floor_ns = 0
        self._last: tuple[int, Interval] | None = None  # what `jumped` saw

    def raise_floor(self, utc_ns: int) -> None:
        """No time before ``utc_ns`` is believed again."""
        self._floor_ns = max(self._floor_ns, utc_ns)

    def owner_said(self, signed_at_ns: int, *, issued_boot_ns: int, received_boot_ns: int) -> bool:
        """Anchor to an owner's act over a fresh challenge.

        Returns:
            Whether this contradicts what was believed before (a jump).
        """
        said = _bounds(signed_at_ns, OWNER_CLOCK_NS, received_boot_ns - issued_boot_ns)
        jump = not self._take(said, received_boot_ns)
        if jump:
            self._anchor = _Anchor(received_boot_ns, *said)
        return jump

    def witness_said(self, timestamp_ns: int, *, made_boot_ns: int, received_boot_ns: int) -> bool:
        """Anchor to a witness's cosignature over a checkpoint that did not exist before ``made_boot_ns``.

        The household chose its witnesses for another purpose than to tell the time: one that contradicts
        what an owner's act or another witness said is not believed.

        Returns:
            Whether it was believed.
        """
        said = _bounds(timestamp_ns, WITNESS_CLOCK_NS, received_boot_ns - made_boot_ns)
        return said[1] >= self._floor_ns and self._take(said, received_boot_ns)

    def _take(self, said: tuple[int, int], boot_ns: int) -> bool:
        """Make the anchor of what was said and what was known; False if they contradict each other."""
        before = self._authenticated(boot_ns)
        if before is not None:
            said = max(said[0], before.earliest_ns), min(said[1], before.latest_ns)
        if said[0] > said[1]:
            return False
        self._anchor = _Anchor(boot_ns, *said)
        return True

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

        A source that lies wholly before the floor is not believed.
        """
        for interval in (self._authenticated(boot_ns), self._by_ntp()):
            if interval is not None and interval.latest_ns >= self._floor_ns:
                earliest = max(interval.earliest_ns, self._floor_ns)
                return Interval(earliest, interval.latest_ns, interval.quality)
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
        return Interval(utc_ns - bound, utc_ns + bound, TimeQuality.PLAUSIBLE)
