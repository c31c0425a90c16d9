"""Documents that more than one owner must sign: what they say, who has signed, who is missing.

Every document that needs a threshold goes one way: the first owner's command signs it and, if that is not
enough, writes it to a file (``--save``); the others add their signatures (``doorward sign``), anywhere and in
any order; somebody hands it to the device (``doorward hand-over``). The file carries the charter that was in
force when it was made, so that it can be read and counted away from the device. That charter is the word of
whoever passed the file on; where the device can be asked, its own charter counts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from agent.cli import sentences
from agent.cli.differences import difference
from agent.consent import acts, envelope, introduction, strict_json, token
from agent.consent import charter as charters
from agent.consent.acts import Alarm, AlarmState, Block, BlockState, Shutter, ShutterState
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes
from agent.errors import DocumentError, MalformedInput, Refused, SignatureError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.cli.client import Client, Signer
    from agent.consent.acts import Acknowledgement
    from agent.consent.charter import Charter, Owner

P = ParamSpec("P")
R = TypeVar("R")

VERSION: Final = 0
MAX_FILE_BYTES: Final = 200 * 1024
_MAX_ENVELOPE_BYTES: Final = 64 * 1024


def save_option(command: Callable[P, R]) -> Callable[P, R]:
    """``--save``: for what one owner may not be enough for."""
    return click.option(
        "--save",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="If more owners must sign: write the document to this new file, for 'doorward sign FILE'.",
    )(command)


@dataclass(frozen=True, slots=True)
class Side:
    """Owners of whom so many must sign, by root keys alone or by any of their keys."""

    owners: tuple[Owner, ...]
    needed: int
    by_root: bool

    def counting(self) -> dict[str, bytes]:
        """The keys whose signatures count, by key id."""
        return {envelope.key_id(key): key for owner in self.owners for key in self._of(owner)}

    def _of(self, owner: Owner) -> list[bytes]:
        return [owner.root] if self.by_root else [owner.root, *(key.signing for key in owner.daily)]

    def signed(self, kind: PayloadType, document: bytes) -> list[Owner]:
        """The distinct owners who have signed."""
        try:
            signers = envelope.verify(document, kind, self.counting()).signers
        except SignatureError:
            return []  # by nobody who counts, so far
        return [owner for owner in self.owners if signers & {envelope.key_id(key) for key in self._of(owner)}]

    def standing(self, kind: PayloadType, document: bytes) -> tuple[bool, str]:
        """Whether they are enough, and how it stands: ``1 of 2 owners; missing: Ben``."""
        signed = self.signed(kind, document)
        left = self.needed - len(signed)
        text = f"{min(len(signed), self.needed)} of {self.needed} owners"
        if left <= 0:
            return True, text
        missing = [owner.name for owner in self.owners if owner not in signed]
        some = f"{left} of " if len(missing) > left else ""
        return False, f"{text}; missing: {some}{', '.join(missing)}"


@dataclass(frozen=True, slots=True)
class Content:
    """A document as it was read: in sentences, and whose signatures it needs."""

    kind: PayloadType
    lines: tuple[str, ...]
    sides: tuple[Side, ...]
    done: str
    """What is so once the device has taken it."""

    verify: Callable[[bytes], object]

    @property
    def by_root(self) -> bool:
        """Whether it needs root keys."""
        return any(side.by_root for side in self.sides)

    def standing(self, document: bytes) -> tuple[bool, str]:
        """Whether enough owners have signed, and how it stands."""
        found = [side.standing(self.kind, document) for side in self.sides]
        complete = all(each for each, _ in found)
        texts = list(dict.fromkeys(text for _, text in found))
        if len(texts) == 1:
            return complete, texts[0]
        return complete, f"by the charter in force: {texts[0]}; by the new one: {texts[1]}"

    def may_sign(self, signer: str) -> bool:
        """Whether this is a key, root or daily, of an owner who may sign."""
        return any(signer in Side(side.owners, side.needed, by_root=False).counting() for side in self.sides)


def read(document: bytes, current: Charter) -> Content:
    """What a document says to the owners of ``current``.

    Raises:
        DocumentError: Nothing that owners sign together, malformed, or of another household.
        Refused: A charter that does not follow ``current``.
    """
    kind, payload = envelope.unverified_payload(document)
    match kind:
        case PayloadType.CHARTER:
            return _charter(payload, current)
        case PayloadType.TOKEN:
            return _token(payload, current)
        case PayloadType.REVOCATION:
            return _revocation(document, current)
        case PayloadType.INTRODUCTION:
            return _introduction(payload, current)
        case PayloadType.SHUTTER | PayloadType.ALARM | PayloadType.BLOCK:
            return _switch(PayloadType(kind), payload, current)
        case _:
            raise DocumentError(f"document: nothing that owners sign together (got {kind[:60]!r})")


def _of_household(household: str, current: Charter, what: str) -> None:
    if household != current.household:
        raise DocumentError(f"{what}: of another household")


def _charter(payload: bytes, current: Charter) -> Content:
    following = charters.parse(payload)
    _of_household(following.household, current, "charter")
    if following.version != current.version + 1 or following.previous != current.id:
        raise Refused(
            f"charter version {following.version}: does not follow the one in force "
            f"(version {current.version})",
            reason="stale",
            hint="the charter was changed meanwhile: make the change again",
        )
    intro = f"A new charter, version {following.version} in place of {current.version}:"
    return Content(
        PayloadType.CHARTER,
        (intro, *(f"  {line}" for line in difference(current, following))),
        (
            Side(current.owners, current.governing, by_root=True),
            Side(following.owners, following.governing, by_root=True),
        ),
        f"Charter version {following.version} is in force.",
        lambda document: charters.verify_next(document, current),
    )


def _token(payload: bytes, current: Charter) -> Content:
    granted = token.parse(payload)
    _of_household(granted.household, current, "token")
    try:
        token.check_daily_limits(granted, current)
        by_root = False
    except SignatureError:
        by_root = True
    return Content(
        PayloadType.TOKEN,
        tuple(sentences.consent(granted, current)),
        (Side(current.owners, current.granting, by_root=by_root),),
        f"Allowed. To stop it at any time: doorward consent revoke {granted.id.removeprefix('sha256:')[:16]}",
        lambda document: token.verify(document, current),
    )


def _revocation(document: bytes, current: Charter) -> Content:
    # One owner is enough, so one that is no valid revocation yet has no business here.
    taken = token.verify_revocation(document, current)
    return Content(
        PayloadType.REVOCATION,
        tuple(sentences.revocation(taken, current)),
        (Side(current.owners, 1, by_root=False),),
        "Stopped: the device has acknowledged it.",
        lambda document: token.verify_revocation(document, current),
    )


def _introduction(payload: bytes, current: Charter) -> Content:
    written = introduction.parse_introduction(payload)
    _of_household(written.household, current, "introduction")
    seals = {each.device.key_id: each.seal for each in written.devices}
    if written != introduction.of_charter(current, written.agency, seals, written.not_after_ns):
        raise Refused(
            "introduction: says something else than your charter",
            reason="stale",
            hint="the charter was changed meanwhile: doorward charter introduce",
        )
    return Content(
        PayloadType.INTRODUCTION,
        tuple(sentences.introduction(written, current)),
        (Side(current.owners, current.governing, by_root=True),),
        "Hand it to the agency; it imports it: doorward agency import FILE",
        introduction.verify_introduction,
    )


def _switch(kind: PayloadType, payload: bytes, current: Charter) -> Content:
    fields = Fields(strict_json.loads(payload), "document")
    household = fields.key_id("household")
    fields.constant("from", household)
    fields.constant("to", "devices")
    _of_household(household, current, "document")
    own_id = envelope.document_id(payload)
    nonce = fields.fixed("nonce", token.NONCE_BYTES)
    switched: Shutter | Alarm | Block
    verify: Callable[[bytes, Charter], object]
    if kind is PayloadType.SHUTTER:
        switched = Shutter(own_id, household, fields.choice("state", ShutterState), nonce)
        needs_all, verify = switched.state is ShutterState.OPEN, acts.verify_shutter
    elif kind is PayloadType.ALARM:
        switched = Alarm(own_id, household, fields.choice("state", AlarmState), nonce)
        needs_all, verify = switched.state is AlarmState.RAISED, acts.verify_alarm
    else:
        agency = fields.key_id("agency")
        switched = Block(own_id, household, agency, fields.choice("state", BlockState), nonce)
        needs_all, verify = switched.state is BlockState.UNBLOCKED, acts.verify_block
    fields.done()
    return Content(
        kind,
        tuple(sentences.switch(switched, current)),
        (Side(current.owners, current.granting if needs_all else 1, by_root=False),),
        _DONE[str(switched.state)],
        lambda document: verify(document, current),
    )


_DONE: Final = {
    "open": "The shutter is open.",
    "closed": "The shutter is closed: the device has acknowledged it, and shares nothing.",
    "raised": "The alarm is raised: consents given for the alarm count.",
    "cleared": "The alarm is cleared.",
    "blocked": "Blocked: the device has acknowledged it, and shows that agency nothing.",
    "unblocked": "Unblocked: consents that the agency still has count again.",
}


# Files


@dataclass(frozen=True, slots=True)
class Collection:
    """A document on its way round, and the charter that was in force when it was made. Both as envelopes."""

    document: bytes
    charter: bytes

    @classmethod
    def load(cls, path: Path) -> Collection:
        """Read it from a file.

        Raises:
            MalformedInput: There is none, or something else.
        """
        try:
            with path.expanduser().open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise MalformedInput(f"{path}: {error.strerror}") from error
        try:
            fields = Fields(strict_json.loads(data.strip(), limit=MAX_FILE_BYTES), "file")
            fields.integer("v", VERSION, VERSION)
            found = cls(
                fields.data("document", max_bytes=_MAX_ENVELOPE_BYTES),
                fields.data("charter", max_bytes=_MAX_ENVELOPE_BYTES),
            )
            fields.done()
        except DocumentError as error:
            raise MalformedInput(f"{path}: no document for owners to sign ({error})") from error
        return found

    def in_force(self) -> Charter:
        """The charter it carries, as the word of whoever passed it on.

        Raises:
            DocumentError: It is none that its own owners have signed.
        """
        return charters.verify_alone(self.charter)

    def save(self, path: Path, *, new: bool) -> None:
        """Write it, durably; over an existing file only if it is not meant to be new.

        Raises:
            Refused: There is a file already.
            StorageError: It cannot be written.
        """
        path = path.expanduser()
        if new and path.exists():
            raise Refused(f"{path} exists already", reason="exists", hint="name another with --save")
        value = {
            "v": VERSION,
            "document": encode_bytes(self.document),
            "charter": encode_bytes(self.charter),
        }
        beside = path.with_name(path.name + ".new")
        try:
            with beside.open("wb") as file:
                file.write(strict_json.dumps(value) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error


# What commands do with what they signed


def needs_owner(content: Content, signer: Signer) -> None:
    """Refuse a key of nobody who may sign.

    Raises:
        Refused: It is nobody's.
    """
    if not content.may_sign(signer.signing_id):
        raise Refused(
            "your key is of no owner of this household",
            reason="not-an-owner",
            hint="use the key file or recovery code of an owner; a new owner's comes in by "
            "'doorward charter add-owner'",
        )


def complete(
    collection: Collection, current: Charter, options: dict[str, Any], signer: Signer
) -> Content | None:
    """What was signed, verified, if enough owners have; else it is saved for the others, and None.

    Raises:
        Refused: Others must sign, and nobody said where to save it.
    """
    content = read(collection.document, current)
    needs_owner(content, signer)
    enough, standing = content.standing(collection.document)
    if enough:
        content.verify(collection.document)
        return content
    with_what = ", with their recovery codes" if content.by_root else ""
    if not options.get("save"):
        raise Refused(
            f"others must sign: {standing}",
            reason="too-few",
            hint=f"add --save FILE; they sign the file{with_what}: doorward sign FILE",
        )
    path: Path = options["save"]
    collection.save(path, new=True)
    click.echo(f"{path}: {standing}")
    click.echo(f"Nothing has changed yet. They sign it{with_what}: doorward sign {path}")
    click.echo(f"Then anybody of you hands it over: doorward hand-over {path}")
    return None


def hand_over(
    client: Client, kind: PayloadType, payload: bytes, options: dict[str, Any], signer: Signer
) -> Acknowledgement | None:
    """Sign a document with ``signer`` and hand it to the device, or save it for the other owners.

    Raises:
        Refused: Others must sign, and nobody said where to save it.
        DoorwardError: What the device says against it.
    """
    current, in_force = client.charter()
    signed = envelope.sign(kind, payload, [signer.signing])
    if complete(Collection(signed, in_force), current, options, signer) is None:
        return None
    return client.act(signer, [signed])


def write_introduction(out: Path | None, signed: bytes) -> None:
    """Write an introduction for its agency.

    Raises:
        MalformedInput: Nobody said where to.
        StorageError: It cannot be written.
    """
    if out is None:
        raise MalformedInput("an introduction goes to the agency", hint="add --out FILE")
    path = out.expanduser()
    try:
        path.write_bytes(signed)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
