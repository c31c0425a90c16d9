"""``doorward archive``: what was recorded, and getting it out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.archive.export import export as export_segments
from agent.cli import words
from agent.cli.options import daily_keys, door_options, json_option, opened, root_keys
from agent.cli.times import parse_moment
from agent.consent import envelope, times
from agent.consent.acts import Read
from agent.consent.envelope import PayloadType
from agent.errors import IntegrityError, MalformedInput, Refused
from agent.operations import Operation
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.cli.client import Client, Found, Signer

MS = 1_000_000
GAP_MS = 2_000


@click.group()
def archive() -> None:
    """What was recorded: list it, export it. Only your keys open it."""


@archive.command("list")
@click.option("--camera", help="Which camera; needed only if there are several.")
@click.option("--from", "begin", default=None, help="From when (2026-11-24T18:00, -1h). [default: all]")
@click.option("--to", "end", default=None, help="Until when. [default: now]")
@door_options
@json_option
def list_(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """List stretches of recording and the gaps between them. Needs no key: times are in the clear."""
    with opened(options) as client:
        camera = _camera(options["camera"], client.find())
        args: dict[str, object] = {"camera": camera}
        now = clock.wall_ns()
        for name in ("begin", "end"):
            if options[name]:
                args[name] = times.written(parse_moment(options[name], now))
        found, _ = client.door.call(Operation.ARCHIVE, args)
    if options["as_json"]:
        words.print_json(found)
        return
    segments = _segments(found)
    if not segments:
        click.echo(f"{camera}: nothing recorded then (a segment is listed once it is closed, after 10 s)")
    for line in _timeline(segments):
        click.echo(line)


def _timeline(segments: list[dict[str, Any]]) -> Iterator[str]:
    """One line per unbroken stretch, one per gap."""
    undated = [each for each in segments if each["start_ms"] is None]
    dated = [each for each in segments if each["start_ms"] is not None]
    start = 0
    for number, segment in enumerate(dated):
        end_ms = segment["start_ms"] + segment["duration_ms"]
        following = dated[number + 1] if number + 1 < len(dated) else None
        gap_ms = following["start_ms"] - end_ms if following else 0
        if following and -GAP_MS < gap_ms < GAP_MS:
            continue
        stretch = dated[start : number + 1]
        amount = words.size(sum(each["bytes"] for each in stretch))
        begin = stretch[0]["start_ms"]
        yield (
            f"{words.local_time(begin * MS)}  to  {words.local_time(end_ms * MS)}  "
            f"recorded {words.length((end_ms - begin) / 1000)}, {amount}"
        )
        if following and gap_ms >= GAP_MS:
            yield f"{'':23}  nothing for {words.length(gap_ms / 1000)}"
        elif following:
            yield f"{'':23}  the clock was set back by {words.length(-gap_ms / 1000)}"
        start = number + 1
    if undated:
        yield f"{len(undated)} segments from before the device knew any time"


@archive.command("export")
@click.option("--camera", help="Which camera; needed only if there are several.")
@click.option("--from", "begin", required=True, help="From when: 2026-11-24T18:00, or -10m.")
@click.option("--to", "end", default="now", show_default=True, help="Until when.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The MP4 file to write.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--recovery-code-file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Open it with your recovery code instead of your daily key; it opens what is older than the key.",
)
@door_options
@json_option
def export(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Write a stretch of the recording to an MP4 file, without encoding it again.

    The stretch is rounded out to key frames (about a second). Your signed request goes into the ledger,
    where all owners see it; the footage is opened here, on this computer, with your key.
    """
    now = clock.wall_ns()
    begin, end = parse_moment(options["begin"], now), parse_moment(options["end"], now)
    if end <= begin:
        raise MalformedInput("export: ends before it begins", hint="for example --from -10m --to now")
    out: Path = options["out"].expanduser()
    if out.exists() and not options["overwrite"]:
        raise Refused(f"{out} exists already", reason="exists", hint="add --overwrite, or name another file")
    if not out.parent.is_dir():
        raise MalformedInput(f"{out}: no such directory")  # before the read stands in the ledger
    keys = root_keys(options) if options["recovery_code_file"] else daily_keys(options)
    with opened(options, keys) as client:
        found = client.find()
        memory = client.need_memory(found)
        camera = _camera(options["camera"], found)
        handle, segments = _ask(client, found, keys, camera, begin, end)
        if not segments:
            raise Refused(
                f"{camera}: nothing was recorded then",
                reason="not_recorded",
                hint="see 'doorward archive list'; the newest ten seconds are not closed yet",
            )
        total = sum(each["bytes"] for each in segments)
        with click.progressbar(length=total, label="exporting", file=sys.stderr) as bar:
            report = export_segments(
                _sealed(client, handle, segments, bar),
                archive_keys=[keys.archive],
                device_key=memory.signing,
                out=out,
                from_utc_ns=begin,
                to_utc_ns=end,
                overwrite=options["overwrite"],
            )
        client.advance(found, memory.household, memory.signing)
    result = {
        "files": [
            {
                "path": str(each.path),
                "frames": each.frames,
                "start": times.written(each.start_utc_ns),
                "end": times.written(each.end_utc_ns),
            }
            for each in report.files
        ],
        "frames": report.frames,
        "gaps": len(report.gaps),
        "undated": report.undated,
        "provenance": sorted({str(span.provenance) for span in report.spans}),
    }
    if options["as_json"]:
        words.print_json(result)
        return
    for file in report.files:
        stretch = f"{words.local_time(file.start_utc_ns)} to {words.local_time(file.end_utc_ns)}"
        click.echo(f"{file.path}: {file.frames} pictures, {stretch}")
    for begin_ns, end_ns in report.gaps:
        click.echo(f"  nothing recorded: {words.local_time(begin_ns)} to {words.local_time(end_ns)}")
    for span in report.spans:
        if span.reason:
            click.echo(f"  NOT SIGNED by the device: {words.local_time(span.start_utc_ns)}: {span.reason}")


def _ask(
    client: Client, found: Found, keys: Signer, camera: str, begin_ns: int, end_ns: int
) -> tuple[str, list[dict[str, Any]]]:
    """One signed read: the handle, and what there is."""
    memory = client.need_memory(found)
    read = Read(
        id="",
        signer=keys.signing_id,
        device=found.descriptor.device,
        household=memory.household,
        challenge=client.challenge(),
        signed_at_ns=clock.wall_ns(),
        camera=camera,
        from_ns=begin_ns,
        to_ns=end_ns + times.SECOND_NS,  # documents hold whole seconds: round outwards
    )
    signed = envelope.sign(PayloadType.READ, read.payload(), [keys.signing])
    result, _ = client.door.call(Operation.READ, {}, signed)
    return str(result.get("handle")), _segments(result)


def _sealed(client: Client, handle: str, segments: list[dict[str, Any]], bar: Any) -> Iterator[bytes]:  # noqa: ANN401 - click names no type for it
    """Fetch the sealed segments one by one; only one is held at a time."""
    for segment in segments:
        data = bytearray()
        while True:
            args: dict[str, object] = {
                "handle": handle,
                "sequence": segment["sequence"],
                "offset": len(data),
            }
            result, chunk = client.door.call(Operation.SEGMENT, args)
            data += chunk
            if len(data) >= int(str(result.get("size", 0))):
                break
            if not chunk:
                raise IntegrityError(f"segment {segment['sequence']}: shorter than its size")
        bar.update(segment["bytes"])
        yield bytes(data)


def _segments(found: dict[str, Any]) -> list[dict[str, Any]]:
    segments = found.get("segments")
    if not isinstance(segments, list):
        raise IntegrityError("device: its list of segments is none")
    return segments


def _camera(wanted: str | None, found: Found) -> str:
    if wanted:
        return wanted
    if len(found.cameras) != 1:
        raise MalformedInput(
            f"which camera? (there is {', '.join(found.cameras) or 'none'})", hint="add --camera NAME"
        )
    return found.cameras[0]
