"""The inbox without a terminal: what lets out asks once more, what takes away does not, nothing slips."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import inbox
from agent.cli.inbox import (
    DOWN,
    ESCAPE,
    UP,
    Allow,
    Block,
    Event,
    Inbox,
    NotNow,
    Quit,
    Stop,
    StopEverything,
    by_lines,
    event_json,
    event_line,
    typed,
)

SHARED = {"front": ["street", "path"], "back": ["yard"]}


def request(name: str = "a", **changes: Any) -> dict[str, Any]:
    usual = {
        "id": f"sha256:{name * 64}",
        "agency": "sha256:" + "f" * 64,
        "agency_name": "Control Room",
        "operator": "Kim",
        "badge": "7",
        "camera": "front",
        "mode": "live",
        "purpose": {"kind": "incident", "reference": "CASE-1"},
        "areas": ["street"],
        "seconds": 900,
        "max_height": 1080,
        "max_fps": 30,
        "footage": None,
        "lapses_in_s": 3000,
        "standing": "waiting",
        "decision": "no-token",
    }
    return {**usual, **changes}


def session(name: str = "s1", **changes: Any) -> dict[str, Any]:
    usual = {
        "session": name,
        "token": "sha256:" + "e" * 64,
        "agency_name": "Control Room",
        "operator": "Kim",
        "badge": "7",
        "camera": "front",
        "reference": "CASE-1",
        "seconds_left": 100,
    }
    return {**usual, **changes}


def box(*requests: dict[str, Any], watching: tuple[dict[str, Any], ...] = ()) -> Inbox:
    found = Inbox()
    found.update(requests, watching, SHARED)
    return found


def screen(found: Inbox) -> str:
    return "\n".join(found.lines(200))


# What is said


def test_card_says_who_what_why_how_long_until_when_and_what_they_will_see() -> None:
    text = screen(box(request()))
    for part in (
        "Control Room: Kim, badge 7",
        "asks to see front, live, up to 15 min",
        "for: incident, CASE-1; lapses in 50 min",
        "they will see: street, at most 480 lines, 15 pictures a second; all else is blacked out",
    ):
        assert part in text


def test_request_that_soon_lapses_is_flagged_and_time_unknown_says_nothing() -> None:
    assert "SOON" in screen(box(request(lapses_in_s=300)))
    assert "SOON" not in screen(box(request(lapses_in_s=301)))
    assert "lapses" not in screen(box(request(lapses_in_s=None)))


def test_choice_is_what_was_asked_or_the_only_area_and_never_more_than_asked() -> None:
    found = box(
        request(areas=["street", "garden"], max_height=240, max_fps=5),
        request("b", camera="back", areas=[]),
        request("c", areas=[]),
        request("d", camera="unknown", areas=["x"]),
    )
    assert [ask.areas for ask in found.asks] == [["street"], ["yard"], [], []]
    assert (found.asks[0].height, found.asks[0].fps) == (240, 5)
    assert "no area chosen yet, so nothing" in screen(found)


def test_only_what_waits_is_in_the_inbox() -> None:
    others = [
        request(name, standing=word) for name, word in (("b", "granted"), ("c", "dismissed"), ("d", "closed"))
    ]
    assert [ask.id for ask in box(request(), *others).asks] == [request()["id"]]
    assert "Nobody asks." in screen(box(*others))


def test_footage_names_its_stretch() -> None:
    stretch = {"begin": "2026-01-31T10:00:00Z", "end": "2026-01-31T11:00:00Z"}
    assert "footage of front from 2026-01-31T10:00:00Z" in screen(
        box(request(mode="footage", footage=stretch))
    )


@given(st.text(max_size=30), st.integers(0, 120))
def test_text_of_others_writes_nothing_else_to_the_terminal(text: str, width: int) -> None:
    said = request(agency_name=text, operator=text, badge=text, camera=text, areas=[text])
    said["purpose"] = {"kind": "incident", "reference": text}
    found = box(said, watching=(session(agency_name=text, operator=text, camera=text, reference=text),))
    found.key("1")
    found.key("b")
    for line in [*found.lines(width), *"\n".join(by_lines(found)).split("\n")]:
        assert line.isprintable()
    assert all(len(line) <= max(width, 24) for line in found.lines(width))
    assert event_line(Event("watching", session(operator=text))).isprintable()


# Keys


@pytest.mark.parametrize(("key", "minutes"), [("1", 5), ("2", 15), ("3", 60)])
def test_allowing_says_what_will_be_seen_and_asks_once_more(key: str, minutes: int) -> None:
    found = box(request())
    assert found.key(key) is None
    text = screen(found)
    assert f"ALLOW Control Room: Kim, badge 7 to see front for {minutes} min?" in text
    assert "They will see: street, at most 480 lines" in text
    command = found.key("y")
    assert isinstance(command, Allow)
    assert (command.ask.id, command.minutes) == (request()["id"], minutes)
    assert found.about is None


@pytest.mark.parametrize("key", ["n", "Y", "1", "\r", " ", "q", "s", ESCAPE])
def test_anything_but_yes_allows_nothing(key: str) -> None:
    found = box(request(), watching=(session(),))
    for first in ("2", "b"):
        found.key(first)
        assert found.key(key) is None
        assert found.about is None


def test_not_now_stop_and_stop_everything_ask_nothing() -> None:
    found = box(request(), watching=(session(),))
    assert isinstance(found.key("n"), NotNow)
    stop = found.key("s")
    assert isinstance(stop, Stop)
    assert stop.watching.session == "s1"
    assert isinstance(found.key("S"), StopEverything)
    assert isinstance(found.key("q"), Quit)


def test_stop_everything_works_in_the_middle_of_anything() -> None:
    for keys in ("1", "b", "t", "j"):
        found = box(request(), watching=(session(), session("s2")))
        for key in keys:
            found.key(key)
        assert isinstance(found.key("S"), StopEverything)
        assert (found.about, found.trimming) == (None, False)


def test_block_asks_once_more_and_names_whom() -> None:
    found = box(request())
    assert found.key("b") is None
    assert "BLOCK Control Room" in screen(found)
    assert found.key("y") == Block(request()["agency"], "Control Room")


def test_stop_with_several_watching_wants_to_know_which() -> None:
    found = box(request(), watching=(session(), session("s2")))
    assert found.key("s") is None
    assert "Which one?" in screen(found)
    found.key(DOWN)
    found.key("j")
    stop = found.key("s")
    assert isinstance(stop, Stop)
    assert stop.watching.session == "s2"
    assert box(request()).key("s") is None


def test_trim_chooses_areas_and_size_and_allow_takes_them() -> None:
    found = box(request())
    for key in "t21":
        assert found.key(key) is None
    assert "1 [ ] street   2 [x] path" in screen(found)
    for key in "---+++++++-":
        found.key(key)
    found.key("\r")
    found.key("1")
    command = found.key("y")
    assert isinstance(command, Allow)
    assert (command.ask.areas, command.ask.height) == (["path"], 720)


def test_trim_to_the_smallest_and_no_further() -> None:
    found = box(request())
    for key in "t" + "-" * 9:
        found.key(key)
    assert found.asks[0].height == 240


def test_nothing_is_allowed_before_an_area_is_chosen() -> None:
    found = box(request(areas=[]))
    assert found.key("1") is None
    assert found.about is None
    assert found.trimming
    assert "Choose first what they may see." in screen(found)
    found.key("9")
    assert found.asks[0].areas == []


def test_keys_without_anything_to_act_on_do_nothing() -> None:
    found = box()
    for key in ["1", "t", "n", "b", "s", "y", UP, DOWN, ESCAPE, "\x00", "é"]:
        assert found.key(key) is None
    found = box(watching=(session(),))
    for key in ["1", "t", "n", "b"]:
        assert found.key(key) is None


@given(st.lists(st.sampled_from([*"123tnbsyj+-q", UP, DOWN, "\r"]), max_size=30))
def test_no_keys_allow_without_a_yes_right_after_a_length(keys: list[str]) -> None:
    found = box(request(), request("b", areas=[]), watching=(session(),))
    for before, key in zip(["", *keys], keys, strict=False):
        if isinstance(found.key(key), Allow):
            assert (before in "123", key) == (True, "y")


# What changes meanwhile


def test_what_comes_and_goes_does_not_slip_under_the_owners_finger() -> None:
    found = box(request("b"))
    found.key("1")
    found.update([request("a"), request("b")], [], SHARED)
    command = found.key("y")
    assert isinstance(command, Allow)
    assert command.ask.id == request("b")["id"]


def test_request_that_went_meanwhile_is_not_allowed() -> None:
    found = box(request("a"), request("b"))
    found.key("1")
    found.update([request("b")], [], SHARED)
    assert found.key("y") is None
    found.update([request("b")], [], SHARED)
    assert found.about is None


def test_choices_stay_while_the_list_is_renewed() -> None:
    found = box(request())
    for key in "t2+":
        found.key(key)
    found.update([request(lapses_in_s=10)], [], SHARED)
    assert found.trimming
    assert found.asks[0].areas == ["street", "path"]
    assert found.asks[0].height == 720
    assert "lapses in 10 s" in screen(found)


def test_events_tell_each_change_once() -> None:
    found = Inbox()

    def names(requests: list[dict[str, Any]], watching: list[dict[str, Any]]) -> list[str]:
        return [event.name for event in found.update(requests, watching, SHARED)]

    assert names([request()], []) == ["asked"]
    assert names([request()], []) == []
    assert names([request(standing="granted")], [session()]) == ["gone", "watching"]
    assert names([], [session(seconds_left=3)]) == []
    assert names([], []) == ["stopped"]
    gone = found.update([request("c")], [], SHARED) and found.update([], [], SHARED)
    assert [dict(event.fields) for event in gone] == [{"id": request("c")["id"], "standing": "lapsed"}]


def test_events_for_scripts_and_for_lines() -> None:
    (asked,) = Inbox().update([request()], [], SHARED)
    said = event_json(asked, "now")
    assert (said["event"], said["at"], said["operator"]) == ("asked", "now", "Kim")
    assert event_line(Event("gone", {"id": request()["id"], "standing": "lapsed"})).endswith("lapsed")
    assert event_line(Event("stopped", {"session": "s1"})) == "session s1 is over"


@pytest.mark.parametrize("height", [12, 16, 24])
def test_small_screen_keeps_who_watches_the_chosen_one_and_the_question_in_sight(height: int) -> None:
    found = box(*(request(name, operator=f"Operator {name}") for name in "abcdef"), watching=(session(),))
    for number in range(7):
        text = found.lines(80, height)
        assert len(text) <= height
        assert any(line.startswith("WATCHING NOW") for line in text)
        assert any(line.startswith("> ") for line in text)
        if number < 6:
            assert any(f"Operator {'abcdef'[number]}" in line for line in text)
            found.key("1")
            assert any(line.startswith("ALLOW ") for line in found.lines(80, height))
            found.key("x")
        found.key(DOWN)


def test_trouble_stands_on_top() -> None:
    found = box(request())
    found.trouble = "nobody there; trying again"
    assert "!! nobody there" in screen(found)


# By lines


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("no 1", NotNow),
        ("block 1", Block),
        ("allow 1 15", Allow),
        ("stop", Stop),
        ("stop 1", Stop),
        ("stop all", StopEverything),
        ("quit", Quit),
        ("  ALLOW   1  60 ", Allow),
    ],
)
def test_typed_line_is_the_command_it_says(line: str, command: type[object]) -> None:
    assert isinstance(typed(box(request(), watching=(session(),)), line), command)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "help",
        "allow",
        "allow 1",
        "allow 1 30",
        "allow 2 5",
        "allow 0 5",
        "allow x 5",
        "allow -1 5",
        "stop 3",
        "trim 1",
        "trim 1 garden",
        "trim 1 street 9999",
        "trim 1 240 360",
        "no",
        "block 9",
        "stop x",
        "\x1b[A",
    ],
)
def test_line_that_says_nothing_usable_changes_nothing(line: str) -> None:
    found = box(request(), watching=(session(), session("s2")))
    said = typed(found, line)
    assert isinstance(said, str)
    assert said
    assert (found.asks[0].areas, found.asks[0].height) == (["street"], 480)


def test_lines_number_what_they_show_and_trim_changes_it() -> None:
    found = box(request(areas=[]), watching=(session(),))
    text = str(typed(found, "list"))
    assert "[1] Control Room: Kim, badge 7 asks to see front, live" in text
    assert "choose: trim 1 AREA" in text
    assert "[1] WATCHING NOW" in text
    assert "choose first" in str(typed(found, "allow 1 5"))
    assert "they will see: path, at most 240 lines" in str(typed(found, "trim 1 path 240"))
    command = typed(found, "allow 1 5")
    assert isinstance(command, Allow)
    assert (command.ask.areas, command.ask.height, command.minutes) == (["path"], 240, 5)
    assert by_lines(Inbox()) == ["Nobody asks, nobody watches."]


def test_clean_leaves_ordinary_text_alone() -> None:
    assert inbox.clean("Jackson Real-Time Crime Center, Ñ 4417") == "Jackson Real-Time Crime Center, Ñ 4417"
    assert inbox.clean("a\x1b[2Jb\nc\u202e") == "a?[2Jb?c?"
