"""`wan-mcp setup`: one entry in a host's settings, and nothing else touched."""

import json
import os
import stat
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from wan_mcp.cli.hosts.catalogue import HOSTS, Folders, Host, Program
from wan_mcp.cli.hosts.change import is_temporary, this_program
from wan_mcp.cli.setup import FAILED, Setup, Terminal

KEY = "dummy-key-0123456789"
by_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of POSIX")


class Person:
    """Somebody at the terminal: what they see, and what they answer."""

    def __init__(self, home: Path, *, agrees: bool = True, key: str = KEY) -> None:
        self.seen = ""
        self.questions = 0
        self.agrees = agrees
        self.meanwhile: Callable[[], object] = lambda: None
        self._key = key
        self._folders = Folders.read({}, home, "linux")

    def setup(self, environment: dict[str, str] | None = None, *, agreed: bool = False) -> Setup:
        """One run of the command by this person."""
        terminal = Terminal(self._see, self._answer, lambda question: self._key)
        return Setup(terminal, environment or {}, self._folders, agreed=agreed)

    def file(self, host: Host) -> Path:
        """Where a host of this person has its settings."""
        return host.file(self._folders)

    def _see(self, text: str) -> None:
        self.seen += text

    def _answer(self, question: str) -> bool:
        self.questions += 1
        self.meanwhile()
        return self.agrees


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Somebody with an empty home folder."""
    return Person(tmp_path)


def host(id: str) -> Host:
    """The host of that name."""
    return next(host for host in HOSTS if host.id == id)


def parsed(host: Host, text: str) -> dict[str, Any]:
    """What a host that reads no comments makes of its settings."""
    if host.id == "codex":
        return tomllib.loads(text)
    if host.id == "goose":
        return dict(YAML(typ="safe", pure=True).load(text))
    return dict(json.loads(text))


@by_host
def test_a_host_in_an_empty_home_starts_this_installation(person: Person, host: Host) -> None:
    """The file is made with the full path of this program and the key that was typed (ours)."""
    assert person.setup().add(host) == 0
    settings = parsed(host, person.file(host).read_text())
    entry = settings[host.group[0]]["wan-mcp"]
    command = entry[host.command_key]
    program = command[0] if isinstance(command, list) else command
    assert Path(program) == Path(this_program().command)
    assert Path(program).is_absolute()
    key = entry[host.environment_key]["PIXELDOJO_API_KEY"]
    assert key == ("${input:pixeldojo-key}" if host.inputs else KEY)


@by_host
def test_setting_up_twice_changes_nothing(person: Person, host: Host) -> None:
    """The second run asks nothing and writes nothing (ours)."""
    person.setup().add(host)
    before, asked = person.file(host).read_bytes(), person.questions
    assert person.setup().add(host) == 0
    assert person.file(host).read_bytes() == before
    assert person.questions == asked


@by_host
def test_removing_undoes_setting_up(person: Person, host: Host) -> None:
    """Where there was no file, there is none again, nor a copy (ours)."""
    person.setup().add(host)
    assert person.setup().remove(host) == 0
    assert [path for path in person.file(host).parent.iterdir() if path.is_file()] == []


TEXTS = {
    "codex": '# mine\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "y" # keep\n',
    "goose": "# mine\nextensions:\n    other: {cmd: y}  # keep\n",
}


def _text(host: Host) -> str:
    commented = (
        '\ufeff{\r\n\t// keep\r\n\t"%s": {"other": {"command": "y"}},\r\n\t"z": [1, ], \r\n}'
    )
    return TEXTS.get(host.id) or commented % host.group[0]


@by_host
def test_removing_gives_back_the_file_byte_for_byte(person: Person, host: Host) -> None:
    """With comments, line ends and a byte order mark, when nothing else has changed (ours)."""
    file, before = person.file(host), _text(host).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(before)
    person.setup().add(host)
    assert b"keep" in file.read_bytes() != before
    assert person.setup().remove(host) == 0
    assert file.read_bytes() == before
    assert list(file.parent.glob("*before-wan-mcp")) == []


@by_host
def test_what_was_edited_later_survives_the_removal(person: Person, host: Host) -> None:
    """Only our entry goes, and the copy, which is out of date (ours)."""
    file = person.file(host)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_text(host), encoding="utf-8", newline="")
    person.setup().add(host)
    with file.open(newline="", encoding="utf-8") as open_file:
        edited = open_file.read().replace("keep", "edited later")
    file.write_text(edited, encoding="utf-8", newline="")
    assert person.setup().remove(host) == 0
    left = file.read_text(encoding="utf-8")
    assert "edited later" in left
    assert "wan-mcp" not in left
    assert "other" in left
    assert list(file.parent.glob("*before-wan-mcp")) == []


@by_host
def test_a_key_is_never_shown(person: Person, host: Host) -> None:
    """Not in a change, nor in an entry to paste, nor are the secrets of other servers (ours)."""
    file = person.file(host)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_text(host).replace("keep", "their-secret"), encoding="utf-8", newline="")
    setup = person.setup()
    setup.add(host)
    other = person.setup({"PIXELDOJO_API_KEY": "another-key-987654321"})
    other.add(host)
    other.print_entry(host)
    other.list_hosts()
    other.remove(host)
    for secret in (KEY, "another-key-987654321", "their-secret"):
        assert secret not in person.seen


ON_ONE_LINE = {
    "codex": 'mcp_servers = {other = {command = "y", env = {TOKEN = "their-secret"}}}\n',
    "goose": "extensions: {other: {cmd: y, envs: {TOKEN: their-secret}}}\n",
}


@by_host
def test_a_file_on_one_line_shows_no_secret_of_another_server(person: Person, host: Host) -> None:
    """The line that changes holds all of them (ours)."""
    file = person.file(host)
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = '{"%s": {"other": {"command": "y", "env": {"TOKEN": "their-secret"}}}}'
    file.write_text(ON_ONE_LINE.get(host.id) or plain % host.group[0], encoding="utf-8")
    person.setup().add(host)
    person.setup({"PIXELDOJO_API_KEY": "another-key-987654321"}).add(host)
    person.setup().remove(host)
    assert "their-secret" not in person.seen
    assert this_program().command in person.seen


@by_host
@pytest.mark.parametrize("key", ['dummy"key', "dummy-key\r", "dummy\\key"])
def test_a_key_that_is_escaped_is_not_shown_either(person: Person, host: Host, key: str) -> None:
    """In the file it is spelled otherwise than it is (ours)."""
    person.setup({"PIXELDOJO_API_KEY": key}).add(host)
    person.setup().remove(host)
    assert "PIXELDOJO_API_KEY" in person.seen
    assert "dummy" not in person.seen


def test_a_key_that_stood_in_the_settings_of_vs_code_is_not_shown(person: Person) -> None:
    """It is replaced by the question for it (ours)."""
    code = host("vscode")
    person.file(code).parent.mkdir(parents=True)
    entry = {"command": "old", "env": {"PIXELDOJO_API_KEY": KEY}}
    person.file(code).write_text(json.dumps({"servers": {"wan-mcp": entry}}, indent=2))
    person.setup().add(code)
    assert "old" in person.seen
    assert KEY not in person.seen


@posix
@by_host
def test_a_file_with_a_key_is_for_its_owner_alone_until_the_key_is_gone(
    person: Person, host: Host
) -> None:
    """The copy has no key of ours, and keeps the rights that the file gets back (ours)."""
    file = person.file(host)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_text(host), encoding="utf-8", newline="")
    file.chmod(0o644)
    person.setup().add(host)
    copy = file.with_name(file.name + ".before-wan-mcp")
    assert stat.S_IMODE(file.stat().st_mode) == (0o644 if host.inputs else 0o600)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o644
    person.setup().remove(host)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@posix
@pytest.mark.parametrize("chosen", [0o640, 0o600])
def test_rights_that_somebody_has_chosen_are_kept(person: Person, chosen: int) -> None:
    """Before the entry was added, or after (ours)."""
    file = person.file(host("cursor"))
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    file.chmod(0o644 if chosen == 0o640 else chosen)
    person.setup().add(host("cursor"))
    file.chmod(chosen)
    person.setup().remove(host("cursor"))
    assert stat.S_IMODE(file.stat().st_mode) == chosen


@posix
def test_a_file_that_was_edited_meanwhile_stays_private(person: Person) -> None:
    """It may have got other secrets while nobody else could read it; this is said (ours)."""
    file = person.file(host("cursor"))
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    file.chmod(0o644)
    person.setup().add(host("cursor"))
    settings = json.loads(file.read_text())
    settings["mcpServers"]["other"] = {"env": {"TOKEN": "their-secret"}}
    file.write_text(json.dumps(settings))
    person.setup().remove(host("cursor"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Only you can read the file" in person.seen


def test_a_new_key_takes_the_place_of_the_old_one_and_other_settings_stay(person: Person) -> None:
    """What a person added to our entry is kept (ours)."""
    cursor = host("cursor")
    person.setup().add(cursor)
    settings = json.loads(person.file(cursor).read_text())
    settings["mcpServers"]["wan-mcp"]["env"]["WAN_MCP_MAX_CREDITS_PER_DAY"] = "50"
    settings["mcpServers"]["wan-mcp"]["disabled"] = False
    person.file(cursor).write_text(json.dumps(settings))
    assert person.setup({"PIXELDOJO_API_KEY": "newer"}).add(cursor) == 0
    entry = json.loads(person.file(cursor).read_text())["mcpServers"]["wan-mcp"]
    assert entry["env"] == {"PIXELDOJO_API_KEY": "newer", "WAN_MCP_MAX_CREDITS_PER_DAY": "50"}
    assert entry["disabled"] is False


def test_nothing_is_written_without_a_yes(tmp_path: Path) -> None:
    """The change is shown first, and the answer decides (ours)."""
    person = Person(tmp_path, agrees=False)
    assert person.setup().add(host("cursor")) == FAILED
    assert not person.file(host("cursor")).exists()
    assert "Nothing was written." in person.seen


def test_a_change_by_another_program_meanwhile_is_not_overwritten(person: Person) -> None:
    """The host may write its settings while the question stands (ours)."""
    file = person.file(host("gemini"))
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    person.meanwhile = lambda: file.write_text('{"theme": "dark"}')
    assert person.setup().add(host("gemini")) == FAILED
    assert file.read_text() == '{"theme": "dark"}'
    assert "run this again" in person.seen


def _broken(file: Path) -> None:
    file.write_text("{")


def _link(file: Path) -> None:
    target = file.with_name("elsewhere.json")
    target.write_text("{}")
    file.symlink_to(target)


def _read_only(file: Path) -> None:
    file.write_text("{}")
    file.chmod(0o400)


def _folder(file: Path) -> None:
    file.mkdir()


def _not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe{\x00}\x00")


def test_servers_on_one_line_of_toml_are_left_with_the_entry_to_paste(person: Person) -> None:
    """The library cannot add a table to them (observed)."""
    file = person.file(host("codex"))
    file.parent.mkdir(parents=True)
    file.write_text(ON_ONE_LINE["codex"])
    assert person.setup(agreed=True).add(host("codex")) == FAILED
    assert file.read_text() == ON_ONE_LINE["codex"]
    assert "It was left as it is. The entry to add:" in person.seen


def _list(file: Path) -> None:
    file.write_text('{"mcpServers": []}')


@posix
@pytest.mark.parametrize("spoil", [_broken, _link, _read_only, _folder, _not_text, _list])
def test_a_file_that_cannot_be_changed_safely_is_left_with_the_entry_to_paste(
    person: Person, spoil: Callable[[Path], None]
) -> None:
    """Whatever the reason, the person can go on by hand (ours)."""
    file = person.file(host("cursor"))
    file.parent.mkdir(parents=True)
    spoil(file)
    status = file.lstat()
    before = sorted(path.name for path in file.parent.iterdir())
    assert person.setup(agreed=True).add(host("cursor")) == FAILED
    assert os.path.samestat(file.lstat(), status)
    assert file.lstat().st_mtime_ns == status.st_mtime_ns
    assert sorted(path.name for path in file.parent.iterdir()) == before
    assert "It was left as it is. The entry to add:" in person.seen
    assert '"command"' in person.seen
    assert person.setup(agreed=True).remove(host("cursor")) == FAILED


@posix
def test_a_file_of_another_user_is_left_as_it_is(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing it would change its owner (ours)."""
    file = person.file(host("cursor"))
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert person.setup(agreed=True).add(host("cursor")) == FAILED
    assert "belongs to another user" in person.seen
    assert file.read_text() == "{}"


def test_a_full_disk_leaves_the_file_whole(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file is complete before it takes the old one's place (ours)."""
    file = person.file(host("cursor"))
    file.parent.mkdir(parents=True)
    file.write_text('{"mcpServers": {}}')

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert person.setup(agreed=True).add(host("cursor")) == FAILED
    assert file.read_text() == '{"mcpServers": {}}'
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert "No space left on device" in person.seen


def test_vs_code_is_asked_to_ask_for_the_key_once(person: Person) -> None:
    """The key never reaches the file, and an earlier question of ours is not repeated (ours)."""
    code = host("vscode")
    person.file(code).parent.mkdir(parents=True)
    question = {"type": "promptString", "id": "pixeldojo-key", "description": "x", "password": True}
    person.file(code).write_text(json.dumps({"inputs": [question, {"id": "other"}]}))
    person.setup({"PIXELDOJO_API_KEY": KEY}).add(code)
    text = person.file(code).read_text()
    assert KEY not in text
    assert [each["id"] for each in json.loads(text)["inputs"]] == ["pixeldojo-key", "other"]


def test_without_a_host_all_are_listed_with_their_state(person: Person) -> None:
    """Found, set up or not found, each with its file (ours)."""
    (person.file(host("zed"))).parent.mkdir(parents=True)
    person.setup().add(host("cursor"))
    person.seen = ""
    assert person.setup().list_hosts() == 0
    lines = {line.split()[0]: line for line in person.seen.splitlines() if line.strip()}
    assert "set up in" in lines["cursor"]
    assert "found: " in lines["zed"]
    assert lines["windsurf"].endswith("not found")
    assert {host.id for host in HOSTS} <= lines.keys()


@pytest.mark.parametrize(
    "command", [["npx", "wan-mcp", "--key", KEY], f"env PIXELDOJO_API_KEY={KEY} wan-mcp"]
)
def test_the_list_shows_no_argument_of_a_command(person: Person, command: object) -> None:
    """An entry that somebody else wrote may have the key among its arguments (ours)."""
    file = person.file(host("opencode"))
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"mcp": {"wan-mcp": {"command": command}}}))

    assert person.setup().list_hosts() == 0
    assert KEY not in person.seen
    assert ' ..."' in person.seen


@pytest.mark.parametrize(
    ("command", "temporary"),
    [
        ("/home/u/.cache/uv/archive-v0/x/bin/wan-mcp", True),
        ("/home/u/.cache/uv/environments-v2/x/bin/wan-mcp", True),
        ("/home/u/.local/share/uv/tools/wan-mcp/bin/wan-mcp", False),
        ("/home/u/venv/bin/wan-mcp", False),
    ],
)
def test_an_environment_in_a_cache_is_recognized(command: str, temporary: bool) -> None:
    """An entry for it would break when the cache is cleaned (documented)."""
    assert is_temporary(Program(command)) is temporary


@pytest.mark.parametrize(
    ("platform", "id", "path"),
    [
        (
            "darwin",
            "claude-desktop",
            "Library/Application Support/Claude/claude_desktop_config.json",
        ),
        ("darwin", "vscode", "Library/Application Support/Code/User/mcp.json"),
        ("win32", "claude-desktop", "AppData/Roaming/Claude/claude_desktop_config.json"),
        ("win32", "zed", "AppData/Roaming/Zed/settings.json"),
        ("darwin", "zed", ".config/zed/settings.json"),
        ("linux", "goose", ".config/goose/config.yaml"),
        ("linux", "codex", ".codex/config.toml"),
    ],
)
def test_settings_lie_where_the_hosts_document_them(
    tmp_path: Path, platform: str, id: str, path: str
) -> None:
    """On each system (documented)."""
    assert host(id).file(Folders.read({}, tmp_path, platform)) == tmp_path / path


def test_variables_move_the_settings_of_some_hosts(tmp_path: Path) -> None:
    """CODEX_HOME, CLAUDE_CONFIG_DIR and XDG_CONFIG_HOME (documented)."""
    environment = {
        "CODEX_HOME": str(tmp_path / "c"),
        "CLAUDE_CONFIG_DIR": str(tmp_path / "d"),
        "XDG_CONFIG_HOME": str(tmp_path / "e"),
    }
    folders = Folders.read(environment, tmp_path, "linux")
    assert host("codex").file(folders) == tmp_path / "c" / "config.toml"
    assert host("claude-code").file(folders) == tmp_path / "d" / ".claude.json"
    assert host("opencode").file(folders) == tmp_path / "e" / "opencode" / "opencode.json"
