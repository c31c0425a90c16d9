"""``doorward agency receipts`` and ``receipt``: what devices have proven to us."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.agency.introductions import all_devices
from agent.cli import words
from agent.cli.agency_options import office, short
from agent.cli.options import json_option
from agent.consent.fields import Fields
from agent.errors import DoorwardError, IntegrityError, MalformedInput, Refused, StorageError
from agent.ledger.checkpoint import origin_of
from agent.ledger.entry import EntryKind
from agent.ledger.receipt import Receipt

if TYPE_CHECKING:
    from agent.agency.introductions import KnownDevice
    from agent.agency.store import ReceiptRow


@click.command("receipts")
@click.option("--verify", is_flag=True, help="Verify each of them again; exit code 4 if one proves nothing.")
@json_option
@click.pass_obj
def receipts(directory: Path, *, verify: bool, as_json: bool) -> None:
    """List the receipts we hold: each proves that one entry stands in a device's ledger."""
    with office(directory) as opened:
        rows = opened.store.receipts()
        devices = {device.key_id: device for device in all_devices(opened.store)}
    found: list[dict[str, Any]] = []
    broken = []
    for row in rows:
        device = devices.get(row.device)
        each: dict[str, Any] = {
            "device": row.device,
            "name": device.name if device else None,
            "entry": row.entry,
            "kind": row.kind,
            "session": row.session,
            "received_ns": row.received_ns,
        }
        if verify:
            each["verified"], each["why"] = _verified(row, device)
            if not each["verified"]:
                broken.append(row)
        found.append(each)
    if as_json:
        words.print_json(found)
    else:
        _print(found)
    if broken:
        raise IntegrityError(
            f"receipts: {len(broken)} of {len(rows)} prove nothing",
            hint="the store was changed; put it back from a backup",
        )


def _print(found: list[dict[str, Any]]) -> None:
    if not found:
        click.echo("No receipts yet.")
    for each in found:
        state = ""
        if "verified" in each:
            state = "  verified" if each["verified"] else f"  PROVES NOTHING: {each['why']}"
        name = each["name"] or short(each["device"])
        when = words.local_time(each["received_ns"])
        click.echo(f"{each['entry']:6}  {when}  {name}  {each['kind']}  session {each['session']}{state}")


def _verified(row: ReceiptRow, device: KnownDevice | None) -> tuple[bool, str | None]:
    """Whether a kept receipt still proves what its row says, and why not."""
    if device is None:
        return False, "no introduction names its device any more"
    try:
        receipt = Receipt.parse(row.document)
        entry = receipt.verify(device.signing, origin_of(device.key_id))
        if receipt.index != row.entry or str(entry.kind) != row.kind:
            raise MalformedInput("receipt: of another entry")
        if entry.kind is EntryKind.SESSION_START:
            Fields(entry.body, "receipt").constant("session", row.session)
    except DoorwardError as error:
        return False, str(error)
    return True, None


@click.command("receipt")
@click.argument("which")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--end", is_flag=True, help="For a session: the receipt of its end instead of its start.")
@click.option("--device", "device_name", help="Whose ledger, if several devices have that entry number.")
@click.pass_obj
def receipt(directory: Path, which: str, out: Path, *, end: bool, device_name: str | None) -> None:
    """Write one receipt to a file: WHICH is an entry's number or a session.

    Anybody can verify it with the device's public key: doorward ledger verify FILE --public-key BASE64

    \b
    Examples: doorward agency receipt 14 --out start.json
              doorward agency receipt 5f3a9c01 --end --out end.json
    """  # noqa: D301 - click's marker is a real backspace
    kind = EntryKind.SESSION_END if end else EntryKind.SESSION_START
    with office(directory) as opened:
        rows = opened.store.receipts()
        names = {device.key_id: device.name for device in all_devices(opened.store)}
    # A session's name has eight hex digits and may consist of decimal ones: it is looked for first.
    found = [row for row in rows if row.session == which and row.kind == kind]
    if not found and which.isascii() and which.isdigit():
        found = [row for row in rows if row.entry == int(which)]
    if device_name is not None:
        found = [row for row in found if device_name in {row.device, names.get(row.device)}]
    if len(found) != 1:
        raise Refused(
            f"receipt {which[:40]}: {'several' if found else 'none'} of that number or session",
            reason="unknown",
            hint="see: doorward agency receipts; --device NAME says whose",
        )
    try:
        with out.expanduser().open("xb") as file:
            file.write(found[0].document)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}", hint="name another file") from error
    click.echo(f"{out}: receipt of entry {found[0].entry} ({found[0].kind})")
