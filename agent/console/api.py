"""The HTTPS API: the second door to core's operations, and the device's end of the local link.

===========================  ==========================================  ===================================
route                        body                                        answer
===========================  ==========================================  ===================================
GET /v0/device                                                           description, signed by the device
POST /v0/challenge           JSON arguments                              a fresh challenge
POST /v0/pair                sealed bytes                                result
POST /v0/act                 DSSE envelope                               result
POST /v0/read                DSSE envelope (a signed read)               result, a handle among it, or bytes
POST /v0/session             DSSE envelope (an act, no documents)        result with a handle
POST /v0/operations/<name>   JSON arguments (Authorization as below)     result, or bytes
GET /v0/status               (Authorization: Bearer <handle>)            result
POST /v0/link/<agency>       sealed bytes                                200 sealed reply, 202 nothing
GET /v0/link/<agency>/out    (?after=<number>&wait=<seconds>)            200 messages, 202 nothing
GET /v0/openapi.json                                                     `agent.console.openapi`
===========================  ==========================================  ===================================

A result is JSON; with bytes it is a 4-byte big-endian length, the JSON, then the bytes. Errors are JSON
``{"error", "hint", "exit_code"}`` with status 400 (malformed), 401 (no handle), 403 (refused), 408, 413, 415,
429 (too many at once), 503 (core is away, or not now) or 500 (storage, integrity).

What it refuses by itself: bodies over 256 KiB or slower than 10 s, more than 64 requests at once or 16 from
one address, POSTs with another content type than the route's. That last one is no pedantry: a page from
elsewhere can make a browser send other types without asking, and would burn tries of the pairing code.
There is no CORS answer at all, no cookie, and no Strict-Transport-Security, since that forbids to click
through.

On the link routes an agency that is not in the charter gets what a silent device gives: 202 and nothing,
after the same wait. (Milliseconds may still tell; who can measure them stands in the home's network.)
"""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from agent.consent import strict_json
from agent.console.openapi import DOCUMENT
from agent.errors import DoorwardError, MalformedInput, Refused, TransientError
from agent.link.transport import MAX_SEALED_BYTES

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from agent.console.outbox import Outbox
    from agent.link.transport import Submit

Operations = Callable[[str, dict[str, object], bytes], Awaitable[tuple[dict[str, object], bytes]]]
"""``await operations(name, args, blob)``: core's result and bytes; raises what core raises."""

MAX_BODY_BYTES: Final = MAX_SEALED_BYTES
MAX_AT_ONCE: Final = 64
MAX_PER_PEER: Final = 16
MAX_WAIT_S: Final = 25
_BODY_S: Final = 10.0
_OPERATION_S: Final = 30.0
_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
RESULT_TYPE: Final = "application/vnd.doorward.result"
_LENGTH: Final = struct.Struct(">I")
_BEARER: Final = re.compile(r"Bearer ([A-Za-z0-9._~+/=:-]{1,4096})")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_AGENCY: Final = "{agency:[0-9a-f]{32}}"

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def application(
    *, operations: Operations, submit: Submit, agencies: Callable[[], Container[str]], outbox: Outbox
) -> web.Application:
    """The application for `agent.serving.serving`.

    ``agencies()`` says which agencies the charter names now; ``outbox`` holds what core has to say to them.
    """
    api = _Api(operations, submit, agencies, outbox)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[api.guard])
    app.on_response_prepare.append(_harden)
    app.on_shutdown.append(api.release)
    app.add_routes(
        [
            web.get("/v0/device", api.device, allow_head=False),
            web.post("/v0/challenge", api.challenge),
            web.post("/v0/pair", api.pair),
            web.post("/v0/act", api.act),
            web.post("/v0/read", api.read),
            web.post("/v0/session", api.session),
            web.get("/v0/status", api.status, allow_head=False),
            web.post("/v0/operations/{name:[a-z-]{1,32}}", api.operation),
            web.post(f"/v0/link/{_AGENCY}", api.link_in),
            web.get(f"/v0/link/{_AGENCY}/out", api.link_out, allow_head=False),
            web.get("/v0/openapi.json", api.openapi, allow_head=False),
        ]
    )
    return app


class _Api:
    def __init__(
        self,
        operations: Operations,
        submit: Submit,
        agencies: Callable[[], Container[str]],
        outbox: Outbox,
    ) -> None:
        self._operations = operations
        self._submit = submit
        self._agencies = agencies
        self._outbox = outbox
        self._at_once: Counter[str] = Counter()

    async def release(self, _app: web.Application) -> None:
        """The server stops: long polls end now."""
        self._outbox.close()

    @web.middleware
    async def guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Bound what one peer and all together may have open, and turn errors into answers."""
        try:
            with self._place(request.remote or ""):
                return await handler(request)
        except web.HTTPException as error:
            # aiohttp's own: no such route, method not allowed, body too large.
            answer = _failure(error.status, error.reason.lower(), None, MalformedInput.exit_code)
            if hdrs.ALLOW in error.headers:
                answer.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return answer
        except DoorwardError as error:
            return _failure(_status(error), str(error), error.hint, error.exit_code)

    @contextmanager
    def _place(self, peer: str) -> Iterator[None]:
        if self._at_once.total() >= MAX_AT_ONCE or self._at_once[peer] >= MAX_PER_PEER:
            raise web.HTTPTooManyRequests
        self._at_once[peer] += 1
        try:
            yield
        finally:
            self._at_once[peer] -= 1
            if not self._at_once[peer]:
                del self._at_once[peer]

    async def device(self, _request: web.Request) -> web.Response:
        """GET /v0/device."""
        return await self._operate("device", {}, b"")

    async def challenge(self, request: web.Request) -> web.Response:
        """POST /v0/challenge."""
        body = await _body(request, _JSON)
        args = strict_json.loads(body) if body else {}
        if not isinstance(args, dict):
            raise MalformedInput("challenge: body is no object")
        return await self._operate("challenge", args, b"")

    async def pair(self, request: web.Request) -> web.Response:
        """POST /v0/pair."""
        return await self._operate("pair", {}, await _body(request, _OCTETS))

    async def act(self, request: web.Request) -> web.Response:
        """POST /v0/act."""
        return await self._operate("act", {}, await _body(request, _JSON))

    async def read(self, request: web.Request) -> web.Response:
        """POST /v0/read."""
        return await self._operate("read", {}, await _body(request, _JSON))

    async def session(self, request: web.Request) -> web.Response:
        """POST /v0/session."""
        return await self._operate("session", {}, await _body(request, _JSON))

    async def status(self, request: web.Request) -> web.Response:
        """GET /v0/status."""
        handle = _bearer(request)
        if handle is None:
            return _needs_handle("status")
        return await self._operate("status", {"handle": handle}, b"")

    async def operation(self, request: web.Request) -> web.Response:
        """POST /v0/operations/<name>: what an owner may read. Whether the name is one, core says."""
        handle = _bearer(request)
        if handle is None:
            return _needs_handle("operations")
        args = strict_json.loads(await _body(request, _JSON))
        if not isinstance(args, dict):
            raise MalformedInput("operation: arguments are no object")
        name = request.match_info["name"]
        return await self._operate(name, {**args, "handle": handle}, b"")

    async def openapi(self, _request: web.Request) -> web.Response:
        """GET /v0/openapi.json."""
        return _json(DOCUMENT)

    async def _operate(self, name: str, args: dict[str, object], blob: bytes) -> web.Response:
        try:
            async with asyncio.timeout(_OPERATION_S):
                result, data = await self._operations(name, args, blob)
        except TimeoutError as error:
            raise TransientError(f"{name}: no answer from the core in {_OPERATION_S:g} s") from error
        if not data:
            return _json(result)
        header = strict_json.dumps(result)
        return web.Response(body=_LENGTH.pack(len(header)) + header + data, content_type=RESULT_TYPE)

    async def link_in(self, request: web.Request) -> web.Response:
        """POST /v0/link/<agency>."""
        sealed = await _body(request, _OCTETS)
        agency = request.match_info["agency"]
        reply: bytes | None = None
        if sealed and agency in self._agencies():
            try:
                async with asyncio.timeout(_OPERATION_S):
                    reply = await self._submit(agency, sealed)
            except TimeoutError as error:
                raise TransientError(f"link: no answer from the core in {_OPERATION_S:g} s") from error
            except TransientError:
                raise
            except DoorwardError:
                reply = None  # What core will not have is met with silence, as from a stranger.
        if reply is None:
            return web.Response(status=202)
        return web.Response(body=reply, content_type=_OCTETS)

    async def link_out(self, request: web.Request) -> web.Response:
        """GET /v0/link/<agency>/out."""
        after = _number(request, "after", 2**53 - 1)
        wait_s = _number(request, "wait", MAX_WAIT_S)
        agency = request.match_info["agency"]
        messages = await self._outbox.after(agency, after, wait_s)
        if not messages or agency not in self._agencies():
            return web.Response(status=202)
        return _json(
            {
                "messages": [
                    {"n": message.number, "sealed": base64.b64encode(message.sealed).decode("ascii")}
                    for message in messages
                ]
            }
        )


def _bearer(request: web.Request) -> str | None:
    found = _BEARER.fullmatch(request.headers.get(hdrs.AUTHORIZATION, ""))
    return found[1] if found else None


def _needs_handle(what: str) -> web.Response:
    answer = _failure(401, f"{what}: needs a handle", "sign a session first", Refused.exit_code)
    answer.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return answer


async def _body(request: web.Request, content_type: str) -> bytes:
    if request.content_type != content_type:
        raise web.HTTPUnsupportedMediaType
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES)
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error


def _number(request: web.Request, name: str, most: int) -> int:
    values = request.query.getall(name, ["0"])
    if len(values) != 1 or not _NUMBER.fullmatch(values[0]) or int(values[0]) > most:
        raise MalformedInput(f"{name}: got {values[0][:40]!r}, expected one number up to {most}")
    return int(values[0])


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(body=strict_json.dumps(document), status=status, content_type=_JSON)


def _failure(status: int, text: str, hint: str | None, exit_code: int) -> web.Response:
    answer = _json({"error": text, "hint": hint, "exit_code": exit_code}, status)
    if status in {429, 503}:
        answer.headers[hdrs.RETRY_AFTER] = "1"
    return answer


def _status(error: DoorwardError) -> int:
    if isinstance(error, MalformedInput):
        return 400
    if isinstance(error, Refused):
        return 403
    return 503 if isinstance(error, TransientError) else 500


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)
    response.headers.popall(hdrs.SERVER, None)
