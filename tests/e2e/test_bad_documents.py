"""Documents that are not what they should be, at both doors of a device: one line back, nothing changed."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent import config
from agent.cli.key_file import KeyFile
from agent.cli.options import seen_path
from agent.cli.seen import SeenFile
from agent.consent import acts, envelope, strict_json
from agent.consent.acts import Act, Shutter, ShutterState
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes
from agent.errors import DoorwardError, MalformedInput, Refused
from agent.link.remote import RemoteDoor
from agent.local_client import LocalClient
from agent.operations import Operation
from hal import clock
from tests.support.household import ed, nonce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Home
    from tests.support.processes import Device

    Door = Callable[[Operation, bytes], bytes]

STRANGER: Final = ed("stranger")


class Desk:
    """What an owner's client signs, by hand."""

    def __init__(self, home: Home) -> None:
        owner, self.device = home.owner, home.device
        self.keys = KeyFile(owner.key_file).open(owner.passphrase.read_text().strip())
        with LocalClient(config.load(None, home=self.device.home).door) as door:
            _, blob = door.call(Operation.DEVICE)
            _, self.charter = door.call(Operation.CHARTER)
        self.descriptor = acts.verify_descriptor(blob)
        memory = SeenFile(seen_path(owner.key_file)).get(self.descriptor.device)
        assert memory is not None
        self.memory = memory

    def challenge(self) -> bytes:
        with LocalClient(config.load(None, home=self.device.home).door) as door:
            result, _ = door.call(Operation.CHALLENGE)
        return Fields(result, "challenge").data("challenge", max_bytes=acts.CHALLENGE_BYTES)

    def shutter(self, name: str) -> bytes:
        """The shutter's closing, signed: it would be seen if it were taken."""
        document = Shutter("", self.memory.household, ShutterState.CLOSED, nonce(name))
        return envelope.sign(PayloadType.SHUTTER, document.payload(), [self.keys.signing])

    def act(self, *documents: bytes, **changes: Any) -> Act:
        usual = Act(
            id="",
            signer=self.keys.signing_id,
            device=self.descriptor.device,
            household=self.memory.household,
            challenge=self.challenge(),
            signed_at_ns=clock.wall_ns() // 10**9 * 10**9,
            seen=self.memory.seen,
            documents=documents,
        )
        return replace(usual, **changes)

    def signed(self, payload: bytes | dict[str, Any], kind: PayloadType = PayloadType.ACT) -> bytes:
        data = payload if isinstance(payload, bytes) else strict_json.dumps(payload)
        return envelope.sign(kind, data, [self.keys.signing])

    def good(self, *documents: bytes, **changes: Any) -> bytes:
        return self.signed(self.act(*documents, **changes).payload())


@pytest.fixture(scope="module")
def desk(home: Home) -> Desk:
    return Desk(home)


@pytest.fixture(params=["local door", "HTTPS door"])
def door(request: pytest.FixtureRequest, device: Device, desk: Desk) -> Iterator[Door]:
    if request.param == "local door":
        with LocalClient(config.load(None, home=device.home).door) as local:
            yield lambda operation, blob: local.call(operation, {}, blob)[1]
        return
    remote = RemoteDoor(device.url, fingerprint=desk.descriptor.tls_fingerprint)
    yield lambda operation, blob: remote.call_blocking(str(operation), {}, blob)[1]


def resigned(desk: Desk) -> bytes:
    return envelope.sign(PayloadType.ACT, desk.act(desk.shutter("resigned")).payload(), [STRANGER])


def resigned_in_the_owners_name(desk: Desk) -> bytes:
    value = json.loads(resigned(desk))
    value["signatures"][0]["keyid"] = desk.keys.signing_id
    return json.dumps(value).encode()


def stranger_beside_the_owner(desk: Desk) -> bytes:
    payload = desk.act(desk.shutter("beside"), signer=envelope.key_id(_public())).payload()
    return envelope.sign(PayloadType.ACT, payload, [desk.keys.signing, STRANGER])


def _public() -> bytes:
    return STRANGER.public_key().public_bytes_raw()


def cut(desk: Desk) -> bytes:
    data = desk.good(desk.shutter("cut"))
    return data[: len(data) // 2]


def twice_the_same_key(desk: Desk) -> bytes:
    payload = desk.act(desk.shutter("twice")).payload()
    return desk.signed(payload.replace(b'{"challenge":', b'{"challenge":"AAAA","challenge":', 1))


def twice_the_same_key_outside(desk: Desk) -> bytes:
    return desk.good(desk.shutter("outside")).replace(b'"payload":', b'"payload":"e30=","payload":', 1)


def reordered(desk: Desk) -> bytes:
    """The fields in another order under the old signature."""
    value = json.loads(desk.good(desk.shutter("reordered")))
    payload = json.loads(base64.b64decode(value["payload"]))
    other = json.dumps(dict(reversed(payload.items()))).encode()
    return json.dumps({**value, "payload": base64.b64encode(other).decode()}).encode()


def unknown_field(desk: Desk) -> bytes:
    return desk.signed({**json.loads(desk.act(desk.shutter("unknown")).payload()), "and": "more"})


def missing_field(desk: Desk) -> bytes:
    value = json.loads(desk.act(desk.shutter("missing")).payload())
    del value["household"]
    return desk.signed(value)


def fraction(desk: Desk) -> bytes:
    payload = desk.act(desk.shutter("fraction")).payload()
    return desk.signed(payload.replace(b'"size":', b'"size":0.5e', 1))


def of_another_kind(desk: Desk) -> bytes:
    return desk.signed(desk.act(desk.shutter("kind")).payload(), PayloadType.READ)


def for_another_device(desk: Desk) -> bytes:
    return desk.good(desk.shutter("device"), device=envelope.key_id(_public()))


def for_another_household(desk: Desk) -> bytes:
    return desk.good(desk.shutter("household"), household=envelope.document_id(b"another"))


def made_up_challenge(desk: Desk) -> bytes:
    return desk.good(desk.shutter("challenge"), challenge=bytes(acts.CHALLENGE_BYTES))


def document_of_a_stranger(desk: Desk) -> bytes:
    inner = Shutter("", desk.memory.household, ShutterState.CLOSED, nonce("stranger"))
    return desk.good(envelope.sign(PayloadType.SHUTTER, inner.payload(), [STRANGER]))


def document_cut(desk: Desk) -> bytes:
    return desk.good(desk.shutter("inner cut")[:-20])


def second_document_bad(desk: Desk) -> bytes:
    """The first is good: it must not count either."""
    return desk.good(desk.shutter("first"), b"{}")


def too_many_documents(desk: Desk) -> bytes:
    return desk.good(*(desk.shutter(f"one of {number}") for number in range(40)))


def charter_again(desk: Desk) -> bytes:
    """The charter in force is version n, and n+1 is wanted."""
    return desk.good(desk.charter)


def charter_of_the_daily_key(desk: Desk) -> bytes:
    """A daily key changes no charter, be it ever so right otherwise."""
    kind, payload = envelope.unverified_payload(desk.charter)
    value = json.loads(payload)
    value |= {"version": value["version"] + 1, "previous": envelope.document_id(payload), "agencies": []}
    return desk.good(desk.signed(value, PayloadType(kind)))


def very_large(desk: Desk) -> bytes:
    return desk.good(desk.shutter("large")) + b" " * 200_000


def enormous(desk: Desk) -> bytes:
    return desk.good(desk.shutter("enormous")) + b" " * 900_000


def nested(desk: Desk) -> bytes:
    return b"[" * 60_000


def nothing(desk: Desk) -> bytes:
    return b""


def not_text(desk: Desk) -> bytes:
    return bytes(range(256))


BAD: Final = (
    *(resigned, resigned_in_the_owners_name, stranger_beside_the_owner, cut, twice_the_same_key),
    *(twice_the_same_key_outside, reordered, unknown_field, missing_field, fraction, of_another_kind),
    *(for_another_device, for_another_household, made_up_challenge, document_of_a_stranger, document_cut),
    *(second_document_bad, too_many_documents, charter_again, charter_of_the_daily_key, very_large),
    *(enormous, nested, nothing, not_text),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda each: each.__name__)
def test_bad_act_is_refused_in_one_line_and_changes_nothing(
    bad: Callable[[Desk], bytes], desk: Desk, door: Door
) -> None:
    data, before = bad(desk), desk.device.fingerprint()
    with pytest.raises(DoorwardError) as caught:
        door(Operation.ACT, data)
    assert isinstance(caught.value, MalformedInput | Refused), repr(caught.value)
    line = str(caught.value)
    assert line
    assert "\n" not in line
    assert len(line) < 300
    assert desk.device.fingerprint() == before
    assert desk.device.status()["shutter"] == "open"


def test_act_handed_over_twice_counts_once(desk: Desk, door: Door) -> None:
    data = desk.good()
    assert door(Operation.ACT, data)
    before = desk.device.fingerprint()
    with pytest.raises(Refused, match="challenge"):
        door(Operation.ACT, data)
    assert desk.device.fingerprint() == before


@pytest.mark.parametrize("operation", [Operation.PAIR, Operation.READ])
@pytest.mark.parametrize("bad", [resigned, cut, enormous, nothing, not_text], ids=lambda each: each.__name__)
def test_bad_pairing_and_bad_read_are_refused_in_one_line(
    operation: Operation, bad: Callable[[Desk], bytes], desk: Desk, door: Door
) -> None:
    data, before = bad(desk), desk.device.fingerprint()
    with pytest.raises(MalformedInput) as caught:
        door(operation, data)
    assert "\n" not in str(caught.value)
    assert desk.device.fingerprint() == before


@pytest.mark.parametrize("bad", [resigned, cut, nothing, not_text], ids=lambda each: each.__name__)
def test_rubbish_on_the_link_is_met_with_silence(
    bad: Callable[[Desk], bytes], desk: Desk, home: Home
) -> None:
    before = desk.device.fingerprint()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", desk.device.port, timeout=30, context=context)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/octet-stream"}
        connection.request("POST", f"/v0/link/{home.agency.link_name}", bad(desk), headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (202, b"")
    assert desk.device.fingerprint() == before


def test_exported_ledger_with_entries_out_of_order_missing_or_twice_is_found(
    desk: Desk, home: Home, tmp_path: Any
) -> None:
    whole = tmp_path / "whole.json"
    assert desk.device.run("ledger", "export", "--out", whole).code == 0
    value = json.loads(whole.read_bytes())
    key = ("--key-file", home.owner.key_file)
    assert desk.device.run("ledger", "verify", whole, *key).code == 0
    entries = value["entries"]
    changes = {
        "swapped": [*entries[:3], entries[4], entries[3], *entries[5:]],
        "missing": [*entries[:3], *entries[4:]],
        "cut": entries[:-1],
        "twice": [*entries[:4], entries[3], *entries[4:]],
        "none": [],
    }
    for name, changed in changes.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**value, "entries": changed}))
        said = desk.device.run("ledger", "verify", path, *key)
        assert said.code == 4, (name, said)
        assert said.error.startswith("ledger: "), name
    stranger = {**value, "device": encode_bytes(_public())}
    (tmp_path / "stranger.json").write_text(json.dumps(stranger))
    assert desk.device.run("ledger", "verify", tmp_path / "stranger.json", *key).code == 4
