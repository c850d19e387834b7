"""What a job will probably cost, as the model page and the last charges say: tables."""

from typing import Any

import pytest

from wan_mcp.ledger.expected_price import (
    Charge,
    ExpectedPrice,
    expected_price,
    price_up_to,
)
from wan_mcp.models import Replacement


def job(credits: float, **arguments: Any) -> Charge:
    """What a job of 5 s and 480 lines was charged."""
    return Charge({"seconds": 5, **arguments}, credits)


def charged(*charges: Charge, **arguments: Any) -> float | None:
    """The charge that counts for a request of 5 s and 480 lines."""
    wanted = Replacement(video="https://a.example/v", character_image="https://a.example/i")
    return expected_price(2, wanted.model_copy(update=arguments), charges).charged


@pytest.mark.parametrize(
    ("named", "last", "credits"), [(2, 60, 60), (60, 2, 60), (2, None, 2), (None, 60, None)]
)
def test_the_higher_of_the_page_and_the_last_charge_counts(
    named: float | None, last: float | None, credits: float | None
) -> None:
    """A price that the page does not name stays unknown, which the limits treat as such."""
    assert ExpectedPrice(named, last).credits == credits


@pytest.mark.parametrize(("named", "last"), [(60, 2), (2, 2), (2, None), (None, 60)])
def test_nothing_is_said_when_the_page_is_believed(named: float | None, last: float | None) -> None:
    assert ExpectedPrice(named, last).why == ""


def test_both_prices_are_said_when_the_last_charge_counts() -> None:
    """Otherwise a refusal would look wrong to whoever reads the page."""
    why = ExpectedPrice(2, 1_234_567.5).why

    assert "cost 1234567.5 credits" in why
    assert "model page names 2 credits" in why


def test_the_newest_charge_of_the_same_kind_of_job_counts() -> None:
    """A price that has fallen since then, and one of another kind, do not."""
    assert charged(job(7), job(60)) == 7
    assert charged(job(3, seconds=2), job(60), job(7)) == 60
    assert charged(job(60, resolution="480", go_fast=False), job(7)) == 60


@pytest.mark.parametrize(
    ("smaller", "greater"),
    [({}, {"seconds": 9}), ({}, {"resolution": "720"}), ({"seconds": 2}, {"resolution": "720"})],
)
def test_a_greater_job_counts_as_much_as_a_smaller_one_that_was_charged(
    smaller: dict[str, Any], greater: dict[str, Any]
) -> None:
    """One second more would be a way round every limit."""
    assert charged(job(60, **smaller), **greater) == 60
    assert charged(job(60, **greater), **({"seconds": 5} | smaller)) is None


@pytest.mark.parametrize("other", [{"go_fast": True}, {"frames_per_second": 30}])
def test_a_job_at_another_speed_says_nothing_about_the_price(other: dict[str, Any]) -> None:
    assert charged(job(60, **other)) is None
    assert charged(job(60, **other), **other) == 60


def test_older_charges_are_not_read_once_a_job_of_the_same_kind_is_found() -> None:
    """They are parsed while the ledger is locked, and an account has fifty of them. (ours)"""
    charges = iter([job(9, seconds=3), job(7), job(5), job(3)])

    wanted = Replacement(video="https://a.example/v", character_image="https://a.example/i")
    assert expected_price(2, wanted, charges).charged == 7
    assert list(charges) == [job(5), job(3)]


def two_a_second(seconds: int, lines: str) -> float | None:
    """A page that names a price only for 480 lines."""
    return 2.0 * seconds if lines == "480" else None


def up_to(*charges: Charge, page: Any = two_a_second, **arguments: Any) -> ExpectedPrice:
    """The price of a request of 5 s and 480 lines, where the page names 2 credits a second."""
    wanted = Replacement(video="https://a.example/v", character_image="https://a.example/i")
    return price_up_to(page, wanted.model_copy(update=arguments), charges)


SEVEN, NINE = {"seconds": 7}, {"seconds": 9}


@pytest.mark.parametrize(
    ("charges", "most"),
    [
        ([], 10),
        ([job(10)], 10),
        ([job(4)], 10),
        ([job(15)], 15),
        ([job(12), job(15)], 12),
        # A job of another size, which cost what the page names, or less.
        ([job(14, **SEVEN)], 10),
        ([job(13, **SEVEN)], 10),
        # One that cost more: the page is out of date, unless a later job says what is right.
        ([job(15, **SEVEN)], None),
        ([job(15, **SEVEN), job(10)], None),
        ([job(10), job(15, **SEVEN)], 10),
        ([job(14, **SEVEN), job(99, **SEVEN)], 10),
        ([job(18, **NINE), job(15, **SEVEN)], None),
        # Jobs of which the page says nothing are no evidence against it.
        ([job(99, resolution="720", **SEVEN)], 10),
        ([job(99, go_fast=True, **SEVEN)], 10),
        ([job(99, frames_per_second=30)], 10),
    ],
)
def test_most_that_a_job_costs_is_known_only_if_no_charge_contradicts_the_page(
    charges: list[Charge], most: float | None
) -> None:
    """Nobody may be promised a price that a bill has disproved already (ours)."""
    price = up_to(*charges)

    assert price.up_to == most
    assert bool(price.doubt) == (most is None)


def test_smaller_job_that_cost_more_than_the_page_names_for_a_larger_one_is_a_doubt() -> None:
    """It would cost at least as much, and nobody knows how much more (ours)."""
    price = up_to(job(11, seconds=3), page=lambda seconds, lines: 10.0 if seconds == 5 else None)

    assert (price.up_to, price.credits) == (None, 11)
    assert "names 10 credits for this larger one" in price.doubt


def test_what_a_job_of_no_known_price_cost_before_is_not_its_price() -> None:
    """It may cost more by now (ours)."""
    price = up_to(job(15, resolution="720"), resolution="720")

    assert (price.up_to, price.charged, price.doubt) == (None, 15, "")


def test_page_that_names_nothing_does_not_make_a_job_free() -> None:
    """A page that lacks its price may show 0 (observed elsewhere)."""
    assert up_to(page=lambda seconds, lines: 0.0).up_to is None


def test_doubt_names_the_job_that_cost_more_and_both_prices() -> None:
    """The reader can look it up (ours)."""
    doubt = up_to(job(15, **SEVEN)).doubt

    assert "7 s at 480 lines cost 15 credits" in doubt
    assert "names 14 credits" in doubt
