from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.consent.view import Redaction, View
from agent.errors import Refused
from agent.media.share import SharePipeline
from agent.permit import Audience, Permit
from hal.camera import CameraInfo, Frame
from hal.clock import boot_ns
from hal.planes import i420_planes
from tests.support.pictures import FULL, LEFT_HALF, decoded, textured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.permit import Live
    from agent.seam import Unit

HOUR_NS = 3_600 * 10**9
INFO = CameraInfo(
    name="Test scene",
    uri="synthetic:",
    width=640,
    height=360,
    fps=30.0,
    lores_width=320,
    lores_height=180,
    codec="avc1.42c01f",
    can_force_idr=True,
    masks_before_encoder=True,
)
VIEW = View((LEFT_HALF,), frozenset(), 180, 30)


def permit(number: int, *, view: View = VIEW, ends_in_ns: int = HOUR_NS) -> Permit:
    return Permit(number, "s-1", "door", view, "Police · 1 · s-1", Audience.AGENCY, boot_ns() + ends_in_ns)


class Table:
    """Which permits are alive, as the gate would say it; counts how often it was asked."""

    def __init__(self, *alive: int) -> None:
        self.alive = set(alive)
        self.asked = 0

    def __call__(self, number: int) -> bool:
        self.asked += 1
        return number in self.alive


class Bench:
    """A pipeline with a camera that delivers whatever `feed` is told to, and all that came out."""

    def __init__(self, first: Permit, live: Live, *, info: CameraInfo = INFO) -> None:
        self.units: list[Unit] = []
        self.failures: list[tuple[tuple[int, ...], str]] = []
        self.changed = threading.Condition()
        self.t_boot_ns = 10**12
        self.pipeline = SharePipeline(
            first,
            info,
            live=live,
            wall_text=lambda _: "2026-11-24 21:14:05 UTC",
            deliver=self.deliver,
            failed=self.fail,
        )

    def deliver(self, unit: Unit) -> None:
        with self.changed:
            self.units.append(unit)
            self.changed.notify_all()

    def fail(self, numbers: tuple[int, ...], why: str) -> None:
        with self.changed:
            self.failures.append((numbers, why))
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 10)

    def frame(self, *, after_ns: int = 33_333_334, size: tuple[int, int] = (320, 180)) -> None:
        self.t_boot_ns += after_ns
        self.pipeline.frame(Frame(textured(*size, seed=self.t_boot_ns % 7), self.t_boot_ns))

    def feed(self, count: int) -> None:
        """Hand over ``count`` pictures, each after the one before has come out."""
        for _ in range(count):
            had = len(self.units)
            self.frame()
            self.wait(lambda had=had: len(self.units) > had)  # type: ignore[misc]


@contextmanager
def running(first: Permit, live: Live, *, info: CameraInfo = INFO) -> Iterator[Bench]:
    bench = Bench(first, live, info=info)
    try:
        yield bench
    finally:
        bench.pipeline.close()


def test_units_name_the_permit_start_with_an_idr_and_decode_to_mask_and_caption() -> None:
    with running(permit(7), Table(7)) as bench:
        bench.feed(5)
    assert [unit.key for unit in bench.units] == [True, False, False, False, False]
    assert {unit.permits for unit in bench.units} == {(7,)}
    assert all(one.pts_90k < two.pts_90k for one, two in zip(bench.units, bench.units[1:], strict=False))
    assert bench.units[-1].t_boot_ns == bench.t_boot_ns
    luma = i420_planes(decoded(unit.annexb for unit in bench.units)[-1]).y
    assert luma.shape == (180, 320)
    assert np.abs(luma[:130, 180:].astype(int) - 16).max() <= 2  # hidden half, away from edge and caption
    assert luma[:130, :150].std() > 12  # the scene
    assert (luma[140:] > 180).any()  # letters


def test_nothing_is_started_before_the_first_picture() -> None:
    before = threading.active_count()
    pipeline = Bench(permit(7), Table(7)).pipeline
    assert threading.active_count() == before
    pipeline.close()


def test_a_permit_whose_time_is_up_gets_no_further_unit_and_takes_the_pipeline_with_it() -> None:
    ending = permit(7, ends_in_ns=150_000_000)
    delivered_at: list[int] = []
    with running(ending, Table(7)) as bench:

        def deliver(unit: Unit) -> None:
            delivered_at.append(boot_ns())

        bench.pipeline._deliver = deliver
        deadline = time.monotonic() + 10
        while not bench.pipeline.ended and time.monotonic() < deadline:
            bench.frame()
        assert bench.pipeline.ended
        bench.frame()
    assert delivered_at
    # From the last look at the clock to here a busy machine may stop us, but not for a frame.
    assert delivered_at[-1] <= ending.ends_boot_ns + 33_000_000
    assert bench.failures == []


def test_a_permit_that_dies_inside_the_encoder_gets_nothing_of_that_picture() -> None:
    table = Table(7, 8)

    def live(number: int) -> bool:
        answer = table(number)
        if table.asked == 2:  # both were stamped; the picture is on its way through the encoder
            table.alive.discard(8)
        return answer

    with running(permit(7), live) as bench:
        bench.pipeline.add(permit(8))
        bench.feed(2)
    assert [unit.permits for unit in bench.units] == [(7,), (7,)]


def test_nothing_is_encoded_while_the_gate_says_no() -> None:
    with running(permit(7), Table()) as bench:
        bench.frame()
        bench.pipeline._thread.join(10)  # type: ignore[union-attr]
        assert bench.pipeline.ended
        assert bench.pipeline._encoder is None
    assert bench.units == []


@pytest.mark.parametrize("rounds", [60])
def test_after_remove_returns_no_unit_names_the_permit_however_busy_the_encoder(rounds: int) -> None:
    stay = 1
    wide = View((FULL,), frozenset(), 180, 1_000)
    info = replace(INFO, fps=1_000.0)
    table = Table(stay, *range(100, 100 + rounds))
    removed: set[int] = set()
    late: list[int] = []
    stop = threading.Event()

    with running(permit(stay, view=wide), table, info=info) as bench:
        keep = bench.deliver

        def deliver(unit: Unit) -> None:
            late.extend(number for number in unit.permits if number in removed)
            keep(unit)

        bench.pipeline._deliver = deliver

        def camera() -> None:
            while not stop.is_set():
                bench.frame(after_ns=1_000_001)

        thread = threading.Thread(target=camera)
        thread.start()
        try:
            for number in range(100, 100 + rounds):
                assert bench.pipeline.add(permit(number, view=wide))
                bench.wait(lambda number=number: any(number in unit.permits for unit in bench.units[-40:]))  # type: ignore[misc]
                bench.pipeline.remove(number)
                removed.add(number)
        finally:
            stop.set()
            thread.join(10)
    assert late == []


def test_remove_waits_for_a_delivery_that_is_under_way() -> None:
    inside, leave, gone = threading.Event(), threading.Event(), threading.Event()
    with running(permit(7), Table(7)) as bench:

        def deliver(unit: Unit) -> None:
            inside.set()
            assert leave.wait(10)
            assert not gone.is_set()

        bench.pipeline._deliver = deliver
        bench.frame()
        assert inside.wait(10)

        def remove() -> None:
            bench.pipeline.remove(7)
            gone.set()

        remover = threading.Thread(target=remove)
        remover.start()
        assert not gone.wait(0.05)
        leave.set()
        remover.join(10)
        assert gone.is_set()
        assert bench.pipeline.ended


def test_the_camera_thread_never_waits_for_a_busy_encoder() -> None:
    inside, leave = threading.Event(), threading.Event()
    with running(permit(7), Table(7)) as bench:

        def deliver(unit: Unit) -> None:
            inside.set()
            assert leave.wait(10)

        bench.pipeline._deliver = deliver
        bench.frame()
        assert inside.wait(10)
        for _ in range(50):
            bench.frame()  # returns, or the test hangs
        waiting = bench.pipeline._slot
        assert waiting is not None
        assert waiting[1] == bench.t_boot_ns  # the newest one; the others were dropped
        leave.set()


def test_a_new_permit_sees_nothing_older_than_itself_and_starts_with_an_idr() -> None:
    with running(permit(7), Table(7, 8)) as bench:
        bench.feed(10)
        assert bench.pipeline.add(permit(8))
        bench.feed(2)
    assert all(unit.permits == (7,) for unit in bench.units[:10])
    assert bench.units[10].permits == (7, 8)
    assert [unit.key for unit in bench.units[10:]] == [True, False]


def test_many_wishes_for_an_idr_become_one_each_quarter_second() -> None:
    with running(permit(7), Table(7)) as bench:
        for _ in range(24):  # 0.8 seconds
            bench.pipeline.request_idr()
            bench.feed(1)
    assert [number for number, unit in enumerate(bench.units) if unit.key] == [0, 8, 16]


def test_frame_rate_of_the_view_is_a_ceiling() -> None:
    slow = View((FULL,), frozenset(), 180, 10)
    with running(permit(7, view=slow), Table(7)) as bench:
        for _ in range(60):
            had = len(bench.units)
            bench.frame()
            if bench.pipeline._slot is not None:
                bench.wait(lambda had=had: len(bench.units) > had)  # type: ignore[misc]
        bench.pipeline.close()
    assert 18 <= len(bench.units) <= 20


def test_a_lower_bit_rate_makes_smaller_units_without_an_idr() -> None:
    with running(permit(7), Table(7)) as bench:
        bench.feed(28)
        bench.pipeline.set_bitrate(1)
        bench.feed(60)
    before = sum(len(unit.annexb) for unit in bench.units[10:28]) / 18
    after = sum(len(unit.annexb) for unit in bench.units[70:88]) / 18
    assert after < before / 1.5
    assert [number for number, unit in enumerate(bench.units) if unit.key] == [0, 30, 60]


def test_a_view_that_needs_redaction_is_refused_before_anything_runs() -> None:
    view = replace(VIEW, redaction=frozenset({Redaction.FACES}))
    with pytest.raises(Refused, match="cannot redact faces yet"):
        Bench(permit(7, view=view), Table(7))
    with pytest.raises(Refused, match="frame rate"):
        Bench(permit(7, view=replace(VIEW, max_fps=0)), Table(7))


def test_a_picture_that_cannot_be_masked_ends_all_permits_and_nothing_leaves() -> None:
    with running(permit(7), Table(7, 8)) as bench:
        bench.pipeline.add(permit(8))
        bench.frame(size=(320, 240))
        bench.wait(lambda: bool(bench.failures))
        assert bench.pipeline.ended
        assert not bench.pipeline.add(permit(9))
        bench.frame()
    assert bench.units == []
    ((numbers, why),) = bench.failures
    assert sorted(numbers) == [7, 8]
    assert "size of a picture" in why


def test_another_view_or_caption_does_not_join() -> None:
    with running(permit(7), Table(7)) as bench:
        wider = permit(8, view=View((FULL,), frozenset(), 180, 30))
        assert not bench.pipeline.fits(wider)
        assert not bench.pipeline.fits(replace(permit(8), caption="someone else"))
        assert bench.pipeline.fits(permit(8))
        with pytest.raises(RuntimeError, match="something else"):
            bench.pipeline.add(wider)
