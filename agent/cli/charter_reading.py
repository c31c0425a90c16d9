"""A charter edited as YAML, read back: whatever is wrong is said with file, line and field.

The text is turned into the document that `agent.consent.charter.parse` checks; where that finds something,
the line is the one its field came from. Full public keys are taken from the charter in force.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import yaml

from agent import zones
from agent.cli.charter_cameras import parse_corners
from agent.cli.charter_yaml import CAPS, made_from
from agent.cli.hours import parse_window
from agent.cli.times import parse_duration
from agent.consent import charter as charters
from agent.consent import envelope, strict_json
from agent.consent.charter import Post
from agent.consent.fields import encode_bytes
from agent.errors import ConfigError, DocumentError, MalformedInput
from agent.ledger import cosignature, vkey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.consent.charter import Charter

T = TypeVar("T")

_KEY_DIGITS: Final = re.compile(r"[0-9a-f]{8,64}\Z")
_PATH: Final = re.compile(r"charter[\w.\[\]]*")
_BOOLEANS: Final = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of the text: where it stands and what it is called."""

    file: str
    node: yaml.Node
    path: str

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    def fail(self, why: str) -> NoReturn:
        raise ConfigError(f"{self.file}: line {self.line}: {self.path}: {why}")

    def text(self) -> str:
        if not isinstance(self.node, yaml.ScalarNode):
            self.fail("expected a single value")
        return str(self.node.value).strip()

    def says_none(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.text().lower() in {"none", "", "~", "null"}

    def items(self) -> list[_Place]:
        """The items of a list; ``none`` has none, a single value is a list of one."""
        if self.says_none():
            return []
        if isinstance(self.node, yaml.ScalarNode):
            return [self]
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail("expected a list, or none")
        return [
            _Place(self.file, node, f"{self.path}[{number}]") for number, node in enumerate(self.node.value)
        ]

    def fields(self, needed: tuple[str, ...] | None, optional: tuple[str, ...] = ()) -> dict[str, _Place]:
        """The fields of a mapping, each once; without ``needed`` any names will do."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fail("expected fields, as 'name: value'")
        found: dict[str, _Place] = {}
        for key, node in self.node.value:
            name = _Place(self.file, key, self.path).text()
            place = _Place(self.file, node, f"{self.path}.{name}" if self.path else name)
            if name in found:
                _Place(self.file, key, place.path).fail("stands twice")
            if needed is not None and name not in (*needed, *optional):
                _Place(self.file, key, place.path).fail(
                    f"unknown field (expected {', '.join((*needed, *optional))})"
                )
            found[name] = place
        for name in needed or ():
            if name not in found:
                self.fail(f"{name} is missing (write 'none' for nothing)")
        return found


def read(text: str, current: Charter, *, file: str) -> Charter:
    """The charter after ``current`` that a text asks for.

    Raises:
        ConfigError: Not such a text; the message names file, line and field.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{file}: {at}not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {str(error).splitlines()[0]}") from error
    if node is None:
        raise ConfigError(f"{file}: empty")
    return _Reader(current).read(_Place(file, node, ""))


class _Reader:
    """One reading: turns the text into the document that `charters.parse` checks, and knows each line."""

    def __init__(self, current: Charter) -> None:
        self._current = current
        self._lines: dict[str, _Place] = {}

    def read(self, top: _Place) -> Charter:
        names = (
            *("edits", "granting", "governing", "daily_limits", "owners", "devices", "cameras", "agencies"),
            *("rules", "alarm_max", "ice", "post", "witnesses", "rollback", "accept_plausible_time"),
            "indicator_required",
        )
        parts = top.fields(names)
        if parts["edits"].text() != made_from(self._current):
            parts["edits"].fail(
                f"made from another charter than the one in force, which is {made_from(self._current)}: "
                "take a fresh text with 'doorward charter edit --stdout'"
            )
        self._lines["charter"] = top
        value = self._value(parts)
        try:
            return charters.parse(strict_json.dumps(value))
        except DocumentError as error:
            raise self._located(error) from error

    def _value(self, parts: dict[str, _Place]) -> dict[str, object]:
        devices = self._list(parts["devices"], "devices", self._device)
        agencies = self._list(parts["agencies"], "agencies", self._agency)
        self._devices = {str(each["name"]): each for each in devices}
        self._agencies = agencies
        current = self._current
        return {
            "from": "owners",
            "to": "devices",
            "version": current.version + 1,
            "household": current.household,
            "previous": current.id,
            "owners": self._list(parts["owners"], "owners", self._owner),
            "granting": self._number(parts["granting"], "granting"),
            "governing": self._number(parts["governing"], "governing"),
            "daily_limits": self._limits(parts["daily_limits"]),
            "devices": devices,
            "agencies": agencies,
            "cameras": self._list(parts["cameras"], "cameras", self._camera),
            "rules": self._list(parts["rules"], "rules", self._rule),
            "post": self._post(parts["post"]),
            "ice": self._word(parts["ice"], "ice"),
            "rollback": self._word(parts["rollback"], "rollback"),
            "accept_plausible_time": self._bool(parts["accept_plausible_time"]),
            "indicator_required": self._bool(parts["indicator_required"]),
            "alarm_max_seconds": self._seconds(parts["alarm_max"], "alarm_max_seconds"),
            "witnesses": self._list(parts["witnesses"], "witnesses", self._witness),
        }

    def _located(self, error: DocumentError) -> ConfigError:
        """What the charter's parser found, at the line it comes from."""
        message = str(error)
        match = _PATH.match(message)
        path = match[0] if match else "charter"
        while path not in self._lines:
            path = re.sub(r"(\.\w+|\[\d+\])\Z", "", path) if re.search(r"[.\[]", path) else "charter"
        place = self._lines[path]
        said = message.removeprefix("charter.").removeprefix("charter: ")
        line = f"line {place.line}: " if path != "charter" else ""
        return ConfigError(f"{place.file}: {line}{said}")

    # One kind of value each

    def _note(self, place: _Place, path: str) -> None:
        self._lines[f"charter.{path}"] = place

    def _list(
        self, place: _Place, path: str, read: Callable[[_Place, str], dict[str, object]]
    ) -> list[dict[str, object]]:
        self._note(place, path)
        found = []
        for number, item in enumerate(place.items()):
            self._note(item, f"{path}[{number}]")
            found.append(read(item, f"{path}[{number}]"))
        return found

    def _word(self, place: _Place, path: str) -> str:
        self._note(place, path)
        return place.text()

    def _number(self, place: _Place, path: str) -> int:
        self._note(place, path)
        text = place.text()
        if not text.isascii() or not text.isdigit() or len(text) > 10:  # noqa: PLR2004 - no charter's number is longer
            place.fail(f"got {text[:40]!r}, expected a number")
        return int(text)

    def _seconds(self, place: _Place, path: str) -> int:
        self._note(place, path)
        if place.says_none():
            return 0
        try:
            return parse_duration(place.text())
        except ConfigError as error:
            place.fail(str(error))

    def _bool(self, place: _Place) -> bool:
        text = place.text().lower()
        if text not in _BOOLEANS:
            place.fail(f"got {text[:40]!r}, expected yes or no")
        return _BOOLEANS[text]

    def _corners(self, place: _Place) -> list[list[int]]:
        try:
            return [list(corner) for corner in parse_corners(place.text(), "corners")]
        except MalformedInput as error:
            place.fail(str(error).removeprefix("corners: "))

    def _known(self, place: _Place, known: Mapping[str, T], hint: str) -> T:
        """What has the key that the text shows short."""
        digits = "".join(place.text().split()).removeprefix("sha256:").lower()
        if not _KEY_DIGITS.match(digits):
            place.fail(f"got {place.text()[:40]!r}, expected the digits of a key")
        found = [each for name, each in known.items() if name.removeprefix("sha256:").startswith(digits)]
        if len(found) != 1:
            what = (
                "several keys of the charter in force begin"
                if found
                else "no key of the charter in force begins"
            )
            place.fail(f"{what} with {digits[:16]} ({hint})")
        return found[0]

    # The parts of a charter

    def _limits(self, place: _Place) -> dict[str, object]:
        parts = place.fields(("max", "standing"))
        return {
            "max_seconds": self._seconds(parts["max"], "daily_limits.max_seconds"),
            "standing": self._bool(parts["standing"]),
        }

    def _owner(self, place: _Place, path: str) -> dict[str, object]:
        parts = place.fields(("name", "key", "daily"))
        known = {envelope.key_id(owner.root): owner for owner in self._current.owners}
        owner = self._known(parts["key"], known, "a new owner: doorward charter add-owner CARD")

        def daily(item: _Place, where: str) -> dict[str, object]:
            fields = item.fields(("label", "key"))
            keys = {envelope.key_id(key.signing): key for key in owner.daily}
            key = self._known(fields["key"], keys, "a new key: doorward charter add-key CARD")
            return {
                "label": self._word(fields["label"], f"{where}.label"),
                "signing": encode_bytes(key.signing),
                "archive": encode_bytes(key.archive),
            }

        return {
            "name": self._word(parts["name"], f"{path}.name"),
            "root": encode_bytes(owner.root),
            "recovery": encode_bytes(owner.recovery),
            "daily": self._list(parts["daily"], f"{path}.daily", daily),
        }

    def _device(self, place: _Place, path: str) -> dict[str, object]:
        parts = place.fields(("name", "key"))
        known = {device.key_id: device for device in self._current.devices}
        device = self._known(parts["key"], known, "a device comes in by its own key")
        return {"name": self._word(parts["name"], f"{path}.name"), "signing": encode_bytes(device.signing)}

    def _agency(self, place: _Place, path: str) -> dict[str, object]:
        parts = place.fields(("name", "key", "max", "answers"))
        known = {agency.key_id: agency for agency in self._current.agencies}
        agency = self._known(parts["key"], known, "a new agency: doorward charter add-agency CARD")
        return {
            "name": self._word(parts["name"], f"{path}.name"),
            "signing": encode_bytes(agency.signing),
            "seal": encode_bytes(agency.seal),
            "answers": self._word(parts["answers"], f"{path}.answers"),
            "max_seconds": self._seconds(parts["max"], f"{path}.max_seconds"),
        }

    def _camera(self, place: _Place, path: str) -> dict[str, object]:
        parts = place.fields(("name", "device", "never", "areas"))
        areas = []
        if not parts["areas"].says_none():
            for number, (name, corners) in enumerate(parts["areas"].fields(None).items()):
                self._note(corners, f"{path}.areas[{number}]")
                areas.append({"name": name, "polygon": self._corners(corners)})
        return {
            "name": self._word(parts["name"], f"{path}.name"),
            "device": self._device_id(parts["device"]),
            "never": [self._corners(each) for each in parts["never"].items()],
            "areas": areas,
        }

    def _device_id(self, place: _Place) -> str:
        named = self._devices.get(place.text())
        if named is not None:
            return next(
                device.key_id
                for device in self._current.devices
                if encode_bytes(device.signing) == named["signing"]
            )
        known = {device.key_id: device for device in self._current.devices}
        return self._known(place, known, "expected the name of one of the devices above").key_id

    def _rule(self, place: _Place, path: str) -> dict[str, object]:
        parts = place.fields(("effect",), ("seconds", *CAPS, "when", "unless"))
        value: dict[str, object] = {"effect": self._word(parts["effect"], f"{path}.effect")}
        if "seconds" in parts:
            value["seconds"] = self._seconds(parts["seconds"], f"{path}.seconds")
        for name in CAPS:
            if name in parts:
                value[name] = self._number(parts[name], f"{path}.{name}")
        for name in ("when", "unless"):
            if name in parts:
                value[name] = self._when(parts[name], f"{path}.{name}")
        return value

    def _when(self, place: _Place, path: str) -> dict[str, object]:
        self._note(place, path)
        parts = place.fields((), ("agencies", "purposes", "modes", "alarm", "hours", "zone"))
        value: dict[str, object] = {}
        if "agencies" in parts:
            value["agencies"] = [self._agency_id(each) for each in parts["agencies"].items()]
        for name in ("purposes", "modes"):
            if name in parts:
                items = parts[name].items()
                value[name] = [self._word(each, f"{path}.{name}[{at}]") for at, each in enumerate(items)]
        if "alarm" in parts:
            value["alarm"] = self._bool(parts["alarm"])
        if ("hours" in parts) != ("zone" in parts):
            place.fail("hours and zone go together, as zone: Europe/Madrid")
        if "hours" in parts:
            zone = parts["zone"].text()
            if zone not in zones.load({zone}):
                parts["zone"].fail(f"got {zone[:60]!r}, which this machine does not know")
            value["hours"] = {
                "zone": self._word(parts["zone"], f"{path}.hours.zone"),
                "windows": self._list(parts["hours"], f"{path}.hours.windows", self._window),
            }
        return value

    def _agency_id(self, place: _Place) -> str:
        named = [each for each in self._agencies if each["name"] == place.text()]
        signing = {str(each["signing"]) for each in named}
        known = {agency.key_id: agency for agency in self._current.agencies}
        found = [name for name, agency in known.items() if encode_bytes(agency.signing) in signing]
        if len(found) == 1:
            return found[0]
        if re.fullmatch(r"sha256:[0-9a-f]{64}", place.text()):
            return place.text()  # a rule may outlast its agency
        return self._known(place, known, "expected the name of one of the agencies above").key_id

    def _window(self, place: _Place, _path: str) -> dict[str, object]:
        try:
            return parse_window(place.text()).to_json()
        except MalformedInput as error:
            place.fail(str(error).removeprefix("window: "))

    def _post(self, place: _Place) -> dict[str, object] | None:
        self._note(place, "post")
        try:
            post = parse_post("none" if place.says_none() else place.text())
        except MalformedInput as error:
            place.fail(str(error).removeprefix("post: "))
        return {"host": post.host, "port": post.port} if post else None

    def _witness(self, place: _Place, path: str) -> dict[str, object]:
        parts = place.fields(("key", "url"))
        try:
            name, public = vkey.parse(parts["key"].text(), cosignature.KIND)
        except MalformedInput as error:
            parts["key"].fail(str(error))
        return {"name": name, "key": encode_bytes(public), "url": self._word(parts["url"], f"{path}.url")}


def parse_post(text: str) -> Post | None:
    """A post as ``HOST:PORT``, or ``none``.

    Raises:
        MalformedInput: Written otherwise.
    """
    if text == "none":
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise MalformedInput(f"post: got {text[:60]!r}, expected HOST:PORT or none")
    return Post(host, int(port))
