"""What an owner takes out of the sealed archive is a video like any other."""

from __future__ import annotations

import itertools
import json
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web
from playwright.async_api import async_playwright

from tests.support.comparing import compare
from tests.support.processes import CLIP, CLIP_FPS, Said, done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

    from tests.e2e.conftest import Home
    from tests.support.processes import Device

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
PAGE = """<!doctype html><video id=v muted playsinline src=/export.mp4></video><script>
const video = document.getElementById('v');
const failed = new Promise((_, no) => video.onerror = () => no(new Error(video.error.message)));
const event = name => new Promise(done => video.addEventListener(name, done, {once: true}));
const ready = event('loadeddata');
async function load() {
  await Promise.race([ready, failed]);
  return {seconds: video.duration, size: [video.videoWidth, video.videoHeight]};
}
async function play(seconds) {
  const begun = video.currentTime;
  await video.play();
  while (video.currentTime < begun + seconds) await Promise.race([event('timeupdate'), failed]);
  video.pause();
  return video.currentTime - begun;
}
async function seek(seconds) {
  const sought = event('seeked');
  video.currentTime = seconds;
  await Promise.race([sought, failed]);
  return video.currentTime;
}
function luma() {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [64, 48];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(video, 0, 0, 64, 48);
  const {data} = context.getImageData(0, 0, 64, 48);
  return Array.from({length: 64 * 48}, (_, at) => data[4 * at + 1]);
}
</script>"""


@asynccontextmanager
async def browser_page(video: Path) -> AsyncIterator[Page]:
    """A page of a local server with this video in it."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def file(_: web.Request) -> web.FileResponse:
        return web.FileResponse(video, headers={"Content-Type": "video/mp4"})

    application = web.Application()
    application.add_routes([web.get("/", page), web.get("/export.mp4", file)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGS)
            tab = await browser.new_page()
            await tab.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            yield tab
            await browser.close()
    finally:
        await runner.cleanup()


def export(home: Home, out: Path) -> Said:
    return home.owner.run(
        *("archive", "export", "--camera", "front", "--from", "-20m", "--out", out, "--json")
    )


def probed(video: Path) -> dict[str, Any]:
    """What ffprobe counts, and the time stamp of every packet."""
    shown = subprocess.run(
        [
            *("ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-of", "json"),
            *("-show_entries", "stream=codec_name,width,height,nb_read_frames:packet=pts_time", video),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


async def test_export_of_a_sealed_stretch_plays_and_seeks_in_chromium(
    home: Home, device: Device, tmp_path: Path
) -> None:
    device.wait_for("closed segments", lambda: device.camera()["segments"] >= 2)
    out = tmp_path / "export.mp4"
    report = done(export(home, out)).json
    assert report["frames"] >= 2 * CLIP_FPS
    found = probed(out)
    (stream,) = found["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", 768, 576)
    assert int(stream["nb_read_frames"]) == report["frames"]
    times = [float(packet["pts_time"]) for packet in found["packets"]]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    outside = [step for step in steps if abs(step - 1 / CLIP_FPS) > 0.03]
    assert len(outside) <= report["gaps"], "no jump in the video but what the report names"
    assert compare(out, CLIP, None).inside >= 0.95
    async with browser_page(out) as page:
        loaded: dict[str, Any] = await page.evaluate("load()")
        assert loaded["size"] == [768, 576]
        assert abs(loaded["seconds"] - (times[-1] + 1 / CLIP_FPS)) < 0.2
        assert await page.evaluate("play(0.5)") >= 0.5
        begin: list[int] = await page.evaluate("luma()")
        assert max(begin) - min(begin) > 60, "not black, not flat"
        middle = loaded["seconds"] / 2
        assert abs(await page.evaluate(f"seek({middle})") - middle) < 0.01
        there: list[int] = await page.evaluate("luma()")
        assert max(there) - min(there) > 60
        assert there != begin


def test_export_never_writes_over_a_file_and_leaves_none_when_refused(
    home: Home, device: Device, tmp_path: Path
) -> None:
    out = tmp_path / "mine.mp4"
    out.write_bytes(b"mine")
    said = export(home, out)
    assert said.code == 1
    assert said.error.endswith("mine.mp4 exists already")
    assert out.read_bytes() == b"mine"
    said = home.owner.run(
        *("archive", "export", "--camera", "front", "--from", "2001-01-01", "--to", "2001-01-02"),
        *("--out", tmp_path / "other.mp4"),
    )
    assert said.code == 1
    assert said.error == "front: nothing was recorded then"
    assert [each.name for each in tmp_path.iterdir()] == ["mine.mp4"]
