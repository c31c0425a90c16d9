"""The worked example of FORMATS.md: written by the code, read by nothing but the words of the document.

``python -m tests.consent.test_formats_example`` writes it anew between its two marks.
"""

from __future__ import annotations

import base64
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.cli import recovery_code
from agent.consent import charter as charters
from agent.consent import envelope, times, token
from agent.consent.charter import (
    Agency,
    Answers,
    CameraEntry,
    Charter,
    DailyKey,
    DailyLimits,
    Device,
    Ice,
    NamedArea,
    Owner,
    Rollback,
)
from agent.consent.envelope import PayloadType
from agent.consent.rules import Mode, PurposeKind
from agent.consent.token import Purpose, Scope, Terms, Token

FORMATS: Final = Path(__file__).parents[2] / "agent" / "consent" / "FORMATS.md"
BEGIN: Final = "<!-- example: begin, written by tests/consent/test_formats_example.py -->\n"
END: Final = "<!-- example: end -->\n"
WIDTH: Final = 96

ROOT, DAILY, DEVICE, AGENCY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 3, 5, 7))
RECOVERY, ARCHIVE, SEAL = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (2, 4, 8))


def raw(private: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def example_charter() -> bytes:
    """The charter's envelope: version 1, one owner, one device, one agency."""
    owner = Owner("Ann", raw(ROOT), raw(RECOVERY), (DailyKey("phone", raw(DAILY), raw(ARCHIVE)),))
    area = NamedArea("door", ((0, 0), (5000, 0), (5000, 10_000), (0, 10_000)))
    first = Charter(
        id="",
        household=charters.SELF,
        version=1,
        previous=None,
        owners=(owner,),
        granting=1,
        governing=1,
        daily_limits=DailyLimits(3600, standing=False),
        devices=(Device("home", raw(DEVICE)),),
        agencies=(Agency("Example center", raw(AGENCY), raw(SEAL), Answers.PENDING, 900),),
        cameras=(CameraEntry("front", envelope.key_id(raw(DEVICE)), (), (area,)),),
        rules=(),
        post=None,
        ice=Ice.ALL,
        rollback=Rollback.CONFIRM,
        accept_plausible_time=False,
        indicator_required=False,
    )
    return envelope.sign(PayloadType.CHARTER, charters.payload_of(first), [ROOT])


def example_token() -> bytes:
    """The token's envelope: fifteen minutes of one area, signed by the daily key."""
    granted = Token(
        id="",
        household=charters.verify_genesis(example_charter()).household,
        device=envelope.key_id(raw(DEVICE)),
        agency=envelope.key_id(raw(AGENCY)),
        operators=(),
        re=None,
        purpose=Purpose(PurposeKind.INCIDENT, "2026-1184"),
        scope=Scope(
            mode=Mode.LIVE,
            cameras=("front",),
            not_before_ns=times.parse("2026-01-31T12:00:00Z", "example"),
            not_after_ns=times.parse("2026-01-31T12:15:00Z", "example"),
            areas=("door",),
            max_height=480,
            max_fps=15,
            session_seconds=900,
            total_seconds=900,
        ),
        terms=Terms(forwarding=False, analysis=False, retention_days=30),
        epoch=0,
        nonce=bytes(range(16)),
    )
    return envelope.sign(PayloadType.TOKEN, granted.payload(), [DAILY])


def _wrapped(text: str) -> list[str]:
    return [text[at : at + WIDTH] for at in range(0, len(text), WIDTH)]


def _document(signed: bytes) -> list[str]:
    _, payload = envelope.unverified_payload(signed)
    return [
        "payload:",
        *_wrapped(payload.decode()),
        "",
        f"payload, {len(payload)} bytes, in hex:",
        *_wrapped(payload.hex()),
        "",
        f"id: {envelope.document_id(payload)}",
        "",
        "envelope:",
        *_wrapped(signed.decode()),
    ]


def written() -> str:
    """The example as it stands in the document."""
    code = recovery_code.written(bytes(range(16)))
    derived = recovery_code.keys_of(bytes(range(16)))
    keys = [
        (1, "root, Ed25519", raw(ROOT)),
        (2, "recovery, X25519", raw(RECOVERY)),
        (3, "daily signing, Ed25519", raw(DAILY)),
        (4, "daily archive, X25519", raw(ARCHIVE)),
        (5, "device signing, Ed25519", raw(DEVICE)),
        (7, "agency signing, Ed25519", raw(AGENCY)),
        (8, "agency seal, X25519", raw(SEAL)),
    ]
    token_type = str(PayloadType.TOKEN)
    _, payload = envelope.unverified_payload(example_token())
    lines = [
        "Keys. The private key is 32 times the byte given; nobody must ever use them:",
        "",
        "```text",
        *(f"0x{n:02x} {what:24} {base64.b64encode(key).decode()}" for n, what, key in keys),
        "",
        *(f"id of {what:24} {envelope.key_id(key)}" for _, what, key in keys if "Ed25519" in what),
        "```",
        "",
        "Recovery code of the seed 000102030405060708090a0b0c0d0e0f, and the public keys it gives:",
        "",
        "```text",
        code,
        f"root     {base64.b64encode(raw(derived.signing)).decode()}",
        f"recovery {base64.b64encode(raw(derived.archive)).decode()}",
        "```",
        "",
        "A charter, version 1, signed with the root key. Lines are broken for reading; the bytes have none:",
        "",
        "```text",
        *_document(example_charter()),
        "```",
        "",
        "A token under it, signed with the daily key:",
        "",
        "```text",
        *_document(example_token()),
        "",
        "what was signed begins with:",
        envelope.pre_authentication_encoding(token_type, payload).decode()[:70],
        "```",
    ]
    return "\n".join(lines) + "\n"


def _split(text: str) -> tuple[str, str, str]:
    head, begin, rest = text.partition(BEGIN)
    example, end, tail = rest.partition(END)
    assert (begin, end) == (BEGIN, END), "FORMATS.md has lost the marks around its example"
    return head, example, tail


def _value(example: str, label: str, number: int) -> str:
    """What stands below the ``number``-th line that begins with ``label``, its lines joined."""
    blocks = re.findall(rf"^{label}[^\n]*:\n((?:[^\n]+\n)+)", example, re.MULTILINE)
    return "".join(blocks[number].replace("```", "").splitlines())


def test_the_documents_example_is_what_the_code_writes() -> None:
    _, example, _ = _split(FORMATS.read_text(encoding="utf-8"))
    assert example == written(), "run: python -m tests.consent.test_formats_example"


def test_the_example_verifies_by_the_documents_words_alone() -> None:
    """Nothing of ours is called here: what FORMATS.md says is enough to check a token."""
    _, example, _ = _split(FORMATS.read_text(encoding="utf-8"))
    public = {
        line.split()[0]: base64.b64decode(line.split()[-1])
        for line in example.splitlines()
        if line.startswith("0x")
    }
    ids = []
    for number, signer in ((0, "0x01"), (1, "0x03")):
        payload = bytes.fromhex(_value(example, "payload, ", number))
        sealed: dict[str, Any] = json.loads(_value(example, "envelope", number))
        assert base64.b64decode(sealed["payload"]) == payload
        kind = sealed["payloadType"].encode()
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        (signature,) = sealed["signatures"]
        assert signature["keyid"] == "sha256:" + sha256(public[signer]).hexdigest()
        Ed25519PublicKey.from_public_bytes(public[signer]).verify(
            base64.b64decode(signature["sig"]), signed
        )  # raises if it does not fit
        ids.append("sha256:" + sha256(payload).hexdigest())
    assert re.findall(r"^id: (\S+)", example, re.MULTILINE) == ids
    granted = json.loads(bytes.fromhex(_value(example, "payload, ", 1)))
    assert granted["household"] == granted["from"] == ids[0]


def test_the_examples_token_is_one_that_the_charter_grants() -> None:
    charter = charters.verify_genesis(example_charter())
    assert token.verify(example_token(), charter).agency == charter.agencies[0].key_id


if __name__ == "__main__":
    before, _, after = _split(FORMATS.read_text(encoding="utf-8"))
    FORMATS.write_text(before + BEGIN + written() + END + after, encoding="utf-8")
