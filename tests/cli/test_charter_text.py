"""The charter as text: it comes back as it was, what is wrong is named by line, and nothing typed is lost."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from agent.cli import charter_reading, charter_yaml
from agent.cli.charter_edit import Draft
from agent.cli.differences import difference
from agent.consent import charter as charters
from agent.consent.charter import Witness
from agent.errors import ConfigError, DoorwardError, Refused
from tests.consent.documents import CHARTER as WITH_RULES
from tests.support.household import STREET, Home, ed, public

if TYPE_CHECKING:
    from pathlib import Path

    from agent.consent.charter import Charter

WITNESS = Witness("witness.example/w1", public(ed("witness")), "https://witness.example")
FULL = replace(
    WITH_RULES,
    witnesses=(WITNESS,),
    cameras=(replace(WITH_RULES.cameras[0], never=(STREET,)),),
    owners=(replace(WITH_RULES.owners[0], name='Ann "the # first": yes'), *WITH_RULES.owners[1:]),
    agencies=(replace(WITH_RULES.agencies[0], name="no"), *WITH_RULES.agencies[1:]),
)
TEXT = charter_yaml.written(FULL)
BARE = replace(Home().charter(), agencies=(), cameras=())


def read(text: str, current: Charter = FULL) -> Charter:
    return charter_reading.read(text, current, file="c.yaml")


def edited(old: str, new: str) -> str:
    """The text with one place changed, the first that is no comment."""
    at = TEXT.index(old)
    while TEXT[TEXT.rindex("\n", 0, at) + 1] == "#":
        at = TEXT.index(old, at + 1)
    return TEXT[:at] + new + TEXT[at + len(old) :]


@pytest.mark.parametrize("current", [FULL, WITH_RULES, BARE], ids=["full", "rules", "bare"])
def test_text_comes_back_as_the_next_version_that_changes_nothing(current: Charter) -> None:
    following = read(charter_yaml.written(current), current)
    assert difference(current, following) == []
    assert (following.version, following.previous) == (current.version + 1, current.id)
    expected = replace(current, version=current.version + 1, previous=current.id)
    assert charters.payload_of(following) == charters.payload_of(expected)


def test_text_explains_itself_and_shows_no_whole_key_but_a_witness() -> None:
    assert "household:" not in TEXT
    assert "previous:" not in TEXT
    long = [word for line in TEXT.splitlines() for word in line.split() if len(word) > 43]
    assert [word for word in long if not word.startswith("witness.example/w1+")] == []
    assert TEXT.count("# ") > 20
    assert max(map(len, TEXT.splitlines())) <= 110


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("granting: 1", "granting: 2", "- Letting something out takes 2 of 2 owners (was 1 of 2)."),
        ("  max: 1h", "  max: none", "- Daily keys alone grant at most nothing (was 1 h)."),
        (
            "alarm_max: 1h",
            "alarm_max: 1h30m",
            "+ A raised alarm counts for 1 h 30 min at most. (It was 1 h.)",
        ),
        ("post: post.example:8883", "post: none", "- The post at post.example, port 8883 is no longer used."),
        ("rollback: confirm", "rollback: warn", "+ After each start the device shares at once"),
        (
            "accept_plausible_time: no",
            "accept_plausible_time: yes",
            "+ Standing consents count under network",
        ),
        (
            "      - label: phone 1\n        key: fb6f 99c9 3687 ad23\n",
            "",
            "loses phone 1 (daily key fb6f 99c9",
        ),
        ("      path: 5000", "      lawn: 5000", "+ Of camera front, area lawn may be shared"),
        ("hours: [fri sat 22:00-06:00]", "hours: daily 7:00-9:30", "- New rule: no sees at most"),
        ("name: Ben", "name: Benjamin", "~ Owner Ben is called Benjamin."),
    ],
)
def test_edit_of_the_text_is_told_as_a_sentence(old: str, new: str, sentence: str) -> None:
    assert any(sentence in line for line in difference(FULL, read(edited(old, new))))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("granting: 1", "granting: three", "granting: got 'three', expected a number"),
        ("granting: 1", "granting: 0", "granting (got 0, expected 1..16)"),
        ("governing: 2", "governing: 3", "governing (got 3, expected at most the 2 owners)"),
        ("  standing: no", "  standing: perhaps", "daily_limits.standing: got 'perhaps', expected yes or no"),
        ("    key: 42d8 c5e0", "    key: 0000 c5e0", "owners[1].key: no key of the charter in force begins"),
        ("    key: 42d8 c5e0 e66b c12a", "    key: 42d8", "owners[1].key: got '42d8', expected the digits"),
        ("  - name: box", "  - nme: box", "devices[0].nme: unknown field (expected name, key)"),
        (
            "    device: box",
            "    device: shed",
            "cameras[0].device: got 'shed', expected the digits of a key",
        ),
        ("      path: 5000,0", "      path: 5000", "cameras[0].areas.path: not a corner"),
        ("10000,0 10000,10000", "10000,0 10000,99999", "cameras[0].areas.path: corner outside the picture"),
        ("    max: 1h", "    max: soon", "agencies[0].max: duration: got 'soon'"),
        ("    max: 1h", "    max: 60d", "agencies[0].max_seconds (got 5184000, expected 1..2592000)"),
        ("answers: pending", "answers: maybe", "agencies[0].answers (got 'maybe', expected one of"),
        ("effect: cap", "effect: allow", "rules[0].effect (got 'allow', expected one of deny, cap"),
        ("    fps: 15", "    fps: 15\n    fps: 16", "rules[0].fps: stands twice"),
        ("22:00-06:00", "22:00-26:00", "rules[0].when.hours[0]: got"),
        ("zone: Europe/Madrid", "zone: Europe/Atlantis", "rules[0].when.zone: got 'Europe/Atlantis'"),
        ("      zone: Europe/Madrid\n", "", "rules[0].when: hours and zone go together"),
        ("purposes: [incident]", "purposes: [fun]", "rules[0].when.purposes[0] (got 'fun', expected one of"),
        ("post: post.example:8883", "post: post.example", "post: got 'post.example', expected HOST:PORT"),
        ("url: https://", "url: ftp://", "witnesses[0].url (got 'ftp://witness.example'"),
        ("key: witness.example/w1+", "key: witness.example/w2+", "witnesses[0].key: verifier key"),
        ("ice: relay", "ice: tor", "ice (got 'tor', expected one of relay, all)"),
    ],
)
def test_slip_is_named_by_file_line_and_field(old: str, new: str, said: str) -> None:
    text = edited(old, new)
    with pytest.raises(ConfigError) as found:
        read(text)
    message = str(found.value)
    assert said in message
    assert message.isprintable()
    line = int(message.removeprefix("c.yaml: line ").split(":")[0])
    # What was taken out leaves the first line of the part it is missing from.
    expected = new.strip().splitlines()[-1] if new else "agencies: ["
    assert expected in text.splitlines()[line - 1]


def test_text_that_is_no_yaml_is_named_by_line() -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml: line \d+: not YAML: ") as found:
        read(edited("rollback: confirm", "rollback: [a"))
    assert str(found.value).isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "c.yaml: empty"),
        ("just words", "expected fields"),
        ("a: 1\n", "unknown field"),
        ("- a\n", "expected fields"),
        ("a: !!python/object:os.system x\n", "unknown field"),
        ("a: &a [*a]\n", "unknown field"),
        ("\x00", "not YAML"),
        ("a: b: c", "c.yaml: line 1: not YAML"),
    ],
)
def test_what_is_no_charter_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as found:
        read(text)
    assert str(found.value).isprintable()


def test_missing_part_is_no_way_to_empty_it() -> None:
    start = TEXT.index("rules:")
    with pytest.raises(ConfigError, match="rules is missing"):
        read(TEXT[:start] + TEXT[TEXT.index("# How long a raised") :])


def test_text_of_an_older_version_undoes_nothing() -> None:
    newer = replace(FULL, version=2, id="sha256:" + "1" * 64, previous=FULL.id)
    with pytest.raises(ConfigError, match="edits: made from another charter than the one in force"):
        read(TEXT, newer)


# The editor


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An editor that does what the next line of a file tells it, OLD => NEW, in a directory of its own."""
    script = tmp_path / "editor.py"
    todo = tmp_path / "todo"
    script.write_text(
        "import pathlib, sys\n"
        f"todo = pathlib.Path({str(todo)!r})\n"
        "first, _, rest = todo.read_text().partition('\\n')\n"
        "todo.write_text(rest)\n"
        "old, arrow, new = first.partition(' => ')\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "if arrow:\n"
        "    text = file.read_text()\n"
        "    assert old in text\n"
        "    file.write_text(text.replace(old, new, 1))\n"
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.chdir(tmp_path)
    return todo


def drafted(answers: str) -> tuple[Charter | None, str, DoorwardError | None]:
    """One edit with these answers typed: the charter, what was said, what went wrong."""
    found: list[Charter] = []

    @click.command()
    def command() -> None:
        draft = Draft(None)
        try:
            found.append(draft.read(WITH_RULES))
        except (DoorwardError, click.Abort):
            draft.keep()
            raise

    result = CliRunner().invoke(command, input=answers)
    error = result.exception if isinstance(result.exception, DoorwardError) else None
    return (found[0] if found else None), result.stderr, error


def test_editor_opens_again_with_what_was_typed_until_it_is_right(editor: Path) -> None:
    editor.write_text("granting: 1 => granting: many\ngranting: many => granting: 2\n")
    following, said, error = drafted("y\n")
    assert error is None
    assert following is not None
    assert following.granting == 2
    assert "granting: got 'many'" in said


def test_what_was_typed_is_kept_when_somebody_gives_up(editor: Path) -> None:
    (editor.parent / "charter-after-1.yaml").write_text("from before")
    for answers in ("n\n", ""):
        editor.write_text("granting: 1 => granting: many\n")
        _, said, _ = drafted(answers)
        kept = said.split("kept in ")[1].split(". Go on")[0]
        assert "granting: many" in (editor.parent / kept).read_text()
        assert f"doorward charter edit --file {kept}" in said
    assert (editor.parent / "charter-after-1.yaml").read_text() == "from before"


def test_editor_closed_without_saving_changes_nothing_and_keeps_nothing(editor: Path) -> None:
    editor.write_text("")
    _, said, error = drafted("")
    assert isinstance(error, Refused)
    assert "kept in" not in said
    assert not list(editor.parent.glob("charter-after-*"))


def test_text_saved_as_it_was_is_not_kept(editor: Path) -> None:
    editor.write_text("granting: 1 => granting: 1\n")
    draft = Draft(None)
    assert difference(WITH_RULES, draft.read(WITH_RULES)) == []
    draft.keep()
    assert not list(editor.parent.glob("charter-after-*"))
