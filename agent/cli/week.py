"""``doorward consent calendar``: what a consent would allow in the next days."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import click

from agent import zones
from agent.cli import hours, sentences, words
from agent.cli.foresight import foresee
from agent.cli.named import picked_token, short
from agent.cli.options import door_options, json_option, opened
from agent.consent import envelope, times, token
from agent.consent.acts import ShutterState
from agent.consent.decision import Denial, Grant, Standing, Usage
from agent.consent.view import Redaction
from agent.operations import Operation
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.cli.foresight import Span
    from agent.consent.charter import Charter
    from agent.consent.token import Token

CELL_S: Final = 1800
MOST_DAYS: Final = 62
LEGEND: Final = "# allowed   + part of the time   ! only while your alarm is on   . not allowed"


@click.command("calendar")
@click.argument("token_id", metavar="CONSENT")
@click.option("--days", type=click.IntRange(1, MOST_DAYS), default=7, show_default=True)
@door_options
@json_option
def calendar(token_id: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Show what a consent would allow in the next days, rules of your household included, and why not else.

    In the zone of the consent's windows, else of your rules, else of this machine.
    """
    with opened(options) as client:
        each, said = picked_token(client, token_id)
        _, blob = client.door.call(Operation.CONSENT, {"id": each["id"]})
        current, _ = client.charter()
    held = token.parse(envelope.unverified_payload(blob)[1])
    known = zones.load(set(zones.named(current, [held])))
    name, zone = zone_of(held, current)
    begin_ns = _midnight(clock.wall_ns(), zone, 0)
    end_ns = _midnight(clock.wall_ns(), zone, options["days"])
    redactions = frozenset(Redaction(name) for name in said.get("redactions", ()))
    spans = foresee(
        held,
        current,
        standing_of(each, said),
        known,
        begin_ns=begin_ns,
        end_ns=end_ns,
        redactions=redactions,
    )
    if options["as_json"]:
        words.print_json([_span_json(span) for span in spans])
        return
    agency = sentences.agency_name(held.agency, current)
    click.echo(f"Consent {short(held.id)} for {agency}, {held.purpose.reference}; times of {name}")
    for line in drawn(spans, zone):
        click.echo(line)


def standing_of(each: dict[str, Any], said: dict[str, Any]) -> Standing:
    """The consent state that matters to one consent, as the device lists its consents."""
    until = said.get("alarm_until")
    name = each["id"]
    return Standing(
        shutter=ShutterState(said["shutter"]),
        revoked=frozenset({name} if each["revoked"] else ()),
        blocked=frozenset(said["blocked"]),
        alarm_until_ns=times.parse(until, "alarm") if until else 0,
        usage={name: Usage(each["sessions_used"], each["seconds_used"])},
    )


def zone_of(held: Token, current: Charter) -> tuple[str, dt.tzinfo]:
    """The zone to show a consent in, and its name."""
    local = hours.local_zone()
    for name in (*zones.named(None, [held]), *zones.named(current, []), *([local] if local else [])):
        found = zones.load({name}).get(name)
        if found is not None:
            return name, found
    return "UTC", dt.UTC


def _midnight(now_ns: int, zone: dt.tzinfo, days: int) -> int:
    """Midnight there, so many days after today's."""
    today = dt.datetime.fromtimestamp(now_ns // times.SECOND_NS, zone).date() + dt.timedelta(days=days)
    # Where the clock skips midnight this is the first moment of the day.
    return int(dt.datetime.combine(today, dt.time(), zone).timestamp()) * times.SECOND_NS


def drawn(spans: Sequence[Span], zone: dt.tzinfo) -> list[str]:
    """Spans as a small calendar: a line for each day, half an hour a sign; then what the signs do not say."""
    lines = ["            0     3     6     9     12    15    18    21    24"]
    begin_ns, end_ns = spans[0].begin_ns, spans[-1].end_ns
    number = 0
    while (day_ns := _midnight(begin_ns, zone, number)) < end_ns:
        next_ns = min(_midnight(begin_ns, zone, number + 1), end_ns)
        date = dt.datetime.fromtimestamp(day_ns // times.SECOND_NS, zone).strftime("%a %d %b")
        signs = [
            _sign(spans, at, min(at + CELL_S * times.SECOND_NS, next_ns))
            for at in range(day_ns, next_ns, CELL_S * times.SECOND_NS)
        ]
        found = [_hours(span, day_ns, next_ns, zone) for span in spans if span.allowed]
        allowed = ", ".join(text for text in found if text)
        lines.append(f"{date:10}  {''.join(signs):48}  {allowed}".rstrip())
        number += 1
    lines.append(LEGEND)
    reasons = [
        str(span.decision.reason) for span in spans if isinstance(span.decision, Denial) and not span.by_alarm
    ]
    lines += [f"Not allowed: {words.reason(reason)}." for reason in dict.fromkeys(reasons)]
    views = [span.decision.view for span in spans if isinstance(span.decision, Grant)]
    lines += [
        f"Allowed: at most {view.max_height} lines, {view.max_fps} pictures a second."
        for view in dict.fromkeys(views)
    ]
    return lines


def _sign(spans: Sequence[Span], begin_ns: int, end_ns: int) -> str:
    within = [span for span in spans if span.begin_ns < end_ns and begin_ns < span.end_ns]
    if all(span.allowed for span in within):
        return "#"
    if any(span.allowed for span in within):
        return "+"
    return "!" if any(span.by_alarm for span in within) else "."


def _hours(span: Span, begin_ns: int, end_ns: int, zone: dt.tzinfo) -> str:
    """The part of a span within a day, as local times."""
    first, last = max(span.begin_ns, begin_ns), min(span.end_ns, end_ns)
    if first >= last:
        return ""
    begin = dt.datetime.fromtimestamp(first // times.SECOND_NS, zone).strftime("%H:%M")
    end = dt.datetime.fromtimestamp(last // times.SECOND_NS, zone).strftime("%H:%M")
    return f"{begin}-{'24:00' if last == end_ns and end == '00:00' else end}"


def _span_json(span: Span) -> dict[str, object]:
    value: dict[str, object] = {
        "from": times.written(span.begin_ns),
        "to": times.written(span.end_ns),
        "allowed": span.allowed,
        "while_alarm": span.by_alarm,
    }
    if isinstance(span.decision, Grant):
        view = span.decision.view
        return {**value, "max_height": view.max_height, "max_fps": view.max_fps}
    return {**value, "reason": str(span.decision.reason)}
