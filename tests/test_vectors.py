"""Vectors by others, run through the functions that Doorward calls.

Ours are called where we have a function for the job: `envelope.verify` and `envelope.is_valid_signature`,
`merkle.verify_inclusion` and `verify_consistency`, `strict_json.parse`, `sealing.seal`. We write no X25519,
AES-GCM or HKDF of our own: those vectors go through the classes of `cryptography` that agent.sealing (inside
its HPKE) and agent.archive call, so that another version of the library cannot come in unnoticed.

Counts are asserted: a vector file that is missing or empty fails.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent import sealing
from agent.consent import envelope, strict_json
from agent.errors import DocumentError, ProofError, SealedMessageError
from agent.ledger import merkle

VECTORS = Path(__file__).parent / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_bytes())


def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    content = load(f"wycheproof_{name}.json")
    cases = [(group, test) for group in content["testGroups"] for test in group["tests"]]
    assert len(cases) == content["numberOfTests"]
    return cases


DSSE = load("dsse.json")


def dsse_accepts(vector: dict[str, Any]) -> bool:
    publics = [bytes.fromhex(DSSE["keys"][name]["public"]) for name in vector["trustedKeys"]]
    keys = {envelope.key_id(public): public for public in publics}
    for payload_type in vector["supportedPayloadTypes"]:
        try:
            verified = envelope.verify(json.dumps(vector["envelope"]).encode(), payload_type, keys)
        except DocumentError:
            continue
        if len(verified.signers) >= vector["threshold"]:
            return True
    return False


@pytest.mark.parametrize("vector", DSSE["vectors"], ids=lambda vector: str(vector["id"]))
def test_dsse_vector(vector: dict[str, Any]) -> None:
    assert dsse_accepts(vector) == (vector["expect"] == "accept")
    made = envelope.pre_authentication_encoding(
        vector["envelope"]["payloadType"],
        base64.b64decode(vector["envelope"]["payload"].replace("-", "+").replace("_", "/")),
    )
    if vector["expect"] == "accept":
        assert made.hex() == vector["pae"]


def test_dsse_vectors_are_all_there_9() -> None:
    assert Counter(vector["expect"] for vector in DSSE["vectors"]) == {"accept": 6, "reject": 3}


def decoded(hashes: list[str] | None) -> list[bytes]:
    return [base64.b64decode(each) for each in hashes or []]


def test_rfc_6962_inclusion_98_of_98() -> None:
    files = sorted((VECTORS / "merkle" / "inclusion").rglob("*.json"))
    wrong: list[str] = []
    accepted = 0
    for file in files:
        v = json.loads(file.read_bytes())
        leaf, root = base64.b64decode(v["leafHash"]), base64.b64decode(v["root"])
        try:
            merkle.verify_inclusion(leaf, v["leafIdx"], v["treeSize"], decoded(v["proof"]), root)
            refused = False
            accepted += 1
        except ProofError:
            refused = True
        if refused != v["wantErr"]:
            wrong.append(str(file))
    assert (wrong, len(files), accepted) == ([], 98, 6)


def test_rfc_6962_consistency_98_of_98() -> None:
    files = sorted((VECTORS / "merkle" / "consistency").rglob("*.json"))
    wrong: list[str] = []
    accepted = 0
    for file in files:
        v = json.loads(file.read_bytes())
        roots = base64.b64decode(v["root1"]), base64.b64decode(v["root2"])
        try:
            merkle.verify_consistency(v["size1"], v["size2"], decoded(v["proof"]), *roots)
            refused = False
            accepted += 1
        except ProofError:
            refused = True
        if refused != v["wantErr"]:
            wrong.append(str(file))
    assert (wrong, len(files), accepted) == ([], 98, 6)


def test_wycheproof_ed25519_151_of_151() -> None:
    cases = wycheproof("ed25519")
    wrong = [
        test["tcId"]
        for group, test in cases
        if envelope.is_valid_signature(
            bytes.fromhex(group["publicKey"]["pk"]), bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        )
        != (test["result"] == "valid")
    ]
    results = Counter(test["result"] for _, test in cases)
    assert (wrong, results) == ([], {"valid": 88, "invalid": 63})


def test_wycheproof_x25519_518_of_518() -> None:
    outcomes: Counter[str] = Counter()
    for _, test in wycheproof("x25519"):
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(test["private"]))
        public = X25519PublicKey.from_public_bytes(bytes.fromhex(test["public"]))
        weak = "ZeroSharedSecret" in test["flags"]
        try:
            shared = private.exchange(public)
        except ValueError:
            assert weak, test["tcId"]
            outcomes["refused"] += 1
        else:
            assert not weak, test["tcId"]
            assert shared.hex() == test["shared"], test["tcId"]
            outcomes["right"] += 1
    assert outcomes == {"right": 487, "refused": 31}


def test_wycheproof_x25519_keys_of_low_order_are_never_sealed_to_31_of_31() -> None:
    weak = [test for _, test in wycheproof("x25519") if "ZeroSharedSecret" in test["flags"]]
    for test in weak:
        with pytest.raises(SealedMessageError):
            sealing.seal(
                sealing.SealKind.REPLY,
                sender="a",
                recipient="b",
                topic="c",
                public=bytes.fromhex(test["public"]),
                plaintext=b"secret",
            )
    assert len(weak) == 31


def test_wycheproof_aes_gcm_283_of_283_and_33_nonces_refused() -> None:
    outcomes: Counter[str] = Counter()
    for _, test in wycheproof("aes_gcm"):
        nonce, aad = bytes.fromhex(test["iv"]), bytes.fromhex(test["aad"])
        message, sealed = bytes.fromhex(test["msg"]), bytes.fromhex(test["ct"] + test["tag"])
        cipher = AESGCM(bytes.fromhex(test["key"]))
        try:
            opened = cipher.decrypt(nonce, sealed, aad)
        except InvalidTag:
            assert test["result"] == "invalid", test["tcId"]
            outcomes["invalid"] += 1
        except ValueError:
            # The library takes nonces of 8 to 128 bytes; ours have 12.
            assert not 8 <= len(nonce) <= 128, test["tcId"]
            outcomes["nonce"] += 1
        else:
            assert (opened, test["result"]) == (message, "valid"), test["tcId"]
            assert cipher.encrypt(nonce, message, aad) == sealed, test["tcId"]
            outcomes["valid"] += 1
    assert outcomes == {"valid": 202, "invalid": 81, "nonce": 33}


def test_wycheproof_hkdf_sha256_86_of_86() -> None:
    outcomes: Counter[str] = Counter()
    for _, test in wycheproof("hkdf_sha256"):
        try:
            okm = HKDF(
                SHA256(), test["size"], bytes.fromhex(test["salt"]), bytes.fromhex(test["info"])
            ).derive(bytes.fromhex(test["ikm"]))
        except ValueError:
            assert test["result"] == "invalid", test["tcId"]
            outcomes["invalid"] += 1
        else:
            assert (okm.hex(), test["result"]) == (test["okm"], "valid"), test["tcId"]
            outcomes["valid"] += 1
    assert outcomes == {"valid": 83, "invalid": 3}


DUPLICATE_KEYS = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}


def test_json_suite_188_refused_93_accepted_35_without_a_crash() -> None:
    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    for file in sorted((VECTORS / "json_test_suite").glob("*.json")):
        try:
            strict_json.parse(file.read_bytes(), limit=1 << 20)
            accepted = True
        except DocumentError:
            accepted = False
        expected = file.name.startswith("y_") and file.name not in DUPLICATE_KEYS
        if not file.name.startswith("i_") and accepted != expected:
            wrong.append(file.name)
        outcomes[file.name[0] + ("+" if accepted and file.name[0] != "i" else "")] += 1
    assert (wrong, outcomes) == ([], {"n": 188, "y+": 93, "y": 2, "i": 35})
