"""The limits that count for the jobs of one user of a team."""

from dataclasses import replace

from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.tenants.limits import NONE, Kind, Limits
from wan_mcp.tenants.seat import Seat


def quotas_of(seat: Seat, operator: SpendingLimits) -> list[Quota]:
    """Every limit that counts, the nearest first: of the user, the team, the wallet, and all.

    Each user may have so many requests in the queue as the operator allows, so that nobody else
    finds it full.

    Args:
        operator: the settings of this server, which hold for each wallet as a whole.
    """
    own, team, wallet = (seat.limits[kind] for kind in (Kind.USER, Kind.TEAM, Kind.WALLET))
    yours = replace(_limits(own), queued=operator.queued)
    of_team = f"of the team {seat.team_name}"
    found = [
        Quota(yours, "your own", frozenset(seat.of_user), seat.user),
        *[Quota(_limits(team), of_team, frozenset(seat.of_team), f"{seat.team}")] * (team != NONE),
        *[Quota(_limits(wallet), "of the wallet that pays")] * (wallet != NONE),
        Quota(replace(operator, queued=None)),
    ]
    return [replace(each, as_of=seat.as_of) for each in found]


def _limits(given: Limits) -> SpendingLimits:
    return SpendingLimits(*given, queued=None)
