"""Durations and moments as people type them."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.times import parse_duration, parse_moment
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_NS = 1_769_860_800_000_000_000  # 2026-01-31T12:00:00Z


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's zone for the test, written as POSIX rules: no zone database needed."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h", 3600),
        ("7d", 604_800),
        ("1h30m", 5400),
        ("1d1h1m1s", 90_061),
        ("45", 45),
    ],
)
def test_duration_is_read_to_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5m", "5 m", "1.5h", "1m1h", "15min", "s", "\u0661\u0665m", "9999999999", "1h\n"]
)
def test_duration_of_no_length_or_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "offset_s"),
    [
        ("now", 0),
        ("-10m", -600),
        ("+1h", 3600),
        ("2026-01-31T12:00:00Z", 0),
        ("2026-01-31T13:00:00+01:00", 0),
        ("2026-01-31T12:00:01.5Z", 1.5),
    ],
)
def test_moment_with_a_zone_is_the_same_everywhere(text: str, offset_s: float) -> None:
    assert parse_moment(text, NOW_NS) == NOW_NS + int(offset_s * 10**9)


@pytest.mark.usefixtures("berlin")
def test_moment_without_a_zone_is_local_time_in_summer_as_in_winter() -> None:
    assert parse_moment("2026-01-31T13:00", NOW_NS) == NOW_NS
    assert parse_moment("2026-01-31", NOW_NS) == NOW_NS - 13 * 3600 * 10**9
    summer = dt.datetime(2026, 7, 1, 10, tzinfo=dt.UTC)
    assert parse_moment("2026-07-01T12:00", NOW_NS) == int(summer.timestamp()) * 10**9


@pytest.mark.parametrize(
    "text",
    ["", "then", "12:00", "31.01.2026", "2026-02-30", "1969-01-01T00:00Z", "-", "-60000d", "9999-12-31T99"],
)
def test_moment_that_is_none_or_before_the_epoch_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_moment(text, NOW_NS)


@given(st.text(max_size=40))
def test_whatever_is_typed_is_read_or_refused_in_one_line(text: str) -> None:
    complaints: list[str] = []
    for read in (parse_duration, lambda each: parse_moment(each, NOW_NS)):
        try:
            assert read(text) >= 0
        except ConfigError as error:
            complaints.append(str(error))
    assert not any("\n" in each for each in complaints)
