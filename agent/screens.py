"""What is on show: the share pipelines and who they run for, and the light that says so.

One pipeline per distinct view of a camera, made with its first permit and gone with its last. Units leave
for net only on core's event loop, and only with permits that are alive at that very moment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.errors import Refused
from agent.media.share import SharePipeline
from agent.permit import Audience
from hal.camera import CameraError
from hal.indicator import IndicatorState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.cameras import CameraStation
    from agent.permit import Live, Permit
    from agent.seam import Unit
    from hal.indicator import Indicator

log = logging.getLogger(__name__)


class Screens:
    """Runs pipelines for permits. Called on core's event loop."""

    def __init__(
        self,
        stations: Mapping[str, CameraStation],
        indicator: Indicator,
        *,
        live: Live,
        wall_text: Callable[[int], str],
        send: Callable[[Unit], None],
        failed: Callable[[int], None],
    ) -> None:
        """``failed(number)`` is told of permits that ended because their picture could not be made."""
        self._stations = stations
        self._indicator = indicator
        self._live = live
        self._wall_text = wall_text
        self._send = send
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._shown: dict[int, tuple[Permit, SharePipeline]] = {}

    def show(self, permit: Permit) -> None:
        """Encode for ``permit`` from the next picture on.

        Raises:
            Refused: This board cannot show it: no such camera, no picture, no redaction, no light.
        """
        station = self._stations.get(permit.camera)
        info = station.info if station else None
        if station is None or info is None:
            raise Refused(f"camera {permit.camera}: no picture", reason="camera-away")
        self._light(permit)
        for _, pipeline in self._shown.values():
            if pipeline.fits(permit) and pipeline.add(permit):
                self._shown[permit.number] = (permit, pipeline)
                return
        pipeline = SharePipeline(
            permit,
            info,
            live=self._live,
            wall_text=self._wall_text,
            deliver=self._deliver,
            failed=self._broke,
        )
        self._shown[permit.number] = (permit, pipeline)
        station.watch(pipeline.frame)

    def hide(self, number: int) -> None:
        """Stop encoding for a permit: after the return no unit names it. Harmless if it is not shown."""
        shown = self._shown.pop(number, None)
        if shown is not None:
            permit, pipeline = shown
            pipeline.remove(number)
            if not any(other is pipeline for _, other in self._shown.values()):
                self._stations[permit.camera].unwatch(pipeline.frame)
        self._light(None)  # also if it never began: then the light was lit for nothing

    def request_idr(self, number: int) -> None:
        """A viewer needs a key frame."""
        if number in self._shown:
            self._shown[number][1].request_idr()

    def set_bitrate(self, number: int, bits_per_s: int) -> None:
        """A viewer can take this much."""
        if number in self._shown:
            self._shown[number][1].set_bitrate(bits_per_s)

    @property
    def encoders(self) -> int:
        """How many pipelines run."""
        return len({id(pipeline) for _, pipeline in self._shown.values()})

    def _light(self, beginning: Permit | None) -> None:
        """Light the indicator for who is watching, ``beginning`` included, before they see anything.

        Raises:
            Refused: It cannot be lit, so nobody may begin.
        """
        permits = [permit for permit, _ in self._shown.values()]
        if beginning is not None:
            permits.append(beginning)
        audiences = {permit.audience for permit in permits}
        state = IndicatorState.DARK
        if Audience.AGENCY in audiences:
            state = IndicatorState.AGENCY_VIEWING
        elif Audience.OWNER in audiences:
            state = IndicatorState.OWNER_VIEWING
        try:
            self._indicator.show(state)
        except CameraError as error:
            log.warning("indicator: %s", error)
            if beginning is not None:
                raise Refused(f"indicator: {error}", reason="media-failed") from error

    def _deliver(self, unit: Unit) -> None:
        """From an encoder's thread to the event loop."""
        self._loop.call_soon_threadsafe(self._leave, unit)

    def _leave(self, unit: Unit) -> None:
        permits = tuple(number for number in unit.permits if number in self._shown and self._live(number))
        if permits:
            self._send(unit.to(permits))

    def _broke(self, numbers: tuple[int, ...], why: str) -> None:
        """From an encoder's thread: its pipeline is gone, and with it these permits."""
        log.error("%s", why)
        for number in numbers:
            self._loop.call_soon_threadsafe(self._failed, number)
