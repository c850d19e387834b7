"""The price on the model page, of every form: what is read, and what stays unknown."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_mcp.models import PriceType
from wan_mcp.pixeldojo.prices import MAX_ROWS, published_price

SHORT, LONG = (5, "480"), (10, "720")
BY_LINES = {"480": 2, "720": 3.5}
ROWS: list[dict[str, Any]] = [
    {"video_duration": 5, "resolution": "480", "amount": 10},
    {"video_duration": 10, "resolution": 720, "amount": 35},
]


@pytest.mark.parametrize(
    ("cost", "kind", "short", "long"),
    [
        (10, "fixed", 10, 10),
        ({"type": "fixed", "amount": 2.5, "default": 2.5}, "fixed", 2.5, 2.5),
        ({"type": "Fixed", "amount": 2, "default": 10}, "fixed", 10, 10),
        ({"type": "per_second", "amount": 2, "default": 10}, "per_second", 10, 20),
        ({"type": "perSecond", "creditsPerSecond": 0.1}, "per_second", 0.5, 1),
        ({"type": "per_second", "amount": BY_LINES, "unit": "credits"}, "per_second", 10, 35),
        ({"type": "per-resolution", "amounts": BY_LINES, "default": 2}, "per_resolution", 2, 3.5),
        ({"type": "per_resolution", "amount": {"480p": 2}}, "per_resolution", 2, None),
        ({"type": "table", "rows": ROWS}, "table", 10, 35),
        ({"type": "table", "rows": ROWS[:1]}, "table", 10, None),
        ({"type": "table", "rows": [{"amount": 9}, *ROWS]}, "table", 10, 35),
        ({"type": "table", "prices": {"480": {"5": 1, "10": 2}, "720": 8}}, "table", 1, 8),
        ({"type": "table", "prices": {"5s": {"480p": 1}, "10s": 4}}, "table", 1, 4),
    ],
    ids=str,
)
def test_price_of_a_form_that_is_understood(
    cost: object, kind: str, short: float | None, long: float | None
) -> None:
    """`fixed` is documented; the others are read where they leave no choice (assumed).

    A job that the page does not price has no price. If it names two for one job, the higher counts.
    """
    price = published_price(cost)

    assert price.type == kind
    assert price.credits(*SHORT) == short
    assert price.credits(*LONG) == long
    assert price.of_every_job == (short if kind == "fixed" else None)


@pytest.mark.parametrize(
    "cost",
    [
        *(None, "10", -1, True, float("nan"), 10**400, [10], {}),
        *({"type": "fixed"}, {"type": "fixed", "amount": "10"}, {"type": 7, "amount": 1}),
        *({"type": "per_frame", "amount": 1}, {"type": "per_second"}, {"amount": 10}),
        {"type": "per_second", "amount": 2, "minimum": 10},
        {"type": "per_second", "amount": 2, "note": "twice as much with go_fast"},
        {"type": "per_second", "amount": 2, "default": 11},
        {"type": "per_second", "amount": {"5": 2}},
        {"type": "per_second", "amount": ["2"]},
        *({"type": "fixed", "amount": 2, "unit": word} for word in ("second", "Seconds")),
        {"type": "per_resolution", "amount": BY_LINES, "unit": "second"},
        {"type": "table", "rows": ROWS, "per": "second"},
        {"type": "per_resolution", "amount": 5},
        {"type": "per_resolution", "amount": {"1080": 5}},
        {"type": "per_resolution", "amount": {}},
        {"type": "table", "rows": []},
        {"type": "table", "rows": [[10]]},
        {"type": "table", "rows": [{**ROWS[0], "go_fast": True}]},
        {"type": "table", "rows": [{**ROWS[0], "video_duration": 16}]},
        {"type": "table", "rows": [{**ROWS[0], "video_duration": 10**5_000}]},
        {"type": "table", "rows": [{**ROWS[0], "video_duration": True}]},
        {"type": "table", "rows": [{**ROWS[0], "resolution": ["480"]}]},
        {"type": "table", "rows": [{**ROWS[0], "amount": None}]},
        {"type": "table", "rows": ROWS * MAX_ROWS},
        {"type": "table", "prices": {"480": {"720": 1}}},
        {"type": "table", "prices": {"5": {"480": {"5": 1}}}},
    ],
    ids=lambda cost: str(cost)[:60] if not isinstance(cost, dict) else str(sorted(cost))[:60],
)
def test_price_that_is_not_understood_whole_is_unknown(cost: object) -> None:
    """A part that was left out could be what makes a job expensive (ours)."""
    price = published_price(cost)

    assert price.type is PriceType.UNKNOWN
    assert price.credits(*SHORT) is price.of_every_job is None
    assert price.why.endswith(".")


def test_unknown_type_is_quoted_without_what_could_steer_a_model() -> None:
    """The page is somebody else's text (ours)."""
    price = published_price({"type": 'a\n"b"\x1b[31m' + "c" * 99, "amount": 1})

    assert "\n" not in price.why
    assert price.why.count('"') == 2
    assert len(price.why) < 150


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["480", "5", "720p", "amount", "resolution", "video_duration", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(["fixed", "per_second", "per_resolution", "table", "other"])


@settings(deadline=None, max_examples=60)
@given(amount=JSON, default=JSON, kind=TYPES)
def test_every_page_is_a_price_or_unknown(amount: Any, default: Any, kind: str) -> None:
    """No page may break the tool, or make a price of something negative or endless (ours)."""
    price = published_price({"type": kind, "default": default, "amount": amount})

    assert (price.type is PriceType.UNKNOWN) == (not price.rows) == bool(price.why)
    assert all(0 <= row.credits < 1e12 for row in price.rows)
