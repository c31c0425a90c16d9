"""What an owner keeps: the code on paper, the key file, the memory of devices. Mistyped, changed, damaged."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import key_file, recovery_code
from agent.cli.key_file import KeyFile
from agent.cli.seen import Memory, SeenFile
from agent.errors import IntegrityError, MalformedInput, Refused
from tests.support.household import ed, id_of, public, x

if TYPE_CHECKING:
    from pathlib import Path

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
SEEDS = st.binary(min_size=recovery_code.SEED_BYTES, max_size=recovery_code.SEED_BYTES)
PASSPHRASE = "only for tests"


# The recovery code


@given(SEEDS)
def test_code_read_back_is_the_same_seed(seed: bytes) -> None:
    code = recovery_code.written(seed)
    assert recovery_code.read(code) == seed
    assert recovery_code.read(f"  {code.lower().replace('-', ' ')}\n") == seed


@given(SEEDS, st.data())
def test_digits_typed_for_letters_that_look_like_them_are_read(seed: bytes, data: st.DataObject) -> None:
    code = recovery_code.written(seed)
    typed = code.replace("O", data.draw(st.sampled_from("O0"))).replace("I", data.draw(st.sampled_from("I1")))
    assert recovery_code.read(typed) == seed


def test_mistyped_letters_are_found_but_for_one_in_a_thousand() -> None:
    missed = tried = 0
    for number in range(12):
        plain = recovery_code.written(bytes([number] * 16)).replace("-", "")
        for at in range(len(plain)):
            for letter in ALPHABET:
                if letter == plain[at]:
                    continue
                tried += 1
                with contextlib.suppress(MalformedInput):
                    recovery_code.read(plain[:at] + letter + plain[at + 1 :])
                    missed += 1
    assert missed / tried < 0.003, f"{missed} of {tried}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "got 0 characters, expected 28"),
        ("ABCD", "got 4 characters, expected 28"),
        ("A" * 29, "got 29 characters, expected 28"),
        ("8" * 28, "does not occur in codes"),
        ("Ä" * 28, "does not occur in codes"),
        ("A" * 100_000, "got 100000 characters"),
    ],
)
def test_what_is_no_code_is_said_in_one_line_without_the_code(text: str, says: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        recovery_code.read(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


def test_keys_of_a_code_never_change() -> None:
    """Whoever wrote a code down in the first year must get the same keys from it in the tenth.

    These keys were made without our code, by HMAC alone.
    """
    keys = recovery_code.keys_of(bytes(range(16)))
    assert recovery_code.written(bytes(range(16))) == "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B47L"
    assert base64.b64encode(public(keys.signing)) == b"COW+ZLOiDHsS0OpQrWC4zJuLNUCb3+azMjQD3e0RBd8="
    assert base64.b64encode(public(keys.archive)) == b"OCtAwj/1g/QHM9wKdmxByi+pd2nvOET3DKVdM3s5DxQ="


# The key file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "owner.json"
    key_file.make(
        path,
        name="Ann",
        label="phone",
        root=public(ed("root")),
        recovery=public(x("recovery")),
        passphrase=PASSPHRASE,
    )
    return path


def changed(made: Path, tmp_path: Path, **changes: Any) -> Path:
    value = json.loads(made.read_bytes())
    for name, change in changes.items():
        part = value["public"] if name in value["public"] else value
        part[name] = change
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(value))
    return path


def test_key_file_is_for_its_owner_alone_and_opens_with_the_passphrase(made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o600
    file = KeyFile(made)
    keys = file.open(PASSPHRASE)
    assert public(keys.signing) == file.public.signing
    assert public(keys.archive) == file.public.archive
    assert PASSPHRASE.encode() not in made.read_bytes()
    for private in (keys.signing.private_bytes_raw(), keys.archive.private_bytes_raw()):
        assert base64.b64encode(private) not in made.read_bytes()


@pytest.mark.parametrize("typed", ["", "only for test", "Only for tests", "x" * 10_000])
def test_wrong_passphrase_opens_nothing(made: Path, typed: str) -> None:
    with pytest.raises(MalformedInput, match="wrong passphrase, or the file was changed"):
        KeyFile(made).open(typed)


@pytest.mark.parametrize("name", ["name", "label", "root", "recovery", "signing", "archive"])
def test_changed_public_part_does_not_open(made: Path, tmp_path: Path, name: str) -> None:
    """Who swaps the root or recovery key in a file that is copied about would found a household of theirs."""
    other = "Eve" if name in {"name", "label"} else base64.b64encode(public(ed("eve"))).decode()
    file = KeyFile(changed(made, tmp_path, **{name: other}))
    with pytest.raises(MalformedInput, match="the file was changed"):
        file.open(PASSPHRASE)


@pytest.mark.parametrize("name", ["salt", "nonce", "sealed"])
@pytest.mark.parametrize("data", ["", "AAAA", base64.b64encode(bytes(16)).decode(), 5, None])
def test_changed_private_part_does_not_open(made: Path, tmp_path: Path, name: str, data: object) -> None:
    with pytest.raises(MalformedInput):
        KeyFile(changed(made, tmp_path, **{name: data})).open(PASSPHRASE)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b'{"public":{}}', b"\xff", b"{" * 100_000, bytes(200_000)]
)
def test_what_is_no_key_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "none.json"
    path.write_bytes(data)
    with pytest.raises(MalformedInput) as caught:
        KeyFile(path)
    assert str(caught.value).startswith(f"key file {path}: ")
    assert len(str(caught.value)) < 300


def test_key_file_with_a_key_twice_is_refused(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_bytes(made.read_bytes().replace(b'"label":', b'"label":"other","label":', 1))
    with pytest.raises(MalformedInput, match="label"):
        KeyFile(path)


def test_key_file_is_never_written_over(made: Path) -> None:
    before = made.read_bytes()
    with pytest.raises(Refused):
        key_file.make(
            made,
            name="Eve",
            label="phone",
            root=public(ed("eve")),
            recovery=public(x("eve")),
            passphrase="hers",
        )
    assert made.read_bytes() == before


# The memory of devices

DEVICE = id_of(ed("device"))
MEMORY = Memory(public(ed("device")), id_of(ed("household")), 7, bytes(32))


def remembered(path: Path) -> SeenFile:
    file = SeenFile(path)
    file.remember(DEVICE, MEMORY)
    return file


def test_memory_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    remembered(path)
    assert SeenFile(path).get(DEVICE) == MEMORY
    assert [each.name for each in tmp_path.iterdir()] == ["seen"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="cut"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"[]", id="a list"),
        pytest.param(lambda _: b"\x00" * 50, id="zeros"),
        pytest.param(lambda data: data.replace(b'"size":7', b'"size":-7'), id="negative"),
        pytest.param(lambda data: data.replace(b'"size":7', b'"size":7,"size":9'), id="twice"),
        pytest.param(lambda data: data.replace(b'"size"', b'"sizes"'), id="unknown field"),
        pytest.param(lambda data: data.replace(b'"root":"AAAA', b'"root":"'), id="short root"),
        pytest.param(lambda data: data + b" " * (1 << 21), id="too large"),
    ],
)
def test_damaged_memory_is_not_taken_for_an_empty_one(tmp_path: Path, change: Any) -> None:
    """An empty memory would believe any ledger: a card that was copied back would pass unnoticed."""
    path = tmp_path / "seen"
    remembered(path)
    path.write_bytes(change(path.read_bytes()))
    damaged = path.read_bytes()
    with pytest.raises(IntegrityError) as caught:
        SeenFile(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == damaged
