"""``doorward charter edit``: the charter in an editor, or in a file; nothing typed is ever lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import charter_reading, charter_yaml
from agent.cli.adopting import adopt
from agent.cli.collecting import save_option
from agent.cli.options import door_options, opened, root_options
from agent.errors import ConfigError, DoorwardError, MalformedInput, Refused, StorageError

if TYPE_CHECKING:
    from agent.consent.charter import Charter

MAX_CHARS = 256 * 1024


@click.command("edit")
@click.option(
    "--file", type=click.Path(path_type=Path), help="Take the edited text from this file; no editor opens."
)
@click.option("--stdout", is_flag=True, help="Print the text and change nothing.")
@click.option("--yes", is_flag=True, help="Sign without asking; for scripts.")
@save_option
@door_options
@root_options
def edit(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Change the charter as a whole, in your editor ($EDITOR).

    It opens as text that explains itself. What you save is checked, with line numbers; you see what changes
    in sentences, and are asked before it is signed with your recovery code. If anything goes wrong, your text
    is kept in a file and you are told which.
    """
    if options["stdout"]:
        with opened(options) as client:
            current, _ = client.charter()
        click.echo(charter_yaml.written(current), nl=False)
        return
    draft = Draft(options["file"])

    def change(current: Charter) -> Charter:
        return draft.read(current)

    try:
        adopt(options, change, ask=not options["yes"])
    except (DoorwardError, click.Abort):
        draft.keep()
        raise


class Draft:
    """The text while it is edited: from a file, which stays as it is, or from an editor."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._original = ""
        self._text = ""
        self._version = 0

    def read(self, current: Charter) -> Charter:
        """The charter that the text asks for; an editor opens until it is one, or the person gives up.

        Raises:
            ConfigError: Something in it is wrong; file, line and field are named.
            Refused: Nothing was saved in the editor.
        """
        if self._file is not None:
            return charter_reading.read(_from_file(self._file), current, file=str(self._file))
        self._version = current.version
        text = self._original = charter_yaml.written(current)
        while True:
            edited = click.edit(text, extension=".yaml")
            if edited is None and text == self._original:
                raise Refused("nothing was saved in the editor, so nothing changes", reason="unchanged")
            text = self._text = text if edited is None else edited
            try:
                return charter_reading.read(text, current, file="charter")
            except ConfigError as error:
                click.echo(f"{error}", err=True)
                if not click.confirm("Edit it again?", default=True, err=True):
                    raise

    def keep(self) -> None:
        """Save what was typed in an editor, under a name that is free, and say where.

        Raises:
            StorageError: It cannot be written.
        """
        if self._text in ("", self._original):
            return
        number = 0
        while True:
            number += 1
            path = Path(f"charter-after-{self._version}{f'-{number}' if number > 1 else ''}.yaml")
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(self._text)
            except FileExistsError:
                continue
            except OSError as error:
                raise StorageError(f"{path}: {error.strerror}; your text was not kept") from error
            break
        click.echo(
            f"Your text is kept in {path}. Go on with it: doorward charter edit --file {path}", err=True
        )


def _from_file(path: Path) -> str:
    try:
        with path.expanduser().open(encoding="utf-8") as file:
            text = file.read(MAX_CHARS + 1)
    except OSError as error:
        raise MalformedInput(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MalformedInput(f"{path}: not UTF-8 text") from error
    if len(text) > MAX_CHARS:
        raise MalformedInput(f"{path}: too long for a charter")
    return text
