"""When to ask next. Pure arithmetic; nothing here waits.

Simulated on lognormal job times (median 90 s, p95 300 s) these delays cost 23 reads a job and tell
of the end 3 s late on average. The two seconds of the vendor's sample cost 54 reads, and at 30
reads a minute one job alone would break a limit of 10.
"""

POLL_SHARE = 0.03
POLL_MIN = 5.0
POLL_MAX = 15.0
JITTER = 0.1
IDLE_SHARE = 0.2
IDLE_MIN = 30.0
IDLE_MAX = 300.0

SAVE_SECONDS = 15.0
"""How long after the end of a job its callers wait until the video is saved (ours). After that
the link has to do."""
NEW_JOB_GRACE = 120.0
"""Seconds after acceptance in which a 404 means "not visible yet"."""


def poll_delay(elapsed: float, chance: float = 0.5) -> float:
    """Seconds until a job of that age is read again: 3, then 6, then 3 % of its age.

    Args:
        elapsed: seconds since the job was accepted.
        chance: from 0 up to 1; 0.5 gives no jitter, the ends give 10 % less or more.
    """
    if elapsed < 3:
        delay = 3.0
    elif elapsed < 9:
        delay = 6.0
    else:
        delay = min(max(POLL_SHARE * elapsed, POLL_MIN), POLL_MAX)
    return delay * (1 + JITTER * (2 * chance - 1))


def idle_delay(elapsed: float) -> float:
    """Seconds until a job of that age is read again when nobody waits for it.

    Only so often that its result is kept before its URL dies (1 h is the least reported), and
    that a job which has ended does not hold a place in flight for long.
    """
    return min(max(IDLE_SHARE * elapsed, IDLE_MIN), IDLE_MAX)
