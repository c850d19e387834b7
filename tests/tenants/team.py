"""A team in a database, for tests."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from wan_mcp.ledger.postgres.connection import Link, connect
from wan_mcp.tenants.administration import teams, tokens, users, wallets
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.caller import SCOPES
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.tenants.tokens import Issued

BASE = "https://pixeldojo.example/api/v1"
KEY = "pd_canary_5d1f"
ISSUER = "https://login.example.com/"


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ring(*ids: str) -> KeyRing:
    """A key ring whose keys depend on nothing but their ids."""
    made = {id: base64.b64encode(id.encode().ljust(32, b"\1")).decode() for id in ids or ("a",)}
    return KeyRing.read("\n".join(f"{id} {key}" for id, key in made.items()))


@contextmanager
def operator_of(database: str) -> Iterator[Operator]:
    """An operator at work."""
    with connect(database) as link:
        yield Operator(link, "admin:ann@desk")


def rows(link: Link, sql: str) -> list[tuple[object, ...]]:
    """What a statement finds."""
    return [tuple(row) for row in link.run((sql.encode(), None))[-1]]


class Blue:
    """The team Blue with a wallet, and its users Ann and Bob; Eve has no team and no wallet."""

    def __init__(self, operator: Operator, key: str = KEY, base: str = BASE) -> None:
        self.operator = operator
        self.team = teams.add(operator, "Blue", None)
        self.ann = users.add(operator, "Ann", "Blue", ISSUER, "ann-1")
        self.bob = users.add(operator, "Bob", self.team, None, None)
        self.eve = users.add(operator, "Eve", None, None, None)
        self.wallet = wallets.add(operator, ring(), "blue wallet", key, base, team="Blue")

    def token(self, user: str, days: float = 1) -> Issued:
        """A token of a user."""
        return tokens.add(self.operator, user, SCOPES, days, "")
