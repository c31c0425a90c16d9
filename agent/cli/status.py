"""``doorward status``: how the device is, at a glance."""

from __future__ import annotations

from typing import Any

import click

from agent.cli import words
from agent.cli.options import door_options, json_option, opened
from agent.config import BEST
from agent.operations import Operation

MS = 1_000_000
SOON_S = 300
"""A request that lapses within this many seconds is flagged."""


@click.command()
@door_options
@json_option
def status(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Show whether it records, who watches, and what is wrong with what to do about it."""
    with opened(options) as client:
        found, _ = client.door.call(Operation.STATUS)
    if options["as_json"]:
        words.print_json(found)
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"device     {words.fingerprint(found['device'])}  (doorward {found['version']})"]
    if found["paired"]:
        owners, agencies = ", ".join(found["owners"]), ", ".join(found["agencies"]) or "none"
        lines.append(f"household  charter version {found['charter_version']}, owners: {owners}")
        lines.append(f"agencies   {agencies}")
    else:
        lines.append("household  none: not paired, nothing is recorded")
        lines.append("           hint: doorward pair --code CODE (a new code: doorward pair --new-code)")
    lines += _time(found["time"], paired=found["paired"])
    for camera in found["cameras"]:
        lines += _camera(camera, paired=found["paired"])
    lines += _sharing(found)
    return lines


def _time(time: dict[str, Any], *, paired: bool) -> list[str]:
    if time["utc"] is None:
        hint = "any signed act of an owner tells it, granting a request too" if paired else "pairing tells it"
        return [
            "time       not known for certain: recording goes on, sharing waits",
            f"           hint: {hint}",
        ]
    at = words.written_time(time["utc"])
    return [f"time       {at} ({time['quality']}, within {time['bound_ms'] / 1000:.1f} s)"]


def _camera(camera: dict[str, Any], *, paired: bool) -> list[str]:
    state = "recording" if camera["recording"] else "not recording"
    unopened = "the best there is" if camera["uri"] == BEST else camera["uri"]
    what = camera["what"] or unopened
    lines = [f"camera     {camera['name']}: {state} ({what})"]
    if camera["problem"] and paired:
        lines.append(f"           problem: {camera['problem']} (tried {camera['attempts']} times)")
        if camera["hint"]:
            lines.append(f"           hint: {camera['hint']}")
    if camera["gap"]:
        lines.append(f"           nothing is recorded now: {camera['gap']}")
    if camera["archive_problem"]:
        lines.append(f"           archive: {camera['archive_problem']}")
    if camera["note"]:
        lines.append(f"           note: {camera['note']}")
    lines += [f"           set aside: {each}" for each in camera["set_aside"]]
    used, budget = words.size(camera["used_bytes"]), words.size(camera["budget_bytes"])
    segments = words.count(camera["segments"], "segment", "segments")
    oldest = camera["oldest_ms"]
    since = f", since {words.local_time(oldest * MS)}" if oldest else ""
    lines.append(f"           archive: {used} of {budget}, {segments}{since}")
    return lines


def _witnesses(witnesses: list[dict[str, Any]]) -> list[str]:
    lines = []
    for each in witnesses:
        when = (
            f"vouched at {words.written_time(each['cosigned_at'])}"
            if each["cosigned_at"]
            else "has not vouched since the start"
        )
        lines.append(f"witness    {each['name']}: {when} ({each['size']} entries)")
        if each["trouble"]:
            lines.append(f"           problem: {each['trouble']}")
    return lines


def _sharing(found: dict[str, Any]) -> list[str]:
    ledger = found["ledger"]
    lines = []
    entries = words.count(ledger["size"], "entry", "entries")
    if ledger["trouble"]:
        lines.append(f"ledger     {entries}; TROUBLE: {ledger['trouble']}; sharing is stopped")
    else:
        lines.append(f"ledger     {entries}")
    lines += _witnesses(found["witnesses"])
    if found["rollback"]:
        lines.append(f"sharing    STOPPED: {found['rollback']}")
        lines.append("           the card was swapped or copied back, or the device runs twice")
        lines.append(
            "           hint: doorward ledger verify; then remove the cause, and start the device anew"
        )
    elif found["paired"] and not ledger["confirmed_since_boot"]:
        lines.append("sharing    waits: nobody has confirmed the ledger since the device started")
        lines.append(
            "           hint: any signed act of an owner confirms it, granting a request too; or a witness"
        )
    elif found["shutter"] == "closed":
        lines.append("sharing    stopped: the privacy shutter is closed")
    if not found["net"]:
        lines.append("network    its process is down and is being started again; recording goes on")
    if found["pending"]:
        lines.append(
            f"asked      {words.count(found['pending'], 'request', 'requests')}: doorward consent requests"
        )
    lines += _asking(found)
    for watching in found["watching"]:
        left = words.length(watching["seconds_left"])
        lines.append(f"WATCHING   {watching['operator']}, {watching['camera']}, {left} left")
    if not found["watching"]:
        lines.append("watching   nobody")
    return lines


def _asking(found: dict[str, Any]) -> list[str]:
    """How many requests wait for an owner, and how soon the next one lapses."""
    if not found["pending"]:
        return []
    left = found["pending_lapses_in_s"]
    lapses = "" if left is None else f"; the next lapses in {words.length(left)}"
    if left is not None and left <= SOON_S:
        lapses += ", SOON"
    since = words.written_time(found["pending_since"])
    return [
        f"asked      {found['pending']} waiting for you, the oldest since {since}{lapses}",
        "           hint: doorward owner watch",
    ]
