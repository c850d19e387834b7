"""No job costs more than check_credits said, whatever the form of the price.

This is the short form; a thousand jobs: `python -m tests.bench.credits`.
"""

import pytest

from tests.bench.credits import bought
from wan_mcp.models import PriceType

pytestmark = pytest.mark.anyio


async def test_no_job_costs_more_than_was_said_while_the_page_is_right() -> None:
    """At prices of every form; those that are not understood are said to be unknown."""
    run = await bought(20, 2, silent_changes=False, unchanged=3)

    assert run.silent == run.count(lambda each: each.too_expensive) == run.charged_by_asking == 0
    assert {each.kind for each in run.purchases} == set(PriceType)
    assert run.count(lambda each: each.up_to is not None) >= 5
    assert all(each.up_to is None for each in run.purchases if each.kind == PriceType.UNKNOWN)


async def test_only_the_first_job_costs_more_after_the_page_went_out_of_date() -> None:
    """Its charge is remembered: the next answers name it, or say that the price is not known."""
    run = await bought(20, 6, silent_changes=True, unchanged=3)

    assert 0 < run.count(lambda each: each.too_expensive) <= run.silent
    assert run.charged_by_asking == 0
    assert run.count(lambda each: each.up_to is not None) >= 4
