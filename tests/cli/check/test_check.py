"""`wan-mcp check`: the right line and the right exit code for each thing that can be wrong."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import respx

from tests.storage.wire import always_answering
from wan_mcp.cli.check import entries, installation
from wan_mcp.cli.check.bucket import bucket
from wan_mcp.cli.check.check import Check
from wan_mcp.cli.check.findings import Finding, Report, State, broken, for_person
from wan_mcp.cli.check.network import Access
from wan_mcp.cli.check.start import NotStarted, Started
from wan_mcp.cli.commands import _parsed, run
from wan_mcp.cli.hosts.catalogue import HOSTS, Folders, Program
from wan_mcp.cli.hosts.change import this_program
from wan_mcp.cli.hosts.masking import MASK
from wan_mcp.ledger import record
from wan_mcp.ledger.sqlite import guard
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.pixeldojo.client import EXAMPLE_KEY, PixelDojo
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

GOOD, WRONG = "pd_dummy_good_0123", "pd_dummy_wrong_4567"
BASE = "https://pixeldojo.ai/api/v1"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DATE = "Sun, 29 Nov 2026 12:00:00 GMT"
PLENTY = 100 << 30
NO_OBJECTS = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
ENDS_SOON = {
    "AWS_SESSION_TOKEN": "canary-token",
    "AWS_CREDENTIAL_EXPIRATION": (NOW + timedelta(minutes=30)).isoformat(),
}


class Case:
    """One user on one machine, where everything is in order until a test changes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.environment = {
            "HOME": str(self.home),
            "WAN_MCP_DATA_DIR": str(folder / "data"),
            "PIXELDOJO_API_KEY": GOOD,
        }
        self.now = NOW
        self.room = PLENTY
        self.outcome: Started | NotStarted = Started(4, 0.1, 1.2)
        self.starts: list[tuple[list[str], Mapping[str, str]]] = []
        self.seen = ""
        self.report = Report(self._see)
        self.vendor = respx.MockRouter(base_url=BASE, assert_all_called=False)
        self.model = self.vendor.get("/models/wan-2.2-replace")
        self.model.respond(json={"creditCost": 10}, headers={"Date": DATE})
        self.jobs = self.vendor.get("/jobs").mock(side_effect=self._jobs)

    def entry(self, host_id: str, command: str | None = None, **settings: str) -> Path:
        """An entry in the settings of a host that reads JSON; of this program, if of no other."""
        program = Program(command) if command else this_program()
        host = next(host for host in HOSTS if host.id == host_id)
        file = host.file(self._folders())
        file.parent.mkdir(parents=True)
        environment = {"PIXELDOJO_API_KEY": GOOD, **settings}
        args = list(program.arguments)
        entry = {"command": program.command, "args": args, "env": environment}
        file.write_text(json.dumps({host.group[0]: {"wan-mcp": entry}}))
        return file

    async def run(self, *, as_json: bool = False) -> int:
        """Run the command; returns its exit code."""
        self.report = Report(self._see, as_json=as_json)
        check = Check(
            self.environment,
            self._folders(),
            connect=self._connect,
            start=self._start,
            free=lambda folder: self.room,
            now=lambda: self.now,
        )
        await check.run(self.report)
        return self.report.end()

    def line(self, check: str) -> str:
        """The one line about that, without its second word."""
        (line,) = [line for line in self.seen.splitlines() if line.split()[1:2] == [check]]
        return line.replace(f" {check} ", " ", 1)

    def _folders(self) -> Folders:
        return Folders.read({}, self.home, "linux")

    def _connect(self, access: Access) -> PixelDojo:
        transport = httpx.MockTransport(self.vendor.async_handler)
        return PixelDojo(access.base, access.key, transport=transport)

    async def _start(
        self, command: list[str], environment: Mapping[str, str], folder: Path
    ) -> Started | NotStarted:
        self.starts.append((command, environment))
        return self.outcome

    def _jobs(self, request: httpx.Request) -> httpx.Response:
        good = request.headers["authorization"] == f"Bearer {GOOD}"
        return httpx.Response(200 if good else 401, json={"jobs": []} if good else {"error": "no"})

    def _see(self, text: str) -> None:
        self.seen += text


async def paid(data: Path, *, balance: float | None = None) -> Path:
    """A data folder in whose ledger one job is paid for."""
    ledger = SQLiteLedger(data / "ledger")
    account = await ledger.account(BASE, GOOD)
    wanted = Replacement(video="https://a.example/v.mp4", character_image="https://a.example/i.png")
    claim = await ledger.claim(account, wanted, generated_seed=1, estimate=2)
    await ledger.commit_sending(claim.record)
    job = Job(job_id="job_1", status=JobStatus.RUNNING, credits_remaining=balance)
    await ledger.accept(claim.record, job)
    await ledger.aclose()
    return data


Change = Callable[[Case], Awaitable[object] | object]


def no_key(case: Case) -> None:
    del case.environment["PIXELDOJO_API_KEY"]


def wrong_key(case: Case) -> None:
    case.environment["PIXELDOJO_API_KEY"] = WRONG


def example_key(case: Case) -> None:
    case.environment["PIXELDOJO_API_KEY"] = EXAMPLE_KEY


def no_network(case: Case) -> None:
    case.model.mock(side_effect=httpx.ConnectError("no route"))


def full_disk(case: Case) -> None:
    case.room = 1 << 20


def full_disk_of_a_ledger(case: Case) -> None:
    damaged_ledger(case)  # on a full disk SQLite reports an error of the disk (observed)
    full_disk(case)


async def two_ledgers(case: Case) -> None:
    del case.environment["WAN_MCP_DATA_DIR"]
    case.environment["XDG_DATA_HOME"] = str(case.folder / "xdg")
    await paid(case.home / ".local/share/wan-mcp")
    await paid(case.folder / "xdg/wan-mcp")


def damaged_ledger(case: Case) -> None:
    (case.folder / "data/ledger").mkdir(parents=True)
    (case.folder / "data/ledger/ledger.db").write_bytes(b"not a database" * 100)


def stale_entry(case: Case) -> None:
    case.entry("cursor", "/gone/bin/wan-mcp")


def bad_setting(case: Case) -> None:
    case.environment["WAN_MCP_MAX_CREDITS_PER_DAY"] = "lots"


def bad_setting_of_entry(case: Case) -> None:
    case.entry("cursor", WAN_MCP_MAX_CREDIT="5")


def broken_file(case: Case) -> None:
    case.entry("cursor", "x").write_text("{ not JSON")


def server_that_ends(case: Case) -> None:
    case.entry("cursor")
    case.outcome = NotStarted("it ended: wan-mcp: cannot start")


def rate_limited(case: Case) -> None:
    case.jobs.side_effect = None
    case.jobs.respond(429)


def vendor_down(case: Case) -> None:
    case.model.respond(503)
    case.jobs.side_effect = None
    case.jobs.respond(503)


def clock_behind(case: Case) -> None:
    case.now = NOW - timedelta(hours=2)


def login_page(case: Case) -> None:
    case.model.respond(200, html="<html>log in to this network</html>")
    case.jobs.side_effect = None
    case.jobs.respond(200, html="<html>log in to this network</html>")


def other_program(case: Case) -> None:
    case.entry("cursor", sys.executable)


def slow_server(case: Case) -> None:
    case.entry("cursor")
    case.outcome = Started(4, 3.5, 4.5)


def other_ledger(case: Case) -> None:
    case.entry("cursor", WAN_MCP_DATA_DIR=str(case.folder / "other"))


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows itself names the data folder")

ROWS = [
    (no_key, "key", "broken", "No PixelDojo API key was found", 1),
    (wrong_key, "key", "broken", "is not accepted by PixelDojo", 1),
    (example_key, "key", "broken", "still the example", 1),
    (lambda case: None, "key", "ok", "The key in the settings of this shell is accepted.", 0),
    (no_network, "api", "broken", "could not be reached (no connection). Check the network", 1),
    (full_disk, "ledger", "broken", "its disk is full (1 MiB free)", 1),
    (full_disk_of_a_ledger, "ledger", "broken", "its disk is full (1 MiB free)", 1),
    (full_disk, "videos", "broken", "its disk is full (1 MiB free)", 1),
    pytest.param(two_ledgers, "ledger", "broken", "There are 2 ledgers with jobs", 1, marks=posix),
    (damaged_ledger, "ledger", "broken", "is damaged: it is not a database", 1),
    (stale_entry, "cursor", "broken", "/gone/bin/wan-mcp, which is not here. wan-mcp setup", 1),
    (bad_setting, "settings", "broken", "WAN_MCP_MAX_CREDITS_PER_DAY: must be a number", 1),
    (bad_setting_of_entry, "cursor", "broken", "did you mean WAN_MCP_MAX_CREDITS_PER_JOB", 1),
    (broken_file, "cursor", "broken", "is not JSON", 1),
    (server_that_ends, "cursor", "broken", "does not start: it ended: wan-mcp: cannot", 1),
    (rate_limited, "key", "note", "could not be tried", 0),
    (vendor_down, "api", "note", "HTTP 503: PixelDojo has a fault", 0),
    (vendor_down, "key", "note", "is good is not known", 0),
    (login_page, "api", "note", "A web page came from", 0),
    (login_page, "key", "note", "is good is not known", 0),
    (clock_behind, "clock", "note", "1 h 59 min behind PixelDojo's", 0),
    (other_program, "cursor", "note", "starts another program", 0),
    (slow_server, "cursor", "note", "first answer after 3.5 s", 0),
]


@pytest.mark.parametrize(("change", "check", "state", "text", "code"), ROWS)
async def test_each_thing_that_can_be_wrong_has_its_line_and_exit_code(
    case: Case, change: Change, check: str, state: str, text: str, code: int
) -> None:
    """Certain evidence is broken and gives 1; everything else is a note (ours)."""
    changing = change(case)
    if isinstance(changing, Awaitable):
        await changing

    assert await case.run() == code
    assert case.line(check).split()[0] == state
    assert text in case.line(check)
    assert GOOD not in case.seen
    assert WRONG not in case.seen
    assert {call.request.method for call in case.vendor.calls} <= {"GET"}


async def test_every_line_has_a_state_and_what_is_broken_has_a_way_out(case: Case) -> None:
    """One line each, for eyes and for grep (ours)."""
    wrong_key(case)
    stale_entry(case)
    await case.run()
    lines = case.seen.split("\n\n")[0].splitlines()

    assert {line.split()[0] for line in lines} <= {"ok", "note", "broken"}
    assert len(lines) == len(case.report.findings)
    assert all(each.way_out for each in case.report.findings if each.state == "broken")
    assert case.seen.endswith("\n2 things are broken. Nothing was bought.\n")


async def test_data_say_the_same_as_the_lines(case: Case) -> None:
    """`--json` gives each finding with its figures (ours)."""
    case.entry("cursor")
    await case.run()
    lines = case.seen.splitlines()
    case.seen = ""
    code = await case.run(as_json=True)
    data = json.loads(case.seen)
    (cursor,) = [each for each in data["findings"] if each["check"] == "cursor"]

    assert code == 0
    assert data["ok"] is True
    for each, line in zip(data["findings"], lines, strict=False):
        assert line.split()[:2] == [each["state"], each["check"]]
        assert f"{each['found']} {each['next']}".strip() in line
    assert cursor["figures"]["tools"] == 4
    assert cursor["figures"]["seconds"] == 0.1


@pytest.mark.parametrize(
    ("advice", "shown"),
    [
        (
            "Ask the user to update wan-mcp and to restart the client.",
            "Update wan-mcp and restart the client.",
        ),
        (
            guard._PUT_BACK + guard._GIVE_UP.format(names="x"),
            "Close every program that uses wan-mcp, put ledger.db back (and ledger.db-wal, if it "
            "was there: the two belong together) and start the programs again. What wan-mcp has "
            "open can still be read. If that ledger is gone for good: look at your recent jobs on "
            "pixeldojo.ai, and then delete x in the folder above the ledger's; then paid calls "
            "work again.",
        ),
        (
            "Tell the user; nothing is bought without the ledger. It is in the folder.",
            "Nothing is bought without the ledger. It is in the folder.",
        ),
    ],
)
def test_advice_for_an_assistant_is_shown_as_advice_for_a_person(advice: str, shown: str) -> None:
    """Nobody else reads it here (ours)."""
    assert for_person(advice) == shown


@posix
async def test_all_places_of_several_ledgers_are_named(case: Case) -> None:
    """Whoever has to choose must know between what (ours)."""
    await two_ledgers(case)
    await case.run()

    for place in (case.home / ".local/share/wan-mcp", case.folder / "xdg/wan-mcp"):
        assert str(place / "ledger") in case.line("ledger")


async def test_only_this_installation_is_started_and_it_gets_no_key(case: Case) -> None:
    """Without a key nothing can be bought, and no program of somebody else runs (ours)."""
    case.entry("cursor", WAN_MCP_ENV_FILE=str(case.folder / "keys"))
    (case.folder / "keys").write_text(f"PIXELDOJO_API_KEY={GOOD}\n")
    case.entry("windsurf", sys.executable)
    await case.run()
    [(command, environment)] = case.starts

    assert command == [this_program().command, *this_program().arguments]
    assert GOOD not in environment.values()
    assert not environment.keys() & {"PIXELDOJO_API_KEY", "WAN_MCP_ENV_FILE", "WAN_MCP_DATA_DIR"}


@pytest.mark.parametrize(
    ("arguments", "starts"),
    [
        (["-m", "wan_mcp"], 1),
        (["-P", "-u", "-m", "wan_mcp"], 1),
        ([], 0),
        (["-m", "wan_mcp", "http"], 0),
        (["-m", "another"], 0),
        (["-c", "print()"], 0),
    ],
)
async def test_python_itself_is_started_only_for_the_module_of_this_program(
    case: Case, monkeypatch: pytest.MonkeyPatch, arguments: list[str], starts: int
) -> None:
    """Also where this installation has no script beside its Python (ours)."""
    by_module = Program(sys.executable, ("-P", "-m", "wan_mcp"))
    monkeypatch.setattr(entries, "this_program", lambda: by_module)
    file = case.entry("cursor", sys.executable)
    settings = json.loads(file.read_text())
    settings["mcpServers"]["wan-mcp"]["args"] = arguments
    file.write_text(json.dumps(settings))
    await case.run()

    assert len(case.starts) == starts


@pytest.mark.parametrize(
    "command",
    [
        f"env PIXELDOJO_API_KEY={WRONG} wan-mcp",
        f"PIXELDOJO_API_KEY={WRONG} wan-mcp",
        f"/opt/wan mcp/wan-mcp --key {WRONG}",
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
async def test_arguments_that_are_written_into_the_command_are_not_shown(
    case: Case, command: str, as_json: bool
) -> None:
    """One of them may be a key that stands nowhere else (ours)."""
    case.entry("cursor", command)
    await case.run(as_json=as_json)

    assert WRONG not in case.seen
    assert " ..., which is not here" in case.seen


@pytest.mark.parametrize("as_json", [False, True])
async def test_the_key_of_an_entry_that_cannot_be_used_is_masked_everywhere(
    case: Case, as_json: bool
) -> None:
    """It is a secret although it is not tried, in figures as well (ours)."""
    command = f"/opt/{WRONG}/wan-mcp"
    case.entry("cursor", command, PIXELDOJO_API_KEY=WRONG, WAN_MCP_MAX_IN_FLIGHT="many")
    await case.run(as_json=as_json)

    assert WRONG not in case.seen
    assert f"/opt/{MASK}/wan-mcp" in case.seen


def test_a_key_is_masked_whole_where_another_one_is_its_beginning() -> None:
    """An incomplete key in one entry must not uncover the rest of it in another (ours)."""
    shorter = {GOOD[:length] for length in range(4, len(GOOD))}
    found = broken("key", f"{GOOD}.", "").without({*shorter, GOOD}).found

    assert found == f"{MASK}."


async def test_names_and_commands_of_strangers_cannot_move_the_cursor(case: Case) -> None:
    """Whoever writes into the settings of a host does not write on the terminal (ours)."""
    case.entry("cursor", "/planted/\x1b[2J\x9b1A\u202e")
    case.entry("windsurf", **{"WAN_MCP_\x1b[2J": "1"})
    await case.run()

    assert "/planted/\\x1b[2J\\x9b1A\\u202e" in case.line("cursor")
    assert "WAN_MCP_\\x1b[2J" in case.line("windsurf")
    assert all(c.isprintable() or c == "\n" for c in case.seen)


@pytest.mark.parametrize("outcome", [Started(4, 0.1, 1.2), NotStarted("it ended")])
async def test_variables_of_an_entry_that_may_load_other_code_are_left_out_and_named(
    case: Case, outcome: Started | NotStarted
) -> None:
    """Such an entry would make this program run what somebody planted (ours)."""
    case.outcome = outcome
    planted = {"PYTHONPATH": "/planted", "LD_PRELOAD": "/planted.so", "PYTHONWARNINGS": "x"}
    case.entry("cursor", NO_PROXY="*", WAN_MCP_LOG_LEVEL="INFO", **planted)
    await case.run()
    [(_, environment)] = case.starts

    assert not environment.keys() & planted.keys()
    assert environment["NO_PROXY"] == "*"
    assert environment["WAN_MCP_LOG_LEVEL"] == "INFO"
    assert case.line("cursor").startswith("note")
    assert "without LD_PRELOAD, PYTHONPATH, PYTHONWARNINGS of the entry" in case.line("cursor")


async def test_a_second_name_of_the_script_starts_the_script_itself(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would first look for modules in the folder of the second name (documented)."""
    own, second = case.folder / "own" / "wan-mcp", case.folder / "planted" / "wan-mcp"
    for each in (own, second):
        each.parent.mkdir()
    own.touch(mode=0o755)
    os.link(own, second)
    monkeypatch.setattr(entries, "this_program", lambda: Program(str(own)))
    case.entry("cursor", str(second))
    await case.run()
    [(command, _)] = case.starts

    assert command == [str(own)]


async def test_equal_entries_of_two_hosts_are_started_once(case: Case) -> None:
    """Each start takes a second (ours)."""
    case.entry("cursor")
    case.entry("windsurf")
    await case.run()

    assert len(case.starts) == 1
    assert case.line("cursor").split()[0] == case.line("windsurf").split()[0] == "ok"


async def test_a_key_of_a_host_is_tried_where_this_shell_has_none(case: Case) -> None:
    """Most users have their key nowhere else (ours)."""
    no_key(case)
    case.entry("cursor")
    case.entry("windsurf")

    assert await case.run() == 0
    assert "The key in Cursor's entry and Windsurf's entry is accepted" in case.line("key")


async def test_a_key_that_a_host_keeps_as_a_secret_is_not_missed(case: Case) -> None:
    """It cannot be tried, and nothing shows that it is wrong (ours)."""
    no_key(case)
    case.entry("vscode", PIXELDOJO_API_KEY="${input:pixeldojo-key}")

    assert await case.run() == 0
    assert case.line("key").startswith("note")
    assert case.line("vscode").startswith("ok")


async def test_an_entry_without_a_key_is_worth_a_note(case: Case) -> None:
    """Hosts seldom pass on the variables of a shell (observed elsewhere)."""
    case.entry("cursor", PIXELDOJO_API_KEY="")

    assert await case.run() == 0
    assert "The entry has no key" in case.line("cursor")


async def test_an_entry_with_a_ledger_of_its_own_is_worth_a_note(case: Case) -> None:
    """What is paid for in one of them is not known in the other (ours)."""
    other_ledger(case)

    assert await case.run() == 0
    assert str(case.folder / "other") in case.seen


async def test_jobs_and_the_balance_that_was_reported_last_are_shown(case: Case) -> None:
    """They come from the ledger; PixelDojo has no page for the balance (documented)."""
    await paid(case.folder / "data", balance=87.5)

    assert await case.run() == 0
    assert "1 job (1 not ended)" in case.line("ledger")
    assert "87.5 credits" in case.line("balance")


async def test_looking_changes_no_job_and_makes_no_ledger(case: Case) -> None:
    """A job of a server that was killed is settled by servers, not by this (ours)."""
    await case.run()
    assert not (case.folder / "data").exists()
    ledger = SQLiteLedger((case.folder / "data") / "ledger")
    account = await ledger.account(BASE, GOOD)
    wanted = Replacement(video="https://a.example/v.mp4", character_image="https://a.example/i.png")
    claim = await ledger.claim(account, wanted, generated_seed=1, estimate=2)
    case.seen = ""
    await case.run()
    found = await ledger.find(account, claim.record.submission_id)
    await ledger.aclose()

    assert found is not None
    assert found.state is record.State.INTENT


@posix
@pytest.mark.parametrize("command", [None, sys.executable])
async def test_looking_at_an_entry_with_another_ledger_does_not_make_servers_use_it(
    case: Case, command: str | None
) -> None:
    """A server notes for the others where it found a ledger; a look does not (ours)."""
    del case.environment["WAN_MCP_DATA_DIR"]
    await paid(case.folder / "planted" / "wan-mcp")
    case.entry("cursor", command, XDG_DATA_HOME=str(case.folder / "planted"))
    await case.run()

    assert f"keeps its jobs in {case.folder / 'planted'}" in case.seen
    assert not (case.home / ".local").exists()


async def test_the_password_of_a_proxy_is_not_shown(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People paste these lines into bug reports (ours)."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pd_secret@proxy.example:3128")
    await case.run()

    assert "http://proxy.example:3128" in case.line("proxy")
    assert "pd_secret" not in case.seen


PAGE = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text("utf-8")


async def test_the_page_about_the_lines_has_every_line_and_no_other(case: Case) -> None:
    """Somebody looks up the second word of a line there (ours)."""
    await paid(case.folder / "data", balance=87.5)
    await case.run()
    table = PAGE.split("## What each line is about")[1].split("##")[0]
    names = [row.split("`")[1] for row in table.splitlines() if row.startswith("| `")]

    assert names == [*dict.fromkeys(each.check for each in case.report.findings), "cursor"]


def test_the_example_of_the_page_looks_as_lines_do() -> None:
    """With the same columns (ours)."""
    (example,) = re.findall(r"```text\n(.*?)\n\n", PAGE, re.DOTALL)

    for line in example.splitlines():
        state, check, text = line.split(None, 2)
        assert Finding(check, State(state), text).line() == line


def test_the_commands_of_the_page_are_commands_of_this_program() -> None:
    """With their options (ours)."""
    blocks = re.findall(r"```shell\n(.*?)```", PAGE, re.DOTALL)
    lines = [*"".join(blocks).splitlines(), "wan-mcp check --json"]

    assert len(lines) == 4
    for line in lines:
        assert _parsed(line.split()[1:]).command in ("check", "setup")


def test_the_command_says_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line to the last line, with an API that is not there (ours)."""
    nowhere = {"PIXELDOJO_API_BASE": "http://127.0.0.1:9/api/v1", "HOME": str(tmp_path)}
    places = {"USERPROFILE": str(tmp_path), "WAN_MCP_DATA_DIR": str(tmp_path / "data")}
    code = run(["check", "--json"], nowhere | places, lambda error: pytest.fail(str(error)))
    broken = [
        each["check"]
        for each in json.loads(capsys.readouterr().out)["findings"]
        if each["state"] == "broken"
    ]

    assert code == 1
    assert broken == ["api", "key"]


def test_nothing_is_logged_beside_the_lines(tmp_path: Path) -> None:
    """What the ledger writes to the log, its line says (ours)."""
    (tmp_path / "data/ledger").mkdir(parents=True)
    (tmp_path / "data/ledger/ledger.db").write_bytes(b"not a database" * 100)
    program = [sys.executable, "-P", "-m", "wan_mcp", "check"]
    places = {"HOME": str(tmp_path), "WAN_MCP_DATA_DIR": str(tmp_path / "data")}
    nowhere = {"PIXELDOJO_API_BASE": "http://127.0.0.1:9/api/v1"}
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    ended = subprocess.run(
        program, env=kept | places | nowhere, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert "is damaged" in ended.stdout
    assert ended.stderr == ""


def test_a_path_that_is_no_text_can_be_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder may have been named in another encoding (observed elsewhere)."""
    nowhere = {"PIXELDOJO_API_BASE": "http://127.0.0.1:9/api/v1", "HOME": str(tmp_path)}
    places = {"USERPROFILE": str(tmp_path), "WAN_MCP_DATA_DIR": f"{tmp_path}/\udcff"}

    assert run(["check"], nowhere | places, lambda error: pytest.fail(str(error))) == 1
    assert "\\udcff/ledger" in capsys.readouterr().out.replace(os.sep, "/")


def with_bucket(
    case: Case, monkeypatch: pytest.MonkeyPatch, endpoint: str, **other: str
) -> dict[str, str]:
    """Name a bucket in the settings; obstore itself reads the environment of the process."""
    pytest.importorskip("obstore", reason="the extra storage is not installed")
    clouds = {
        "AWS_ACCESS_KEY_ID": "canary-key-id",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_ENDPOINT_URL": endpoint,
        **other,
    }
    for name, value in clouds.items():
        monkeypatch.setenv(name, value)
    case.environment |= {"WAN_MCP_STORAGE_URL": "s3://bucket/x", **clouds}
    return clouds


@pytest.mark.parametrize("name", ["WAN_MCP_STORAGE_URL", "WAN_MCP_VIDEO_DIR"])
def test_bucket_without_the_extra_for_it_names_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the other extra, and only where a bucket is used (ours)."""
    installed = {"av": "18.0", "obstore": None}
    monkeypatch.setattr(installation, "_version", installed.get)
    plain, with_bucket = Settings(), Settings.read({name: "s3://bucket/x"})
    without_any = installation.extras(plain)
    missing = installation.extras(with_bucket)
    installed["av"] = None
    both = installation.extras(with_bucket)

    assert (without_any.state, without_any.found) == (State.OK, "media is installed (PyAV 18.0).")
    assert missing.state is both.state is State.NOTE
    assert "The extra storage is not installed" in missing.found
    assert "pip install 'wan-mcp[storage]'" in missing.way_out
    assert "pip install 'wan-mcp[media,storage]'" in both.way_out


async def test_without_a_bucket_the_line_says_so(case: Case) -> None:
    """Nobody needs one (ours)."""
    assert await case.run() == 0
    assert "neither WAN_MCP_STORAGE_URL nor WAN_MCP_PUBLIC_URL is set" in case.line("storage")
    assert case.line("storage").startswith("ok ")


async def test_files_that_are_lent_have_a_line_with_their_address_and_port(case: Case) -> None:
    """They are lent even if there is a bucket as well, which is then not asked (ours)."""
    case.environment |= {
        "WAN_MCP_PUBLIC_URL": "https://files.example.com/x",
        "WAN_MCP_PUBLIC_PORT": "8801",
        "WAN_MCP_STORAGE_URL": "s3://bucket/x",
    }
    await case.run()

    assert case.line("storage").startswith("ok ")
    assert "lent through https://files.example.com/x" in case.line("storage")
    assert "port 8801 of this computer" in case.line("storage")


@pytest.mark.parametrize(
    ("status", "body", "other", "state", "text"),
    [
        (200, NO_OBJECTS, {}, "note", "links to it live 6 h 0 min. But it is on this computer"),
        (403, "<Code>SignatureDoesNotMatch</Code>", {}, "broken", "does not accept"),
        (404, "<Code>NoSuchBucket</Code>", {}, "broken", "There is no such bucket"),
        (200, NO_OBJECTS, ENDS_SOON, "broken", "end within an hour"),
        (503, "", {}, "note", "is overloaded at the moment"),
    ],
)
async def test_state_of_the_bucket_has_its_line(
    case: Case,
    status: int,
    body: str,
    other: dict[str, str],
    state: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One free question, and one link that is signed and not used (ours)."""
    async with always_answering(status, body) as endpoint:
        clouds = with_bucket(case, monkeypatch, endpoint, **other)
        await case.run()

    assert case.line("storage").split()[0] == state
    assert text in case.line("storage")
    assert "s3://bucket/x" in case.line("storage")
    for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert clouds[secret] not in case.seen


async def test_bucket_on_this_computer_serves_a_sandbox_on_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only PixelDojo itself could not download from it (ours)."""
    async with always_answering(200, NO_OBJECTS) as endpoint:
        with_bucket(case, monkeypatch, endpoint, PIXELDOJO_API_BASE="http://127.0.0.1:8788/api/v1")
        found = await bucket(Settings.read(case.environment), lambda: NOW)

    assert found.line().startswith("ok     storage")
    assert found.figures == {"url": "s3://bucket/x", "link_seconds": 21_600}


@pytest.mark.parametrize(
    ("status", "body", "state", "text"),
    [
        (200, NO_OBJECTS, "ok", "They go to s3://bucket/videos, which can be read."),
        (403, "<Code>SignatureDoesNotMatch</Code>", "broken", "does not accept"),
        (503, "", "note", "is overloaded at the moment"),
    ],
)
async def test_state_of_the_bucket_for_videos_has_its_line(
    case: Case,
    status: int,
    body: str,
    state: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stands where a folder would have its line (ours)."""
    async with always_answering(status, body) as endpoint:
        with_bucket(case, monkeypatch, endpoint, WAN_MCP_VIDEO_DIR="s3://bucket/videos")
        await case.run()

    assert case.line("videos").split()[0] == state
    assert text in case.line("videos")
