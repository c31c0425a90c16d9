"""The documents cannot rot unnoticed: every word of the protocol stands in them, every link leads somewhere,
every command line shown is one that the command takes, every test cited exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import pytest

from agent.archive.intake import GapReason
from agent.cli.main import doorward
from agent.consent.acts import AlarmState, BlockState, ShutterState
from agent.consent.charter import Answers, Ice, Rollback
from agent.consent.envelope import PayloadType
from agent.consent.reasons import AgencyReason, DenialReason, for_agency, for_ended
from agent.consent.rules import Effect, Mode, PurposeKind
from agent.consent.times import TimeQuality
from agent.consent.view import Redaction
from agent.ledger.entry import EntryKind
from agent.operations import Operation
from agent.sealing import SealKind
from agent.seam import MessageKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import StrEnum

ROOT: Final = Path(__file__).parents[1]
FORMATS: Final = ROOT / "agent" / "consent" / "FORMATS.md"
PROTOCOL: Final = ROOT / "docs" / "protocol.md"
PARTS: Final = (ROOT / "README.md", *(ROOT / part for part in ("agent", "hal", "docs", "config", "tests")))
MARKDOWN: Final = sorted(
    [*ROOT.glob("*.md")]
    + [
        path
        for part in PARTS
        if part.is_dir()
        for path in part.rglob("*.md")
        if not path.is_relative_to(ROOT / "tests" / "vectors")
    ]
)
SHOWING_COMMANDS: Final = [path for path in MARKDOWN if not path.is_relative_to(ROOT / "tests")]

VOCABULARIES: Final[list[tuple[type[StrEnum], Path]]] = [
    (PayloadType, FORMATS),
    (DenialReason, FORMATS),
    (AgencyReason, FORMATS),
    (Effect, FORMATS),
    (PurposeKind, FORMATS),
    (Mode, FORMATS),
    (Redaction, FORMATS),
    (Answers, FORMATS),
    (Ice, FORMATS),
    (Rollback, FORMATS),
    (ShutterState, FORMATS),
    (AlarmState, FORMATS),
    (BlockState, FORMATS),
    (TimeQuality, FORMATS),
    (EntryKind, PROTOCOL),
    (SealKind, PROTOCOL),
    (Operation, PROTOCOL),
    (MessageKind, PROTOCOL),
    (GapReason, PROTOCOL),
]

_FENCE: Final = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE: Final = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def words(text: str) -> set[str]:
    """What stands between backticks, with or without quotes around it."""
    return {found.strip('"') for found in re.findall(r"`([^`\n]+)`", text)}


@pytest.mark.parametrize(
    ("vocabulary", "document"), VOCABULARIES, ids=[kind.__name__ for kind, _ in VOCABULARIES]
)
def test_every_word_of_the_code_stands_in_its_document(vocabulary: type[StrEnum], document: Path) -> None:
    missing = {str(each) for each in vocabulary} - words(document.read_text(encoding="utf-8"))
    assert not missing, f"{document.name} does not say what these are: {', '.join(sorted(missing))}"


def test_what_agencies_hear_is_what_the_table_of_reasons_says() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (silent|`[a-z_]+`)[^|]*\| `([a-z_]+)` \|$",
        FORMATS.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [reason for reason, _, _ in rows] == [str(each) for each in DenialReason]
    for reason, answer, end in rows:
        for silent in (AgencyReason.PENDING, AgencyReason.DENIED):
            expected = str(silent) if answer == "silent" else answer.strip("`")
            assert for_agency(DenialReason(reason), silent=silent) == expected, reason
        assert for_ended(DenialReason(reason)) == end, reason


def test_order_of_the_rules_is_the_codes() -> None:
    """Each reason of the numbered rules stands where `decide` first yields it."""
    text = FORMATS.read_text(encoding="utf-8").partition("## 11.")[2].partition("**The grant**")[0]
    documented = re.findall(r"^\|[^|]*\|.*\| `([a-z-]+)` \|$", text, re.MULTILINE)
    source = (ROOT / "agent" / "consent" / "decision.py").read_text(encoding="utf-8")
    body = source.partition("def _household_checks")[2]
    # A rule that does not bind is noted for the explanation and decides nothing.
    body = "".join(line for line in body.splitlines(keepends=True) if ", True, DenialReason." not in line)
    in_code = re.findall(r"DenialReason\.([A-Z_]+),?\s*\n?\s*\)?\n", body)
    coded = [str(DenialReason[name]) for name in in_code if name != "NO_TOKEN"]
    # The first two are decided before any rule runs.
    assert documented[:2] == ["not-an-owner", "time-untrusted"]
    assert documented[2:] == coded


def slugs(text: str) -> set[str]:
    """The anchors of a document's headings, as hosting pages make them."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", title.lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("document", MARKDOWN, ids=[str(path.relative_to(ROOT)) for path in MARKDOWN])
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{document.name}: nothing at {link}"
        assert target.is_relative_to(ROOT), f"{document.name}: {link} leads out of the repository"
        if anchor:
            assert anchor in slugs(target.read_text(encoding="utf-8")), f"{document.name}: no heading {link}"


def shown_commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """The ``doorward`` command lines of a document, and whether they are meant to be run as they stand."""
    for block in _FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            parts = line.strip().removeprefix("$ ")
            if parts.startswith("doorward "):
                yield shlex.split(parts, comments=True)[1:], True
    for piece in _INLINE.findall(_FENCE.sub("", text)):
        joined = " ".join(piece.split())
        if joined.startswith("doorward "):
            yield shlex.split(joined)[1:], False


def parsed(arguments: list[str], *, whole: bool) -> None:
    """Walk the command tree as click does, without running anything."""
    command: click.Command = doorward
    context = click.Context(doorward, info_name="doorward")
    rest = list(arguments)
    while isinstance(command, click.Group):
        parser = command.make_parser(context)
        parser.allow_interspersed_args = False
        _, rest, _ = parser.parse_args(rest)
        if not rest:
            return
        following = command.get_command(context, rest[0])
        if following is None:
            raise click.UsageError(f"no command {rest[0]!r}")
        command = following
        context = click.Context(command, info_name=rest.pop(0), parent=context)
    if whole:
        command.make_context(context.info_name, rest, parent=context.parent)
    else:
        command.make_parser(context).parse_args(rest)


SHOWN: Final = [
    (path, arguments, whole)
    for path in SHOWING_COMMANDS
    for arguments, whole in shown_commands(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    ("path", "arguments", "whole"), SHOWN, ids=[f"{path.name}: {' '.join(line)}" for path, line, _ in SHOWN]
)
def test_every_command_line_shown_is_one_the_command_takes(
    path: Path, arguments: list[str], whole: bool
) -> None:
    try:
        parsed(arguments, whole=whole)
    except click.ClickException as error:
        pytest.fail(f"{path.name}: doorward {' '.join(arguments)}: {error.format_message()}")


def test_there_are_command_lines_to_look_at() -> None:
    """Should the search find nothing, the tests above would hold for nothing."""
    assert sum(whole for _, _, whole in SHOWN) > 10
    with pytest.raises(click.UsageError):
        parsed(["consent", "permit"], whole=False)
    with pytest.raises(click.UsageError):
        parsed(["status", "--colour"], whole=False)


@pytest.mark.parametrize(
    "document", SHOWING_COMMANDS, ids=[str(path.relative_to(ROOT)) for path in SHOWING_COMMANDS]
)
def test_every_test_and_file_cited_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_[a-z0-9_]+)`", text):
        assert f"def {name}(" in sources, f"{document.name}: there is no {name}"
    for name in re.findall(r"`((?:tests|agent|docs|hal)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), f"{document.name}: there is no {name}"
