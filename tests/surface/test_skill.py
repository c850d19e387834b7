"""The skill: what it says is true of this program, and hosts get it in three ways from one file."""

import io
import json
import re
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import anyio.to_thread
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import Request, RequestParams, Result, TextResourceContents
from pydantic import ConfigDict
from ruamel.yaml import YAML

from tests.portable_schema import portable_schema
from wan_mcp.__main__ import main
from wan_mcp.models import JobLine, JobStatus, Resolution
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.surface.answers.several import WaitResult
from wan_mcp.surface.arguments import ListJobs, ReplaceCharacter, WaitForJob, read_arguments
from wan_mcp.surface.skills import NAME, SKILLS, URI, read_skill

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
TEXT = read_skill().text
CODE = set(re.findall(r"`([^`\n]+)`", TEXT))
FORMS = {code for code in CODE if code.startswith(("wan:", "#"))}
"""Inputs, and what may stand at their end."""
ARGUMENTS = {
    name for model in (ReplaceCharacter, WaitForJob, ListJobs) for name in model.model_fields
}
PARAMETERS = portable_schema(ReplaceCharacter)["properties"]
MOST_BYTES_BEFORE_USE = 1_000
MOST_CHARACTERS = {"name": 64, "description": 1_024}
"""Longer ones are refused (documented: Agent Skills specification)."""


class Answer(Result):
    """Whatever the extension answers."""

    model_config = ConfigDict(extra="allow")


class Params(RequestParams):
    """Whatever the extension takes."""

    model_config = ConfigDict(extra="allow")


class Ask(Request[Params, str]):
    """A request of the extension."""


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client(build_server(Settings())) as client:
        yield client


async def ask(client: Client, method: str, **params: Any) -> dict[str, Any]:
    """The answer to a request of the extension, as it is on the wire."""
    request = Ask(method=method, params=Params.model_validate(params))
    answer = await client.session.send_request(request, Answer)
    return answer.model_dump(by_alias=True, exclude_none=True, mode="json")


def frontmatter() -> dict[str, Any]:
    """The front matter of the file, as a parser of YAML reads it."""
    return dict(YAML(typ="safe", pure=True).load(TEXT.split("---\n")[1]))


def test_little_is_in_each_conversation_until_the_skill_is_used() -> None:
    """Name, description and address are all that a host shows a model before (documented)."""
    shown = json.dumps({**frontmatter(), "uri": URI})

    assert len(shown.encode()) < MOST_BYTES_BEFORE_USE
    assert {key: len(value) <= MOST_CHARACTERS[key] for key, value in frontmatter().items()} == {
        "name": True,
        "description": True,
    }
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", NAME)


async def test_every_name_in_the_skill_is_one_of_this_program(client: Client) -> None:
    """A tool or a field that does not exist sends a model into an error (ours)."""
    tools = {tool.name for tool in (await client.list_tools()).tools}
    fields = {*WaitResult.model_fields, *JobLine.model_fields}

    assert not tools - CODE
    assert not CODE - tools - ARGUMENTS - fields - FORMS


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_form_of_an_input_in_the_skill_is_accepted(form: str) -> None:
    """A model copies what it reads (ours)."""
    video = form if form.startswith("wan:") else f"wan://jobs/{{job_id}}/video{form}"
    given = {"video": video.format(job_id="job_7f3a"), "character_image": "https://a.example/i.png"}

    assert read_arguments(ReplaceCharacter, given, loopback=False)


def test_skill_says_what_to_do_with_each_status() -> None:
    """None is missing, and none is invented (ours)."""
    rows = re.findall(r"^\| (\w+) \| [^|]+ \| [^|]+ \|$", TEXT, re.MULTILINE)

    assert rows[0] == "status"
    assert sorted(rows[1:]) == sorted(JobStatus)


def test_limits_and_defaults_in_the_skill_are_those_of_the_tool() -> None:
    """A model that orders 20 seconds gets nothing (ours)."""
    seconds = PARAMETERS["video_duration"]
    flags = dict(re.findall(r"`(\w+)` [^`(]+\(default (\w+)\)", TEXT))
    (duration,) = re.findall(r"`video_duration`: seconds to make, ([^,]+), .*; (\d+) if left", TEXT)
    (lines,) = re.findall(r'`resolution`: "(\d+)" \(default\) or "(\d+)"', TEXT)

    assert duration == (f"{seconds['minimum']} to {seconds['maximum']}", str(seconds["default"]))
    assert lines == get_args(Resolution)
    assert lines[0] == PARAMETERS["resolution"]["default"]
    assert flags == {name: json.dumps(PARAMETERS[name]["default"]) for name in flags}
    assert set(flags) == {"merge_audio", "go_fast"}
    assert set(ReplaceCharacter.model_fields) <= CODE


async def test_host_that_reads_skills_finds_it_and_can_check_its_content(client: Client) -> None:
    """What is listed is what is read, byte by byte (documented: skills extension)."""
    listed = await ask(client, "skills/list")
    (content,) = (await client.read_resource(URI)).contents
    assert isinstance(content, TextResourceContents)
    (skill,) = listed["skills"]
    (file,) = skill["resources"]
    extensions = client.server_capabilities.extensions or {}

    assert extensions[SKILLS] == {}
    assert skill["frontmatter"] == frontmatter()
    assert skill["uri"] == file["uri"] == content.uri == f"skill://{NAME}/SKILL.md"
    assert file["digest"] == f"sha256:{sha256(content.text.encode()).hexdigest()}"
    assert file["size"] == len(content.text.encode())
    assert listed["resultType"] == "complete"
    assert {"ttlMs", "cacheScope"} <= set(listed)


async def test_entry_of_one_skill_is_the_one_of_the_list(client: Client) -> None:
    """A host may know only its address (documented: skills extension)."""
    listed = await ask(client, "skills/list")
    one = await ask(client, "skills/get", uri=URI)

    assert one["skill"] == listed["skills"][0]
    assert {"resultType", "ttlMs", "cacheScope"} <= set(one)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("skills/get", {"uri": "skill://another/SKILL.md"}),
        ("skills/get", {}),
        ("skills/list", {"cursor": "page 2"}),
    ],
)
async def test_another_skill_or_page_is_refused_as_wrong_parameters(
    method: str, params: dict[str, str], client: Client
) -> None:
    """With the code of the specification (documented: skills extension)."""
    with pytest.raises(MCPError) as refused:
        await ask(client, method, **params)

    assert refused.value.error.code == -32602


async def test_resource_list_shows_the_skill_to_every_other_host(client: Client) -> None:
    """With the name and description of its front matter (documented: skills extension)."""
    (listed,) = [each for each in (await client.list_resources()).resources if each.uri == URI]

    assert {"name": listed.name, "description": listed.description} == frontmatter()
    assert listed.mime_type == "text/markdown"


def test_claude_code_plugin_is_this_version_with_this_skill() -> None:
    """The plugin is the project's folder, so it has the same file (documented)."""
    plugin = json.loads((ROOT / ".claude-plugin/plugin.json").read_text("utf-8"))
    market = json.loads((ROOT / ".claude-plugin/marketplace.json").read_text("utf-8"))
    (offered,) = market["plugins"]
    (folder,) = plugin["skills"]

    assert folder == "./wan_mcp/surface/skills/"
    assert (offered["name"], offered["source"]) == (plugin["name"], "./")
    assert f'version = "{plugin["version"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")


async def printed(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """What a command writes to stdout and to stderr."""
    monkeypatch.setattr(sys, "argv", words.split())
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert await anyio.to_thread.run_sync(main) == 0
    return capsys.readouterr()


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("", f"FOLDER/{NAME}/SKILL.md"),
        ("codex", f"~/.agents/skills/{NAME}/SKILL.md"),
        ("claude-code", f"~/.claude/skills/{NAME}/SKILL.md"),
        ("zed", f"FOLDER/{NAME}/SKILL.md"),
    ],
)
async def test_setup_prints_the_file_and_says_where_it_belongs(
    host: str,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only the file is on stdout, so that it can be sent into one (ours)."""
    out, err = await printed(f"wan-mcp setup {host} --skill", monkeypatch, capsys)

    assert out == TEXT
    assert place in err


async def test_rule_for_cursor_is_loaded_only_when_its_description_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule without globs that is not always applied (documented)."""
    out, err = await printed("wan-mcp setup cursor --skill", monkeypatch, capsys)
    _, head, body = out.split("---\n", 2)

    assert YAML(typ="safe", pure=True).load(head) == {
        "description": frontmatter()["description"],
        "alwaysApply": False,
    }
    assert TEXT.endswith(body.strip() + "\n")
    assert f".cursor/rules/{NAME}.mdc" in err
