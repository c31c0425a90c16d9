"""The one function that says yes.

`decide` is total and pure: it raises nothing, reads no clock, and equal arguments give equal results. Rules
run in a fixed order; the first that fails names the reason; falling off the end is a denial. A condition on
time holds only if it holds on all of the interval ``now``. A grant is the intersection of what was asked,
what the token's scope allows and what the household's rules leave.

Signatures are not looked at here: requests come from `handshake.verify_request`, tokens from `token.verify`
at acceptance, the charter from `charter.verify_*`. `explain` runs the very same rules and keeps them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.consent import footage
from agent.consent.acts import ShutterState
from agent.consent.reasons import DenialReason
from agent.consent.rules import Caps, Effect, Mode, PurposeKind, Situation
from agent.consent.times import SECOND_NS, Interval, TimeQuality
from agent.consent.view import Redaction, View

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agent.consent.charter import Charter
    from agent.consent.handshake import Request
    from agent.consent.token import Token
    from hal.camera import Polygon

    _Checks = Iterator[tuple[str, bool, DenialReason]]

WHOLE_PICTURE: Polygon = ((0, 0), (10_000, 0), (10_000, 10_000), (0, 10_000))


@dataclass(frozen=True, slots=True)
class OwnerViewing:
    """An owner looks at their own camera live, under a signed request with a fresh challenge."""

    camera: str
    seconds: int
    max_height: int
    max_fps: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a token has been used for: sessions begun, seconds charged."""

    sessions: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """The consent state, as folded from the ledger."""

    shutter: ShutterState = ShutterState.OPEN
    epoch: int = 0
    floor: int = 0
    agency_floors: Mapping[str, int] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    alarm_until_ns: int = 0  # UTC; the alarm is on before it
    usage: Mapping[str, Usage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How things are at this device at this moment. For a running session, without that session."""

    device: str
    ledger_durable: bool
    confirmed_since_boot: bool
    cameras: frozenset[str]  # delivering pictures now
    redactions: frozenset[Redaction]  # what this board can do
    zones: Mapping[str, dt.tzinfo] = field(default_factory=dict)  # those that charter and tokens name
    viewers: Mapping[str, int] = field(default_factory=dict)  # by token id
    viewers_at_once: int = 0  # all agencies' permits
    most_viewers: int = 0
    elapsed_seconds: int | None = None  # of a running session, whole ones; its request may lapse meanwhile


@dataclass(frozen=True, slots=True)
class Grant:
    """Yes: what may be shown, under which token, for how long at most (still, of a running session)."""

    view: View
    seconds: int
    token: str | None  # None: an owner's own viewing


@dataclass(frozen=True, slots=True)
class Denial:
    """No, and the first rule that failed."""

    reason: DenialReason


Decision = Grant | Denial


@dataclass(frozen=True, slots=True)
class Step:
    """One rule and its outcome, for the owners' explanation."""

    rule: str
    holds: bool
    reason: DenialReason | None
    subject: str  # what it was held against: "household", or a token's id


def decide(
    request: Request | OwnerViewing,
    *,
    charter: Charter | None,
    tokens: Sequence[Token],
    state: Standing,
    conditions: Conditions,
    now: Interval | None,
) -> Decision:
    """Decide what ``request`` may see. The only function in Doorward that grants access.

    ``now`` is None when the device has no idea what time it is; for outsiders that is always a denial.
    """
    return _walk(
        request,
        charter=charter,
        tokens=tokens,
        state=state,
        conditions=conditions,
        now=now,
        note=lambda _: None,
    )


def explain(
    request: Request | OwnerViewing,
    *,
    charter: Charter | None,
    tokens: Sequence[Token],
    state: Standing,
    conditions: Conditions,
    now: Interval | None,
) -> tuple[Decision, tuple[Step, ...]]:
    """The decision together with every rule that was looked at, in order. For owners only."""
    steps: list[Step] = []
    decision = _walk(
        request,
        charter=charter,
        tokens=tokens,
        state=state,
        conditions=conditions,
        now=now,
        note=steps.append,
    )
    return decision, tuple(steps)


def _walk(
    request: Request | OwnerViewing,
    *,
    charter: Charter | None,
    tokens: Sequence[Token],
    state: Standing,
    conditions: Conditions,
    now: Interval | None,
    note: Callable[[Step], None],
) -> Decision:
    if charter is None:
        return Denial(DenialReason.NOT_AN_OWNER)
    if isinstance(request, OwnerViewing):
        checks = _owner_checks(request, charter, conditions)
        failed = _first_failure(checks, "household", note)
        return Denial(failed) if failed else _owner_grant(request)
    if now is None:
        note(
            Step(
                "the device knows the time",
                holds=False,
                reason=DenialReason.TIME_UNTRUSTED,
                subject="household",
            )
        )
        return Denial(DenialReason.TIME_UNTRUSTED)
    failed = _first_failure(_household_checks(request, charter, state, conditions, now), "household", note)
    if failed:
        return Denial(failed)
    return _by_token(request, charter, tokens, state, conditions, now, note)


def _first_failure(checks: _Checks, subject: str, note: Callable[[Step], None]) -> DenialReason | None:
    for rule, holds, reason in checks:
        note(Step(rule, holds, None if holds else reason, subject))
        if not holds:
            return reason
    return None


def _owner_checks(request: OwnerViewing, charter: Charter, conditions: Conditions) -> _Checks:
    """Owners' own viewing: not stopped by shutter, boot or clock; stopped if it could not be recorded."""
    yield "the ledger can record it", conditions.ledger_durable, DenialReason.LEDGER_UNAVAILABLE
    yield (
        "the camera belongs to this device",
        _is_here(charter, request.camera, conditions),
        DenialReason.UNKNOWN_CAMERA,
    )
    yield (
        "the camera delivers pictures",
        request.camera in conditions.cameras,
        DenialReason.CAMERA_AWAY,
    )


def _owner_grant(request: OwnerViewing) -> Grant:
    view = View((WHOLE_PICTURE,), frozenset(), request.max_height, request.max_fps)
    return Grant(view, request.seconds, None)


def _is_here(charter: Charter, name: str, conditions: Conditions) -> bool:
    camera = charter.camera(name)
    return camera is not None and camera.device == conditions.device


def _household_checks(
    request: Request,
    charter: Charter,
    state: Standing,
    conditions: Conditions,
    now: Interval,
) -> _Checks:
    """What must hold whatever tokens there are.

    The operator's own mistakes come first: they are answered in clear words, and whether they are must not
    depend on what an agency may not know (shutter, block, boot, rules, ledger).
    """
    yield (
        "the charter knows the agency",
        charter.agency(request.agency) is not None and request.household == charter.household,
        DenialReason.UNKNOWN_AGENCY,
    )
    yield (
        "the device knows the time",
        now.quality is not TimeQuality.UNTRUSTED,
        DenialReason.TIME_UNTRUSTED,
    )
    yield (
        "the operator's badge is valid",
        request.badge.not_before_ns <= now.earliest_ns and now.latest_ns < request.badge.not_after_ns,
        DenialReason.BADGE_EXPIRED,
    )
    # A request from the future is refused only if it surely is one: its asker's clock is as good as ours, and
    # to be early gives nobody anything.
    yield (
        "the request is fresh",
        request.issued_at_ns <= now.latest_ns
        and (conditions.elapsed_seconds is not None or now.latest_ns < request.expires_at_ns),
        DenialReason.REQUEST_STALE,
    )
    yield (
        "the camera belongs to this device",
        request.device == conditions.device and _is_here(charter, request.camera, conditions),
        DenialReason.UNKNOWN_CAMERA,
    )
    yield "the ledger can record it", conditions.ledger_durable, DenialReason.LEDGER_UNAVAILABLE
    yield "the agency is not blocked", request.agency not in state.blocked, DenialReason.AGENCY_BLOCKED
    yield "the shutter is open", state.shutter is ShutterState.OPEN, DenialReason.SHUTTER_CLOSED
    yield (
        "somebody confirmed the ledger since boot",
        conditions.confirmed_since_boot,
        DenialReason.UNCONFIRMED_SINCE_BOOT,
    )
    situation = _situation(request, state, conditions, now)
    for number, rule in enumerate(charter.rules, 1):
        name = f"rule {number} of the household ({rule.effect})"
        if not rule.applies(situation):
            yield f"{name} does not apply", True, DenialReason.RULE_DENIES
        elif rule.effect is Effect.DENY:
            yield f"{name} does not apply", False, DenialReason.RULE_DENIES
        elif rule.effect is Effect.REQUIRE_ALARM:
            yield f"{name}: the alarm is on", situation.alarm_surely, DenialReason.RULE_REQUIRES_ALARM
        else:
            yield f"{name} narrows it", True, DenialReason.RULE_DENIES


def alarm_is_on(state: Standing, now: Interval) -> bool:
    """Whether the household's alarm is certainly on."""
    return now.latest_ns < state.alarm_until_ns


def _situation(request: Request, state: Standing, conditions: Conditions, now: Interval) -> Situation:
    return Situation(
        request.agency,
        request.purpose.kind,
        request.mode,
        alarm_is_on(state, now),
        now.earliest_ns < state.alarm_until_ns,
        now,
        conditions.zones,
    )


def _by_token(
    request: Request,
    charter: Charter,
    tokens: Sequence[Token],
    state: Standing,
    conditions: Conditions,
    now: Interval,
    note: Callable[[Step], None],
) -> Decision:
    """The first token that allows it; else the reason of the last one that came near."""
    reason = DenialReason.NO_TOKEN
    for token in tokens:
        if token.agency != request.agency or (token.re is not None and token.re != request.id):
            continue
        checks = _token_checks(request, charter, token, state, conditions, now)
        failed = _first_failure(checks, token.id, note)
        if failed is None:
            return _grant(request, charter, token, state, conditions, now)
        reason = failed
    return Denial(reason)


def _token_checks(
    request: Request,
    charter: Charter,
    token: Token,
    state: Standing,
    conditions: Conditions,
    now: Interval,
) -> _Checks:
    """What must hold for one token."""
    scope = token.scope
    yield (
        "the token is for this household and device",
        token.household == charter.household and token.device == conditions.device,
        DenialReason.TOKEN_FOR_ANOTHER,
    )
    yield (
        "the token is for this operator",
        not token.operators or request.badge.operator in token.operators,
        DenialReason.TOKEN_FOR_ANOTHER,
    )
    yield "the token is not revoked", token.id not in state.revoked, DenialReason.TOKEN_REVOKED
    floor = max(state.floor, state.agency_floors.get(token.agency, 0))
    yield "the token's epoch still counts", token.epoch >= floor, DenialReason.TOKEN_SUPERSEDED
    yield "the token has begun", scope.not_before_ns <= now.earliest_ns, DenialReason.TOKEN_NOT_YET
    yield "the token has not ended", now.latest_ns < scope.not_after_ns, DenialReason.TOKEN_EXPIRED
    yield (
        "the clock is good enough for a standing token",
        token.purpose.kind is not PurposeKind.STANDING
        or now.quality is TimeQuality.AUTHENTICATED
        or charter.accept_plausible_time,
        DenialReason.TIME_UNTRUSTED,
    )
    yield "the purpose is the token's", token.purpose == request.purpose, DenialReason.OUTSIDE_SCOPE
    yield (
        "camera and mode are in scope",
        request.camera in scope.cameras and request.mode is scope.mode,
        DenialReason.OUTSIDE_SCOPE,
    )
    yield (
        "the footage is in scope",
        request.mode is Mode.LIVE or footage.covers(scope.footage, request.footage, now),
        DenialReason.OUTSIDE_SCOPE,
    )
    yield (
        "an area is in scope",
        bool(_areas(request, charter, token)),
        DenialReason.OUTSIDE_SCOPE,
    )
    yield (
        "the hour is in the token's windows",
        scope.windows is None or scope.windows.holds_throughout(now, conditions.zones),
        DenialReason.OUTSIDE_WINDOW,
    )
    yield (
        "the alarm is on",
        alarm_is_on(state, now) or not scope.needs_alarm,
        DenialReason.NEEDS_ALARM,
    )
    yield (
        "this board can redact as agreed",
        scope.redaction <= conditions.redactions,
        DenialReason.UNSUPPORTED,
    )
    usage = state.usage.get(token.id, Usage())
    yield "sessions are left", usage.sessions < scope.sessions, DenialReason.TOKEN_USED_UP
    yield (
        "time is left",
        _seconds(request, charter, token, state, conditions, now) > 0,
        DenialReason.TOKEN_USED_UP,
    )
    situation = _situation(request, state, conditions, now)
    viewers = min(scope.viewers, _caps(charter, situation).viewers)
    yield (
        "a viewer's place is free",
        conditions.viewers.get(token.id, 0) < viewers
        and conditions.viewers_at_once < conditions.most_viewers,
        DenialReason.TOO_MANY_VIEWERS,
    )
    yield (
        "the camera delivers pictures",
        request.mode is Mode.FOOTAGE or request.camera in conditions.cameras,
        DenialReason.CAMERA_AWAY,
    )
    yield "live is what is asked", request.mode is Mode.LIVE, DenialReason.UNSUPPORTED


def _areas(request: Request, charter: Charter, token: Token) -> tuple[Polygon, ...]:
    """The polygons of the areas that were asked for (or all of the token's), where the token names them."""
    camera = charter.camera(request.camera)
    names = [name for name in token.scope.areas if not request.areas or name in request.areas]
    polygons = [camera.area(name) for name in names] if camera else []
    return tuple(polygon for polygon in polygons if polygon is not None)


def _caps(charter: Charter, situation: Situation) -> Caps:
    caps = Caps()
    for rule in charter.rules:
        if rule.effect is Effect.CAP and rule.applies(situation):
            caps = caps.lowered(rule.caps)
    return caps


def _seconds(
    request: Request,
    charter: Charter,
    token: Token,
    state: Standing,
    conditions: Conditions,
    now: Interval,
) -> int:
    """Whole seconds that every limit leaves, at most; for a running session, from now on."""
    agency = charter.agency(request.agency)
    situation = _situation(request, state, conditions, now)
    usage = state.usage.get(token.id, Usage())
    length = min(
        request.seconds,
        token.scope.session_seconds,
        token.scope.total_seconds - usage.seconds,
        agency.max_seconds if agency else 0,
        _caps(charter, situation).seconds,
    )
    until_ns = min(token.scope.not_after_ns, request.badge.not_after_ns) - now.latest_ns
    if conditions.elapsed_seconds is None:
        left = min(length, until_ns // SECOND_NS)
    else:
        # A begun second is one: token and badge are held against `now` by themselves, to the nanosecond.
        left = min(length - conditions.elapsed_seconds, -(-until_ns // SECOND_NS))
    if alarm_is_on(state, now) and _hangs_on_the_alarm(charter, token):
        left = min(left, (state.alarm_until_ns - now.latest_ns) // SECOND_NS)
    return min(left, _until_the_hour_ends_it(charter, token, situation, max(left, 0)))


def _hangs_on_the_alarm(charter: Charter, token: Token) -> bool:
    """Whether the end of the alarm could end it."""
    return token.scope.needs_alarm or any(
        rule.effect is Effect.REQUIRE_ALARM
        or rule.when.alarm is not None
        or (rule.unless is not None and rule.unless.alarm is not None)
        for rule in charter.rules
    )


def _until_the_hour_ends_it(charter: Charter, token: Token, situation: Situation, most: int) -> int:
    """Seconds until a window of the token closes or a rule of the household begins to deny."""
    left = most
    if token.scope.windows is not None:
        windows = token.scope.windows
        left = min(left, windows.seconds_left(situation.now, most, situation.zones, holding=True))
    for rule in charter.rules:
        if rule.effect is not Effect.CAP and not rule.applies(situation):
            left = min(left, rule.seconds_until_it_applies(situation, most))
    return left


def _grant(
    request: Request,
    charter: Charter,
    token: Token,
    state: Standing,
    conditions: Conditions,
    now: Interval,
) -> Grant:
    caps = _caps(charter, _situation(request, state, conditions, now))
    view = View(
        areas=_areas(request, charter, token),
        redaction=token.scope.redaction,
        max_height=min(request.max_height, token.scope.max_height, caps.height),
        max_fps=min(request.max_fps, token.scope.max_fps, caps.fps),
    )
    return Grant(view, _seconds(request, charter, token, state, conditions, now), token.id)
