"""``doorward ledger``: what happened, and the proof that nothing else did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import progress, words
from agent.cli.client import entry_bytes
from agent.cli.collected import Collected, compare, from_file, sentences
from agent.cli.entries import sentence
from agent.cli.options import door_options, json_option, opened, seen_path
from agent.cli.seen import SeenFile
from agent.consent import envelope, strict_json
from agent.consent.fields import Fields, decode_bytes, encode_bytes
from agent.errors import DoorwardError, IntegrityError, MalformedInput, ProofError, Refused, StorageError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import merkle
from agent.ledger.checkpoint import origin_of
from agent.ledger.entry import Entry, EntryKind
from agent.ledger.receipt import Receipt
from agent.ledger.state import State
from agent.operations import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.cli.client import Client
    from agent.cli.seen import Memory

PAGE = 200
MAX_FILE_BYTES = 512 * 1024 * 1024


@click.group()
def ledger() -> None:
    """What happened at your device, and the proof that the record is whole."""


def _entries(client: Client, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """All entries from ``start`` on, page by page."""
    at = start
    while True:
        result, _ = client.door.call(Operation.ENTRIES, {"start": at, "count": PAGE})
        found = result.get("entries")
        if not isinstance(found, list) or not found:
            return
        for each in found:
            if each.get("index") != at:
                raise IntegrityError(f"ledger: entry {at} is missing from what the device shows")
            yield at, entry_bytes(each.get("entry"), f"entry {at}")
            at += 1


@ledger.command("show")
@click.option("--last", type=click.IntRange(1), default=30, show_default=True, help="How many entries.")
@door_options
@json_option
def show(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Show the newest entries, oldest first."""
    with opened(options) as client:
        result, _ = client.door.call(Operation.ENTRIES, {"start": 0, "count": 1})
        total = int(str(result.get("size", 0)))
        found = [
            (index, Entry.parse(data)) for index, data in _entries(client, max(0, total - options["last"]))
        ]
        # Who is who stands in the charter; before pairing there is none, and nobody to name.
        current = client.charter()[0] if client.find().paired else None
    for index, entry in found:
        if options["as_json"]:
            words.print_json(
                {
                    "index": index,
                    "kind": str(entry.kind),
                    "earliest_ns": entry.time.earliest_ns,
                    "quality": str(entry.time.quality),
                    "body": entry.body,
                }
            )
        else:
            click.echo(
                f"{index:6}  {words.local_time(entry.time.earliest_ns):23}  {sentence(entry, current)}"
            )


@ledger.command("export")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@door_options
def export(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Write the whole ledger with its newest checkpoint to a file, to be verified anywhere."""
    out: Path = options["out"].expanduser()
    with opened(options) as client:
        device = client.find().descriptor
        note, _ = client.door.call(Operation.CHECKPOINT)
        checkpoint = str(note.get("checkpoint"))
        size = checkpoints.verify(
            checkpoint, origin_of(device.device), origin_of(device.device), device.signing
        ).size
        listed = progress.shown(_entries(client), size, "reading")
        raw = [data for index, data in listed if index < size]
    value: dict[str, object] = {
        "device": encode_bytes(device.signing),
        "checkpoint": checkpoint,
        "entries": [encode_bytes(data) for data in raw],
    }
    cosigned = note.get("cosigned") or _last_vouched(raw)
    if cosigned is not None:
        value["cosigned"] = cosigned
    try:
        with out.open("xb") as file:
            file.write(strict_json.dumps(value) + b"\n")
    except FileExistsError as error:
        raise Refused(f"{out} exists already", reason="exists", hint="name another file") from error
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}") from error
    click.echo(f"{out}: {len(raw)} entries")


def _last_vouched(raw: list[bytes]) -> object:
    """The newest checkpoint in the ledger itself that a witness cosigned, or None."""
    for data in reversed(raw):
        if b'"confirmed"' in data:
            entry = Entry.parse(data)
            if entry.kind is EntryKind.CONFIRMED and "note" in entry.body:
                return entry.body["note"]
    return None


@ledger.command("receipt")
@click.argument("index", type=click.IntRange(0))
@click.option("--out", type=click.Path(path_type=Path), help="Write it to a file. [default: print it]")
@door_options
def receipt(index: int, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Get the receipt of one entry: the entry, its inclusion proof, and a signed checkpoint."""
    with opened(options) as client:
        _, blob = client.door.call(Operation.RECEIPT, {"index": index})
    if options["out"] is None:
        click.echo(blob.decode())
        return
    try:
        options["out"].expanduser().write_bytes(blob)
    except OSError as error:
        raise StorageError(f"{options['out']}: {error.strerror}") from error
    click.echo(f"{options['out']}: receipt of entry {index}")


@ledger.command("verify")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--public-key", metavar="BASE64", help="For FILE: the device's public key, as you know it.")
@click.option(
    "--checkpoint",
    "collected",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A checkpoint that you or a witness kept, in a file; may be given again and again.",
)
@door_options
@json_option
def verify(file: Path | None, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Verify the running device's ledger, or an exported ledger or receipt in FILE.

    Checks every document's signatures, the tree against the signed checkpoint, and the checkpoint against
    the newest one this client has seen and every one you give. Exit code 4 if anything does not fit.
    """
    report = _verify_file(file, options) if file else _verify_device(options)
    if options["as_json"]:
        words.print_json(report)
    else:
        click.echo(report["says"])


def _verify_device(options: dict[str, Any]) -> dict[str, Any]:
    with opened(options) as client:
        found = client.find()
        memory = client.seen.get(found.descriptor.device) if client.seen else None
        key = memory.signing if memory else found.descriptor.signing
        result, _ = client.door.call(Operation.CHECKPOINT)
        note = str(result.get("checkpoint"))
        size = _signed("the device", note, key).checkpoint.size
        entries = [data for _, data in progress.shown(_entries(client), size, "reading")]
        report = _verify_ledger(entries, note, key, found.descriptor.device, memory, _collected(options, key))
        if memory is not None:
            client.advance(found, memory.household, memory.signing)
        else:
            report["says"] += " This client had seen nothing of it before."
    return report


def _signed(where: str, note: str, key: bytes) -> Collected:
    """A checkpoint that came as part of what is verified.

    Raises:
        IntegrityError: The device did not sign it.
    """
    try:
        return Collected.read(where, note, origin_of(envelope.key_id(key)), key)
    except ProofError as error:
        raise IntegrityError(f"ledger: checkpoint of {where}: {error}") from error


def _collected(options: dict[str, Any], key: bytes) -> list[Collected]:
    origin = origin_of(envelope.key_id(key))
    return [from_file(path, origin, key) for path in options["collected"]]


def _verify_ledger(
    entries: list[bytes],
    note: str,
    key: bytes,
    device: str,
    memory: Memory | None,
    collected: list[Collected],
) -> dict[str, Any]:
    """Every check there is, on a whole ledger.

    Raises:
        IntegrityError: Something does not fit; the message says what.
    """
    origin = origin_of(device)
    try:
        signed = checkpoints.verify(note, origin, origin, key)
        tree, state = merkle.Tree(), State()
        vouched: list[Collected] = []
        for index, data in progress.shown(enumerate(entries[: signed.size]), signed.size, "checking"):
            entry = Entry.parse(data)
            state.apply(index, entry)
            tree.append(merkle.leaf_hash(data))
            if entry.kind is EntryKind.CONFIRMED and "note" in entry.body:
                vouched.append(Collected.read(f"entry {index}", str(entry.body["note"]), origin, key))
        if tree.size != signed.size or tree.root() != signed.root:
            raise ProofError(f"the entries do not make the tree that the device signed (size {signed.size})")
        known = memory.size if memory is not None else 0
        if memory is not None and known and (known > signed.size or tree.root(known) != memory.root):
            raise ProofError("it does not continue what this client has seen: changed or rolled back")
        compare([*vouched, *collected], tree)
    except IntegrityError:
        raise
    except DoorwardError as error:
        raise IntegrityError(
            f"ledger: {error}",
            hint="keep the files as they are: what the device signed is proof in anybody's hands",
        ) from error
    says = f"The ledger is whole: {signed.size} entries, signed by device {words.fingerprint(device)}."
    if memory is not None and memory.size:
        says += f" It continues the {memory.size} entries this client had seen."
    if vouched:
        says += (
            f" Witnesses vouched for it at {len(vouched)} starts, last over {vouched[-1].checkpoint.size}."
        )
    witnesses = state.charter.witnesses if state.charter is not None else ()
    says = "\n".join([says, *sentences(collected, witnesses)])
    return {"says": says, "size": signed.size, "root": signed.root.hex(), "device": device}


def _verify_file(file: Path, options: dict[str, Any]) -> dict[str, Any]:
    try:
        data = file.expanduser().read_bytes()
    except OSError as error:
        raise MalformedInput(f"{file}: {error.strerror}") from error
    value = strict_json.loads(data.strip(), limit=MAX_FILE_BYTES)
    if isinstance(value, dict) and "entries" in value:
        return _verify_export(value, options)
    return _verify_receipt(data.strip(), options)


def _verify_export(value: dict[str, object], options: dict[str, Any]) -> dict[str, Any]:
    fields = Fields(value, "ledger file")
    key = fields.key("device")
    note = fields.multiline("checkpoint", max_chars=4096)
    entries = fields.items("entries", entry_bytes, most=10_000_000)
    cosigned = (
        fields.multiline("cosigned", max_chars=checkpoints.MAX_CHARS) if fields.has("cosigned") else None
    )
    fields.done()
    device = envelope.key_id(key)
    collected = _collected(options, key)
    if cosigned is not None:
        collected.append(_signed("this file", cosigned, key))
    memory = SeenFile(seen_path(options["key_file"])).get(device)
    return _verify_ledger(list(entries), note, key, device, memory, collected)


def _verify_receipt(data: bytes, options: dict[str, Any]) -> dict[str, Any]:
    """Hold a receipt against the device's key: the one given, or the one this client knows."""
    found = Receipt.parse(data)
    origin = found.checkpoint.split("\n", 1)[0]
    try:
        entry = found.verify(_key_for(origin, options), origin)
    except ProofError as error:
        raise IntegrityError(str(error), hint="this receipt proves nothing") from error
    says = (
        f"Receipt: entry {found.index} ({entry.kind}) stands in the ledger {origin}, "
        f"written {words.local_time(entry.time.earliest_ns)} ({entry.time.quality} time)."
    )
    return {"says": says, "index": found.index, "kind": str(entry.kind), "body": entry.body}


def _key_for(origin: str, options: dict[str, Any]) -> bytes:
    if options["public_key"]:
        return decode_bytes(options["public_key"], "--public-key")
    for device, memory in SeenFile(seen_path(options["key_file"])).items():
        if origin_of(device) == origin:
            return memory.signing
    raise MalformedInput(
        f"receipt: of a device that this client does not know ({origin[:60]})",
        hint="give its public key: --public-key BASE64",
    )
