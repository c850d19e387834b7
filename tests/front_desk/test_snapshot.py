"""The recorded answers: which ones fit, and how new ones are kept."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import anyio
import pytest

from tests.front_desk.talk import (
    HANDSHAKE,
    LISTS,
    MODERN,
    Message,
    Server,
    as_lines,
    hello,
    request,
)
from tests.snapshots import COMMAND, early_answers, front_desk_json, pinned_releases
from wan_mcp.front_desk import snapshot
from wan_mcp.front_desk.snapshot import DEPENDS, KEPT, SHIPPED, Snapshots, installed_versions
from wan_mcp.settings import Settings


def test_the_shipped_answers_are_those_of_the_sdk() -> None:
    """A stale file would make hosts show tools that are not there (ours)."""
    shipped = Path(SHIPPED).read_text("utf-8")
    own = installed_versions(sys.path)
    fits = own in [each for entry in json.loads(shipped)["snapshots"] for each in entry["versions"]]
    written = front_desk_json() if Snapshots({}, sys.path).has_media() else shipped

    assert not fits or written == shipped, f"Run `{COMMAND}` and review the difference."


def test_the_shipped_answers_fit_the_pinned_releases() -> None:
    """CI, which installs these, compares the answers (ours)."""
    (entry,) = json.loads(Path(SHIPPED).read_text("utf-8"))["snapshots"]
    fitted = [{name: each[name] for name in ("mcp", "pydantic")} for each in entry["versions"]]

    assert pinned_releases() in fitted, f"Run `{COMMAND}`."


def test_the_versions_are_those_of_the_metadata() -> None:
    """They are read from the names of folders, because that is faster (ours)."""
    assert installed_versions(sys.path) == {name: version(name) for name in snapshot.PACKAGES}


OTHER = {
    "PIXELDOJO_API_KEY": "pd_0123456789",
    "PIXELDOJO_API_BASE": "http://127.0.0.1:9/api/v1",
    "WAN_MCP_LOG_LEVEL": "ERROR",
    "WAN_MCP_DATA_DIR": "/tmp/other",
    "WAN_MCP_LEDGER_FILESYSTEM": "nfs",
    "WAN_MCP_LEDGER_URL": "postgresql://host/database",
    "WAN_MCP_LEDGER_LISTEN_URL": "postgresql://host/database",
    "WAN_MCP_KEY_RING": "k1:" + "A" * 43 + "=",
    "WAN_MCP_MAX_CREDITS_PER_JOB": "1",
    "WAN_MCP_MAX_CREDITS_PER_DAY": "1",
    "WAN_MCP_MAX_IN_FLIGHT": "1",
    "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "1",
    "WAN_MCP_MAX_QUEUED": "1",
    "WAN_MCP_CONFIRM_ABOVE": "1",
    "WAN_MCP_PREFLIGHT": "off",
    "WAN_MCP_ARCHIVE": "off",
    "WAN_MCP_VIDEO_DIR": "/tmp/films",
    "WAN_MCP_VIDEO_LIMIT_GB": "1",
    "WAN_MCP_INPUT_DIRS": "roots",
    "WAN_MCP_MAX_INPUT_MB": "1",
    "WAN_MCP_STORAGE_URL": "s3://bucket/prefix",
    "WAN_MCP_PUBLIC_URL": "https://files.example.com",
    "WAN_MCP_PUBLIC_PORT": "9000",
    "WAN_MCP_POSTER": "off",
    "WAN_MCP_DRAIN_SECONDS": "5",
    "WAN_MCP_METRICS_PORT": "9464",
    "WAN_MCP_METRICS_HOST": "0.0.0.0",
    "WAN_MCP_LOG_FORMAT": "json",
    "WAN_MCP_READ_ONLY": "on",
    "WAN_MCP_DISABLED_TOOLS": "replace_character,get_job_status,list_jobs",
    "WAN_MCP_ALLOWED_HOSTS": "wan.example.com",
    "WAN_MCP_ALLOWED_ORIGINS": "https://wan.example.com",
    "WAN_MCP_PERSONAL_KEYS": "on",
    "WAN_MCP_SIGN_IN": "tokens",
    "WAN_MCP_TRUSTED_PROXIES": "10.1.0.0/16",
}
"""Each setting with another value than its default."""


def by_method(data: Message) -> dict[str, list[object]]:
    """The answers to each method, over all revisions."""
    found: dict[str, list[object]] = {}
    for places in data["revisions"].values():
        for method, place in places.items():
            found.setdefault(method, []).append(data["results"][place])
    return found


def test_every_setting_that_changes_an_answer_is_known(answers: Message, tmp_path: Path) -> None:
    """With such a setting the shipped answer would be wrong (ours)."""
    assert set(OTHER) == {str(field.alias) for field in Settings.model_fields.values()}
    usual = by_method(answers)
    depends: dict[str, set[str]] = {}
    for name, value in OTHER.items():
        changed = by_method(anyio.run(early_answers, Settings.read({name: value}, tmp_path)))
        for method in usual:
            if changed[method] != usual[method]:
                depends.setdefault(method, set()).add(name)

    known = {method: {*names} - {"WAN_MCP_ENV_FILE"} for method, names in DEPENDS.items()}
    assert depends == known
    assert all("WAN_MCP_ENV_FILE" in names for names in DEPENDS.values())


@pytest.mark.parametrize(
    ("name", "value", "withheld"),
    [
        ("PIXELDOJO_API_BASE", "http://127.0.0.1:1/api/v1", ["resources/list"]),
        ("WAN_MCP_ARCHIVE", "off", ["resources/templates/list"]),
        ("WAN_MCP_DISABLED_TOOLS", "list_jobs", list(LISTS)),
        ("WAN_MCP_ENV_FILE", "x", list(LISTS)),
        ("WAN_MCP_ARCHIVE", " ", []),
        ("WAN_MCP_ARCHIVE", "${user_config.archive}", []),
    ],
)
def test_an_answer_that_a_setting_changes_is_left_to_the_sdk(
    name: str, value: str, withheld: list[str]
) -> None:
    """The desk does not read the settings (ours)."""
    found = Snapshots({name: value}, sys.path).find()
    usual = Snapshots({}, sys.path).find()
    if found is None or usual is None:
        pytest.skip("no shipped answers fit these releases")

    missing = {each for each in LISTS if found.result(MODERN, each) is None}
    assert missing - {each for each in LISTS if usual.result(MODERN, each) is None} == {*withheld}


@pytest.fixture
def kept(tmp_path: Path) -> Snapshots:
    """A user's own answers, without shipped ones."""
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    return Snapshots(home, sys.path, shipped=str(tmp_path / "none"))


def file_of(snapshots: Snapshots) -> Path:
    path = snapshots._path_of_kept()
    assert path is not None
    return Path(path)


def test_answers_are_kept_for_the_next_start(kept: Snapshots, answers: Message) -> None:
    """In a file that only its user can read, and that does not grow (ours)."""
    assert kept.find() is None
    for _ in range(snapshot.MAX_KEPT + 2):
        kept.keep(answers)
    found = kept.find()

    assert found is not None
    assert found.result(MODERN, "tools/list") == by_method(answers)["tools/list"][-1]
    assert file_of(kept).stat().st_mode & 0o777 == 0o600 or sys.platform == "win32"
    assert len(json.loads(file_of(kept).read_text("utf-8"))["snapshots"]) == 1
    assert [path.name for path in file_of(kept).parent.iterdir()] == [KEPT]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"snapshots":1}', '{"snapshots":[1,{"versions":2}]}', "[" * 9_999]
)
def test_a_damaged_file_is_as_none(content: str, kept: Snapshots, answers: Message) -> None:
    """It is only a copy (ours)."""
    kept.keep(answers)
    file_of(kept).write_text(content)

    assert kept.find() is None
    kept.keep(answers)
    assert kept.find() is not None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_file_that_others_can_write_is_not_read(kept: Snapshots, answers: Message) -> None:
    """What it says is what a model reads about the tools (ours)."""
    kept.keep(answers)
    file_of(kept).chmod(0o622)

    assert kept.find() is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need a special right")
def test_keeping_answers_follows_no_link(kept: Snapshots, answers: Message) -> None:
    """Where others can write into the cache folder, they could name a file of the user's (ours)."""
    file, precious = file_of(kept), file_of(kept).parent.parent / "precious"
    file.parent.mkdir()
    precious.write_text("mine")
    file.symlink_to(precious)
    Path(f"{file}.{os.getpid()}").symlink_to(precious)
    kept.keep(answers)

    assert precious.read_text() == "mine"
    assert not file.is_symlink()
    assert kept.find() is not None


def test_answers_that_cannot_be_recorded_do_not_end_the_server(
    kept: Snapshots, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They only make the next start faster, and a paid request may be running (ours)."""

    async def fails(*_: object) -> None:
        raise KeyError("protocolVersion")

    monkeypatch.setattr("wan_mcp.transports.replay.record", fails)
    talk = anyio.run(Server().talk, as_lines([hello(1), request(2, "ping")]), None, 0, kept)

    assert [answer["id"] for answer in talk.answers] == [1, 2]
    assert "front desk" in caplog.text


def test_answers_of_other_versions_are_not_used(
    kept: Snapshots, answers: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the SDK may answer otherwise (ours)."""
    kept.keep(answers)
    monkeypatch.setattr(kept, "_versions", {**(kept._versions or {}), "mcp": "2.99"})

    assert kept.find() is None


def test_without_a_home_folder_nothing_is_kept(answers: Message, tmp_path: Path) -> None:
    """Some hosts pass no environment at all (observed elsewhere)."""
    Snapshots({}, sys.path, shipped=str(tmp_path / "none")).keep(answers)


def test_a_wrong_answer_is_reported_and_not_given_again(
    kept: Snapshots, answers: Message, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK decides, and its answer is kept instead (ours)."""
    stale = json.loads(json.dumps(answers))
    place = stale["revisions"][HANDSHAKE[2]]["prompts/list"]
    stale["results"][place]["prompts"] = []
    messages = as_lines([hello(1), request(2, "tools/list"), request(3, "prompts/list")])

    talk = anyio.run(Server().talk, messages, stale, 0, kept)
    found = kept.find()

    assert [answer["id"] for answer in talk.answers] == [1, 2, 3]
    assert "prompts/list" in caplog.text
    assert found is not None
    assert found.result(HANDSHAKE[2], "prompts/list") == by_method(answers)["prompts/list"][0]


def test_what_the_sdk_answers_is_kept_when_nothing_fits(kept: Snapshots, answers: Message) -> None:
    """So the next start is fast (ours)."""
    anyio.run(Server().talk, as_lines([hello(1)]), None, 0, kept)
    found = kept.find()

    assert found is not None
    assert found.result(MODERN, "server/discover") == by_method(answers)["server/discover"][0]
