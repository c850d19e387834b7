"""The people of a storm as its operator has added them: teams with a wallet each, and tokens."""

from collections.abc import Sequence
from pathlib import Path

from tests.storm.people import Person
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.tenants.administration import allowances, teams, tokens, users, wallets
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.caller import SCOPES
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.tenants.limits import Kind


def write_key_ring(path: Path) -> KeyRing:
    """A key ring for all replicas, in a file that only its user can read."""
    path.touch(mode=0o600)
    path.write_text(f"storm {'A' * 43}=\n")
    return KeyRing.read(path.read_text())


def add_people(
    database: str,
    ring: KeyRing,
    api_base: str,
    keys: Sequence[str],
    count: int,
    in_flight: int,
) -> list[Person]:
    """So many people, evenly spread over one team for each of these keys.

    Args:
        database: the address of the ledger.
        in_flight: how many jobs of one person may run at the same time.
    """
    with connect(database) as link:
        operator = Operator(link, "admin:storm")
        for number, key in enumerate(keys):
            team = teams.add(operator, f"team {number}", None)
            wallets.add(operator, ring, f"wallet {number}", key, api_base, team=team)
        return [_person(operator, number, len(keys), in_flight) for number in range(count)]


def limit_days(database: str, teams_there: int, of_a_team: float, of_the_first: float) -> None:
    """Limit the credits that may be spent in a day.

    Args:
        database: the address of the ledger.
        of_a_team: for one team its own limit, for the next one that of its wallet.
        of_the_first: of the first person of each team.
    """
    with connect(database) as link:
        operator = Operator(link, "admin:storm")
        for number in range(teams_there):
            kind = Kind.WALLET if number % 2 else Kind.TEAM
            allowances.set_limits(
                operator, kind, f"{kind} {number}", {"credits_per_day": of_a_team}
            )
            first = {"credits_per_day": of_the_first}
            allowances.set_limits(operator, Kind.USER, f"person {number}", first)


def _person(operator: Operator, number: int, teams_there: int, in_flight: int) -> Person:
    name = f"person {number}"
    user = users.add(operator, name, f"team {number % teams_there}", None, None)
    allowances.set_limits(operator, Kind.USER, user, {"in_flight": in_flight})
    token = tokens.add(operator, user, SCOPES, 1, "")
    return Person(number, {"Authorization": f"Bearer {token.text}"})
