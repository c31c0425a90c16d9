"""What a consent will allow: never another answer than `decide` gives at that very minute."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.cli.foresight import asking, conditions, foresee
from agent.cli.week import drawn, standing_of
from agent.consent.acts import ShutterState
from agent.consent.decision import Denial, Grant, Standing, Usage, decide
from agent.consent.footage import MaxAge
from agent.consent.reasons import DenialReason
from agent.consent.rules import Caps, Effect, Mode, PurposeKind, Rule, When
from agent.consent.times import SECOND_NS, Interval, TimeQuality
from agent.consent.windows import Day, Weekly, Window
from tests.support.household import HOUR_NS, POLICE, Home

HOME = Home()
CHARTER = HOME.charter()
DAY_NS = 24 * HOUR_NS
MADRID, APIA = ZoneInfo("Europe/Madrid"), ZoneInfo("Pacific/Apia")
ZONES = {"Europe/Madrid": MADRID, "Pacific/Apia": APIA}
SPRING = round(dt.datetime(2026, 3, 27, tzinfo=MADRID).timestamp()) * SECOND_NS
AUTUMN = round(dt.datetime(2026, 10, 23, tzinfo=MADRID).timestamp()) * SECOND_NS
OFFICE = Weekly("Europe/Madrid", (Window(tuple(Day)[:5], 8 * 60, 18 * 60),))
NIGHTS = Weekly("Europe/Madrid", (Window(tuple(Day), 22 * 60, 2 * 60 + 30),))
FAR = Weekly("Pacific/Apia", (Window((Day.SUN,), 3 * 60, 4 * 60),))


def token(begin_ns: int, days: float = 30, **scope: Any) -> Any:
    usual: dict[str, Any] = {
        "not_before_ns": begin_ns,
        "not_after_ns": begin_ns + round(days * DAY_NS),
        "session_seconds": 900,
        "total_seconds": 90_000,
    }
    return HOME.token(scope={**usual, **scope})


def rules(*found: Rule) -> Any:
    return replace(CHARTER, rules=found)


CASES = [
    (token(SPRING, windows=OFFICE), rules(), Standing()),
    (token(SPRING, windows=NIGHTS), rules(Rule(Effect.DENY, When(hours=FAR), Caps())), Standing()),
    (token(AUTUMN, windows=NIGHTS), rules(), Standing()),
    (
        token(SPRING, 2.2),
        rules(
            Rule(Effect.REQUIRE_ALARM, When(hours=NIGHTS), Caps(), When(purposes=(PurposeKind.DRILL,))),
            Rule(Effect.CAP, When(hours=OFFICE), Caps(height=300)),
        ),
        Standing(alarm_until_ns=SPRING + 25 * HOUR_NS),
    ),
    (token(SPRING + DAY_NS // 2, needs_alarm=True), rules(), Standing()),
    (token(SPRING), rules(), Standing(shutter=ShutterState.CLOSED)),
    (token(SPRING), rules(), Standing(blocked=frozenset({POLICE.key_id}))),
]


@pytest.mark.parametrize("case", CASES)
def test_foreseen_is_what_decide_says_minute_by_minute(case: tuple[Any, Any, Standing]) -> None:
    held, charter, standing = case
    begin_ns = SPRING if held.scope.not_before_ns < AUTUMN else AUTUMN
    end_ns = begin_ns + 4 * DAY_NS
    spans = foresee(held, charter, standing, ZONES, begin_ns=begin_ns, end_ns=end_ns)
    assert (spans[0].begin_ns, spans[-1].end_ns) == (begin_ns, end_ns)
    assert all(one.end_ns == other.begin_ns for one, other in itertools.pairwise(spans))
    request = asking(held, begin_ns=begin_ns, end_ns=end_ns)
    at = 0
    for now_ns in range(begin_ns, end_ns, 60 * SECOND_NS):
        while spans[at].end_ns <= now_ns:
            at += 1
        decision = decide(
            request,
            charter=charter,
            tokens=[held],
            state=standing,
            conditions=conditions(held, ZONES),
            now=Interval(now_ns, now_ns, TimeQuality.AUTHENTICATED),
        )
        said = spans[at].decision
        if isinstance(decision, Grant):
            assert isinstance(said, Grant)
            assert said.view == decision.view
        else:
            assert said == decision


def test_what_only_the_alarm_lets_through_is_said_so() -> None:
    held = token(SPRING, needs_alarm=True, windows=OFFICE)
    spans = foresee(held, CHARTER, Standing(), ZONES, begin_ns=SPRING, end_ns=SPRING + DAY_NS)
    assert [span.by_alarm for span in spans] == [False, True, False]
    lines = drawn(spans, MADRID)
    assert lines[1].split()[-1] == "." * 16 + "!" * 20 + "." * 12


def test_operators_named_and_requests_answered_do_not_hide_what_is_allowed() -> None:
    held = replace(token(SPRING), operators=("sha256:" + "e" * 64,), re="sha256:" + "d" * 64)
    (span,) = foresee(held, CHARTER, Standing(), ZONES, begin_ns=SPRING, end_ns=SPRING + DAY_NS)
    assert span.allowed


def test_footage_is_not_released_yet() -> None:
    held = token(SPRING, mode=Mode.FOOTAGE, footage=MaxAge(3600))
    (span,) = foresee(held, CHARTER, Standing(), ZONES, begin_ns=SPRING, end_ns=SPRING + DAY_NS)
    assert span.decision == Denial(DenialReason.UNSUPPORTED)


def test_used_up_consent_allows_nothing_any_more() -> None:
    held = token(SPRING)
    each = {"id": held.id, "revoked": False, "sessions_used": 3, "seconds_used": 10}
    said: dict[str, Any] = {"shutter": "open", "blocked": [], "alarm_until": None}
    standing = standing_of(each, said)
    assert standing.usage == {held.id: Usage(3, 10)}
    (span,) = foresee(held, CHARTER, standing, ZONES, begin_ns=SPRING, end_ns=SPRING + DAY_NS)
    assert span.decision == Denial(DenialReason.TOKEN_USED_UP)


def test_calendar_draws_days_in_the_zone_and_says_why_not() -> None:
    held = token(SPRING, windows=OFFICE)
    spans = foresee(held, CHARTER, Standing(), ZONES, begin_ns=SPRING, end_ns=SPRING + 3 * DAY_NS)
    lines = drawn(spans, MADRID)
    assert lines[1] == f"Fri 27 Mar  {'.' * 16}{'#' * 20}{'.' * 12}  08:00-18:00"
    assert lines[2] == f"Sat 28 Mar  {'.' * 48}"
    # The clock skips an hour: this day has 23, and ends with the calendar's 72nd.
    assert lines[3].startswith(f"Sun 29 Mar  {'.' * 46}")
    assert "Not allowed: the consent does not count at this hour." in lines
    assert "Allowed: at most 480 lines, 10 pictures a second." in lines


def test_part_of_half_an_hour_is_marked_as_part() -> None:
    odd = Weekly("Europe/Madrid", (Window(tuple(Day), 8 * 60 + 10, 8 * 60 + 20),))
    spans = foresee(
        token(SPRING, windows=odd), CHARTER, Standing(), ZONES, begin_ns=SPRING, end_ns=SPRING + DAY_NS
    )
    assert drawn(spans, MADRID)[1] == f"Fri 27 Mar  {'.' * 16}+{'.' * 31}  08:10-08:20"
