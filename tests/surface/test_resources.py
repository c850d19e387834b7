"""Jobs as resources: what a host reads and completes, and what it is notified of."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from mcp.client.subscriptions import Subscription
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp.types import (
    BlobResourceContents,
    EmptyResult,
    PromptReference,
    ResourceTemplateReference,
    SubscribeRequest,
    SubscribeRequestParams,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)

from tests.connected import Host, connected, host_of
from tests.surface.scenarios import DONE, of_job
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.app.app import App
from wan_mcp.errors import Code, NotFound
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.status import JobView
from wan_mcp.models import JobList, JobResult
from wan_mcp.sandbox.http import faults
from wan_mcp.surface import subscriptions
from wan_mcp.surface.video_views import VideoViews
from wan_mcp.videos.job_files import Blob, JobFiles

pytestmark = pytest.mark.anyio

JOB = ResourceTemplateReference(uri="wan://jobs/{job_id}")


time, anyio_backend = in_virtual_time(0.0, sockets=True)
host = host_of("auto", "legacy")
modern, legacy = host_of("auto"), host_of("legacy")


async def refusal(host: Host, uri: str) -> MCPError:
    """The error that a read of a resource ends in."""
    with pytest.raises(MCPError) as caught:
        await host.read(uri)
    return caught.value


async def subscribe(host: Host, uri: str) -> None:
    request = SubscribeRequest(params=SubscribeRequestParams(uri=uri))
    await host.client.session.send_request(request, EmptyResult)


async def unsubscribe(host: Host, uri: str) -> None:
    request = UnsubscribeRequest(params=UnsubscribeRequestParams(uri=uri))
    await host.client.session.send_request(request, EmptyResult)


async def first(stream: Subscription) -> Any:
    """The next event, which has to come within ten minutes of the virtual time."""
    with anyio.fail_after(600):
        return await anext(aiter(stream))


def following() -> set[asyncio.Task[Any]]:
    """The tasks that follow jobs."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("follow ")}


async def end_of(tasks: set[asyncio.Task[Any]]) -> None:
    """When these have ended, which has to be within ten minutes of the virtual time."""
    with anyio.fail_after(600):
        await asyncio.wait(tasks)


# Reading


async def test_hosts_find_the_list_and_the_template_of_a_job(host: Host) -> None:
    """Without videos to show, no template names one (ours)."""
    resources = (await host.client.list_resources()).resources
    templates = (await host.client.list_resource_templates()).resource_templates

    assert [resource.uri for resource in resources] == [
        *("wan://jobs", "ui://wan-mcp/player.html", "ui://wan-mcp/gallery.html"),
        *("skill://replace-a-character/SKILL.md", "wan://codes"),
    ]
    assert [template.uri_template for template in templates] == ["wan://jobs/{job_id}"]


async def test_a_job_reads_like_the_answer_of_get_job_status(host: Host) -> None:
    """One shape for tools and resources (ours)."""
    id = await host.start()
    text = await host.read(f"wan://jobs/{id}")

    assert json.loads(text) == await host.call("get_job_status", job_id=id)
    assert JobResult.model_validate_json(text).status == "running"


async def test_the_list_reads_like_the_answer_of_list_jobs(host: Host) -> None:
    """One shape for tools and resources (ours)."""
    ids = [await host.start(seed=seed) for seed in (1, 2)]
    text = await host.read("wan://jobs")

    assert json.loads(text) == await host.call("list_jobs")
    assert [job.job_id for job in JobList.model_validate_json(text).jobs or []] == ids[::-1]


async def test_codes_explain_each_code_once(host: Host) -> None:
    """A schema only lists them (ours)."""
    explained = json.loads(await host.read("wan://codes"))

    assert explained == {str(code): code.explanation for code in Code}
    assert len(set(explained.values())) == len(explained)


async def test_reading_a_fresh_or_ended_job_asks_nobody(host: Host) -> None:
    """A host may read a resource at any moment; requests are for waiting calls (ours)."""
    id = await host.start()
    await host.read(f"wan://jobs/{id}")
    before = host.asked
    await host.read(f"wan://jobs/{id}")
    fresh = host.asked - before
    await host.call("wait_for_job", job_id=id, timeout_seconds=900)
    before = host.asked
    ended = json.loads(await host.read(f"wan://jobs/{id}"))

    assert (fresh, host.asked - before) == (0, 0)
    assert ended["status"] == "completed"
    assert ended["video_url"]


async def test_an_id_that_nobody_knows_is_not_found(host: Host) -> None:
    """-32602 with the address, and what to do (MCP specification)."""
    error = await refusal(host, "wan://jobs/sub_nobody")

    assert error.code == -32602
    assert error.data == {"uri": "wan://jobs/sub_nobody"}
    assert "use exactly the one that replace_character returned" in error.message


@pytest.mark.parametrize(
    "uri",
    [
        "wan://jobs/../models",
        "wan://jobs/a/../b",
        "wan://jobs/%2e%2e",
        "wan://jobs/a b",
        "wan://jobs/",
        "wan://jobs/a/video",
        "wan://jobs/a/film",
        "wan://jobs?status=running",
        "wan://jobs/a\n",
        "wan://other",
    ],
)
async def test_what_is_no_job_id_is_refused_before_anything_else(host: Host, uri: str) -> None:
    """Anything but a plain id could climb to another endpoint with the key (ours)."""
    before = host.asked
    error = await refusal(host, uri)

    assert (error.code, host.asked) == (-32602, before)


async def test_an_error_of_the_vendor_is_an_error_with_a_next_step(host: Host) -> None:
    """No traceback and no key, in any revision (ours)."""
    host.sandbox.fault("GET", "/api/v1/jobs/job_x", faults.status(401), times=None)
    error = await refusal(host, "wan://jobs/job_x")

    assert error.code == -32603
    assert "PIXELDOJO_API_KEY" in error.message
    assert "pd_sandbox" not in str(error)


async def test_without_a_key_reading_says_how_to_set_one(time: VirtualTime, tmp_path: Path) -> None:
    """Without a key there is no account (ours)."""
    async with connected(time, tmp_path, key="") as host:
        error = await refusal(host, "wan://jobs")

    assert "PIXELDOJO_API_KEY" in error.message


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_defect_shows_no_host_its_text(
    mode: str, time: VirtualTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK itself would send it to hosts of handshake revisions (observed)."""

    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    async with connected(time, tmp_path, mode) as host:
        await host.start()
        monkeypatch.setattr("wan_mcp.surface.answers.results.list_result", broken)
        error = await refusal(host, "wan://jobs")

    assert (error.code, "secret" in str(error)) == (-32603, False)


# Completing


async def test_ids_are_completed_newest_first(host: Host) -> None:
    """From the ledger, so typing costs no request (ours)."""
    ids = [await host.start(seed=seed) for seed in (1, 2)]
    before = host.asked
    every = await host.client.complete(JOB, {"name": "job_id", "value": ""})
    one = await host.client.complete(JOB, {"name": "job_id", "value": ids[0]})

    assert every.completion.values == ids[::-1]
    assert one.completion.values == [ids[0]]
    assert host.asked == before


async def test_nothing_else_is_completed(host: Host) -> None:
    """Only ids are known here (ours)."""
    id = await host.start()
    prompt = PromptReference(name="replace_a_character")
    completions = [
        await host.client.complete(JOB, {"name": "other", "value": ""}),
        await host.client.complete(
            ResourceTemplateReference(uri="wan://jobs/{id}"), {"name": "job_id", "value": ""}
        ),
        await host.client.complete(prompt, {"name": "job_id", "value": id[:1]}),
    ]

    assert [each.completion.values for each in completions] == [[], [], []]


# Notifications


async def test_a_stream_has_each_change_until_the_end(modern: Host) -> None:
    """pending, processing, completed; the clock alone is no change (ours)."""
    id = await modern.start()
    uri = f"wan://jobs/{id}"
    seen = []
    async with modern.client.listen(resource_subscriptions=[uri]) as stream:
        while "completed" not in seen:
            assert await first(stream) == ResourceUpdated(uri)
            seen.append(json.loads(await modern.read(uri))["vendor_status"])

    assert seen == ["processing", "completed"]


async def test_a_subscriber_before_2026_is_notified_on_its_connection(legacy: Host) -> None:
    """resources/subscribe and resources/unsubscribe (MCP specification 2025-11-25)."""
    id = await legacy.start()
    uri = f"wan://jobs/{id}"
    await subscribe(legacy, uri)
    await subscribe(legacy, uri)
    await legacy.call("wait_for_job", job_id=id, timeout_seconds=900)
    with anyio.fail_after(600):
        updates = [await legacy.updates.receive() for _ in range(2)]
    await anyio.wait_all_tasks_blocked()

    assert updates == [uri, uri]
    assert legacy.updates.statistics().current_buffer_used == 0


async def test_what_another_process_learns_is_notified_here(
    modern: Host, time: VirtualTime, tmp_path: Path
) -> None:
    """The ledger is shared; the notice comes before this process would have polled (ours)."""
    id = await modern.start()
    uri = f"wan://jobs/{id}"
    async with (
        connected(time, tmp_path, beside=modern) as other,
        modern.client.listen(resource_subscriptions=[uri]) as stream,
    ):
        time.now += 61
        await other.call("get_job_status", job_id=id)
        learnt = time.now
        await first(stream)

    assert time.now - learnt <= 1


async def test_a_stream_says_which_resources_it_follows(modern: Host) -> None:
    """Lists never change here, and only jobs that are known are followed (ours)."""
    id = await modern.start()
    uris = [f"wan://jobs/{id}", "wan://jobs", "wan://jobs/sub_nobody", "wan://jobs/../x"]
    async with modern.client.listen(tools_list_changed=True, resource_subscriptions=uris) as stream:
        honored = stream.honored

    assert honored.resource_subscriptions == [f"wan://jobs/{id}"]
    assert not honored.tools_list_changed


async def test_a_subscriber_of_an_unknown_job_is_refused(legacy: Host) -> None:
    """It would wait for ever (ours)."""
    for uri in ("wan://jobs/sub_nobody", "wan://jobs", "wan://jobs/../x"):
        with pytest.raises(MCPError) as caught:
            await subscribe(legacy, uri)

        assert caught.value.code == -32602


async def test_subscriptions_leave_no_task_behind(host: Host) -> None:
    """Whether the job ends, the client unsubscribes or closes its stream (ours)."""
    ids = [await host.start(seed=seed) for seed in (1, 2)]
    uris = [f"wan://jobs/{id}" for id in ids]
    if host.client.protocol_version == "2026-07-28":
        async with host.client.listen(resource_subscriptions=uris):
            during = following()
    else:
        for uri in uris:
            await subscribe(host, uri)
        during = following()
        for uri in (*uris, "wan://jobs/other"):
            await unsubscribe(host, uri)
    await end_of(during)

    assert (len(during), following()) == (2, set())


async def test_a_followed_job_that_ended_makes_room(
    legacy: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of subscriptions counts what is still followed (ours)."""
    monkeypatch.setattr(subscriptions, "MAX_JOBS", 1)
    one, two = [await legacy.start(seed=seed) for seed in (1, 2)]
    await subscribe(legacy, f"wan://jobs/{one}")
    with pytest.raises(MCPError, match="followed already"):
        await subscribe(legacy, f"wan://jobs/{two}")
    during = following()
    await legacy.call("wait_for_job", job_id=one, timeout_seconds=900)
    await end_of(during)
    await subscribe(legacy, f"wan://jobs/{two}")

    assert len(during) == 1


async def test_a_stream_too_many_is_refused(modern: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that closes makes room (ours)."""
    monkeypatch.setattr(subscriptions, "MAX_STREAMS", 1)
    async with modern.client.listen(resource_subscriptions=["wan://jobs/x"]):
        with pytest.raises(MCPError, match="Too many subscriptions"):
            async with modern.client.listen(resource_subscriptions=["wan://jobs/x"]):
                pass
    await anyio.wait_all_tasks_blocked()
    async with modern.client.listen(resource_subscriptions=["wan://jobs/x"]) as stream:
        assert stream.honored.resource_subscriptions is None


async def test_a_job_that_can_no_longer_be_read_is_a_change(modern: Host) -> None:
    """A read then ends in the reason: the key is refused (ours)."""
    id = await modern.start()
    uri = f"wan://jobs/{id}"
    async with modern.client.listen(resource_subscriptions=[uri]) as stream:
        for path in ("/api/v1/jobs", "/api/v1/jobs/job_*"):
            modern.sandbox.fault("GET", path, faults.status(401), times=None)
        await first(stream)
        await modern.call("get_job_status", job_id=id)
        error = await refusal(modern, uri)

    assert "PIXELDOJO_API_KEY" in error.message


# Videos


class FakeViews:
    """A saved video of an unusual type, and neither source nor contact sheet."""

    async def saved_video(self, id: str) -> Blob:
        return Blob(b"\x00film", "video/webm")

    async def source_video(self, id: str) -> Blob:
        raise NotFound("The clip is gone.")

    async def contact_sheet(self, id: str) -> Blob:
        raise NotFound("There are no frames.")


@pytest.fixture
async def host_with_videos(
    time: VirtualTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Host]:
    """A host whose server has videos to show."""
    monkeypatch.setattr(App, "video_views", property(lambda app: FakeViews()))
    async with connected(time, tmp_path, local=True) as host:
        yield host


@pytest.fixture
async def local_host(time: VirtualTime, tmp_path: Path) -> AsyncIterator[Host]:
    """A host on this machine, where videos are saved."""
    async with connected(time, tmp_path, local=True) as host:
        yield host


@pytest.fixture(params=[True, False], ids=["with PyAV", "without PyAV"])
def pyav(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the extra is installed."""
    there: bool = request.param
    monkeypatch.setattr("wan_mcp.inputs.probe.available", lambda: there)
    return there


async def test_a_server_with_videos_lists_their_templates(
    host_with_videos: Host, pyav: bool
) -> None:
    """A contact sheet is there only where it can be made (ours)."""
    templates = (await host_with_videos.client.list_resource_templates()).resource_templates
    ends = [template.uri_template.rpartition("{job_id}")[2] for template in templates]

    assert ends == ["", "/video", "/source", *(["/poster"] if pyav else [])]


@pytest.mark.parametrize("name", ["video", "film"])
async def test_a_video_is_a_blob_of_its_own_type(host_with_videos: Host, name: str) -> None:
    """Not every video is an MP4; `film` was its name in earlier versions (ours)."""
    uri = f"wan://jobs/job_x/{name}"
    (content,) = (await host_with_videos.client.read_resource(uri)).contents

    assert isinstance(content, BlobResourceContents)
    assert (content.mime_type, base64.b64decode(content.blob)) == ("video/webm", b"\x00film")


async def test_a_video_that_is_not_here_is_not_found_with_the_reason(
    host_with_videos: Host,
) -> None:
    """With the reason that VideoViews gives (ours)."""
    missing = await refusal(host_with_videos, "wan://jobs/job_x/poster")
    gone = await refusal(host_with_videos, "wan://jobs/job_x/source")

    assert (missing.code, gone.code) == (-32602, -32602)
    assert missing.message.startswith("There are no frames.")
    assert gone.message.startswith("The clip is gone.")


@pytest.mark.parametrize("part", ["video", "poster"])
async def test_a_job_without_a_video_says_why_there_is_none(local_host: Host, part: str) -> None:
    """Nobody is sent to look for the video of a failed job (ours)."""
    id = await local_host.start()
    running = await refusal(local_host, f"wan://jobs/{id}/{part}")
    no_face = faults.edited({"status": "failed", "error": "no face"})
    local_host.sandbox.fault("GET", "*", no_face, times=None)
    await local_host.call("wait_for_job", job_id=id, timeout_seconds=60)
    failed = await refusal(local_host, f"wan://jobs/{id}/{part}")
    unknown = await refusal(local_host, f"wan://jobs/job_x/{part}")

    assert len({error.message for error in (running, failed, unknown)}) == 3
    assert "not ended" in running.message
    assert "failed" in failed.message
    assert f'get_job_status with job_id "{id}"' in failed.message


def remove(path: str) -> None:
    Path(path).unlink()


async def test_a_saved_video_can_be_too_large_or_gone(
    local_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a message of its own, because the next step differs (ours)."""
    id = await local_host.start()
    path = (await local_host.call("wait_for_job", job_id=id, timeout_seconds=900))["saved_path"]
    contents = (await local_host.client.read_resource(f"wan://jobs/{id}/video")).contents
    monkeypatch.setattr("wan_mcp.surface.video_views.MAX_INLINE_BYTES", 1_000)
    large = await refusal(local_host, f"wan://jobs/{id}/video")
    remove(path)
    gone = await refusal(local_host, f"wan://jobs/{id}/video")

    assert len(contents) == 1
    assert (large.code, gone.code) == (-32602, -32602)
    assert "larger" in large.message
    assert "no longer" in gone.message


async def test_source_of_a_chain_is_the_saved_video_of_the_first_job(local_host: Host) -> None:
    """A part of it would play at other seconds than the result, so none is shown (ours)."""
    first = await local_host.start()
    await local_host.call("wait_for_job", job_id=first, timeout_seconds=900)
    video = f"wan://jobs/{first}/video"
    whole = await local_host.start(video=video)
    part = await local_host.start(video=f"{video}#t=0,3")
    shown = (await local_host.client.read_resource(f"wan://jobs/{whole}/source")).contents
    saved = (await local_host.client.read_resource(video)).contents
    refused = await refusal(local_host, f"wan://jobs/{part}/source")

    assert [each.model_dump(exclude={"uri"}) for each in shown] == [
        each.model_dump(exclude={"uri"}) for each in saved
    ]
    assert "a file, or a part of a video: it is not sent" in refused.message


async def test_source_that_is_a_file_is_not_read_again() -> None:
    """It was read for the job that its user asked for, and for nothing else (ours)."""
    job = of_job(DONE, arguments={"video": "file:///home/ana/dance.mov"})

    class KnownJobs:
        async def known(self, id: str) -> JobView:
            return job

    views = VideoViews(cast(Jobs, KnownJobs()), cast(JobFiles, None))
    with pytest.raises(NotFound, match="it is not sent"):
        await views.source_video("job_1")


async def test_without_the_extra_the_refusal_names_it(
    local_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video itself is there, so it is not the video that is missing (ours)."""
    monkeypatch.setattr("wan_mcp.inputs.probe.available", lambda: False)
    id = await local_host.start()
    answer = await local_host.client.call_tool(
        "wait_for_job", {"job_id": id, "timeout_seconds": 900}
    )
    error = await refusal(local_host, f"wan://jobs/{id}/poster")

    assert "wan-mcp[media]" in error.message
    assert "image" not in {block.type for block in answer.content}


async def test_ids_are_completed_for_the_templates_of_videos_too(host_with_videos: Host) -> None:
    """Each template has the same variable (ours)."""
    id = await host_with_videos.start()
    template = ResourceTemplateReference(uri="wan://jobs/{job_id}/video")
    answer = await host_with_videos.client.complete(template, {"name": "job_id", "value": ""})

    assert answer.completion.values == [id]
