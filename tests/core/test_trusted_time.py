"""Trusted time: an interval that holds the truth, or nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.consent.times import SECOND_NS, TimeQuality
from agent.trusted_time import DRIFT_PPM, HOLDOVER_NS, TrustedTime
from tests.support.device import BOOT, Clock
from tests.support.household import HOUR_NS, NOON


def offline() -> TrustedTime:
    return TrustedTime(lambda: None)


def anchored(time: TrustedTime, *, at: int = BOOT, said: int = NOON, waited_ns: int = 0) -> bool:
    return time.owner_said(said, issued_boot_ns=at - waited_ns, received_boot_ns=at)


def test_nothing_is_known_at_first() -> None:
    assert offline().now(BOOT) is None
    assert not offline().jumped(BOOT)


@given(
    error_ns=st.integers(-2 * SECOND_NS, 2 * SECOND_NS),
    waited_ns=st.integers(0, 120 * SECOND_NS),
    signed_share=st.floats(0, 1),
    later_ns=st.integers(0, HOLDOVER_NS),
    drift_ppm=st.integers(-DRIFT_PPM, DRIFT_PPM),
    fraction_ns=st.integers(0, SECOND_NS - 1),
)
def test_truth_lies_within_whatever_the_owners_clock_and_ours_do_within_bounds(
    error_ns: int, waited_ns: int, signed_share: float, later_ns: int, drift_ppm: int, fraction_ns: int
) -> None:
    time = offline()
    signing_truth = NOON + fraction_ns
    written = (signing_truth + error_ns) // SECOND_NS * SECOND_NS
    received_truth = signing_truth + round(waited_ns * (1 - signed_share))
    anchored(time, said=written, waited_ns=waited_ns)
    now = time.now(BOOT + later_ns)
    assert now is not None
    truth = received_truth + later_ns + later_ns * drift_ppm // 1_000_000
    assert now.earliest_ns <= truth <= now.latest_ns
    assert now.quality is TimeQuality.AUTHENTICATED


def test_anchor_holds_a_day_and_no_longer() -> None:
    time = offline()
    anchored(time)
    assert time.now(BOOT + HOLDOVER_NS) is not None
    assert time.now(BOOT + HOLDOVER_NS + 1) is None
    assert time.now(BOOT - 1) is None


def test_second_anchor_narrows_and_never_widens() -> None:
    time = offline()
    anchored(time, waited_ns=60 * SECOND_NS)
    before = time.now(BOOT)
    assert not anchored(time, said=NOON + SECOND_NS)
    after = time.now(BOOT)
    assert before is not None
    assert after is not None
    assert before.earliest_ns <= after.earliest_ns <= after.latest_ns <= before.latest_ns


def test_anchor_that_contradicts_the_last_is_a_jump() -> None:
    time = offline()
    anchored(time)
    assert anchored(time, said=NOON + HOUR_NS)
    now = time.now(BOOT)
    assert now is not None
    assert now.earliest_ns > NOON + HOUR_NS - 10 * SECOND_NS


def test_floor_keeps_time_from_running_backwards() -> None:
    time = TrustedTime(lambda: None, floors=lambda: (NOON + HOUR_NS, 0))
    anchored(time)
    assert time.now(BOOT) is None
    anchored(time, said=NOON + HOUR_NS)
    now = time.now(BOOT)
    assert now is not None
    assert now.earliest_ns == NOON + HOUR_NS


def test_network_time_is_plausible_and_owners_word_outranks_it() -> None:
    clock = Clock()
    time = TrustedTime(clock.plausible)
    now = time.now(BOOT)
    assert now is not None
    assert (now.quality, now.latest_ns - now.earliest_ns) == (TimeQuality.PLAUSIBLE, 2 * SECOND_NS)
    anchored(time, said=NOON + HOUR_NS)
    now = time.now(BOOT)
    assert now is not None
    assert now.quality is TimeQuality.AUTHENTICATED
    late = BOOT + HOLDOVER_NS + 1
    now = time.now(late)
    assert now is not None
    assert now.quality is TimeQuality.PLAUSIBLE


def test_first_boot_in_1970_knows_nothing_until_somebody_says() -> None:
    time = TrustedTime(lambda: (0, 0), floors=lambda: (0, NOON))
    assert time.now(BOOT) is None


def test_jump_is_noticed_once_and_steady_running_never() -> None:
    clock = Clock()
    time = TrustedTime(clock.plausible)
    for _ in range(10):
        assert not time.jumped(clock())
        clock.advance(3600)
    clock.wrong_ns = -HOUR_NS
    assert time.jumped(clock())
    assert not time.jumped(clock())
    clock.ntp = False
    assert not time.jumped(clock())
