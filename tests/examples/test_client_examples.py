"""The examples with the official client, in virtual time against the sandbox."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.connected import Host, connected
from tests.examples.frameworks import EXAMPLES, FOLDER, needs_framework, requirements
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.sandbox import Terms
from wan_mcp.sandbox.vendor.vendor import FAILING

pytestmark = pytest.mark.anyio

TERMS = Terms(pending_seconds=2, processing_seconds=8, credits=1_000)
MOST_LINES = 40

time, anyio_backend = in_virtual_time(0.0, sockets=True)


def example(name: str) -> dict[str, Any]:
    """What an example defines."""
    return runpy.run_path(str(FOLDER / f"{name}.py"))


async def test_twenty_videos_are_each_paid_once(time: VirtualTime, tmp_path: Path) -> None:
    """Most wait in the queue for the usual limits; run again, it pays for nothing twice (ours)."""
    make_all = example("twenty_videos")["make_all"]
    async with connected(time, tmp_path, terms=TERMS) as host:
        given = host.sandbox.source_video_url, host.sandbox.image_url
        jobs, refused = await make_all(host.client, *given, range(1, 21))
        charges = len(host.sandbox.charges)
        again, _ = await make_all(host.client, *given, range(1, 21))

        assert charges == len(host.sandbox.charges) == 20
        assert refused == []
        assert {job["status"] for job in jobs} == {"completed"}
        assert [job["seed"] for job in jobs] == list(range(1, 21))
        assert len({job["video_url"] for job in jobs}) == 20
        assert _videos(again) == _videos(jobs)


async def test_what_a_limit_refuses_of_twenty_videos_is_in_their_answers(
    time: VirtualTime, tmp_path: Path
) -> None:
    """With the limits of the operator, the others are made all the same (ours)."""
    settings = {"WAN_MCP_MAX_CREDITS_PER_DAY": "30"}
    async with connected(time, tmp_path, terms=TERMS, settings=settings) as host:
        given = host.sandbox.source_video_url, host.sandbox.image_url
        make_all = example("twenty_videos")["make_all"]
        jobs, refused = await make_all(host.client, *given, range(1, 21))

        assert len(host.sandbox.charges) == len(jobs) == 20 - len(refused) == 3
        assert {answer["code"] for answer in refused} == {"limit_reached"}


def _videos(jobs: list[dict[str, Any]]) -> dict[int, str]:
    return {job["seed"]: job["video_url"] for job in jobs}


async def test_second_step_takes_the_video_of_the_first(host: Host) -> None:
    """It is two jobs, and two payments, however often it is run in a row (ours)."""
    answer = await _chain(host, host.sandbox.source_video_url)
    again = await _chain(host, host.sandbox.source_video_url)
    first, second = (await host.call("list_jobs"))["jobs"][::-1]
    sent = [charge.body["video"] for charge in host.sandbox.charges]

    assert answer["status"] == "completed"
    assert second["source_video"] == f"wan://jobs/{first['job_id']}/video"
    assert answer["job_id"] == again["job_id"] == second["job_id"]
    assert sent == [host.sandbox.source_video_url, first["video_url"]]


async def test_second_step_is_not_paid_when_the_first_has_failed(host: Host) -> None:
    """The answer about the first job is the result (ours)."""
    answer = await _chain(host, f"{host.sandbox.origin}{FAILING}")

    assert answer["status"] == "failed"
    assert len(host.sandbox.charges) == 1


async def _chain(host: Host, video: str) -> dict[str, Any]:
    images = [f"{host.sandbox.image_url}?person=1", f"{host.sandbox.image_url}?person=2"]
    return dict(await example("two_steps")["chain"](host.client, video, images))


@pytest.fixture
async def host(time: VirtualTime, tmp_path: Path) -> Any:
    async with connected(time, tmp_path, terms=TERMS) as host:
        yield host


def test_each_example_is_explained_in_the_table_and_says_what_it_needs() -> None:
    """No example is forgotten, and none is named that does not exist (ours)."""
    page = (FOLDER / "README.md").read_text("utf-8")
    files = {path.stem for path in FOLDER.glob("*.py")}

    assert {name for name in files if f"\n| [`{name}.py`]({name}.py) |" in page} == files
    assert {name for name in files if needs_framework(name)} == set(EXAMPLES)
    assert all(requirements(name) for name in files)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_example_is_short_and_has_its_usage_on_top(path: Path) -> None:
    """A reader sees all of it at once (ours)."""
    text = path.read_text("utf-8")
    _, docstring, code = text.split('"""', 2)
    lines = [line for line in code.splitlines() if line.strip()]

    assert f"Usage: python {path.name}" in docstring
    assert len(lines) <= MOST_LINES
