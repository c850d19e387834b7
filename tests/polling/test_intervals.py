"""When a job is read again, and when a failed attempt is repeated."""

import math
from statistics import NormalDist, mean

from hypothesis import given, settings
from hypothesis import strategies as st

from wan_mcp.clock import retry_delay
from wan_mcp.polling.intervals import MAX_POLL_SECONDS, MIN_POLL_SECONDS, poll_delay

without_deadline = settings(deadline=None)  # a slow machine must not fail the test

CHANCE = st.floats(0, 1, exclude_max=True)
ROUND_TRIP_SECONDS = 0.2


def polls(job_seconds: float, *, chance: float = 0.5) -> list[float]:
    """When a job of that duration is read, up to the read that shows its end."""
    moments = [0.0]
    while moments[-1] < job_seconds or len(moments) == 1:
        moments.append(moments[-1] + ROUND_TRIP_SECONDS + poll_delay(moments[-1], chance))
    return moments[1:]


def test_the_first_reads_come_after_three_and_six_seconds() -> None:
    """A short job should not wait as long as a long one (ours)."""
    assert [poll_delay(age) for age in (0, 2.9, 3, 8.9)] == [3, 3, 6, 6]


def test_the_delay_between_later_reads_grows_with_the_age_of_the_job() -> None:
    """It is 3 % of the age, from 5 to 15 s: after 10 minutes 15 s more do not matter (ours)."""
    assert [poll_delay(age) for age in (9, 166, 200, 400, 500, 86_400)] == [5, 5, 6, 12, 15, 15]


@without_deadline
@given(age=st.floats(0, 1e9), chance=CHANCE)
def test_jitter_changes_a_delay_by_a_tenth_at_most(age: float, chance: float) -> None:
    """It keeps many pollers apart, and the number of reads the same (ours)."""
    plain, delay = poll_delay(age), poll_delay(age, chance)

    assert 0.9 * plain <= delay <= 1.1 * plain
    assert 0.9 * 3 <= delay <= 1.1 * MAX_POLL_SECONDS
    assert age < 9 or delay >= 0.9 * MIN_POLL_SECONDS


def test_a_job_costs_as_many_reads_as_the_simulation_says() -> None:
    """About 23 reads, and its end is noticed 3 s late, on lognormal job times (ours)."""
    spread = math.log(300 / 90) / NormalDist().inv_cdf(0.95)
    jobs = [90 * math.exp(spread * NormalDist().inv_cdf((i + 0.5) / 500)) for i in range(500)]
    reads = [polls(seconds) for seconds in jobs]
    delays = sorted(moments[-1] - seconds for moments, seconds in zip(reads, jobs, strict=True))

    assert 20 < mean(len(moments) for moments in reads) < 25
    assert 2.5 < mean(delays) < 3.5
    assert delays[475] < 6.5


def test_one_job_stays_under_the_lowest_documented_rate_limit() -> None:
    """The limit is 10 requests a minute (documented); a job leaves room below it (ours)."""
    moments = polls(900)

    for start in range(60, 900):
        assert len([moment for moment in moments if start <= moment < start + 60]) <= 12
    assert len([moment for moment in moments if 400 <= moment < 460]) <= 5


@without_deadline
@given(attempt=st.integers(1, 50), chance=CHANCE)
def test_a_retry_waits_with_full_jitter_under_a_doubling_bound(attempt: int, chance: float) -> None:
    """Full jitter keeps many processes apart best; the bound stays at 8 s (ours)."""
    delay = retry_delay(attempt, chance)

    assert 0 <= delay <= 8
    assert delay == chance * [1, 2, 4, 8][min(attempt, 4) - 1]
