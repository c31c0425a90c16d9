"""Class 1: valid documents with bytes changed. What is accepted must hold the payload that was signed."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from agent.consent import envelope
from agent.errors import DocumentError
from tests.consent.documents import KINDS
from tests.soak.outcome import CONTROL, REFUSED, Outcome

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.consent.documents import Kind


async def attempts(rng: random.Random, count: int, _directory: Path) -> AsyncIterator[Outcome]:
    """Change one document after another."""
    for _ in range(count):
        kind = rng.choice(KINDS)
        signed = kind.signed
        change = rng.choice(CHANGES)
        yield judge(kind, signed, change(rng, signed), change.__name__)


def judge(kind: Kind, signed: bytes, data: bytes, how: str) -> Outcome:
    """Refused, or the same payload after all (a key id, white space): anything else is wrong."""
    try:
        kind.read(data)
    except DocumentError:
        return REFUSED if data != signed else Outcome(f"{kind.name}: refused unchanged")
    if envelope.unverified_payload(data)[1] == kind.payload:
        return CONTROL
    return Outcome(f"{kind.name}: accepted after {how}")


def flip_bit(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.randrange(1, 40) :]


def double(rng: random.Random, data: bytes) -> bytes:
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.randrange(1, 40))
    return data[:end] + data[begin:end] + data[end:]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def append(rng: random.Random, data: bytes) -> bytes:
    return data + rng.randbytes(rng.randrange(1, 8))


def payload_bit(rng: random.Random, data: bytes) -> bytes:
    value = json.loads(data)
    value["payload"] = base64.b64encode(flip_bit(rng, base64.b64decode(value["payload"]))).decode()
    return json.dumps(value).encode()


def payload_value(rng: random.Random, data: bytes) -> bytes:
    """Another value in one field of the payload, the old signatures kept."""
    value = json.loads(data)
    payload = json.loads(base64.b64decode(value["payload"]))
    _change_somewhere(rng, payload)
    value["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps(value).encode()


def signature_bit(rng: random.Random, data: bytes) -> bytes:
    value = json.loads(data)
    for signature in value["signatures"]:
        signature["sig"] = base64.b64encode(flip_bit(rng, base64.b64decode(signature["sig"]))).decode()
    return json.dumps(value).encode()


def swapped_signatures(rng: random.Random, data: bytes) -> bytes:
    """Signatures of another document under this payload."""
    value = json.loads(data)
    other = json.loads(rng.choice(KINDS).signed)
    value["signatures"] = other["signatures"]
    return json.dumps(value).encode()


def other_type(rng: random.Random, data: bytes) -> bytes:
    value = json.loads(data)
    value["payloadType"] = str(rng.choice(KINDS).type)
    return json.dumps(value).encode()


def _change_somewhere(rng: random.Random, value: Any) -> None:
    """Walk into the document and change one leaf."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            value["more"] = 1 if isinstance(value, dict) else None
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key]:
            value = value[key]
            continue
        old = value[key]
        value[key] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}0"
        return


CHANGES = [
    flip_bit,
    cut,
    double,
    truncate,
    append,
    payload_bit,
    payload_value,
    signature_bit,
    swapped_signatures,
    other_type,
]
