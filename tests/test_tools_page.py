"""docs/tools.md: what the tools take and answer, as the code has it."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.portable_schema import FREE_FIELDS
from tests.surface.scenarios import DONE, NOW, RUNNING, of_job
from wan_mcp.errors import Code, RateLimited
from wan_mcp.ledger.expected_price import Totals
from wan_mcp.models import JobLine, JobList, JobResult, JobStatus
from wan_mcp.surface.answers import failures, results
from wan_mcp.surface.answers.several import JobOutcome, WaitResult
from wan_mcp.surface.answers.text import text
from wan_mcp.surface.resources import CODES_URI

PAGE = (Path(__file__).parents[1] / "docs/tools.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """What the page says below a heading, up to the next one."""
    rest = re.split(rf"^#+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    return re.split(r"^#+ ", rest, flags=re.MULTILINE)[0]


def table(heading: str, number: int = 0) -> list[list[str]]:
    """The rows of a table below a heading, as cells without their backticks."""
    found = re.findall(r"^\|[-|]+\|\n((?:\|.*\|\n)+)", section(heading), re.MULTILINE)[number]
    return [
        [cell.strip().replace("`", "") for cell in row.split("|")[1:-1]]
        for row in found.splitlines()
    ]


def names_in(rows: list[list[str]]) -> list[str]:
    """The names in the first column, which may hold several."""
    return [name for first, *_ in rows for name in first.split(", ")]


def test_every_field_of_an_answer_is_explained_once() -> None:
    """One table for a job, two for a list (ours)."""
    of_a_row, of_a_list = table("The list of jobs"), table("The list of jobs", 1)
    shared = {"message", "next", "charged", "retry_safe", "retry_after_seconds", "code"}

    assert sorted(names_in(table("Answers"))) == sorted(JobResult.model_fields)
    assert sorted(names_in(of_a_row)) == sorted(JobLine.model_fields)
    assert sorted(names_in(of_a_list)) == sorted(set(JobList.model_fields) - shared - {"jobs"})
    assert all(f"`{name}`" in section("Answers") for name in FREE_FIELDS)


def test_every_field_of_an_answer_about_several_jobs_is_explained_once() -> None:
    """One table for the answer, one for a row (ours)."""
    of_answer, of_a_row = table("Several jobs"), table("Several jobs", 1)

    assert sorted(names_in(of_answer)) == sorted(
        set(WaitResult.model_fields) - set(JobResult.model_fields)
    )
    assert sorted(names_in(of_a_row)) == sorted(JobOutcome.model_fields)


def test_every_status_is_explained_once() -> None:
    """In the order of the code (ours)."""
    assert names_in(table("Answers", 1)) == [str(status) for status in JobStatus]


def test_every_code_is_explained_as_the_resource_explains_it() -> None:
    """The page has one more thing: what to do (ours)."""
    rows = table("When a call goes wrong")

    assert names_in(rows) == [str(code) for code in Code]
    for code, (_, _, _, words) in zip(Code, rows, strict=True):
        assert words.startswith(code.explanation)
        assert len(words) > len(code.explanation) + 10
    assert f"`{CODES_URI}`" in PAGE


ORDER: dict[str, str | int | bool] = {
    "video": "https://media.example/clip.mp4",
    "character_image": "https://media.example/hero.png",
    "seconds": 5,
}
LINK = "https://temp.pixeldojo.ai/videos/1.mp4"
MADE = NOW - timedelta(minutes=40)
DONE_BEFORE = DONE.model_copy(
    update={"job_id": "job_7f3a", "credit_cost": 10, "video_url": LINK},
)
RUNNING_NOW = RUNNING.model_copy(update={"job_id": "job_8b21", "credit_cost": 10})
FINISHED = of_job(
    DONE_BEFORE,
    submission_id="sub_mfrggzdfmztwq2lk",
    created_at=MADE,
    arguments=ORDER,
    seed=1_203_981,
    saved_path="/home/you/.local/share/wan-mcp/films/2026-11-23_job_7f3a.mp4",
    sha256="9b1c" * 16,
    size=2_412_345,
    inspection=(),
)
UNSAVED = of_job(
    DONE_BEFORE,
    submission_id="sub_mfrggzdfmztwq2lk",
    created_at=MADE,
    arguments=ORDER,
    seed=1_203_981,
)
GOING = of_job(
    RUNNING_NOW,
    submission_id="sub_nbswy3dpeb3w64tm",
    created_at=NOW - timedelta(seconds=95),
    last_reply_at=NOW - timedelta(seconds=4),
    arguments={**ORDER, "resolution": "720"},
    seed=77,
)
EXAMPLES: dict[str, JobResult | JobList] = {
    "a job that is finished": results.status_result(FINISHED, now=NOW),
    "a page of the list": results.list_result(
        [GOING, UNSAVED, FINISHED], Totals(42, 20, 415, 1), now=NOW, limit=1
    ),
    "a call that failed": failures.failure_result(
        RateLimited("PixelDojo asks for fewer requests; nothing was started.", retry_after=20)
    ),
}
"""The answers that the page shows."""


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_answer_that_the_page_shows_is_the_one_that_is_given(number: int) -> None:
    """A program is written after an example, and an old one breaks it (ours)."""
    shown = re.findall(r"^```json\n(.*?)^```$", section("Examples"), re.DOTALL | re.MULTILINE)
    answer = list(EXAMPLES.values())[number]
    data: dict[str, Any] = answer.model_dump(mode="json", exclude_none=True)

    assert len(shown) == len(EXAMPLES)
    assert json.loads(shown[number]) == data


def test_text_that_the_page_shows_is_the_one_that_is_given() -> None:
    """Half of the assistants read only this (observed elsewhere)."""
    (shown,) = re.findall(r"^```text\n(.*?)^```$", section("Examples"), re.DOTALL | re.MULTILINE)

    assert shown.strip() == text(EXAMPLES["a page of the list"])
