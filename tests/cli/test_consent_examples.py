"""An owner's own examples: they ask the very `decide`, and say in words what does not go as they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from agent.cli.examples import check, read_examples
from agent.consent.rules import Caps, Effect, Rule, When
from agent.consent.windows import Day, Weekly, Window
from agent.errors import ConfigError
from tests.support.household import NOON, POLICE, Home

if TYPE_CHECKING:
    from agent.consent.charter import Charter

CHARTER = Home().charter()
NIGHTS = Weekly("Europe/Madrid", (Window(tuple(Day), 22 * 60, 6 * 60),))
STRICT = replace(
    CHARTER,
    rules=(
        Rule(Effect.REQUIRE_ALARM, When(hours=NIGHTS), Caps()),
        Rule(Effect.CAP, When(), Caps(height=360, seconds=600)),
    ),
)
USUAL: dict[str, Any] = {
    "name": "x",
    "agency": POLICE.name,
    "camera": "front",
    "at": "mon 12:00",
    "expect": "allow",
}


def outcome(tmp_path: Path, charter: Charter = STRICT, **changes: Any) -> str:
    """What is wrong with one example; nothing if it goes as it says."""
    file = tmp_path / "examples.yaml"
    example = {key: value for key, value in {**USUAL, **changes}.items() if value is not None}
    file.write_text(yaml.safe_dump({"zone": "Europe/Madrid", "examples": [example]}))
    (found,) = read_examples(file, charter, NOON)
    return check(found, charter).wrong


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"at": "2026-02-02 12:00", "areas": ["street"], "purpose": "drill"},
        {"at_most": {"seconds": 600, "height": 360, "fps": 120}},
        {"at": "sat 23:30", "expect": "deny", "because": "rule-requires-alarm"},
        {"at": "sun 03:00", "expect": "deny"},
        {"at": "sat 23:30", "alarm": True},
        {"shutter": "closed", "expect": "deny", "because": "shutter-closed"},
        {"blocked": True, "expect": "deny", "because": "agency-blocked"},
        {"consented": False, "expect": "deny", "because": "no-token"},
        {"camera": "back", "expect": "deny", "because": "unknown-camera"},
        {"areas": ["garden"], "expect": "deny", "because": "outside-scope"},
        {"mode": "footage", "expect": "deny"},
    ],
)
def test_example_that_goes_as_it_says_is_silent(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert outcome(tmp_path, **changes) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expect": "deny"}, "expected deny, and it would be allowed"),
        ({"at": "sat 23:30"}, "expected allow, and it would be denied: rule-requires-alarm"),
        ({"shutter": "closed", "expect": "deny", "because": "no-token"}, "expected deny because of no-token"),
        ({"at_most": {"seconds": 599}}, "expected at most 599 seconds, got 600"),
        ({"at_most": {"height": 359, "fps": 1}}, "expected at most 359 height, got 360: expected at most 1"),
    ],
)
def test_example_that_goes_otherwise_says_how(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in outcome(tmp_path, **changes)


def test_draft_is_tested_before_it_is_signed(tmp_path: Path) -> None:
    night = {"at": "sat 23:30", "expect": "deny"}
    assert outcome(tmp_path, CHARTER, **night)
    assert not outcome(tmp_path, STRICT, **night)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": None}, "name"),
        ({"agency": "Nobody"}, "not in your charter"),
        ({"at": "someday 12:00"}, "expected something like mon 12:00"),
        ({"at": "mon 25:00"}, "expected something like mon 12:00"),
        ({"at": "2026-02-30 12:00"}, "expected something like mon 12:00"),
        ({"expect": "perhaps"}, "expected allow or deny"),
        ({"because": "no-token"}, "goes with deny"),
        ({"expect": "deny", "at_most": {"fps": 1}}, "goes with deny"),
        ({"because": "bad mood", "expect": "deny"}, "because"),
        ({"colour": "red"}, "colour"),
        ({"at_most": {"width": 3}}, "width"),
        ({"alarm": "yes please"}, "alarm"),
    ],
)
def test_example_that_makes_no_sense_is_named_in_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        outcome(tmp_path, **changes)
    assert str(error.value).isprintable()


def test_file_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "f"
    for content, said in (
        (b"examples: [", "not YAML at line"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"- 1", "not an object"),
        (b"examples: {}", "examples"),
        (b"zone: Europe/Nowhere\nexamples: []", "does not know"),
        (b"x" * 300_000, "too large"),
        (b"examples: []\nmore: 1", "more"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=said) as error:
            read_examples(file, CHARTER, NOON)
        assert str(error.value).isprintable()
    with pytest.raises(ConfigError, match="No such file"):
        read_examples(tmp_path / "missing", CHARTER, NOON)


def test_example_file_of_the_documents_is_read_and_holds_for_a_plain_charter() -> None:
    file = Path(__file__).parents[2] / "docs" / "consent-examples.yaml"
    agency = replace(CHARTER.agencies[0], max_seconds=900)
    camera = CHARTER.cameras[0]
    charter = replace(
        CHARTER,
        agencies=(agency, *CHARTER.agencies[1:]),
        cameras=(camera,),
        rules=(Rule(Effect.CAP, When(), Caps(height=720)),),
    )
    found = read_examples(file, charter, NOON)
    assert len(found) == 4
    assert [check(each, charter).wrong for each in found] == [""] * 4
