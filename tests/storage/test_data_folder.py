"""Where the data lie: decided by the home folder, never by what a host or a sandbox sets."""

import os
from pathlib import Path

import pytest
from mcp.client import Client

from wan_mcp.sandbox import Sandbox
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.storage.data_folder import data_places, expanded, home_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows itself names the folder")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"XDG_DATA_HOME": "/home/me/elsewhere"},
        {"XDG_DATA_HOME": "relative"},
        {"SNAP_REAL_HOME": "/home/me", "HOME": "/home/me/snap/editor/7"},
        {"SNAP_REAL_HOME": "relative"},
    ],
)
def test_every_environment_of_one_user_gives_one_place(changed: dict[str, str]) -> None:
    """Hosts and sandboxes change these variables; a second ledger would pay twice (observed)."""
    places = data_places({"HOME": "/home/me", **changed})

    assert places.usual == data_places({"HOME": "/home/me"}).usual


@pytest.mark.parametrize("home", [None, "", "relative", "~"])
def test_home_that_is_no_full_path_gives_way_to_the_system(
    home: str | None, tmp_path: Path
) -> None:
    """It would be another ledger in every working folder (ours)."""
    assert home_folder({} if home is None else {"HOME": home}) == tmp_path / "home"


def test_user_whom_the_system_does_not_know_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a made-up user number (observed elsewhere)."""
    monkeypatch.undo()  # the lookup that the tests replace

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)

    assert data_places({}).usual is None
    assert data_places({"XDG_DATA_HOME": "/srv/data"}).old == (Path("/srv/data/wan-mcp"),)


def test_places_of_earlier_versions_are_known(tmp_path: Path) -> None:
    """Each is where XDG_DATA_HOME led, in this environment or in that of a sandbox (observed)."""
    sandboxed = [
        tmp_path / "snap/editor/7/.local/share",
        tmp_path / "snap/editor/common/.local/share",
        tmp_path / ".var/app/org.example.Chat/data",
    ]
    for folder in sandboxed:
        folder.mkdir(parents=True)
    (tmp_path / "snap/editor/current").symlink_to("7")
    given = {"HOME": str(tmp_path), "XDG_DATA_HOME": "/srv/data"}

    old = [place.resolve() for place in data_places(given).old]

    assert sorted(old) == sorted(
        [Path("/srv/data/wan-mcp"), *(folder / "wan-mcp" for folder in sandboxed)]
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [("~", "/home/me"), ("~/films", "/home/me/films"), ("/srv", "/srv"), ("films", "films")],
)
def test_tilde_means_the_same_home_as_everywhere(written: str, meant: str) -> None:
    """In a snap, the shell's rule would give another folder (ours)."""
    assert expanded(written, Path("/home/me")) == Path(meant)


@pytest.mark.anyio
async def test_server_without_a_home_folder_does_all_that_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only payments need the ledger, and one sentence says what to set (ours)."""
    monkeypatch.setattr("wan_mcp.storage.data_folder._home_of_account", lambda: None)
    monkeypatch.chdir(tmp_path)
    async with Sandbox() as sandbox:
        given = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
        wish = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
        async with Client(build_server(Settings.read(given), local=True)) as client:
            paid = (await client.call_tool("replace_character", wish)).structured_content or {}
            status = {"job_id": "job_of_another_server"}
            free = (await client.call_tool("get_job_status", status)).structured_content or {}
        charges = len(sandbox.charges)

    assert (paid["code"], paid["charged"], charges) == ("ledger_unavailable", "no", 0)
    assert "WAN_MCP_DATA_DIR" in str(paid)
    assert free["code"] == "not_found"
    assert os.listdir(tmp_path) == []
