"""Inputs that PixelDojo cannot fetch itself: what is uploaded, sent and charged in all events."""

from collections.abc import Callable
from contextlib import aclosing
from unittest.mock import patch

import anyio
import anyio.lowlevel
import pytest

from tests.payments.home import Home, Server, home, sandbox
from tests.payments.local_inputs import CLIP, MB, PICTURE, Bucket
from tests.virtual_time import in_virtual_time
from wan_mcp.errors import InvalidArguments, NotFound, NotSent, OutcomeUnknown, Refused, WanError
from wan_mcp.jobs import ANSWER_SECONDS
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import JobView
from wan_mcp.models import JobStatus, Replacement
from wan_mcp.payments.sources import NoVideo, Sources
from wan_mcp.payments.staging import MOST_SECONDS, STILL_SECONDS
from wan_mcp.sandbox.http import faults
from wan_mcp.storage.delivery import Content

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/*/run"
time, anyio_backend = in_virtual_time(sockets=True)
_ = home, sandbox


FAILURES: dict[str, Exception] = {
    "refused": InvalidArguments("The clip has only 3 seconds."),
    "not allowed": NotSent("The credentials are not allowed to do this.", transient=False),
    "slow": NotSent("The storage was too slow."),
    "disk full": OSError(28, "No space left on device"),
    "defect": RuntimeError("a defect"),
}


async def ended(server: Server, id: str) -> JobView:
    """The state of a request when nothing of it is on the way any more."""
    await server.ledger.settled(id, 600)
    return await server.jobs.check(id)


async def test_links_take_the_place_of_files_and_are_paid_once(home: Home) -> None:
    """PixelDojo gets signed links, and the record keeps them without the signature."""
    home.bucket.go_on.set()
    async with home.server() as server:
        view = await server.submit(home.wanted())

    clip, picture = [home.bucket.link_of(await home.content(uri)) for uri in (CLIP, PICTURE)]
    [body] = home.bodies
    assert body["video"] == f"{clip}?signature=1"
    assert body["character_image"] == f"{picture}?signature=2"
    assert not {name for name in body if "sha256" in name}
    assert view.record is not None
    assert view.record.arguments["video"] == f"{CLIP}#t=12,17"
    assert view.record.arguments["sent_video"] == clip
    assert "signature" not in str(view.record.arguments)
    assert view.changes == "video was cut. character_image was cut."
    assert home.preparation.asked == [("video", "#t=12,17", 5), ("character_image", "", 5)]
    assert list((home.folder / "prepared").iterdir()) == []


async def test_a_call_answers_while_its_upload_stands_still(home: Home) -> None:
    """It says how far the upload is, and that nothing is charged; a wait says it repeatedly."""
    async with home.server() as server:
        began = home.time.now
        view = await server.submit(home.wanted())
        answered = home.time.now - began
        status = await server.jobs.check(view.id)
        async with aclosing(server.jobs.watch(view.id, 10)) as readings:
            waiting = [reading async for reading in readings]
        charged_early = len(home.sandbox.charges)
        home.bucket.go_on.set()
        done = await ended(server, view.id)

    said = "uploading, 39 of 120 MB, nothing charged yet"
    assert view.status is status.status is JobStatus.SUBMITTING
    assert answered <= ANSWER_SECONDS
    assert [str(view.progress), str(status.progress)] == [said, said]
    assert len(waiting) >= 4
    assert {str(each.progress) for each in waiting if isinstance(each, JobView)} == {said}
    assert charged_early == 0
    assert done.status is JobStatus.RUNNING
    assert done.progress is None
    assert len(home.sandbox.charges) == 1


async def test_a_wait_goes_on_with_the_job_when_the_upload_is_done(home: Home) -> None:
    """One call of wait_for_job is enough from the upload to the video."""
    async with home.server() as server, anyio.create_task_group() as running:
        running.start_soon(server.jobs.run)
        view = await server.submit(home.wanted())
        phases: list[tuple[JobStatus, bool]] = []
        async with aclosing(server.jobs.watch(view.id, 600)) as readings:
            async for reading in readings:
                assert isinstance(reading, JobView)
                phases.append((reading.status, reading.progress is not None))
                home.bucket.go_on.set()
        running.cancel_scope.cancel()

    assert phases[0] == (JobStatus.SUBMITTING, True)
    assert phases[-1] == (JobStatus.COMPLETED, False)
    assert len(home.sandbox.charges) == 1


async def test_the_same_file_is_uploaded_and_paid_once(home: Home) -> None:
    """Called twice, by another server, and under another name after a restart."""
    home.bucket.go_on.set()
    copy = "file:///media/stick/copy.mov"
    home.disk.write(copy, b"clip", 119 * MB)
    async with home.server() as server, home.server() as other:
        ids = {(await server.submit(home.wanted())).id for _ in range(2)}
        ids.add((await other.submit(home.wanted())).id)
    async with home.server() as restarted:
        joined = await restarted.submit(home.wanted(video=f"{copy}#t=12,17"))
        ids.add(joined.id)
        another = await restarted.submit(home.wanted(video=copy))

    assert len(ids) == 1
    assert joined.joined
    assert another.id not in ids
    assert len(home.sandbox.charges) == 2
    assert list(home.bucket.objects.values()) == [1, 1]


async def test_two_calls_during_an_upload_are_one_request(home: Home) -> None:
    """The second one joins, here or in another process, which cannot know how far it is."""
    async with home.server() as server, home.server() as other:
        first = await server.submit(home.wanted())
        second = await server.submit(home.wanted())
        third = await other.submit(home.wanted())
        async with aclosing(other.jobs.watch(third.id, 10)) as readings:
            waiting = [reading async for reading in readings]
        home.bucket.go_on.set()
        done = await ended(other, third.id)

    assert first.id == second.id == third.id
    assert str(second.progress) == "uploading, 39 of 120 MB, nothing charged yet"
    elsewhere = "another server of yours is making the inputs available, nothing charged yet"
    assert str(third.progress) == elsewhere
    assert {str(each.progress) for each in waiting if isinstance(each, JobView)} == {elsewhere}
    assert len(waiting) < 5
    assert done.status is JobStatus.RUNNING
    assert len(home.sandbox.charges) == 1


async def test_a_request_that_is_withdrawn_during_its_upload_ends_as_not_sent(home: Home) -> None:
    """The upload stops at once, and nothing is sent however long one waits."""
    async with home.server() as server:
        view = await server.submit(home.wanted())
        withdrawn = await server.jobs.withdraw(view.id)
        home.bucket.go_on.set()
        await anyio.sleep(60)
        again = await server.submit(home.wanted())

    assert withdrawn.status is JobStatus.NOT_SENT
    assert withdrawn.progress is None
    assert home.bucket.stopped == 1
    assert home.bucket.released == [view.id]
    assert again.id != view.id
    assert len(home.sandbox.charges) == 1


async def test_a_server_that_stops_waits_for_no_upload(home: Home) -> None:
    """Its host would kill it; the request ends as not sent, and may be made again."""
    async with home.server() as server:
        view = await server.submit(home.wanted())
        began = home.time.now
        await server.jobs.drain(600)
        took = home.time.now - began
        stopped = await server.jobs.check(view.id)
    async with home.server() as next_start:
        home.bucket.go_on.set()
        await next_start.submit(home.wanted())

    assert took < 1
    assert stopped.status is JobStatus.NOT_SENT
    assert "stopping" in stopped.why
    assert len(home.sandbox.charges) == 1


async def test_a_server_that_is_killed_during_an_upload_has_bought_nothing(home: Home) -> None:
    """The next start settles the request, and the equal call pays once."""
    async with home.server(killed=True) as server:
        view = await server.submit(home.wanted())
    async with home.server() as next_start:
        found = await next_start.jobs.check(view.id)
        home.bucket.go_on.set()
        again = await next_start.submit(home.wanted())

    assert found.status is JobStatus.NOT_SENT
    assert again.status is JobStatus.RUNNING
    assert len(home.sandbox.charges) == 1


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        *(("prepare", kind) for kind in ("refused", "disk full", "defect")),
        *(("upload", kind) for kind in ("not allowed", "slow", "disk full", "defect")),
    ],
)
async def test_what_fails_before_the_request_is_sent_buys_nothing(
    home: Home, kind: str, where: str
) -> None:
    """Each failure ends the request as not sent, and the equal call may try.

    Later answers still say what happened and what to do about it: an upload may fail when no call
    waits for it any more.
    """
    failure = FAILURES[kind]
    home.bucket.go_on.set()
    if where == "prepare":
        home.preparation.failure = failure
    else:
        home.bucket.failure = failure
    async with home.server() as server:
        with pytest.raises(NotSent) as refused:
            await server.submit(home.wanted())
        recent = await server.jobs.recent(None, 10)
        charged = len(home.sandbox.charges)
        home.preparation.failure = home.bucket.failure = None
        again = await server.submit(home.wanted())

    assert refused.value.charged == "no"
    assert [view.status for view in recent] == [JobStatus.NOT_SENT]
    assert recent[0].why == f"{refused.value.what} {refused.value.next_step}"
    assert (charged, len(home.sandbox.seen("POST", RUN))) == (0, 1)
    assert home.bucket.released == [recent[0].id]
    assert again.status is JobStatus.RUNNING
    assert list((home.folder / "prepared").iterdir()) == []


class Endless(Bucket):
    """A bucket that never has all of a file.

    Attributes:
        seconds: between two reports of what it has.
        step: how many bytes it has taken each time.
    """

    seconds = 300.0
    step = 0

    async def _upload(self, content: Content, name: str, report: Callable[[int], None]) -> None:
        taken = 0
        while True:
            taken += self.step
            report(taken)
            await anyio.sleep(self.seconds)


@pytest.mark.parametrize(
    ("step", "limit", "what"),
    [
        (0, STILL_SECONDS, "video was not made available: nothing moved for 10 min 0 s."),
        (1, MOST_SECONDS, "The inputs are not available after 6 h 0 min."),
    ],
    ids=["stands still", "never ends"],
)
async def test_an_upload_without_end_ends_as_not_sent(
    home: Home, step: int, limit: float, what: str
) -> None:
    """Its credits must not be reserved for ever, and its caller learns why (ours)."""
    endless = Endless(home.bucket.base)
    endless.step = step
    whole, home.bucket = home.bucket, endless
    async with home.server() as server:
        view = await server.submit(home.wanted())
        began = home.time.now
        await anyio.sleep(limit - ANSWER_SECONDS - 1)
        before = await server.jobs.check(view.id)
        await anyio.sleep(2)
        after = await server.jobs.check(view.id)
        took = home.time.now - began
    home.bucket = whole
    home.bucket.go_on.set()
    async with home.server() as server:
        again = await server.submit(home.wanted())

    assert (before.status, after.status) == (JobStatus.SUBMITTING, JobStatus.NOT_SENT)
    assert took <= limit
    assert after.why.startswith(what)
    assert "Repeating the same call is safe." in after.why
    assert endless.released == [view.id]
    assert again.status is JobStatus.RUNNING
    assert len(home.sandbox.charges) == 1


async def test_files_that_are_lent_are_not_said_to_be_uploaded(home: Home) -> None:
    """They stay on this computer until PixelDojo fetches them (ours)."""
    home.bucket.uploads = False
    async with home.server() as server:
        view = await server.submit(home.wanted())
        await server.jobs.withdraw(view.id)

    made = "making the inputs available through your own address, nothing charged yet"
    assert str(view.progress) == made


@pytest.mark.parametrize("when", ["before it is read again", "while it is uploaded"])
async def test_a_file_that_changes_is_not_sent(home: Home, when: str) -> None:
    """Neither what was there nor what is there now is what the user meant for certain."""
    async with home.server() as server:
        if when == "before it is read again":
            located = await server.jobs.located(home.wanted())
            server.opened.clear()  # nothing of it is remembered
            home.disk.write(CLIP, b"another clip")
            home.bucket.go_on.set()
            with pytest.raises(NotSent):
                await server.jobs.submit(located)
        else:
            view = await server.submit(home.wanted())
            home.disk.write(CLIP, b"another clip")
            home.bucket.go_on.set()
            ended_as = await ended(server, view.id)
            assert ended_as.status is JobStatus.NOT_SENT
            assert "could not be read" in ended_as.why

    assert home.sandbox.charges == []
    assert home.bucket.objects == {}


async def test_a_job_whose_answer_was_lost_is_found_by_the_link_of_the_upload(home: Home) -> None:
    """The list shows our link, not the path of the file."""
    home.bucket.go_on.set()
    home.sandbox.fault("POST", RUN, faults.dropped(work=True))
    async with home.server() as server:
        with pytest.raises(OutcomeUnknown) as lost:
            await server.submit(home.wanted(seed=7))
        found = await server.jobs.check(lost.value.job_id or "")

    assert found.id == home.sandbox.charges[0].job_id
    assert len(home.sandbox.charges) == 1
    assert home.bucket.released == []


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:9000/b", "http://192.168.1.5:9000/b", "http://minio:9000/b"]
)
async def test_a_link_that_only_this_network_can_reach_is_never_paid_for(
    home: Home, base: str
) -> None:
    """A storage at home takes every upload, and PixelDojo could fetch nothing from it."""
    home.bucket.base = base
    home.bucket.go_on.set()
    async with home.server(loopback=False) as server:
        with pytest.raises(NotSent) as refused:
            await server.submit(home.wanted())

    assert refused.value.charged == "no"
    assert "AWS_ENDPOINT_URL" in refused.value.next_step
    assert home.sandbox.charges == []


async def test_a_link_that_became_old_during_a_slow_upload_is_made_again(home: Home) -> None:
    """The clip is uploaded first; the picture takes longer than a link may wait."""

    async def slow(name: str) -> None:
        if name == "character_image":
            await anyio.sleep(2)

    home.bucket.pause = slow
    home.bucket.go_on.set()
    with patch("wan_mcp.payments.staging.FRESH_SECONDS", 1.0):
        async with home.server() as server:
            await server.submit(home.wanted())

    [body] = home.bodies
    assert str(body["video"]).endswith("?signature=3")
    assert str(body["character_image"]).endswith("?signature=2")
    assert list(home.bucket.objects.values()) == [1, 1]


async def test_a_repeated_request_has_links_that_were_just_made(home: Home) -> None:
    """Before it was repeated, it waited for so long that its links had become old."""
    home.bucket.go_on.set()
    home.sandbox.fault("POST", RUN, faults.status(429, headers={"Retry-After": "5"}))
    with patch("wan_mcp.payments.staging.FRESH_SECONDS", 4.0):
        async with home.server() as server:
            view = await server.submit(home.wanted())
            await ended(server, view.id)

    posts = home.sandbox.seen("POST", RUN)
    assert len(posts) == 2
    assert str(home.bodies[0]["video"]).endswith("?signature=3")
    assert len(home.sandbox.charges) == 1


async def completed(server: Server, home: Home) -> str:
    """The id of a job that is completed, which was started with links."""
    links = {"video": home.sandbox.source_video_url, "character_image": home.sandbox.image_url}
    view = await server.submit(Replacement.model_validate(links | {"seed": 1}))
    await anyio.sleep(90)
    assert (await server.jobs.check(view.id)).status is JobStatus.COMPLETED
    return view.id


def chain(home: Home, id: str, fragment: str = "") -> Replacement:
    return home.wanted(
        video=f"wan://jobs/{id}/video{fragment}", character_image=home.sandbox.image_url
    )


@pytest.mark.parametrize("delivers", [True, False])
async def test_a_chain_sends_the_living_link_of_a_video_that_is_not_saved_here(
    home: Home, delivers: bool
) -> None:
    """Over HTTP, and without any storage: the link is public, and nothing is uploaded."""
    async with home.server(delivers=delivers, files=delivers) as server:
        id = await completed(server, home)
        link = (await server.jobs.check(id)).job.video_url  # type: ignore[union-attr]
        view = await server.submit(chain(home, id))
        again = await server.submit(chain(home, id))

    assert home.bodies[1]["video"] == link
    assert view.record is not None
    assert view.record.arguments["video"] == f"wan://jobs/{id}/video"
    assert view.record.arguments["sent_video"] == str(link).partition("?")[0]
    assert again.joined
    assert home.bucket.objects == {}
    assert len(home.sandbox.charges) == 2


SAVED = "file:///data/films/job.mp4"


async def saved_job(server: Server, home: Home, place: str = "/data/films/job.mp4") -> str:
    """The id of a completed job whose video is saved at that place."""
    home.disk.write(SAVED, b"the video of the job")
    id = await completed(server, home)
    record = await server.ledger.find(await server.account(), id)
    assert record is not None
    sha256 = (await home.content(SAVED)).sha256
    await server.ledger.coordination.saved(record.submission_id, place, sha256, MB)
    return id


async def test_a_chain_sends_the_saved_video_even_when_its_link_has_expired(home: Home) -> None:
    """It is uploaded like a file of this computer, and may begin anywhere."""
    home.bucket.go_on.set()
    async with home.server() as server:
        id = await saved_job(server, home)
        await anyio.sleep(2 * 86_400)
        await server.submit(chain(home, id, "#t=2"))

    link = home.bucket.link_of(await home.content(SAVED))
    assert str(home.bodies[1]["video"]).startswith(link)
    assert home.preparation.asked == [("video", "#t=2", 5)]


async def test_a_chain_never_sends_another_file_that_has_the_name_of_the_video(home: Home) -> None:
    """The request is equal to every other one for that job, so it must be for its video."""
    home.bucket.go_on.set()
    async with home.server() as server:
        id = await saved_job(server, home)
        link = (await server.jobs.check(id)).job.video_url  # type: ignore[union-attr]
        home.disk.write(SAVED, b"a video that was edited")
        await server.submit(chain(home, id))
        await anyio.sleep(2 * 86_400)
        expired = await refusal(server, chain(home, id, "#t=0,6"))

    assert home.bodies[1]["video"] == link
    assert home.bucket.objects == {}
    assert "expired" in expired.what
    assert len(home.sandbox.charges) == 2


async def test_a_chain_is_not_sent_with_a_link_that_ends_before_it_can_be_fetched(
    home: Home,
) -> None:
    """The other input took so long: a job that cannot fetch its video would be paid for nothing."""

    async def slow(name: str) -> None:
        await anyio.sleep(8 * 60)

    home.bucket.go_on.set()
    home.bucket.pause = slow
    async with home.server() as server:
        id = await completed(server, home)
        record = await server.ledger.find(await server.account(), id)
        assert record is not None
        assert record.expires_at is not None
        left = (record.expires_at - home.time.wall()).total_seconds()
        await anyio.sleep(left - 12 * 60)
        view = await server.submit(home.wanted(video=f"wan://jobs/{id}/video"))
        view = await ended(server, view.id)

    assert view.status is JobStatus.NOT_SENT
    assert "expires" in view.why
    assert len(home.sandbox.charges) == 1


@pytest.mark.parametrize("place", ["/data/films\n/job.mp4", "/data/films#t=x/job.mp4"])
async def test_a_chain_of_a_video_with_an_odd_path_sends_its_link(home: Home, place: str) -> None:
    """No place that a record has may break the call that names the job."""
    async with home.server() as server:
        id = await saved_job(server, home, place)
        link = (await server.jobs.check(id)).job.video_url  # type: ignore[union-attr]
        await server.submit(chain(home, id))

    assert home.bodies[1]["video"] == link


async def test_the_submission_id_of_a_job_means_the_same_job(home: Home) -> None:
    """A caller may still have the id of its first answer."""
    async with home.server() as server:
        id = await completed(server, home)
        record = await server.ledger.find(await server.account(), id)
        assert record is not None
        located = await server.jobs.located(chain(home, record.submission_id, "#t=0,3"))

    assert located.video == f"wan://jobs/{id}/video#t=0,3"


async def refusal(server: Server, wanted: Replacement) -> WanError:
    with pytest.raises(Refused) as refused:
        await server.submit(wanted)
    assert refused.value.charged == "no"
    return refused.value


async def test_a_chain_of_a_job_without_a_video_is_refused_with_the_call_to_make(
    home: Home,
) -> None:
    """Running, unknown to the ledger, of an expired link, and a part that nothing here can cut."""
    async with home.server(delivers=False) as server:
        links = {"video": home.sandbox.source_video_url, "character_image": home.sandbox.image_url}
        running = await server.submit(Replacement.model_validate(links | {"seed": 2}))
        going = await refusal(server, chain(home, running.id))
        missing = await refusal(server, chain(home, "job_of_nobody"))
        id = await completed(server, home)
        part = await refusal(server, chain(home, id, "#t=2"))
        await anyio.sleep(2 * 86_400)
        expired = await refusal(server, chain(home, id))
        recent = await server.jobs.recent(None, 10)

    assert f'wait_for_job with job_id "{running.id}"' in going.next_step
    assert isinstance(missing, NotFound)
    assert 'get_job_status with job_id "job_of_nobody"' in missing.next_step
    assert "from its first second" in part.what
    assert "has expired" in expired.what
    assert all(isinstance(each, NoVideo) for each in (going, part, expired))
    assert len(recent) == len(home.sandbox.charges) == 2


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (State.FAILED, "failed"),
        (State.LOST, "no longer known"),
        (State.REFUSED, "turned down"),
        (State.NOT_SENT, "never started"),
        (State.UNKNOWN, "not known"),
        (State.SENDING, "has not ended"),
    ],
)
async def test_a_chain_of_a_job_that_ended_without_a_video_says_so(
    home: Home, state: State, says: str
) -> None:
    """A sentence for each end, and nothing is read or sent."""

    async def find(id: str) -> Record:
        return Record(
            submission_id="sub_1", account="me", state=state, created_at=home.time.wall(), owner=""
        )

    sources = Sources(None, find, home.time.clock(), delivers=False)

    with pytest.raises(NoVideo, match=says):
        await sources.located(chain(home, "sub_1"))


async def test_of_two_inputs_that_cannot_be_used_the_answer_is_about_the_video(
    home: Home,
) -> None:
    """Whichever is found out first: the same call gets the same answer each time (ours)."""
    picture_is_refused = anyio.Event()

    async def find(id: str) -> Record:
        if id == "sub_picture":
            picture_is_refused.set()
            raise NotFound("the picture")
        await picture_is_refused.wait()
        await anyio.lowlevel.checkpoint()
        raise NotFound("the video")

    sources = Sources(None, find, home.time.clock(), delivers=False)
    both = chain(home, "sub_video").model_copy(
        update={"character_image": "wan://jobs/sub_picture/video"}
    )

    with pytest.raises(NotFound, match="the video"):
        await sources.located(both)


async def test_a_file_without_a_way_to_pixeldojo_is_refused_before_it_is_read(home: Home) -> None:
    """The recipe names three ways, and no request is claimed."""
    async with home.server(delivers=False) as server:
        refused = await refusal(server, home.wanted())
        recent = await server.jobs.recent(None, 10)

    assert "Three ways" in refused.next_step
    assert home.disk.read == []
    assert recent == []


async def test_a_request_with_links_opens_nothing_for_files(home: Home) -> None:
    """Whoever has no files pays nothing for them: no import, no memory, no folder."""
    async with home.server() as server:
        await completed(server, home)

    assert server.opened == []
