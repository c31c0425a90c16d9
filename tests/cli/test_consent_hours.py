"""Hours as people type them: what is taken means what it says, and all else is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import hours, sentences
from agent.consent.windows import Day, Weekly, Window
from agent.errors import MalformedInput

ALL = tuple(Day)
windows = st.builds(
    lambda days, begin, end: Window(tuple(day for day in Day if day in days), begin, end),
    st.sets(st.sampled_from(list(Day)), min_size=1),
    st.integers(0, 1439),
    st.integers(0, 1439),
)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("mon-fri 08:00-18:00", Window(ALL[:5], 480, 1080)),
        ("sat sun 22:00-6:00", Window((Day.SAT, Day.SUN), 1320, 360)),
        ("SAT,SUN 22:00-06:00", Window((Day.SAT, Day.SUN), 1320, 360)),
        ("fri-mon 00:00-24:00", Window((Day.MON, Day.FRI, Day.SAT, Day.SUN), 0, 0)),
        ("daily 00:00-00:00", Window(ALL, 0, 0)),
        ("wed-wed 9:30-9:31", Window((Day.WED,), 570, 571)),
    ],
)
def test_window_means_what_it_says(text: str, window: Window) -> None:
    assert hours.parse_window(text) == window


@given(windows)
def test_window_as_sentences_write_it_is_read_back_equal(window: Window) -> None:
    assert hours.parse_window(sentences.window(window)) == window


@pytest.mark.parametrize(
    "text",
    [
        "",
        "08:00-18:00",
        "mon",
        "mon 8-18",
        "mon 08:00-25:00",
        "mon 24:00-06:00",
        "mon 08:00-24:01",
        "mon 08:60-09:00",
        "mon mon 08:00-09:00",
        "mon-wed tue 08:00-09:00",
        "mon- 08:00-09:00",
        "funday 08:00-09:00",
        "mon 08:00-18:00 tue",
        "x" * 500,
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(MalformedInput) as error:
        hours.parse_window(text)
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


def test_windows_stand_in_the_zone_that_is_said_or_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ("mon 08:00-09:00",)
    assert hours.weekly(typed, "Europe/Madrid") == Weekly("Europe/Madrid", (Window((Day.MON,), 480, 540),))
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    found = hours.weekly(typed, None)
    assert found is not None
    assert found.zone == "Asia/Kolkata"
    assert hours.weekly((), None) is None
    monkeypatch.setenv("TZ", "CET-1CEST")
    with pytest.raises(MalformedInput, match="in which time zone"):
        hours.weekly(typed, None)
    with pytest.raises(MalformedInput, match="does not know"):
        hours.weekly(typed, "Europe/Nowhere")
