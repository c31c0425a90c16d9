"""Whatever is typed: one clear line, the right exit code, nothing changed.

Some promises are held by every command that there is, those included that somebody adds tomorrow.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import pytest

from agent.cli.main import doorward as program
from tests.support.processes import doorward

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.cli.conftest import Home

FOR_EVER = {("run",), ("owner", "watch"), ("charter", "edit"), ("witness", "serve"), ("agency", "watch")}
"""They run until told to stop, or open an editor."""

KNOWN = {0, 1, 2, 3, 4}


def leaves(group: click.Group = program, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command


EVERY = dict(leaves())


def takes(command: click.Command, name: str) -> bool:
    return any(each.name == name for each in command.params)


WITH_DOOR = {path: command for path, command in EVERY.items() if takes(command, "home")}


def filled(command: click.Command, **values: object) -> list[str]:
    """Arguments that fill what a command requires, and all ``values`` that it has a parameter for."""
    arguments: list[str] = []
    for each in command.params:
        value = values.get(each.name or "")
        if value is None and each.required:
            value = _something(each.type)
        if value is None:
            continue
        if isinstance(each, click.Option):
            arguments.append(max(each.opts, key=len))
        arguments.append(str(value))
    return arguments


def _something(kind: Any) -> object:
    if isinstance(kind, click.Choice):
        return next(iter(kind.choices))
    if isinstance(kind, click.IntRange):
        return kind.min or 1
    if isinstance(kind, click.Path):
        return "/nowhere/file"
    return "1h"


def names(paths: Any) -> list[Any]:
    return [pytest.param(path, id=" ".join(path)) for path in sorted(paths)]


@contextmanager
def nothing_changes(home: Home) -> Iterator[None]:
    """The ledger, the device's keys and the owner's files are the same afterwards."""

    def now() -> tuple[str, bytes, list[Path]]:
        owner = home.owner.key_file
        return home.device.fingerprint(), owner.read_bytes(), sorted(owner.parent.iterdir())

    before = now()
    yield
    assert now() == before


# Every command


@pytest.mark.parametrize("path", names(EVERY))
def test_unknown_option_is_named_in_one_line(path: tuple[str, ...]) -> None:
    said = doorward(*path, "--nosuch")
    assert said.code == 2
    assert said.error.startswith("no such option '--nosuch'")
    assert f"hint: see doorward {' '.join(path)} --help" in said.err


@pytest.mark.parametrize("path", names(set(WITH_DOOR) - {("run",), ("owner", "watch"), ("owner", "recover")}))
def test_no_agent_is_exit_code_3_and_says_how_to_start_one(
    path: tuple[str, ...], home: Home, tmp_path: Path
) -> None:
    nobody = tmp_path / "nobody"
    owner = home.owner
    said = doorward(
        *path,
        *filled(
            WITH_DOOR[path],
            home=nobody,
            key_file=owner.key_file,
            passphrase_file=owner.passphrase,
            recovery_code_file=owner.recovery_code,
            card=home.agency_card,
            compared=home.agency.key_id,
            corners="0,0 5000,0 5000,10000",
            code="ABCD-EFGH",
            out=tmp_path / "out",
            begin="-10m",
            everything="" if path != ("consent", "revoke") else None,
        ),
        *(("--all",) if path == ("consent", "revoke") else ()),
        *(("--ice", "all") if path == ("charter", "set") else ()),
    )
    assert said.code in {2, 3}, said
    if said.code == 3:
        assert said.error.startswith(f"no agent at {nobody}/run/core.sock (")
        assert "hint: start it with 'make run'" in said.err
    else:
        assert said.error
    assert not nobody.exists()
    assert not list(tmp_path.iterdir())


WITH_PASSPHRASE = [
    path for path, command in WITH_DOOR.items() if takes(command, "passphrase_file") and path not in FOR_EVER
]


@pytest.mark.parametrize("path", names(WITH_PASSPHRASE))
def test_wrong_passphrase_changes_nothing(path: tuple[str, ...], home: Home, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n")
    arguments = filled(
        WITH_DOOR[path],
        home=home.device.home,
        key_file=home.owner.key_file,
        passphrase_file=wrong,
        recovery_code_file=home.owner.recovery_code if _needs(path, "recovery_code_file") else None,
        out=tmp_path / "out",
        begin="-10m",
    )
    with nothing_changes(home):
        said = doorward(*path, *arguments)
    if said.code:
        assert said.code in KNOWN
        assert said.error
    assert [each.name for each in tmp_path.iterdir()] in (["wrong"], ["wrong", "out"], ["out", "wrong"])


# Some commands, word by word. A name in braces is a file; the owner's own options are added, see `typed`.

BAD = [
    # what is typed, exit code, what the line says
    ("archive list --from yesterday", 2, "time: got 'yesterday', expected 2026-01-31T12:00"),
    ("archive list --camera attic", 1, "no camera attic (there is front)"),
    ("archive export --from -1m --to -2m --out {out}", 2, "export: ends before it begins"),
    ("archive export --from -0m --out {out}", 2, "duration: got '0m'"),
    ("archive export --from -10m --camera attic --out {out}", 1, "no camera attic (there is front)"),
    ("archive export --from -10m --out /nowhere/out.mp4", 2, "/nowhere/out.mp4: no such directory"),
    (
        "archive export --from -10m --key-file /nowhere/key --out {out}",
        1,
        "key file /nowhere/key: No such file",
    ),
    (
        "archive export --from -10m --passphrase-file /nowhere/p --out {out}",
        2,
        "passphrase file /nowhere/p: No",
    ),
    ("archive export --from -10m --passphrase-file {empty} --out {out}", 2, "{empty}: empty"),
    (
        "archive export --from -10m --passphrase-file {wrong} --out {out}",
        2,
        "wrong passphrase, or the file was",
    ),
    (
        "archive export --from -10m --key-file {stranger} --out {out}",
        1,
        "this client does not know this device",
    ),
    ("archive export --from -10m --key-file {garbage} --out {out}", 2, "key file {garbage}: json: not UTF-8"),
    ("consent grant --area left --request ffff", 1, "request ffff: none begins with that"),
    ("consent grant --area left --request ffff --for soon", 2, "duration: got 'soon'"),
    ("consent show ffff", 1, "consent ffff: none begins with that"),
    ("consent explain ffff", 1, "request ffff: none begins with that"),
    ("consent revoke", 2, "revoke: what?"),
    ("consent revoke ffff", 1, "consent ffff: none begins with that"),
    ("consent revoke --agency Nobody", 1, "agency Nobody: not in your charter"),
    ("consent revoke --all --passphrase-file {wrong}", 2, "wrong passphrase, or the file was changed"),
    ("consent revoke --all --key-file {stranger}", 1, "this client does not know this device"),
    ("shutter close --passphrase-file {wrong}", 2, "wrong passphrase, or the file was changed"),
    ("shutter open --key-file {stranger}", 1, "this client does not know this device"),
    ("ledger receipt 99999", 1, "99999"),
    ("ledger receipt -- -1", 2, "-1"),
    ("ledger export --out /nowhere/ledger", 1, "/nowhere/ledger: No such file or directory"),
    ("ledger export --out {garbage}", 1, "exists already"),
    ("ledger verify /nowhere/ledger", 2, "/nowhere/ledger: No such file or directory"),
    ("ledger verify {garbage}", 2, ""),
    ("ledger verify {empty}", 2, ""),
    ("pair --code AAAA-AAAA", 1, "this device belongs to a household already"),
    ("pair --new-code", 1, "this device belongs to a household already"),
    ("pair", 2, "pair: no code"),
    ("charter introduce --agency Nobody --out {out}", 1, "agency Nobody: not in your charter"),
    ("charter add-agency {garbage} --key 0123456789abcdef", 2, ""),
    ("charter add-agency /nowhere/card --key 0123456789abcdef", 2, "/nowhere/card: No such file"),
    ("charter add-agency {card} --key 0123456789abcdef", 1, "that is not the key on this card"),
    ("charter add-area front door 0,0_5000,0", 2, "corners"),
    ("charter add-area front door 0,0_1,1_20000,0", 2, "corners"),
    ("charter add-area front door here", 2, "corners: got 'here'"),
    ("charter add-area attic door 0,0_5000,0_5000,5000", 1, "no camera attic"),
    ("charter set --post nonsense", 2, "post: got 'nonsense', expected HOST:PORT or none"),
    ("charter set --ice all --recovery-code-file {garbage}", 2, "recovery code"),
    (
        "charter set --ice all --recovery-code-file {mistyped}",
        2,
        "recovery code: its check characters do not",
    ),
    ("charter set --ice relay --recovery-code-file {other_code}", 1, "household"),
    ("status --device ftp://127.0.0.1", 2, "address: got 'ftp://127.0.0.1', expected https://"),
    ("status --home {garbage}", 3, "no agent at"),
]


def typed(line: str, home: Home, tmp_path: Path) -> list[str]:
    """The words of a line, with files in place of their names; underscores between corners are spaces."""
    for name, data in (
        ("empty", b""),
        ("garbage", b"\x00\xff not what was wanted {"),
        ("wrong", b"not the passphrase\n"),
        ("mistyped", _mistyped(home.owner.recovery_code.read_text()).encode()),
    ):
        (tmp_path / name).write_bytes(data)
    files = {name: tmp_path / name for name in ("empty", "garbage", "wrong", "mistyped", "out")}
    files |= {
        "stranger": home.stranger.key_file,
        "other_code": home.stranger.recovery_code,
        "card": home.agency_card,
    }
    words = [word.replace("_", " ") if "," in word else word.format(**files) for word in line.split()]
    depth = 1 if tuple(words[:1]) in EVERY else 2
    command = EVERY[tuple(words[:depth])]
    usual = {
        "home": home.device.home,
        "key_file": home.owner.key_file,
        "passphrase_file": home.owner.passphrase,
        "recovery_code_file": home.owner.recovery_code,
    }
    own = []
    for name, value in usual.items():
        option = "--" + name.replace("_", "-")
        if option not in words and takes(command, name) and _needs(words, name):
            own += [option, str(value)]
    return [*words[:depth], *own, *words[depth:]]


def _needs(path: Sequence[str], name: str) -> bool:
    """An export opens with the recovery code in place of the daily key, if it is given one."""
    return name != "recovery_code_file" or path[0] != "archive"


def _mistyped(code: str) -> str:
    return ("A" if code[0] != "A" else "B") + code[1:]


@pytest.mark.parametrize(("line", "code", "says"), BAD, ids=[line for line, _, _ in BAD])
def test_bad_input_is_refused_in_one_line_and_changes_nothing(
    line: str, code: int, says: str, home: Home, tmp_path: Path
) -> None:
    words = typed(line, home, tmp_path)
    files = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with nothing_changes(home):
        said = doorward(*words)
    assert (said.code, says.format(empty=tmp_path / "empty", garbage=tmp_path / "garbage") in said.error) == (
        code,
        True,
    ), said
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == files
