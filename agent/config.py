"""The only reader of files, environment and arguments at start. Everything else gets frozen values.

The file is YAML; unknown keys are errors. It holds hardware, paths, budget and listening addresses, and can
only narrow: whatever could widen what leaves the house stands in the charter, under the owners' signatures.

::

    cameras:
      front: {uri: "picamera2:", lores: 640x360}
    archive: {budget: 20GB}
    http: {listen: 127.0.0.1, port: 8443}
    post: {ca: post-ca.pem, certificate: device.pem, key: device.key}
    ice_addresses: [192.168.1.20]
    max_viewers: 4

Without a file: one camera ``front``, the best that `hal.detect` finds; 20 GB or a tenth of the free disk,
whichever is less; the HTTPS door on 127.0.0.1:8443.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from agent.consent.fields import show
from agent.errors import ConfigError

STATE_SCHEMA: Final = 0
DEFAULT_PORT: Final = 8443
BEST: Final = "best:"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_SIZE: Final = re.compile(r"([0-9]{2,4})x([0-9]{2,4})\Z")
_BYTES: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(B|KB|MB|GB|TB)?\Z", re.IGNORECASE)
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}\Z")
_UNITS: Final = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_MAX_FILE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """One camera: its name in the charter, where it is, and the size of its small picture in pixels.

    A size of None is the camera's own shape, at up to 640 wide: nothing is distorted.
    """

    name: str
    uri: str
    lores: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class PostFiles:
    """net's own TLS files for the charter's post."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Config:
    """Everything decided before start."""

    state: Path  # core's state directory
    net_state: Path  # net's own: TLS keys
    run: Path  # sockets
    cameras: tuple[CameraConfig, ...]
    budget_bytes: int | None  # None: a tenth of the free disk, at most 20 GB
    listen: str
    port: int
    post: PostFiles | None
    ice_addresses: tuple[str, ...] | None  # None: all of the machine's
    max_viewers: int

    @property
    def door(self) -> Path:
        """The local door, core's own socket."""
        return self.run / "core.sock"

    @property
    def seam(self) -> Path:
        """The socket between core and net."""
        return self.run / "seam.sock"


def default_home() -> Path:
    """Where state lives without systemd: ``$DOORWARD_HOME``, else ``var`` under the current directory."""
    return Path(os.environ.get("DOORWARD_HOME", "var")).absolute()


def load(path: Path | None, *, home: Path) -> Config:
    """Read the configuration file, or take the defaults when ``path`` is None.

    ``home`` holds ``state``, ``net`` and ``run``; systemd's STATE_DIRECTORY and RUNTIME_DIRECTORY override.

    Raises:
        ConfigError: The file is missing, is no YAML, or says something unknown or impossible.
    """
    value = _read(path) if path else {}
    section = _Section(value, "config")
    base = path.parent if path else Path()
    cameras = section.table("cameras", {"front": {}})
    archive = _Section(section.table("archive", {}), "config.archive")
    http = _Section(section.table("http", {}), "config.http")
    post = section.take("post", None)
    config = Config(
        state=Path(os.environ.get("STATE_DIRECTORY", home / "state")),
        net_state=home / "net",
        run=Path(os.environ.get("RUNTIME_DIRECTORY", home / "run")),
        cameras=tuple(_camera(name, entry, base) for name, entry in cameras.items()),
        budget_bytes=_budget(archive.take("budget", None)),
        listen=_address(http.take("listen", "127.0.0.1"), "config.http.listen"),
        port=_integer(http.take("port", DEFAULT_PORT), "config.http.port", 0, 65_535),
        post=_post(post, base) if post is not None else None,
        ice_addresses=_addresses(section.take("ice_addresses", None)),
        max_viewers=_integer(section.take("max_viewers", 4), "config.max_viewers", 1, 32),
    )
    for each in (archive, http, section):
        each.done()
    return config


class _Section:
    """A mapping of the file whose keys are taken one by one."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: not a table of keys")
        self._left = dict(value)
        self._where = where

    def take(self, key: str, default: object) -> object:
        return self._left.pop(key, default)

    def table(self, key: str, default: dict[str, object]) -> dict[str, object]:
        value = self.take(key, default)
        if not isinstance(value, dict):
            raise ConfigError(f"{self._where}.{key}: not a table of keys")
        return value

    def done(self) -> None:
        if self._left:
            raise ConfigError(f"{self._where}: unknown key {show(next(iter(self._left)))}")


def _read(path: Path) -> object:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"config: cannot read {path} ({error.strerror})", hint="name another file with --config"
        ) from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"config: {path} is too large (got {len(data)} bytes)")
    try:
        root = yaml.compose(data, Loader=yaml.SafeLoader)
        return {} if root is None else _plain(root, set(), path)
    except yaml.MarkedYAMLError as error:
        at = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"config: {path} is not YAML{at} ({error.problem})") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"config: {path} is not YAML") from error


def _plain(node: yaml.Node, seen: set[int], path: Path) -> object:
    """Text, integers, true, false, nothing, lists and tables: all this file needs of YAML.

    PyYAML's own constructor lets errors of Python out, keeps the last of a key that stands twice, makes dates
    of what looks like one, and copies what aliases repeat until the memory is full.
    """
    if id(node) in seen:
        raise ConfigError(f"config: {path}: an alias at line {node.start_mark.line + 1}")
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        table: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in table:
                what = f"key {show(key.value)} stands twice or is none"
                raise ConfigError(f"config: {path}: {what} at line {key.start_mark.line + 1}")
            table[key.value] = _plain(value, seen, path)
        return table
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, seen, path) for item in node.value]
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return node.value.lower() in {"true", "yes", "on"}
        case "int" if _INTEGER.match(node.value):
            return int(node.value)
        case _:
            return str(node.value)


def _camera(name: object, entry: object, base: Path) -> CameraConfig:
    if not isinstance(name, str) or not _NAME.match(name):
        raise ConfigError(f"config.cameras: name (got {show(name)}, expected a-z, 0-9, - and _)")
    section = _Section(entry, f"config.cameras.{name}")
    uri = section.take("uri", BEST)
    lores = section.take("lores", None)
    section.done()
    if not isinstance(uri, str):
        raise ConfigError(f"config.cameras.{name}.uri (got {show(uri)}, expected a text like 'picamera2:')")
    if uri.startswith("file:") and not uri.startswith("file:/"):
        uri = f"file:{(base / uri.removeprefix('file:')).absolute()}"
    return CameraConfig(name, uri, _size(lores, name) if lores is not None else None)


def _size(value: object, name: str) -> tuple[int, int]:
    match = _SIZE.match(str(value))
    if not match:
        raise ConfigError(f"config.cameras.{name}.lores (got {show(value)}, expected a size like 640x480)")
    return int(match[1]) // 2 * 2, int(match[2]) // 2 * 2


def _budget(value: object) -> int | None:
    if value is None:
        return None
    match = _BYTES.match(str(value))
    if not match:
        raise ConfigError(f"config.archive.budget (got {show(value)}, expected a size like 20GB)")
    return int(float(match[1]) * _UNITS[(match[2] or "B").upper()])


def _integer(value: object, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{where} (got {show(value)}, expected {low}..{high})")
    return value


def _address(value: object, where: str) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError as error:
        raise ConfigError(f"{where} (got {show(value)}, expected an IP address)") from error


def _addresses(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ConfigError("config.ice_addresses: not a list of IP addresses")
    return tuple(_address(each, "config.ice_addresses") for each in value)


def _post(value: object, base: Path) -> PostFiles:
    section = _Section(value, "config.post")
    files = []
    for key in ("ca", "certificate", "key"):
        name = section.take(key, None)
        if not isinstance(name, str):
            raise ConfigError(f"config.post.{key}: missing (expected the path of a PEM file)")
        files.append((base / name).absolute())
    section.done()
    return PostFiles(*files)
