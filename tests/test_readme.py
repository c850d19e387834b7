"""README, docs/ and the example configuration: each command works, and each name exists."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from xml.etree import ElementTree

import anyio
import anyio.to_thread
import httpx
import pytest
from mcp.client import Client
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

import wan_mcp
from tests.portable_schema import portable_schema
from wan_mcp import errors
from wan_mcp.__main__ import main
from wan_mcp.cli.hosts.catalogue import HOSTS, Folders, Host
from wan_mcp.cli.hosts.change import this_program
from wan_mcp.cli.hosts.masking import MASK
from wan_mcp.cli.setup import Setup, Terminal
from wan_mcp.inputs.verdict import UnusableInput
from wan_mcp.ledger.contract import Fenced
from wan_mcp.ledger.spending_limits import LimitReached
from wan_mcp.models import JobLine, JobResult, JobStatus
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.vendor.vendor import FAILING
from wan_mcp.sandbox.videos.samples import SAMPLES
from wan_mcp.server import build_server
from wan_mcp.settings import ENV_FILE, BadSettings, Settings, secret_names
from wan_mcp.storage.data_folder import data_places
from wan_mcp.surface.arguments import (
    Arguments,
    GetJobStatus,
    ListJobs,
    ReplaceCharacter,
    WaitForJob,
)
from wan_mcp.surface.calls import BOUGHT
from wan_mcp.transports.sign_in.code_flow import BACK_PATH, way_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md")
}
PAGES = {"README.md": README, **{f"docs/{name}": text for name, text in DOCS.items()}}
ALL_PAGES = "\n".join(PAGES.values())
MOST_WORDS = 1_800
EXAMPLE = (ROOT / "claude_desktop_config.example.json").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def blocks(page: str) -> list[tuple[str, str]]:
    """The blocks of a page: the language of each, and its text."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


SHELLS = {"sh", "bash", "shell", "console"}


def commands(page: str) -> list[str]:
    """Every command line in the blocks of a page."""
    return [
        line for language, text in blocks(page) if language in SHELLS for line in text.splitlines()
    ]


COMMANDS = list(dict.fromkeys(commands(ALL_PAGES)))


def in_backticks(page: str) -> set[str]:
    """The code in the sentences of a page; its blocks are left out."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.S | re.M)))


def links(page: str) -> list[str]:
    """Where the links and the images of a page lead."""
    return re.findall(r"\]\(([^)]+)\)", page)


CODE = in_backticks(ALL_PAGES)

# The two commands for a fresh machine: each is complete, environment included.
DEMO = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/wan-mcp demo"
TEST = "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest"

FOREIGN = {
    *("client_session_timeout_seconds", "tool_timeout_sec", "pg_dump"),
    *("client_max_body_size", "proxy_request_buffering"),
}
"""Names in the pages that are settings of other programs."""
FILES = {
    *("claude_desktop_config", "cline_mcp_settings", "mcp_config"),
    *("per_second", "per_resolution", "min_program"),
}
"""Names of files, and values and fields that are in no schema."""
ABOUT_THE_CODE = {
    f"docs/{name}.md"
    for name in ("architecture", "contributing", "glossary", "promises", "waiting")
}
"""The pages for developers: they name modules, states and folders as well."""

UNFINISHED = {
    *(JobStatus.QUEUED, JobStatus.SUBMITTING),
    *(JobStatus.RUNNING, JobStatus.UNKNOWN),
}
LISTED = [status for status in JobStatus if status in BOUGHT and status not in UNFINISHED]
"""The ended jobs that list_jobs shows by default."""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the block is for a POSIX shell")

PROVEN: list[str] = []
FOLLOWED = re.findall(
    r"^## In fifteen minutes\n(.*?)^## ", DOCS["teams.md"], re.DOTALL | re.MULTILINE
)
"""The part of a page whose commands are carried out one after the other, as they stand there."""
PROVEN_ELSEWHERE = {
    **dict.fromkeys(commands(*FOLLOWED), "tests/replicas/test_page.py"),
    **{f"wan-mcp setup {host.id}": "tests/cli/test_setup.py" for host in HOSTS},
    "wan-mcp setup": "tests/cli/test_setup.py",
    "wan-mcp setup claude-desktop --remove": "tests/cli/test_setup.py",
    ".venv/bin/wan-mcp check": "tests/cli/check/test_check.py",
    "wan-mcp check": "tests/cli/check/test_check.py",
    ".venv/bin/wan-mcp jobs": "tests/cli/test_jobs.py",
    "wan-mcp jobs": "tests/cli/test_jobs.py",
    "wan-mcp show JOB": "tests/cli/test_jobs.py",
    "wan-mcp open JOB": "tests/cli/test_jobs.py",
    "wan-mcp keep JOB": "tests/cli/test_jobs.py",
    "wan-mcp forget JOB": "tests/cli/test_jobs.py",
    "wan-mcp admin migrate": "tests/cli/test_admin.py",
    "wan-mcp admin move-ledger": "tests/cli/test_admin.py",
    **dict.fromkeys(
        (
            "wan-mcp admin team add Blue",
            'wan-mcp admin user add "Ann Lee" --team Blue',
            "wan-mcp admin wallet add blue --team Blue < key.txt",
            'wan-mcp admin limits set --user "Ann Lee" --credits-per-day 50 --in-flight 2',
            'wan-mcp admin token add "Ann Lee" --note "her laptop"',
            '(umask 077 && echo "2026-11 $(head -c 32 /dev/urandom | base64)" '
            "> /etc/wan-mcp/key-ring)",
        ),
        "tests/cli/test_admin_people.py",
    ),
    **dict.fromkeys(
        (
            "pg_dump --format=custom --file=wan_mcp.backup wan_mcp",
            "createdb wan_mcp_restored",
            "pg_restore --exit-on-error --dbname=wan_mcp_restored wan_mcp.backup",
            "wan-mcp admin token revoke ID",
            "wan-mcp admin user disable bob",
            "wan-mcp admin limits set --user ann --credits-per-day 10",
            "wan-mcp admin wallet set-key eve --key-file key.txt",
        ),
        "tests/tenants/test_restore.py",
    ),
    "wan-mcp gallery": "tests/cli/test_gallery.py",
    "uvx --from . wan-mcp demo": "tests/packaging/test_installers.py",
    "pipx install .": "tests/packaging/test_installers.py",
    "uv run docs/examples/two_steps.py https://files.example.com/clip.mp4 "
    "https://files.example.com/first.png https://files.example.com/second.png": (
        "tests/examples/test_client_examples.py"
    ),
    "wan-mcp setup cursor --skill > .cursor/rules/replace-a-character.mdc": (
        "tests/surface/test_skill.py"
    ),
    "wan-mcp setup codex --skill > ~/.agents/skills/replace-a-character/SKILL.md": (
        "tests/surface/test_skill.py"
    ),
    "mkdir -p ~/.agents/skills/replace-a-character": "tests/surface/test_skill.py",
    "claude plugin marketplace add .": "tests/surface/test_skill.py",
    "claude plugin install wan-mcp@wan-mcp": "tests/surface/test_skill.py",
    "python -m pip install --editable . --group dev": "tests/test_packaging.py",
    "INSTALLERS=1 python -m pytest -n 0 tests/packaging": "tests/packaging/test_installers.py",
}
"""Commands that tests in other files run or show to work, and these files."""

MODEL = "wan-2.2-replace"
FULL_PATH = "/home/you/wan-mcp/.venv/bin/wan-mcp"
DEFAULT_URL = "http://127.0.0.1:8765/mcp"

F = TypeVar("F", bound=Callable[..., object])


def proves(*commands: str) -> Callable[[F], F]:
    """Marks the test that runs the commands that begin so, or shows that they work."""
    PROVEN.extend(commands)
    return lambda test: test


def the_command(begin: str) -> str:
    """The one command of all pages that begins so."""
    (found,) = (line for line in COMMANDS if line.startswith(begin))
    return str(found)


def table(page: str, heading: str, number: int = 0) -> list[list[str]]:
    """The rows below a heading of a page, as cells without their backticks."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGES[page], flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    found = re.findall(r"^\|[-|]+\|\n((?:\|.*\|\n)+)", section, re.MULTILINE)[number]
    return [
        [c.strip().replace("`", "") for c in row.split("|")[1:-1]] for row in found.splitlines()
    ]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the developer's, and an empty working directory."""
    kept = "WAN_MCP_DATA_DIR"  # the ledger must not be the developer's
    for name in os.environ:
        if name.startswith(("WAN_MCP_", "PIXELDOJO_")) and name != kept:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


def installed(command: str) -> list[str]:
    """A command line of a page, as the command that was installed with the package."""
    program, *words = shlex.split(command.removeprefix(".venv/bin/"))
    found = shutil.which(program, path=sysconfig.get_path("scripts"))
    assert found, f"{program} is not installed"
    return [found, *words]


@contextmanager
def listening(command: str, last: str) -> Iterator[list[str]]:
    """A serving command on a free port, and what it printed up to the line that begins so."""
    with subprocess.Popen(
        [*installed(command), "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        lines: list[str] = []
        try:
            while not (lines and lines[-1].startswith(last)):
                assert process.poll() is None
                lines.append(process.stderr.readline().strip())
            yield lines
        finally:
            process.terminate()


def test_every_command_is_run_or_shown_to_be_right_here() -> None:
    """A command that nobody tries is wrong sooner or later (ours).

    Those that begin with python or bash are for developers, and a test below is about them.
    """
    others = [
        line
        for line in COMMANDS
        if not line.startswith(tuple(PROVEN)) and line not in PROVEN_ELSEWHERE
    ]

    assert [line for line in others if line not in developing_commands()] == []
    assert [line for line in commands(README) if line in others] == []
    assert [begin for begin in PROVEN if not any(line.startswith(begin) for line in COMMANDS)] == []


def test_command_that_is_proven_elsewhere_is_in_the_pages_and_its_test_exists() -> None:
    """A line that nobody needs any more would hide a wrong command (ours)."""
    assert [line for line in PROVEN_ELSEWHERE if line not in COMMANDS] == []
    assert [test for test in PROVEN_ELSEWHERE.values() if not (ROOT / test).is_file()] == []


@proves(DEMO, "wan-mcp demo --job-seconds 3")
def test_demo_command_ends_with_a_saved_video(tmp_path: Path) -> None:
    """.ci/run runs all of it in an empty environment; this runs its last part (ours)."""
    *_, demo = DEMO.split(" && ")

    ended = subprocess.run(
        [*installed(demo), "--job-seconds", "0"],
        capture_output=True,
        check=False,
    )

    (video,) = tmp_path.glob("*.mp4")
    assert PROJECT["project"]["scripts"] == {"wan-mcp": "wan_mcp.__main__:main"}
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert video.read_bytes()[4:8] == b"ftyp"


@proves(TEST)
def test_two_commands_are_complete_and_ci_runs_them() -> None:
    """Many systems refuse to install into their own Python (observed elsewhere)."""
    complete = [line for line in commands(README) if "-m venv" in line]
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    (extra,) = re.findall(r"'\.\[(\w+)\]'", TEST)

    assert complete == [DEMO, TEST]
    assert re.findall(r"- run: (python3 .+)", workflow) == [DEMO, TEST]
    assert f"DEMO_COMMAND='{DEMO}'" in ci
    assert f'TEST_COMMAND="{TEST}"' in ci
    assert extra in PROJECT["project"]["optional-dependencies"]


@posix_only
def test_activating_the_environment_makes_the_short_commands_work(tmp_path: Path) -> None:
    """The rest of the page leaves out the folder of the environment (ours)."""
    (activate,) = (code for code in CODE if code.startswith("source "))
    create = f"{shlex.quote(sys.executable)} -m venv --without-pip .venv"  # pip takes seconds
    show = "python -c 'import sys; print(sys.prefix)'"

    prefix = subprocess.run(
        ["bash", "-c", f"{create} && {activate} && {show}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert Path(prefix.strip()) == tmp_path / ".venv"


@proves('python -m pip install ".[media]"', "wan-mcp demo --video")
def test_media_extra_lets_the_demo_use_files_of_the_user(tmp_path: Path) -> None:
    """A user who has no link can still try it with their own files (ours)."""
    pytest.importorskip("av", reason="the extra media is not installed")
    words = the_command("wan-mcp demo --video").split()
    for name, sample in (("clip.mp4", "clip.mp4"), ("dancer.png", "character.png")):
        content = (resources.files("wan_mcp.sandbox") / "media" / sample).read_bytes()
        (tmp_path / name).write_bytes(content)

    ended = subprocess.run(
        [*installed(" ".join(words)), "--job-seconds", "0"],
        capture_output=True,
        check=False,
    )

    assert "media" in PROJECT["project"]["optional-dependencies"]
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(list(tmp_path.glob("[0-9]*_job_*.mp4"))) == 1


@proves("export PIXELDOJO_API_KEY", "wan-mcp demo --live")
async def test_live_command_asks_before_it_spends_anything(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run as it is, up to its question (ours)."""
    name = the_command("export PIXELDOJO").removeprefix("export ").partition("=")[0]
    monkeypatch.setenv(name, sandbox.key)
    monkeypatch.setenv("PIXELDOJO_API_BASE", sandbox.api_base)
    monkeypatch.setattr(sys, "argv", shlex.split(the_command("wan-mcp demo --live")))
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))

    code = await anyio.to_thread.run_sync(main)

    assert "[y/N]" in capsys.readouterr().out
    assert (code, sandbox.charges) == (1, [])


@proves("claude mcp add")
def test_commands_of_other_assistants_name_ours_and_the_key() -> None:
    """Their options are those of their --help: Claude Code 2.1, Gemini CLI (observed elsewhere)."""
    claude = shlex.split(the_command("claude mcp add"))
    (gemini,) = [shlex.split(code) for code in CODE if code.startswith("gemini mcp add")]

    assert claude[-2:] == ["--", FULL_PATH]
    assert gemini[-2:] == ["wan-mcp", FULL_PATH]
    for words in (claude, gemini):
        assert words[words.index("--env") + 1].startswith("PIXELDOJO_API_KEY=")


@proves(".venv/bin/wan-mcp setup claude-desktop")
def test_setup_command_writes_a_full_path_and_the_key(tmp_path: Path) -> None:
    """Somebody answers yes, and the host has a program that exists (ours)."""
    key = "dummy-key-0123456789"
    home = {"HOME": str(tmp_path), "PIXELDOJO_API_KEY": key, "APPDATA": str(tmp_path)}

    ended = subprocess.run(
        installed(the_command(".venv/bin/wan-mcp setup")),
        input=b"y\n",
        env={**os.environ, **home},
        capture_output=True,
        check=False,
    )

    (file,) = tmp_path.rglob("claude_desktop_config.json")
    entry = json.loads(file.read_text("utf-8"))["mcpServers"]["wan-mcp"]
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert key.encode() not in ended.stdout
    assert Path(entry["command"]).is_file()
    assert entry["env"] == {"PIXELDOJO_API_KEY": key}


@proves("wan-mcp sandbox", "curl http://127.0.0.1:8788/sandbox/faults")
def test_sandbox_command_loses_an_answer_on_request() -> None:
    """The README's own example of a fault, sent to the README's own command (ours)."""
    curl = shlex.split(the_command("curl "))
    path, fault = urlsplit(curl[1]).path, curl[curl.index("-d") + 1]
    name, value = curl[curl.index("-H") + 1].split(": ")
    wish = {"video": "https://a.example/v", "character_image": "https://a.example/i"}

    with listening(the_command("wan-mcp sandbox"), "PIXELDOJO_API_KEY=") as lines:
        api, key = (line.partition("=")[2] for line in lines[-2:])
        origin = api.removesuffix("/api/v1")
        with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {key}"}) as client:
            accepted = client.post(origin + path, content=fault, headers={name: value})
            with pytest.raises(httpx.RemoteProtocolError):
                client.post(f"{api}/models/{MODEL}/run", json={**wish, "video_duration": 5})
            state = client.get(f"{origin}/sandbox/state").json()

    assert accepted.is_success
    assert len(state["charges"]) == 1


@pytest.mark.parametrize(
    ("name", "given"),
    [(row[0], row[1]) for row in table("docs/sandbox.md", "Faults")],
    ids=lambda text: text,
)
async def test_fault_table_names_what_the_sandbox_takes(
    name: str, given: str, sandbox: Sandbox
) -> None:
    """Names and defaults as in the code, and the sandbox takes them (ours)."""
    parameters = signature(getattr(faults, name)).parameters.values()
    shown = ", ".join(
        each.name if each.default is each.empty else f"{each.name}={json.dumps(each.default)}"
        for each in parameters
    )
    sample = {"work": True, "code": 503, "location": "/", "value": [], "changes": {}, "at": 9}
    needed = {each.name: sample[each.name] for each in parameters if each.default is each.empty}
    fault = {"fault": name, **needed, "before": 0.5, "after": 0.5}
    order = {"method": "GET", "path": "/api/v1/*", "faults": [fault], "times": None}

    async with httpx.AsyncClient(trust_env=False) as client:
        taken = await client.post(f"{sandbox.origin}/sandbox/faults", json=order)
        ended = await client.delete(f"{sandbox.origin}/sandbox/faults")

    assert given == shown
    assert (taken.status_code, ended.status_code) == (204, 204)


async def test_fault_table_is_complete(sandbox: Sandbox) -> None:
    """The sandbox names its faults when it refuses another one (ours)."""
    order = {"path": "*", "faults": [{"fault": "unheard of"}]}

    async with httpx.AsyncClient(trust_env=False) as client:
        refused = await client.post(f"{sandbox.origin}/sandbox/faults", json=order)

    names = refused.json()["error"].partition("must be one of ")[2].split(", ")
    assert [row[0] for row in table("docs/sandbox.md", "Faults")] == names


@proves("wan-mcp http")
async def test_http_command_serves_the_tools_and_its_health() -> None:
    """Run as it is, but on a free port (ours)."""
    with listening(the_command("wan-mcp http"), "http://") as (url,):
        async with Client(url) as client:
            tools = (await client.list_tools()).tools
        async with httpx.AsyncClient(trust_env=False) as plain:
            health = await plain.get(url.removesuffix("/mcp") + "/healthz")

    assert re.sub(r":\d+/", ":8765/", url) == DEFAULT_URL
    assert DEFAULT_URL in CODE
    assert len(tools) == len(table("docs/tools.md", "Tools"))
    assert health.is_success
    assert any(code == f"claude mcp add --transport http wan-mcp {DEFAULT_URL}" for code in CODE)


@proves("python -m pip install --editable", "bash .ci/run checks", "bash .ci/run")
def test_development_commands_exist() -> None:
    """CI is these commands (ours)."""
    begin = "python -m pip install --editable"
    for command in (line for line in COMMANDS if line.startswith(begin)):
        *_, project, _, group = shlex.split(command)
        assert project.strip(".[]") in {"", *PROJECT["project"]["optional-dependencies"]}
        assert group in PROJECT["dependency-groups"]
    assert os.access(ROOT / ".ci/run", os.R_OK)
    assert "earlier_checks()" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def published(model: type[Arguments]) -> dict[str, Any]:
    """The parameters of a tool as assistants see them."""
    return dict(portable_schema(model)["properties"])


def described(name: str, schema: dict[str, Any], row: list[str]) -> None:
    """A row of a parameter table says what the schema says."""
    _, allowed, default, _ = row

    if "minimum" in schema:
        assert allowed == f"{schema['minimum']} to {schema['maximum']}"
    if name == "resolution":
        assert json.loads(f"[{allowed}]") == schema["enum"]
    if "default" in schema:
        assert json.loads(default) == schema["default"]
    else:
        expected = {"required", "PixelDojo's", "random", "the newest jobs", ", ".join(LISTED)}
        assert default in expected


async def test_tools_table_names_the_tools_there_are() -> None:
    """It also says which of them spend credits, as their hints do (ours)."""
    async with Client(build_server(Settings.read({}))) as client:
        tools = (await client.list_tools()).tools

    spends = {
        tool.name: bool(
            (hints := tool.annotations) and hints.open_world_hint and not hints.read_only_hint
        )
        for tool in tools
    }
    assert {
        name: costs != "nothing" for name, _, costs in table("docs/tools.md", "Tools")
    } == spends


@pytest.mark.parametrize(
    ("number", "model", "shared"),
    [(1, ReplaceCharacter, set()), (2, WaitForJob, {"job_id"}), (3, ListJobs, set())],
)
def test_parameter_tables_say_what_the_schemas_say(
    number: int, model: type[Arguments], shared: set[str]
) -> None:
    """Names, ranges and defaults: none is missing and none is invented (ours)."""
    rows = {row[0]: row for row in table("docs/tools.md", "Tools", number)}
    schema = {name: part for name, part in published(model).items() if name not in shared}

    assert list(rows) == list(schema)
    for name, part in schema.items():
        described(name, part, rows[name])
    required = {name for name, row in rows.items() if row[2] == "required"}
    assert required == {
        name for name, field in model.model_fields.items() if field.is_required()
    } - (shared)
    assert set(published(GetJobStatus)) == {"job_id"}


def test_answer_tables_name_every_field_and_status() -> None:
    """A word that is not explained cannot be understood (ours)."""
    named = [name for fields, _ in table("docs/tools.md", "Answers") for name in fields.split(", ")]

    assert sorted(named) == sorted(JobResult.model_fields)
    assert [status for status, _, _ in table("docs/tools.md", "Answers", 1)] == list(JobStatus)
    assert set(JobLine.model_fields) <= CODE


def failures(parent: type[errors.WanError] = errors.WanError) -> Iterator[type[errors.WanError]]:
    """Every error that has a code."""
    for child in parent.__subclasses__():
        if hasattr(child, "code"):
            yield child
        yield from failures(child)


def test_error_table_says_of_each_code_what_the_code_says() -> None:
    """A wrong entry here costs money (ours)."""
    stated = {
        code: (charged, safe)
        for code, charged, safe, _ in table("docs/tools.md", "When a call goes wrong")
    }
    known = {
        str(each.code): (each.charged, "yes" if each.retry_safe else "no") for each in failures()
    }
    known[UnusableInput.code] = (UnusableInput.charged, "no")  # its room is imported on use
    known[LimitReached.code] = (LimitReached.charged, "no")  # the same
    del known[Fenced.code]  # is always caught in payments

    assert stated == {**known, "internal_error": ("unknown", "no")}


async def test_defect_is_reported_as_the_error_table_says(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one code without a class: unknown for the paid tool, no for the free ones (ours)."""
    account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
    server = build_server(Settings.read({**os.environ, **account}))
    given = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wan_mcp.jobs.Jobs", broken)
    async with Client(server) as client:
        paid = (await client.call_tool("replace_character", given)).structured_content or {}
        free = (await client.call_tool("wait_for_job", {"job_id": "a"})).structured_content or {}

    names = ("code", "charged", "retry_safe")
    assert [paid[name] for name in names] == ["internal_error", "unknown", False]
    assert [free[name] for name in names] == ["internal_error", "no", True]


def test_settings_table_names_every_setting_with_its_default() -> None:
    """Users only know the settings in this table (ours)."""
    defaults = {
        str(field.alias): "none" if field.default in (None, ()) else str(field.default)
        for field in Settings.model_fields.values()
    }

    listed = {name: default for name, default, _ in table("docs/settings.md", "Settings")}

    secrets = {name: "none" for secret in secret_names() for name in (secret, f"{secret}_FILE")}
    assert listed == {**defaults, **secrets, ENV_FILE: "none"}
    assert set(re.findall(r"\b(?:PIXELDOJO|WAN_MCP)_[A-Z_]+", ALL_PAGES)) == set(listed)


def test_lifted_day_limit_is_a_limit_the_settings_take() -> None:
    """The README and a refusal name the same way out (ours)."""
    page = DOCS["settings.md"]
    (number,) = re.findall(r"number that no day reaches, such as `(\d+)`", page)
    name = "WAN_MCP_MAX_CREDITS_PER_DAY"

    assert Settings.read({name: number}).max_credits_per_day == float(number)
    with pytest.raises(BadSettings, match=number):
        Settings.read({name: "none"})


async def test_key_of_the_blocks_is_recognized_as_an_example_and_never_sent(
    sandbox: Sandbox,
) -> None:
    """Users copy it together with the block around it (ours)."""
    key = json.loads(EXAMPLE)["mcpServers"]["wan-mcp"]["env"]["PIXELDOJO_API_KEY"]
    account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": key}
    given = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}

    async with Client(build_server(Settings.read({**os.environ, **account}))) as client:
        answers = [
            (await client.call_tool(tool, given)).structured_content or {}
            for tool, given in (
                ("replace_character", given),
                ("get_job_status", {"job_id": "job_1"}),
                ("wait_for_job", {"job_id": "job_1"}),
                ("list_jobs", {}),
            )
        ]

    assert {answer["code"] for answer in answers} == {"no_api_key"}
    assert all("still the example from the documents" in answer["message"] for answer in answers)
    assert sandbox.requests == []


async def test_same_call_after_a_refusal_or_a_failure_is_paid_again(sandbox: Sandbox) -> None:
    """The one exception to "paid once", said wherever the promise is made (ours)."""
    account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
    given = {"video": f"{sandbox.origin}{FAILING}", "character_image": sandbox.image_url}
    sandbox.terms = Terms(pending_seconds=0, processing_seconds=0)
    sandbox.fault("POST", "*", faults.status(400))
    charged = []

    async with Client(build_server(Settings.read({**os.environ, **account}))) as client:
        for _ in range(3):  # refused; then a job that fails; then another
            answer = (await client.call_tool("replace_character", given)).structured_content or {}
            charged.append(answer["charged"])
            if "job_id" in answer:
                await client.call_tool("wait_for_job", {"job_id": answer["job_id"]})

    assert charged == ["no", "yes", "yes"]
    assert len(sandbox.charges) == 2
    for page in ("tools.md", "promises.md"):
        assert "same call is a new paid request" in DOCS[page].replace("\n", " ")
    assert "After a failed job, the same request is a new one and costs again." in in_one_line(
        README
    )


async def test_first_words_get_the_answer_that_the_readme_states(sandbox: Sandbox) -> None:
    """A user compares the two to check a new set-up (ours)."""
    account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
    (stated,) = re.findall(r'and the answer is: "(.+?)"', README)

    async with Client(build_server(Settings.read({**os.environ, **account}))) as client:
        answer = (await client.call_tool("list_jobs", {})).structured_content or {}

    assert answer["message"] == stated


@pytest.mark.parametrize(
    ("system", "stated"),
    [
        ("linux", "~/.local/share/wan-mcp"),
        ("darwin", "~/Library/Application Support/wan-mcp"),
    ],
)
def test_data_folder_is_where_the_readme_says(
    system: str, stated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who looks for the ledger or the videos finds them (ours)."""
    monkeypatch.setattr(sys, "platform", system)
    home = Path(os.sep, "home", "me")

    assert stated in CODE
    assert data_places({"HOME": str(home)}).usual == home / stated.removeprefix("~/")


def test_options_are_those_that_help_lists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option of every command is named, and no other (ours)."""

    def help_of(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["wan-mcp", *words, "--help"])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    general = help_of()
    names = re.findall(r"^    (\w+) +\w", general, re.MULTILINE)

    def actions_of(*words: str) -> Iterator[tuple[str, ...]]:
        for name in re.findall(r"^    ([a-z-]+)(?=\s{2,}|$)", help_of(*words), re.M):
            yield (*words, name)
            yield from actions_of(*words, name)

    offered = general + "".join(help_of(*words) for words in [*zip(names), *actions_of("admin")])

    ours = " ".join(line for line in [*COMMANDS, *CODE] if line.startswith(("wan-mcp", "--")))
    option = r"(?<![\w-])--[a-z][a-z-]*"
    assert {"http", "sandbox", "demo", "setup"} <= set(names)
    assert set(re.findall(option, ours)) == set(re.findall(option, offered))


def words_in(schema: object) -> Iterator[str]:
    """The names and the fixed values in a schema, at any depth."""
    if isinstance(schema, list):
        for part in schema:
            yield from words_in(part)
    elif isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (value for value in schema.get("enum", ()) if isinstance(value, str))
        yield from words_in(list(schema.values()))


@proves('echo "https://wan.example.com/key/from-')
@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_redirect_address_that_an_operator_registers_is_the_one_that_counts() -> None:
    """Before there is a client that `wan-mcp check` could try (ours)."""
    command = the_command('echo "https://wan.example.com/key/from-')
    printed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    back = f"https://wan.example.com{BACK_PATH}{way_of('https://login.example.com')}"

    assert printed.stdout == f"{back}\n"


async def test_every_name_in_code_letters_exists() -> None:
    """A name that was changed in the code and not here misleads (ours)."""
    users = "\n".join(text for name, text in PAGES.items() if name not in ABOUT_THE_CODE)
    names = {
        word for code in in_backticks(users) for word in re.findall(r"[a-z]+(?:_[a-z]+)+", code)
    }
    async with Client(build_server(Settings.read({}))) as client:
        tools = (await client.list_tools()).tools
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}

    published = {tool.name for tool in tools} | prompts
    for tool in tools:
        published |= {*words_in(tool.input_schema), *words_in(tool.output_schema)}
    lines = [
        *JobLine.model_fields,
        *(row[0] for row in table("docs/tools.md", "When a call goes wrong")),
    ]
    examples = {path.stem for path in (ROOT / "docs").rglob("*.py")}
    sandboxed = re.findall(r"\w+", str(table("docs/sandbox.md", "Faults")))
    tables = [table("docs/operations.md", heading) for heading in ("Metrics", "Logs")]
    watched = re.findall(r"\w+", str(tables))
    assert names - published - {*lines, *sandboxed, *examples, *watched} == FOREIGN | FILES


def test_special_clips_are_those_of_the_sandbox() -> None:
    """These pages and the sandbox's own page send people to the same files (ours)."""
    assert set(re.findall(r"/media/[a-z.\d-]+", ALL_PAGES)) == set(SAMPLES)


def in_one_line(text: str) -> str:
    """A text without its line ends, to look for a sentence in it."""
    return " ".join(text.split())


def by_hand(host: Host) -> str:
    """What docs/hosts.md says about a host."""
    return section(DOCS["hosts.md"], host.title)


def section(page: str, heading: str) -> str:
    """What a page says below a heading, up to the next one."""
    rest = re.split(rf"^#+ {re.escape(heading)}$", page, flags=re.MULTILINE)[1]
    return re.split(r"^#+ ", rest, flags=re.MULTILINE)[0]


by_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)


@by_host
def test_entry_by_hand_is_the_one_that_setup_prints(host: Host) -> None:
    """Except for the path and the key, which stand for the user's own (ours)."""
    printed: list[str] = []
    terminal = Terminal(printed.append, lambda question: False, None)
    folders = Folders.read({}, Path(os.sep, "home", "you"))
    Setup(terminal, {"PIXELDOJO_API_KEY": "dummy"}, folders).print_entry(host)
    own = json.dumps(this_program().command)[1:-1]
    entry = printed[-1].replace(own, FULL_PATH).replace(MASK, "your-pixeldojo-key")

    texts = [text for language, text in blocks(by_hand(host)) if language not in SHELLS]
    assert [text.strip() for text in texts] == [entry.strip()]
    assert f"wan-mcp setup {host.id}" in commands(by_hand(host))
    assert host.restart in by_hand(host)


@by_host
def test_file_of_a_host_is_named_for_every_system(host: Host) -> None:
    """As setup finds it (ours)."""
    home = Path(os.sep, "home", "you")
    linux, macos, windows = (
        host.file(Folders.read({}, home, system)).relative_to(home).as_posix()
        for system in ("linux", "darwin", "win32")
    )
    files = {f"~/{linux}", f"~/{macos}"}
    moved = windows.replace("AppData/Roaming", "%APPDATA%").replace("/", "\\")
    files.add(moved if moved.startswith("%") else f"~/{windows}")

    assert {code for code in in_backticks(by_hand(host)) if code.startswith(("~", "%"))} == files


def test_readme_names_every_host_that_setup_knows() -> None:
    """A person looks for the name of their assistant (ours)."""
    rows = [cell for row in table("README.md", "Set up") for cell in row if cell]

    assert dict(zip(rows[::2], rows[1::2], strict=True)) == {host.title: host.id for host in HOSTS}


def test_example_configuration_is_the_one_of_the_page() -> None:
    """Two copies of one text become different over time (ours)."""
    (claude,) = (text for language, text in blocks(by_hand(HOSTS[0])) if language == "json")

    assert HOSTS[0].id == "claude-desktop"
    assert json.loads(EXAMPLE) == json.loads(claude)


def test_every_program_in_an_entry_has_a_full_path() -> None:
    """Assistants seldom have the folder of a virtual environment on their PATH (ours)."""
    texts = [text for language, text in blocks(ALL_PAGES) if language not in SHELLS]
    program = re.compile(r'^\s*"?(?:command|cmd)"? ?[:=] ?\[?\s*"?([^"\s]+)', re.MULTILINE)
    named = [path for text in [EXAMPLE, *texts] for path in program.findall(text)]

    assert len(named) > len(HOSTS)
    assert set(named) == {FULL_PATH}


def anchors(page: str) -> set[str]:
    """The places in a page that a link can name, as GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def in_project(path: Path) -> Path:
    """A file of this project; the package lies where it is installed, and need not be here."""
    parts = Path(os.path.normpath(path)).relative_to(ROOT).parts
    root = Path(wan_mcp.__file__).parents[1] if parts[0] == "wan_mcp" else ROOT
    return root.joinpath(*parts)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_links_within_the_project_lead_somewhere(name: str) -> None:
    """A broken link makes the project look abandoned (ours)."""
    wrong = []
    for link in links(PAGES[name]):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = in_project((ROOT / name).parent / target) if target else ROOT / name
        if not path.is_file() or (
            anchor and anchor not in anchors(path.read_text(encoding="utf-8"))
        ):
            wrong.append(link)

    assert not wrong


def test_readme_links_to_every_page() -> None:
    """A page without a link to it is never read (ours)."""
    assert [f"docs/{name}" for name in DOCS if f"docs/{name}" not in links(README)] == []


def test_readme_is_short() -> None:
    """People read a page of this length to its end (ours)."""
    assert len(README.split()) < MOST_WORDS


def test_badges_say_what_is_true() -> None:
    """Each shows a fact of pyproject.toml or of the SDK (ours)."""
    shown = dict(re.findall(r"img\.shields\.io/badge/(\w+)-(.+?)-\w+\)", README))
    python = PROJECT["project"]["requires-python"].removeprefix(">=")

    assert shown == {
        "python": f"{python}+",
        "license": PROJECT["project"]["license"],
        "MCP": shown["MCP"],
    }
    assert shown["MCP"].replace("--", "-") in MODERN_PROTOCOL_VERSIONS


def test_project_names_only_addresses_that_the_pages_name() -> None:
    """An address that nobody checked may belong to a stranger (ours)."""
    urls = PROJECT["project"]["urls"].values()

    assert urls
    assert [url for url in urls if url not in links(README)] == []


def test_changelog_begins_with_the_version_of_the_project() -> None:
    """Nobody finds what is new below another heading (ours)."""
    newest, *_ = re.findall(r"^## (\S+?),? ", DOCS["changelog.md"], re.MULTILINE)

    assert newest == PROJECT["project"]["version"]


def test_image_shows_tools_that_exist() -> None:
    """An image makes a promise too (ours)."""
    (image,) = re.findall(r"!\[.+?\]\((.+?\.svg)\)", DOCS["player.md"])
    root = ElementTree.parse(ROOT / "docs" / image).getroot()
    names = {node.text for node in root.iter() if node.get("class") == "code name"}

    assert root.tag.endswith("svg")
    assert names
    assert names <= {row[0] for row in table("docs/tools.md", "Tools")}


@pytest.mark.parametrize("image", re.findall(r"!\[.+?\]\((.+?\.png)\)", DOCS["player.md"]))
def test_screenshot_exists_and_loads_fast(image: str) -> None:
    """tests/surface/host/screenshots.py takes it again from the page itself (ours)."""
    content = (ROOT / "docs" / image).read_bytes()

    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000


@pytest.mark.parametrize("name", sorted(DOCS))
def test_files_and_settings_in_docs_exist(name: str) -> None:
    """A stale path sends the reader nowhere; the tests run beside the installed package (ours)."""
    code = in_backticks(DOCS[name])
    package = Path(wan_mcp.__file__).parent
    paths = {each for each in code if re.fullmatch(r"(wan_mcp|tests)/[\w./]+", each)}
    missing = {
        path
        for path in paths
        if not (package.parent if path.startswith("wan_mcp/") else ROOT).joinpath(path).exists()
    }
    settings = set(re.findall(r"\b(?:PIXELDOJO|WAN_MCP)_[A-Z_]+", DOCS[name]))

    assert not missing
    assert settings <= {row[0] for row in table("docs/settings.md", "Settings")}


def developing_commands() -> list[str]:
    """Every command for developers, in a block or in a table."""
    found = {*COMMANDS, *CODE}
    return sorted(
        line
        for line in found
        if re.match(r"(?:[A-Z_]+=\S+ )?(?:python|bash) ", line)
        and not line.startswith(tuple(PROVEN))
    )


@pytest.mark.parametrize("command", developing_commands())
def test_command_for_developers_names_files_and_options_that_exist(command: str) -> None:
    """The full figures take minutes and a quiet machine, so only their names are tested (ours)."""
    words = [word for word in shlex.split(command) if "=" not in word]
    program, *words = words
    (module,) = re.findall(r"^-m (tests[\w.]+)", " ".join(words)) or [""]
    files = [module.replace(".", "/") + ".py"] if module else []
    files += [word for word in words if "/" in word]
    sources = "".join(
        (ROOT / file).read_text(encoding="utf-8") for file in files if file.endswith(".py")
    )
    options = [word for word in words if word.startswith("--")]

    assert program in {"bash", "python"}
    assert files or words[:2] == ["-m", "pytest"]
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert [option for option in options if f'"{option}"' not in sources] == []


def test_architecture_names_every_room() -> None:
    """As the docstring of the package does (ours)."""
    rooms = set(re.findall(r"^    (\w+) +\w", wan_mcp.__doc__ or "", re.MULTILINE))
    listed = re.findall(r"^\| `wan_mcp/(\w+)(?:\.py)?` \| ", DOCS["architecture.md"], re.MULTILINE)

    assert rooms
    assert set(listed) == rooms


def test_glossary_is_sorted_and_explains_each_term_once() -> None:
    """Thirty terms or more, each with one meaning (ours)."""
    rows = re.findall(r"^\| ([a-z][^|]*) \| ", DOCS["glossary.md"], re.MULTILINE)
    terms = [row for row in rows if row != "term"]

    assert len(terms) >= 30
    assert terms == sorted(set(terms))


def test_rules_about_money_are_numbered_from_1_to_12() -> None:
    """Docstrings refer to these numbers (ours)."""
    numbers = re.findall(r"^(\d+)\. \*\*", DOCS["promises.md"], re.MULTILINE)

    assert numbers == [str(number) for number in range(1, 13)]
