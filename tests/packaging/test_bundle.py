"""The bundle `wan-mcp.mcpb`: hosts accept it, and it starts from the folder it is unpacked to."""

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
import pytest
from packaging.requirements import Requirement

from tests.bench.bench import HELLO
from tests.packaging.bundle import ENTRY_POINT, MANIFEST_VERSION, PROJECT, ROOT, list_tools, pack
from wan_mcp.settings import Settings

SCHEMA = Path(__file__).with_name("schemas") / f"mcpb-manifest-v{MANIFEST_VERSION}.json.gz"
WHEEL = f"wan_mcp-{PROJECT['version']}-py3-none-any.whl"
PINNED = (ROOT / ".ci" / "constraints.txt").read_text("utf-8")
LIMIT_SECONDS = 600
"""Ends a server that hangs; no machine is that slow."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle whose wheel is a stand-in."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / WHEEL).write_bytes(b"a wheel")
    pack(folder / WHEEL, folder / "wan-mcp.mcpb")
    with ZipFile(folder / "wan-mcp.mcpb") as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture
def manifest(unpacked: Path) -> dict[str, Any]:
    """What hosts read first."""
    return dict(json.loads((unpacked / "manifest.json").read_text("utf-8")))


@pytest.fixture
def project(unpacked: Path) -> dict[str, Any]:
    """What uv reads."""
    return tomllib.loads((unpacked / "pyproject.toml").read_text("utf-8"))


def test_manifest_is_valid_by_the_published_schema(manifest: dict[str, Any]) -> None:
    """Hosts refuse another one (documented)."""
    jsonschema.validate(manifest, json.loads(gzip.decompress(SCHEMA.read_bytes())))

    assert manifest["version"] == PROJECT["version"]


@pytest.mark.anyio
async def test_manifest_names_the_tools_that_the_server_has(manifest: dict[str, Any]) -> None:
    """A host shows them before it installs the bundle (documented)."""
    tools = await list_tools()

    assert [tool["name"] for tool in manifest["tools"]] == [tool.name for tool in tools]


def test_host_asks_for_the_key_as_a_secret_and_gives_it_only_in_the_environment(
    manifest: dict[str, Any],
) -> None:
    """Other processes can read the arguments of a command (documented)."""
    config = manifest["server"]["mcp_config"]
    given = dict(re.findall(r"(\w+)=\$\{user_config\.(\w+)\}", _lines(config["env"])))
    settings = {field.alias for field in Settings.model_fields.values()}

    assert given["PIXELDOJO_API_KEY"] == "api_key"
    assert manifest["user_config"]["api_key"]["sensitive"] is True
    assert manifest["user_config"]["api_key"]["required"] is True
    assert set(given.values()) == set(manifest["user_config"])
    assert set(given) <= settings
    assert "user_config" not in " ".join(config["args"])


def test_settings_accept_what_a_host_gives_when_nothing_was_changed(
    manifest: dict[str, Any],
) -> None:
    """Then the program starts (ours)."""
    asked = manifest["user_config"]
    values = {name: str(each.get("default", "dummy-key")) for name, each in asked.items()}
    environment = {
        name: re.sub(r"\$\{user_config\.(\w+)\}", lambda found: values[found[1]], value)
        for name, value in manifest["server"]["mcp_config"]["env"].items()
    }

    assert Settings.read(environment).max_credits_per_day == Settings().max_credits_per_day


def test_uv_installs_the_wheel_in_the_bundle_and_tested_releases(
    unpacked: Path, project: dict[str, Any]
) -> None:
    """Nothing else of the machine is needed, and nothing newer than what was tested (ours)."""
    tool = project["tool"]["uv"]
    (required,) = map(Requirement, project["project"]["dependencies"])
    pins = [Requirement(pin) for pin in tool["constraint-dependencies"]]

    assert required.name == PROJECT["name"]
    assert (unpacked / tool["sources"][required.name]["path"]).read_bytes() == b"a wheel"
    assert [f"{pin.name}{pin.specifier}" for pin in pins] == re.findall(
        r"^[\w.-]+==[^ ]+", PINNED, re.MULTILINE
    )
    assert {pin.name for pin in pins} >= {Requirement(each).name for each in _declared()}
    assert not tool["package"]


def test_same_files_give_the_same_bundle(tmp_path: Path, unpacked: Path) -> None:
    """Anybody can check a published bundle by building it again (ours)."""
    (tmp_path / WHEEL).write_bytes(b"a wheel")
    pack(tmp_path / WHEEL, tmp_path / "again.mcpb")

    first = unpacked.parent / "wan-mcp.mcpb"
    assert (tmp_path / "again.mcpb").read_bytes() == first.read_bytes()


def test_entry_point_of_an_unpacked_bundle_is_the_server(
    unpacked: Path, manifest: dict[str, Any], tmp_path: Path
) -> None:
    """Here with this Python; test_installers.py does it with uv (ours)."""
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}

    ended = subprocess.run(
        [sys.executable, unpacked / manifest["server"]["entry_point"]],
        input=json.dumps(hello) + "\n",
        cwd=tmp_path,
        env={**os.environ, "PIXELDOJO_API_KEY": "dummy-key"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )

    answer = json.loads(ended.stdout)
    assert manifest["server"]["entry_point"] == ENTRY_POINT
    assert manifest["server"]["mcp_config"]["args"][-1] == ENTRY_POINT
    assert answer["result"]["serverInfo"]["name"] == "wan-mcp"
    assert ended.returncode == 0


def _declared() -> list[str]:
    return [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["media"]]


def _lines(environment: dict[str, str]) -> str:
    return "\n".join(f"{name}={value}" for name, value in environment.items())
