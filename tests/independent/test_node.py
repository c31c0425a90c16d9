"""A second implementation, in Node.js and written from the documents alone, says the same as ours."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from agent.consent import introduction, strict_json, times, token
from agent.consent.acts import BlockState, ShutterState
from agent.consent.envelope import PayloadType, document_id
from agent.consent.fields import encode_bytes
from agent.consent.rules import PurposeKind
from agent.consent.times import SECOND_NS
from agent.errors import DoorwardError, SignatureError
from agent.ledger import checkpoint as checkpoints
from agent.ledger.entry import EntryKind
from agent.ledger.submission import Submission
from tests.consent import documents
from tests.support.device import ORIGIN, Box
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
    id_of,
    nonce,
    public,
    sign,
)
from tests.witness.rig import NAME, START_NS, made, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHECK = Path(__file__).parent / "check.mjs"
BOX = device_keys()
HOME = Home(changes={"granting": 2})
GENESIS = HOME.signed_charter()
CHARTER = HOME.charter()
CARL = Person("Carl")
ALL = (ANN.root, BEN.root)
LONG = {"not_after_ns": NOON + 5 * HOUR_NS}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the checker answers to each of ``commands``; bytes go in as base64."""
    node = shutil.which("node")
    assert node is not None, "missing: Node.js 18 or newer. Get it: sudo apt-get install -y nodejs"
    asked = json.dumps(commands, default=b64)
    done = subprocess.run(
        [node, str(CHECK)], input=asked.encode(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(answers) == len(commands)
    return answers


def verified(*commands: dict[str, Any]) -> list[dict[str, Any]]:
    answers = ask(list(commands))
    assert [each for each in zip(commands, answers, strict=True) if not each[1]["ok"]] == []
    return answers


def refused(**commands: dict[str, Any]) -> None:
    answers = ask(list(commands.values()))
    assert [name for name, said in zip(commands, answers, strict=True) if said["ok"]] == []


def flipped(data: bytes, at: int = -1) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at:][1:]


def rewritten(data: bytes, change: Any) -> bytes:
    """The envelope after ``change`` of its JSON."""
    envelope = json.loads(data)
    change(envelope)
    return json.dumps(envelope).encode()


def altered(data: bytes, **fields: Any) -> bytes:
    """The envelope with other fields in its payload under the signatures it had."""
    envelope = json.loads(data)
    payload = {**json.loads(base64.b64decode(envelope["payload"])), **fields}
    return json.dumps({**envelope, "payload": b64(strict_json.dumps(payload))}).encode()


def bad_signature(data: bytes) -> bytes:
    def change(envelope: Any) -> None:
        first = envelope["signatures"][0]
        first["sig"] = b64(flipped(base64.b64decode(first["sig"]), 5))

    return rewritten(data, change)


def twice_signed(data: bytes) -> bytes:
    return rewritten(data, lambda envelope: envelope.update(signatures=envelope["signatures"] * 2))


def by_token(data: bytes, *more: bytes) -> dict[str, Any]:
    return {"do": "token", "charters": [GENESIS, *more], "data": data}


def by_charter(data: bytes, *before: bytes) -> dict[str, Any]:
    return {"do": "charter", "charters": list(before), "data": data}


def by_switch(kind: str, data: bytes) -> dict[str, Any]:
    return {"do": "switch", "type": kind, "charters": [GENESIS], "data": data}


# Strict JSON


def test_strict_json_is_read_and_refused_alike() -> None:
    texts = [
        b'{"a":[1,-2,9007199254740991,true,null,"\\u00e9\\ud83d\\udeaa"],"__proto__":{}}',
        b" [ ] ",
        b"[" * 16 + b"]" * 16,
        b"[" * 17 + b"]" * 17,
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b"1.0",
        b"1e3",
        b"NaN",
        b"-Infinity",
        b"9007199254740992",
        b"-9007199254740992",
        b"01",
        b"-0",
        b'"\\ud83d"',
        b'{"\\udeaa":1}',
        b'"\\x"',
        b'"a\nb"',
        b'"\xff"',
        b'"\xed\xa0\xbd"',
        b"\xef\xbb\xbf1",
        b"1 1",
        b"[1,]",
        b"",
        b'"' + b"x" * 65_534 + b'"',
        b'"' + b"x" * 65_535 + b'"',
    ]
    differ = []
    for text, said in zip(texts, ask([{"do": "json", "data": text} for text in texts]), strict=True):
        try:
            ours: Any = ("read", strict_json.loads(text))
        except DoorwardError:
            ours = ("refused",)
        if ours != (("read", said["value"]) if said["ok"] else ("refused",)):
            differ.append((text[:40], ours, said))
    assert differ == []


def test_json_suite_of_others_is_read_and_refused_alike() -> None:
    files = sorted((Path(__file__).parents[1] / "vectors" / "json_test_suite").glob("*.json"))
    assert len(files) > 300
    answers = ask([{"do": "json", "data": file.read_bytes()} for file in files])
    assert [file.name for file, said in zip(files, answers, strict=True) if said["ok"] != is_read(file)] == []


def is_read(file: Path) -> bool:
    try:
        strict_json.loads(file.read_bytes())
    except DoorwardError:
        return False
    return True


# Documents of owners


def test_charter_chain_is_followed_and_every_break_of_it_refused() -> None:
    changed = HOME.signed_next(CHARTER, rollback="warn")
    three = Home(people=(ANN, BEN, CARL))
    grown = three.signed_next(CHARTER, *ALL, CARL.root)
    first, second, third = verified(
        by_charter(GENESIS), by_charter(changed, GENESIS), by_charter(grown, GENESIS)
    )
    assert (first["id"], first["household"]) == (CHARTER.id, CHARTER.household)
    assert (second["version"], second["household"]) == (2, CHARTER.household)
    assert third["version"] == 2

    nobody = ed("nobody")
    refused(
        flipped_byte=by_charter(altered(GENESIS, granting=1)),
        flipped_signature=by_charter(bad_signature(GENESIS)),
        genesis_without_one_owner=by_charter(HOME.signed_charter(ANN.root)),
        genesis_by_daily_keys=by_charter(HOME.signed_charter(ANN.root, BEN.daily())),
        genesis_by_one_owner_twice=by_charter(twice_signed(HOME.signed_charter(ANN.root))),
        genesis_again=by_charter(GENESIS, GENESIS),
        next_without_any_before=by_charter(changed),
        next_by_one=by_charter(HOME.signed_next(CHARTER, BEN.root), GENESIS),
        next_by_one_and_a_stranger=by_charter(HOME.signed_next(CHARTER, BEN.root, nobody), GENESIS),
        next_below_the_new_threshold=by_charter(three.signed_next(CHARTER, *ALL), GENESIS),
        next_below_the_old_threshold=by_charter(three.signed_next(CHARTER, ANN.root, CARL.root), GENESIS),
        version_skipped=by_charter(HOME.signed_next(CHARTER, version=3), GENESIS),
        other_previous=by_charter(HOME.signed_next(CHARTER, previous=POLICE.key_id), GENESIS),
        other_household=by_charter(HOME.signed_next(CHARTER, household=POLICE.key_id), GENESIS),
        unknown_field=by_charter(HOME.signed_charter(extra=None)),
        key_twice=by_charter(
            HOME.signed_charter(owners=[ANN.to_json(), {**BEN.to_json(), "daily": ANN.to_json()["daily"]}])
        ),
        more_than_owners=by_charter(HOME.signed_charter(granting=3)),
        wrong_type=by_charter(sign(PayloadType.TOKEN, HOME.to_json(), *ALL)),
    )


def test_token_needs_distinct_owners_and_stays_within_daily_limits() -> None:
    daily = HOME.signed_token(ANN.daily(), BEN.daily())
    other = replace(HOME.token().purpose, kind=PurposeKind.STANDING)
    answers = verified(
        by_token(daily),
        by_token(HOME.signed_token(ANN.root, BEN.daily())),
        by_token(HOME.signed_token(*ALL, scope=LONG)),
        by_token(HOME.signed_token(*ALL, purpose=other)),
    )
    assert answers[0]["id"] == HOME.token().id
    assert answers[0]["signers"] == sorted([id_of(ANN.daily()), id_of(BEN.daily())])

    refused(
        flipped_byte=by_token(altered(daily, epoch=1)),
        flipped_signature=by_token(bad_signature(daily)),
        under_threshold=by_token(HOME.signed_token(ANN.daily())),
        one_owner_with_three_keys=by_token(HOME.signed_token(ANN.daily(), ANN.daily(1), ANN.root)),
        one_signature_twice=by_token(twice_signed(HOME.signed_token(ANN.daily()))),
        stranger=by_token(HOME.signed_token(ANN.daily(), ed("nobody"))),
        agency_signs_for_itself=by_token(HOME.signed_token(ANN.daily(), POLICE.signing)),
        too_long_for_daily_keys=by_token(HOME.signed_token(ANN.daily(), BEN.root, scope=LONG)),
        standing_by_daily_keys=by_token(HOME.signed_token(ANN.daily(), BEN.daily(), purpose=other)),
        other_household=by_token(HOME.signed_token(*ALL, household=POLICE.key_id)),
        unknown_agency=by_token(HOME.signed_token(*ALL, agency=id_of(ed("nobody")))),
        other_charter=by_token(
            daily, Home(people=(ANN, CARL), changes={"granting": 2}).signed_next(CHARTER, *ALL, CARL.root)
        ),
        wrong_type=by_token(sign(PayloadType.REVOCATION, HOME.token().payload(), *ALL)),
    )


def test_what_one_owner_takes_away_needs_one_and_what_gives_needs_the_threshold() -> None:
    opened = HOME.signed_shutter(ShutterState.OPEN, ANN.daily())
    verified(
        by_switch("revocation", HOME.signed_revocation()),
        by_switch("revocation", HOME.signed_revocation(token=HOME.token().id)),
        by_switch("shutter", HOME.signed_shutter(ShutterState.CLOSED)),
        by_switch("shutter", HOME.signed_shutter(ShutterState.OPEN, ANN.daily(), BEN.daily())),
        by_switch("block", HOME.signed_block(BlockState.BLOCKED)),
        by_switch("dismissal", HOME.signed_dismissal(HOME.request())),
    )
    refused(
        opened_by_one=by_switch("shutter", opened),
        opened_by_one_twice=by_switch("shutter", twice_signed(opened)),
        unblocked_by_one=by_switch("block", HOME.signed_block(BlockState.UNBLOCKED)),
        revoked_by_nobody=by_switch("revocation", HOME.signed_revocation(ed("nobody"))),
        token_and_agency=by_switch(
            "revocation", HOME.signed_revocation(token=POLICE.key_id, agency=POLICE.key_id)
        ),
        closed_made_open=by_switch(
            "shutter", altered(HOME.signed_shutter(ShutterState.CLOSED), state="open")
        ),
    )


def test_introduction_vouches_for_itself_and_the_next_is_signed_by_the_one_before() -> None:
    first = introduction.of_charter(CHARTER, POLICE.key_id, {BOX.device: BOX.seal_public}, NOON + HOUR_NS)
    moved = replace(
        first,
        deciders=(introduction.Decider(public(ed("new")), ()), introduction.Decider(public(ed("newer")), ())),
    )

    def command(data: bytes, previous: bytes | None = None) -> dict[str, Any]:
        return {"do": "introduction", "data": data, "previous": previous}

    def signed(made: introduction.Introduction, *keys: Ed25519PrivateKey) -> bytes:
        return sign(PayloadType.INTRODUCTION, made.payload(), *keys)

    held = signed(first, *ALL)
    new = (ed("new"), ed("newer"))
    answers = verified(command(held), command(held, held), command(signed(moved, *ALL, *new), held))
    assert answers[0]["id"] == document_id(first.payload())
    refused(
        flipped_byte=command(altered(held, governing=1)),
        flipped_signature=command(bad_signature(held)),
        one_owner=command(signed(first, ANN.root)),
        one_owner_twice=command(twice_signed(signed(first, ANN.root))),
        daily_key=command(signed(first, ANN.root, BEN.daily())),
        key_twice=command(signed(replace(first, deciders=(first.deciders[0],) * 2), *ALL)),
        not_by_those_before=command(signed(moved, *new), held),
        other_household=command(signed(replace(first, household=POLICE.key_id), *ALL), held),
    )


VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        [],
        {},
        [[]],
        [None],
        "",
        "a",
        "self",
        "A",
        "a b",
        "a\nb",
        "\u200b",
        "\u00e9",
        "AAAA",
    ),
    *(
        "x" * 41,
        "x" * 60,
        "x" * 61,
        "x" * 101,
        "sha256:" + "0" * 64,
        POLICE.key_id,
        "mon",
        "faces",
        "live",
        "footage",
    ),
    *(
        "2026-01-31T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "23:59",
        "24:00",
        "Europe/Madrid",
    ),
    *(-1, 0, 1, 3, 16, 17, 64, 65, 10_000, 10_001, 2_592_000, 2_592_001, 2**31 - 1, 2**31, 2**31 + 1),
]
SWITCHES = ("revocation", "shutter", "alarm", "block", "dismissal")
LATER = {"token": {"to", "device"}, "act": {"to", "documents"}}
"""What ours looks at only when a document is accepted, and the checker at once."""


def places(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*above, key)
        yield from places(each, (*above, key))


def changed_somewhere(value: Any, random: Random, spared: set[str]) -> Any:
    *above, last = random.choice([each for each in places(value) if each[0] not in spared])
    inside: Any = value
    for key in above:
        inside = inside[key]
    match random.randrange(4):
        case 0:
            del inside[last]
        case 1 if isinstance(inside, dict):
            inside[random.choice(["extra", "unless", "windows", "re", "previous"])] = random.choice(VALUES)
        case 2 if isinstance(inside, list):
            inside.append(random.choice(inside))
        case _:
            inside[last] = random.choice(VALUES)
    return value


def test_documents_with_one_thing_changed_and_signed_again_are_judged_alike() -> None:
    random = Random(4)
    genesis = documents.HOME.signed_charter()
    commands, ours = [], []
    for kind in documents.KINDS:
        word = kind.type.removeprefix("application/vnd.doorward.v0.").removesuffix("+json")
        if word not in {"charter", "token", "act", "introduction", *SWITCHES}:
            continue
        for _ in range(100):
            data = kind.resigned(changed_somewhere(kind.value, random, LATER.get(word, set())))
            command = {"do": "switch" if word in SWITCHES else word, "type": word, "data": data}
            commands.append({**command, "charters": [] if kind.name == "charter" else [genesis]})
            try:
                kind.read(data)
            except DoorwardError as error:
                ours.append(str(error))
            else:
                ours.append("")
    assert len(commands) >= 1000
    assert 50 < ours.count("") < len(ours) / 2
    both = zip(commands, ours, ask(commands), strict=True)
    assert [each for each in both if (each[1] == "") != each[2]["ok"]] == []


# The ledger


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    """A paired device whose ledger has some entries more."""
    made_box = Box(tmp_path / "ledger", home=HOME)
    await made_box.pair()
    for number in range(9):
        made_box.keeper.record(EntryKind.GAP, {"camera": "front", "reason": "camera", "dropped": number})
    yield made_box
    made_box.close()


def test_receipts_and_checkpoints_of_a_ledger_are_verified_and_nothing_else(box: Box) -> None:
    key, note = box.home.keys.signing_public, box.log.checkpoint()

    def command(data: bytes, **changes: Any) -> dict[str, Any]:
        return {"do": "receipt", "data": data, "origin": ORIGIN, "key": key, **changes}

    def signed_note(**changes: Any) -> dict[str, Any]:
        return {"do": "checkpoint", "note": note, "origin": ORIGIN, "key": key, **changes}

    receipts = [box.log.receipt(index) for index in range(box.log.size)]
    answers = verified(signed_note(), *(command(each.to_json()) for each in receipts))
    assert (answers[0]["size"], answers[0]["root"]) == (box.log.size, encode_bytes(box.log.root()))
    assert [each["kind"] for each in answers[1:]] == [entry.kind for entry in box.entries()]

    one, two = receipts[3], receipts[4]
    stranger = checkpoints.sign(checkpoints.verify(note, ORIGIN, ORIGIN, key), ORIGIN, ed("nobody"))
    text, _ = checkpoints.split_note(note)
    longer = checkpoints.sign_note(f"{text}more\n", ORIGIN, BOX.signing)
    elsewhere = checkpoints.sign(checkpoints.Checkpoint(ORIGIN, box.log.size, bytes(32)), ORIGIN, BOX.signing)
    refused(
        flipped_entry=command(replace(one, entry=flipped(one.entry, 20)).to_json()),
        other_entry=command(replace(one, entry=two.entry).to_json()),
        other_index=command(replace(one, index=two.index).to_json()),
        index_beyond=command(replace(one, index=box.log.size).to_json()),
        other_proof=command(replace(one, proof=two.proof).to_json()),
        proof_too_short=command(replace(one, proof=one.proof[:-1]).to_json()),
        proof_too_long=command(replace(one, proof=(*one.proof, bytes(32))).to_json()),
        other_root=command(replace(one, checkpoint=elsewhere).to_json()),
        wrong_signer=command(replace(one, checkpoint=stranger).to_json()),
        other_origin=command(one.to_json(), origin="doorward/" + "0" * 32),
        other_key=command(one.to_json(), key=public(ed("nobody"))),
        note_of_a_stranger=signed_note(note=stranger),
        note_of_another_origin=signed_note(origin="doorward/" + "0" * 32),
        note_of_another_size=signed_note(note=note.replace(f"\n{box.log.size}\n", f"\n{box.log.size + 1}\n")),
        note_with_a_line_more=signed_note(note=note.replace("\n\n", "\nmore\n\n")),
        note_signed_with_a_line_more=signed_note(note=longer),
        note_unsigned=signed_note(note=note.partition("\n\n")[0] + "\n\n"),
    )


def test_consistency_of_every_two_sizes_is_proven_and_no_other_history(box: Box) -> None:
    def command(old: int, new: int, **changes: Any) -> dict[str, Any]:
        usual = {"old_size": old, "old_root": box.log.root(old), "size": new, "root": box.log.root(new)}
        return {"do": "consistency", **usual, "proof": box.log.consistency(old, new), **changes}

    size = box.log.size
    verified(*(command(old, new) for new in range(1, size + 1) for old in range(1, new + 1)))
    proof = box.log.consistency(5, size)
    refused(
        from_nothing={**command(5, size), "old_size": 0},
        other_old_root=command(5, size, old_root=box.log.root(4)),
        other_root=command(5, size, root=box.log.root(size - 1)),
        other_old_size=command(5, size, old_size=6),
        backwards=command(5, size, size=4),
        flipped=command(5, size, proof=[flipped(proof[0]), *proof[1:]]),
        too_short=command(5, size, proof=proof[:-1]),
        too_long=command(5, size, proof=[*proof, bytes(32)]),
        none=command(5, size, proof=[]),
        same_size_other_root=command(5, 5, root=box.log.root(4)),
    )


async def test_cosignature_of_a_running_witness_is_verified_and_nothing_else(
    box: Box, tmp_path: Path
) -> None:
    key, note = box.home.keys.signing_public, box.log.checkpoint()
    store = made(tmp_path)
    store.add_log(ORIGIN, key)
    async with running(store, wall_ns=lambda: START_NS, boot_ns=lambda: SECOND_NS) as witness:
        answered = await witness.submit(Submission(0, (), note))
    cosigned, witness_key = note + answered.body.decode(), store.public
    store.close()

    def command(**changes: Any) -> dict[str, Any]:
        usual = {"note": cosigned, "origin": ORIGIN, "name": NAME, "key": witness_key}
        return {"do": "cosignature", **usual, **changes}

    (said, _) = verified(command(), {"do": "checkpoint", "note": cosigned, "origin": ORIGIN, "key": key})
    assert (said["size"], said["time"]) == (box.log.size, START_NS // SECOND_NS)

    line = answered.body.decode().rstrip("\n")
    head, _, encoded = line.rpartition(" ")
    later = base64.b64decode(encoded)
    refused(
        not_cosigned=command(note=note),
        other_witness=command(key=public(ed("nobody"))),
        other_name=command(name="witness.example/w2"),
        other_origin=command(origin="doorward/" + "0" * 32),
        other_time=command(note=f"{note}{head} {b64(flipped(later, 11))}\n"),
        flipped=command(note=f"{note}{head} {b64(flipped(later))}\n"),
        one_of_two_broken=command(note=f"{cosigned}{head} {b64(flipped(later))}\n"),
        other_size=command(note=cosigned.replace(f"\n{box.log.size}\n", f"\n{box.log.size + 1}\n")),
        log_is_no_witness=command(name=ORIGIN, key=key),
    )


# What Node.js signs


def seeds(*keys: Ed25519PrivateKey) -> list[str]:
    return [b64(key.private_bytes_raw()) for key in keys]


def made_token(*keys: Ed25519PrivateKey) -> dict[str, Any]:
    return {
        "do": "sign-token",
        "household": CHARTER.household,
        "device": BOX.device,
        "agency": POLICE.key_id,
        "camera": "front",
        "area": "street",
        "begin": times.written(NOON),
        "end": times.written(NOON + HOUR_NS),
        "nonce": nonce("from node"),
        "seeds": seeds(*keys),
    }


def made_act(box: Box, key: Ed25519PrivateKey, *documents: str) -> dict[str, Any]:
    return {
        "do": "sign-act",
        "household": CHARTER.household,
        "device": BOX.device,
        "challenge": box.challenges.issue(),
        "signed_at": times.written(box.clock.wall_ns),
        "seen": {"size": box.seen.size, "root": box.seen.root},
        "documents": list(documents),
        "seeds": seeds(key),
    }


async def test_device_takes_a_token_and_its_revocation_that_node_signed(box: Box) -> None:
    (granted,) = verified(made_token(ANN.daily(), BEN.daily()))
    ours = token.verify(base64.b64decode(granted["envelope"]), CHARTER)
    assert (ours.id, ours.purpose.reference) == (granted["id"], "nº 7 🚪")
    verified(by_token(base64.b64decode(granted["envelope"])))

    (act,) = verified(made_act(box, ANN.daily(), granted["envelope"]))
    await box.owners.act(base64.b64decode(act["envelope"]))
    assert list(box.keeper.state.tokens) == [granted["id"]]

    revoking = {
        "do": "sign-revocation",
        "household": CHARTER.household,
        "token": granted["id"],
        "nonce": nonce("node takes back"),
        "seeds": seeds(BEN.daily()),
    }
    (revoked,) = verified(revoking)
    (act,) = verified(made_act(box, BEN.daily(), revoked["envelope"]))
    verified({"do": "act", "charters": [GENESIS], "data": base64.b64decode(act["envelope"])})
    await box.owners.act(base64.b64decode(act["envelope"]))
    assert granted["id"] in box.keeper.state.standing.revoked


async def test_device_refuses_what_node_signed_with_too_few_or_wrong_keys(box: Box) -> None:
    (alone,) = verified(made_token(ANN.daily()))
    (act,) = verified(made_act(box, ANN.daily(), alone["envelope"]))
    (stranger,) = verified(made_act(box, ed("nobody")))
    for envelope in (act["envelope"], stranger["envelope"]):
        with pytest.raises(SignatureError):
            await box.owners.act(base64.b64decode(envelope))
    assert not box.entries(EntryKind.TOKEN)


def test_act_is_verified_with_everything_in_it() -> None:
    challenge = nonce("challenge")
    granted = HOME.signed_token(*ALL)

    def command(
        key: Ed25519PrivateKey, *documents: bytes, signer: Ed25519PrivateKey | None = None
    ) -> dict[str, Any]:
        act = HOME.act(challenge, key, *documents)
        return {
            "do": "act",
            "charters": [GENESIS],
            "data": sign(PayloadType.ACT, act.payload(), signer or key),
        }

    verified(
        command(ANN.daily()),
        command(BEN.root, granted, HOME.signed_revocation()),
        command(ANN.root, HOME.signed_next(CHARTER)),
    )
    refused(
        signed_by_another=command(ANN.daily(), signer=BEN.daily()),
        signed_by_nobody=command(ed("nobody")),
        one_bad_document=command(ANN.daily(), granted, bad_signature(HOME.signed_revocation(BEN.daily()))),
        charter_not_alone=command(ANN.root, HOME.signed_next(CHARTER), granted),
        no_such_document=command(ANN.root, GENESIS),
    )
