"""What the tests of people ask for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tenants.team import Blue
    from wan_mcp.tenants.administration.acts import Operator


@pytest.fixture
def operator(database: str) -> Iterator["Operator"]:
    """An operator of an empty ledger."""
    from tests.tenants.team import operator_of

    with operator_of(database) as made:
        yield made


@pytest.fixture
def blue(operator: "Operator") -> "Blue":
    """A team with everything."""
    from tests.tenants.team import Blue

    return Blue(operator)
