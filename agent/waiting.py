"""Requests that wait for an owner: which do, how long still, and which have lapsed.

A request waits from its entry in the ledger until an owner's consent grants it, an owner says "not now", or
it ends. Which one it was its agency cannot tell: of an answer it hears, of anything else it hears nothing
until `DELAY_NS` after the request's end, and then always the same. That moment is settled when the request
comes, so that no act of an owner, which also tells the device the time, moves it. What waits is the fold of
the ledger; in memory alone stand requests that could not be recorded, so that a full disk sounds like any
other silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent import times
from agent.consent.decision import Grant
from agent.consent.reasons import DenialReason
from agent.consent.times import TimeQuality

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.consent.handshake import Request
    from agent.gate import Gate
    from agent.ledger.keeper import Keeper
    from agent.ledger.state import HeldRequest
    from agent.trusted_time import TrustedTime

DELAY_NS: Final = 5 * times.SECOND_NS
"""Between a request's end and the word that nobody answered: as long, whatever the silence was."""

UNRECORDED_MOST: Final = 256
SHORTEST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
"""How long a loop sleeps at most, should the time become known only later."""

_NOBODY_CAN_ANSWER: Final = frozenset(
    {
        DenialReason.UNKNOWN_AGENCY,
        DenialReason.AGENCY_BLOCKED,
        DenialReason.UNKNOWN_CAMERA,
        DenialReason.REQUEST_STALE,
    }
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a request stands, for owners: a word, the decision's reason now, and seconds until it lapses."""

    word: str  # waiting, granted, dismissed, or closed: no owner can answer it
    decision: str
    lapses_in_s: int | None  # None: the device does not know the time


class Waiting:
    """Watches over the requests that the state holds. On core's event loop."""

    def __init__(self, keeper: Keeper, gate: Gate, time: TrustedTime, boot_ns: Callable[[], int]) -> None:
        self._keeper = keeper
        self._gate = gate
        self._time = time
        self._boot_ns = boot_ns
        self._began_ns = boot_ns()
        self._due_ns: dict[str, int] = {}
        self._unrecorded: dict[str, Request] = {}

    def arrived(self, request: Request, *, recorded: bool) -> None:
        """A request has come in: now it is settled when it is over, whatever owners do meanwhile."""
        if not recorded and len(self._unrecorded) >= UNRECORDED_MOST:
            return
        boot_ns = self._boot_ns()
        lifetime_ns = request.expires_at_ns - request.issued_at_ns
        self._due_ns[request.id] = self._by_clock(request) or boot_ns + lifetime_ns + DELAY_NS
        if not recorded:
            self._unrecorded[request.id] = request

    def gone(self, request: str) -> None:
        """It has lapsed and its agency was told."""
        self._unrecorded.pop(request, None)

    def due(self) -> list[Request]:
        """Requests whose agencies must be told now that nobody answered."""
        boot_ns = self._boot_ns()
        kept = self._keeper.state.requests.keys() | self._unrecorded.keys()
        self._due_ns = {name: at for name, at in self._due_ns.items() if name in kept}
        return [request for request in self._open() if self._due(request) <= boot_ns]

    def next_end_s(self) -> float | None:
        """How long to sleep until the next may be due; None while nothing waits."""
        due = [self._due(request) for request in self._open()]
        if not due:
            return None
        left_s = (min(due) - self._boot_ns()) / times.SECOND_NS
        return min(max(left_s, SHORTEST_WAIT_S), LONGEST_WAIT_S)

    def _open(self) -> list[Request]:
        held = self._keeper.state.requests.values()
        return [each.request for each in held if not each.granted] + list(self._unrecorded.values())

    def _due(self, request: Request) -> int:
        """When its end and the delay have surely passed, in nanoseconds of CLOCK_BOOTTIME."""
        if request.id not in self._due_ns:
            # From before our start. Without the time, wait as long as it can still live.
            due_ns = self._by_clock(request)
            if due_ns is None:
                return self._began_ns + request.expires_at_ns - request.issued_at_ns + DELAY_NS
            self._due_ns[request.id] = due_ns
        return self._due_ns[request.id]

    def _by_clock(self, request: Request) -> int | None:
        boot_ns = self._boot_ns()
        now = self._time.now(boot_ns)
        if now is None or now.quality is TimeQuality.UNTRUSTED:
            return None
        return boot_ns + request.expires_at_ns + DELAY_NS - now.earliest_ns

    def standing(self, held: HeldRequest) -> Standing:
        """How one request stands."""
        decision = self._gate.decide(held.request)
        reason = None if isinstance(decision, Grant) else decision.reason
        now = self._time.now(self._boot_ns())
        left_ns = None if now is None else held.request.expires_at_ns - now.latest_ns
        if reason in _NOBODY_CAN_ANSWER:
            word = "closed"
        elif held.granted or reason is None:
            word = "granted"
        else:
            word = "dismissed" if held.dismissed else "waiting"
        left_s = None if left_ns is None else max(0, left_ns // times.SECOND_NS)
        return Standing(word, str(reason or "granted"), left_s)

    def glance(self) -> dict[str, object]:
        """How many wait for an owner, since when, and when the next one lapses; for people."""
        waiting = []
        for held in self._keeper.state.requests.values():
            standing = self.standing(held)
            if standing.word == "waiting":
                waiting.append((held.request.issued_at_ns, standing.lapses_in_s))
        ends = [left for _, left in waiting if left is not None]
        return {
            "pending": len(waiting),
            "pending_since": times.written(min(at for at, _ in waiting)) if waiting else None,
            "pending_lapses_in_s": min(ends) if ends else None,
        }
