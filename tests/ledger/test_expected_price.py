"""What a job will probably cost, as the model page and the last charges say: tables."""

from typing import Any

import pytest

from wan_mcp.ledger.expected_price import Charge, ExpectedPrice, expected_price
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
