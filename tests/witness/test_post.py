"""net's one POST to a witness: bounded in every way, and it never raises for what the other side does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.errors import ProofError
from agent.ledger import submission
from agent.link import witness_post
from agent.link.witness_post import MAX_ANSWER_BYTES, post
from agent.serving import serving
from tests.support.processes import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def answering(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.route("*", "/{any:.*}", answer)])
    async with serving(app, host="127.0.0.1", port=0, tls=None) as address:
        yield f"http://127.0.0.1:{address[1]}/add-checkpoint"


async def test_answer_comes_back_as_it_is() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=409, body=await request.read())

    async with answering(answer) as url:
        found = await post(url, b"17\n")
    assert (found.status, found.body) == (409, b"17\n")


async def test_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with answering(answer) as url:
        assert (await post(url, b"")).status == 307
    assert asked == ["/add-checkpoint"]


async def test_answer_without_end_is_cut_off() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 1024)
        return response

    async with answering(answer) as url:
        found = await post(url, b"")
    assert found.status == 0
    assert str(MAX_ANSWER_BYTES) in found.why


async def test_nobody_and_somebody_who_never_answers_are_status_nought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (await post(f"http://127.0.0.1:{free_port()}/x", b"")).status == 0
    assert (await post("http://no-such-host.invalid/x", b"")).status == 0
    monkeypatch.setattr(witness_post, "TIMEOUT_S", 0.1)
    forever = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await forever.wait()
        return web.Response()

    async with answering(answer) as url:
        found = await post(url, b"")
    assert (found.status, found.why) == (0, "no answer in 0.1 s")


def test_submission_over_its_bound_is_not_even_read() -> None:
    with pytest.raises(ProofError, match="too large"):
        submission.parse(b"x" * (submission.MAX_BYTES + 1))
