"""The enforcement point: decide -> make durable -> permit. The only module that makes a `Permit`.

What it guarantees:

1. A permit exists only after the ledger holds the session's start, and after the decision still stood then.
2. A permit that has ended never lives again; `live` says so from any thread, without a lock, for every frame.
3. What restrains (revocation, shutter) acts in memory first (`restrain`), then is made durable by the caller,
   and then forgotten here, because from then on the state itself says no.
4. Every running session is decided anew whenever something changed (`reconsider`) and at its own end.

It never sends anything: `on_end` tells whoever shows frames to stop; they report back what was sent with
`record_end`. A session whose end was never recorded stays charged in full, and `close_off` says so at start.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from agent.consent.charter import Rollback
from agent.consent.decision import (
    Conditions,
    Decision,
    Denial,
    Grant,
    Step,
    Usage,
    decide,
    explain,
)
from agent.consent.fields import encode_bytes
from agent.consent.reasons import DenialReason, for_ended
from agent.consent.times import SECOND_NS
from agent.errors import DocumentError, LedgerError, Refused
from agent.ledger.entry import EntryKind
from agent.permit import Audience, Permit

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping

    from agent.consent.decision import Standing
    from agent.consent.handshake import Offer, Request
    from agent.consent.token import Token
    from agent.consent.view import Redaction, View
    from agent.ledger.keeper import Keeper
    from agent.ledger.state import State
    from agent.trusted_time import TrustedTime

_NO_TOKEN: Final = Denial(DenialReason.NO_TOKEN)
TICK_S: Final = 0.25
"""How often running sessions are decided anew while nothing says that something changed."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """How things are at this moment outside the ledger."""

    cameras: frozenset[str]
    redactions: frozenset[Redaction]
    most_viewers: int
    zones: Mapping[str, dt.tzinfo] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """A running session: its permit and what the decision was about."""

    permit: Permit
    request: Request
    offer: Offer
    token: str
    began_boot_ns: int


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that has ended but whose end is not recorded yet."""

    session: Session
    reason: DenialReason
    ended_boot_ns: int


@dataclass(frozen=True, slots=True)
class Restraint:
    """Something an owner has just taken away. All None means everything."""

    reason: DenialReason
    token: str | None = None
    agency: str | None = None

    def binds(self, token: str, agency: str) -> bool:
        """Whether it stops what runs under this token of this agency."""
        return (self.token is None or self.token == token) and (self.agency is None or self.agency == agency)


class Gate:
    """Makes permits and ends them. Everything but `live` runs on core's event loop."""

    def __init__(
        self,
        keeper: Keeper,
        time: TrustedTime,
        *,
        device: str,
        boot_ns: Callable[[], int],
        surroundings: Callable[[], Surroundings],
        on_end: Callable[[EndedSession], None],
    ) -> None:
        self._keeper = keeper
        self._time = time
        self._device = device
        self._boot_ns = boot_ns
        self._surroundings = surroundings
        self._on_end = on_end
        self._sessions: dict[int, Session] = {}
        self._restraints: list[Restraint] = []  # until their documents are durable
        self._held: set[Restraint] = set()  # until the next start
        self._opening = asyncio.Lock()
        self._changed = asyncio.Event()

    # What is known

    def live(self, number: int) -> bool:
        """Whether permit ``number`` may show a frame at this moment. From any thread."""
        session = self._sessions.get(number)
        return session is not None and self._boot_ns() < session.permit.ends_boot_ns

    def sessions(self) -> list[Session]:
        """The running sessions."""
        return list(self._sessions.values())

    def redactions(self) -> frozenset[Redaction]:
        """What this board can make unrecognisable."""
        return self._surroundings().redactions

    def seconds_left(self, session: Session) -> int:
        """Whole seconds until a session's end, as far as is known now."""
        return max(0, session.permit.ends_boot_ns - self._boot_ns()) // SECOND_NS

    def decide(self, request: Request) -> Decision:
        """What the answer to ``request`` would be now, under any token at hand."""
        state = self._keeper.state
        tokens, taken = self._tokens(state)
        decision = decide(
            request,
            charter=state.charter,
            tokens=tokens,
            state=state.standing,
            conditions=self._conditions(state, None),
            now=self._time.now(self._boot_ns()),
        )
        return taken if taken and decision == _NO_TOKEN else decision

    def explain(self, request: Request) -> tuple[Decision, tuple[Step, ...]]:
        """The same with every rule that was looked at. For owners only."""
        state = self._keeper.state
        tokens, taken = self._tokens(state)
        decision, steps = explain(
            request,
            charter=state.charter,
            tokens=tokens,
            state=state.standing,
            conditions=self._conditions(state, None),
            now=self._time.now(self._boot_ns()),
        )
        if taken and decision == _NO_TOKEN:
            step = Step("no owner has taken it away", holds=False, reason=taken.reason, subject="household")
            return taken, (*steps, step)
        return decision, steps

    def _tokens(self, state: State) -> tuple[list[Token], Denial | None]:
        """The tokens that no restraint binds, and the reason of one that binds others."""
        free, taken = [], None
        for token in state.live_tokens():
            restraint = self._restraint(token.id, token.agency)
            if restraint is None:
                free.append(token)
            else:
                taken = Denial(restraint.reason)
        return free, taken

    def _restraint(self, token: str, agency: str) -> Restraint | None:
        return next((each for each in (*self._restraints, *self._held) if each.binds(token, agency)), None)

    def _conditions(self, state: State, running: Session | None) -> Conditions:
        """Conditions at this moment; for a running session without that session."""
        others = [session for session in self._sessions.values() if session is not running]
        viewers: dict[str, int] = {}
        for session in others:
            viewers[session.token] = viewers.get(session.token, 0) + 1
        around = self._surroundings()
        elapsed_ns = self._boot_ns() - running.began_boot_ns if running else None
        confirmed = state.confirmed_since_boot or (
            state.charter is not None and state.charter.rollback is Rollback.WARN
        )
        return Conditions(
            device=self._device,
            ledger_durable=self._keeper.durable,
            confirmed_since_boot=confirmed,
            cameras=around.cameras,
            redactions=around.redactions,
            zones=around.zones,
            viewers=viewers,
            viewers_at_once=len(others),
            most_viewers=around.most_viewers,
            elapsed_seconds=elapsed_ns // SECOND_NS if elapsed_ns is not None else None,
        )

    def _decide_offer(self, request: Request, token: str, running: Session | None) -> Decision:
        restraint = self._restraint(token, request.agency)
        if restraint is not None:
            return Denial(restraint.reason)
        state = self._keeper.state
        held = state.tokens.get(token)
        return decide(
            request,
            charter=state.charter,
            tokens=[held.token] if held else [],
            state=_without(state, running),
            conditions=self._conditions(state, running),
            now=self._time.now(self._boot_ns()),
        )

    # Beginning

    async def open(self, request: Request, offer: Offer, offer_envelope: bytes) -> Permit:
        """Return a permit for the session that ``offer`` asks for, once its start is durable.

        ``request`` must be the recorded request that the offer cites.

        Raises:
            Refused: The decision is no; ``reason`` is the `DenialReason`. Nothing was recorded.
            LedgerError: The start could not be made durable. Nothing may be shown.
        """
        async with self._opening:
            self._notice_jump()
            if not self._accepts_terms(offer):
                # No such token, or other terms than the owners signed: the same to whoever asks.
                raise Refused("denied", reason=DenialReason.NO_TOKEN)
            decision = self._decide_offer(request, offer.token, None)
            if isinstance(decision, Denial):
                raise Refused("denied", reason=decision.reason)
            session = secrets.token_hex(4)
            began = self._boot_ns()
            body = _start_body(request, offer, offer_envelope, session, decision)
            try:
                number = await asyncio.to_thread(self._keeper.record, EntryKind.SESSION_START, body)
            except DocumentError as error:
                # The token went, or the offer's nonce was used, since it was looked at.
                raise Refused("denied", reason=DenialReason.NO_TOKEN) from error
            permit = self._permit(number, session, request, decision, began)
            running = Session(permit, request, offer, offer.token, began)
            # The world may have changed while the disk was busy: decide once more, as for a running session.
            again = self._decide_offer(request, offer.token, running)
            if isinstance(again, Denial) or again.view != permit.view:
                reason = again.reason if isinstance(again, Denial) else DenialReason.OUTSIDE_SCOPE
                await self._record_end(number, 0, 0, 0, reason)
                raise Refused("denied", reason=reason)
            self._sessions[number] = running
            self._changed.set()
            return permit

    def _accepts_terms(self, offer: Offer) -> bool:
        held = self._keeper.state.tokens.get(offer.token)
        return held is not None and held.token.terms == offer.terms

    def _permit(
        self, number: int, session: str, request: Request, grant: Grant, began_boot_ns: int
    ) -> Permit:
        charter = self._keeper.state.charter
        agency = charter.agency(request.agency) if charter else None
        name = agency.name if agency else ""
        return Permit(
            number=number,
            session=session,
            camera=request.camera,
            view=grant.view,
            caption=f"{name} | {request.purpose.reference} | {session}",
            audience=Audience.AGENCY,
            ends_boot_ns=began_boot_ns + grant.seconds * SECOND_NS,
        )

    # Ending

    @contextmanager
    def restrain(self, restraint: Restraint) -> Iterator[None]:
        """Stop at once, in memory, what ``restraint`` binds, and let nothing like it begin inside the block.

        The caller makes the owner's document durable inside. If that fails, the restraint stays for good:
        what an owner has taken away does not come back because a disk is full.
        """
        self._restraints.append(restraint)
        self._end_bound(restraint)
        yield
        self._restraints.remove(restraint)

    def hold(self, restraint: Restraint) -> None:
        """Restrain until the next start, with nothing to make durable: something is wrong with the ledger."""
        self._held.add(restraint)
        self._end_bound(restraint)

    def _end_bound(self, restraint: Restraint) -> None:
        for session in self.sessions():
            if restraint.binds(session.token, session.request.agency):
                self.end(session.permit.number, restraint.reason)

    def reconsider(self) -> None:
        """Decide every running session anew and end those that no longer stand."""
        self._notice_jump()
        now_boot_ns = self._boot_ns()
        for session in self.sessions():
            if now_boot_ns >= session.permit.ends_boot_ns:
                self.end(session.permit.number, DenialReason.TOKEN_EXPIRED)
                continue
            decision = self._decide_offer(session.request, session.token, session)
            if isinstance(decision, Denial):
                self.end(session.permit.number, decision.reason)
            elif decision.view != session.permit.view:
                # A narrower view is a new session: nothing of the old one may linger in an encoder.
                self.end(session.permit.number, DenialReason.OUTSIDE_SCOPE)
            else:
                self._shorten(session, now_boot_ns + decision.seconds * SECOND_NS)

    def _shorten(self, session: Session, ends_boot_ns: int) -> None:
        """Let it end sooner, if less time is left than when it began; never later."""
        if ends_boot_ns < session.permit.ends_boot_ns:
            permit = replace(session.permit, ends_boot_ns=ends_boot_ns)
            self._sessions[permit.number] = replace(session, permit=permit)

    def _notice_jump(self) -> None:
        """A clock that contradicts itself was wrong, before or now: whatever was decided by it ends."""
        if self._time.jumped(self._boot_ns()):
            self.end_all(DenialReason.TIME_UNTRUSTED)

    def end(self, number: int, reason: DenialReason) -> None:
        """End a session now. When this returns, `live` says no. Harmless if it has ended."""
        session = self._sessions.pop(number, None)
        if session is not None:
            self._on_end(EndedSession(session, reason, self._boot_ns()))

    def end_all(self, reason: DenialReason) -> None:
        """End every session now."""
        for session in self.sessions():
            self.end(session.permit.number, reason)

    async def record_end(self, ended: EndedSession, *, frames: int, sent_bytes: int) -> int | None:
        """Write a session's end to the ledger; the entry's number, or None if it could not be made durable.

        Without an end the session stays charged in full, so failing here gives nothing away.
        """
        used_ns = ended.ended_boot_ns - ended.session.began_boot_ns
        length_ns = ended.session.permit.ends_boot_ns - ended.session.began_boot_ns
        seconds = math.ceil(min(used_ns, length_ns) / SECOND_NS)
        return await self._record_end(ended.session.permit.number, seconds, frames, sent_bytes, ended.reason)

    async def _record_end(
        self, start: int, seconds: int, frames: int, sent_bytes: int, reason: DenialReason
    ) -> int | None:
        try:
            numbers = await asyncio.to_thread(
                self._keeper.record_many, _end_entries(start, seconds, frames, sent_bytes, reason)
            )
        except LedgerError:
            return None  # the keeper says so in `trouble`; sharing has stopped by itself
        return numbers[-1]

    def close_off(self) -> None:
        """At start: sessions left open by a crash are over, charged in full.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        for start, session in list(self._keeper.state.sessions.items()):
            entries = _end_entries(start, session.seconds, 0, 0, DenialReason.INTERRUPTED)
            self._keeper.record_many(entries)

    async def run(self) -> None:
        """Reconsider at every tick while sessions run; sleep without cost while none does. Never returns."""
        while True:
            self._changed.clear()
            if not self._sessions:
                await self._changed.wait()
            self.reconsider()
            await asyncio.sleep(self._next_tick_s())

    def _next_tick_s(self) -> float:
        ends = [session.permit.ends_boot_ns for session in self._sessions.values()]
        if not ends:
            return 0.0
        return max(0.0, min(TICK_S, (min(ends) - self._boot_ns()) / SECOND_NS))


def _without(state: State, running: Session | None) -> Standing:
    """The standing as if the running session had not been charged yet."""
    standing = state.standing
    charged = state.sessions.get(running.permit.number) if running else None
    if running is None or charged is None:
        return standing
    usage = standing.usage[running.token]
    without = Usage(usage.sessions - 1, usage.seconds - charged.seconds)
    return replace(standing, usage={**standing.usage, running.token: without})


def _start_body(
    request: Request, offer: Offer, offer_envelope: bytes, session: str, grant: Grant
) -> dict[str, object]:
    return {
        "request": request.id,
        "offer": encode_bytes(offer_envelope),
        "offer_id": offer.id,
        "nonce": encode_bytes(offer.nonce),
        "agency": request.agency,
        "operator": request.badge.operator,
        "token": grant.token,
        "session": session,
        "camera": request.camera,
        "seconds": grant.seconds,
        "view": view_json(grant.view),
    }


def view_json(view: View) -> dict[str, object]:
    """A view as the ledger writes it."""
    return {
        "areas": [[list(corner) for corner in polygon] for polygon in view.areas],
        "redaction": sorted(str(each) for each in view.redaction),
        "max_height": view.max_height,
        "max_fps": view.max_fps,
    }


def _end_entries(
    start: int, seconds: int, frames: int, sent_bytes: int, reason: DenialReason
) -> list[tuple[EntryKind, dict[str, object]]]:
    """Why it ended, for the owners; and the end, whose receipt the agency gets, in words it may hear."""
    return [
        (EntryKind.ENDED_BECAUSE, {"start": start, "reason": str(reason)}),
        (
            EntryKind.SESSION_END,
            {
                "start": start,
                "seconds": seconds,
                "frames": frames,
                "bytes": sent_bytes,
                "status": str(for_ended(reason)),
            },
        ),
    ]
