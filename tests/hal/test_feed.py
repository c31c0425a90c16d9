from __future__ import annotations

import threading
import time

import pytest

from hal.camera import CameraError, Packet
from hal.feed import CaptureThread, Feed
from tests.hal.rig import Recorder

PACKET = Packet(b"\x00\x00\x00\x01\x65", key=True, pts_90k=0, t_boot_ns=0)


def test_camera_that_falls_silent_has_failed() -> None:
    seen = Recorder()
    feed = Feed(seen, "test camera", stall_s=0.2)
    feed.packet(PACKET)
    feed.watch()
    assert [str(error) for error in seen.errors] == ["test camera: stalled, no picture for 0.2 s"]
    assert seen.errors[0].hint


def test_camera_that_goes_on_has_not_stalled() -> None:
    seen = Recorder()
    feed = Feed(seen, "test camera", stall_s=0.3)
    watch = threading.Thread(target=feed.watch)
    feed.packet(PACKET)
    watch.start()
    ends_s = time.monotonic() + 0.7
    while not feed.closed.wait(0.05) and time.monotonic() < ends_s:
        feed.packet(PACKET)
    feed.close()
    watch.join()
    assert not seen.errors


def test_failure_comes_once_and_last() -> None:
    seen = Recorder()
    feed = Feed(seen, "test camera")
    feed.packet(PACKET)
    feed.fail(CameraError("first"))
    feed.fail(CameraError("second"))
    feed.packet(PACKET)
    assert [str(error) for error in seen.errors] == ["first"]
    assert len(seen.packets) == 1


def test_failure_before_the_first_packet_is_raised_by_start_and_not_told_twice() -> None:
    def capture(_: Feed) -> None:
        raise CameraError("not there", hint="plug it in")

    seen = Recorder()
    with pytest.raises(CameraError, match="not there"):
        CaptureThread("test camera", capture).start(seen)
    assert not seen.calls()


@pytest.mark.parametrize("error", [OSError(19, "No such device"), ValueError("bad data")])
def test_driver_error_becomes_a_camera_error_of_one_line(error: Exception) -> None:
    def capture(feed: Feed) -> None:
        feed.packet(PACKET)
        raise error

    seen = Recorder()
    CaptureThread("test camera", capture).start(seen)
    seen.wait(lambda seen: bool(seen.errors), "the failure")
    assert str(seen.errors[0]).startswith("test camera: ")


def test_capture_that_just_ends_has_failed() -> None:
    seen = Recorder()
    CaptureThread("test camera", lambda feed: feed.packet(PACKET)).start(seen)
    seen.wait(lambda seen: bool(seen.errors), "the failure")
    assert str(seen.errors[0]) == "test camera: ended by itself"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_mistake_in_a_driver_ends_the_run_and_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))

    def capture(feed: Feed) -> None:
        feed.packet(PACKET)
        raise ZeroDivisionError

    seen = Recorder()
    thread = CaptureThread("test camera", capture)
    thread.start(seen)
    seen.wait(lambda seen: bool(seen.errors), "the failure")
    thread.stop()
    assert "broke off" in str(seen.errors[0])
    assert isinstance(told[0], ZeroDivisionError)


def test_stop_waits_for_a_call_that_is_under_way() -> None:
    inside, go_on = threading.Event(), threading.Event()

    class SlowSink(Recorder):
        def packet(self, packet: Packet) -> None:
            inside.set()
            go_on.wait(5)
            super().packet(packet)

    seen = SlowSink()
    feed = Feed(seen, "test camera")
    giving = threading.Thread(target=feed.packet, args=(PACKET,))
    closing = threading.Thread(target=feed.close)
    giving.start()
    inside.wait(5)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    go_on.set()
    closing.join(5)
    assert len(seen.packets) == 1
    feed.packet(PACKET)
    giving.join(5)
    assert len(seen.packets) == 1
