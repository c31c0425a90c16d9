"""Class 3: validly signed, but for more than request, token, rules or charter allow, as `model` says.

The model is written from FORMATS.md, not from the code: for each limit it lists what it leaves, and takes the
least. It knows no hours; those have a minute-by-minute model in `tests/consent/test_windows.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.consent import token
from agent.consent.decision import Conditions, Grant, Standing, Usage, decide
from agent.consent.rules import UNLIMITED, Caps, Effect, PurposeKind, Rule, When
from agent.consent.times import SECOND_NS, Interval, TimeQuality
from agent.consent.token import Purpose
from agent.errors import DocumentError
from tests.soak.outcome import CONTROL, REFUSED, Outcome
from tests.support.household import (
    ANN,
    HOUR_NS,
    NOON,
    OTHER_BODY,
    PATH,
    POLICE,
    STREET,
    Home,
    verified_request,
    verified_token,
)

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.consent.charter import Charter
    from agent.consent.handshake import Request
    from agent.consent.token import Token

HOME = Home()
CHARTER = HOME.charter()
REQUEST = verified_request(HOME, CHARTER)
TOKEN = verified_token(HOME, CHARTER, ANN.root)
POLYGONS = {"street": STREET, "path": PATH}
ELSEWHERE = "sha256:" + "e" * 64
NAMES = [(), ("street",), ("path",), ("street", "path"), ("nowhere",)]


async def attempts(rng: random.Random, count: int, _directory: Path) -> AsyncIterator[Outcome]:
    """One situation after another: some within every limit, most beyond one or more."""
    for _ in range(count):
        yield daily(rng) if rng.random() < 0.02 else situation(rng)


def daily(rng: random.Random) -> Outcome:
    """A token by a daily key alone: an hour at most, and never standing."""
    seconds = rng.choice([60, 3600, 3601, 7200, 86_400])
    kind = rng.choice(list(PurposeKind))
    begin_ns = NOON - 60 * SECOND_NS
    data = HOME.signed_token(
        ANN.daily(),
        scope={"not_before_ns": begin_ns, "not_after_ns": begin_ns + seconds * SECOND_NS},
        purpose=Purpose(kind, "CASE-1"),
    )
    allowed = seconds <= 3600 and kind is not PurposeKind.STANDING
    try:
        token.verify(data, CHARTER)
    except DocumentError:
        return Outcome("a daily key was refused what it may") if allowed else REFUSED
    return CONTROL if allowed else Outcome(f"a daily key granted {seconds} s, {kind}")


def situation(rng: random.Random) -> Outcome:
    request, granted, charter = asked(rng), tokens(rng), charters(rng)
    used = Usage(rng.choice([0, 0, 1, 3]), rng.choice([0, 0, 30, 120]))
    viewers = rng.choice([0, 0, 1])
    alarm = rng.random() < 0.5
    state = Standing(
        usage={granted.id: used},
        revoked=frozenset({granted.id}) if rng.random() < 0.05 else frozenset(),
        blocked=frozenset({POLICE.key_id}) if rng.random() < 0.05 else frozenset(),
        floor=rng.choice([0] * 15 + [1]),
        alarm_until_ns=NOON + HOUR_NS if alarm else 0,
    )
    conditions = Conditions(
        device=HOME.keys.device,
        ledger_durable=rng.random() < 0.97,
        confirmed_since_boot=rng.random() < 0.97,
        cameras=frozenset({"front"}),
        redactions=frozenset(),
        viewers={granted.id: viewers},
        viewers_at_once=viewers,
        most_viewers=4,
    )
    now = Interval(NOON, NOON + rng.choice([0, 0, SECOND_NS]), TimeQuality.AUTHENTICATED)
    found = decide(request, charter=charter, tokens=[granted], state=state, conditions=conditions, now=now)
    if not isinstance(found, Grant):
        return REFUSED
    most = model(request, granted, charter, state, conditions, alarm=alarm)
    if most is None:
        return Outcome("granted although some limit says no")
    caps, areas = most
    wider = (
        not found.view.areas
        or not set(found.view.areas) <= areas
        or found.seconds > caps.seconds
        or found.view.max_height > caps.height
        or found.view.max_fps > caps.fps
    )
    return Outcome("granted wider than the narrowest limit") if wider else CONTROL


def asked(rng: random.Random) -> Request:
    return replace(
        REQUEST,
        camera=rng.choice(["front"] * 9 + ["back"]),
        areas=rng.choice(NAMES),
        seconds=rng.choice([1, 30, 60, 600]),
        max_height=rng.choice([120, 360, 720]),
        max_fps=rng.choice([1, 10, 30]),
        purpose=rng.choice([REQUEST.purpose] * 9 + [Purpose(PurposeKind.INCIDENT, "CASE-2")]),
    )


def tokens(rng: random.Random) -> Token:
    begin_ns = rng.choice([NOON - HOUR_NS] * 9 + [NOON + SECOND_NS])
    scope = replace(
        TOKEN.scope,
        areas=rng.choice(NAMES),
        max_height=rng.choice([120, 360, 720]),
        max_fps=rng.choice([1, 10, 30]),
        session_seconds=rng.choice([0, 10, 60, 600]),
        total_seconds=rng.choice([0, 60, 600]),
        sessions=rng.choice([1, 3]),
        viewers=rng.choice([1, 2]),
        needs_alarm=rng.random() < 0.2,
        not_before_ns=begin_ns,
        not_after_ns=rng.choice([NOON + HOUR_NS, NOON + 20 * SECOND_NS, NOON]) + 2 * SECOND_NS,
    )
    return replace(
        TOKEN,
        scope=scope,
        agency=rng.choice([POLICE.key_id] * 9 + [OTHER_BODY.key_id]),
        device=rng.choice([HOME.keys.device] * 9 + [ELSEWHERE]),
        operators=rng.choice([()] * 9 + [(ELSEWHERE,)]),
    )


def charters(rng: random.Random) -> Charter:
    rules = tuple(rule(rng) for _ in range(rng.randrange(3)))
    agencies = tuple(replace(each, max_seconds=rng.choice([15, 3600])) for each in CHARTER.agencies)
    return replace(CHARTER, rules=rules, agencies=agencies if rng.random() < 0.95 else ())


def rule(rng: random.Random) -> Rule:
    when = When(
        agencies=rng.choice([(), (POLICE.key_id,), (ELSEWHERE,)]),
        purposes=rng.choice([(), (PurposeKind.INCIDENT,), (PurposeKind.DRILL,)]),
        alarm=rng.choice([None, True, False]),
    )
    effect = rng.choice([Effect.CAP] * 4 + [Effect.DENY, Effect.REQUIRE_ALARM])
    caps = Caps()
    if effect is Effect.CAP:
        caps = Caps(
            rng.choice([5, 300]), rng.choice([100, 480]), rng.choice([2, 20]), rng.choice([1, UNLIMITED])
        )
    return Rule(effect, when, caps)


def model(
    request: Request,
    granted: Token,
    charter: Charter,
    state: Standing,
    conditions: Conditions,
    *,
    alarm: bool,
) -> tuple[Caps, set[object]] | None:
    """What is left at most, and the areas that may be seen; None if nothing may."""
    scope = granted.scope
    used = state.usage[granted.id]
    binding = [
        each
        for each in charter.rules
        if (not each.when.agencies or POLICE.key_id in each.when.agencies)
        and (not each.when.purposes or PurposeKind.INCIDENT in each.when.purposes)
        and (each.when.alarm is None or each.when.alarm == alarm)
    ]
    caps = [each.caps for each in binding if each.effect is Effect.CAP]
    agency = next((each for each in charter.agencies if each.key_id == POLICE.key_id), None)
    viewers = min([scope.viewers, *(each.viewers for each in caps)])
    forbidden = (
        agency is None
        or not conditions.ledger_durable
        or not conditions.confirmed_since_boot
        or POLICE.key_id in state.blocked
        or granted.id in state.revoked
        or granted.epoch < state.floor
        or granted.agency != POLICE.key_id
        or granted.device != HOME.keys.device
        or bool(granted.operators)
        or request.camera != "front"
        or request.purpose != granted.purpose
        or scope.not_before_ns > NOON
        or (scope.needs_alarm and not alarm)
        or used.sessions >= scope.sessions
        or conditions.viewers[granted.id] >= viewers
        or any(each.effect is Effect.DENY for each in binding)
        or (any(each.effect is Effect.REQUIRE_ALARM for each in binding) and not alarm)
    )
    if forbidden or agency is None:
        return None
    left = Caps(
        min(
            [
                request.seconds,
                scope.session_seconds,
                scope.total_seconds - used.seconds,
                agency.max_seconds,
                (scope.not_after_ns - NOON) // SECOND_NS,
                *(each.seconds for each in caps),
            ]
        ),
        min([request.max_height, scope.max_height, *(each.height for each in caps)]),
        min([request.max_fps, scope.max_fps, *(each.fps for each in caps)]),
    )
    names = [name for name in scope.areas if not request.areas or name in request.areas]
    areas: set[object] = {POLYGONS[name] for name in names if name in POLYGONS}
    return (left, areas) if left.seconds > 0 and areas else None
