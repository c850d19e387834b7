"""The spending limits as values, and the words in which a limit refuses a call."""

from datetime import UTC, datetime

import pytest

from wan_mcp.ledger.spending_limits import FreesAt, LimitReached, SpendingLimits


def test_default_limits() -> None:
    """200 credits a day, 3 jobs in flight, 6 requests a minute, and no limit per job."""
    assert SpendingLimits() == SpendingLimits(None, 200, 3, 6)


def test_limit_reached_says_that_nothing_was_charged() -> None:
    """A model must not take it for a failed payment."""
    refused = LimitReached("No.", setting="WAN_MCP_MAX_IN_FLIGHT", limit=3, used=3)

    assert (refused.code, refused.charged, refused.retry_safe) == ("limit_reached", "no", False)


def test_limit_reached_may_name_a_next_step_of_its_own() -> None:
    """For some limits, the caller can do something without the operator."""
    refused = LimitReached("No.", setting="X", limit=3, used=3, next_step="Look at the jobs.")

    assert (refused.next_step, refused.retry_safe) == ("Look at the jobs.", False)


NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "in 1 s"), (22.1, "in 23 s"), (120.0, "in 120 s"), (121.0, "at 2026-11-23 12:01 UTC")],
)
def test_time_at_which_a_limit_frees_is_never_too_early(seconds: float, words: str) -> None:
    """A call shortly before it would be refused again, in the same words."""
    assert str(FreesAt(seconds, NOON)) == f"There is room again {words}."


def test_limit_that_frees_soon_asks_for_the_same_call_again() -> None:
    """Nobody has to be asked about half a minute."""
    frees_at = FreesAt(23, NOON)
    refused = LimitReached("Too many.", setting="X", limit=6, used=6, frees_at=frees_at)

    assert refused.what == "Too many. There is room again in 23 s. The setting is X."
    assert (refused.retry_safe, refused.next_step) == (True, "Repeat the same call then.")


def test_limit_that_frees_much_later_is_reported_to_the_user() -> None:
    """The same call may succeed then; only the operator can make it possible sooner."""
    frees_at = FreesAt(50_000, NOON)
    refused = LimitReached("Too many.", setting="X", limit=200, used=200, frees_at=frees_at)

    assert (refused.retry_safe, refused.wait_seconds) == (False, 50_000)
    assert refused.next_step.startswith("Tell the user, and repeat the same call then.")
    assert refused.next_step.endswith("by raising X.")
