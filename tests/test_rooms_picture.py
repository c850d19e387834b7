"""The picture of the rooms in docs/architecture.md: it is current, and it can be read."""

from itertools import combinations

from tests.rooms_picture import (
    BOX_HEIGHT,
    BOX_WIDTH,
    PICTURE,
    WIDTH,
    imports_of_rooms,
    picture,
    places,
    ways,
    without_shortcuts,
)


def test_picture_shows_the_imports_that_the_code_has() -> None:
    """After a change of the imports: `python -m tests.rooms_picture` (ours)."""
    assert PICTURE.read_text(encoding="utf-8") == picture()


def test_arrow_that_follows_from_two_others_is_left_out() -> None:
    """Three times as many arrows would hide the direction of all (ours)."""
    imports = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset[str]()}

    assert without_shortcuts(imports) == {**imports, "a": frozenset("b")}


def test_boxes_lie_on_the_page_and_apart_and_no_arrow_leads_up() -> None:
    """A reader sees each name, and what is below what (ours)."""
    imports = without_shortcuts(imports_of_rooms())
    where = places(imports, ways(imports))
    boxes = [where[room] for room in imports]

    assert all(BOX_WIDTH / 2 <= x <= WIDTH - BOX_WIDTH / 2 for x, _ in boxes)
    assert all(
        abs(one[0] - other[0]) >= BOX_WIDTH or abs(one[1] - other[1]) > BOX_HEIGHT
        for one, other in combinations(boxes, 2)
    )
    assert all(where[room][1] < where[other][1] for room in imports for other in imports[room])
