"""Weekly windows against a model that asks the local clock at every minute, in zones that change it."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.consent import strict_json
from agent.consent.times import SECOND_NS, Interval, TimeQuality
from agent.consent.windows import Day, Weekly, Window
from agent.errors import DocumentError

ZONES = ("Europe/Madrid", "America/Chicago", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu")
CHANGES = {  # a few hours before a change of the clock, in UTC; Kathmandu has none
    "Europe/Madrid": ("2026-03-28T20:00", "2026-10-24T20:00"),
    "America/Chicago": ("2026-03-08T03:00", "2026-11-01T02:00"),
    "Australia/Lord_Howe": ("2026-04-04T10:00", "2026-10-03T10:00"),
    "Africa/Casablanca": ("2026-02-14T21:00", "2026-03-21T21:00"),
    "Asia/Kathmandu": ("2026-03-28T20:00", "2026-10-24T20:00"),
}
MINUTES = st.integers(0, 24 * 60 - 1)
WINDOWS = st.builds(
    Window,
    st.lists(st.sampled_from(tuple(Day)), min_size=1, max_size=7, unique=True).map(tuple),
    MINUTES,
    MINUTES,
)
WEEKLIES = st.builds(Weekly, st.sampled_from(ZONES), st.lists(WINDOWS, min_size=1, max_size=3).map(tuple))


def at(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp())


def model(weekly: Weekly, second: int) -> bool:
    """What a person with a calendar and a clock in that zone says."""
    local = dt.datetime.fromtimestamp(second, dt.UTC).astimezone(ZoneInfo(weekly.zone))
    clock = local.strftime("%H:%M")
    today = local.strftime("%a").lower()
    yesterday = tuple(Day)[(list(Day).index(Day(today)) - 1) % 7]
    for window in weekly.windows:
        begin = f"{window.from_minute // 60:02d}:{window.from_minute % 60:02d}"
        end = f"{window.to_minute // 60:02d}:{window.to_minute % 60:02d}"
        if begin < end:
            if today in window.days and begin <= clock < end:
                return True
        elif (today in window.days and clock >= begin) or (yesterday in window.days and clock < end):
            return True
    return False


def moment(second: int, last: int | None = None) -> Interval:
    return Interval(
        second * SECOND_NS, (second if last is None else last) * SECOND_NS, TimeQuality.AUTHENTICATED
    )


def zones(weekly: Weekly) -> dict[str, dt.tzinfo]:
    return {weekly.zone: ZoneInfo(weekly.zone)}


@given(WEEKLIES, st.integers(0, 1), st.integers(0, 60 * 24))
@settings(max_examples=300, deadline=None)
@example(Weekly("Europe/Madrid", (Window((Day.SUN,), 90, 150),)), 0, 200)
@example(Weekly("Europe/Madrid", (Window((Day.SUN,), 135, 165),)), 0, 200)
def test_first_flip_is_the_one_that_a_clock_watched_every_minute_shows(
    weekly: Weekly, change: int, minutes: int
) -> None:
    start = at(CHANGES[weekly.zone][change]) + minutes * 60
    end = start + 26 * 3600
    state = model(weekly, start)
    expected = next(
        (second for second in range(start + 60, end + 1, 60) if model(weekly, second) is not state), None
    )
    assert weekly.flips_after(start, end, ZoneInfo(weekly.zone)) == expected


@given(WEEKLIES, st.integers(0, 1), st.integers(0, 60 * 60 * 24), st.integers(0, 7200))
@settings(max_examples=300, deadline=None)
def test_a_condition_holds_only_if_it_holds_on_all_of_the_interval(
    weekly: Weekly, change: int, offset: int, length: int
) -> None:
    start = at(CHANGES[weekly.zone][change]) + offset
    states = {model(weekly, second) for second in (*range(start, start + length, 30), start + length)}
    now = moment(start, start + length)
    assert weekly.holds_throughout(now, zones(weekly)) is (states == {True})
    assert weekly.may_hold(now, zones(weekly)) is (True in states)


@given(WEEKLIES, st.integers(0, 1), st.integers(0, 60 * 60 * 24), st.booleans())
@settings(max_examples=200, deadline=None)
def test_seconds_left_end_exactly_at_the_flip(
    weekly: Weekly, change: int, offset: int, holding: bool
) -> None:
    start = at(CHANGES[weekly.zone][change]) + offset
    most = 4 * 3600
    left = weekly.seconds_left(moment(start), most, zones(weekly), holding=holding)
    if model(weekly, start) is not holding:
        assert left == 0
        return
    assert all(model(weekly, second) is holding for second in range(start, start + left, 30))
    assert left == most or model(weekly, start + left) is not holding


def test_unknown_zone_never_permits_and_always_denies() -> None:
    weekly = Weekly("Mars/Olympus", (Window(tuple(Day), 0, 0),))
    now = moment(at("2026-06-01T12:00"))
    assert not weekly.holds_throughout(now, {})
    assert weekly.may_hold(now, {})
    assert weekly.seconds_left(now, 60, {}, holding=True) == 0
    assert weekly.seconds_left(now, 60, {}, holding=False) == 0


def test_an_interval_of_more_than_a_day_permits_nothing() -> None:
    weekly = Weekly("Asia/Kathmandu", (Window(tuple(Day), 0, 0),))
    start = at("2026-06-01T12:00")
    assert weekly.holds_throughout(moment(start, start + 3600), zones(weekly))
    assert not weekly.holds_throughout(moment(start, start + 25 * 3600), zones(weekly))
    assert weekly.may_hold(moment(start, start + 25 * 3600), zones(weekly))


def test_window_past_midnight_belongs_to_the_day_it_begins_on() -> None:
    weekly = Weekly("Europe/Madrid", (Window((Day.MON,), 22 * 60, 6 * 60),))
    zone = zones(weekly)
    assert weekly.holds_throughout(moment(at("2026-06-01T21:00")), zone)  # Monday 23:00 there
    assert weekly.holds_throughout(moment(at("2026-06-02T03:59")), zone)  # Tuesday 05:59
    assert not weekly.holds_throughout(moment(at("2026-06-02T04:00")), zone)
    assert not weekly.holds_throughout(moment(at("2026-06-01T03:00")), zone)  # Monday 05:00: Sunday's night


def test_weekly_is_read_back_as_it_was_written() -> None:
    weekly = Weekly("America/Chicago", (Window((Day.SAT, Day.SUN), 480, 1200), Window((Day.FRI,), 1320, 120)))
    value = strict_json.loads(strict_json.dumps(weekly.to_json()))
    assert Weekly.parse(value, "weekly") == weekly


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zone": "../etc/passwd"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"windows": []}, "none"),
        ({"windows": [{"days": [], "from": "01:00", "to": "02:00"}]}, "days"),
        ({"windows": [{"days": ["mon", "mon"], "from": "01:00", "to": "02:00"}]}, "days"),
        ({"windows": [{"days": ["noday"], "from": "01:00", "to": "02:00"}]}, "noday"),
        ({"windows": [{"days": [["mon"]], "from": "01:00", "to": "02:00"}]}, "days"),
        ({"windows": [{"days": ["mon"], "from": "1:00", "to": "02:00"}]}, "from"),
        ({"windows": [{"days": ["mon"], "from": "24:00", "to": "02:00"}]}, "from"),
        ({"windows": [{"days": ["mon"], "from": "01:00", "to": "02:00", "more": 1}]}, "more"),
        ({"more": 1}, "more"),
    ],
)
def test_malformed_weekly_is_refused_in_one_line(change: dict[str, object], message: str) -> None:
    value = {
        "zone": "Europe/Madrid",
        "windows": [{"days": ["mon"], "from": "01:00", "to": "02:00"}],
        **change,
    }
    with pytest.raises(DocumentError, match=message) as caught:
        Weekly.parse(value, "weekly")
    assert "\n" not in str(caught.value)
