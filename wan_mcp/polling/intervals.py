"""When a job is read again. Pure arithmetic; nothing here waits.

The delays were simulated on lognormal job times with a median of 90 s and a 95th percentile of
300 s. They cost 23 reads for each job, and the end of a job is noticed 3 s late on average. A read
every two seconds, as in PixelDojo's sample code, costs 54 reads; at 30 reads a minute one job alone
would break a limit of 10 requests a minute.
"""

POLL_SHARE = 0.03
"""The delay between two reads, as a share of the job's age."""
MIN_POLL_SECONDS = 5.0
MAX_POLL_SECONDS = 15.0
JITTER = 0.1
"""The largest random change of a delay, as a share of it."""
IDLE_SHARE = 0.2
"""The same as POLL_SHARE, for a job that nobody waits for."""
MIN_IDLE_SECONDS = 30.0
MAX_IDLE_SECONDS = 300.0

NEW_JOB_GRACE_SECONDS = 120.0
"""How long after acceptance a 404 means that the job is not visible yet (assumed)."""
SAVE_SECONDS = 15.0
"""How long after the end of a job its callers wait until the video is saved (ours). After that
they get only the link."""


def poll_delay(elapsed: float, chance: float = 0.5) -> float:
    """Seconds until a job is read again while somebody waits for it (ours).

    First 3 s, then 6 s, then 3 % of the job's age, but at least 5 s and at most 15 s.

    Args:
        elapsed: seconds since the job was accepted.
        chance: from 0 up to 1; 0.5 gives no jitter, the ends give 10 % less or more.
    """
    if elapsed < 3:
        delay = 3.0
    elif elapsed < 9:
        delay = 6.0
    else:
        delay = min(max(POLL_SHARE * elapsed, MIN_POLL_SECONDS), MAX_POLL_SECONDS)
    return delay * (1 + JITTER * (2 * chance - 1))


def idle_delay(elapsed: float) -> float:
    """Seconds until a job is read again when nobody waits for it, 30 to 300 (ours).

    That is often enough to save the video before its URL expires, which takes an hour at least
    (observed elsewhere), and to free the job's place among the jobs in flight soon after its end.

    Args:
        elapsed: seconds since the job was accepted.
    """
    return min(max(IDLE_SHARE * elapsed, MIN_IDLE_SECONDS), MAX_IDLE_SECONDS)
