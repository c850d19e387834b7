"""The simulated vendor without faults: accounts, jobs, refusals, videos and its own pages."""

import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from wan_mcp.sandbox import Sandbox, Terms, serve
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.vendor import prices

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 3600
"""No test here depends on the speed of the machine; only one that hangs gets this far."""
RUN = "models/wan-2.2-replace/run"
BODY = {
    "video": "https://example.com/dance.mp4",
    "character_image": "https://example.com/robot.png",
    "video_duration": 5,
}
EPOCH = 1_795_000_000.0
REPLIES = Path(__file__).parents[1] / "pixeldojo" / "replies"


@dataclass
class Clock:
    """Seconds that only the test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Customer:
    """A client with a key, the sandbox it talks to, and the sandbox's clock."""

    http: httpx.AsyncClient
    sandbox: Sandbox
    clock: Clock

    async def submit(self, **changes: object) -> httpx.Response:
        return await self.http.post(RUN, json=BODY | changes)

    async def job_id(self, **changes: object) -> str:
        accepted = await self.submit(**changes)
        return str(accepted.raise_for_status().json()["jobId"])

    async def job(self, job_id: str) -> Any:
        return (await self.http.get(f"jobs/{job_id}")).raise_for_status().json()

    async def listed(self, query: str = "") -> list[Any]:
        listed: list[Any] = (await self.http.get(f"jobs{query}")).json()["jobs"]
        return listed


def plain_client(**arguments: Any) -> httpx.AsyncClient:
    """Without the certificates of this machine: loading them takes longer than a whole test."""
    return httpx.AsyncClient(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, timeout=None, **arguments
    )


@asynccontextmanager
async def customer_of(**terms: Any) -> AsyncIterator[Customer]:
    clock = Clock()
    with anyio.fail_after(LIMIT_SECONDS):
        async with Sandbox(
            Terms(**terms), clock=clock, epoch=EPOCH, idle_seconds=LIMIT_SECONDS
        ) as sandbox:
            headers = {"Authorization": f"Bearer {sandbox.key}"}
            async with plain_client(base_url=sandbox.api_base, headers=headers) as http:
                yield Customer(http, sandbox, clock)


@pytest.fixture
async def customer() -> AsyncIterator[Customer]:
    async with customer_of() as customer:
        yield customer


async def test_submit_is_accepted_charged_and_recorded(customer: Customer) -> None:
    """A submit answers 202 with the documented fields and charges the price once (vendor)."""
    answer = await customer.submit(seed=7)

    fields = answer.json()
    assert answer.status_code == 202
    assert fields == {
        "jobId": fields["jobId"],
        "status": "pending",
        "statusUrl": f"{customer.sandbox.api_base}/jobs/{fields['jobId']}",
        "creditCost": 10,
        "creditsRemaining": 90,
        "expiresAt": "2026-11-19T11:06:40Z",
    }
    (charge,) = customer.sandbox.charges
    assert (charge.key, charge.job_id, charge.amount) == (customer.sandbox.key, fields["jobId"], 10)
    assert charge.body == BODY | {"seed": 7}
    (request,) = customer.sandbox.requests
    assert (request.method, request.target) == ("POST", f"/api/v1/{RUN}")
    assert request.json() == BODY | {"seed": 7}
    assert request.headers["authorization"] == f"Bearer {customer.sandbox.key}"
    assert (request.connection, customer.sandbox.connections) == (1, 1)


async def test_job_moves_on_only_with_the_clock(customer: Customer) -> None:
    """pending, processing and completed follow the clock that is handed in (ours)."""
    job_id = await customer.job_id()
    states = []
    for customer.clock.now in (0.0, 0.99, 1.0, 4.99, 5.0):
        states.append((await customer.job(job_id))["status"])

    assert states == ["pending", "pending", "processing", "processing", "completed"]
    video = f"{customer.sandbox.origin}/media/results/{job_id}.mp4"
    assert (await customer.job(job_id))["output"] == {"video": video}


async def test_job_can_be_finished_at_once() -> None:
    """Without waiting times the first poll finds the video (ours)."""
    async with customer_of(pending_seconds=0, processing_seconds=0) as customer:
        job = await customer.job(await customer.job_id())

    assert job["status"] == "completed"


async def test_video_without_a_person_fails_and_stays_charged(customer: Customer) -> None:
    """The failing video is recognized by its path on any host; nothing is refunded (ours)."""
    job_id = await customer.job_id(video="https://example.com/media/no-person.mp4")
    customer.clock.now = 5

    job = await customer.job(job_id)

    assert job["status"] == "failed"
    assert "person" in job["error"]
    assert "output" not in job
    assert len(customer.sandbox.charges) == 1
    assert customer.sandbox.vendor.credits() == {customer.sandbox.key: 90}


async def test_endless_video_is_processed_forever(customer: Customer) -> None:
    """Its job never ends, which shows what a bounded wait returns (ours)."""
    job_id = await customer.job_id(video=f"{customer.sandbox.origin}/media/endless.mp4")
    customer.clock.now = 1e6

    assert (await customer.job(job_id))["status"] == "processing"


async def test_credits_belong_to_the_key_and_may_be_fractional() -> None:
    """Each key pays from its own credits, and gets 402 when they do not suffice (vendor)."""
    async with customer_of(credits=0.7, price=0.35) as customer:
        poor = customer.sandbox.open_account(credits=0.3)
        left = [(await customer.submit()).json().get("creditsRemaining") for _ in range(2)]
        broke = await customer.submit()
        refused = await customer.http.post(
            RUN, json=BODY, headers={"Authorization": f"Bearer {poor}"}
        )

        assert left == [0.35, 0]
        for answer in (broke, refused):
            assert answer.status_code == 402
            assert answer.json()["error"]["code"] == "insufficient_credits"
        assert customer.sandbox.vendor.credits() == {customer.sandbox.key: 0, poor: 0.3}
        assert len(customer.sandbox.charges) == 2


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer pd_wrong", "Basic pd_sandbox"])
async def test_unknown_key_is_refused_everywhere_private(
    customer: Customer, authorization: str
) -> None:
    """Without a valid key, submits, jobs and the list answer 401; nothing is charged (vendor)."""
    headers = {"Authorization": authorization}
    answers = [
        await customer.http.post(RUN, json=BODY, headers=headers),
        await customer.http.get("jobs/job_1", headers=headers),
        await customer.http.get("jobs", headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert {answer.json()["error"]["code"] for answer in answers} == {"unauthorized"}
    assert customer.sandbox.charges == []


async def test_model_pages_need_no_key(customer: Customer) -> None:
    """The model list, page and schema are public (vendor)."""
    del customer.http.headers["Authorization"]
    paths = ("models", "models/wan-2.2-replace", "models/wan-2.2-replace/schema")
    models, page, schema = [(await customer.http.get(path)).json() for path in paths]

    price = {"default": 10, "type": "fixed", "amount": 10}
    assert models["models"][0]["creditCost"] == price
    assert page["creditCost"] == price
    assert page["requestSchema"] == schema["schema"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"video": None}, "video"),
        ({"character_image": "ftp://example.com/a.png"}, "character_image"),
        ({"video": "https://[broken"}, "video"),
        ({"video_duration": 16}, "video_duration"),
        ({"video_duration": True}, "video_duration"),
        ({"video_duration": "5"}, "video_duration"),
        ({"resolution": 480}, "resolution"),
        ({"resolution": "1080"}, "resolution"),
        ({"refert_num": 0}, "refert_num"),
        ({"frames_per_second": 31}, "frames_per_second"),
        ({"go_fast": 1}, "go_fast"),
        ({"seed": 1.5}, "seed"),
        ({"prompt": "a cat"}, "prompt"),
    ],
)
async def test_body_outside_the_schema_is_refused_free(
    customer: Customer, changes: dict[str, object], named: str
) -> None:
    """A body that breaks the published schema gets a 400 that names the field (assumed)."""
    answer = await customer.submit(**changes)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert answer.json()["error"]["message"].startswith(f"Invalid request: {named} ")
    assert customer.sandbox.charges == []


@pytest.mark.parametrize("field", ["video", "character_image", "video_duration"])
async def test_missing_field_is_named(customer: Customer, field: str) -> None:
    """If a required field is missing, the message says which one (vendor)."""
    body = {name: value for name, value in BODY.items() if name != field}

    answer = await customer.http.post(RUN, json=body)

    assert answer.status_code == 400
    assert f"{field} is required" in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
async def test_body_that_is_no_object_is_refused(customer: Customer, content: bytes) -> None:
    """A body that is not a JSON object gets a 400, and nothing is charged (assumed)."""
    answer = await customer.http.post(RUN, content=content)

    assert (answer.status_code, customer.sandbox.charges) == (400, [])


async def test_resolution_may_have_to_be_a_number() -> None:
    """The type on the wire is not documented, so the terms can choose it (ours)."""
    async with customer_of(resolutions=(480, 720)) as customer:
        page = (await customer.http.get("models/wan-2.2-replace/schema")).json()["schema"]
        text, number = [await customer.submit(resolution=value) for value in ("480", 480)]

    assert page["properties"]["resolution"]["type"] == "integer"
    assert (text.status_code, number.status_code) == (400, 202)
    assert "resolution" in text.json()["error"]["message"]


async def test_other_peoples_jobs_look_like_missing_ones(customer: Customer) -> None:
    """Another key's job and an unknown id get the same 404 (assumed)."""
    job_id = await customer.job_id()
    other = {"Authorization": f"Bearer {customer.sandbox.open_account()}"}

    theirs = await customer.http.get(f"jobs/{job_id}", headers=other)
    unknown = await customer.http.get("jobs/job_unknown")

    assert theirs.status_code == unknown.status_code == 404
    assert theirs.json() == unknown.json()
    assert (await customer.http.get("jobs", headers=other)).json() == {"jobs": []}


async def test_unknown_models_paths_and_methods_are_refused(customer: Customer) -> None:
    """A missing model gets the documented code, and other paths are refused (vendor)."""
    model = await customer.http.post("models/flux-1.1-pro/run", json=BODY)
    page = await customer.http.get("models/flux-1.1-pro")
    path = await customer.http.get("balance")
    method = await customer.http.get(RUN)

    for answer in (model, page):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert path.status_code == 404
    assert (method.status_code, method.headers["allow"]) == (405, "POST")


async def test_list_is_newest_first_echoes_input_and_is_capped() -> None:
    """The list contains the key's newest jobs with their input (assumed)."""
    async with customer_of(list_cap=2) as customer:
        ids = [await customer.job_id(seed=seed) for seed in (1, 2, 3)]
        listed = await customer.listed()

        assert [entry["jobId"] for entry in listed] == [ids[2], ids[1]]
        assert [entry["input"] for entry in listed] == [BODY | {"seed": 3}, BODY | {"seed": 2}]
        assert [entry["jobId"] for entry in await customer.listed("?limit=1")] == [ids[2]]


async def test_list_can_show_new_jobs_late() -> None:
    """With a lag, a new job can be read at once but is listed only later (ours)."""
    async with customer_of(list_lag_seconds=3, list_echoes_input=False) as customer:
        job_id = await customer.job_id()
        customer.clock.now = 2.9
        early = await customer.listed()
        customer.clock.now = 3
        (entry,) = await customer.listed()

        assert early == []
        assert entry["jobId"] == job_id
        assert "input" not in entry
        assert (await customer.job(job_id))["jobId"] == job_id


async def test_list_can_be_missing_or_bare(customer: Customer) -> None:
    """The vendor shows no reply for the list, so it may be missing or a bare array (ours)."""
    customer.sandbox.terms = replace(customer.sandbox.terms, list_exists=False)
    absent = await customer.http.get("jobs")
    customer.sandbox.terms = replace(customer.sandbox.terms, list_exists=True, list_field=None)
    bare = await customer.http.get("jobs")

    assert absent.status_code == 404
    assert bare.json() == []


async def test_everything_but_the_job_id_can_be_left_out() -> None:
    """Each other field of the reply to a submit is missing in some vendor sample (vendor)."""
    others = frozenset(
        {"jobId", "status", "statusUrl", "creditCost", "creditsRemaining", "expiresAt"}
    )
    async with customer_of(submit_omits=others, job_omits=frozenset({"creditCost"})) as customer:
        accepted = (await customer.submit()).json()
        job = await customer.job(accepted["jobId"])

    assert set(accepted) == {"jobId"}
    assert set(job) == {"jobId", "status", "expiresAt"}


async def test_rate_limit_holds_per_key_over_all_endpoints() -> None:
    """All requests of a key share one limit a minute, which headers report (vendor)."""
    async with customer_of(requests_per_minute=2) as customer:
        accepted = await customer.submit()
        customer.clock.now = 20
        missing = await customer.http.get("jobs/none")
        limited = await customer.submit()
        public = await customer.http.get("models")
        customer.clock.now = 60
        again = await customer.submit()

        assert accepted.headers["x-ratelimit-limit"] == "2"
        assert accepted.headers["x-ratelimit-remaining"] == "1"
        assert missing.headers["x-ratelimit-remaining"] == "0"
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "40")
        assert limited.headers["x-ratelimit-reset"] == f"{EPOCH + 60:.0f}"
        assert (public.status_code, again.status_code) == (200, 202)
        assert len(customer.sandbox.charges) == 2


async def test_quoted_price_can_differ_from_the_charge() -> None:
    """The vendor's own pages contradict each other, so a quoted price may be wrong (vendor)."""
    async with customer_of(price=10, quoted_price=2) as customer:
        page = (await customer.http.get("models/wan-2.2-replace")).json()
        accepted = (await customer.submit()).json()

    assert (page["creditCost"]["amount"], accepted["creditCost"]) == (2, 10)


async def test_result_expires_at_the_announced_time(customer: Customer) -> None:
    """Anybody who has the URL gets the video, from completion until expiresAt (assumed)."""
    job_id = await customer.job_id()
    url = f"{customer.sandbox.origin}/media/results/{job_id}.mp4"
    statuses = []
    async with plain_client() as anyone:
        for customer.clock.now in (0, 5, 86_399, 86_400):
            statuses.append((await anyone.get(url)).status_code)

    assert statuses == [404, 200, 200, 403]


async def test_result_may_never_expire() -> None:
    """If the URL has no lifetime, there is no expiresAt and no 403 (ours)."""
    async with customer_of(url_seconds=None) as customer:
        accepted = (await customer.submit()).json()
        customer.clock.now = 1e9
        video = await customer.http.get(
            f"{customer.sandbox.origin}/media/results/{accepted['jobId']}.mp4"
        )

    assert "expiresAt" not in accepted
    assert video.status_code == 200


@pytest.mark.parametrize(
    ("name", "media_type", "start"),
    [
        ("clip.mp4", "video/mp4", b"ftyp"),
        ("no-person.mp4", "video/mp4", b"ftyp"),
        ("endless.mp4", "video/mp4", b"ftyp"),
        ("character.png", "image/png", b"\r\n\x1a\n"),
    ],
)
async def test_sample_inputs_are_real_files(
    customer: Customer, name: str, media_type: str, start: bytes
) -> None:
    """The samples have the bytes and the type that their names promise (ours)."""
    url = f"{customer.sandbox.origin}/media/{name}"
    video, head = await customer.http.get(url), await customer.http.head(url)

    assert video.headers["content-type"] == media_type
    assert video.content[4:8] == start
    assert head.content == b""
    for header in ("content-length", "etag", "accept-ranges"):
        assert head.headers[header] == video.headers[header]
    assert int(head.headers["content-length"]) == len(video.content)


def test_shipped_videos_are_small_and_start_playing_at_once() -> None:
    """Together they have about 100 KB, and each video's index comes before its frames (ours)."""
    import wan_mcp.sandbox as shipped

    folder = Path(shipped.__file__).parent / "media"
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}

    assert sum(map(len, contents.values())) < 110_000
    for name in ("clip.mp4", "no-person.mp4", "result.mp4"):
        assert 0 < contents[name].index(b"moov") < contents[name].index(b"mdat")


@pytest.mark.parametrize(
    ("requested", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=10-", 10, -1), ("bytes=-5", -5, -1), ("bytes=3-99999999", 3, -1)],
)
async def test_range_of_a_video_is_served(
    customer: Customer, requested: str, first: int, last: int
) -> None:
    """A byte range answers 206 with exactly those bytes (RFC 9110)."""
    url = customer.sandbox.source_video_url
    whole = (await customer.http.get(url)).content
    part = await customer.http.get(url, headers={"Range": requested})

    start, end = first % len(whole), last % len(whole)
    assert part.status_code == 206
    assert part.content == whole[start : end + 1]
    assert part.headers["content-range"] == f"bytes {start}-{end}/{len(whole)}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=99999999-"}, 416),
        ({"Range": "bytes=-0"}, 416),
        ({"Range": "bytes=9-3"}, 200),
        ({"Range": "bytes=0-1,5-6"}, 200),
        ({"Range": "lines=1-2"}, 200),
        ({"Range": "bytes=-"}, 200),
        ({"Range": "bytes=0-1", "If-Range": '"another"'}, 200),
    ],
)
async def test_other_ranges_are_refused_or_ignored(
    customer: Customer, headers: dict[str, str], status: int
) -> None:
    """A range past the end gets 416; an invalid one gets the whole file (RFC 9110)."""
    answer = await customer.http.get(customer.sandbox.source_video_url, headers=headers)

    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"].startswith("bytes */")


async def test_known_file_is_not_sent_again(customer: Customer) -> None:
    """The ETag saves a second download (RFC 9110)."""
    first = await customer.http.get(customer.sandbox.image_url)
    second = await customer.http.get(
        customer.sandbox.image_url, headers={"If-None-Match": first.headers["etag"]}
    )

    assert (second.status_code, second.content) == (304, b"")


async def test_two_submits_at_once_are_two_jobs(customer: Customer) -> None:
    """Each of two simultaneous submits is charged, on its own connection (ours)."""
    ids: list[str] = []

    async def submit() -> None:
        ids.append(await customer.job_id())

    gate = anyio.Event()
    customer.sandbox.fault("POST", "*", faults.held(faults.honest(), before=gate), times=2)
    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        group.start_soon(submit)
        await customer.sandbox.until(lambda: len(customer.sandbox.requests) == 2)
        assert customer.sandbox.charges == []
        gate.set()

    assert len(set(ids)) == len(customer.sandbox.charges) == customer.sandbox.connections == 2


async def test_vendor_comes_back_with_its_accounts_and_jobs(customer: Customer) -> None:
    """Closed and opened again it has the same address, jobs and charges (ours)."""
    clock = Clock()
    sandbox = Sandbox(clock=clock)
    async with sandbox:
        origin = sandbox.origin
        async with plain_client() as http:
            headers = {"Authorization": f"Bearer {sandbox.key}"}
            accepted = await http.post(f"{sandbox.api_base}/{RUN}", json=BODY, headers=headers)
    async with plain_client() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(origin)
        async with sandbox:
            job = await http.get(accepted.json()["statusUrl"], headers=headers)

    assert (sandbox.origin, len(sandbox.charges)) == (origin, 1)
    assert job.json()["jobId"] == accepted.json()["jobId"]


def shape(value: object) -> object:
    """Keys and JSON types, without the values."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value]
    return "number" if type(value) in (int, float) else type(value).__name__


def recorded(name: str) -> Any:
    return json.loads((REPLIES / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("reply", "omitted"),
    [
        ("run-accepted", frozenset[str]()),
        (
            "run-accepted-bare",
            frozenset({"status", "statusUrl", "creditCost", "creditsRemaining", "expiresAt"}),
        ),
    ],
)
async def test_submit_has_the_recorded_shape(reply: str, omitted: frozenset[str]) -> None:
    """The reply to a submit has the fields and types of the vendor's sample (vendor)."""
    async with customer_of(submit_omits=omitted) as customer:
        answer = (await customer.submit()).json()

    assert shape(answer) == shape(recorded(reply))


@pytest.mark.parametrize(
    ("reply", "output", "video", "seconds"),
    [
        ("job-pending", "video", "clip", 0),
        ("job-processing", "video", "clip", 1),
        ("job-completed", "video", "clip", 5),
        ("job-completed-videos", "videos", "clip", 5),
        ("job-completed-image", "image", "clip", 5),
        ("job-completed-images", "images", "clip", 5),
        ("job-completed-assets", "assets", "clip", 5),
        ("job-failed-string", "video", "no-person", 5),
    ],
)
async def test_job_has_the_recorded_shape(
    reply: str, output: str, video: str, seconds: float
) -> None:
    """A job's page has the fields and types of the vendor's samples and clients (vendor)."""
    async with customer_of(output=output) as customer:
        job_id = await customer.job_id(video=f"https://example.com/media/{video}.mp4")
        customer.clock.now = seconds
        job = await customer.job(job_id)

    expected = recorded(reply)
    assert shape(job) == shape(expected)
    assert job["status"] == expected["status"]


@pytest.mark.parametrize("error_shape", ["object", "text", "text-message"])
async def test_refusal_has_the_recorded_shape(error_shape: str) -> None:
    """A refusal can have each of the three shapes that were observed (vendor)."""
    async with customer_of(error_shape=error_shape, credits=0) as customer:
        answer = (await customer.submit()).json()

    assert shape(answer) == shape(recorded(f"error-{error_shape}"))


@pytest.mark.parametrize(
    ("reply", "path"),
    [
        ("models", "models"),
        ("model", "models/wan-2.2-replace"),
        ("schema", "models/wan-2.2-replace/schema"),
        ("jobs-list", "jobs"),
    ],
)
async def test_page_has_the_recorded_shape(customer: Customer, reply: str, path: str) -> None:
    """The public pages and the list have the recorded shape (vendor; the list assumed)."""
    await customer.job_id(seed=1)
    customer.clock.now = 5

    page = (await customer.http.get(path)).json()

    assert shape(page) == shape(recorded(reply))
    if reply == "schema":
        assert page == recorded(reply)


async def test_state_page_shows_everything_to_other_processes(customer: Customer) -> None:
    """Another process reads charges, jobs, credits and requests as JSON (ours)."""
    job_id = await customer.job_id()
    state = (await customer.http.get(f"{customer.sandbox.origin}/sandbox/state")).json()

    key = customer.sandbox.key
    assert state == {
        "apiBase": customer.sandbox.api_base,
        "key": key,
        "charges": [{"key": key, "jobId": job_id, "amount": 10}],
        "jobs": [{"jobId": job_id, "status": "pending", "input": BODY}],
        "credits": {key: 90},
        "requests": [{"method": "POST", "target": f"/api/v1/{RUN}"}],
        "connections": 1,
    }


async def test_front_page_shows_people_all_they_need(customer: Customer) -> None:
    """A browser shows the address, the key and what each sample video does (ours)."""
    page = await customer.http.get(customer.sandbox.origin)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for text in (
        customer.sandbox.api_base,
        customer.sandbox.key,
        customer.sandbox.source_video_url,
        customer.sandbox.image_url,
        "no-person.mp4",
        "endless.mp4",
    ):
        assert text in page.text
    assert customer.sandbox.requests == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", ""])
async def test_foreign_host_name_is_rejected(customer: Customer, host: str) -> None:
    """Against DNS rebinding, any other name than loopback's gets 421, free of charge (ours)."""
    answer = await customer.http.post(RUN, json=BODY, headers={"Host": host})

    assert answer.status_code == 421
    assert customer.sandbox.charges == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8080", "127.0.0.1"])
async def test_loopback_names_are_accepted(customer: Customer, host: str) -> None:
    """Each name of loopback works, with a port or without (ours)."""
    answer = await customer.http.get("models", headers={"Host": host})

    assert answer.status_code == 200


async def test_serve_announces_itself_and_runs_until_cancelled() -> None:
    """The command line gets the address once it listens, and cancelling ends it (ours)."""
    announced: list[Sandbox] = []
    ready = anyio.Event()

    def announce(sandbox: Sandbox) -> None:
        announced.append(sandbox)
        ready.set()

    async def run() -> None:
        await serve(terms=Terms(price=3), announce=announce)

    with anyio.fail_after(LIMIT_SECONDS):
        async with anyio.create_task_group() as group, plain_client() as http:
            group.start_soon(run)
            await ready.wait()
            page = await http.get(f"{announced[0].api_base}/models/wan-2.2-replace")
            group.cancel_scope.cancel()

    assert page.json()["creditCost"]["amount"] == 3


def test_sandbox_stands_alone_and_is_light() -> None:
    """It imports nothing else of wan_mcp, to be an independent witness, and no framework (ours)."""
    listing = "import sys, wan_mcp.sandbox; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())

    ours = {name for name in loaded if name.startswith("wan_mcp.")}
    assert {name for name in ours if not name.startswith("wan_mcp.sandbox")} == set()
    assert loaded.isdisjoint({"httpx", "mcp", "starlette", "pydantic", "uvicorn"})


@pytest.mark.parametrize(
    ("price", "cost", "kind"),
    [
        (prices.fixed(7), 7, "fixed"),
        (prices.per_second(0.1), 0.5, "per_second"),
        (prices.per_resolution({"480": 3, "720": 6}), 3, "per_resolution"),
        (prices.table({(5, "480"): 4, (5, "720"): 8}), 4, "table"),
    ],
)
async def test_price_may_depend_on_the_job(price: prices.Prices, cost: float, kind: str) -> None:
    """The page names the same price that is charged (assumed forms)."""
    async with customer_of(price=price) as customer:
        page = (await customer.http.get("models/wan-2.2-replace")).json()
        accepted = (await customer.submit()).json()

    assert page["creditCost"]["type"] == kind
    assert accepted["creditCost"] == cost
    assert [charge.amount for charge in customer.sandbox.charges] == [cost]
