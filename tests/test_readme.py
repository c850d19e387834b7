"""The README and the example configuration: every command works, every name exists and is there."""

import base64
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
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import anyio
import anyio.to_thread
import httpx
import pytest
from mcp.client import Client

from wan_mcp import errors
from wan_mcp.__main__ import main
from wan_mcp.arguments import Arguments, GetJobStatus, ListJobs, ReplaceCharacter, WaitForJob
from wan_mcp.media.preflight import UnusableInput
from wan_mcp.models import JobLine, JobResult, JobStatus
from wan_mcp.sandbox import Sandbox
from wan_mcp.sandbox.films import SAMPLES
from wan_mcp.schema import portable
from wan_mcp.server import build_server
from wan_mcp.settings import ENV_FILE, Settings

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "claude_desktop_config.example.json").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
CODE = set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", README, flags=re.S | re.M)))
LINKS = re.findall(r"\]\(([^)]+)\)", README)

FOREIGN = {"client_session_timeout_seconds", "tool_timeout_sec"}
"""Names in the README that are knobs of other programs."""
PROMPTS = {"replace_a_character"}
FILES = {"claude_desktop_config", "wan_mcp"}

PROVEN: list[str] = []

MODEL = "wan-2.2-replace"

F = TypeVar("F", bound=Callable[..., object])


def proves(*commands: str) -> Callable[[F], F]:
    """Marks the test that runs the README's commands that begin so, or shows that they would."""
    PROVEN.extend(commands)
    return lambda test: test


def the_command(begin: str) -> str:
    """The README's one command that begins so."""
    (found,) = (line for line in COMMANDS if line.startswith(begin))
    return str(found)


def table(heading: str, number: int = 0) -> list[list[str]]:
    """The rows below a heading, as cells without their backticks."""
    section = re.split(rf"^#+ {re.escape(heading)}$", README, flags=re.MULTILINE)[1]
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
    """A command line of the README, as the command that was installed with the package."""
    program, *words = shlex.split(command)
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
    """A command that nobody tries is wrong sooner or later (ours)."""
    assert [line for line in COMMANDS if not line.startswith(tuple(PROVEN))] == []
    assert [begin for begin in PROVEN if not any(line.startswith(begin) for line in COMMANDS)] == []


@proves("python -m pip install . &&")
def test_first_command_installs_the_project_and_ends_with_a_film(tmp_path: Path) -> None:
    """The first thing a new user does (ours)."""
    install, demo = the_command("python -m pip install . &&").split(" && ")

    ended = subprocess.run(
        [*installed(demo), "--job-seconds", "0"], capture_output=True, timeout=30, check=False
    )

    (film,) = tmp_path.glob("*.mp4")
    assert install == "python -m pip install ."
    assert PROJECT["project"]["scripts"] == {"wan-mcp": "wan_mcp.__main__:main"}
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert film.read_bytes()[4:8] == b"ftyp"


@proves('python -m pip install ".[media]"', "wan-mcp demo --video")
def test_media_extra_lets_the_demo_cut_a_clip_of_ones_own(tmp_path: Path) -> None:
    """Whoever has no link at hand still sees it work on their own files (ours)."""
    words = the_command("wan-mcp demo --video").split()
    for name, sample in (("clip.mp4", "clip.mp4"), ("dancer.png", "character.png")):
        content = (resources.files("wan_mcp.sandbox") / "media" / sample).read_bytes()
        (tmp_path / name).write_bytes(content)

    ended = subprocess.run(
        [*installed(" ".join(words)), "--job-seconds", "0"],
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert list(PROJECT["project"]["optional-dependencies"]) == ["media"]
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(list(tmp_path.glob("wan-mcp-job_*.mp4"))) == 1


@proves("python -m pip install pytest")
def test_test_command_is_the_one_that_ci_runs() -> None:
    """CI runs it in an empty environment, so that it is enough (ours)."""
    install, test = the_command("python -m pip install pytest").split(" && ")
    development = {re.split(r"\W", need)[0] for need in PROJECT["dependency-groups"]["dev"]}
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")

    assert set(install.split()[4:]) <= development
    assert test == "python -m pytest"
    assert f"'{install} && {test}'" in ci
    assert f"'{the_command('python -m pip install . &&')}'" in ci


@proves("export PIXELDOJO_API_KEY", "wan-mcp demo --live")
async def test_live_command_asks_and_spends_nothing_unasked(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run as it stands, up to its question (ours)."""
    name = the_command("export ").removeprefix("export ").partition("=")[0]
    monkeypatch.setenv(name, sandbox.key)
    monkeypatch.setenv("PIXELDOJO_API_BASE", sandbox.api_base)
    monkeypatch.setattr(sys, "argv", shlex.split(the_command("wan-mcp demo --live")))
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))

    code = await anyio.to_thread.run_sync(main)

    assert "[y/N]" in capsys.readouterr().out
    assert (code, sandbox.charges) == (1, [])


@proves("claude mcp add")
def test_commands_of_other_assistants_name_ours_and_the_key() -> None:
    """Their own options are as their --help has them: Claude Code 2.1, Gemini CLI (observed)."""
    claude = shlex.split(the_command("claude mcp add"))
    (gemini,) = [shlex.split(code) for code in CODE if code.startswith("gemini mcp add")]

    assert claude[-2:] == ["--", "wan-mcp"]
    assert gemini[-2:] == ["wan-mcp", "wan-mcp"]
    for words in (claude, gemini):
        assert words[words.index("--env") + 1].startswith("PIXELDOJO_API_KEY=")


@proves("wan-mcp sandbox", "curl http://127.0.0.1:8788/sandbox/faults")
def test_sandbox_command_loses_an_answer_when_told_to() -> None:
    """The README's own example of a fault, sent to the README's own command (ours)."""
    curl = shlex.split(the_command("curl "))
    path, fault = urlsplit(curl[1]).path, curl[curl.index("-d") + 1]
    name, value = curl[curl.index("-H") + 1].split(": ")
    wish = {"video": "https://a.example/v", "character_image": "https://a.example/i"}

    with listening(the_command("wan-mcp sandbox"), "PIXELDOJO_API_KEY=") as lines:
        api, key = (line.partition("=")[2] for line in lines[-2:])
        origin = api.removesuffix("/api/v1")
        with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {key}"}) as client:
            told = client.post(origin + path, content=fault, headers={name: value})
            with pytest.raises(httpx.RemoteProtocolError):
                client.post(f"{api}/models/{MODEL}/run", json={**wish, "video_duration": 5})
            state = client.get(f"{origin}/sandbox/state").json()

    assert told.is_success
    assert len(state["charges"]) == 1


@proves("wan-mcp http")
async def test_http_command_serves_the_tools_and_its_health() -> None:
    """Started as it stands, but on a free port (ours)."""
    with listening(the_command("wan-mcp http"), "http://") as (url,):
        async with Client(url) as client:
            tools = (await client.list_tools()).tools
        async with httpx.AsyncClient(trust_env=False) as plain:
            health = await plain.get(url.removesuffix("/mcp") + "/healthz")

    assert re.sub(r":\d+/", ":8765/", url) in CODE
    assert len(tools) == len(table("Tools"))
    assert health.is_success


@proves("python -m pip install --editable", "bash .ci/run checks", "bash .ci/run")
def test_development_commands_exist() -> None:
    """CI is these commands (ours)."""
    *_, group = shlex.split(the_command("python -m pip install --editable"))

    assert group in PROJECT["dependency-groups"]
    assert os.access(ROOT / ".ci/run", os.R_OK)
    assert "all_checks()" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def published(model: type[Arguments]) -> dict[str, Any]:
    """The parameters of a tool as assistants see them."""
    return dict(portable(model)["properties"])


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
        assert default in {"required", "PixelDojo's", "random", "all"}


async def test_tools_table_names_the_tools_there_are() -> None:
    """And which of them spends, as their hints have it (ours)."""
    async with Client(build_server(Settings.read({}))) as client:
        tools = (await client.list_tools()).tools

    spends = {
        tool.name: not (tool.annotations and tool.annotations.read_only_hint) for tool in tools
    }
    assert {name: costs != "nothing" for name, _, costs in table("Tools")} == spends


@pytest.mark.parametrize(
    ("number", "model", "shared"),
    [(1, ReplaceCharacter, set()), (2, WaitForJob, {"job_id"}), (3, ListJobs, set())],
)
def test_parameter_tables_say_what_the_schemas_say(
    number: int, model: type[Arguments], shared: set[str]
) -> None:
    """Names, ranges and defaults, none missing and none made up (ours)."""
    rows = {row[0]: row for row in table("Tools", number)}
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
    """A word that nobody explains is a riddle (ours)."""
    named = [name for fields, _ in table("Answers") for name in fields.split(", ")]

    assert sorted(named) == sorted(JobResult.model_fields)
    assert [status for status, _, _ in table("Answers", 1)] == list(JobStatus)
    assert set(JobLine.model_fields) <= CODE


def failures(kind: type[errors.WanError] = errors.WanError) -> Iterator[type[errors.WanError]]:
    """Every error that has a code."""
    for child in kind.__subclasses__():
        if hasattr(child, "code"):
            yield child
        yield from failures(child)


def test_error_table_says_of_each_code_what_the_code_says() -> None:
    """Charged or not, and safe to repeat or not, are money (ours)."""
    told = {code: (charged, safe) for code, charged, safe, _ in table("When a call goes wrong")}
    known = {kind.code: (kind.charged, "yes" if kind.retry_safe else "no") for kind in failures()}
    known[UnusableInput.code] = (UnusableInput.charged, "no")  # its room is opened when needed
    del known["fenced"]  # never leaves the jobs: each way to it ends there

    assert told == {**known, "internal_error": ("unknown", "no")}


async def test_defect_is_told_as_the_error_table_says(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one code that is no class: unknown for the paid tool, no for the free ones (ours)."""
    account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
    server = build_server(Settings.read({**os.environ, **account}))
    given = {"video": sandbox.clip_url, "character_image": sandbox.image_url}

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wan_mcp.jobs.service.Jobs", broken)
    async with Client(server) as client:
        paid = (await client.call_tool("replace_character", given)).structured_content or {}
        free = (await client.call_tool("wait_for_job", {"job_id": "a"})).structured_content or {}

    names = ("code", "charged", "retry_safe")
    assert [paid[name] for name in names] == ["internal_error", "unknown", False]
    assert [free[name] for name in names] == ["internal_error", "no", True]


def test_settings_table_names_every_setting_with_its_default() -> None:
    """A setting that is not written down does not exist for its user (ours)."""
    defaults = {
        str(field.alias): "none" if field.default is None else str(field.default)
        for field in Settings.model_fields.values()
    }

    told = {name: default for name, default, _ in table("Settings")}

    assert told == {**defaults, "PIXELDOJO_API_KEY": "none", ENV_FILE: "none"}
    assert set(re.findall(r"\b(?:PIXELDOJO|WAN_MCP)_[A-Z_]+", README)) == set(told)


def test_options_are_those_that_help_lists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option of each command, and no other (ours)."""
    for words in (["--help"], ["http", "--help"], ["sandbox", "--help"], ["demo", "--help"]):
        monkeypatch.setattr(sys, "argv", ["wan-mcp", *words])
        with pytest.raises(SystemExit):
            main()

    ours = " ".join(line for line in [*COMMANDS, *CODE] if line.startswith(("wan-mcp", "--")))
    option = r"(?<![\w-])--[a-z][a-z-]*"
    assert set(re.findall(option, ours)) == set(re.findall(option, capsys.readouterr().out))


def test_every_name_in_code_letters_exists() -> None:
    """A name that was changed in the code and not here misleads (ours)."""
    names = {word for code in CODE for word in re.findall(r"[a-z]+(?:_[a-z]+)+", code)}
    tools = {row[0] for row in table("Tools")}
    parameters = {*published(ReplaceCharacter), *published(WaitForJob), *JobLine.model_fields}
    codes = {row[0] for row in table("When a call goes wrong")}

    known = {*tools, *parameters, *codes, *JobResult.model_fields, *PROMPTS}
    assert names - known == FOREIGN | FILES


def test_special_clips_are_those_of_the_sandbox() -> None:
    """The README and the sandbox's own page send people to the same files (ours)."""
    assert set(re.findall(r"/media/[a-z.\d-]+", README)) == set(SAMPLES)


def test_blocks_of_configuration_can_be_read() -> None:
    """They are made to be pasted (ours)."""
    (script,) = entry_points(group="console_scripts", name="wan-mcp")
    kinds = [kind for kind, _ in BLOCKS if kind != "sh"]
    claude, vscode = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    (codex,) = (tomllib.loads(text) for kind, text in BLOCKS if kind == "toml")
    (opencode,) = (json.loads(code)["mcp"] for code in CODE if code.startswith('{"mcp"'))

    key = {"PIXELDOJO_API_KEY": "your-pixeldojo-key"}
    assert sorted(kinds) == ["json", "json", "toml"]
    assert claude == {"mcpServers": {script.name: {"command": script.name, "env": key}}}
    assert codex == {
        "mcp_servers": {script.name: {"command": script.name, "required": True, "env": key}}
    }
    assert opencode == {
        script.name: {"type": "local", "command": [script.name], "environment": key}
    }
    assert vscode["servers"][script.name]["command"] == script.name
    assert vscode["servers"][script.name]["env"] == {
        "PIXELDOJO_API_KEY": f"${{input:{vscode['inputs'][0]['id']}}}"
    }


def test_example_configuration_is_the_one_of_the_readme() -> None:
    """Two copies of one thing drift apart (ours)."""
    (first, _) = (text for kind, text in BLOCKS if kind == "json")

    assert json.loads(EXAMPLE) == json.loads(first)


def test_install_links_hold_what_the_blocks_say() -> None:
    """Cursor wants base64 of the entry, VS Code percent-encoded JSON (observed elsewhere)."""
    (cursor,) = [link for link in LINKS if "cursor" in link]
    (vscode,) = [link for link in LINKS if "vscode" in link]
    claude, block = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    query = parse_qs(urlsplit(cursor).query)
    (deep,) = parse_qs(urlsplit(vscode).query)["url"]

    assert query["name"] == ["wan-mcp"]
    assert json.loads(base64.b64decode(query["config"][0])) == claude["mcpServers"]["wan-mcp"]
    start, _, told = deep.partition("?")
    assert start == "vscode:mcp/install"
    assert json.loads(unquote(told)) == {
        "name": "wan-mcp",
        **block["servers"]["wan-mcp"],
        "inputs": block["inputs"],
    }


def test_links_within_the_project_lead_somewhere() -> None:
    """A dead link on the front page looks like a dead project (ours)."""
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    places = {"#" + heading.lower().replace(" ", "-") for heading in headings}
    local = [link for link in LINKS if not link.startswith("https://")]

    assert local
    assert [link for link in local if link not in places and not (ROOT / link).is_file()] == []


def test_picture_shows_tools_that_exist() -> None:
    """A picture is a promise too (ours)."""
    (picture,) = re.findall(r"!\[.+?\]\((.+?\.svg)\)", README)
    root = ElementTree.parse(ROOT / picture).getroot()
    names = {node.text for node in root.iter() if node.get("class") == "code name"}

    assert root.tag.endswith("svg")
    assert names
    assert names <= {row[0] for row in table("Tools")}


@pytest.mark.parametrize("picture", re.findall(r"!\[.+?\]\((.+?\.png)\)", README))
def test_screenshot_is_there_and_loads_fast(picture: str) -> None:
    """Retaken by tests/host/pictures.py from the page itself (ours)."""
    content = (ROOT / picture).read_bytes()

    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000
