"""A real browser receives what the share pipeline masked and encoded once, and stops when told to."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web
from playwright.async_api import async_playwright

from agent.consent.view import View
from agent.media.share import SharePipeline
from agent.permit import Audience, Permit
from agent.seam import MessageKind, Unit
from hal.camera import CameraInfo, Frame
from hal.clock import boot_ns
from tests.support.pictures import LEFT_HALF, textured
from tests.support.streams import HOUR_NS, Core, device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
]

PAGE = """<!doctype html><video id=v muted playsinline></video><script>
const video = document.getElementById('v');
window.frames_shown = 0;
async function start() {
  const pc = window.pc = new RTCPeerConnection({iceServers: []});
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.ontrack = event => { video.srcObject = new MediaStream([event.track]); video.play(); };
  await pc.setLocalDescription();
  await new Promise(done => {
    if (pc.iceGatheringState === 'complete') done();
    pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done();
  });
  const started = performance.now();
  const first = new Promise(done => {
    const shown = () => {
      if (++window.frames_shown === 1) done(performance.now() - started);
      video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
  });
  const reply = await fetch('/offer', {method: 'POST', body: pc.localDescription.sdp});
  await pc.setRemoteDescription({type: 'answer', sdp: await reply.text()});
  return await first;
}
async function stats() {
  for (const report of (await window.pc.getStats()).values())
    if (report.type === 'inbound-rtp') return {
      decoded: report.framesDecoded, dropped: report.framesDropped, lost: report.packetsLost,
      packets: report.packetsReceived, decoder: report.decoderImplementation};
}
function luma() {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  const side = (from, to) => {
    const values = [];
    for (let y = 0; y < canvas.height * 0.8; y += 4)
      for (let x = Math.floor(from * canvas.width); x < to * canvas.width; x += 4)
        values.push(data[4 * (y * canvas.width + x) + 1]);
    return {min: Math.min(...values), max: Math.max(...values)};
  };
  return {size: [canvas.width, canvas.height], left: side(0.02, 0.46), right: side(0.54, 0.98)};
}
</script>"""

INFO = CameraInfo(
    name="Test scene",
    uri="synthetic:",
    width=640,
    height=360,
    fps=30.0,
    lores_width=640,
    lores_height=360,
    codec="avc1.42c01f",
    can_force_idr=True,
    masks_before_encoder=True,
)
VIEW = View((LEFT_HALF,), frozenset(), 360, 30)


class Camera:
    """Feeds a share pipeline from a thread and its units into the sessions, as core and the seam do."""

    def __init__(self, core: Core, permit: Permit) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._stop = threading.Event()
        self.pipeline = SharePipeline(
            permit,
            INFO,
            live=lambda number: number == permit.number and not self._stop.is_set(),
            wall_text=lambda _: "time unknown",
            deliver=self._deliver,
            failed=lambda *_: None,
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _deliver(self, unit: Unit) -> None:
        self._loop.call_soon_threadsafe(self._core.sessions.handle, unit.to_message())

    def _run(self) -> None:
        pictures = [textured(640, 360, seed=seed) for seed in range(3)]
        number = 0
        while not self._stop.wait(1 / 30):
            if self._core.idr_wanted:
                self._core.idr_wanted = False
                self.pipeline.request_idr()
            number += 1
            self.pipeline.frame(Frame(pictures[number // 15 % 3], boot_ns()))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.pipeline.close()


@asynccontextmanager
async def page_for(core: Core) -> AsyncIterator[Page]:
    """A page of a local server whose offers are opened as permits 5, 6 and so on."""
    numbers = iter(range(5, 100))

    async def offer(request: web.Request) -> web.Response:
        permit = next(numbers)
        core.open(permit, await request.read())
        return web.Response(body=(await core.wait(MessageKind.ANSWER, permit)).blob)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    application = web.Application()
    application.add_routes([web.get("/", page), web.post("/offer", offer)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGS)
            tab = await browser.new_page()
            await tab.goto(f"http://127.0.0.1:{port}/")
            yield tab
            await browser.close()
    finally:
        await runner.cleanup()


async def test_chromium_decodes_the_agreed_half_and_stops_when_the_permit_is_closed() -> None:
    async with device() as core, page_for(core) as page:
        permit = Permit(5, "s-1", "door", VIEW, "Police · 1 · s-1", Audience.AGENCY, boot_ns() + HOUR_NS)
        camera = Camera(core, permit)
        try:
            first_ms: float = await page.evaluate("start()")
            await page.wait_for_function("window.frames_shown >= 45", timeout=10_000)
            stats: dict[str, Any] = await page.evaluate("stats()")
            shown: dict[str, Any] = await page.evaluate("luma()")
            core.close(5)
            assert core.of(MessageKind.CLOSED, 5)
            await page.wait_for_function("pc.getReceivers()[0].transport.state === 'closed'", timeout=5_000)
            frames = core.of(MessageKind.CLOSED, 5)[0].integer("frames")
            after: dict[str, Any] = await page.evaluate("stats()")
        finally:
            camera.close()

    assert first_ms < 2_000  # a stall, not a benchmark: an mDNS wait alone is a second
    assert stats["decoded"] >= 45
    assert stats["lost"] == 0
    assert shown["size"] == [640, 360]
    assert shown["right"]["max"] - shown["right"]["min"] <= 2
    assert shown["left"]["max"] - shown["left"]["min"] > 60
    assert after["decoded"] <= frames
