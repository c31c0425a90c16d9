"""Class 2: whole documents, signed by any mixture of people. A model of its own says which mixtures count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.consent import acts, charter, envelope, handshake, introduction, token
from agent.consent.acts import AlarmState, BlockState, ShutterState
from agent.consent.envelope import PayloadType
from agent.consent.times import SECOND_NS
from agent.errors import DocumentError
from tests.soak.outcome import CONTROL, REFUSED, Outcome
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    POLICE,
    Home,
    Person,
    device_keys,
    ed,
    nonce,
    sign,
)

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

THIRD = Person("Third", daily_keys=2)
PEOPLE = (ANN, BEN, THIRD)
HOME = Home(people=PEOPLE, changes={"granting": 2, "governing": 2})
CHARTER = HOME.charter()
AGENCY = CHARTER.agencies[0]
BOX = device_keys()
LONG = {"not_after_ns": NOON - 60 * SECOND_NS + 2 * HOUR_NS}


@dataclass(frozen=True)
class Signer:
    """A key, whose it is, and whether it is a root key; ``owner`` None is nobody of the household."""

    key: Ed25519PrivateKey
    owner: str | None
    root: bool
    role: str = "owner"


SIGNERS = [
    *(Signer(person.root, person.name, root=True) for person in PEOPLE),
    *(
        Signer(person.daily(number), person.name, root=False)
        for person in PEOPLE
        for number in range(person.daily_keys)
    ),
    Signer(BOX.signing, None, root=False, role="device"),
    Signer(POLICE.signing, None, root=False, role="agency"),
    Signer(ed("Kim"), None, root=False, role="operator"),
    Signer(ed("stranger"), None, root=False, role="stranger"),
    Signer(ed("other stranger"), None, root=False, role="stranger"),
]


def owners(chosen: list[Signer], *, root: bool = False) -> int:
    """Distinct people among the signers; with ``root`` by root keys alone."""
    return len({each.owner for each in chosen if each.owner and (each.root or not root)})


def by(role: str) -> Callable[[list[Signer]], bool]:
    return lambda chosen: any(each.role == role for each in chosen)


def granting(chosen: list[Signer]) -> bool:
    return owners(chosen) >= 2


def granting_by_roots(chosen: list[Signer]) -> bool:
    return owners(chosen, root=True) >= 2


def governing(chosen: list[Signer]) -> bool:
    return owners(chosen, root=True) >= 2


def everybody(chosen: list[Signer]) -> bool:
    return owners(chosen, root=True) == len(PEOPLE)


def anyone(chosen: list[Signer]) -> bool:
    return owners(chosen) >= 1


REQUEST = HOME.request()
TOKEN = HOME.token()
INTRODUCTION = introduction.of_charter(CHARTER, POLICE.key_id, {BOX.device: BOX.seal_public}, NOON + HOUR_NS)
CASES: list[tuple[str, PayloadType, bytes, Callable[[bytes], object], Callable[[list[Signer]], bool]]] = [
    (
        "first charter",
        PayloadType.CHARTER,
        json.dumps(HOME.to_json()).encode(),
        charter.verify_genesis,
        everybody,
    ),
    (
        "next charter",
        PayloadType.CHARTER,
        json.dumps(HOME.next_json(CHARTER)).encode(),
        lambda data: charter.verify_next(data, CHARTER),
        governing,
    ),
    ("token", PayloadType.TOKEN, TOKEN.payload(), lambda data: token.verify(data, CHARTER), granting),
    (
        "token of two hours",
        PayloadType.TOKEN,
        HOME.token(scope=LONG).payload(),
        lambda data: token.verify(data, CHARTER),
        granting_by_roots,
    ),
    (
        "revocation",
        PayloadType.REVOCATION,
        HOME.revocation().payload(),
        lambda data: token.verify_revocation(data, CHARTER),
        anyone,
    ),
    (
        "opening the shutter",
        PayloadType.SHUTTER,
        acts.Shutter("", HOME.household, ShutterState.OPEN, nonce("s")).payload(),
        lambda data: acts.verify_shutter(data, CHARTER),
        granting,
    ),
    (
        "closing the shutter",
        PayloadType.SHUTTER,
        acts.Shutter("", HOME.household, ShutterState.CLOSED, nonce("s")).payload(),
        lambda data: acts.verify_shutter(data, CHARTER),
        anyone,
    ),
    (
        "raising the alarm",
        PayloadType.ALARM,
        acts.Alarm("", HOME.household, AlarmState.RAISED, nonce("a")).payload(),
        lambda data: acts.verify_alarm(data, CHARTER),
        granting,
    ),
    (
        "unblocking",
        PayloadType.BLOCK,
        acts.Block("", HOME.household, POLICE.key_id, BlockState.UNBLOCKED, nonce("b")).payload(),
        lambda data: acts.verify_block(data, CHARTER),
        granting,
    ),
    (
        "badge",
        PayloadType.BADGE,
        POLICE.badge().payload(),
        lambda data: handshake.verify_badge(data, AGENCY),
        by("agency"),
    ),
    (
        "request",
        PayloadType.REQUEST,
        REQUEST.payload(),
        lambda data: handshake.verify_request(data, AGENCY),
        by("operator"),
    ),
    (
        "offer",
        PayloadType.OFFER,
        HOME.offer(REQUEST, TOKEN).payload(),
        lambda data: handshake.verify_offer(data, AGENCY),
        by("operator"),
    ),
    (
        "introduction",
        PayloadType.INTRODUCTION,
        INTRODUCTION.payload(),
        introduction.verify_introduction,
        governing,
    ),
]
TWICE = "one key stands twice in a charter"


async def attempts(rng: random.Random, count: int, _directory: Path) -> AsyncIterator[Outcome]:
    """Sign one document after another with whoever comes."""
    for _ in range(count):
        if rng.random() < 0.05:
            yield key_twice(rng)
            continue
        name, kind, payload, read, counts = rng.choice(CASES)
        chosen = rng.sample(SIGNERS, rng.randrange(1, 5))
        data = disguised(rng, sign(kind, payload, *(each.key for each in chosen)))
        yield judge(name, data, read, expected=counts(chosen))


def judge(name: str, data: bytes, read: Callable[[bytes], object], *, expected: bool) -> Outcome:
    try:
        read(data)
    except DocumentError:
        return Outcome(f"{name}: refused although enough had signed") if expected else REFUSED
    return CONTROL if expected else Outcome(f"{name}: accepted from the wrong people")


def disguised(rng: random.Random, data: bytes) -> bytes:
    """Signatures repeated, in another order, under other people's key ids."""
    value = json.loads(data)
    signatures = value["signatures"]
    if rng.random() < 0.5:
        signatures += [dict(rng.choice(signatures)) for _ in range(rng.randrange(1, 4))]
    rng.shuffle(signatures)
    if rng.random() < 0.5:
        for signature in signatures:
            signature["keyid"] = envelope.key_id(rng.choice(SIGNERS).key.public_key().public_bytes_raw())
    return json.dumps(value).encode()


def key_twice(rng: random.Random) -> Outcome:
    """A charter in which one public key stands in two places, signed by everybody."""
    value = HOME.to_json()
    keys = [(owner, name) for owner in value["owners"] for name in ("root", "recovery")] + [
        (key, name) for owner in value["owners"] for key in owner["daily"] for name in ("signing", "archive")
    ]
    (one, first), (other, second) = rng.sample(keys, 2)
    one[first] = other[second]
    roots = [person.root for person in PEOPLE]
    try:
        charter.verify_genesis(sign(PayloadType.CHARTER, value, *roots))
    except DocumentError:
        return REFUSED
    return Outcome(TWICE)
