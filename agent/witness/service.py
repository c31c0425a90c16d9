"""The HTTP service of a witness, by c2sp.org/tlog-witness.

==================================  ==================================================================
``POST /add-checkpoint``            200 and a cosignature line; else, in this order of looking:
                                    429 too often from this address, 400 not a submission, 404 unknown
                                    log, 403 not signed by it, 400 not a checkpoint or smaller than its
                                    own old size, 429 too often for this log, 409 and the size held
                                    (``text/x.tlog.size``) where the old size is another, 422 the proof
                                    does not hold, or another root at the same size
``GET /<hash>/checkpoint``          the newest checkpoint with both signatures; hash is the SHA-256 of
                                    the log's origin in hex; 404 before the first
==================================  ==================================================================

What makes it a witness: it never vouches for two roots of one size, and never for less than before; what it
vouched for is on the disk before anybody hears of it (`agent.witness.store`).

It keeps no record of who asked: the newest checkpoint of each log and when, nothing else. Checkpoints with
extension lines are refused: no Doorward ledger writes any.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiohttp import web

from agent.errors import ProofError, StorageError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature, merkle, submission
from agent.ledger.checkpoint import ED25519, KEY_ID_BYTES, note_key_id, signature_line, split_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.ledger.checkpoint import Checkpoint
    from agent.ledger.submission import Submission
    from agent.witness.store import Held, Store

SIZE_TYPE: Final = "text/x.tlog.size"
PER_ADDRESS: Final = (120.0, 2.0)
PER_LOG: Final = (30.0, 0.2)
"""Requests at once, and requests a second after that."""

_MOST_COUNTED: Final = 10_000
_BODY_S: Final = 10.0
_SECOND_NS: Final = 1_000_000_000
log = logging.getLogger(__name__)


class Allowance:
    """How often each of many may ask: ``burst`` times at once, then ``rate`` times a second."""

    def __init__(self, burst: float, rate: float, boot_ns: Callable[[], int]) -> None:
        self._burst = burst
        self._rate = rate
        self._boot_ns = boot_ns
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, who: str) -> bool:
        """Whether ``who`` may ask now. Who has long not asked is forgotten first."""
        now = self._boot_ns()
        left, then = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + (now - then) / _SECOND_NS * self._rate)
        self._left[who] = (max(0.0, left - 1), now)
        while len(self._left) > _MOST_COUNTED:
            self._left.popitem(last=False)
        return left >= 1


class Conflict(Exception):
    """Submitted as following another size than the one held, which is ``size``."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Service:
    """Vouches. ``wall_ns`` and ``boot_ns`` read the clocks."""

    def __init__(self, store: Store, *, wall_ns: Callable[[], int], boot_ns: Callable[[], int]) -> None:
        self._store = store
        self._wall_ns = wall_ns
        self._addresses = Allowance(*PER_ADDRESS, boot_ns)
        self._logs = Allowance(*PER_LOG, boot_ns)

    def application(self) -> web.Application:
        """The application for `agent.serving.serving`."""
        app = web.Application(client_max_size=submission.MAX_BYTES)
        app.add_routes(
            [
                web.post("/add-checkpoint", self._add_checkpoint),
                web.get("/{hash:[0-9a-f]{64}}/checkpoint", self._newest, allow_head=False),
            ]
        )
        return app

    async def _add_checkpoint(self, request: web.Request) -> web.Response:
        self._count(request.remote)
        try:
            async with asyncio.timeout(_BODY_S):
                body = await request.read()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text="the request did not arrive in time\n") from error
        try:
            return web.Response(text=await self._vouch(body))
        except Conflict as error:
            # Exactly this type, without a charset: clients compare it.
            return web.Response(status=409, body=b"%d\n" % error.size, headers={"Content-Type": SIZE_TYPE})
        except StorageError as error:
            log.error("%s", error)  # noqa: TRY400 - said in one line
            raise web.HTTPServiceUnavailable(text="it cannot remember now, so it does not vouch\n") from error

    async def _vouch(self, body: bytes) -> str:
        with _refused_as(web.HTTPBadRequest):
            submitted = submission.parse(body)
            split_note(submitted.note)
        origin = submitted.note.split("\n", 1)[0]
        held = await asyncio.to_thread(self._store.log, origin)
        if held is None:
            raise web.HTTPNotFound(text="this witness does not know this log\n")
        with _refused_as(web.HTTPForbidden):
            text = checkpoints.open_note(submitted.note, origin, held.key)
        with _refused_as(web.HTTPBadRequest):
            checkpoint = checkpoints.read(text, origin)
        if submitted.old > checkpoint.size:
            raise web.HTTPBadRequest(text="the old size is larger than the checkpoint's\n")
        if not self._logs.take(origin):
            raise web.HTTPTooManyRequests(text="too many checkpoints of this log\n")
        lines: list[str] = []

        def step(held: Held) -> Held:
            check(held, submitted, checkpoint)
            at = self._wall_ns() // _SECOND_NS
            lines.append(cosignature.sign(text, self._store.name, self._store.private, timestamp=at))
            note = _signed_by_log(submitted.note, origin, held.key) + lines[-1]
            return replace(held, size=checkpoint.size, root=checkpoint.root, note=note, at=at)

        await asyncio.to_thread(self._store.advance, origin, step)
        return lines[-1]

    async def _newest(self, request: web.Request) -> web.Response:
        self._count(request.remote)
        held = await asyncio.to_thread(self._store.log_by_hash, request.match_info["hash"])
        if held is None or held.note is None:
            raise web.HTTPNotFound(text="this witness has vouched for no such log\n")
        return web.Response(text=held.note)

    def _count(self, address: str | None) -> None:
        try:
            local = address is None or ipaddress.ip_address(address).is_loopback
        except ValueError:
            local = False
        # From this machine comes everybody, through the proxy in front.
        if not local and not self._addresses.take(str(address)):
            raise web.HTTPTooManyRequests(text="too many requests from this address\n")


@contextmanager
def _refused_as(status: type[web.HTTPError]) -> Iterator[None]:
    try:
        yield
    except ProofError as error:
        raise status(text=f"{error}\n") from error


def check(held: Held, submitted: Submission, checkpoint: Checkpoint) -> None:
    """Hold a checkpoint, signed by its log, against what this witness vouched for last.

    Raises:
        Conflict: It is submitted as following another size than the one held.
        web.HTTPUnprocessableEntity: It does not continue what is held.
    """
    if submitted.old != held.size:
        raise Conflict(held.size)
    with _refused_as(web.HTTPUnprocessableEntity):
        if not checkpoint.size and checkpoint.root != merkle.EMPTY_ROOT:
            raise ProofError("checkpoint: of no entries, with a root that is not the empty tree's")
        if held.root is not None and held.size:
            merkle.verify_consistency(held.size, checkpoint.size, submitted.proof, held.root, checkpoint.root)
        elif submitted.proof:
            raise ProofError("consistency proof: none is needed from nothing (expected 0 hashes)")


def _signed_by_log(note: str, origin: str, key: bytes) -> str:
    """The note with its log's signatures alone: what others signed was not looked at."""
    text, signatures = split_note(note)
    expected = note_key_id(origin, key, ED25519)
    kept = [
        signature_line(name, data)
        for name, data in signatures
        if name == origin and data[:KEY_ID_BYTES] == expected
    ]
    return text + "\n" + kept[0]
