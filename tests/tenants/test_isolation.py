"""Several people at one server: nobody reads, changes or pays for what is another's."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.replicas.caller import data_of
from wan_mcp.tenants.limits import Kind

if TYPE_CHECKING:
    from tests.tenants.company import Company, Person
    from wan_mcp.tenants.caller import Caller

pytestmark = pytest.mark.anyio

Route = Callable[["Person", str], Awaitable[Any]]


def tool(name: str, **more: Any) -> Route:
    """The call of a tool about one job: its code and its status."""

    async def ask(person: "Person", id: str) -> Any:
        answer = await person.call(name, job_id=id, **more)
        assert "found" in answer["message"] or "known" in answer["message"], answer
        return answer["code"]

    return ask


def resource(part: str = "") -> Route:
    async def ask(person: "Person", id: str) -> Any:
        return (await person.read(f"wan://jobs/{id}{part}"))["error"]["code"]

    return ask


def method(name: str) -> Route:
    async def ask(person: "Person", id: str) -> Any:
        return (await person.ask(name, taskId=id))["error"]["code"]

    return ask


async def several(person: "Person", id: str) -> Any:
    """A wait for a job of one's own and that of another."""
    own = (await person.order(seed=77))["job_id"]
    answer = await person.call("wait_for_job", job_id=f"{own},{id}", timeout_seconds=0)
    found = {each["job_id"]: each.get("code") for each in answer["jobs"]}
    return found[id]


async def as_input(person: "Person", id: str) -> Any:
    return (await person.order(video=f"wan://jobs/{id}/video"))["code"]


async def followed(person: "Person", id: str) -> Any:
    """What a stream of notifications agrees to follow."""
    wanted = {"resourceSubscriptions": [f"wan://jobs/{id}"], "taskIds": [id]}
    async with person.asked("subscriptions/listen", notifications=wanted) as stream:
        first = await stream.message()
    agreed = first["params"]["notifications"]
    return agreed.get("resourceSubscriptions") or agreed.get("taskIds") or "nothing"


async def completed(person: "Person", id: str) -> Any:
    """What completes the beginning of an id."""
    ref = {"type": "ref/resource", "uri": "wan://jobs/{job_id}"}
    argument = {"name": "job_id", "value": id[:8]}
    answer = await person.ask("completion/complete", ref=ref, argument=argument)
    return id in answer["result"]["completion"]["values"]


async def listed(person: "Person", id: str) -> Any:
    answer = await person.call("list_jobs", limit=50)
    return id in str(answer)


async def list_resource(person: "Person", id: str) -> Any:
    return id in str(await person.read("wan://jobs"))


ROUTES: dict[str, tuple[Route, Any]] = {
    "get_job_status": (tool("get_job_status"), "not_found"),
    "wait_for_job": (tool("wait_for_job", timeout_seconds=1), "not_found"),
    "cancel_job": (tool("cancel_job"), "not_found"),
    "keep_video": (tool("keep_video"), "not_found"),
    "a wait for several": (several, "not_found"),
    "a video as an input": (as_input, "not_found"),
    "resource": (resource(), -32602),
    "video": (resource("/video"), -32602),
    "source": (resource("/source"), -32602),
    "poster": (resource("/poster"), -32602),
    "tasks/get": (method("tasks/get"), -32602),
    "tasks/update": (method("tasks/update"), -32602),
    "tasks/cancel": (method("tasks/cancel"), -32602),
    "subscription": (followed, "nothing"),
    "completion": (completed, False),
    "list_jobs": (listed, False),
    "list as a resource": (list_resource, False),
}
"""Every way to a job, and what is answered to somebody who has none of that id."""


@pytest.mark.parametrize("stranger", ["bob", "eve"])
async def test_job_of_another_user_is_not_found_by_any_route(
    company: "Company", stranger: str
) -> None:
    """Bob pays with the same key, Eve with another one; PixelDojo would tell both (ours)."""
    async with company.served(settings={"WAN_MCP_ARCHIVE": "on"}):
        async with company.person(company.ann) as ann:
            running = await ann.order(1)
            ended = await ann.order(2)
        company.jobs_time.now += 60
        async with company.person(company.ann) as ann:
            assert (await ann.call("get_job_status", job_id=ended["job_id"]))["video_url"]
        ids = [running["job_id"], ended["job_id"], elsewhere(company)]
        before = len(company.sandbox.charges)
        found = {}
        user = getattr(company, stranger)
        async with company.person(user, tasks=True) as person:
            for id in ids:
                for name, (route, _) in ROUTES.items():
                    found[name, id] = await route(person, id)

    assert found == {(name, id): said for id in ids for name, (_, said) in ROUTES.items()}
    assert len(company.sandbox.charges) == before + 1  # their own job in the wait for several
    asked = [each.path for each in company.sandbox.requests if ids[2] in each.path]
    assert not asked


def elsewhere(company: "Company") -> str:
    """The id of a job that was paid with the key of the team, and not through this server."""
    order = {"video": company.sandbox.source_video_url, "video_duration": 5}
    body = {**order, "character_image": company.sandbox.image_url}
    return company.sandbox.vendor.run(company.sandbox.key, body).id


async def test_owner_reaches_the_same_job_by_the_same_routes(company: "Company") -> None:
    """So the routes above would have found it (ours)."""
    async with company.served(), company.person(company.ann, tasks=True) as ann:
        id = (await ann.order())["job_id"]
        company.jobs_time.now += 60
        looked = await ann.call("get_job_status", job_id=id)
        uri = f"wan://jobs/{id}"
        answers = [
            (await ann.read(uri))["result"]["contents"][0]["uri"],
            (await ann.ask("tasks/get", taskId=id))["result"]["taskId"],
            await completed(ann, looked["job_id"]),
            await listed(ann, looked["job_id"]),
            await list_resource(ann, looked["job_id"]),
        ]

    assert looked["status"] == "completed"
    assert answers == [uri, id, True, True, True]


async def test_equal_requests_of_two_users_are_two_jobs_and_two_charges(
    company: "Company",
) -> None:
    """The same one of one user is one (ours)."""
    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
        company.person(company.eve) as eve,
    ):
        jobs = [(await each.order())["job_id"] for each in (ann, bob, eve, ann)]
        spent = [(await each.call("check_credits"))["credits_spent"] for each in (ann, bob, eve)]

    assert len(set(jobs)) == 3
    assert jobs[3] == jobs[0]
    keys = [charge.key for charge in company.sandbox.charges]
    assert keys[0] == keys[1] == company.sandbox.key
    assert len(set(keys)) == 2
    assert len(keys) == 3
    assert spent == [10, 10, 10]


@pytest.mark.parametrize(
    ("kind", "whose"),
    [
        (Kind.USER, "This limit is your own."),
        (Kind.TEAM, "This limit is of the team Blue."),
        (Kind.WALLET, "This limit is of the wallet that pays."),
    ],
)
async def test_limit_counts_from_the_next_payment_on_and_says_whose_it_is(
    company: "Company", kind: Kind, whose: str
) -> None:
    """Bob's job counts for the team and for the wallet, and not for Ann (ours)."""
    from wan_mcp.tenants.administration import allowances

    ids = {Kind.USER: company.ann, Kind.TEAM: company.team, Kind.WALLET: company.wallet}
    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
    ):
        await bob.order(1)
        await ann.order(2)
        most = 10.0 if kind is Kind.USER else 20.0
        allowances.set_limits(company.operator, kind, ids[kind], {"credits_per_day": most})
        refused = await ann.order(3)
        others = await bob.order(4) if kind is Kind.USER else None
        limits = (await ann.call("check_credits"))["limits"]

    assert refused["code"] == "limit_reached"
    assert whose in refused["message"]
    setting = f"WAN_MCP_MAX_CREDITS_PER_DAY ({whose.removeprefix('This limit is ')[:-1]})"
    assert setting in [each["limit"] for each in limits]
    assert others is None or others["charged"] == "yes"
    assert len(company.sandbox.charges) == 2 + (others is not None)


async def test_settings_of_the_operator_hold_for_a_wallet_as_a_whole(company: "Company") -> None:
    """And whose job takes the place is told to nobody else (ours)."""
    settings = {"WAN_MCP_MAX_IN_FLIGHT": "1", "WAN_MCP_MAX_QUEUED": "0"}
    async with (
        company.served(settings=settings),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
        company.person(company.eve) as eve,
    ):
        first = await ann.order()
        refused = await bob.order()
        other = await eve.order()

    assert refused["code"] == "limit_reached"
    assert "WAN_MCP_MAX_IN_FLIGHT" in refused["message"]
    assert first["job_id"] not in str(refused)
    assert other["charged"] == "yes"


async def test_user_without_a_wallet_is_refused_and_pays_with_no_other_key(
    company: "Company",
) -> None:
    """Not with that of the settings either (ours)."""
    async with company.served(), company.person(company.zoe) as zoe:
        answers = [
            await zoe.order(),
            await zoe.call("list_jobs"),
            await zoe.call("check_credits"),
            await zoe.call("get_job_status", job_id=elsewhere(company)),
        ]
        resource = await zoe.read("wan://jobs")

    assert {each["code"] for each in answers} == {"no_api_key"}
    assert {each["charged"] for each in answers} == {"no"}
    assert "wan-mcp admin wallet add" in answers[0]["next"]
    assert "wallet" in resource["error"]["message"]
    assert not company.sandbox.seen("*", "*/jobs*")
    assert not company.sandbox.seen("POST", "*")


async def status_of(person: "Person") -> int:
    """The status of HTTP that a request gets."""
    async with person.asked("tools/list") as exchange:
        return exchange.status


async def test_disabled_user_buys_nothing_from_that_moment_on(company: "Company") -> None:
    """Although who they are is known for some seconds more; then it is not (ours)."""
    from wan_mcp.tenants.administration import users
    from wan_mcp.tenants.directory import HOLDS_SECONDS

    async with company.served(), company.person(company.ann) as ann:
        await ann.order(1)
        users.disable(company.operator, "Ann")
        refused = await ann.order(2)
        company.time.now += HOLDS_SECONDS
        later = await status_of(ann)

    assert (refused["code"], refused["charged"]) == ("no_api_key", "no")
    assert later == 401
    assert len(company.sandbox.charges) == 1


async def test_revoked_token_opens_nothing(company: "Company") -> None:
    """The other tokens of the user do (ours)."""
    from wan_mcp.tenants.administration import tokens
    from wan_mcp.tenants.directory import HOLDS_SECONDS

    issued = company.token(company.ann)
    async with (
        company.served(),
        company.holder(company.ann, issued.text) as ann,
        company.person(company.ann) as again,
    ):
        before = await status_of(ann)
        tokens.revoke(company.operator, issued.id)
        company.time.now += HOLDS_SECONDS
        statuses = [before, await status_of(ann), await status_of(again)]

    assert statuses == [200, 401, 200]


async def test_wallet_that_cannot_be_opened_is_used_by_nobody_and_the_server_is_not_ready(
    company: "Company",
) -> None:
    """Somebody changed the key ring (ours)."""
    from tests.tenants.team import ring

    async with company.served(ring("another")), company.person(company.ann) as ann:
        refused = await ann.order()
        missing = await company.running.missing()

    assert (refused["code"], refused["charged"]) == ("no_api_key", "no")
    assert missing == {"keys": "The key ring does not open the keys of 2 wallets."}
    assert not company.sandbox.seen("POST", "*")


async def test_key_that_replaces_another_one_pays_from_the_next_request_on(
    company: "Company",
) -> None:
    """Also where its wallet is open, and another user knows only the former key (ours)."""
    from tests.tenants.team import ring
    from wan_mcp.tenants.administration import wallets

    new = company.sandbox.open_account()
    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
    ):
        await bob.call("check_credits")
        await ann.order(1)
        wallets.set_key(company.operator, ring(), "blue wallet", new)
        second = await ann.order(2)
        await bob.call("check_credits")
        await ann.call("check_credits")
        asked = company.sandbox.seen("GET", "*/jobs")[-1]

    assert second["charged"] == "yes"
    assert [charge.key for charge in company.sandbox.charges] == [company.sandbox.key, new]
    assert asked.headers["authorization"] == f"Bearer {new}"


async def test_wallets_are_worked_for_while_nobody_is_connected(company: "Company") -> None:
    """By a server that has only just started: it reads one job, and sends another (ours)."""
    settings = {"WAN_MCP_MAX_IN_FLIGHT": "1"}
    async with company.served(settings=settings), company.person(company.ann) as ann:
        first, second = [await ann.order(seed) for seed in (1, 2)]
    company.jobs_time.now += 60
    async with company.served(settings=settings):
        await company.sandbox.until(lambda: len(company.sandbox.charges) == 2)
    async with company.served(settings=settings), company.person(company.ann) as ann:
        jobs = (await ann.call("list_jobs"))["jobs"]

    assert (first["charged"], second["status"]) == ("yes", "queued")
    assert [each["status"] for each in jobs] == ["running", "completed"]


async def test_paid_acts_are_in_the_audit_with_their_user_and_their_result(
    company: "Company",
) -> None:
    """Also what the server sent later by itself, and what was refused or cancelled (ours)."""
    from wan_mcp.sandbox.http.faults import status
    from wan_mcp.tenants.administration import allowances
    from wan_mcp.tenants.audit import entries

    issued = company.token(company.ann)
    allowances.set_limits(company.operator, Kind.WALLET, company.wallet, {"in_flight": 1})
    async with (
        company.served(),
        company.holder(company.ann, issued.text) as ann,
        company.person(company.bob) as bob,
        company.person(company.eve) as eve,
    ):
        first = (await ann.order(1))["job_id"]
        later = (await bob.order(2))["job_id"]
        given_up = (await bob.order(3))["job_id"]
        await bob.call("cancel_job", job_id=given_up)
        company.sandbox.fault("POST", "*", status(402))
        await eve.order(4)
        company.jobs_time.now += 60
        await company.sandbox.until(lambda: len(company.sandbox.charges) == 2)

    paid = {
        (each.actor, each.action, each.detail.get("request", each.target)): each
        for each in entries(company.operator.link, None, 0, 50)
        if each.action.startswith("job.")
    }
    (of_ann,) = (each for each in paid.values() if each.target == first)
    assert of_ann[1:5] == (company.ann, "job.buy", first, "accepted")
    assert of_ann.detail["credits"] == 10
    assert of_ann.detail["wallet"] == company.wallet
    assert of_ann.detail["signed_in"] == issued.id
    results = {name[:2]: each.result for name, each in paid.items() if each is not of_ann}
    assert results == {
        (company.bob, "job.buy"): "accepted",
        (company.bob, "job.cancel"): "done",
        (company.eve, "job.buy"): "refused",
    }
    assert (company.bob, "job.cancel", given_up) in paid
    assert "signed_in" not in paid[company.bob, "job.buy", later].detail


async def test_video_of_an_own_job_is_an_input_and_that_of_another_user_is_none(
    company: "Company",
) -> None:
    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
    ):
        id = (await ann.order(1))["job_id"]
        company.jobs_time.now += 60
        await ann.call("get_job_status", job_id=id)
        again = await ann.order(2, video=f"wan://jobs/{id}/video")
        refused = await bob.order(2, video=f"wan://jobs/{id}/video")

    assert again["charged"] == "yes"
    assert refused["code"] == "not_found"
    assert len(company.sandbox.charges) == 2


async def test_videos_of_each_user_lie_in_a_folder_of_their_own(
    company: "Company", tmp_path: Path
) -> None:
    """So an operator can hand over, or delete, what belongs to one person (ours)."""
    videos = tmp_path / "videos"
    settings = {"WAN_MCP_ARCHIVE": "on", "WAN_MCP_VIDEO_DIR": str(videos)}
    expected = {}
    async with company.served(settings=settings):
        for user in (company.ann, company.eve):
            async with company.person(user) as person:
                job = await person.order()
                company.jobs_time.now += 60
                ended = await person.call("get_job_status", job_id=job["job_id"])
                while "sha256" not in ended:
                    ended = await person.call("wait_for_job", job_id=job["job_id"])
                expected[user] = [ended["sha256"]]

    assert {folder.name: _hashes(folder) for folder in videos.iterdir()} == expected


def _hashes(folder: Path) -> list[str]:
    return [sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.mp4")]


async def test_question_can_be_answered_only_by_the_one_who_was_asked(company: "Company") -> None:
    """Although the same server asked it, about a job of the same wallet (ours)."""
    order = {
        "name": "replace_character",
        "arguments": {
            "video": company.sandbox.source_video_url,
            "character_image": company.sandbox.image_url,
        },
    }
    async with (
        company.served(settings={"WAN_MCP_CONFIRM_ABOVE": "0"}),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
    ):
        asked = (await ann.ask("tools/call", **order))["result"]
        (name,) = asked["inputRequests"]
        yes = {
            "requestState": asked["requestState"],
            "inputResponses": {name: {"action": "accept", "content": {"spend": True}}},
        }
        of_bob = await bob.ask("tools/call", **order, **yes)
        before = len(company.sandbox.charges)
        of_ann = await ann.ask("tools/call", **order, **yes)

    assert of_bob["error"]["code"] == -32602
    assert before == 0
    assert of_ann["result"]["structuredContent"]["charged"] == "yes"


async def test_upload_is_an_input_of_its_own_user_alone(
    company: "Company", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever learns the id of another's upload has nothing of it (ours)."""
    pytest.importorskip("obstore", reason="the extra `storage` is not installed")
    from tests.surface.test_upload_page import Memory
    from wan_mcp.inputs.file_types import file_type_of
    from wan_mcp.tenants.seat import workspace_of

    store = Memory()
    monkeypatch.setattr("wan_mcp.storage.object_store.ObjectStore", lambda *_: store)
    monkeypatch.setattr("wan_mcp.inputs.received.own_uploads.FIND_SECONDS", 600)
    id = "video_" + "a" * 16
    kind = file_type_of(b"\0\0\0\x18ftypmp42", "")
    assert kind is not None
    async with (
        company.served(settings={"WAN_MCP_STORAGE_URL": "s3://bucket"}),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
    ):
        assert company.running.app is not None
        reception = company.running.app.reception
        assert reception is not None
        shelf = await reception.shelf(workspace_of(company.ann, company.wallet))
        await reception.shelves.put(shelf, id, BytesIO(b""), 0, "0" * 64, kind)
        own = await ann.order(video=f"wan://uploads/{id}")
        refused = await bob.order(video=f"wan://uploads/{id}")

    assert "There is no file of this user" in refused["message"]
    assert refused["charged"] == "no"
    assert "There is no file of this user" not in own["message"]
    assert not company.sandbox.charges


async def test_wallet_without_use_and_work_is_closed_and_opens_with_the_next_call(
    company: "Company", monkeypatch: pytest.MonkeyPatch
) -> None:
    from wan_mcp.app.team import TeamApp

    found: list[set[str]] = []

    async def look() -> None:
        """As 600 seconds after the last call; the server itself looks as it always does."""
        assert isinstance(company.running.app, TeamApp)
        with monkeypatch.context() as later:
            later.setattr("wan_mcp.app.wallets.IDLE_SECONDS", -1.0)
            await company.running.app._wallets._look()
        found.append(set(company.running.app._wallets._open))

    async with company.served(), company.person(company.ann) as ann:
        id = (await ann.order())["job_id"]
        await look()
        company.jobs_time.now += 60
        await ann.call("get_job_status", job_id=id)
        await look()
        again = await ann.order(2)

    assert found == [{company.wallet}, set()]
    assert again["charged"] == "yes"


async def others_go_on() -> None:
    """Other tasks go on until they wait for more than each other.

    Not with `wait_all_tasks_blocked`: it looks each tenth of a second, and so does a real server,
    so the two can meet each time, without end.
    """
    for _ in range(100):
        await anyio.lowlevel.checkpoint()


async def test_removed_wallet_still_gets_the_answer_to_what_was_just_paid(
    company: "Company", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at a server that stops: a cut connection would leave a charge without a job (ours)."""
    from tests.tenants.team import rows
    from wan_mcp.app.team import TeamApp
    from wan_mcp.sandbox.http.faults import held, honest
    from wan_mcp.tenants.administration import wallets

    monkeypatch.setattr("wan_mcp.app.team.SERVICE_DRAIN_SECONDS", 600.0)
    answered, drained = anyio.Event(), anyio.Event()

    async def stop() -> None:
        await company.running.drain()
        drained.set()

    async with (
        company.served(),
        company.person(company.eve) as eve,
        anyio.create_task_group() as tasks,
    ):
        company.sandbox.fault("POST", "*", held(honest(), after=answered))
        tasks.start_soon(eve.order)
        await company.sandbox.until(lambda: len(company.sandbox.charges) == 1)
        wallets.remove(company.operator, company.eves, force=True)
        assert isinstance(company.running.app, TeamApp)
        company.running.app._wallets._close(company.eves)
        await others_go_on()
        tasks.start_soon(stop)
        await others_go_on()
        waits_for_it = not drained.is_set()
        answered.set()
    [row] = rows(company.operator.link, "SELECT state, job_id FROM jobs")

    assert waits_for_it
    assert row == ("accepted", company.sandbox.charges[0].job_id)


async def test_wallet_whose_work_breaks_is_opened_again_and_the_server_goes_on(
    company: "Company", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The payments of all other wallets run in the same task group (ours)."""
    from wan_mcp.app.team import TeamApp
    from wan_mcp.polling.wallet_work import WalletWork

    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    async with company.served(), company.person(company.ann) as ann:
        with monkeypatch.context() as defect:
            defect.setattr(WalletWork, "run", broken)
            first = await ann.order(1)
        assert isinstance(company.running.app, TeamApp)
        await others_go_on()
        left = set(company.running.app._wallets._open)
        second = await ann.order(2)

    assert f"the work for wallet {company.wallet} broke" in caplog.text
    assert left == set()
    assert (first["charged"], first["retry_safe"]) == ("no", True)
    assert second["charged"] == "yes"


async def test_list_of_a_queued_request_goes_on_while_its_user_changes_the_wallet(
    company: "Company",
) -> None:
    """Only its place in the queue is not known then (ours)."""
    from tests.tenants.team import ring
    from wan_mcp.tenants.administration import wallets
    from wan_mcp.tenants.current import calling
    from wan_mcp.tenants.directory import HOLDS_SECONDS

    settings = {"WAN_MCP_MAX_IN_FLIGHT": "1"}
    async with company.served(settings=settings), company.person(company.ann) as ann:
        await ann.order(1)
        await ann.order(2)
        app, caller = company.running.app, await _caller(company)
        assert app is not None
        with calling(caller):
            jobs = (await app.services()).jobs
        key, base = company.sandbox.open_account(), company.sandbox.api_base
        wallets.add(company.operator, ring(), "Ann's", key, base, user=company.ann, force=True)
        company.time.now += HOLDS_SECONDS
        views = await jobs.recent(None, 10)

    assert [view.status for view in views] == ["queued", "running"]
    assert views[0].place is None


async def _caller(company: "Company") -> "Caller":
    """Ann, as she has signed in."""
    from tests.tenants.team import ring
    from wan_mcp.tenants.directory import StoredDirectory

    directory = StoredDirectory(company.database, ring())
    found = await directory.token(company.token(company.ann).text)
    await directory.aclose()
    assert found is not None
    return found


async def test_call_of_a_user_who_pays_with_another_wallet_now_says_to_look_first(
    company: "Company",
) -> None:
    """An equal job of the former wallet is hidden, so to repeat the call may pay twice (ours)."""
    from tests.tenants.team import ring
    from wan_mcp.tenants.administration import wallets

    async with company.served(), company.person(company.ann) as ann:
        await ann.order()
        key, base = company.sandbox.open_account(), company.sandbox.api_base
        wallets.add(company.operator, ring(), "Ann's", key, base, user=company.ann, force=True)
        refused = await ann.order()

    assert (refused["code"], refused["charged"]) == ("no_api_key", "no")
    assert not refused["retry_safe"]
    assert "ask the operator" in refused["next"]
    assert "before you repeat the call" in refused["next"]
    assert len(company.sandbox.charges) == 1


async def test_gauges_count_payments_and_waits_of_all_wallets(
    company: "Company", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last wallet's number would hide the load of all others (ours)."""
    pytest.importorskip("prometheus_client", reason="the extra metrics")
    from tests.transports.operations.test_metrics import samples
    from wan_mcp.logs import facts
    from wan_mcp.sandbox.http.faults import held, honest
    from wan_mcp.transports.operations.metrics import Metrics
    from wan_mcp.transports.operations.readiness import Readiness

    answered, both_wait, waits = anyio.Event(), anyio.Event(), list[int]()

    class Heard(Metrics):
        def waiting(self, difference: int) -> None:
            super().waiting(difference)
            waits.append(difference)
            if len(waits) == 2:
                both_wait.set()

    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.eve) as eve,
    ):
        assert company.running.app is not None
        readiness = Readiness(company.running, lambda: False, company.jobs_time)
        metrics = Heard(company.running.app.figures, readiness)
        monkeypatch.setattr(facts, "listeners", [metrics])

        async def open_now() -> tuple[float, float]:
            seen = samples((await metrics.text()).decode())
            return seen["wan_mcp_payments_open"], seen["wan_mcp_waiters"]

        company.sandbox.fault("POST", "*", held(honest(), after=answered), times=2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ann.order)
            tasks.start_soon(eve.order)
            await company.sandbox.until(lambda: len(company.sandbox.charges) == 2)
            found = [await open_now()]
            answered.set()
        ids = [(await person.order())["job_id"] for person in (ann, eve)]
        async with (
            ann.calling("wait_for_job", job_id=ids[0], timeout_seconds=900) as first,
            eve.calling("wait_for_job", job_id=ids[1], timeout_seconds=900) as second,
        ):
            await first.message()
            await second.message()
            await both_wait.wait()
            found.append(await open_now())

    assert found == [(2, 0), (0, 2)]


async def test_server_that_stops_opens_a_wallet_for_reading_and_buys_nothing(
    company: "Company",
) -> None:
    """Another replica takes the call; waits end with what is known (ours)."""
    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.eve) as eve,
    ):
        id = (await ann.order())["job_id"]
        async with ann.calling("wait_for_job", job_id=id, timeout_seconds=900) as waiting:
            await waiting.message()
            await company.running.drain()
            waited = data_of(await waiting.answer())
        refused = await eve.order()
        listed = await eve.call("list_jobs")

    assert (waited["job_id"], waited["status"]) == (id, "running")
    assert (refused["code"], refused["charged"]) == ("not_sent", "no")
    assert refused["retry_safe"]
    assert [each["status"] for each in listed["jobs"]] == []
    assert len(company.sandbox.charges) == 1
