"""The configuration: every wrong file is one line that says where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import config
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.config import Config


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "DOORWARD_HOME"):
        monkeypatch.delenv(name, raising=False)


def load(tmp_path: Path, text: str | bytes) -> Config:
    path = tmp_path / "doorward.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load(path, home=tmp_path)


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    found = config.load(None, home=tmp_path)
    assert found == load(tmp_path, "") == load(tmp_path, "# nothing\n")
    assert [camera.uri for camera in found.cameras] == ["best:"]
    assert (found.listen, found.port, found.post, found.ice_addresses) == ("127.0.0.1", 8443, None, None)
    assert found.door.parent == found.seam.parent == found.run


def test_full_file_is_read(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
cameras:
  front: {uri: "picamera2:", lores: 641x480}
  back: {uri: "file:clip.mp4"}
archive: {budget: 1.5 GB}
http: {listen: "::1", port: 0}
post: {ca: ca.pem, certificate: c.pem, key: /k.pem}
ice_addresses: [192.168.1.20, "fe80::1"]
max_viewers: 2
""",
    )
    assert [(camera.name, camera.lores) for camera in found.cameras] == [
        ("front", (640, 480)),
        ("back", None),
    ]
    assert found.cameras[1].uri == f"file:{tmp_path / 'clip.mp4'}"
    assert (found.budget_bytes, found.listen, found.port) == (1_500_000_000, "::1", 0)
    assert found.post is not None
    assert (found.post.ca, found.post.key) == (tmp_path / "ca.pem", Path("/k.pem"))
    assert found.ice_addresses == ("192.168.1.20", "fe80::1")


WRONG = [
    "unknown: 1",
    '"a\\nb\\e[2J": 1',
    "archive: {budget: 1GB, size: 2}",
    "http: {host: x}",
    "cameras: {front: {url: x}}",
    "post: {ca: a, certificate: b, key: c, password: d}",
    "post: {ca: a, certificate: b}",
    "post: {ca: 1, certificate: b, key: c}",
    "post: x",
    "archive: 20GB",
    "archive:",
    "archive: {budget: much}",
    "archive: {budget: -1GB}",
    "archive: {budget: 1e9}",
    "archive: {budget: 1PB}",
    "archive: {budget: " + "9" * 400 + "GB}",
    "archive: {budget: [1]}",
    "archive: {budget: true}",
    "archive: {budget: \u0661GB}",
    "http: {port: 65536}",
    "http: {port: -1}",
    "http: {port: '8443'}",
    "http: {port: true}",
    "http: {listen: localhost}",
    "http: {listen: 1}",
    "max_viewers: 0",
    "max_viewers: 33",
    "max_viewers: many",
    "ice_addresses: 192.168.1.20",
    "ice_addresses: [example.org]",
    "cameras: []",
    "cameras: {Front: {}}",
    "cameras: {../x: {}}",
    "cameras: {1: {}}x",
    "cameras: {front: x}",
    "cameras: {front: {uri: 7}}",
    "cameras: {front: {lores: 640}}",
    "cameras: {front: {lores: 6x4}}",
    "cameras: {front: {lores: 64000x480}}",
    "[1, 2]",
    "text",
    "a: b: c",
    "\t- x",
    "{",
    "max_viewers: 1\nmax_viewers: 2",
    "cameras: {front: {}, front: {}}",
    "? [a]\n: 1",
    "? {a: 1}\n: 1",
    "a: &x [*x]",
    "a: &x [1]\nmax_viewers: *x",
    "--- 1\n--- 2",
    "a: 2026-13-45",
    "a: !!python/object:os.system x",
    "max_viewers: !!int x",
    "a: !!timestamp x",
    "max_viewers: !!bool x",
    "[" * 50_000,
    "a: *nothing",
]


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:30].encode("unicode_escape").decode())
def test_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as found:
        load(tmp_path, text)
    assert str(found.value).isprintable()
    assert found.value.exit_code == 2


def test_aliases_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    with pytest.raises(ConfigError, match="alias"):
        load(tmp_path, bomb)


def test_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            config.load(path, home=tmp_path)
    for data in (b"\xff\xfe\xff", b"\x00", b"x" * 300_000):
        with pytest.raises(ConfigError):
            load(tmp_path, data)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text("{}[]:,&*!?|>-#\"' \nabmax_viewers0123", max_size=60).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    try:
        load(tmp_path, data)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017 - either is right


def test_systemds_directories_are_used_where_it_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/doorward")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/doorward")
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path))
    found = config.load(None, home=config.default_home())
    assert (found.state, found.run, found.net_state) == (
        Path("/var/lib/doorward"),
        Path("/run/doorward"),
        tmp_path / "net",
    )
