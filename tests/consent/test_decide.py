"""The one function that says yes: every reason for no, every edge, and that nothing ever widens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.consent.acts import ShutterState
from agent.consent.charter import Charter, NamedArea
from agent.consent.decision import (
    Conditions,
    Decision,
    Denial,
    Grant,
    OwnerViewing,
    Standing,
    Step,
    Usage,
    decide,
    explain,
)
from agent.consent.footage import FootageScope, MaxAge, Stretch
from agent.consent.handshake import Request
from agent.consent.reasons import AgencyReason, DenialReason, for_agency
from agent.consent.rules import Caps, Effect, Mode, PurposeKind, Rule, When
from agent.consent.times import SECOND_NS, Interval, TimeQuality
from agent.consent.token import Purpose, Token
from agent.consent.view import Redaction, View
from agent.consent.windows import Day, Weekly, Window
from tests.support.household import (
    ANN,
    HOUR_NS,
    NOON,
    OTHER_BODY,
    POLICE,
    STREET,
    Home,
    id_of,
    verified_request,
    verified_token,
)

HOME = Home()
CHARTER = HOME.charter()
REQUEST = verified_request(HOME, CHARTER)
TOKEN = verified_token(HOME, CHARTER, ANN.root)
ELSEWHERE = "sha256:" + "e" * 64
NOW = Interval(NOON, NOON, TimeQuality.AUTHENTICATED)
HERE = Conditions(
    device=HOME.keys.device,
    ledger_durable=True,
    confirmed_since_boot=True,
    cameras=frozenset({"front"}),
    redactions=frozenset(),
    most_viewers=4,
)


@dataclass(frozen=True)
class Case:
    """The arguments of one decision; the usual ones grant."""

    request: Request | OwnerViewing = REQUEST
    charter: Charter | None = CHARTER
    tokens: tuple[Token, ...] = (TOKEN,)
    state: Standing = field(default_factory=Standing)
    conditions: Conditions = HERE
    now: Interval | None = NOW

    def arguments(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    def decide(self) -> Decision:
        return decide(**self.arguments())

    def explain(self) -> tuple[Decision, tuple[Step, ...]]:
        return explain(**self.arguments())

    def reason(self) -> DenialReason:
        decision = self.decide()
        assert isinstance(decision, Denial), "it was granted"
        return decision.reason

    def grant(self) -> Grant:
        decision = self.decide()
        assert isinstance(decision, Grant), decision
        return decision


def request(**changes: Any) -> Case:
    return Case(request=replace(REQUEST, **changes))


def granted(scope: dict[str, Any] | None = None, **changes: Any) -> Case:
    return Case(tokens=(replace(TOKEN, scope=replace(TOKEN.scope, **(scope or {})), **changes),))


def conditions(**changes: Any) -> Case:
    return Case(conditions=replace(HERE, **changes))


def ruled(*rules: Rule) -> Case:
    return Case(charter=replace(CHARTER, rules=rules))


def at(earliest_ns: int, latest_ns: int | None = None, quality: TimeQuality = NOW.quality) -> Interval:
    return Interval(earliest_ns, earliest_ns if latest_ns is None else latest_ns, quality)


LAST_HOUR = Stretch(NOON - HOUR_NS, NOON)


def of_footage(scope: FootageScope | None, asked: Stretch | None = LAST_HOUR) -> Case:
    return replace(
        granted({"mode": Mode.FOOTAGE, "footage": scope}),
        request=replace(REQUEST, mode=Mode.FOOTAGE, footage=asked),
    )


NEVER_AT_NOON = Weekly("UTC", (Window(tuple(Day), 0, 60),))
BADGE = REQUEST.badge
STANDING_PURPOSE = Purpose(PurposeKind.STANDING, "GATE")
DENIALS: list[tuple[str, DenialReason, Case]] = [
    ("no charter", DenialReason.NOT_AN_OWNER, Case(charter=None)),
    ("time unknown", DenialReason.TIME_UNTRUSTED, Case(now=None)),
    ("time untrusted", DenialReason.TIME_UNTRUSTED, Case(now=at(NOON, quality=TimeQuality.UNTRUSTED))),
    ("agency not in the charter", DenialReason.UNKNOWN_AGENCY, Case(charter=replace(CHARTER, agencies=()))),
    ("another household", DenialReason.UNKNOWN_AGENCY, request(household=ELSEWHERE)),
    ("badge ended", DenialReason.BADGE_EXPIRED, Case(now=at(BADGE.not_after_ns))),
    ("badge begins later", DenialReason.BADGE_EXPIRED, Case(now=at(BADGE.not_before_ns - 1))),
    ("request ended", DenialReason.REQUEST_STALE, Case(now=at(REQUEST.expires_at_ns))),
    ("request from the future", DenialReason.REQUEST_STALE, Case(now=at(REQUEST.issued_at_ns - 1))),
    ("another device", DenialReason.UNKNOWN_CAMERA, request(device=ELSEWHERE)),
    ("no such camera", DenialReason.UNKNOWN_CAMERA, request(camera="back")),
    ("ledger not durable", DenialReason.LEDGER_UNAVAILABLE, conditions(ledger_durable=False)),
    (
        "agency blocked",
        DenialReason.AGENCY_BLOCKED,
        Case(state=Standing(blocked=frozenset({POLICE.key_id}))),
    ),
    ("shutter closed", DenialReason.SHUTTER_CLOSED, Case(state=Standing(shutter=ShutterState.CLOSED))),
    ("unconfirmed", DenialReason.UNCONFIRMED_SINCE_BOOT, conditions(confirmed_since_boot=False)),
    ("a rule denies", DenialReason.RULE_DENIES, ruled(Rule(Effect.DENY, When(), Caps()))),
    (
        "a rule wants the alarm",
        DenialReason.RULE_REQUIRES_ALARM,
        ruled(Rule(Effect.REQUIRE_ALARM, When(), Caps())),
    ),
    ("no token", DenialReason.NO_TOKEN, Case(tokens=())),
    ("a token of another agency", DenialReason.NO_TOKEN, granted(agency=OTHER_BODY.key_id)),
    ("a token for another request", DenialReason.NO_TOKEN, granted(re=ELSEWHERE)),
    ("a token of another household", DenialReason.TOKEN_FOR_ANOTHER, granted(household=ELSEWHERE)),
    ("a token for another device", DenialReason.TOKEN_FOR_ANOTHER, granted(device=ELSEWHERE)),
    ("a token for another operator", DenialReason.TOKEN_FOR_ANOTHER, granted(operators=(ELSEWHERE,))),
    ("revoked", DenialReason.TOKEN_REVOKED, Case(state=Standing(revoked=frozenset({TOKEN.id})))),
    ("below the floor", DenialReason.TOKEN_SUPERSEDED, Case(state=Standing(floor=1))),
    (
        "below the agency's floor",
        DenialReason.TOKEN_SUPERSEDED,
        Case(state=Standing(agency_floors={POLICE.key_id: 1})),
    ),
    ("not begun", DenialReason.TOKEN_NOT_YET, granted({"not_before_ns": NOON + 1})),
    ("ended", DenialReason.TOKEN_EXPIRED, granted({"not_after_ns": NOON})),
    (
        "standing by a plausible clock",
        DenialReason.TIME_UNTRUSTED,
        replace(
            granted(purpose=STANDING_PURPOSE),
            request=replace(REQUEST, purpose=STANDING_PURPOSE),
            now=at(NOON, quality=TimeQuality.PLAUSIBLE),
        ),
    ),
    ("another purpose", DenialReason.OUTSIDE_SCOPE, request(purpose=Purpose(PurposeKind.DRILL, "CASE-1"))),
    (
        "another reference",
        DenialReason.OUTSIDE_SCOPE,
        request(purpose=Purpose(PurposeKind.INCIDENT, "CASE-2")),
    ),
    ("another camera", DenialReason.OUTSIDE_SCOPE, granted({"cameras": ("back",)})),
    ("another mode", DenialReason.OUTSIDE_SCOPE, granted({"mode": Mode.FOOTAGE})),
    ("no area granted", DenialReason.OUTSIDE_SCOPE, granted({"areas": ()})),
    ("another area asked", DenialReason.OUTSIDE_SCOPE, request(areas=("path",))),
    ("an area that is not there", DenialReason.OUTSIDE_SCOPE, granted({"areas": ("garden",)})),
    ("hour outside the windows", DenialReason.OUTSIDE_WINDOW, granted({"windows": NEVER_AT_NOON})),
    ("alarm off", DenialReason.NEEDS_ALARM, granted({"needs_alarm": True})),
    ("cannot redact", DenialReason.UNSUPPORTED, granted({"redaction": frozenset({Redaction.FACES})})),
    ("sessions used", DenialReason.TOKEN_USED_UP, Case(state=Standing(usage={TOKEN.id: Usage(3, 0)}))),
    ("seconds used", DenialReason.TOKEN_USED_UP, Case(state=Standing(usage={TOKEN.id: Usage(1, 120)}))),
    ("no seconds granted", DenialReason.TOKEN_USED_UP, granted({"session_seconds": 0})),
    ("last second begun", DenialReason.TOKEN_USED_UP, granted({"not_after_ns": NOON + SECOND_NS - 1})),
    ("its place taken", DenialReason.TOO_MANY_VIEWERS, conditions(viewers={TOKEN.id: 1})),
    ("all places taken", DenialReason.TOO_MANY_VIEWERS, conditions(viewers_at_once=4)),
    ("no places", DenialReason.TOO_MANY_VIEWERS, conditions(most_viewers=0)),
    ("footage", DenialReason.UNSUPPORTED, of_footage(LAST_HOUR)),
    ("footage without saying which", DenialReason.OUTSIDE_SCOPE, of_footage(None)),
    ("no picture", DenialReason.CAMERA_AWAY, conditions(cameras=frozenset())),
]
NOT_BY_DECIDE = {
    DenialReason.LAPSED,
    DenialReason.INTERRUPTED,
    DenialReason.VIEWER_GONE,
    DenialReason.NET_LOST,
    DenialReason.MEDIA_FAILED,
    DenialReason.CHARTER_CHANGED,
}
"""Why a session ended that decide had granted, or a request that nobody answered."""

EVERY_CASE = [Case(), *(case for _, _, case in DENIALS)]


@pytest.mark.parametrize(("what", "reason", "case"), DENIALS, ids=[what for what, _, _ in DENIALS])
def test_request_is_denied_for_its_reason(what: str, reason: DenialReason, case: Case) -> None:
    assert case.reason() is reason


def test_every_denial_reason_is_reachable() -> None:
    assert {reason for _, reason, _ in DENIALS} | NOT_BY_DECIDE == set(DenialReason)


def test_usual_request_is_granted_the_intersection() -> None:
    assert Case().grant() == Grant(View((STREET,), frozenset(), 480, 10), 60, TOKEN.id)


@pytest.mark.parametrize("case", EVERY_CASE)
def test_explanation_decides_the_same_and_ends_at_the_rule_that_did(case: Case) -> None:
    decision, steps = case.explain()
    assert decision == case.decide()
    failed = [step for step in steps if not step.holds]
    assert all((step.reason is None) == step.holds for step in steps)
    if isinstance(decision, Grant):
        assert not failed
        assert steps[-1].subject == decision.token
    elif failed:
        assert failed[-1].reason is decision.reason
        assert steps[-1] is failed[-1]
    else:
        assert decision.reason in {DenialReason.NOT_AN_OWNER, DenialReason.NO_TOKEN}


@pytest.mark.parametrize("case", EVERY_CASE)
def test_equal_inputs_give_equal_decisions_and_change_nothing(case: Case) -> None:
    before = repr(case)
    assert case.decide() == replace(case).decide() == case.decide()
    assert repr(case) == before


@pytest.mark.parametrize("mistake", [
    {"badge": replace(BADGE, not_after_ns=NOON)},
    {"expires_at_ns": NOON},
    {"camera": "back"},
])  # fmt: skip
def test_own_mistake_is_answered_the_same_whatever_the_agency_may_not_know(mistake: dict[str, Any]) -> None:
    secret = [
        case
        for _, reason, case in DENIALS
        if for_agency(reason, silent=AgencyReason.PENDING) is AgencyReason.PENDING
    ]
    wrong = replace(REQUEST, **mistake)
    alone = Case(request=wrong).reason()
    for case in secret:
        if case.request == REQUEST and case.charter is not None and case.charter.agencies and case.now == NOW:
            assert replace(case, request=wrong).reason() is alone


# Edges, to the nanosecond


@pytest.mark.parametrize("width", [0, 1, SECOND_NS])
def test_token_begins_when_all_of_now_is_within(width: int) -> None:
    begins = TOKEN.scope.not_before_ns
    early = Case(request=replace(REQUEST, issued_at_ns=begins - HOUR_NS))
    assert isinstance(replace(early, now=at(begins, begins + width)).decide(), Grant)
    assert replace(early, now=at(begins - 1, begins + width)).reason() is DenialReason.TOKEN_NOT_YET


@pytest.mark.parametrize("width", [0, 1, SECOND_NS])
def test_token_ends_when_any_of_now_is_beyond(width: int) -> None:
    ends = TOKEN.scope.not_after_ns
    late = Case(request=replace(REQUEST, expires_at_ns=ends + HOUR_NS))
    assert replace(late, now=at(ends - width, ends)).reason() is DenialReason.TOKEN_EXPIRED
    assert replace(late, now=at(ends - width - SECOND_NS, ends - SECOND_NS)).grant().seconds == 1
    assert replace(late, now=at(ends - SECOND_NS - width, ends - 1)).reason() is DenialReason.TOKEN_USED_UP


@pytest.mark.parametrize("width", [0, 1, SECOND_NS])
def test_badge_holds_on_all_of_now(width: int) -> None:
    begins, ends = NOON, NOON + 100 * SECOND_NS
    short = request(badge=replace(BADGE, not_before_ns=begins, not_after_ns=ends))
    assert replace(short, now=at(begins - 1, begins + width)).reason() is DenialReason.BADGE_EXPIRED
    assert replace(short, now=at(ends - width, ends)).reason() is DenialReason.BADGE_EXPIRED
    assert replace(short, now=at(begins, begins + width)).grant().seconds == 60
    assert replace(short, now=at(ends - 10 * SECOND_NS)).grant().seconds == 10


def test_request_lapses_on_the_nanosecond_unless_its_session_runs() -> None:
    ends = REQUEST.expires_at_ns
    long = granted({"not_after_ns": ends + HOUR_NS})
    assert isinstance(replace(long, now=at(NOON, ends - 1)).decide(), Grant)
    lapsed = replace(long, now=at(NOON, ends))
    assert lapsed.reason() is DenialReason.REQUEST_STALE
    running = replace(lapsed, conditions=replace(HERE, elapsed_seconds=10))
    assert running.grant().seconds == 50


def test_running_session_is_told_what_is_left_of_it() -> None:
    def left(elapsed: int, case: Case) -> Decision:
        return replace(case, conditions=replace(HERE, elapsed_seconds=elapsed)).decide()

    assert left(59, Case()) == replace(Case().grant(), seconds=1)
    assert left(60, Case()) == Denial(DenialReason.TOKEN_USED_UP)
    capped = ruled(Rule(Effect.CAP, When(), Caps(seconds=20)))
    assert left(19, capped) == replace(Case().grant(), seconds=1)
    assert left(20, capped) == Denial(DenialReason.TOKEN_USED_UP)
    ending = granted({"not_after_ns": NOON + 1})
    assert left(5, ending) == replace(Case().grant(), seconds=1)


# Scope


def test_seconds_are_the_least_of_all_limits() -> None:
    agency = replace(CHARTER.agencies[0], max_seconds=7)
    cases = [
        (5, request(seconds=5)),
        (9, granted({"session_seconds": 9})),
        (20, Case(state=Standing(usage={TOKEN.id: Usage(1, 100)}))),
        (11, granted({"not_after_ns": NOON + 11 * SECOND_NS + 999})),
        (7, Case(charter=replace(CHARTER, agencies=(agency,)))),
        (13, ruled(Rule(Effect.CAP, When(), Caps(seconds=13)), Rule(Effect.CAP, When(), Caps(seconds=99)))),
    ]
    assert [case.grant().seconds for _, case in cases] == [seconds for seconds, _ in cases]


@pytest.mark.parametrize(
    ("scope", "asked", "inside"),
    [
        (LAST_HOUR, LAST_HOUR, True),
        (LAST_HOUR, Stretch(NOON - HOUR_NS - 1, NOON), False),
        (LAST_HOUR, Stretch(NOON - HOUR_NS, NOON + 1), False),
        (LAST_HOUR, None, False),
        (None, LAST_HOUR, False),
        (MaxAge(3600), LAST_HOUR, True),
        (MaxAge(3599), LAST_HOUR, False),
        (MaxAge(3600), Stretch(NOON - 1, NOON + 1), False),
    ],
)
def test_footage_lies_wholly_within_what_was_agreed(
    scope: FootageScope | None, asked: Stretch | None, inside: bool
) -> None:
    reason = of_footage(scope, asked).reason()
    assert reason is (DenialReason.UNSUPPORTED if inside else DenialReason.OUTSIDE_SCOPE)


def test_age_of_footage_holds_at_every_moment_that_now_may_be() -> None:
    case = of_footage(MaxAge(3600), Stretch(NOON - HOUR_NS, NOON - 1))
    for now, reason in (
        (at(NOON - 1, NOON), DenialReason.UNSUPPORTED),
        (at(NOON, NOON + 1), DenialReason.OUTSIDE_SCOPE),
        (at(NOON - 2, NOON), DenialReason.OUTSIDE_SCOPE),
    ):
        asked = replace(REQUEST, mode=Mode.FOOTAGE, footage=LAST_HOUR, issued_at_ns=NOON - HOUR_NS)
        asked = replace(asked, footage=Stretch(NOON - HOUR_NS, NOON - 1))
        assert replace(case, request=asked, now=now).reason() is reason


def test_footage_is_asked_for_and_agreed_to_whatever_the_camera_does_now() -> None:
    case = of_footage(LAST_HOUR)
    assert replace(case, conditions=replace(HERE, cameras=frozenset())).reason() is DenialReason.UNSUPPORTED


def test_explanation_names_each_rule_of_the_household_and_what_it_did() -> None:
    rules = (
        Rule(Effect.DENY, When(purposes=(PurposeKind.DRILL,)), Caps()),
        Rule(Effect.CAP, When(), Caps(seconds=20)),
        Rule(Effect.REQUIRE_ALARM, When(), Caps()),
    )
    decision, steps = ruled(*rules).explain()
    assert decision == Denial(DenialReason.RULE_REQUIRES_ALARM)
    assert [(step.rule, step.holds) for step in steps if step.rule.startswith("rule ")] == [
        ("rule 1 of the household (deny) does not apply", True),
        ("rule 2 of the household (cap) narrows it", True),
        ("rule 3 of the household (require-alarm): the alarm is on", False),
    ]


def test_size_and_rate_are_the_least_of_request_token_and_rules() -> None:
    assert request(max_height=100, max_fps=3).grant().view == View((STREET,), frozenset(), 100, 3)
    assert ruled(Rule(Effect.CAP, When(), Caps(height=90, fps=2))).grant().view == View(
        (STREET,), frozenset(), 90, 2
    )


def test_rule_binds_only_when_its_conditions_hold() -> None:
    elsewhere = [
        When(agencies=(OTHER_BODY.key_id,)),
        When(purposes=(PurposeKind.DRILL,)),
        When(modes=(Mode.FOOTAGE,)),
        When(alarm=True),
    ]
    for when in elsewhere:
        assert isinstance(ruled(Rule(Effect.DENY, when, Caps())).decide(), Grant)
        assert ruled(Rule(Effect.CAP, when, Caps(seconds=1))).grant().seconds == 60
    both = When((POLICE.key_id,), (PurposeKind.INCIDENT,), (Mode.LIVE,), alarm=False)
    assert ruled(Rule(Effect.DENY, both, Caps())).reason() is DenialReason.RULE_DENIES


def test_rule_overrides_every_token_there_is() -> None:
    case = replace(ruled(Rule(Effect.DENY, When(), Caps())), tokens=(TOKEN,) * 50)
    assert case.reason() is DenialReason.RULE_DENIES


def test_alarm_lets_through_what_needs_it() -> None:
    on = Standing(alarm_until_ns=NOON + HOUR_NS)
    rule = Rule(Effect.REQUIRE_ALARM, When(), Caps())
    assert isinstance(replace(ruled(rule), state=on).decide(), Grant)
    assert isinstance(replace(granted({"needs_alarm": True}), state=on).decide(), Grant)


def test_viewers_are_capped_by_token_rules_and_board() -> None:
    two = granted({"viewers": 2})
    assert isinstance(replace(two, conditions=replace(HERE, viewers={TOKEN.id: 1})).decide(), Grant)
    capped = replace(
        ruled(Rule(Effect.CAP, When(), Caps(viewers=1))),
        tokens=two.tokens,
        conditions=replace(HERE, viewers={TOKEN.id: 1}),
    )
    assert capped.reason() is DenialReason.TOO_MANY_VIEWERS


def test_asking_for_no_area_asks_for_what_the_token_shows() -> None:
    both = granted({"areas": ("street", "path")})
    assert len(both.grant().view.areas) == 2
    assert replace(both, request=replace(REQUEST, areas=("path", "garden"))).grant().view.areas != (STREET,)


def test_area_of_another_camera_shows_nothing() -> None:
    back = replace(CHARTER.cameras[0], name="back", areas=(NamedArea("yard", STREET),))
    case = replace(
        granted({"areas": ("yard",), "cameras": ("front", "back")}),
        charter=replace(CHARTER, cameras=(*CHARTER.cameras, back)),
    )
    assert case.reason() is DenialReason.OUTSIDE_SCOPE


def test_camera_of_another_device_is_not_here() -> None:
    camera = replace(CHARTER.cameras[0], device=ELSEWHERE)
    assert Case(charter=replace(CHARTER, cameras=(camera,))).reason() is DenialReason.UNKNOWN_CAMERA


def test_token_for_named_operators_lets_them_in() -> None:
    assert isinstance(granted(operators=(REQUEST.badge.operator,)).decide(), Grant)
    assert REQUEST.badge.operator != id_of(ANN.root)


def test_token_for_this_request_lets_it_in() -> None:
    assert isinstance(granted(re=REQUEST.id).decide(), Grant)


def test_one_usable_token_among_useless_ones_is_found() -> None:
    useless = (
        replace(TOKEN, id="a", agency=OTHER_BODY.key_id),
        replace(TOKEN, id="b", device=ELSEWHERE),
        replace(TOKEN, id="c", epoch=0, scope=replace(TOKEN.scope, areas=())),
    )
    assert Case(tokens=(*useless, TOKEN)).grant().token == TOKEN.id
    assert Case(tokens=useless).reason() is DenialReason.OUTSIDE_SCOPE


def test_standing_token_needs_authenticated_time_unless_the_charter_takes_less() -> None:
    standing = replace(granted(purpose=STANDING_PURPOSE), request=replace(REQUEST, purpose=STANDING_PURPOSE))
    assert isinstance(standing.decide(), Grant)
    plausible = replace(standing, now=at(NOON, quality=TimeQuality.PLAUSIBLE))
    lenient = replace(plausible, charter=replace(CHARTER, accept_plausible_time=True))
    assert plausible.reason() is DenialReason.TIME_UNTRUSTED
    assert isinstance(lenient.decide(), Grant)
    assert isinstance(Case(now=at(NOON, quality=TimeQuality.PLAUSIBLE)).decide(), Grant)


# Owners

VIEWING = OwnerViewing("front", 300, 1080, 30)


def test_owner_sees_their_camera_whatever_shutter_boot_and_clock_say() -> None:
    worst = Case(
        request=VIEWING,
        tokens=(),
        state=Standing(shutter=ShutterState.CLOSED),
        conditions=replace(HERE, confirmed_since_boot=False, most_viewers=0),
        now=None,
    )
    grant = worst.grant()
    assert (grant.seconds, grant.token, grant.view.max_height) == (300, None, 1080)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ledger_durable": False}, DenialReason.LEDGER_UNAVAILABLE),
        ({"cameras": frozenset()}, DenialReason.CAMERA_AWAY),
        ({"device": ELSEWHERE}, DenialReason.UNKNOWN_CAMERA),
    ],
)
def test_owner_sees_nothing_that_cannot_be_recorded_or_is_not_there(
    changes: dict[str, Any], reason: DenialReason
) -> None:
    assert Case(request=VIEWING, conditions=replace(HERE, **changes)).reason() is reason


# Nothing widens

seconds = st.integers(0, 200)
heights = st.integers(1, 1000)
area_names = st.lists(st.sampled_from(["street", "path", "garden"]), unique=True, max_size=3).map(tuple)
scopes = st.builds(
    lambda **fields: replace(TOKEN.scope, **fields),
    areas=area_names,
    max_height=heights,
    max_fps=st.integers(1, 60),
    session_seconds=seconds,
    total_seconds=seconds,
    sessions=st.integers(1, 3),
    viewers=st.integers(1, 3),
    needs_alarm=st.booleans(),
    not_before_ns=st.integers(NOON - 3, NOON + 3),
    not_after_ns=st.integers(NOON, NOON + 100 * SECOND_NS),
    redaction=st.sampled_from([frozenset(), frozenset({Redaction.FACES})]),
)
whens = st.builds(
    When,
    agencies=st.sampled_from([(), (POLICE.key_id,), (ELSEWHERE,)]),
    purposes=st.sampled_from([(), (PurposeKind.INCIDENT,), (PurposeKind.DRILL,)]),
    alarm=st.sampled_from([None, True, False]),
)
caps = st.builds(
    Caps, seconds=st.integers(1, 100), height=heights, fps=st.integers(1, 60), viewers=st.integers(1, 3)
)
effects = st.sampled_from([Effect.CAP, Effect.CAP, Effect.DENY, Effect.REQUIRE_ALARM])
rules = st.lists(st.builds(Rule, effects, whens, caps), max_size=3)
requests = st.builds(
    lambda **fields: replace(REQUEST, **fields),
    areas=area_names,
    max_height=heights,
    max_fps=st.integers(1, 60),
    seconds=st.integers(1, 200),
)
standings = st.builds(
    lambda sessions, used, floor, alarm: Standing(
        usage={TOKEN.id: Usage(sessions, used)}, floor=floor, alarm_until_ns=alarm
    ),
    st.integers(0, 3),
    seconds,
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, NOON, NOON + 1, NOON + 40 * SECOND_NS]),
)
surroundings = st.builds(
    lambda **fields: replace(HERE, **fields),
    viewers=st.sampled_from([{}, {TOKEN.id: 1}]),
    viewers_at_once=st.integers(0, 4),
    elapsed_seconds=st.sampled_from([None, 0, 30]),
)
nows = st.builds(lambda low, width: at(low, low + width), st.integers(NOON - 2, NOON + 2), st.integers(0, 3))
cases = st.builds(
    lambda request, scope, rules, state, conditions, now: Case(
        request, replace(CHARTER, rules=tuple(rules)), (replace(TOKEN, scope=scope),), state, conditions, now
    ),
    requests, scopes, rules, standings, surroundings, nows,
)  # fmt: skip


def within(narrow: Decision, wide: Decision) -> bool:
    """Whether the one allows nothing that the other does not."""
    if isinstance(narrow, Denial):
        return True
    return (
        isinstance(wide, Grant)
        and set(narrow.view.areas) <= set(wide.view.areas)
        and narrow.view.redaction >= wide.view.redaction
        and narrow.view.max_height <= wide.view.max_height
        and narrow.view.max_fps <= wide.view.max_fps
        and narrow.seconds <= wide.seconds
    )


@given(cases)
def test_grant_stays_within_request_token_and_rules_each_alone(case: Case) -> None:
    decision = case.decide()
    if isinstance(decision, Denial):
        return
    assert isinstance(case.request, Request)
    assert case.charter is not None
    (token,) = case.tokens
    camera = case.charter.cameras[0]
    names = {area.name for area in camera.areas if area.polygon in decision.view.areas}
    assert decision.view.areas
    assert names <= set(token.scope.areas)
    assert not case.request.areas or names <= set(case.request.areas)
    assert decision.view.redaction == token.scope.redaction <= case.conditions.redactions
    used = case.state.usage[TOKEN.id].seconds
    elapsed = case.conditions.elapsed_seconds or 0
    assert (
        0
        < decision.seconds + elapsed
        <= min(case.request.seconds, token.scope.session_seconds, token.scope.total_seconds - used)
    )
    assert decision.view.max_height <= min(case.request.max_height, token.scope.max_height)
    assert decision.view.max_fps <= min(case.request.max_fps, token.scope.max_fps)
    assert case.now is not None
    alarm = case.now.latest_ns < case.state.alarm_until_ns
    for rule in case.charter.rules:
        binds = (
            rule.when.agencies in ((), (POLICE.key_id,))
            and rule.when.purposes in ((), (PurposeKind.INCIDENT,))
            and rule.when.alarm in (None, alarm)
        )
        if binds:
            assert rule.effect is not Effect.DENY
            assert rule.effect is not Effect.REQUIRE_ALARM or alarm
        if binds and rule.effect is Effect.CAP:
            assert decision.seconds + elapsed <= rule.caps.seconds
            assert decision.view.max_height <= rule.caps.height
            assert decision.view.max_fps <= rule.caps.fps


@given(cases, scopes)
def test_narrower_scope_never_allows_more(case: Case, other: Any) -> None:
    (token,) = case.tokens
    scope = token.scope
    both = replace(
        scope,
        areas=tuple(name for name in scope.areas if name in other.areas),
        redaction=scope.redaction | other.redaction,
        max_height=min(scope.max_height, other.max_height),
        max_fps=min(scope.max_fps, other.max_fps),
        session_seconds=min(scope.session_seconds, other.session_seconds),
        total_seconds=min(scope.total_seconds, other.total_seconds),
        sessions=min(scope.sessions, other.sessions),
        viewers=min(scope.viewers, other.viewers),
        needs_alarm=scope.needs_alarm or other.needs_alarm,
        not_before_ns=max(scope.not_before_ns, other.not_before_ns),
        not_after_ns=min(scope.not_after_ns, other.not_after_ns),
    )
    assert within(replace(case, tokens=(replace(token, scope=both),)).decide(), case.decide())


@given(cases, rules)
def test_more_rules_never_allow_more(case: Case, more: list[Rule]) -> None:
    assert case.charter is not None
    stricter = replace(case.charter, rules=(*case.charter.rules, *more))
    assert within(replace(case, charter=stricter).decide(), case.decide())


@given(cases)
def test_wider_doubt_about_the_time_never_allows_more(case: Case) -> None:
    assert case.now is not None
    wider = replace(case.now, earliest_ns=case.now.earliest_ns - 2, latest_ns=case.now.latest_ns + SECOND_NS)
    assert within(replace(case, now=wider).decide(), case.decide())
    assert isinstance(replace(case, now=None).decide(), Denial)


@given(cases, st.integers(0, 3), seconds)
def test_more_use_never_allows_more(case: Case, sessions: int, used: int) -> None:
    before = case.state.usage[TOKEN.id]
    more = replace(case.state, usage={TOKEN.id: Usage(before.sessions + sessions, before.seconds + used)})
    assert within(replace(case, state=more).decide(), case.decide())


@given(cases)
def test_revocation_is_final_whatever_else_holds(case: Case) -> None:
    for state in (
        replace(case.state, revoked=frozenset({TOKEN.id})),
        replace(case.state, floor=1),
        replace(case.state, agency_floors={POLICE.key_id: 1}),
    ):
        assert isinstance(replace(case, state=state).decide(), Denial)
