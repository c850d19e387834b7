"""Which limits count for a user of a team. No database is asked."""

from dataclasses import replace

from wan_mcp.app.quotas import quotas_of
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.tenants.limits import NONE, Kind, Limits
from wan_mcp.tenants.seat import Seat

OPERATOR = SpendingLimits(2, 200, 3, 6, read_only=True, queued=20)
WORKSPACE = "w/ann"


def seat(**limits: Limits) -> Seat:
    return Seat(
        *(WORKSPACE, "w", "ann", "t", "Blue", "https://a.example/v1", "pd_key"),
        limits={kind: limits.get(kind, NONE) for kind in Kind},
        of_user=frozenset({WORKSPACE, "other/ann"}),
        of_team=frozenset({WORKSPACE, "other/ann", "w/bob"}),
        as_of=4,
    )


def test_every_limit_counts_for_those_whose_it_is_and_the_nearest_comes_first() -> None:
    """On other wallets, too, for the user and the team (ours)."""
    user, team, wallet = Limits(1.0, 10.0, 1, 1), Limits(in_flight=2), Limits(credits_per_day=50.0)
    found = quotas_of(seat(user=user, team=team, wallet=wallet), OPERATOR)

    assert [(each.whose, each.workspaces) for each in found] == [
        ("your own", frozenset({WORKSPACE, "other/ann"})),
        ("of the team Blue", frozenset({WORKSPACE, "other/ann", "w/bob"})),
        ("of the wallet that pays", None),
        ("", None),
    ]
    assert [each.across for each in found] == ["ann", "t", "", ""]
    assert found[0].limits == SpendingLimits(1.0, 10.0, 1, 1, queued=20)
    assert found[1].limits == SpendingLimits(None, None, 2, None, queued=None)
    assert found[2].limits == SpendingLimits(None, 50.0, None, None, queued=None)
    assert found[3].limits == SpendingLimits(2, 200, 3, 6, read_only=True, queued=None)


def test_limits_of_a_user_and_a_team_are_locked_even_while_all_pay_with_one_wallet() -> None:
    """One of them may get another wallet while a claim is on its way (ours)."""
    alone = replace(
        seat(team=Limits(in_flight=2)),
        of_user=frozenset({WORKSPACE}),
        of_team=frozenset({WORKSPACE, "w/bob"}),
    )
    found = quotas_of(alone, OPERATOR)

    assert [each.across for each in found] == ["ann", "t", ""]
    assert [each.as_of for each in found] == [4, 4, 4]


def test_without_any_other_limit_those_of_the_operator_hold() -> None:
    """And each user may queue so many requests (ours)."""
    own, operator = quotas_of(seat(), OPERATOR)

    assert own.limits == SpendingLimits(None, None, None, None, queued=20)
    assert (operator.limits.credits_per_day, operator.workspaces) == (200, None)
