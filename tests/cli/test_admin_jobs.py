"""`wan-mcp admin jobs` and `job`, as an operator types them."""

import json
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import anyio.to_thread
import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.ledger.stores import PostgresStore, reported, wanted
from tests.tenants.team import Blue, operator_of, rows
from wan_mcp.cli.commands import run
from wan_mcp.ledger import rules
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import JobStatus
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.seat import workspace_of

pytestmark = pytest.mark.anyio

LINK = "https://temp.example/film.mp4?signature=canary-5d1f"
_OPENED = "INSERT INTO user_workspaces VALUES ('{name}', '{user}', '{wallet}', 0)"


class Desk:
    """An operator at a terminal, and the team Blue with jobs."""

    def __init__(self, url: str, operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
        self.blue = Blue(operator)
        self.operator = operator
        self.store = PostgresStore(url)
        self.ledger = self.store.ledger()
        self._capsys = capsys
        self._environment = {"WAN_MCP_LEDGER_URL": url}

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Code, output and errors of a command; no output has a signature."""
        report = lambda error: pytest.fail(str(error))  # noqa: E731
        # In a thread of its own, because a command is no coroutine.
        code = await anyio.to_thread.run_sync(run, ["admin", *words], self._environment, report)
        said = self._capsys.readouterr()
        assert "canary" not in said.out + said.err
        return code, said.out, said.err

    async def data(self, *words: str) -> Any:
        code, out, err = await self.run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    async def ids(self, *words: str) -> list[str]:
        """The ids of the jobs that are listed."""
        return [each["job_id"] for each in (await self.data("jobs", *words))["jobs"]]

    async def job(self, user: str, number: int, **ends: Any) -> Record:
        """A job of a user on the wallet of the team, `job-1` and so on."""
        name = workspace_of(user, self.blue.wallet)
        opened = _OPENED.format(name=name, user=user, wallet=self.blue.wallet)
        rows(self.operator.link, f"{opened} ON CONFLICT DO NOTHING")
        whose, id = Workspace(name, self.blue.wallet), f"job-{number}"
        claim = await self.ledger.claim(whose, wanted(number), generated_seed=7, estimate=2.0)
        await self.ledger.commit_sending(claim.record)
        await self.ledger.accept(claim.record, reported(job_id=id, credit_cost=7.0))
        if ends:
            with patch.object(rules, "CONFIRM_SECONDS", 0.0):  # the second reading confirms an end
                for _ in range(2):
                    await self.ledger.record_update(name, reported(job_id=id, **ends))
        self.store.later(3600)
        found = await self.ledger.find(name, id)
        assert found
        return found


@pytest.fixture
async def desk(database: str, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Desk]:
    with operator_of(database) as operator:
        made = Desk(database, operator, capsys)
        yield made
        await made.ledger.aclose()


async def test_jobs_of_everybody_are_listed_with_whose_they_are(desk: Desk) -> None:
    """A job that was paid with the key of a server's settings is nobody's (ours)."""
    own = await desk.ledger.claim("alone", wanted(9), generated_seed=7, estimate=2.0)
    done = {"status": JobStatus.COMPLETED, "video_url": LINK}
    ann = await desk.job(desk.blue.ann, 1, **done)
    bob = await desk.job(desk.blue.bob, 2)
    _, text, _ = await desk.run("jobs")
    newest, older, oldest = (await desk.data("jobs"))["jobs"]

    heads, *lines = [line.split() for line in text.splitlines()]
    assert heads == ["JOB", "SUBMISSION", "MADE", "ENDED", "USER", "WALLET", "STATUS", "CREDITS"]
    assert lines[0][:2] == ["job-2", bob.submission_id]
    assert lines[0][4:] == ["-", "Bob", "blue", "wallet", "running", "7"]
    assert lines[1][6:] == ["Ann", "blue", "wallet", "completed", "7"]
    assert lines[2][4:] == ["-", "-", "-", "submitting", "~2"]
    assert (newest["user_id"], newest["team"]) == (desk.blue.bob, "Blue")
    assert (older["wallet"], older["credit_cost"]) == ("blue wallet", 7.0)
    assert older["account"] == ann.account
    assert older["ended_at"].startswith("2026-11-23T12:00")
    assert (oldest["user"], oldest["submission_id"]) == (None, own.record.submission_id)
    assert oldest["wallet_account"] == "alone"


async def test_jobs_are_chosen_by_user_wallet_state_age_and_number(desk: Desk) -> None:
    """What a user paid with a wallet that they have left is still found by their name (ours)."""
    await desk.ledger.claim("alone", wanted(9), generated_seed=7, estimate=2.0)
    await desk.job(desk.blue.ann, 1, status=JobStatus.FAILED, error="no")
    await desk.job(desk.blue.bob, 2)
    rows(desk.operator.link, f"UPDATE users SET team_id = NULL WHERE id = '{desk.blue.ann}'")
    rows(desk.operator.link, "UPDATE jobs SET created_at = 0 WHERE job_id = 'job-1'")

    assert await desk.ids() == ["job-2", "job-1", None]
    assert await desk.ids("--user", "Ann") == ["job-1"]
    assert await desk.ids("--user", desk.blue.bob) == ["job-2"]
    assert await desk.ids("--user", "Eve") == []
    assert await desk.ids("--wallet", "blue wallet") == ["job-2", "job-1"]
    assert await desk.ids("--wallet", "blue wallet", "--user", "Ann") == ["job-1"]
    assert await desk.ids("--state", "failed", "--state", "submitting") == ["job-1", None]
    assert await desk.ids("--days", "10000") == ["job-2", None]
    assert await desk.ids("--limit", "1") == ["job-2"]
    assert (await desk.data("jobs", "--limit", "1", "--wallet", desk.blue.wallet))["matching"] == 2
    assert (await desk.run("jobs", "--limit", "1"))[1].endswith(
        "\n\nThe newest 1 of 3; --limit 0 shows all.\n"
    )


@pytest.mark.parametrize("words", [("--user", "Nobody"), ("--wallet", "none")])
async def test_an_unknown_user_or_wallet_is_no_empty_list(desk: Desk, words: tuple[str]) -> None:
    code, out, err = await desk.run("jobs", *words)

    assert (code, out) == (1, "")
    assert "There is no" in err


async def test_everything_about_one_job_is_shown_without_a_signature(desk: Desk) -> None:
    """By either id, and with what helps after a failure; a link would fetch the video (ours)."""
    why = f"the face in {LINK} was not found"
    record = await desk.job(desk.blue.ann, 1, status=JobStatus.FAILED, error=why, video_url=LINK)
    _, text, _ = await desk.run("job", "job-1")
    facts = await desk.data("job", record.submission_id)

    assert facts["whose"]["user"] == "Ann"
    assert facts["whose"]["wallet"] == "blue wallet"
    assert facts["record"]["state"] == "failed"
    assert facts["record"]["error"] == "the face in https://temp.example/film.mp4 was not found"
    assert facts["inputs"]["video"] == "https://media.example/clip.mp4"
    assert facts["money"]["credit_cost"] == 7
    assert "  user                     Ann\n" in text
    assert "https://media.example/face.png" in text


async def test_a_video_on_the_disk_of_another_server_is_not_called_moved(desk: Desk) -> None:
    """The server that saved it has it (ours)."""
    done = {"status": JobStatus.COMPLETED, "video_url": LINK}
    record = await desk.job(desk.blue.ann, 1, **done)
    await desk.ledger.coordination.saved(record.submission_id, "/elsewhere/film.mp4", "ab" * 32, 7)
    video = (await desk.data("job", "job-1"))["video"]

    assert (video["state"], video["saved_path"]) == ("elsewhere", "/elsewhere/film.mp4")
    assert video["video_url"] == LINK.partition("?")[0]


async def test_an_id_of_no_job_or_of_several_is_refused(desk: Desk) -> None:
    """The word is not repeated: it may be a key (ours)."""
    for number in (1, 2):
        await desk.job(desk.blue.ann, number)

    code, out, err = await desk.run("job", "job")
    assert (code, out, err.count("2 jobs have this id, or one that begins so.")) == (1, "", 1)
    code, out, err = await desk.run("job", "canary")
    assert (code, out, err.count("No job has this id, or one that begins so.")) == (1, "", 1)


async def test_looking_leaves_no_trace_among_the_servers(desk: Desk) -> None:
    """Whoever only reads owns nothing, and migrations need not wait for them (ours)."""
    await desk.job(desk.blue.ann, 1)
    count = "SELECT COUNT(*) FROM owners"
    before = rows(desk.operator.link, count)
    await desk.run("jobs")

    assert rows(desk.operator.link, count) == before
