"""Numbers, plurals and spans of time in sentences."""

import pytest

from wan_mcp.wording import counted, duration, is_or_are, number, plural, was_or_were


@pytest.mark.parametrize(
    ("value", "written"),
    [
        *[(10.0, "10"), (0.0, "0"), (2.5, "2.5"), (0.1 + 0.2, "0.3"), (1234567.0, "1234567")],
        *[(1234567.25, "1234567.25"), (999999999999.0, "999999999999"), (0.001, "0.001")],
        *[(1e6, "1000000"), (1e15, "1000000000000000"), (1e22, "1" + "0" * 22), (1e-5, "0.00001")],
    ],
)
def test_number_is_written_with_every_digit(value: float, written: str) -> None:
    """A rounded balance is a wrong one, and 1e+06 is not a number of credits (ours)."""
    assert number(value) == written


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 credits"), (1, "1 credit"), (1.0, "1 credit"), (1.5, "1.5 credits"), (2, "2 credits")],
)
def test_noun_agrees_with_its_count(count: float, written: str) -> None:
    """Only exactly one is singular (ours)."""
    assert counted(count, "credit") == written
    assert plural("credit", count) == written.rpartition(" ")[2]


@pytest.mark.parametrize(("count", "verbs"), [(0, "are were"), (1, "is was"), (2, "are were")])
def test_verb_agrees_with_its_count(count: float, verbs: str) -> None:
    """The same rule as for nouns (ours)."""
    assert [is_or_are(count), was_or_were(count)] == verbs.split()


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        *[(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s")],
        *[(3_599, "59 min 59 s"), (3_600, "1 h 0 min"), (86_399, "23 h 59 min")],
    ],
)
def test_duration_has_at_most_two_units(seconds: float, written: str) -> None:
    """Two units are enough for a person (ours)."""
    assert duration(seconds) == written
