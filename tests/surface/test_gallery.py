"""The gallery and the takes of the player, inside a host, in headless Chromium."""

import base64
from typing import Any

import pytest

from tests.surface.test_player import (
    CONTRASTS,
    EVIL,
    VIDEO,
    Fields,
    Show,
    ShownPlayer,
    both,
    browser,
    completed,
    is_control,
    player_pages,
    show,
    wait_for_layout_shifts,
)
from wan_mcp.models import JobList
from wan_mcp.surface import player

__all__ = ["browser", "show"]

PAGE = player.gallery_page([player.MEDIA_ORIGIN])
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////"
    "////////////////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
MADE = "2026-11-23T11:55:00+00:00"


def row(number: int, **fields: Any) -> Fields:
    """A finished job of a list."""
    job = {"job_id": f"job-{number}", "status": "completed", "made_at": MADE, "seed": 70 + number}
    ready = {"credit_cost": 10, "video_url": VIDEO, "video_duration": 5}
    inputs = {
        "source_video": "https://files.example.com/dance.mp4",
        "character_image": "/home/ana/face%20of%20ana.png",
    }
    return job | ready | inputs | fields


def take(number: int, of: int, **fields: Any) -> Fields:
    return row(number, **{"order": "8b7ab4ed59", "take": number, "takes": of} | fields)


def listed(*rows: Fields, **fields: Any) -> Fields:
    """The answer of list_jobs, as it travels; the model guards against fields that do not exist."""
    words: Fields = {"message": "2 jobs.", "charged": "no", "next": "Call get_job_status."}
    sums = {"total_jobs": 321, "credits_spent": 4321.5, "credits_spent_24h": 20}
    data = JobList(**{**words, **sums, "jobs": [*rows], **fields})
    content = [{"type": "text", "text": data.message}]
    structured = data.model_dump(mode="json", exclude_none=True)
    return {"content": content, "structuredContent": structured, "isError": "code" in structured}


def gallery(show: Show, *rows: Fields, resources: Fields | None = None, **options: Any) -> Any:
    """The gallery with the answer of list_jobs."""
    shown = show(html=PAGE, resources=resources or {}, **options)
    if rows:
        tell(shown, listed(*rows))
    return shown


def tell(shown: ShownPlayer, result: Fields) -> None:
    shown.tab.evaluate("(given) => host.tell(...given)", ["ui/notifications/tool-result", result])
    shown.settle()


def posters(*numbers: int) -> Fields:
    picture = base64.b64encode(JPEG).decode()
    return {f"wan://jobs/job-{number}/poster": picture for number in numbers}


def cards(shown: ShownPlayer) -> list[str]:
    """The ids of the shown cards are not on them, but their seeds are."""
    return [each.split("seed ")[1][:2] for each in shown.frame.locator(".facts").all_inner_texts()]


def test_jobs_are_shown_as_pictures_with_what_they_cost(show: Show) -> None:
    """The pictures come through resources, as far as they can be seen (ours)."""
    shown = gallery(show, row(1), row(2), resources=posters(1, 2))
    shown.frame.locator(".sheet img").nth(1).wait_for(state="attached")

    shown.sees("321 jobs · 4321.5 credits so far · 20 credits in 24 hours")
    shown.sees("face of ana.png in dance.mp4")
    assert cards(shown) == ["71", "72"]


def test_takes_of_one_order_stand_together_and_can_be_compared(show: Show) -> None:
    """They play, pause and seek as one; the seed tells them apart (ours)."""
    shown = gallery(show, take(3, 3), row(8), take(2, 3), take(1, 3))
    assert cards(shown) == ["73", "72", "71", "78"]
    shown.frame.get_by_role("button", name="Compare takes of").first.click()
    shown.frame.locator("#takes .play:not([disabled])").wait_for()
    shown.until("takes.ready.length === 3")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        shown.tab.keyboard.press(key)
    shown.until("takes.ready.every((video) => video.currentTime === 1 && !video.seeking)")
    shown.tab.keyboard.press(" ")
    shown.until("takes.ready.every((video) => !video.paused && video.currentTime > 1.2)")
    shown.tab.keyboard.press(" ")
    shown.until("takes.ready.every((video) => video.paused && !video.seeking)")

    times = shown.frame.evaluate("takes.ready.map((video) => video.currentTime)")
    assert max(times) - min(times) < 0.01
    assert shown.frame.locator("#takes .name").all_inner_texts() == [
        "Seed 71",
        "Seed 72",
        "Seed 73",
    ]
    shown.tab.keyboard.press("Escape")
    assert shown.frame.evaluate("document.activeElement.textContent") == "Compare"


def test_a_video_is_kept_by_the_tool_for_pages_and_a_refusal_is_shown(show: Show) -> None:
    """The mark is shown only when the server has it (ours)."""
    shown = gallery(show, row(1))
    refused = {"structuredContent": {"message": "The disk is full."}, "isError": True}
    shown.prepare("tools/call", {"result": refused}, {"result": {"isError": False}})
    shown.frame.get_by_role("button", name="Keep this one: Seed 71").click()
    shown.sees("The disk is full.")
    shown.frame.get_by_role("button", name="Keep this one: Seed 71").click()
    shown.frame.get_by_role("button", name="Kept: Seed 71", pressed=True).wait_for()

    asked = {"name": "keep_video", "arguments": {"job_id": "job-1", "kept": True}}
    assert [shown.next("tools/call"), shown.next("tools/call")] == [asked, asked]


def test_words_and_status_filter_the_cards_by_keyboard(show: Show) -> None:
    """All of it can be reached by the tab key (WCAG 2.2, 2.1.1)."""
    failed = row(3, status="failed", video_url=None)
    shown = gallery(show, row(1), row(2, kept=True), failed)
    shown.tab.evaluate("host.frame.focus()")
    shown.tab.keyboard.press("Tab")
    shown.tab.keyboard.type("72 dance")
    assert cards(shown) == ["72"]
    shown.frame.get_by_label("Search").fill("")
    seen = []
    shown.frame.get_by_role("radio", name="All").focus()
    for _ in range(4):
        shown.tab.keyboard.press("ArrowRight")
        seen.append(cards(shown))

    assert seen == [["71", "72"], ["72"], [], ["73"]]


@pytest.mark.parametrize("can", [{}, {"serverTools": {}}])
def test_an_empty_list_and_a_broken_one_say_what_to_do(show: Show, can: Fields) -> None:
    """A page without a word would look like a defect (ours)."""
    empty = gallery(show, can=can)
    empty.until("document.querySelectorAll('.ghost').length === 4")
    tell(empty, listed(jobs=[]))
    empty.sees("No videos yet")
    broken = gallery(show, can=can)
    tell(broken, listed(message="The ledger is locked.", code="ledger_unavailable"))
    broken.sees("The ledger is locked.")
    broken.prepare("tools/call", {"result": listed(row(1))})
    again = broken.frame.get_by_role("button", name="Try again")

    assert again.is_visible() == bool(can)
    if can:
        again.click()
        broken.sees("face of ana.png in dance.mp4")


def test_older_jobs_are_fetched_when_they_are_asked_for(show: Show) -> None:
    """A host shows ten jobs at first (ours)."""
    shown = gallery(show)
    tell(shown, listed(row(1), next_cursor="ended.sub_1"))
    shown.prepare("tools/call", {"result": listed(row(1), row(2))})
    shown.frame.get_by_role("button", name="Show more").click()
    shown.until("document.querySelectorAll('.card').length === 2")

    assert shown.next("tools/call")["arguments"] == {"limit": 50, "cursor": "ended.sub_1"}
    assert not shown.frame.get_by_role("button", name="Show more").is_visible()


def test_words_of_strangers_stay_text_in_the_gallery(show: Show) -> None:
    """A name and an id may hold anything (ours)."""
    odd = row(1, source_video=EVIL, character_image=EVIL, job_id=EVIL, status=EVIL)
    shown = gallery(show)
    answer = listed(row(2))
    answer["structuredContent"]["jobs"] = [odd]
    tell(shown, answer)
    shown.frame.locator(".words").first.wait_for()

    assert shown.frame.locator("b, .card img").count() == 0
    assert shown.frame.title() == "Your videos"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_of_the_gallery_is_readable_in_both_themes(show: Show, theme: str) -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    shown = gallery(show, row(1), row(2, status="failed"), row(3, kept=True), theme=theme)
    every = "main :is(h1, h2, p, .badge, button, fieldset span)"
    faint = shown.frame.evaluate(
        CONTRASTS.replace("main :is(h1, p, .clock, button, dt, dd)", every)
    )

    assert len(faint) > 10
    assert min(faint.values()) >= 4.5


def test_every_control_of_the_gallery_has_a_name(show: Show) -> None:
    """As Chromium's own accessibility tree shows it (WCAG 2.2, 4.1.2)."""
    shown = gallery(show, take(2, 2), take(1, 2), row(3, status="running"))
    overview = names(shown)
    shown.frame.get_by_role("button", name="Compare takes of").first.click()
    shown.until("takes.ready.length === 2")

    words = "face of ana.png in dance.mp4"
    assert overview == {
        "Search in names, seeds and ids",
        *("All", "Ready", "Kept", "Under way", "No video"),
        *(f"Open: {words}, Seed 72", "Keep this one: Seed 72"),
        f"Compare takes of {words}, with Seed 72",
        *(f"Open: {words}, Seed 71", "Keep this one: Seed 71"),
        f"Compare takes of {words}, with Seed 71",
        f"Under way: {words}, Seed 73",
    }
    assert names(shown) == {
        "Back to all videos",
        *("Video: Seed 71", "Keep this one: Seed 71", "Video: Seed 72", "Keep this one: Seed 72"),
        *("Play", "Position in the takes", "Mute"),
    }


def names(shown: ShownPlayer) -> set[str]:
    """The names of what can be used."""
    session = shown.tab.context.new_cdp_session(shown.frame)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    extra = ("radio", "searchbox")
    return {
        node["name"]["value"]
        for node in nodes
        if is_control(node) or (not node["ignored"] and node["role"]["value"] in extra)
    }


def test_nothing_jumps_when_the_list_arrives_and_nothing_moves(browser: Any) -> None:
    """Each card has its place before its picture (web.dev: cumulative layout shift)."""
    with player_pages(browser, reduced_motion="reduce") as show:
        shown = show(html=PAGE, resources=posters(1, 2, 3, 4))
        shown.until("document.querySelectorAll('.ghost').length === 4")
        wait_for_layout_shifts(shown)
        shown.frame.evaluate("shifts.length = 0")
        tell(shown, listed(*map(row, (1, 2, 3, 4))))
        shown.frame.locator(".sheet img").nth(3).wait_for(state="attached")
        wait_for_layout_shifts(shown)

        assert shown.frame.evaluate("shifts") == []
        assert shown.frame.evaluate("document.getAnimations().length") == 0


# The player


def test_the_player_compares_the_takes_of_its_order_and_keeps_one(show: Show) -> None:
    """It is offered only where there are some, and leads back to source and result (ours)."""
    shown = show(resources=both())
    others = listed(take(3, 3), take(7, 3, job_id="job-7", take=2), take(1, 3), row(9))
    shown.answered({"takes": 3}, **completed())
    shown.prepare("tools/call", {"result": others}, {"result": {"isError": False}})
    shown.frame.get_by_role("button", name="Compare 3 takes").click()
    shown.until("takes.ready.length === 3")
    shown.frame.get_by_role("button", name="Keep this one: Seed 71").click()
    shown.frame.get_by_role("button", name="Kept: Seed 71").wait_for()

    asked = [shown.next("tools/call") for _ in range(2)]
    assert asked[0] == {"name": "list_jobs", "arguments": {"status": "completed", "limit": 50}}
    assert asked[1] == {"name": "keep_video", "arguments": {"job_id": "job-1", "kept": True}}
    assert not shown.frame.locator("#stage").is_visible()
    shown.frame.get_by_role("button", name="Back to source and result").click()
    shown.wait_for_video()
    assert shown.frame.locator("#stage").is_visible()
    assert shown.frame.locator("#takes video").count() == 3


def test_a_player_without_other_takes_offers_no_comparison(show: Show) -> None:
    """A button that does nothing is worse than none (ours)."""
    shown = show()
    shown.answered({"takes": 1}, **completed())
    shown.wait_for_video()

    assert shown.buttons() == ["Download", "Ask for another take"]
