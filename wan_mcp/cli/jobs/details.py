"""The facts about one job as text, one line each."""

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any

from wan_mcp.cli.jobs.facts import Facts
from wan_mcp.cli.jobs.plain import exact, one_line
from wan_mcp.surface.answers.inputs import ascii_link
from wan_mcp.wording import duration, number

_PLACES = {
    *("video", "character_image", "sent_video", "sent_character_image"),
    *("video_url", "saved_path"),
}
_LABEL_COLUMNS = 24


def lines_of_facts(facts: Facts, zone: tzinfo | None) -> Iterator[str]:
    """The lines, in groups.

    Args:
        zone: the time zone of dates; None for that of this computer.
    """
    for name, value in facts.items():
        if not isinstance(value, dict):
            yield _line(name, value, zone)
            continue
        yield f"\n{name}"
        for each, known in value.items():
            yield f"  {_line(each, known, zone)}"


def _line(name: str, value: Any, zone: tzinfo | None) -> str:
    return f"{name:{_LABEL_COLUMNS}} {_shown(name, value, zone)}"


def _shown(name: str, value: Any, zone: tzinfo | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "took_seconds":
        return duration(value)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list):
        return "; ".join(map(one_line, value)) or "nothing differs from the order"
    if name.endswith("_at"):
        return f"{datetime.fromisoformat(value).astimezone(zone):%Y-%m-%d %H:%M:%S %z}"
    if name in _PLACES:
        return (ascii_link(value) or "") if value.startswith("http") else exact(value)
    return one_line(value)
