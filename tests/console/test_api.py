"""The remote door, spoken to as a stranger on the network would."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.console.api import MAX_BODY_BYTES, MAX_PER_PEER, SECURITY_HEADERS, application
from agent.console.outbox import MAX_AGE_S, MAX_BYTES, MAX_MESSAGES, Outbox
from agent.errors import IntegrityError, LedgerError, MalformedInput, Refused, TransientError, Unreachable
from tests.support.doors import AGENCY, STRANGER, Core, Door, door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.errors import DoorwardError

OCTETS = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def client(at: Door) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(at.url, connector=connector) as session:
        yield session


async def ask(session: aiohttp.ClientSession, method: str, path: str, **more: Any) -> tuple[int, bytes]:
    async with asyncio.timeout(10), session.request(method, path, **more) as response:
        return response.status, await response.read()


async def error_of(session: aiohttp.ClientSession, method: str, path: str, **more: Any) -> tuple[int, str]:
    status, body = await ask(session, method, path, **more)
    document = json.loads(body)
    assert set(document) == {"error", "hint", "exit_code"}
    assert document["exit_code"] in {1, 2, 3, 4}
    return status, document["error"]


@pytest.mark.parametrize(
    ("error", "status", "exit_code"),
    [
        (MalformedInput("token: short", hint="longer"), 400, 2),
        (Refused("shutter: closed", reason="shutter_closed"), 403, 1),
        (TransientError("core: away"), 503, 3),
        (Unreachable("core: away"), 503, 3),
        (IntegrityError("ledger: differs"), 500, 4),
        (LedgerError("ledger: not durable"), 500, 1),
    ],
)
async def test_errors_of_core_become_statuses_with_one_json_shape(
    tmp_path: Path, error: DoorwardError, status: int, exit_code: int
) -> None:
    async with door(tmp_path) as at, client(at) as session:
        at.core.error = error
        got, body = await ask(session, "POST", "/v0/act", data=b"{}", headers=JSON)
    assert got == status
    assert json.loads(body) == {"error": str(error), "hint": error.hint, "exit_code": exit_code}
    assert b"shutter_closed" not in body


async def test_every_answer_carries_the_security_headers_and_no_cors(tmp_path: Path) -> None:
    async with door(tmp_path) as at, client(at) as session:
        for method, path in (
            ("GET", "/v0/device"),
            ("GET", "/v0/openapi.json"),
            ("GET", "/"),
            ("GET", "/v0/status"),
            ("OPTIONS", "/v0/act"),
            ("PUT", "/v0/act"),
            ("POST", f"/v0/link/{AGENCY}"),
            ("GET", f"/v0/link/{AGENCY}/out"),
        ):
            headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
            async with session.request(method, path, headers=headers) as response:
                for name, value in SECURITY_HEADERS.items():
                    assert response.headers[name] == value
                assert "Server" not in response.headers
                assert "Set-Cookie" not in response.headers
                assert "Strict-Transport-Security" not in response.headers
                assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_unknown_routes_and_methods_are_json_errors(tmp_path: Path) -> None:
    async with door(tmp_path) as at, client(at) as session:
        assert await error_of(session, "GET", "/v0/nothing") == (404, "not found")
        assert await error_of(session, "GET", "/v0/act") == (405, "method not allowed")
        for name in ("a0", "A0" * 16, "a0" * 17, "..%2f" + "a0" * 14):
            assert (await error_of(session, "POST", f"/v0/link/{name}", headers=OCTETS))[0] == 404
        assert at.core.operations == []


async def test_bodies_of_another_type_are_refused_before_core_sees_them(tmp_path: Path) -> None:
    # What a page from elsewhere can make a browser send without asking first.
    simple = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
    async with door(tmp_path) as at, client(at) as session:
        for path in ("/v0/pair", "/v0/act", "/v0/read", "/v0/challenge", f"/v0/link/{AGENCY}"):
            for content_type in simple:
                headers = {"Content-Type": content_type}
                status, _ = await error_of(session, "POST", path, data=b"{}", headers=headers)
                assert status == 415
        assert (at.core.operations, at.core.submitted) == ([], [])


async def test_the_largest_body_passes_and_one_byte_more_is_413_declared_or_not(tmp_path: Path) -> None:
    async def chunked(size: int) -> AsyncIterator[bytes]:
        for begin in range(0, size, 65536):
            yield bytes(min(65536, size - begin))

    async with door(tmp_path) as at, client(at) as session:
        for path in ("/v0/pair", f"/v0/link/{AGENCY}", f"/v0/link/{STRANGER}"):
            fits = await ask(session, "POST", path, data=bytes(MAX_BODY_BYTES), headers=OCTETS)
            assert fits[0] in {200, 202}
            for body in (bytes(MAX_BODY_BYTES + 1), chunked(MAX_BODY_BYTES + 1)):
                status, _ = await error_of(session, "POST", path, data=body, headers=OCTETS)
                assert status == 413
        assert [len(blob) for _, _, blob in at.core.operations] == [MAX_BODY_BYTES]
        assert [len(sealed) for _, sealed in at.core.submitted] == [MAX_BODY_BYTES]


async def test_a_compressed_body_is_never_unpacked(tmp_path: Path) -> None:
    async with door(tmp_path) as at, client(at) as session:
        headers = {**OCTETS, "Content-Encoding": "gzip"}
        await ask(session, "POST", "/v0/pair", data=b"not gzip at all", headers=headers)
        assert at.core.operations == [("pair", {}, b"not gzip at all")]


@pytest.mark.parametrize("body", [b"[]", b'{"a":1,"a":2}', b'{"a":1.5}', b"{", b"\xff", b'{"a":' * 20])
async def test_a_challenge_with_arguments_that_are_no_strict_json_is_400(tmp_path: Path, body: bytes) -> None:
    async with door(tmp_path) as at, client(at) as session:
        status, _ = await error_of(session, "POST", "/v0/challenge", data=body, headers=JSON)
    assert status == 400
    assert at.core.operations == []


async def test_status_needs_a_handle_and_hands_it_over_unread(tmp_path: Path) -> None:
    async with door(tmp_path) as at, client(at) as session:
        for value in (None, "", "abc", "Basic abc", "Bearer ", "Bearer a b", "bearer abc", "Bearer \u00e9"):
            headers = {} if value is None else {"Authorization": value}
            assert (await error_of(session, "GET", "/v0/status", headers=headers))[0] == 401
        # A handle elsewhere than in the header (a link somebody clicks) is none.
        assert (await error_of(session, "GET", "/v0/status?handle=abc"))[0] == 401
        assert at.core.operations == []
        await ask(session, "GET", "/v0/status", headers={"Authorization": "Bearer abc"})
        assert at.core.operations == [("status", {"handle": "abc"}, b"")]


async def test_one_peer_cannot_hold_more_than_its_places(tmp_path: Path) -> None:
    async with door(tmp_path) as at, client(at) as session:
        at.core.hold = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(ask(session, "GET", "/v0/device")) for _ in range(MAX_PER_PEER)]
            async with asyncio.timeout(10):
                while len(at.core.operations) < MAX_PER_PEER:
                    await asyncio.sleep(0.005)
            status, text = await error_of(session, "GET", "/v0/openapi.json")
            assert (status, text) == (429, "too many requests")
            at.core.hold.set()
        assert {task.result()[0] for task in held} == {200}
        assert (await ask(session, "GET", "/v0/openapi.json"))[0] == 200


async def test_a_peer_that_hangs_up_gives_its_place_back(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        at.core.hold = asyncio.Event()
        for _ in range(2):
            async with client(at) as session, asyncio.TaskGroup() as group:
                begun = len(at.core.operations)
                waiting = [group.create_task(ask(session, "GET", "/v0/device")) for _ in range(MAX_PER_PEER)]
                async with asyncio.timeout(10):
                    while len(at.core.operations) < begun + MAX_PER_PEER:
                        await asyncio.sleep(0.005)
                for task in waiting:
                    task.cancel()
        at.core.hold.set()
        async with client(at) as session, asyncio.timeout(10):
            while (await ask(session, "GET", "/v0/device"))[0] == 429:
                await asyncio.sleep(0.005)


async def test_known_and_unknown_agencies_look_alike_when_core_says_nothing(tmp_path: Path) -> None:
    async with door(tmp_path) as at, client(at) as session:
        at.outbox.put(STRANGER, b"never given out")
        at.core.error = MalformedInput("sealed message: does not open")
        answers = []
        for agency in (AGENCY, STRANGER):
            async with session.post(f"/v0/link/{agency}", data=b"garbage", headers=OCTETS) as response:
                sent = response.status, await response.read(), sorted(response.headers)
            async with session.get(f"/v0/link/{agency}/out?after=0&wait=0") as response:
                fetched = response.status, await response.read(), sorted(response.headers)
            answers.append((sent, fetched))
        assert answers[0] == answers[1]
        assert answers[0][0][:2] == (202, b"")
        assert answers[0][1][:2] == (202, b"")
        assert at.core.submitted == [(AGENCY, b"garbage")]


async def test_long_poll_waits_for_the_message_and_numbers_go_on(tmp_path: Path) -> None:
    path = f"/v0/link/{AGENCY}/out"
    async with door(tmp_path) as at, client(at) as session:
        assert await ask(session, "GET", path) == (202, b"")
        async with asyncio.TaskGroup() as group:
            poll = group.create_task(ask(session, "GET", f"{path}?after=0&wait=25"))
            await asyncio.sleep(0.05)
            assert not poll.done()
            first = at.outbox.put(AGENCY, b"\x00one")
        assert poll.result()[0] == 200
        entry = {"n": first, "sealed": base64.b64encode(b"\x00one").decode()}
        assert json.loads(poll.result()[1]) == {"messages": [entry]}
        assert await ask(session, "GET", f"{path}?after={first}") == (202, b"")
        second = at.outbox.put(AGENCY, b"two")
        assert second == first + 1
        # Fetching takes nothing away: a stranger who fetches cannot delete.
        numbers = [one["n"] for one in json.loads((await ask(session, "GET", path))[1])["messages"]]
        assert numbers == [first, second]
        # A number of an earlier run, beyond ours: everything is news.
        body = (await ask(session, "GET", f"{path}?after={2**52}"))[1]
        assert [one["n"] for one in json.loads(body)["messages"]] == [first, second]


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=01",
        "after=1&after=2",
        f"after={2**53}",
        "wait=26",
        "wait=1e1",
        "wait=\u0663",
    ],
)
async def test_poll_numbers_out_of_bounds_are_400(tmp_path: Path, query: str) -> None:
    async with door(tmp_path) as at, client(at) as session:
        status, _ = await error_of(session, "GET", f"/v0/link/{AGENCY}/out?{query}")
    assert status == 400


async def test_stopping_the_server_ends_long_polls_at_once(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        async with door(tmp_path) as at:
            poll = group.create_task(one_poll(at))
            await asyncio.sleep(0.1)
            begun = loop.time()
        assert loop.time() - begun < 1
    assert poll.result() == 202


async def one_poll(at: Door) -> int:
    async with client(at) as session:
        return (await ask(session, "GET", f"/v0/link/{AGENCY}/out?wait=25"))[0]


async def test_outbox_keeps_the_newest_within_its_bounds_and_forgets_the_old() -> None:
    now = [1000.0]
    outbox = Outbox(now=lambda: now[0])
    numbers = [outbox.put(AGENCY, b"x") for _ in range(MAX_MESSAGES + 6)]
    found = await outbox.after(AGENCY, 0, 0)
    assert [message.number for message in found] == numbers[-MAX_MESSAGES:]
    quarter = bytes(MAX_BYTES // 4)
    large = [outbox.put(AGENCY, quarter) for _ in range(6)]
    assert [message.number for message in await outbox.after(AGENCY, 0, 0)] == large[-4:]
    now[0] += MAX_AGE_S / 2
    last = outbox.put(AGENCY, b"later")
    now[0] += MAX_AGE_S / 2
    assert [message.number for message in await outbox.after(AGENCY, 0, 0)] == [last]
    outbox.put(STRANGER, b"y")
    outbox.keep([STRANGER])
    assert await outbox.after(AGENCY, 0, 0) == []
    assert len(await outbox.after(STRANGER, 0, 0)) == 1


async def test_the_description_is_true_to_the_routes(tmp_path: Path) -> None:
    core = Core()
    app = application(operations=core.operate, submit=core.submit, agencies=frozenset, outbox=Outbox())
    routes = {
        (route.resource.canonical, route.method.lower()) for route in app.router.routes() if route.resource
    }
    async with door(tmp_path) as at, client(at) as session:
        document = json.loads((await ask(session, "GET", "/v0/openapi.json"))[1])
        described = {(path, method) for path, item in document["paths"].items() for method in item}
        assert described == routes
        for path, item in document["paths"].items():
            for method, operation in item.items():
                status, _ = await ask(
                    session,
                    method,
                    path.replace("{agency}", AGENCY).replace("{name}", "status"),
                    headers=OCTETS,
                )
                assert str(status) in operation["responses"], (path, status)
                names = [one["name"] for one in operation.get("parameters", [])]
                assert ("agency" in names) == ("{agency}" in path)
    identifiers = [
        operation["operationId"] for item in document["paths"].values() for operation in item.values()
    ]
    assert len(set(identifiers)) == len(identifiers)
    for reference in references(document):
        assert reference.startswith("#/")
        part: Any = document
        for step in reference[2:].split("/"):
            part = part[step]


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [one for item in value.values() for one in references(item)]
    if isinstance(value, list):
        return [one for item in value for one in references(item)]
    return []
