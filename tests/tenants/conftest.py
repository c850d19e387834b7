"""What the tests of people ask for."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tenants.company import Company
    from tests.tenants.team import Blue, Time
    from wan_mcp.tenants.administration.acts import Operator
    from wan_mcp.tenants.directory import StoredDirectory


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


@pytest.fixture
def ticks() -> "Time":
    """The clock by which the answers of `directory` become too old."""
    from tests.tenants.team import Time

    return Time()


@pytest.fixture
async def directory(database: str, ticks: "Time") -> AsyncIterator["StoredDirectory"]:
    """A directory whose answers hold as long as the test says."""
    from tests.tenants.team import ring
    from wan_mcp.tenants.directory import StoredDirectory

    made = StoredDirectory(database, ring(), ticks)
    yield made
    await made.aclose()


@pytest.fixture
async def company(operator: "Operator", database: str, tmp_path: Path) -> AsyncIterator["Company"]:
    """Several people, and a server that is not running yet."""
    from tests.tenants.company import FOR_EVER, Company
    from tests.tenants.team import Time
    from wan_mcp.sandbox import Sandbox

    jobs_time = Time()
    async with Sandbox(FOR_EVER, clock=jobs_time) as sandbox:
        yield Company(operator, database, sandbox, jobs_time, tmp_path)
