"""An owner's inbox: who asks, who watches, and what the owner does about it. Pure: no terminal, no device.

`Inbox.update` takes what the device lists and gives the events since; `Inbox.key` takes a key and gives the
command that is to be carried out, if any; `Inbox.lines` says what stands on the screen. What lets something
out asks once more and says what will be seen; what takes away happens at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent.cli import words
from agent.cli.named import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LENGTHS_MIN: Final = {"1": 5, "2": 15, "3": 60}
HEIGHTS: Final = (240, 360, 480, 720, 1080)
USUAL_HEIGHT: Final = 480
USUAL_FPS: Final = 15
SOON_S: Final = 300
UP: Final = "up"
DOWN: Final = "down"
ESCAPE: Final = "escape"
_NARROW: Final = 24


def clean(text: object) -> str:
    """Text of others as a terminal may see it: one line, no control characters."""
    return "".join(each if each.isprintable() else "?" for each in str(text))


@dataclass(slots=True)
class Ask:
    """One request that waits, and what of it would be allowed."""

    said: dict[str, Any]
    areas: list[str]
    shared: tuple[str, ...]  # the areas the camera has
    height: int
    fps: int

    @property
    def id(self) -> str:
        """The request's id."""
        return str(self.said["id"])

    def who(self) -> str:
        """Who asks."""
        said = self.said
        return clean(f"{said['agency_name']}: {said['operator']}, badge {said['badge']}")

    def what(self) -> str:
        """What they ask to see, and how long."""
        said = self.said
        if said.get("footage"):
            stretch = said["footage"]
            what = f"footage of {said['camera']} from {stretch['begin']} to {stretch['end']}"
        else:
            what = f"{said['camera']}, {said['mode']}, up to {words.length(said['seconds'])}"
        return clean(f"asks to see {what}")

    def why(self) -> str:
        """What for, and until when it can be answered."""
        purpose, left = self.said["purpose"], self.said["lapses_in_s"]
        lapses = (
            "" if left is None else f"; lapses in {words.length(left)}{', SOON' if left <= SOON_S else ''}"
        )
        return clean(f"for: {purpose['kind']}, {purpose['reference']}") + lapses

    def shown(self) -> str:
        """What would be seen."""
        if not self.areas:
            asked = ", ".join(self.said["areas"])
            wish = f" (they ask for {asked})" if asked else ""
            return clean(f"they will see: no area chosen yet, so nothing{wish}")
        areas = ", ".join(self.areas)
        return clean(
            f"they will see: {areas}, at most {self.height} lines, {self.fps} pictures a second; "
            "all else is blacked out"
        )


@dataclass(frozen=True, slots=True)
class Watching:
    """One session that runs."""

    said: dict[str, Any]

    @property
    def session(self) -> str:
        """Its id."""
        return str(self.said["session"])

    def line(self) -> str:
        """Who sees what, and for how long still."""
        said = self.said
        left = words.length(said["seconds_left"])
        return clean(
            f"{said['agency_name']}: {said['operator']}, badge {said['badge']}, sees {said['camera']} "
            f"({said['reference']}), {left} left"
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: ``asked``, ``gone``, ``watching``, ``stopped``."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Allow:
    """Let them see it."""

    ask: Ask
    minutes: int


@dataclass(frozen=True, slots=True)
class NotNow:
    """Put the request off."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Block:
    """Hear nothing of this agency any more, and show it nothing."""

    agency: str
    name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End a session: its consent is taken back."""

    watching: Watching


@dataclass(frozen=True, slots=True)
class StopEverything:
    """Take back all that was given to anybody."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave the inbox."""


Command = Allow | NotNow | Block | Stop | StopEverything | Quit


@dataclass(slots=True)
class Inbox:
    """What waits and what runs, where the owner is in it, and what they are about to do."""

    asks: list[Ask] = field(default_factory=list)
    watching: list[Watching] = field(default_factory=list)
    at: int = 0
    about: Allow | Block | None = None
    """What asks once more."""

    trimming: bool = False
    notice: str = ""
    trouble: str = ""

    def update(
        self,
        requests: Sequence[dict[str, Any]],
        watching: Sequence[dict[str, Any]],
        shared: Mapping[str, Sequence[str]],
    ) -> list[Event]:
        """Take what the device lists now; choices that were made for a request stay."""
        chosen = self.chosen()
        before = {ask.id: ask for ask in self.asks}
        now = [each for each in requests if each["standing"] == "waiting"]
        standings = {str(each["id"]): str(each["standing"]) for each in requests}
        events = [Event("asked", each) for each in now if str(each["id"]) not in before]
        events += [
            Event("gone", {"id": name, "standing": standings.get(name, "lapsed")})
            for name in before
            if standings.get(name) != "waiting"
        ]
        self.asks = []
        for each in now:
            ask = before.get(str(each["id"])) or _ask(each, tuple(shared.get(str(each["camera"]), ())))
            ask.said = each
            self.asks.append(ask)
        running = {each.session for each in self.watching}
        still = {str(each["session"]) for each in watching}
        events += [Event("watching", each) for each in watching if str(each["session"]) not in running]
        events += [Event("stopped", {"session": each}) for each in running if each not in still]
        self.watching = [Watching(each) for each in watching]
        self._stay_at(chosen)
        return events

    def _stay_at(self, chosen: Ask | Watching | None) -> None:
        """Keep the owner on what they were on: nothing that comes may slip under their finger."""
        name = _name(chosen)
        everything: list[Ask | Watching] = [*self.asks, *self.watching]
        for number, each in enumerate(everything):
            if _name(each) == name:
                self.at = number
                return
        self.at = min(self.at, max(0, len(self.asks) + len(self.watching) - 1))
        self.trimming = False
        if self.about is not None:
            self.about = None
            self.notice = "It is gone: nothing was allowed."

    def chosen(self) -> Ask | Watching | None:
        """What the owner is on."""
        everything: list[Ask | Watching] = [*self.asks, *self.watching]
        return everything[self.at] if self.at < len(everything) else None

    # Keys

    def key(self, key: str) -> Command | None:
        """Take a key; the command to carry out, if it is one."""
        if key == "S":
            self.about, self.trimming = None, False
            return StopEverything()
        if self.about is not None:
            return self._sure(key)
        self.notice = ""
        if key in {UP, DOWN, "j", "k"}:
            most = max(0, len(self.asks) + len(self.watching) - 1)
            self.at = min(max(self.at + (1 if key in {DOWN, "j"} else -1), 0), most)
            self.trimming = False
            return None
        return Quit() if key == "q" else self._about_chosen(self.chosen(), key)

    def _about_chosen(self, chosen: Ask | Watching | None, key: str) -> Command | None:
        if key == "s":
            return self._stop(chosen)
        if isinstance(chosen, Ask):
            return self._trim(chosen, key) if self.trimming else self._answer(chosen, key)
        return None

    def _stop(self, chosen: Ask | Watching | None) -> Command | None:
        if isinstance(chosen, Watching):
            return Stop(chosen)
        if len(self.watching) == 1:
            return Stop(self.watching[0])
        self.notice = "Nobody watches." if not self.watching else "Which one? Go to it first, or S for all."
        return None

    def _answer(self, ask: Ask, key: str) -> Command | None:
        if key in LENGTHS_MIN:
            if not ask.areas:
                self.trimming = True
                self.notice = "Choose first what they may see."
                return None
            self.about = Allow(ask, LENGTHS_MIN[key])
        elif key == "t":
            self.trimming = True
        elif key == "n":
            return NotNow(ask)
        elif key == "b":
            self.about = Block(str(ask.said["agency"]), clean(ask.said["agency_name"]))
        return None

    def _trim(self, ask: Ask, key: str) -> Command | None:
        """Choose areas by their number, the size by + and -."""
        if key in {"t", ESCAPE, "\r", "\n"}:
            self.trimming = False
        elif key.isdecimal() and 1 <= int(key) <= len(ask.shared):
            area = ask.shared[int(key) - 1]
            ask.areas = [each for each in ask.shared if (each in ask.areas) is not (each == area)]
        elif key in {"+", "-"}:
            steps = [each for each in HEIGHTS if (each > ask.height if key == "+" else each < ask.height)]
            if steps:
                ask.height = min(steps) if key == "+" else max(steps)
        return None

    def _sure(self, key: str) -> Command | None:
        command, self.about = self.about, None
        if key == "y":
            return command
        self.notice = "Nothing was done."
        return None

    # The screen

    def lines(self, width: int, height: int = 1000) -> list[str]:
        """The screen, a line each, no wider than ``width`` and, if they fit at all, no more than ``height``.

        What is on top and at the bottom stays: that somebody watches, and what is asked once more.
        """
        head = ["Doorward inbox", ""]
        if self.trouble:
            head += [f"!! {self.trouble}", ""]
        if self.watching:
            head += [f"WATCHING NOW: {len(self.watching)}   (s stops it, S stops EVERYTHING)", ""]
        foot = ["", *self._foot()]
        body, chosen = self._body()
        room = max(1, height - len(head) - len(foot))
        start = min(max(0, chosen - 1), max(0, len(body) - room))
        return [_cut(line, width) for line in (*head, *body[start : start + room], *foot)]

    def _body(self) -> tuple[list[str], int]:
        """All that runs and waits, and the line at which the chosen one begins."""
        found: list[str] = []
        chosen = 0
        for number, each in enumerate(self.watching, len(self.asks)):
            if number == self.at:
                chosen = len(found)
            found.append(f"{'>' if number == self.at else ' '} {each.line()}")
        found += [""] if self.watching else []
        for number, ask in enumerate(self.asks):
            if number == self.at:
                chosen = len(found)
            mark = ">" if number == self.at else " "
            found += [
                f"{mark} {ask.who()}",
                f"    {ask.what()}",
                f"    {ask.why()}",
                f"    {ask.shown()}",
                "",
            ]
            if number == self.at and self.trimming:
                found += self._trim_lines(ask)
        return found if self.asks else [*found, "Nobody asks."], chosen

    @staticmethod
    def _trim_lines(ask: Ask) -> list[str]:
        areas = [
            f"{number} [{'x' if area in ask.areas else ' '}] {area}"
            for number, area in enumerate(ask.shared, 1)
        ]
        return [
            f"    areas: {'   '.join(areas) or 'the camera has none: doorward charter add-area'}",
            f"    size: at most {ask.height} lines, + or - to change; Enter when done",
            "",
        ]

    def _foot(self) -> list[str]:
        if isinstance(self.about, Allow):
            ask = self.about.ask
            return [
                f"ALLOW {ask.who()} to see {clean(ask.said['camera'])} for {self.about.minutes} min?",
                ask.shown().capitalize() + ".",
                "y: yes    any other key: no",
            ]
        if isinstance(self.about, Block):
            return [f"BLOCK {self.about.name}: it sees nothing and is not heard. y: yes, any other key: no"]
        keys = "1: allow 5 min  2: 15 min  3: 60 min  t: trim  n: not now  b: block"
        return [self.notice, keys, "up/down: choose  s: stop  S: STOP EVERYTHING  q: quit"]


def _ask(said: dict[str, Any], shared: tuple[str, ...]) -> Ask:
    """A request with the narrowest sensible choice: what was asked for, or the only area there is."""
    wanted = [str(each) for each in said["areas"]] or (list(shared) if len(shared) == 1 else [])
    areas = [each for each in shared if each in wanted]
    return Ask(
        said, areas, shared, min(int(said["max_height"]), USUAL_HEIGHT), min(int(said["max_fps"]), USUAL_FPS)
    )


def _name(each: Ask | Watching | None) -> str | None:
    if each is None:
        return None
    return each.id if isinstance(each, Ask) else each.session


def _cut(line: str, width: int) -> str:
    return line if len(line) <= max(width, _NARROW) else line[: max(width, _NARROW) - 1] + "…"


# Lines, where there is no screen

LINE_HELP: Final = (
    "allow N 5|15|60 · trim N AREA… [HEIGHT] · no N · block N · stop [N] · stop all · list · quit"
)


def by_lines(inbox: Inbox) -> list[str]:
    """All that waits and runs, numbered for `typed`."""
    found: list[str] = []
    for number, ask in enumerate(inbox.asks, 1):
        found += [f"[{number}] {ask.who()} {ask.what()}", f"    {ask.why()}", f"    {ask.shown()}"]
        if not ask.areas:
            found.append(f"    areas: {', '.join(ask.shared) or 'none'}; choose: trim {number} AREA")
    found += [f"[{number}] WATCHING NOW {each.line()}" for number, each in enumerate(inbox.watching, 1)]
    return found or ["Nobody asks, nobody watches."]


def typed(inbox: Inbox, line: str) -> Command | str:
    """A typed line as a command, or what to say to it."""
    words_ = line.split()
    verb, rest = (words_[0].lower(), words_[1:]) if words_ else ("", [])
    match verb:
        case "quit" | "q" | "exit":
            said: Command | str = Quit()
        case "stop":
            said = _typed_stop(inbox, rest)
        case "list":
            said = "\n".join(by_lines(inbox))
        case "allow" | "trim" | "no" | "block":
            said = _typed_about(inbox, verb, rest)
        case _:
            said = LINE_HELP
    return said


def _typed_about(inbox: Inbox, verb: str, rest: Sequence[str]) -> Command | str:
    """What is about one request."""
    ask: Ask | None = _numbered(inbox.asks, rest[0]) if rest else None
    if ask is None:
        return "which one? (type list to see their numbers)"
    if verb == "no":
        return NotNow(ask)
    if verb == "block":
        return Block(str(ask.said["agency"]), clean(ask.said["agency_name"]))
    return _typed_allow(ask, rest[1:]) if verb == "allow" else _typed_trim(ask, rest[1:])


def _typed_stop(inbox: Inbox, rest: Sequence[str]) -> Command | str:
    if rest == ["all"]:
        return StopEverything()
    if not rest and len(inbox.watching) == 1:
        return Stop(inbox.watching[0])
    each = _numbered(inbox.watching, rest[0]) if rest else None
    return Stop(each) if each is not None else "stop which one? (its number, or all)"


def _typed_allow(ask: Ask, rest: Sequence[str]) -> Command | str:
    if len(rest) != 1 or rest[0] not in {str(each) for each in LENGTHS_MIN.values()}:
        return "for how long? (5, 15 or 60 minutes)"
    if not ask.areas:
        return f"choose first what they may see: trim N AREA ({', '.join(ask.shared) or 'it has none'})"
    return Allow(ask, int(rest[0]))


def _typed_trim(ask: Ask, rest: Sequence[str]) -> str:
    areas = [each for each in rest if not each.isdecimal()]
    unknown = [each for each in areas if each not in ask.shared]
    heights = [int(each) for each in rest if each.isdecimal()]
    if unknown or not rest or len(heights) > 1 or any(each not in HEIGHTS for each in heights):
        return f"trim N AREA… [HEIGHT] (areas: {', '.join(ask.shared)}; heights: {HEIGHTS})"
    if areas:
        ask.areas = [each for each in ask.shared if each in areas]
    if heights:
        ask.height = heights[0]
    return ask.shown()


def _numbered(found: Sequence[Any], text: str) -> Any:  # noqa: ANN401 - an element of what was given
    number = int(text) if text.isdecimal() else 0
    return found[number - 1] if 1 <= number <= len(found) else None


def event_json(event: Event, at: str) -> dict[str, Any]:
    """An event as ``--json`` prints it."""
    fields = dict(event.fields)
    if event.name == "asked":
        fields = {key: value for key, value in fields.items() if key not in {"entry", "standing"}}
    return {"event": event.name, "at": at, **fields}


def event_line(event: Event) -> str:
    """An event in one line, but for `asked`, which `by_lines` tells better."""
    fields = event.fields
    if event.name == "gone":
        return f"request {short(fields['id'])}: {fields['standing']}"
    if event.name == "watching":
        return f"WATCHING NOW {Watching(dict(fields)).line()}"
    return f"session {fields['session']} is over"
