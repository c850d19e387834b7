"""What a release publishes: its files agree with each other and with the rules of the registry."""

import json
import os
import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.packaging.bundle import PROJECT, ROOT
from wan_mcp.settings import Settings

SERVER: dict[str, Any] = json.loads((ROOT / "docs/packaging/server.json").read_text("utf-8"))
WORKFLOW = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
PAGE = (ROOT / "docs/packages.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
TAG = os.environ.get("RELEASE_TAG")
OWNER = os.environ.get("RELEASE_OWNER", "OWNER")
"""The account under which the project is published; there is none yet."""
MCP_NAME = f"<!-- mcp-name: {SERVER['name']} -->"
"""By this line the registry knows that package and server belong together (documented)."""


def test_registry_accepts_the_names_and_texts_of_the_server() -> None:
    """The limits are those of its schema 2025-12-11 (documented)."""
    assert SERVER["$schema"].endswith("/2025-12-11/server.schema.json")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", SERVER["name"])
    assert 3 <= len(SERVER["name"]) <= 200
    assert 1 <= len(SERVER["title"]) <= 100
    assert 1 <= len(SERVER["description"]) <= 100
    assert set(SERVER) == {"$schema", "name", "title", "description", "version", "packages"}


def test_registry_entry_names_this_package_and_this_version() -> None:
    """The registry looks for exactly this release on the index (documented)."""
    (package,) = SERVER["packages"]

    assert (package["registryType"], package["transport"]) == ("pypi", {"type": "stdio"})
    assert (package["registryBaseUrl"], package["runtimeHint"]) == ("https://pypi.org", "uvx")
    assert package["identifier"] == PROJECT["name"]
    assert {SERVER["version"], package["version"]} == {PROJECT["version"]}


def test_registry_entry_asks_for_the_key_as_a_secret() -> None:
    """Each variable is a setting of this program, with its default (ours)."""
    variables = {each["name"]: each for each in SERVER["packages"][0]["environmentVariables"]}
    fields = {field.alias: field for field in Settings.model_fields.values()}

    assert variables["PIXELDOJO_API_KEY"]["isSecret"] is True
    assert variables["PIXELDOJO_API_KEY"]["isRequired"] is True
    assert set(variables) <= set(fields)
    for name, each in variables.items():
        if "default" in each:
            assert float(each["default"]) == fields[name].default


def test_name_for_the_registry_is_one_and_the_same_everywhere() -> None:
    """Another one in the README of the package makes the registry refuse it (documented)."""
    named = re.findall(r"mcp-name: *(\S+)", README + PAGE)

    assert SERVER["name"] == f"io.github.{OWNER}/{PROJECT['name']}"
    assert set(named) == {SERVER["name"]}
    assert MCP_NAME in PAGE


@pytest.mark.skipif(TAG is None, reason="only in a release")
def test_release_is_complete() -> None:
    """The tag is the version, and the package shows the registry its name (documented)."""
    assert f"v{PROJECT['version']}" == TAG
    assert MCP_NAME in README


def test_release_workflow_says_that_it_has_never_run() -> None:
    """Nobody should trust it before they have seen it work (ours)."""
    assert WORKFLOW.startswith("# Never run yet")
    assert "has never run" in PAGE


def test_release_workflow_uses_only_actions_of_known_content() -> None:
    """A tag of an action can be moved to other code (documented)."""
    used = re.findall(r"uses: (\S+)", WORKFLOW)

    assert used
    assert not [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)]


def test_release_workflow_publishes_only_what_was_tested_and_attested() -> None:
    """One job after the other, and a stored token nowhere (ours)."""
    jobs = YAML(typ="safe", pure=True).load(WORKFLOW)["jobs"]
    needs = [(name, *job.get("needs", [])) for name, job in jobs.items()]

    assert needs == [("build",), ("attest", "build"), ("publish", "attest"), ("draft", "publish")]
    assert "tests/packaging/test_release.py" in WORKFLOW
    assert "secrets." not in WORKFLOW
