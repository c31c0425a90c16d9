"""What a consent would allow in days to come, by asking `decide` itself at every moment that could matter.

Between two such moments (windows of the consent and of rules open or close, the consent begins or ends, the
alarm ends) nothing that `decide` looks at changes. What nobody can foresee is taken as it should be: the
ledger durable and confirmed, the time known, the camera delivering, a place free.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.consent import decision as decisions
from agent.consent.decision import Conditions, Denial, Grant
from agent.consent.footage import MaxAge, Stretch
from agent.consent.handshake import Badge, Request
from agent.consent.rules import Mode
from agent.consent.times import SECOND_NS, Interval, TimeQuality

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping

    from agent.consent.charter import Charter
    from agent.consent.decision import Decision, Standing
    from agent.consent.token import Token
    from agent.consent.view import Redaction
    from agent.consent.windows import Weekly

_ANY_ID: Final = "sha256:" + "0" * 64
_LONG_S: Final = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Span:
    """One answer from ``begin_ns`` until ``end_ns`` (UTC nanoseconds)."""

    begin_ns: int
    end_ns: int
    decision: Decision
    by_alarm: bool  # denied, but not while the household's alarm is on

    @property
    def allowed(self) -> bool:
        """Whether a request that fits is granted."""
        return isinstance(self.decision, Grant)


def asking(token: Token, *, begin_ns: int, end_ns: int) -> Request:
    """A request that asks for all that ``token`` could give, alive from begin to end."""
    scope = token.scope
    badge = Badge(token.agency, "anybody", "0", bytes(32), 0, end_ns + _LONG_S * SECOND_NS)
    footage = scope.footage
    if isinstance(footage, MaxAge):
        footage = Stretch(begin_ns - SECOND_NS, begin_ns)
    return Request(
        id=token.re or _ANY_ID,
        badge=badge,
        badge_envelope=b"",
        device=token.device,
        household=token.household,
        mode=scope.mode,
        camera=scope.cameras[0],
        purpose=token.purpose,
        seconds=_LONG_S,
        max_height=scope.max_height,
        max_fps=scope.max_fps,
        areas=(),
        tokens=(),
        issued_at_ns=begin_ns,
        expires_at_ns=end_ns + SECOND_NS,
        nonce=bytes(16),
        reply_key=bytes(32),
        footage=footage if scope.mode is Mode.FOOTAGE else None,
    )


def conditions(
    token: Token, zones: Mapping[str, dt.tzinfo], redactions: frozenset[Redaction] = frozenset()
) -> Conditions:
    """A device at its best."""
    return Conditions(
        device=token.device,
        ledger_durable=True,
        confirmed_since_boot=True,
        cameras=frozenset(token.scope.cameras),
        redactions=redactions,
        zones=zones,
        most_viewers=1,
    )


def foresee(
    token: Token,
    charter: Charter,
    standing: Standing,
    zones: Mapping[str, dt.tzinfo],
    *,
    begin_ns: int,
    end_ns: int,
    redactions: frozenset[Redaction] = frozenset(),
) -> list[Span]:
    """What ``token`` allows in [begin_ns, end_ns), in order, without gaps; times in whole seconds."""
    anybody = replace(token, operators=())
    request = asking(anybody, begin_ns=begin_ns, end_ns=end_ns)
    alarmed = replace(standing, alarm_until_ns=end_ns + _LONG_S * SECOND_NS)
    edges = sorted({begin_ns, end_ns, *_edges(token, charter, standing, zones, begin_ns, end_ns)})
    spans: list[Span] = []

    def decide(state: Standing, at_ns: int) -> Decision:
        return decisions.decide(
            request,
            charter=charter,
            tokens=[anybody],
            state=state,
            conditions=conditions(anybody, zones, redactions),
            now=Interval(at_ns, at_ns, TimeQuality.AUTHENTICATED),
        )

    for at_ns, until_ns in itertools.pairwise(edges):
        decision = decide(standing, at_ns)
        by_alarm = isinstance(decision, Denial) and isinstance(decide(alarmed, at_ns), Grant)
        if isinstance(decision, Grant):
            decision = replace(decision, seconds=min(decision.seconds, (until_ns - at_ns) // SECOND_NS))
        last = spans[-1] if spans else None
        if last is not None and _same(last, decision, by_alarm=by_alarm):
            spans[-1] = replace(last, end_ns=until_ns)
        else:
            spans.append(Span(at_ns, until_ns, decision, by_alarm))
    return spans


def _same(span: Span, decision: Decision, *, by_alarm: bool) -> bool:
    if isinstance(span.decision, Grant) and isinstance(decision, Grant):
        return span.decision.view == decision.view
    return (span.decision, span.by_alarm) == (decision, by_alarm)


def _edges(
    token: Token,
    charter: Charter,
    standing: Standing,
    zones: Mapping[str, dt.tzinfo],
    begin_ns: int,
    end_ns: int,
) -> Iterator[int]:
    for at_ns in (token.scope.not_before_ns, token.scope.not_after_ns, standing.alarm_until_ns):
        if begin_ns < at_ns < end_ns:
            yield at_ns
    begin, end = begin_ns // SECOND_NS, end_ns // SECOND_NS
    for weekly in _weeklies(token, charter):
        zone = zones.get(weekly.zone)
        at: int | None = begin
        while zone is not None and at is not None:
            at = weekly.flips_after(at, end, zone)
            if at is not None and at < end:
                yield at * SECOND_NS


def _weeklies(token: Token, charter: Charter) -> Iterator[Weekly]:
    if token.scope.windows is not None:
        yield token.scope.windows
    for rule in charter.rules:
        for when in (rule.when, rule.unless):
            if when is not None and when.hours is not None:
                yield when.hours
