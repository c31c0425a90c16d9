"""State as the fold of the ledger: the same from the start as step by step, and nothing forged gets in."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.consent.acts import ShutterState
from agent.consent.decision import Usage
from agent.consent.envelope import PayloadType
from agent.consent.fields import encode_bytes
from agent.consent.times import SECOND_NS, TimeQuality
from agent.errors import DocumentError, IntegrityError, LedgerError
from agent.ledger.entry import Entry, EntryKind, Stamp
from agent.ledger.keeper import Keeper
from agent.ledger.log import Log
from agent.ledger.state import State, body_document
from tests.ledger.disk import Disk, Fault
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    OTHER_BODY,
    POLICE,
    Home,
    ed,
    nonce,
    sign,
    signed_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOME = Home()
CHARTER = HOME.charter()
TOKEN = HOME.token()
KEY = HOME.keys.signing
OTHER_TOKEN = HOME.token(agency=OTHER_BODY.key_id, nonce=nonce("other token"))


def signed_token(number: int = 0, **changes: Any) -> bytes:
    made = HOME.token(nonce=nonce(f"token {number}"), **changes)
    return sign(PayloadType.TOKEN, made.payload(), ANN.root)


def stamp(earliest_ns: int | None = NOON) -> Stamp:
    if earliest_ns is None:
        return Stamp(1, "00" * 16, None, None, TimeQuality.UNTRUSTED)
    return Stamp(1, "00" * 16, earliest_ns, earliest_ns + SECOND_NS, TimeQuality.AUTHENTICATED)


def entry(kind: EntryKind, body: dict[str, Any], earliest_ns: int | None = NOON) -> Entry:
    salt = hashlib.sha256(repr((kind, body)).encode()).digest()[:16]
    return Entry(kind, stamp(earliest_ns), salt, body)


def doc(kind: EntryKind, document: bytes, **more: object) -> Entry:
    return entry(kind, body_document(document, **more))


def start(token: str | None = TOKEN.id, *, seconds: int = 60, name: str = "offer") -> Entry:
    body: dict[str, Any] = {
        "token": token,
        "seconds": seconds,
        "session": "5e551017",
        "agency": POLICE.key_id,
        "nonce": encode_bytes(nonce(name)),
        "offer_id": HOME.offer(HOME.request(), TOKEN, nonce=nonce(name)).id,
    }
    return entry(EntryKind.SESSION_START, body)


def end(number: int, seconds: int) -> Entry:
    return entry(EntryKind.SESSION_END, {"start": number, "seconds": seconds})


PAIRED = doc(EntryKind.PAIRED, HOME.signed_charter())
CONFIRMED = entry(EntryKind.CONFIRMED, {})
BOOT = entry(EntryKind.BOOT, {})
GRANTED = doc(EntryKind.TOKEN, HOME.signed_token(ANN.root))
REVOKED = doc(EntryKind.REVOCATION, HOME.signed_revocation())
REQUESTED = doc(EntryKind.REQUEST, signed_request(HOME.request()), agency=POLICE.key_id)


def fold(*entries: Entry) -> State:
    state = State()
    for index, each in enumerate(entries):
        state.apply(index, each)
    return state


def test_fresh_device_has_no_charter_and_says_so() -> None:
    assert State().charter is None
    with pytest.raises(DocumentError, match="not paired"):
        State().need_charter()


def test_boot_takes_the_confirmation_back() -> None:
    assert fold(PAIRED, CONFIRMED).confirmed_since_boot
    assert not fold(PAIRED, CONFIRMED, BOOT).confirmed_since_boot


def test_entry_out_of_order_is_refused() -> None:
    for index in (0, 2, -1):
        with pytest.raises(IntegrityError, match="does not follow"):
            fold(PAIRED).apply(index, CONFIRMED)


def test_session_is_charged_in_full_until_its_end_is_known() -> None:
    state = fold(PAIRED, GRANTED, start())
    assert state.standing.usage[TOKEN.id] == Usage(1, 60)
    state.apply(3, end(2, 7))
    assert state.standing.usage[TOKEN.id] == Usage(1, 7)
    assert not state.sessions


def test_floor_never_sinks_and_unknown_time_leaves_it() -> None:
    later = entry(EntryKind.BOOT, {}, NOON + HOUR_NS)
    unknown = entry(EntryKind.BOOT, {}, None)
    assert fold(later, BOOT, unknown).floor_ns == NOON + HOUR_NS


def test_revocations_of_agency_and_everything_raise_floors_above_all_tokens() -> None:
    agency = doc(EntryKind.REVOCATION, HOME.signed_revocation(agency=POLICE.key_id))
    one = doc(EntryKind.REVOCATION, HOME.signed_revocation(token=TOKEN.id))
    standing = fold(PAIRED, GRANTED, agency).standing
    assert (standing.epoch, standing.floor, standing.agency_floors) == (1, 0, {POLICE.key_id: 1})
    standing = fold(PAIRED, GRANTED, agency, REVOKED).standing
    assert (standing.epoch, standing.floor) == (2, 2)
    standing = fold(PAIRED, GRANTED, one).standing
    assert (standing.epoch, standing.revoked) == (0, frozenset({TOKEN.id}))


def test_new_charter_drops_tokens_of_removed_owners() -> None:
    cat_home = Home(people=(ANN, BEN), changes={"governing": 2, "granting": 1})
    by_ben = sign(PayloadType.TOKEN, HOME.token(nonce=nonce("by Ben")).payload(), BEN.root)
    by_ann = sign(PayloadType.TOKEN, HOME.token(nonce=nonce("by Ann")).payload(), ANN.root)
    without_ben = Home(people=(ANN,), changes={"governing": 1}).signed_next(
        cat_home.charter(), ANN.root, BEN.root
    )
    state = fold(
        PAIRED,
        doc(EntryKind.TOKEN, by_ben),
        doc(EntryKind.TOKEN, by_ann),
        doc(EntryKind.CHARTER, without_ben),
    )
    assert [held.envelope for held in state.tokens.values()] == [by_ann]
    assert state.charter is not None
    assert state.charter.version == 2


def test_lapsed_requests_are_forgotten_but_their_nonces_are_not() -> None:
    late = HOME.request(
        nonce=nonce("late"), issued_at_ns=NOON + 26 * HOUR_NS, expires_at_ns=NOON + 27 * HOUR_NS
    )
    body = body_document(signed_request(late), agency=POLICE.key_id)
    state = fold(
        PAIRED, REQUESTED, entry(EntryKind.BOOT, {}, NOON + 26 * HOUR_NS), entry(EntryKind.REQUEST, body)
    )
    assert list(state.requests) == [late.id]
    assert nonce("request") in state.seen


def test_tokens_are_tried_newest_first() -> None:
    state = fold(PAIRED, GRANTED, doc(EntryKind.TOKEN, signed_token(2)))
    assert [token.nonce for token in state.live_tokens()] == [nonce("token 2"), nonce("token")]


FORGED: list[tuple[str, Sequence[Entry], Entry]] = [
    ("a token nobody signed", [PAIRED], doc(EntryKind.TOKEN, HOME.signed_token(ed("x")))),
    ("a token before pairing", [], GRANTED),
    ("a token twice", [PAIRED, GRANTED], GRANTED),
    (
        "a token with a used nonce",
        [PAIRED, GRANTED],
        doc(EntryKind.TOKEN, sign(PayloadType.TOKEN, HOME.token(epoch=1).payload(), ANN.root)),
    ),
    ("no document", [PAIRED], entry(EntryKind.TOKEN, {})),
    ("a second household", [PAIRED], PAIRED),
    ("a charter that skips", [PAIRED], doc(EntryKind.CHARTER, HOME.signed_next(CHARTER, version=3))),
    ("a charter of too few", [PAIRED], doc(EntryKind.CHARTER, HOME.signed_next(CHARTER, ANN.root))),
    ("a charter before pairing", [], doc(EntryKind.CHARTER, HOME.signed_next(CHARTER))),
    ("a pairing that not everybody signed", [], doc(EntryKind.PAIRED, HOME.signed_charter(ANN.root))),
    ("a revocation by a stranger", [PAIRED], doc(EntryKind.REVOCATION, HOME.signed_revocation(ed("x")))),
    (
        "a shutter opened by a stranger",
        [PAIRED],
        doc(EntryKind.SHUTTER, HOME.signed_shutter(ShutterState.OPEN, ed("x"))),
    ),
    (
        "a request of nobody",
        [PAIRED],
        doc(EntryKind.REQUEST, signed_request(HOME.request()), agency="sha256:" + "0" * 64),
    ),
    (
        "a request of another agency",
        [PAIRED],
        doc(EntryKind.REQUEST, signed_request(HOME.request()), agency=OTHER_BODY.key_id),
    ),
    ("a request twice", [PAIRED, REQUESTED], REQUESTED),
    ("a session under no token", [PAIRED], start()),
    ("a session under one offer twice", [PAIRED, GRANTED, start()], start()),
    ("an end of nothing", [PAIRED], end(0, 1)),
    ("an end twice", [PAIRED, GRANTED, start(), end(2, 1)], end(2, 1)),
    ("an end that charges more", [PAIRED, GRANTED, start()], end(2, 61)),
    ("an end that gives back", [PAIRED, GRANTED, start()], end(2, -1)),
]


@pytest.mark.parametrize(("what", "before", "forged"), FORGED, ids=[what for what, _, _ in FORGED])
def test_forged_entry_is_an_integrity_error_at_start_and_never_written(
    what: str, before: Sequence[Entry], forged: Entry
) -> None:
    state = fold(*before)
    with pytest.raises(IntegrityError) as found:
        copy.deepcopy(state).apply(state.size, forged)
    assert str(found.value).isprintable()
    untouched = copy.deepcopy(state)
    with pytest.raises(DocumentError):
        state.after([forged])
    with pytest.raises(DocumentError):
        state.after([entry(EntryKind.BOOT, {}), forged])
    assert state == untouched


def test_what_would_be_leaves_what_is() -> None:
    state = fold(PAIRED)
    untouched = copy.deepcopy(state)
    following = state.after([GRANTED, start()])
    assert state == untouched
    assert following.standing.usage[TOKEN.id] == Usage(1, 60)
    assert nonce("token") in following.seen


# The keeper


def open_keeper(directory: Path, disk: Disk) -> Keeper:
    return Keeper(Log.open(directory, origin="doorward/test", private=KEY, opener=disk.open), stamp)


def record(keeper: Keeper, each: Entry) -> int:
    return keeper.record(each.kind, each.body)


def test_entry_that_does_not_follow_is_not_written_and_the_ledger_opens_again(tmp_path: Path) -> None:
    disk = Disk()
    keeper = open_keeper(tmp_path, disk)
    record(keeper, PAIRED)
    for _, before, forged in FORGED[:3]:
        if before == [PAIRED]:
            with pytest.raises(DocumentError):
                record(keeper, forged)
    with pytest.raises(DocumentError):
        keeper.record_many([(GRANTED.kind, GRANTED.body), (GRANTED.kind, GRANTED.body)])
    assert (keeper.log.size, keeper.state.size) == (1, 1)
    record(keeper, GRANTED)
    keeper.log.close()
    assert open_keeper(tmp_path, disk).state.size == 2


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.PERSISTED, Fault.SHORT, Fault.FULL])
def test_failed_write_changes_no_state_until_it_is_found_at_the_next_start(
    tmp_path: Path, fault: Fault
) -> None:
    disk = Disk()
    keeper = open_keeper(tmp_path, disk)
    record(keeper, PAIRED)
    disk.plan[len(disk.calls)] = fault
    with pytest.raises(LedgerError):
        record(keeper, GRANTED)
    assert not keeper.durable
    assert keeper.trouble is not None
    assert (keeper.state.size, keeper.state.tokens) == (1, {})
    keeper.log.close()
    again = open_keeper(tmp_path, disk)
    assert again.durable
    assert again.state.size == again.log.size == (2 if again.state.tokens else 1)


def test_full_disk_that_empties_makes_the_ledger_durable_again(tmp_path: Path) -> None:
    disk = Disk()
    keeper = open_keeper(tmp_path, disk)
    record(keeper, PAIRED)
    disk.plan[len(disk.calls)] = Fault.FULL
    with pytest.raises(LedgerError):
        record(keeper, GRANTED)
    record(keeper, GRANTED)
    assert keeper.durable
    assert list(keeper.state.tokens) == [TOKEN.id]


def test_reader_that_keeps_the_state_sees_no_half_of_the_next(tmp_path: Path) -> None:
    keeper = open_keeper(tmp_path, Disk())
    record(keeper, PAIRED)
    before = keeper.state
    record(keeper, GRANTED)
    assert (before.tokens, before.size) == ({}, 1)
    assert keeper.state is not before


def test_keeper_without_a_ledger_records_nothing_and_knows_its_household() -> None:
    keeper = Keeper.without_ledger("ledger: damaged", HOME.signed_charter(), stamp)
    assert keeper.state.charter == CHARTER
    assert (keeper.durable, keeper.trouble) == (False, "ledger: damaged")
    with pytest.raises(LedgerError, match="damaged"):
        record(keeper, GRANTED)
    with pytest.raises(LedgerError):
        _ = keeper.log
    with pytest.raises(DocumentError):
        Keeper.without_ledger("x", HOME.signed_charter(ANN.root), stamp)


OPERATIONS: list[Entry] = [
    PAIRED,
    CONFIRMED,
    BOOT,
    GRANTED,
    REVOKED,
    REQUESTED,
    start(),
    start(name="second offer", seconds=5),
    start(None, name="third offer"),
    doc(EntryKind.TOKEN, signed_token(1)),
    doc(EntryKind.TOKEN, sign(PayloadType.TOKEN, OTHER_TOKEN.payload(), ANN.root)),
    doc(EntryKind.REVOCATION, HOME.signed_revocation(token=TOKEN.id)),
    doc(EntryKind.REVOCATION, HOME.signed_revocation(agency=POLICE.key_id)),
    doc(EntryKind.SHUTTER, HOME.signed_shutter(ShutterState.CLOSED)),
    doc(EntryKind.SHUTTER, HOME.signed_shutter(ShutterState.OPEN)),
    doc(EntryKind.CHARTER, HOME.signed_next(CHARTER)),
    doc(EntryKind.CHARTER, HOME.signed_next(CHARTER, granting=2)),
    entry(EntryKind.GAP, {"why": "test"}),
    *(end(number, seconds) for number in range(8) for seconds in (0, 4)),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(OPERATIONS), max_size=14))
def test_fold_of_the_ledger_equals_the_state_that_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, operations: list[Entry]
) -> None:
    directory = tmp_path_factory.getbasetemp() / "fold"
    disk = Disk()
    keeper = open_keeper(directory, disk)
    record(keeper, PAIRED)
    refused = 0
    for each in operations:
        try:
            record(keeper, each)
        except DocumentError:
            refused += 1
    assert keeper.log.size == 1 + len(operations) - refused
    written = keeper.state
    assert fold(*(each for _, each in keeper.log.entries())) == written
    keeper.log.close()
    again = open_keeper(directory, disk)
    again.log.close()
    assert again.state == written
    for held in written.sessions.values():
        if held.token is not None:
            assert written.standing.usage[held.token].seconds >= held.seconds
